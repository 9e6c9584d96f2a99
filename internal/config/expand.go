package config

import (
	"fmt"
	"regexp"
	"strings"
)

// Env looks a variable of the environment up, as os.LookupEnv does.
type Env = func(name string) (string, bool)

var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// expand replaces ${NAME} and ${NAME:-default} in text; $${ is a plain ${. The default stands in for a
// variable that is missing or empty, as in a shell.
func expand(text string, env Env) (string, error) {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(text, "${")
		if !found {
			b.WriteString(text)
			return b.String(), nil
		}
		if escaped, ok := strings.CutSuffix(before, "$"); ok {
			b.WriteString(escaped + "${")
			text = after
			continue
		}
		b.WriteString(before)
		expression, rest, closed := strings.Cut(after, "}")
		if !closed {
			return "", fmt.Errorf("${ without its }; write $${ for a plain ${")
		}
		value, err := lookUp(expression, env)
		if err != nil {
			return "", err
		}
		b.WriteString(value)
		text = rest
	}
}

func lookUp(expression string, env Env) (string, error) {
	name, fallback, hasFallback := strings.Cut(expression, ":-")
	if !variable.MatchString(name) {
		return "", fmt.Errorf("${…} holds no variable's name: a letter or _, then letters, digits and _")
	}
	value, ok := env(name)
	switch {
	case hasFallback && value == "":
		return fallback, nil
	case !ok:
		return "", fmt.Errorf("the environment variable %s is not set; export it, or write ${%s:-default}", name, name)
	}
	return value, nil
}
