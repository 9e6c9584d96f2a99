package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var docsBlock = regexp.MustCompile("(?ms)^```([^\n]*)\n(.*?)^```$")

// runtimes say how the examples of a language run, and what they need.
var runtimes = map[string]struct {
	program string
	args    []string
	file    string
}{
	"sh curl": {"sh", []string{"-e"}, "example.sh"},
	"go":      {"go", []string{"run"}, "main.go"},
	"python":  {"python3", nil, "example.py"},
	"php":     {"php", nil, "example.php"},
}

// TestDocumentedExamplesRun runs each example of docs/api.md as it stands there, against a server and a worker, and follows
// what they posted to WeChat's receipt. The one in TypeScript has a test of its own.
func TestDocumentedExamplesRun(t *testing.T) {
	t.Parallel()
	h := startSimulated(t)
	key := h.key("crm", "shop:*:enqueue", "shop:*:read", "shop:*:replay")
	page, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, b := range docsBlock.FindAllSubmatch(page, -1) {
		language := string(b[1])
		runtime, known := runtimes[language]
		if !known {
			continue
		}
		seen[language]++
		programs := []string{runtime.program}
		if language == "sh curl" {
			programs = append(programs, "curl", "gzip")
		}
		missing := ""
		for _, p := range programs {
			if _, err := exec.LookPath(p); err != nil {
				missing = p
			}
		}
		if missing != "" {
			t.Logf("the example in %s was NOT run: %s is not on this machine", language, missing)
			continue
		}
		file := filepath.Join(t.TempDir(), runtime.file)
		if err := os.WriteFile(file, b[2], 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), runtime.program, append(runtime.args, file)...)
		cmd.Dir = "../.." // the module that the example in Go imports
		cmd.Env = append(os.Environ(), "HONGYAN_URL="+h.url, "HONGYAN_API_KEY="+key)
		out, err := cmd.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("accepted")) && !bytes.Contains(out, []byte(`"durability":"postgres"`)) && !bytes.Contains(out, []byte(`"state":"cancelled"`)) && !bytes.Contains(out, []byte(`"done":true`)) {
			t.Errorf("the example in %s: %v\n%s", language, err, out)
		}
	}
	for language := range runtimes {
		if seen[language] == 0 {
			t.Errorf("docs/api.md has no example in %s", language)
		}
	}
	if ran := h.arrive(key, "order-1001-shipped", "order-1002-shipped", "order-1004-shipped", "order-1005-shipped", "sale-1"); ran < 2 {
		t.Errorf("%d messages came of them", ran)
	}
}

// arrive waits until WeChat has told of each message of these keys that was posted, and says how many were.
func (h *house) arrive(key string, keys ...string) (posted int) {
	h.Helper()
	for _, one := range keys {
		if h.number("SELECT count(*)::int FROM message_body WHERE key = $1", one) == 0 {
			continue
		}
		posted++
		var m struct {
			Status   string
			Timeline []struct{ Status string }
			Receipt  struct{ Delivered bool }
		}
		h.eventually("receipt of "+one, func() bool {
			h.want(200, key, "GET", "/v1/messages?account=shop&key="+one, "", &m)
			return m.Receipt.Delivered || m.Status == "failed"
		})
		way := fmt.Sprint(m.Timeline)
		if m.Status != "sent" || !strings.HasPrefix(way, "[{accepted}") || !strings.HasSuffix(way, "{sent} {delivered}]") {
			h.Errorf("%s is %s, by the way of %s", one, m.Status, way)
		}
	}
	return posted
}

// TestTypeScript builds the example in TypeScript with a client generated from the contract, and runs it against a server.
func TestTypeScript(t *testing.T) {
	page, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("../../examples/typescript/src/main.ts")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(page, append(append([]byte("```ts\n"), source...), "```\n"...)) {
		t.Error("docs/api.md does not show examples/typescript/src/main.ts as it is")
	}
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("NOT run: %s is not on this machine; the client in TypeScript was neither generated nor used", program)
		}
	}
	t.Parallel()
	h := startSimulated(t)
	root := t.TempDir() // where nothing that was built before can help
	for _, name := range []string{"package.json", "package-lock.json", "tsconfig.json", "src/main.ts", "src/campaign.ts"} {
		copyFile(t, filepath.Join("../../examples/typescript", name), filepath.Join(root, "examples/typescript", name))
	}
	copyFile(t, contractFile, filepath.Join(root, "internal/api/openapi.json"))
	key := h.key("crm", "shop:*:enqueue", "shop:*:read")
	env := append(os.Environ(), "HONGYAN_URL="+h.url, "HONGYAN_API_KEY="+key, "npm_config_update_notifier=false")
	npm := func(env []string, args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "npm", args...)
		cmd.Dir = filepath.Join(root, "examples/typescript")
		cmd.Env = env
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := npm(os.Environ(), "ci", "--no-audit", "--no-fund", "--prefer-offline"); err != nil {
		for _, offline := range []string{"ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT", "ENETUNREACH"} {
			if strings.Contains(out, offline) {
				t.Skipf("NOT run: npm cannot reach its registry (%s); the client in TypeScript was neither generated nor used", offline)
			}
		}
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	if out, err := npm(os.Environ(), "run", "build"); err != nil {
		t.Fatalf("npm run build: %v\n%s", err, out)
	}
	out, err := npm(env, "start")
	if err != nil || !strings.Contains(out, "accepted") {
		t.Errorf("npm start: %v\n%s", err, out)
	}
	if n := h.arrive(key, "order-1003-shipped"); n != 1 {
		t.Errorf("%d messages came of it, want 1", n)
	}
	if out, err = npm(env, "start"); err != nil || !strings.Contains(out, "delivered") { // the same message
		t.Errorf("npm start again: %v\n%s", err, out)
	}
	out, err = npm(env, "run", "campaign")
	if err != nil || !strings.Contains(out, "2 done") || strings.Count(out, ",sent,") != 2 {
		t.Errorf("npm run campaign: %v\n%s", err, out)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	err = errors.Join(err, os.MkdirAll(filepath.Dir(to), 0o700), os.WriteFile(to, text, 0o600))
	if err != nil {
		t.Fatal(err)
	}
}

func TestThePageLoadsNothing(t *testing.T) {
	h := startAPI(t)
	for path, want := range map[string]string{"/docs": "<h1>Hongyan", "/docs/style.css": "body", "/openapi.json": `"openapi": "3.1.`} {
		res, err := http.Get(h.url + path)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if policy := res.Header.Get("Content-Security-Policy"); res.StatusCode != 200 || !strings.Contains(string(text), want) || !strings.HasPrefix(policy, "default-src 'none'") {
			t.Errorf("%s: %d, %s", path, res.StatusCode, policy)
		}
		if path == "/docs" {
			for _, bad := range []string{"<script", "style=", "http://", "https://", "<style"} {
				if strings.Contains(string(text), bad) {
					t.Errorf("the page has %s", bad)
				}
			}
			for _, o := range theContract().operations {
				if !strings.Contains(string(text), `id="`+o.id+`"`) {
					t.Errorf("the page lacks %s", o.id)
				}
			}
		}
	}
	served, err := os.ReadFile(contractFile)
	if err != nil || len(served) == 0 {
		t.Fatal(err)
	}
	for method, path := range map[string]string{"DELETE": "/v1/messages", "GET": "/v1/nothing"} {
		if status, _, text := h.do("", method, path, "", ""); status != 405 && status != 404 {
			t.Errorf("%s %s: %d %s", method, path, status, text)
		}
	}
}
