package internal_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	programLine = regexp.MustCompile(`(?:^|[|;&] *)((?:worker|enqueue|server|wechatsim|make)(?: .*)?)$`)
	codeSpan    = regexp.MustCompile("`((?:worker|enqueue|server|wechatsim|make) [^`]+)`")
	subcommands = regexp.MustCompile(`^(?:[a-z]+|retry-failed)$`)
	composeRun  = regexp.MustCompile(`^docker compose run --rm worker `)
	target      = regexp.MustCompile(`(?m)^([a-z]+):.*##`)
)

// documentedCommands lists the command lines of a page, in its blocks and in its text.
func documentedCommands(text string) (lines []string) {
	for _, b := range fence.FindAllStringSubmatch(text, -1) {
		if b[1] != "sh" {
			continue
		}
		for line := range strings.Lines(b[2]) {
			line = composeRun.ReplaceAllString(strings.TrimSpace(line), "")
			if m := programLine.FindStringSubmatch(line); m != nil {
				lines = append(lines, m[1])
			}
		}
	}
	for _, m := range codeSpan.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		lines = append(lines, m[1])
	}
	return lines
}

// TestDocumentedCommandsExist asks each program's own help whether it knows the subcommands and the flags.
func TestDocumentedCommandsExist(t *testing.T) {
	programs, helps := t.TempDir(), map[string]string{}
	makefile := target.FindAllString(read(t, "../Makefile"), -1)
	for english := range pairs(t) {
		for _, line := range documentedCommands(read(t, english)) {
			words := strings.Fields(line)
			if words[0] == "make" {
				if !slices.ContainsFunc(makefile, func(s string) bool { return strings.HasPrefix(s, words[1]+":") }) {
					t.Errorf("%s: %s: there is no such target", english, line)
				}
				continue
			}
			helpFor := words // without flags, up to the first word that can be no subcommand
			if i := slices.IndexFunc(words, func(w string) bool { return !subcommands.MatchString(w) }); i >= 0 {
				helpFor = words[:i]
			}
			name := strings.Join(helpFor, " ")
			help, asked := helps[name]
			if !asked {
				help = run(t, program(t, programs, words[0]), append(slices.Clone(helpFor[1:]), "--help")...)
				helps[name] = help
			}
			for _, complaint := range misuse(words, help) {
				t.Errorf("%s: %s: %s; the help says\n%s", english, line, complaint, help)
			}
		}
	}
}

// misuse compares a command line with the help of its command.
func misuse(words []string, help string) (found []string) {
	usage, _, _ := strings.Cut(strings.TrimPrefix(help, "Usage: "), "\n")
	form := strings.Fields(usage) // such as enqueue gate open <account> <api> [flags]
	arguments := 0
	for i, w := range words {
		flag, _, _ := strings.Cut(w, "=")
		switch {
		case strings.HasPrefix(w, "--"):
			if !strings.Contains(help, flag) {
				found = append(found, "no flag "+flag)
			}
			return append(found, unknownFlags(words[i+1:], help)...)
		case i < len(form) && subcommands.MatchString(form[i]) && form[i] != w:
			return append(found, "want "+form[i]+" for "+w)
		case i >= len(form) || !subcommands.MatchString(form[i]):
			arguments++
		}
	}
	taken := strings.Count(usage, "<") - strings.Count(usage, "<command>")
	if arguments > taken {
		found = append(found, "it takes fewer arguments")
	}
	return found
}

func unknownFlags(words []string, help string) (found []string) {
	for _, w := range words {
		if flag, _, _ := strings.Cut(w, "="); strings.HasPrefix(flag, "--") && !strings.Contains(help, flag) {
			found = append(found, "no flag "+flag)
		}
	}
	return found
}

func TestMisuseIsSeen(t *testing.T) {
	help := "Usage: enqueue gate close <account> <api> [flags]\n  --until=TIME\n"
	for line, want := range map[string]int{
		"enqueue gate close shop custom --until +2h":  0,
		"enqueue gate close shop custom":              0,
		"enqueue gate shut shop custom":               1,
		"enqueue gate close shop custom now":          1,
		"enqueue gate close shop custom --for 2h":     1,
		"enqueue gate close shop --until +2h --for 2": 1,
	} {
		if got := misuse(strings.Fields(line), help); len(got) != want {
			t.Errorf("%s: got %q, want %d complaints", line, got, want)
		}
	}
}

// program builds a command, once.
func program(t *testing.T, folder, name string) string {
	t.Helper()
	built := filepath.Join(folder, name)
	if _, err := os.Stat(built); err != nil {
		run(t, "go", "build", "-o", built, filepath.Join("..", "cmd", name))
	}
	return built
}
