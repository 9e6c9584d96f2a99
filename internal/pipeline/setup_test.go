package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// A world is all that surrounds the pipeline: it answers as it is told and notes what was asked of it.
type world struct {
	senders *Senders
	caps    looks

	// What it answers.
	suppressed bool
	gateUntil  time.Time
	window     Window
	windowThen Window  // when the slot is to be spent
	noQuota    []error // of each Take; nil where there is none left
	notReady   []error // of each QuotaToken.Ready
	noToken    error
	noRefresh  error
	claim      Claim
	results    []wechat.Result // of each call; the last of them again and again
	fails      map[string]error
	before     func(event string)

	// What happened.
	events []string
	takes  []*take
	calls  []call
}

// A call is what came over the wire to WeChat.
type call struct {
	api         string
	token       string
	to          message.OpenID
	list        []message.OpenID
	clientMsgID string
	body        string
}

// A take is a quota token that was given out.
type take struct {
	w               *world
	spent, returned int
}

const (
	shop    = "shop"
	shopApp = message.AppID("wx0000000000000001")
	user    = message.OpenID("oABC")
)

// newWorld lets everything through; WeChat accepts.
func newWorld() *world {
	return &world{
		senders: NewSenders(4, 1),
		claim:   Claim{Number: 1, Attempt: 1, FirstIntent: time.Now(), Intent: time.Now()},
		results: []wechat.Result{accepted},
		fails:   map[string]error{},
	}
}

func (w *world) deps() Deps {
	return Deps{Recipients: w, Gates: w, Windows: w, Caps: w.caps, Quota: w, Tokens: w, Senders: w.senders, Ledger: w}
}

// looks is what the account's mass-send caps answer.
type looks struct {
	full bool
	wait time.Time
	err  error
}

func (l looks) Look(context.Context, *Attempt) (bool, time.Time, error) { return l.full, l.wait, l.err }

// attempt is one run of a message of that kind.
func (w *world) attempt(k message.Kind) *Attempt {
	m := &message.Message{
		ID: message.NewID(time.Now()), Account: shop, Kind: k, To: user, Lane: message.Normal,
		Body: json.RawMessage(`{"template_id":"T1"}`),
	}
	if k == message.Mass {
		m.To, m.List = "", []message.OpenID{"o1", "o2", "o3"}
	}
	return &Attempt{Message: m, Account: &Account{Name: shop, AppID: shopApp}, Client: w, Now: time.Now()}
}

// run sends the attempt's message through the pipeline. Whatever comes of it, nothing may be held afterwards.
func (w *world) run(t testing.TB, a *Attempt) (outcome.Outcome, error) {
	t.Helper()
	o, err := New(w.deps()).Run(t.Context(), a)
	if what := w.held(); what != "" {
		t.Errorf("after %+v, %v: %s (events %v)", o, err, what, w.events)
	}
	return o, err
}

// held names what was not settled exactly once.
func (w *world) held() string {
	for i, t := range w.takes {
		if t.spent+t.returned != 1 {
			return fmt.Sprintf("quota token %d was spent %d times and returned %d times", i, t.spent, t.returned)
		}
	}
	if r, l, d := w.count("reserve"), w.count("release"), w.count("withdraw"); l+d > r || d > w.count("spend") {
		return fmt.Sprintf("%d slots reserved, %d released, %d withdrawn", r, l, d)
	}
	if wire, ahead := w.senders.wire.taken(), w.senders.ahead.taken(); wire+ahead > 0 {
		return fmt.Sprintf("%d senders and %d allowances are still taken", wire, ahead)
	}
	return ""
}

// note writes an event down, and answers with the error that it was told to fail with.
func (w *world) note(format string, args ...any) error {
	event := fmt.Sprintf(format, args...)
	if w.before != nil {
		w.before(event)
	}
	w.events = append(w.events, event)
	name, _, _ := strings.Cut(event, " ")
	return w.fails[name]
}

// live panics where something that must happen is tried under a context that is over.
func live(ctx context.Context, what string) {
	if ctx.Err() != nil {
		panic(what + " under a context that is over")
	}
}

// count is how many events have that name.
func (w *world) count(name string) (n int) {
	for _, e := range w.events {
		if first, _, _ := strings.Cut(e, " "); first == name {
			n++
		}
	}
	return n
}

