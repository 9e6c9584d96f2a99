package pipeline

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

var (
	template   = []message.Kind{message.Template}
	custom     = []message.Kind{message.Custom}
	mass       = []message.Kind{message.Mass}
	byTemplate = []message.Kind{message.Template, message.Subscribe}
	keyless    = []message.Kind{message.Custom, message.Subscribe} // WeChat takes no id of ours with them
	toOne      = []message.Kind{message.Template, message.Subscribe, message.Custom}
	every      = message.Kinds()
)

// The verdicts that many codes share.
const (
	refusedOnce = "failed refused_recipient"
	badRequest  = "failed refused_request"
	again       = "parked backoff"
	enough      = "failed retries_exhausted"
	nobodyKnows = "unknown in_doubt"
)

// A span is the least and the most that a parked message waits.
type span [2]time.Duration

var none span

// judgement is the law: what a result means for a message at its first attempt, at its last, and when an earlier
// attempt may have left (10 s ago). gates is what else is told to whom; wait is the least and the most that a
// parked message waits after its first attempt. (A mass send that fails gives its caps back besides.)
var judgement = []struct {
	what                string
	kinds               []message.Kind
	result              any // a wechat.Result, or an errcode
	first, fifth, doubt string
	gates               string
	wait                span
}{
	{"WeChat took it", every, accepted, "sent", "sent", "sent", "passed", none},
	{"the answer was lost", template, lost, again + " +doubt", again + " +doubt", again + " +doubt", "", span{0, time.Second}},
	{"the answer was lost", mass, lost, again + " +doubt", again + " +doubt", again + " +doubt", "", span{time.Minute, 2 * time.Minute}},
	{"the answer was lost", keyless, lost, nobodyKnows, nobodyKnows, "", "", none},
	{"busy, where that counts as lost", template, strict, again + " +doubt", again + " +doubt", again + " +doubt", "", span{0, time.Second}},
	{"busy, where that counts as lost", keyless, strict, nobodyKnows, nobodyKnows, "", "", none},
	{"no connection", every, noDial, again, enough, again + " +doubt", "", span{0, time.Second}},

	{"busy", every, -1, again, enough, again + " +doubt", "", span{0, time.Second}},
	{"busy", every, 268487001, again, enough, again + " +doubt", "passed", span{0, time.Second}},
	{"a token refused twice", every, 40001, "parked gate", "parked gate", "parked gate", "refresh, broken shop", span{time.Minute, time.Minute}},
	{"an expired token refused twice", every, 42001, "parked gate", "parked gate", "parked gate", "refresh, broken shop", span{time.Minute, time.Minute}},

	{"day's quota", every, 45009, "parked quota", "parked quota", "parked quota", "quotaSpent", span{6 * time.Hour, 6 * time.Hour}},
	{"no mass quota", mass, 45028, "parked quota", "parked quota", "parked quota", "quotaSpent", span{6 * time.Hour, 6 * time.Hour}},
	{"minute's quota", every, 45011, "parked pace", "parked pace", "parked pace", "slow", span{time.Second, 62 * time.Second}},

	{"this user too often", template, 43117, again, enough, nobodyKnows, "", span{10 * time.Minute, 13 * time.Minute}},
	{"masssend fast", mass, 42010, again, enough, again + " +doubt", "rest", span{3 * time.Minute, 4 * time.Minute}},
	{"same clientmsgid too fast", mass, 45066, again + " +doubt", again + " +doubt", again + " +doubt", "", span{time.Minute, 62 * time.Second}},
	{"clientmsgid exists", mass, 45065, "sent", "sent", "sent", "passed", none},
	{"the administrator is asked", mass, 89504, "sent", "sent", "sent", "passed", none},
	{"duplicate in 60 seconds", template, 40241, again, enough, "sent", "", span{time.Minute, 77 * time.Second}},
	{"repeated msg id", toOne, 44007, "sent", "sent", "sent", "passed", none},

	{"invalid openid", toOne, 40003, refusedOnce, refusedOnce, nobodyKnows, "passed", none},
	{"not a follower", toOne, 43004, refusedOnce + " +suppress", refusedOnce + " +suppress", nobodyKnows + " +suppress", "passed", none},
	{"unsubscribed", template, 50005, refusedOnce + " +suppress", refusedOnce + " +suppress", nobodyKnows + " +suppress", "passed", none},
	{"the user refuses this template", byTemplate, 43101, refusedOnce + " +suppress T1", refusedOnce + " +suppress T1", nobodyKnows + " +suppress T1", "passed", none},
	{"the user refuses what is no template", custom, 43101, refusedOnce, refusedOnce, nobodyKnows, "passed", none},
	{"nobody to suppress", mass, 43004, refusedOnce, refusedOnce, nobodyKnows, "passed", none},
	{"window closed", custom, 45015, refusedOnce + " +fallback", refusedOnce + " +fallback", nobodyKnows, "passed, windowRefused 45015", none},
	{"window used", custom, 45047, refusedOnce + " +fallback", refusedOnce + " +fallback", nobodyKnows, "passed, windowRefused 45047", none},

	{"bad argument", every, 47003, badRequest, badRequest, nobodyKnows, "passed", none},
	{"api unauthorized", every, 48001, "parked gate", "parked gate", "parked gate", "broken api", span{time.Minute, time.Minute}},
	{"account banned", every, 200011, "parked gate", "parked gate", "parked gate", "broken api", span{time.Minute, time.Minute}},
	{"a code that no list knows", every, 99999, again, badRequest, again + " +doubt", "passed", span{0, time.Second}},
}

