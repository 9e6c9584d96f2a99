package postgres

import (
	"fmt"
	"slices"
	"testing"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/message"
)

func newcomers(openids ...string) []Newcomer {
	list := make([]Newcomer, len(openids))
	for i, o := range openids {
		list[i] = Newcomer{Line: int64(i + 2), OpenID: message.OpenID(o), Vars: []string{o}}
	}
	return list
}

func TestAnImportDropsDuplicatesAndTheSuppressed(t *testing.T) {
	b := setup(t)
	id := b.draft(func(s *campaign.Spec) { s.Body = []byte(`{"template_id":"T1","data":{}}`) })
	c, err := b.store.Campaign(b.ctx, id.String())
	b.ok(err)
	_, err = b.store.pool.Exec(b.ctx, `INSERT INTO suppression (account, openid, template_id, active, reason, errcode, since)
		SELECT id, o, t, a, 'refused_recipient', e, now() FROM account,
			(VALUES ('oGone', '', true, 43004), ('oT1', 'T1', true, 43101), ('oT2', 'T2', true, 43101), ('oBack', '', false, 43004)) AS v (o, t, a, e) WHERE name = $1`, c.Account)
	b.ok(err)
	a, err := b.store.BeginAudience(b.ctx, id, "file:a.csv", []string{"name"})
	b.ok(err)
	i, err := b.store.NewImport(b.ctx, c, a)
	b.ok(err)
	dropped, err := i.Add(b.ctx, newcomers("oA", "oB", "oA", "oGone", "oT1", "oT2", "oBack"), func(a *Audience) { a.Bytes, a.Lines = 100, 8 })
	b.ok(err)
	check := func(dropped []Dropped, want ...string) {
		t.Helper()
		var got []string
		for _, d := range dropped {
			got = append(got, fmt.Sprintf("%s line %d of %d code %d", d.OpenID, d.Line, d.Of, d.ErrCode))
		}
		if !slices.Equal(got, want) {
			t.Errorf("dropped %q, want %q", got, want)
		}
	}
	check(dropped, "oA line 4 of 1 code 0", "oGone line 5 of 0 code 43004", "oT1 line 6 of 0 code 43101")

	// A second import goes on where the first was killed, and knows whom it has.
	list, err := b.store.Audiences(b.ctx, id)
	b.ok(err)
	i, err = b.store.NewImport(b.ctx, c, list[0])
	b.ok(err)
	dropped, err = i.Add(b.ctx, newcomers("oBack", "oC", "oC", "oA"), func(a *Audience) { a.Bytes = 150 })
	b.ok(err)
	check(dropped, "oBack line 2 of 4 code 0", "oC line 4 of 5 code 0", "oA line 5 of 1 code 0")
	b.ok(b.store.FinishAudience(b.ctx, &i.Audience))
	if got := b.strings(`SELECT n || openid FROM recipient ORDER BY n`); !slices.Equal(got, []string{"1oA", "2oB", "3oT2", "4oBack", "5oC"}) {
		t.Errorf("recipients %q", got)
	}
	if a := i.Audience; a.Total != 5 || a.Duplicates != 4 || a.Suppressed != 2 {
		t.Errorf("audience %+v", a)
	}
}

func TestASieveForgetsNobody(t *testing.T) {
	s := newSieve()
	const n = 200_000
	for i := range int32(n) {
		s.add(s.tag(message.OpenID(fmt.Sprint("o", i))), i+1)
	}
	more := 0
	for i := range int32(n) {
		found := s.find(nil, s.tag(message.OpenID(fmt.Sprint("o", i))))
		if !slices.Contains(found, i+1) {
			t.Fatalf("%d is lost", i)
		}
		more += len(found) - 1
	}
	strangers := 0
	for i := range n {
		strangers += len(s.find(nil, s.tag(message.OpenID(fmt.Sprint("x", i)))))
	}
	if more > 100 || strangers > 100 { // 5 and 9 are expected: n × n / 2³²
		t.Errorf("%d others share a tag, and %d strangers", more, strangers)
	}
}
