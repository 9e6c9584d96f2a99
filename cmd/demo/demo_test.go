package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

const repositoryExamples = "../../examples"

func TestDemoEndsWellAndShowsEveryCase(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"--json", "--examples", repositoryExamples}, &stdout, &stderr); code != exitDone {
		t.Fatalf("exit %d, want 0\n%s\n%s", code, &stdout, &stderr)
	}
	var got result
	if err := json.Unmarshal(stdout.Bytes(), &got); err != nil {
		t.Fatalf("%v in %s", err, &stdout)
	}
	if got.Messages < 1900 || len(got.Held) != claims || got.AtEnqueue != (atEnqueue{Duplicates: 3, Conflicts: 2}) {
		t.Errorf("got %d messages, %d claims that hold, %+v at enqueue; want about 2,000, %d, and 3 duplicates and 2 conflicts",
			got.Messages, len(got.Held), got.AtEnqueue, claims)
	}
	for _, want := range []line{ // counts that are those of the scenario whatever the examples say
		{Account: shop, Kind: message.Template, Status: outcome.Skipped, Reason: outcome.Suppressed, Count: 10},
		{Account: shop, Kind: message.Subscribe, Status: outcome.Skipped, Reason: outcome.Suppressed, Count: 1},
		{Account: shop, Kind: message.Template, Status: outcome.Skipped, Reason: outcome.Duplicate, Count: 3},
		{Account: shop, Kind: message.Template, Status: outcome.Failed, Reason: outcome.KeyConflict, Count: 2},
		{Account: shop, Kind: message.Template, Status: outcome.Failed, Reason: outcome.RefusedRequest, Count: 3},
		{Account: shop, Kind: message.Template, Status: outcome.Cancelled, Reason: outcome.ReasonCancelled, Count: 2},
		{Account: shop, Kind: message.Template, Status: outcome.Expired, Reason: outcome.ReasonExpired, Count: 4},
		{Account: shop, Kind: message.Subscribe, Status: outcome.Failed, Reason: outcome.RefusedRecipient, Count: unasked},
		{Account: shop, Kind: message.Custom, Status: outcome.Unknown, Reason: outcome.InDoubt, Count: 4},
		{Account: shop, Kind: message.Custom, Status: outcome.Skipped, Reason: outcome.WindowClosed, Count: silent + silentInstead},
		{Account: shop, Kind: message.Custom, Status: outcome.Skipped, Reason: outcome.WindowUsed, Count: 10},
		{Account: shop, Kind: message.Mass, Status: outcome.Sent, Count: 5},
		{Account: shop, Kind: message.Mass, Status: outcome.Skipped, Reason: outcome.MassCap, Count: 1},
		{Account: club, Kind: message.Custom, Status: outcome.Sent, Count: clubReplies},
		{Account: club, Kind: message.Custom, Status: outcome.Skipped, Reason: outcome.WindowClosed, Count: clubSilent},
		{Account: club, Kind: message.Mass, Status: outcome.Sent, Count: 1},
		{Account: club, Kind: message.Mass, Status: outcome.Skipped, Reason: outcome.MassCap, Count: 1},
	} {
		want.Meaning = meaning(want.Kind, want.Status, want.Reason)
		if !slices.Contains(got.Outcomes, want) {
			t.Errorf("no line %+v", want)
		}
	}
	if !slices.ContainsFunc(got.Outcomes, func(l line) bool { return l.Kind == message.Subscribe && l.Reason == outcome.Quota }) {
		t.Error("no notice waits for tomorrow's quota")
	}
	for _, l := range got.Receipts {
		blocker := 0
		if l.Account == shop && l.Kind == message.Template {
			blocker = 1
			if l.NoneYet == 0 {
				t.Error("no receipt was lost")
			}
		}
		if l.Undelivered != blocker || l.Kind != message.Mass && l.Delivered < 9*l.NoneYet {
			t.Errorf("receipts %+v", l)
		}
	}
	if c := got.Course; c.Lost == 0 || c.Twice == 0 || c.Early == 0 || c.Made < 1300 {
		t.Errorf("receipts fared %+v", c)
	}
	if got.Welcomed == 0 || got.Welcomed > newFollowers {
		t.Errorf("%d users were welcomed, want %d", got.Welcomed, newFollowers)
	}
	if got.OverHTTP != (overHTTPView{Accepted: overHTTP, Repeated: repeated, Refused: 2, Taken: takeback}) {
		t.Errorf("over HTTP: %+v", got.OverHTTP)
	}
	if c := got.Campaign; c.Recipients < fewRecipients || c.Duplicates == 0 || c.Refused == 0 || c.Suppressed == 0 || c.PausedAt == 0 ||
		len(c.Rejects) != c.Refused+c.Suppressed || len(c.Outcomes) != 4 || c.Receipts.Undelivered == 0 {
		t.Errorf("campaign: %+v", c)
	}
	if len(got.Receipts) != 4 {
		t.Errorf("receipts of %d kinds, want 4", len(got.Receipts))
	}
	if t.Failed() {
		t.Log(stdout.String())
	}
	for _, said := range []string{"queued ", "forces a new access token", "check: ", "paused when ", "resumed", "campaign running: "} {
		if !strings.Contains(stderr.String(), said) {
			t.Errorf("the progress does not say %q:\n%s", said, &stderr)
		}
	}
}

