package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// start runs the command until stop is called, which gives its exit code.
func start(t *testing.T, args ...string) (url string, stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	code := make(chan int, 1)
	var complaints bytes.Buffer
	go func() {
		code <- run(ctx, args, w, &complaints)
		_ = w.Close()
	}()
	line, _ := bufio.NewReader(r).ReadString('\n')
	_, rest, ok := strings.Cut(line, "http://")
	if !ok {
		cancel()
		t.Fatalf("exit %d: %s%s", <-code, line, &complaints)
	}
	address, _, _ := strings.Cut(rest, " ")
	return "http://" + address, func() int {
		cancel()
		return <-code
	}
}

func fetch(t *testing.T, url, body string) map[string]any {
	t.Helper()
	resp, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var out map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestServesUntilItIsStopped(t *testing.T) {
	for name, args := range map[string][]string{
		"without a scenario": {"--listen", "127.0.0.1:0"},
		"with the example":   {"--listen", "127.0.0.1:0", "--latency", "0", "--scenario", "../../examples/wechatsim.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			url, stop := start(t, args...)
			out := fetch(t, url+"/cgi-bin/stable_token",
				`{"grant_type":"client_credential","appid":"wx0000000000000001","secret":"00000000000000000000000000000001"}`)
			if out["access_token"] == nil {
				t.Errorf("no token: %v", out)
			}
			if code := stop(); code != 0 {
				t.Errorf("exit %d, want 0", code)
			}
		})
	}
}

func TestTheExamplesCallbackIsPushedTo(t *testing.T) {
	told := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { told <- r.URL.Query().Get("openid") }))
	defer server.Close()
	text, err := os.ReadFile("../../examples/wechatsim.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, "actions: [") {
			continue // they act at the start
		}
		if before, after, ok := strings.Cut(line, "# "); ok && strings.TrimSpace(before) == "" && before != "" {
			line = before + after // the callback
		}
		lines = append(lines, line)
	}
	name := filepath.Join(t.TempDir(), "s.yaml")
	scenario := strings.ReplaceAll(strings.Join(lines, ""), "http://127.0.0.1:8080/wechat/shop", server.URL)
	if err := os.WriteFile(name, []byte(scenario), 0o600); err != nil {
		t.Fatal(err)
	}
	url, stop := start(t, "--listen", "127.0.0.1:0", "--latency", "0", "--scenario", name)
	defer stop()
	fetch(t, url+"/_sim/accounts/wx0000000000000001/act", `{"openid":"oAlice","action":"message"}`)
	if got := <-told; got != "oAlice" {
		t.Errorf("told of %q", got)
	}
}

func TestBadInputEndsWith2AndOneLine(t *testing.T) {
	file := func(text string) string {
		name := filepath.Join(t.TempDir(), "s.yaml")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"an address":            {[]string{"--listen", "8090"}, "--listen: want HOST:PORT"},
		"a port":                {[]string{"--listen", "127.0.0.1:99999"}, "--listen: want HOST:PORT"},
		"an unknown flag":       {[]string{"--port", "1"}, "unknown flag --port"},
		"an argument":           {[]string{"now"}, "unexpected argument now"},
		"a bad latency":         {[]string{"--latency", "soon"}, `--latency: latency "soon": want a time or two, such as 20ms`},
		"a missing file":        {[]string{"--scenario", "/nowhere.yaml"}, "/nowhere.yaml"},
		"an unknown key":        {[]string{"--scenario", file("accounts: [{apid: x}]")}, `s.yaml: scenario: line 1: unknown key "apid" (keys and values: `},
		"no accounts":           {[]string{"--scenario", file("seed: 1")}, "accounts: at least one"},
		"an account without id": {[]string{"--scenario", file("accounts: [{secret: x}]")}, "appid and secret"},
		"an unknown API":        {[]string{"--scenario", file("accounts: [{appid: a, secret: b, limits: {nope: {per_day: 1}}}]")}, `API "nope"`},
		"a bad callback":        {[]string{"--scenario", file("accounts: [{appid: a, secret: b, callback: {url: 'http://x', token: t}}]")}, "callback: aes_key"},
		"a bad fault":           {[]string{"--scenario", file("accounts: [{appid: a, secret: b}]\nfaults: [{kind: boom}]")}, `kind "boom"`},
	} {
		t.Run(name, func(t *testing.T) {
			var out, complaints bytes.Buffer
			if code := run(t.Context(), c.args, &out, &complaints); code != 2 {
				t.Errorf("exit %d, want 2", code)
			}
			if !strings.Contains(complaints.String(), c.says) || !strings.HasPrefix(complaints.String(), "wechatsim: ") {
				t.Errorf("says %q, want %q", &complaints, c.says)
			}
		})
	}
	var out, complaints bytes.Buffer
	if code := run(t.Context(), []string{"--listen", "192.0.2.1:0"}, &out, &complaints); code != 1 {
		t.Errorf("an address that cannot be listened on: exit %d, want 1", code)
	}
}

func TestHelp(t *testing.T) {
	var out, complaints bytes.Buffer
	if code := run(t.Context(), []string{"--help"}, &out, &complaints); code != 0 {
		t.Errorf("exit %d", code)
	}
	for _, word := range []string{"--listen", "--scenario", "--latency", "/_sim/state", "/_sim/pushes", "/act"} {
		if !strings.Contains(out.String(), word) {
			t.Errorf("the help does not mention %s:\n%s", word, &out)
		}
	}
}
