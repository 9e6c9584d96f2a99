package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// honest is evidence in which everything is as it should be: a template and a reply that are sent, a reply in
// doubt, and one that is skipped.
func honest(t *testing.T) evidence {
	t.Helper()
	sim := wechattest.New(wechattest.Options{})
	for _, a := range accountSettings(&examples{}, "http://127.0.0.1:1") {
		sim.MustAddAccount(a)
	}
	e := evidence{Produced: map[message.ID]bool{}, State: sim.State()}
	for i := range e.State.Accounts {
		e.State.Accounts[i].APIs[wechattest.PathStableToken] = wechattest.APIState{Calls: wechattest.Calls{Arrived: 1}}
	}
	now := time.Now()
	add := func(kind message.Kind, to string, status outcome.Status, reason outcome.Reason, body string) row {
		r := row{
			ID: message.NewID(now), Account: shop, Kind: kind, To: to, Status: status, Reason: reason, Body: body, Accepted: now,
		}
		e.Produced[r.ID] = true
		e.Rows = append(e.Rows, r)
		return r
	}
	template := add(message.Template, "oA", outcome.Sent, "", `{"template_id":"T","data":{"thing1":{"value":"茶 & 点心"}}}`)
	e.Rows[0].MsgID, e.Rows[0].Receipt = "7", delivered
	e.Pushes = []wechattest.Push{
		{Seq: 1, AppID: appIDs[shop], What: "TEMPLATESENDJOBFINISH", MsgID: 7, Status: "success", Fate: wechattest.Delivered},
		{Seq: 2, AppID: appIDs[shop], What: "text", Fate: wechattest.Lost},
	}
	reply := add(message.Custom, "oB", outcome.Sent, "", `{"msgtype":"text","text":{"content":"一"}}`)
	doubt := add(message.Custom, "oB", outcome.Unknown, outcome.InDoubt, `{"msgtype":"text","text":{"content":"二"}}`)
	add(message.Custom, "oC", outcome.Skipped, outcome.WindowClosed, `{"msgtype":"text","text":{"content":"三"}}`)
	e.accept(template, 7)
	e.accept(reply, 0)
	e.accept(doubt, 0)
	e.Errand = &errand{
		Accepted: 1, Again: map[message.ID][]string{template.ID: {template.ID.String() + ", duplicate: true"}},
		Refused: []refusal{{What: "a stranger", Got: 401, Want: 401}},
		Told:    []client.Status{{Message: &message.Message{ID: template.ID, To: "oA"}, Status: outcome.Sent}},
	}
	e.tour(now)
	return e
}

// tour adds a campaign to two users, of whom one refuses messages: paused between them, and resumed.
func (e *evidence) tour(now time.Time) {
	c := &crowd{recipients: []person{{openid: "oD"}, {openid: "oE"}}, refused: []int64{4}, duplicates: 1, suppressed: []message.OpenID{"oF"}}
	e.Tour = &tour{
		crowd: c, imported: client.AudienceState{Recipients: 2, Duplicates: 1, Refused: 1, Suppressed: 1},
		rejects: []client.Reject{{Line: 4, Reason: "openid: missing"}, {Line: 5, OpenID: "oF", Reason: "suppressed"}},
		paused:  now, resumed: now.Add(pauseFor), before: map[int]int64{43101: 4}, after: map[int]int64{43101: 5},
		rows: []row{
			{ID: message.NewID(now), Account: shop, Kind: message.Template, To: "oD", Status: outcome.Sent, Body: `{"template_id":"C"}`},
			{ID: message.NewID(now), Account: shop, Kind: message.Template, To: "oE", Status: outcome.Failed, Reason: outcome.RefusedRecipient, ErrCode: 43101},
		},
	}
	e.accept(e.Tour.rows[0], 0)
	e.Accepts[len(e.Accepts)-1].At = now.Add(time.Second)
}

// accept lets the simulator accept a message.
func (e *evidence) accept(r row, msgID int64) {
	a := wechattest.Accept{
		Seq: uint64(len(e.Accepts) + 1), AppID: appIDs[r.Account], API: apiOf(r), To: r.To, MsgID: msgID,
		Body: `{"touser":"` + r.To + `",` + r.Body[1:],
	}
	if r.Kind.HasClientID() {
		a.ClientID = r.ID.Hex()
	}
	e.Accepts = append(e.Accepts, a)
}