func TestCtrlCStopsAndRemovesEverything(t *testing.T) {
	for name, at := range map[string]string{
		"while the servers start": "starting Postgres",
		"while messages flow":     "order messages into the ledger",
	} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() {
				t.Skip("starts servers")
			}
			temp := temporary(t)
			t.Setenv("TMPDIR", temp)
			ctx, interrupt := context.WithCancel(t.Context())
			stdout := &watcher{at: at, do: interrupt}
			var stderr bytes.Buffer
			if code := run(ctx, []string{"--redis-in-process", "--examples", repositoryExamples}, stdout, &stderr); code != exitFailed {
				t.Errorf("exit %d, want 1", code)
			}
			if got, want := stderr.String(), "demo: interrupted; everything that it started is stopped and removed\n"; got != want {
				t.Errorf("says %q, want %q", got, want)
			}
			if left, _ := filepath.Glob(filepath.Join(temp, "*")); len(left) > 0 {
				t.Errorf("left %q", left)
			}
		})
	}
}

// temporary is a folder that the servers' user may enter, too, which is not so of t.TempDir.
func temporary(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "demo-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A watcher does something when it is told a text.
type watcher struct {
	at string
	do func()
}

func (w *watcher) Write(p []byte) (int, error) {
	if strings.Contains(string(p), w.at) {
		w.do()
	}
	return len(p), nil
}

func TestBadInputEndsWith2(t *testing.T) {
	folder := func(lines string) string {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "x.jsonl"), []byte(lines), 0o600); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	examples := func(file, text string) string { // those of the repository, but for one file
		dir := t.TempDir()
		paths, _ := filepath.Glob(filepath.Join(repositoryExamples, "*.*"))
		for _, path := range paths {
			kept, err := os.ReadFile(path)
			if filepath.Base(path) == file {
				kept = []byte(text)
			}
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, filepath.Base(path)), kept, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"an unknown flag":    {[]string{"--fast"}, "unknown flag --fast"},
		"no examples":        {[]string{"--examples", t.TempDir()}, "no *.jsonl files"},
		"a bad line":         {[]string{"--examples", folder("\n{\"kind\":\"letter\"}\n")}, `x.jsonl:2: kind: want one of template`},
		"a kind is missing":  {[]string{"--examples", folder(`{"account":"shop","kind":"custom","to":"oA","custom":{"msgtype":"text","text":{"content":"hi"}}}`)}, "no message with account shop and kind template"},
		"not even a message": {[]string{"--examples", folder("hello")}, "x.jsonl:1: "},

		"a campaign's mistakes": {[]string{"--examples", examples("campaign.yaml", "name: x\nkind: sms\npase: 3\n")}, "campaign.yaml: campaign: 3 mistakes:\n  account: required"},
		"another campaign":      {[]string{"--examples", examples("campaign.yaml", "name: x\naccount: club\nkind: custom\ncustom: {msgtype: text, text: {content: hi}}\n")}, "the demo wants a campaign of template messages"},
		"a column is missing":   {[]string{"--examples", examples("audience.csv", "openid,name,points\noA,x,1\n")}, "ask for a column ends; it has openid, name, points"},
		"a row that is broken":  {[]string{"--examples", examples("audience.csv", "openid,name,points,ends\no A,x,1,2\n")}, "audience.csv: line 2: openid: an openid has only letters"},
		"nobody in it":          {[]string{"--examples", examples("audience.csv", "openid,name,points,ends\n")}, "audience.csv: nobody is in it"},
		"no audience":           {[]string{"--examples", examples("audience.csv", "\xff\xfe\x00")}, "audience.csv: no column is named openid"},
	} {
		t.Run(name, func(t *testing.T) {
			var stderr bytes.Buffer
			if code := run(t.Context(), c.args, io.Discard, &stderr); code != exitBadInput {
				t.Errorf("exit %d, want 2", code)
			}
			if !strings.HasPrefix(stderr.String(), "demo: ") || !strings.Contains(stderr.String(), c.says) {
				t.Errorf("says %q, want %q", &stderr, c.says)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	var stdout bytes.Buffer
	if code := run(t.Context(), []string{"--help"}, &stdout, io.Discard); code != exitDone {
		t.Errorf("exit %d, want 0", code)
	}
	for _, word := range []string{"--stay", "--json", "--examples"} {
		if !strings.Contains(stdout.String(), word) {
			t.Errorf("the help does not name %s:\n%s", word, &stdout)
		}
	}
}

func TestGeneratedMessagesAreGoodAndAllDifferent(t *testing.T) {
	e, err := readExamples(repositoryExamples, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	g, again := newGenerator(e, 1), newGenerator(e, 1)
	seen, keys := map[string]bool{}, map[string]bool{}
	for _, n := range needed {
		if n.kind == message.Mass {
			continue
		}
		lines := e.of(n.account, n.kind, anyLine)
		for i := range 3 * len(lines) {
			m, same := g.message("act", lines, i, g.user()), again.message("act", lines, i, again.user())
			if m.To != same.To || string(m.Body) != string(same.Body) {
				t.Errorf("the same seed makes %s and %s", m.Body, same.Body)
			}
			if err := m.Validate(time.Now()); err != nil {
				t.Errorf("%s %s of line %d: %v", n.account, n.kind, i%len(lines), err)
			}
			content := string(m.To) + string(m.Body)
			if seen[content] || m.Key != "" && keys[m.Key] {
				t.Errorf("made twice: %s", m.Body)
			}
			seen[content], keys[m.Key] = true, true
			if f := m.Fallback; f != nil && f.Key != "" && keys[f.Key] {
				t.Errorf("the fallback's key %s comes twice", f.Key)
			} else if f != nil {
				keys[f.Key] = true
			}
		}
	}
}

func TestTableAlignsChinese(t *testing.T) {
	var b strings.Builder
	align(&b, [][]string{{"kind", "n", "means"}, {"群发", "1", "a"}, {"template 模板消息", "12", "b"}}, 1)
	want := "" +
		"kind                n  means\n" +
		"群发                1  a\n" +
		"template 模板消息  12  b\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}

func TestEveryEndHasAMeaning(t *testing.T) {
	for _, reason := range outcome.Reasons() {
		if reason != outcome.FrequencyCap && reason != outcome.QuietHours && meanings[reason] == "" { // campaigns only
			t.Errorf("%s is not explained", reason)
		}
	}
}