func TestJudgement(t *testing.T) {
	for _, row := range judgement {
		for _, kind := range row.kinds {
			result, ok := row.result.(wechat.Result)
			if !ok {
				result = refusal(kind, row.result.(int))
			}
			for _, situation := range []struct {
				name, want string
				claim      func(*Claim)
			}{
				{"first attempt", row.first, func(*Claim) {}},
				{"fifth attempt", row.fifth, func(c *Claim) { c.Attempt = 5; c.FirstIntent = c.Intent.Add(-2 * time.Minute) }},
				{"in doubt", row.doubt, func(c *Claim) { c.Attempt, c.Doubt, c.FirstIntent = 2, true, c.Intent.Add(-10*time.Second) }},
			} {
				if situation.want == "" {
					continue
				}
				t.Run(fmt.Sprintf("%s/%s/%s", kind, row.what, situation.name), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						w := newWorld()
						w.results = []wechat.Result{result}
						situation.claim(&w.claim)
						a := w.attempt(kind)
						a.Account.Policy = riskTaken
						if result.Class == wechat.Ambiguous {
							a.Account.Policy = Policy{}
						}
						if kind == message.Custom {
							a.Message.Fallback = fallback()
						}
						o, err := w.run(t, a)
						if err != nil {
							t.Fatal(err)
						}
						want := situation.want
						if kind == message.Mass && o.Status == outcome.Failed {
							want += " +refund"
						}
						if got := words(o, a.Effects); got != want {
							t.Errorf("got %q, want %q", got, want)
						}
						if got := w.told(); got != row.gates {
							t.Errorf("told %q, want %q", got, row.gates)
						}
						if wait := o.Until.Sub(a.Now); o.Status == outcome.Parked && situation.name == "first attempt" &&
							(wait < row.wait[0] || wait > row.wait[1]) {
							t.Errorf("waits %v, want %v to %v", wait, row.wait[0], row.wait[1])
						}
						if e := result.Error(); e != nil && (o.ErrCode != e.Code || o.ErrMsg != e.Msg || o.RID != e.RID) {
							t.Errorf("got %+v, want WeChat's words %v", o, e)
						}
						w.checkTakes(t, kind, result, o)
					})
				})
			}
		}
	}
}

// riskTaken is the policy under which even a message without an id may be in doubt and sent again.
var riskTaken = Policy{ResendCustom: time.Minute, ResendSubscribe: time.Minute}

// checkTakes: the slot stays spent where the message left or may have left, else it is given back; the call counts where a
// connection was had.
func (w *world) checkTakes(t *testing.T, k message.Kind, r wechat.Result, o outcome.Outcome) {
	t.Helper()
	tokens := strings.TrimSpace(strings.Repeat("spent ", len(w.calls)))
	if !r.Connected {
		tokens = "returned"
	}
	slot := ""
	if k == message.Custom {
		slot = "withdraw "
		if r.Class != wechat.NotSent || o.Status == outcome.Sent || w.claim.Doubt { // or an earlier attempt's
			slot = "spend "
		}
	}
	if got := w.gone(); got != slot+tokens {
		t.Errorf("the slot and the tokens: %q, want %q", got, slot+tokens)
	}
}

// told says what was told to the gates, the quota and the window ledger, and whether the token was refreshed.
func (w *world) told() string {
	var told []string
	for _, e := range w.events {
		switch name, _, _ := strings.Cut(e, " "); name {
		case "passed", "quotaSpent", "rest", "slow", "refresh", "windowRefused":
			told = append(told, e)
		case "broken":
			if strings.Contains(e, "/cgi-bin") {
				e = "broken api"
			}
			told = append(told, e)
		}
	}
	return strings.Join(told, ", ")
}

