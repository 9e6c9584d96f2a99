package config

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

func TestASecretPrintsNowhere(t *testing.T) {
	const text = "hunter2"
	secret := NewSecret(text)
	account := Account{Name: "shop", Secret: secret}
	hidden := struct{ s Secret }{secret} // fmt calls no methods here

	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%t", "%p", "%T"} {
		fmt.Fprintf(&out, verb+verb+verb+verb+"\n", secret, &secret, account, hidden)
	}
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("m", "secret", secret, "account", account, "hidden", hidden)
	}
	for _, marshal := range []func(any) ([]byte, error){json.Marshal, yaml.Marshal, xml.Marshal} {
		b, err := marshal(account)
		if err != nil || !bytes.Contains(b, []byte("[secret]")) {
			t.Errorf("got %s, %v", b, err)
		}
		out.Write(b)
	}
	for _, spelled := range []string{text, fmt.Sprintf("%x", text), fmt.Sprintf("%X", text)} {
		if strings.Contains(out.String(), spelled) {
			t.Errorf("the secret stands in %s", out.String())
		}
	}
	if secret.Reveal() != text || !(Secret{}).IsZero() || fmt.Sprint(Secret{}) != "" {
		t.Error("Reveal, IsZero or the zero Secret is wrong")
	}
}

func TestWhereShowsNoPassword(t *testing.T) {
	for url, want := range map[string]string{
		"redis://127.0.0.1:6379/0":                     "redis://127.0.0.1:6379/0",
		"postgres://u:hunter2@h:5432/db?sslmode=off":   "postgres://h:5432/db",
		"postgres://h/db?password=hunter2":             "postgres://h/db",
		"postgres://u:hunt?er2@h/db":                   "postgres://[secret]",
		"postgres://u:hunt/er2@h/db":                   "postgres://h/db",
		"redis-sentinel://:hunter2@a:1,b:2/0?master=x": "redis-sentinel://a:1,b:2/0",
		"host=db password=hunter2":                     "[secret]",
		"":                                             "",
	} {
		if got := Where(NewSecret(url)); got != want {
			t.Errorf("Where(%q) = %q, want %q", url, got, want)
		}
	}
}