// tokens says what became of the quota tokens, such as "spent returned".
func (w *world) tokens() string {
	var words []string
	for _, t := range w.takes {
		word := "returned"
		if t.spent > 0 {
			word = "spent"
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

// next takes the first of a list of answers, which is nil when all are taken.
func next(list *[]error) error {
	if len(*list) == 0 {
		return nil
	}
	first := (*list)[0]
	*list = (*list)[1:]
	return first
}

func (w *world) Suppressed(context.Context, *message.Message) (bool, error) {
	return w.suppressed, w.note("suppressed")
}

func (w *world) Look(context.Context, string, string, message.ID, time.Time) (time.Time, error) {
	return w.gateUntil, w.note("look")
}

func (w *world) Rest(context.Context, string, string, *wechat.Error, time.Time) { _ = w.note("rest") }

func (w *world) Broken(_ context.Context, account, api string, _ *wechat.Error) {
	_ = w.note("broken %s%s", account, api)
}

func (w *world) QuotaSpent(_ context.Context, _, _ string, _ *wechat.Error, now time.Time) time.Time {
	_ = w.note("quotaSpent")
	return now.Add(6 * time.Hour)
}

func (w *world) Passed(context.Context, string, string) { _ = w.note("passed") }

func (w *world) Reserve(context.Context, message.AppID, message.OpenID, message.ID, time.Time) (Window, error) {
	if err := w.note("looked"); err != nil || w.window != WindowOpen {
		return w.window, err
	}
	return w.window, w.note("reserve")
}

func (w *world) Spend(ctx context.Context, _ message.AppID, _ message.OpenID, _ message.ID, _ time.Time) (Window, error) {
	live(ctx, "spent")
	return w.windowThen, w.note("spend")
}

func (w *world) Withdraw(ctx context.Context, _ message.AppID, _ message.OpenID, _ message.ID) error {
	live(ctx, "withdrawn")
	return w.note("withdraw")
}

func (w *world) Release(ctx context.Context, _ message.AppID, _ message.OpenID, _ message.ID) error {
	live(ctx, "released")
	return w.note("release")
}

func (w *world) Refused(_ context.Context, _ message.AppID, _ message.OpenID, code int, _ time.Time) error {
	return w.note("windowRefused %d", code)
}

func (w *world) Take(context.Context, message.AppID, string, message.Lane, time.Duration) (QuotaToken, error) {
	err := w.note("take")
	if refused := next(&w.noQuota); refused != nil {
		err = refused
	}
	if err != nil {
		return nil, err
	}
	t := &take{w: w}
	w.takes = append(w.takes, t)
	return t, nil
}

func (w *world) Slow(context.Context, message.AppID, string) error { return w.note("slow") }

func (t *take) Ready(context.Context) error { return next(&t.w.notReady) }
func (t *take) Spent()                      { t.spent++ }

func (t *take) Return(ctx context.Context) {
	live(ctx, "returned")
	t.returned++
}

func (w *world) Token(context.Context, message.AppID) (wechat.Token, error) {
	return wechat.Token{Value: wechat.NewSecret("first"), Gen: 1}, errors.Join(w.noToken, w.note("token"))
}

func (w *world) Refresh(_ context.Context, _ message.AppID, refused wechat.Token) (wechat.Token, error) {
	if refused.Gen != 1 {
		panic("a token was refreshed that nobody refused")
	}
	return wechat.Token{Value: wechat.NewSecret("second"), Gen: 2}, errors.Join(w.noRefresh, w.note("refresh"))
}

func (w *world) Claim(ctx context.Context, _ *Attempt) (Claim, error) {
	live(ctx, "claimed")
	return w.claim, w.note("claim")
}

func (w *world) answer(ctx context.Context, c call) wechat.Result {
	live(ctx, "sent")
	w.calls = append(w.calls, c)
	_ = w.note("call")
	return w.results[min(len(w.calls), len(w.results))-1]
}

func (w *world) SendTemplate(ctx context.Context, t wechat.Token, to message.OpenID, id string, body []byte) wechat.Result {
	return w.answer(ctx, call{wechat.PathTemplate, t.Value.Reveal(), to, nil, id, string(body)})
}

func (w *world) SendSubscribe(ctx context.Context, t wechat.Token, to message.OpenID, body []byte) wechat.Result {
	return w.answer(ctx, call{wechat.PathSubscribe, t.Value.Reveal(), to, nil, "", string(body)})
}

func (w *world) SendCustom(ctx context.Context, t wechat.Token, to message.OpenID, body []byte) wechat.Result {
	return w.answer(ctx, call{wechat.PathCustom, t.Value.Reveal(), to, nil, "", string(body)})
}

func (w *world) SendMass(ctx context.Context, t wechat.Token, to []message.OpenID, id string, body []byte) wechat.Result {
	return w.answer(ctx, call{wechat.PathMassSend, t.Value.Reveal(), "", to, id, string(body)})
}

// What WeChat, or the way to it, may answer.
var (
	accepted = wechat.Result{Class: wechat.Sent, Connected: true, MsgID: 7}
	lost     = wechat.Result{Class: wechat.Ambiguous, Connected: true, Err: errors.New("connection reset")}
	strict   = wechat.Result{Class: wechat.Ambiguous, Connected: true, Err: &wechat.Error{Code: -1, Msg: "system error"}}
	noDial   = wechat.Result{Class: wechat.NotSent, Err: errors.New("connection refused")}
)

// refusal is what the client makes of an errcode.
func refusal(k message.Kind, code int) wechat.Result {
	r := wechat.Result{
		Class: wechat.NotSent, Connected: true,
		Err: &wechat.Error{API: wechat.PathOf(k), Code: code, Msg: "refused", RID: "rid-1"},
	}
	if k == message.Mass && (code == 45065 || code == 89504 || code == 89505) {
		r.Class = wechat.Sent
	}
	return r
}

// words is an outcome and its effects in short, such as "failed refused_recipient +suppress".
func words(o outcome.Outcome, e Effects) string {
	s := strings.TrimSpace(string(o.Status) + " " + string(o.Reason))
	if e.Suppress {
		s += strings.TrimRight(" +suppress "+e.TemplateID, " ")
	}
	for name, there := range map[string]bool{" +fallback": e.Fallback != nil, " +doubt": e.Doubt, " +refund": e.RefundMass} {
		if there {
			s += name // at most one of them at a time, or the tests would flicker
		}
	}
	return s
}