// A message in doubt that can no longer be repeated ends unknown, without a call.
func TestDoubtThatWaitedTooLong(t *testing.T) {
	for kind, age := range map[message.Kind]time.Duration{
		message.Template: 8 * time.Minute, message.Mass: 23 * time.Hour, message.Custom: 0, message.Subscribe: 0,
	} {
		t.Run(string(kind), func(t *testing.T) {
			w := newWorld()
			w.claim.Attempt, w.claim.Doubt, w.claim.FirstIntent = 2, true, w.claim.Intent.Add(-age)
			a := w.attempt(kind)
			o, err := w.run(t, a)
			if got := words(o, a.Effects); err != nil || got != nobodyKnows || len(w.calls) > 0 {
				t.Errorf("got %q, %v after %d calls, want %q after none", got, err, len(w.calls), nobodyKnows)
			}
			if got := w.tokens(); got != "returned" {
				t.Errorf("the quota token was %s, want returned", got)
			}
		})
	}
}

// A message whose answers are all lost is sent while that is safe, and then nobody knows.
func TestLostAnswers(t *testing.T) {
	for _, c := range []struct {
		name     string
		kind     message.Kind
		policy   Policy
		least    int // calls
		most     int
		duration time.Duration
	}{
		{"a template within WeChat's ten minutes", message.Template, Policy{}, 4, 40, 8 * time.Minute},
		{
			"a template, and once more where the account takes the risk", message.Template,
			Policy{ResendLateTemplate: true, TemplateWindow: time.Minute},
			5, 20, time.Hour,
		},
		{"a mass send within WeChat's day", message.Mass, Policy{}, 100, 400, 23 * time.Hour},
		{"a customer-service message once", message.Custom, Policy{}, 1, 1, 0},
		{"a subscription notice once", message.Subscribe, Policy{}, 1, 1, 0},
		{
			"a customer-service message, where the account takes the risk, as often as any", message.Custom,
			Policy{ResendCustom: 1<<63 - 1},
			5, 5, time.Hour,
		},
		{
			"a subscription notice, where the account takes the risk while it is young", message.Subscribe,
			Policy{ResendSubscribe: 2 * time.Second},
			2, 4, 2 * time.Second,
		},
		{"a template of an account without second attempts", message.Template, Policy{Backoff: []time.Duration{}}, 8, 90, 8 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.results = []wechat.Result{lost}
				start := time.Now()
				for {
					a := w.attempt(c.kind)
					a.Account.Policy = c.policy
					w.claim.Intent = time.Now()
					o, err := w.run(t, a)
					if err != nil {
						t.Fatal(err)
					}
					if o.Status == outcome.Unknown {
						break
					}
					if o.Status != outcome.Parked || !a.Effects.Doubt || !o.Until.After(time.Now()) {
						t.Fatalf("got %+v, %+v, want parked for a while, in doubt", o, a.Effects)
					}
					time.Sleep(time.Until(o.Until))
					w.claim.Attempt++
					w.claim.Doubt = true
				}
				if n := len(w.calls); n < c.least || n > c.most || time.Since(start) > c.duration {
					t.Errorf("%d calls in %v, want %d to %d within %v", n, time.Since(start), c.least, c.most, c.duration)
				}
			})
		})
	}
}

// Every code has a verdict that the state machine allows, also where WeChat invents new ones.
func TestEveryCodeHasAVerdict(t *testing.T) {
	codes := []int{-1, 0, 1, 89501, 89504, 200011, 999999, 268487001, 268488001, 9500001, 1 << 40}
	for code := 40000; code < 49100; code++ {
		codes = append(codes, code)
	}
	for i, code := range codes {
		for _, kind := range []message.Kind{every[i%4], every[(i+1)%4]} {
			w := newWorld()
			w.results = []wechat.Result{refusal(kind, code)}
			a := w.attempt(kind)
			o, err := w.run(t, a)
			if err != nil || !o.Status.Terminal() && o.Status != outcome.Parked || o.Status == outcome.Parked && !o.Until.After(a.Now) {
				t.Fatalf("%s %d: got %+v, %v, want a terminal outcome or parked for a while", kind, code, o, err)
			}
		}
	}
}

// Whatever pauses an account is configured with, a retry waits between a tenth of its pause and the whole of it.
func TestPauses(t *testing.T) {
	for _, c := range []struct {
		backoff     []time.Duration
		attempt     int
		least, most time.Duration
	}{
		{nil, 1, 100 * time.Millisecond, time.Second},
		{nil, 4, time.Minute, 10 * time.Minute},
		{nil, 9, time.Minute, 10 * time.Minute},
		{[]time.Duration{0}, 1, 0, 0},
		{[]time.Duration{1}, 2, 0, 1},
		{[]time.Duration{}, 1, 6 * time.Second, time.Minute},
	} {
		for range 50 {
			got := Policy{Backoff: c.backoff}.WithDefaults().pause(c.attempt)
			if got < c.least || got > c.most {
				t.Errorf("%v after attempt %d: %v, want %v to %v", c.backoff, c.attempt, got, c.least, c.most)
			}
		}
	}
}
