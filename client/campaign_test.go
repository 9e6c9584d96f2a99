package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/client"
)

const greeting = `{"name": "%s", "account": "shop", "kind": "custom", "custom": {"msgtype": "text", "text": {"content": "{{.name}}，您好"}}}`

func (b *bundle) campaign(name string) string {
	b.Helper()
	c, err := b.CreateCampaign(b.Context(), fmt.Appendf(nil, greeting, name))
	if err != nil {
		b.Fatal(err)
	}
	return c.ID.String()
}

// recipients are the openids of a campaign's audience, in their order.
func (b *bundle) recipients(id string) []string {
	b.Helper()
	conn, err := pgx.Connect(b.Context(), b.options.Database)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(b.Context())
	rows, err := conn.Query(b.Context(), `SELECT r.openid || ' ' || r.vars[1] FROM audience a JOIN recipient r ON r.audience = a.id
		WHERE a.campaign = $1 AND a.state = 'ready' ORDER BY r.n`, id)
	if err != nil {
		b.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		b.Fatal(err)
	}
	return list
}

func TestAnImportIsResumedWhereverItIsKilled(t *testing.T) {
	b := withLedger(t)
	id := b.campaign("killed")
	const n = 120_000 // three blocks
	var file strings.Builder
	want := make([]string, 0, n)
	file.WriteString("name,openid\n")
	for i := range n {
		fmt.Fprintf(&file, "\"顾客 %d\",oPerson%d\n", i, i)
		want = append(want, fmt.Sprintf("oPerson%d 顾客 %d", i, i))
	}
	kills := 0
	for {
		ctx, kill := context.WithCancel(t.Context())
		a, err := b.ImportAudience(ctx, id, "people.csv", strings.NewReader(file.String()), client.ImportOptions{
			Resume: true, Progress: func(client.AudienceState) { kill() },
		})
		kill()
		if err == nil {
			if a.State != "ready" || a.Recipients != n || a.Duplicates+a.Refused > 0 {
				t.Errorf("got %+v", a)
			}
			break
		}
		if kills++; kills > 10 || !errors.Is(err, context.Canceled) {
			t.Fatalf("after %d kills: %v", kills, err)
		}
		if _, err := b.StartCampaign(t.Context(), id); err == nil {
			t.Fatal("a campaign starts over half of its audience")
		}
	}
	if kills < 3 {
		t.Errorf("killed %d times, want at least 3", kills)
	}
	if got := b.recipients(id); !slices.Equal(got, want) {
		t.Errorf("%d recipients, want %d, each once and in their order", len(got), len(want))
	}
}

func TestOneLineInAHundredIsBroken(t *testing.T) {
	b := withLedger(t)
	id := b.campaign("broken")
	broken := []string{"openid with spaces,x", "oShort", "oTooMany,a,b", "oBad\xff\xfe,\xff", `oQuote,"a"b"`, ",nobody", strings.Repeat("o", 65) + ",long", "oHuge," + strings.Repeat("a", 2<<20)}
	var file strings.Builder
	var lines []int64
	file.WriteString("openid,name\n")
	const n = 2000
	for i := range n {
		if i%100 == 50 {
			lines = append(lines, int64(i+2))
			file.WriteString(broken[len(lines)%len(broken)] + "\n")
			continue
		}
		fmt.Fprintf(&file, "oPerson%d,顾客\n", i)
	}
	var told []int64
	a, err := b.ImportAudience(t.Context(), id, "people.csv", strings.NewReader(file.String()), client.ImportOptions{
		Rejected: func(r client.Reject) error {
			told = append(told, r.Line)
			if r.Reason == "" || len(r.Reason) > 300 {
				t.Errorf("line %d: reason %q", r.Line, r.Reason)
			}
			return nil
		},
	})
	if err != nil || a.Recipients != n-len(lines) || a.Refused != len(lines) {
		t.Errorf("got %+v, %v, want %d recipients and %d refused", a, err, n-len(lines), len(lines))
	}
	if !slices.Equal(told, lines) {
		t.Errorf("told of lines %v, want %v", told, lines)
	}
}

func TestAnImportThatFailsIsRolledBackOrReplaced(t *testing.T) {
	b := withLedger(t)
	id := b.campaign("failing")
	text := strings.Builder{}
	text.WriteString("openid,name\n")
	for i := range 50_000 { // more than is looked at before the first row is taken
		fmt.Fprintf(&text, "oPerson%d,Ann\n", i)
	}
	half := io.MultiReader(strings.NewReader(text.String()), failing{})
	if _, err := b.ImportAudience(t.Context(), id, "people.csv", half, client.ImportOptions{}); !errors.Is(err, errDisk) {
		t.Fatalf("got %v, want the disk's error", err)
	}
	whole := func(o client.ImportOptions, names ...string) (client.AudienceState, error) {
		text := "openid,name\n"
		for _, name := range names {
			text += "o" + name + "," + name + "\n"
		}
		return b.ImportAudience(t.Context(), id, "people.csv", strings.NewReader(text), o)
	}
	there, ok := errors.AsType[*client.AudienceThereError](second(whole(client.ImportOptions{}, "Cat")))
	if !ok || there.Audience.State != "importing" || there.Audience.Recipients < 40_000 {
		t.Fatalf("got %v, want to be asked what becomes of those who are there", there)
	}
	if _, err := whole(client.ImportOptions{Resume: true}, "Cat"); !errors.Is(err, client.ErrOtherInput) {
		t.Errorf("another file: %v", err)
	}
	if a, err := whole(client.ImportOptions{Restart: true}, "Cat", "Dan"); err != nil || a.Recipients != 2 {
		t.Errorf("begun anew: %+v, %v", a, err)
	}
	if got := b.recipients(id); !slices.Equal(got, []string{"oCat Cat", "oDan Dan"}) {
		t.Errorf("recipients %q", got)
	}
	if a, err := whole(client.ImportOptions{Restart: true}, "Eve"); err != nil || a.Recipients != 1 {
		t.Errorf("replaced: %+v, %v", a, err)
	}
	if got := b.recipients(id); !slices.Equal(got, []string{"oEve Eve"}) {
		t.Errorf("recipients %q", got)
	}
	if a, err := whole(client.ImportOptions{Resume: true}, "Eve"); err != nil || a.State != "ready" || a.Recipients != 1 {
		t.Errorf("nothing left to resume: %+v, %v", a, err)
	}
}

func second[T any](_ T, err error) error { return err }

var errDisk = errors.New("the disk is broken")

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errDisk }

func TestCampaignsNeedALedger(t *testing.T) {
	b := withoutLedger(t)
	if _, err := b.CreateCampaign(t.Context(), fmt.Appendf(nil, greeting, "none")); !errors.Is(err, client.ErrNoLedger) {
		t.Errorf("create: %v", err)
	}
	if _, err := b.StartCampaign(t.Context(), "none"); !errors.Is(err, client.ErrNoLedger) {
		t.Errorf("start: %v", err)
	}
}