// claims is how many things are checked.
const claims = 12

func TestVerifyIsContentWithHonestEvidence(t *testing.T) {
	e := honest(t)
	if v := verify(e); len(v.Differences) > 0 || len(v.Held) != claims {
		t.Errorf("got %d claims that hold and the differences %q; want %d and none", len(v.Held), v.Differences, claims)
	}
	e.Accepts = slices.Delete(e.Accepts, 2, 3)
	if v := verify(e); len(v.Differences) > 0 {
		t.Errorf("a message in doubt that did not arrive: got %q, want no difference", v.Differences)
	}
}

func TestVerifySeesADoctoredLog(t *testing.T) {
	calls := func(e *evidence, api string, change func(*wechattest.APIState)) {
		s := e.State.Accounts[0].APIs[api]
		change(&s)
		e.State.Accounts[0].APIs[api] = s
	}
	for name, c := range map[string]struct {
		doctor func(*evidence)
		says   string
	}{
		"a template accepted twice":      {func(e *evidence) { e.accept(e.Rows[0], 8) }, "accepted 2 times; want at most 1"},
		"a reply accepted twice":         {func(e *evidence) { e.accept(e.Rows[1], 0) }, "accepted 2 times; want at most 1"},
		"an unknown accepted twice":      {func(e *evidence) { e.accept(e.Rows[2], 0) }, "accepted 2 times; want at most 1"},
		"a sent one that never arrived":  {func(e *evidence) { e.Accepts = e.Accepts[1:] }, "accepted 0 times; want 1"},
		"a skipped one that arrived":     {func(e *evidence) { e.accept(e.Rows[3], 0) }, "of which no outcome tells"},
		"one that nobody enqueued":       {func(e *evidence) { e.accept(row{Account: club, Kind: message.Custom, To: "oX", Body: "{}"}, 0) }, "of which no outcome tells"},
		"another content":                {func(e *evidence) { e.Accepts[0].Body = `{"touser":"oA","template_id":"X"}` }, "with another content"},
		"another user":                   {func(e *evidence) { e.Accepts[0].To = "oZ" }, "to another user"},
		"another msgid":                  {func(e *evidence) { e.Accepts[0].MsgID = 9 }, "has msgid 7; the simulator gave 9"},
		"a msgid given twice":            {func(e *evidence) { e.Accepts[1].MsgID = 7 }, "gave msgid 7 twice"},
		"a message without an outcome":   {func(e *evidence) { e.Produced[message.NewID(time.Now())] = true }, "has no outcome"},
		"an outcome without a message":   {func(e *evidence) { clear(e.Produced) }, "was never enqueued"},
		"two outcomes":                   {func(e *evidence) { e.Rows = append(e.Rows, e.Rows[3]) }, "has two outcomes"},
		"one that is not decided":        {func(e *evidence) { e.Rows[3].Status = outcome.Sending }, "is not decided"},
		"a token too many":               {func(e *evidence) { calls(e, wechattest.PathStableToken, func(s *wechattest.APIState) { s.Arrived++ }) }, "fetched its access token 2 times; want 1"},
		"a strange token":                {func(e *evidence) { e.State.UnknownCalls = 1 }, "never given out"},
		"a refusal for the day's quota":  {func(e *evidence) { calls(e, wechattest.PathSubscribe, refused(45009)) }, "over the day's quota"},
		"a refusal for the pace":         {func(e *evidence) { calls(e, wechattest.PathTemplate, refused(45011)) }, "over the pace"},
		"a refusal for the window":       {func(e *evidence) { calls(e, wechattest.PathCustom, refused(45047)) }, "over the window's number"},
		"refusals for a closed window":   {func(e *evidence) { calls(e, wechattest.PathCustom, refused(45015)) }, "outside the window"},
		"a refusal for the mass cap":     {func(e *evidence) { calls(e, wechattest.PathMassSend, refused(45028)) }, "over a mass cap"},
		"a reader who got too many":      {func(e *evidence) { e.State.Accounts[0].MassMost = 5 }, "5 mass messages this month; want at most 4"},
		"too many calls within a minute": {func(e *evidence) { calls(e, wechattest.PathCustom, func(s *wechattest.APIState) { s.Max60s = 6001 }) }, "within 60 s; want at most 6000"},
		"too many calls within a second": {func(e *evidence) { calls(e, wechattest.PathCustom, func(s *wechattest.APIState) { s.Max1s = 152 }) }, "within a second; want at most 151"},
		"a receipt that is not known":    {func(e *evidence) { e.Rows[0].Receipt = "" }, `has the receipt ""; want "delivered"`},
		"a receipt that never came":      {func(e *evidence) { e.Pushes[0].Fate = wechattest.Lost }, `has the receipt "delivered"; want ""`},
		"a receipt that says otherwise":  {func(e *evidence) { e.Pushes[0].Status = "failed:user block" }, `want "undelivered"`},
		"a receipt of no message":        {func(e *evidence) { e.Pushes[0].MsgID = 8 }, "the receipt for msgid 8"},
		"a callback that was refused":    {func(e *evidence) { e.Pushes[1].Fate = wechattest.GivenUp }, "push no. 2 (text) is given_up"},
		"more calls on a day than allowed": {func(e *evidence) {
			calls(e, wechattest.PathSubscribe, func(s *wechattest.APIState) {
				s.Limit.PerDay = 150
				s.ByDay = map[string]wechattest.Day{"2026-11-22": {Arrived: 151}}
			})
		}, "151 calls on 2026-11-22; want at most 150"},
		"a repetition with another id":     {func(e *evidence) { e.Errand.Again[e.Rows[0].ID] = []string{"another, duplicate: false"} }, "posted again was answered another"},
		"a stranger who is let in":         {func(e *evidence) { e.Errand.Refused[0].Got = 202 }, "a stranger was answered 202"},
		"another outcome over HTTP":        {func(e *evidence) { e.Errand.Told[0].Status = outcome.Failed }, "the ledger has"},
		"one taken back that was not":      {func(e *evidence) { e.Errand.Taken = e.Errand.Told }, "was taken back, and is sent"},
		"a recipient without an outcome":   {func(e *evidence) { e.Tour.rows = e.Tour.rows[:1] }, "has 0 outcomes; want 1"},
		"a recipient with two":             {func(e *evidence) { e.Tour.rows = append(e.Tour.rows, e.Tour.rows[0]) }, "has 2 outcomes; want 1"},
		"an outcome of nobody":             {func(e *evidence) { e.Tour.rows[1].To = "oZ" }, "who is no recipient"},
		"a recipient who got it twice":     {func(e *evidence) { e.accept(e.Tour.rows[0], 0) }, "got the campaign twice"},
		"a refusal of which nobody tells":  {func(e *evidence) { e.Tour.after[43004] = 1 }, "the simulator refused 1"},
		"another text":                     {func(e *evidence) { e.Tour.rows[0].Body = `{"template_id":"D"}` }, "with another content"},
		"sent while it was paused":         {func(e *evidence) { e.Accepts[3].At = e.Tour.resumed.Add(-time.Millisecond) }, "after the pause"},
		"a broken row that was not named":  {func(e *evidence) { e.Tour.rejects = e.Tour.rejects[1:] }, "did not name the broken line 4"},
		"a good row that was refused":      {func(e *evidence) { e.Tour.rejects[0].Line = 3 }, "with which nothing is wrong"},
		"a duplicate that was taken":       {func(e *evidence) { e.Tour.imported.Duplicates = 0 }, "counted 0 duplicates; the file has 1"},
		"a user who refused and was taken": {func(e *evidence) { e.Tour.rejects = e.Tour.rejects[:1] }, "who wants no messages"},
	} {
		t.Run(name, func(t *testing.T) {
			e := honest(t)
			c.doctor(&e)
			v := verify(e)
			if !strings.Contains(strings.Join(v.Differences, "\n"), c.says) {
				t.Errorf("got the differences %q; want one that says %q", v.Differences, c.says)
			}
		})
	}
}

func refused(code int) func(*wechattest.APIState) {
	return func(s *wechattest.APIState) { s.Refused = map[int]int64{code: 4} }
}
