package postgres

import (
	"fmt"
	"iter"
	"slices"
	"testing"

	"github.com/hongyan-dispatch/hongyan/message"
)

func people(from, n int) iter.Seq2[message.OpenID, []string] {
	return func(yield func(message.OpenID, []string) bool) {
		for i := range n {
			if !yield(message.OpenID(fmt.Sprintf("oPerson%d", from+i)), []string{fmt.Sprintf(`"name", {%d}`, from+i), ""}) {
				return
			}
		}
	}
}

func TestAnAudienceIsImportedInParts(t *testing.T) {
	b := setup(t)
	id := b.draft(nil)
	a, err := b.store.BeginAudience(b.ctx, id, "file:a.csv", []string{"name", "city"})
	b.ok(err)
	b.ok(b.store.CopyRecipients(b.ctx, &a, people(1, 3000), func(a *Audience) { a.Lines, a.Bytes, a.Refused = 3002, 100_000, 2 }))

	// The import is killed; another goes on with what the row says.
	list, err := b.store.Audiences(b.ctx, id)
	if err != nil || len(list) != 1 || list[0].Total != 3000 || list[0].Lines != 3002 || list[0].Refused != 2 || !slices.Equal(list[0].Columns, a.Columns) {
		t.Fatalf("audiences: %+v, %v", list, err)
	}
	second := list[0]
	b.ok(b.store.CopyRecipients(b.ctx, &second, people(3001, 10), func(a *Audience) { a.Lines, a.Cursor = 3012, "next" }))
	if err := b.store.CopyRecipients(b.ctx, &a, people(3001, 10), nil); err == nil || a.Total != 3000 {
		t.Errorf("two imports write one audience: %v, total %d", err, a.Total)
	}
	b.ok(b.store.FinishAudience(b.ctx, &second))
	if got := b.strings(`SELECT n || ' ' || openid || ' ' || vars[1] || ' ' || cardinality(vars) FROM recipient WHERE n IN (1, 3010) ORDER BY n`); !slices.Equal(got, []string{
		`1 oPerson1 "name", {1} 2`, `3010 oPerson3010 "name", {3010} 2`,
	}) {
		t.Errorf("recipients %q", got)
	}
	if n := b.count(`SELECT count(*) FROM recipient`); n != 3010 {
		t.Errorf("%d recipients, want 3010", n)
	}
	if err := b.store.FinishAudience(b.ctx, &a); err == nil {
		t.Error("an import that was overtaken finishes the audience")
	}
}

func TestAnAudienceIsRolledBackWhole(t *testing.T) {
	b := setup(t)
	id := b.draft(nil)
	a, err := b.store.BeginAudience(b.ctx, id, "file:a.csv", nil)
	b.ok(err)
	b.ok(b.store.CopyRecipients(b.ctx, &a, people(1, 500), nil))
	if err := b.store.CopyRecipients(b.ctx, &a, func(yield func(message.OpenID, []string) bool) { yield("o\x00", nil) }, nil); err == nil || a.Total != 500 {
		t.Errorf("a row that cannot be stored: %v, total %d", err, a.Total)
	}
	b.ok(b.store.DropAudience(b.ctx, a.ID))
	if n := b.count(`SELECT count(*) FROM recipient`); n != 0 {
		t.Errorf("%d recipients are left", n)
	}
	_, f := b.started(1, nil)
	if err := b.store.DropAudience(b.ctx, f.Audience); err == nil {
		t.Error("an audience that a firing goes to is dropped")
	}
}
