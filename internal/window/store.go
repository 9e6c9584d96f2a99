package window

import (
	"context"
	"crypto/sha256"
	_ "embed" // the scripts
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hongyan-dispatch/hongyan/message"
)

// A Ledger keeps the record of every user in Redis. It may be used by many goroutines, and many Ledgers may
// share one Redis.
//
// Its now is the caller's clock, which should agree with WeChat's within [Skew]; events carry WeChat's own.
type Ledger struct {
	rdb     redis.UniversalClient
	rules   func(message.AppID) Rules
	careful bool
}

// New is a Ledger in rdb. It asks rules at every call, so that they may change while it runs.
func New(rdb redis.UniversalClient, rules func(message.AppID) Rules) *Ledger {
	return &Ledger{rdb: rdb, rules: rules}
}

var (
	//go:embed reserve.lua
	reserveSource string
	//go:embed confirm.lua
	confirmSource string
	//go:embed release.lua
	releaseSource string
	//go:embed raise.lua
	raiseSource string
	//go:embed restore.lua
	restoreSource string

	reserveScript = redis.NewScript(reserveSource)
	confirmScript = redis.NewScript(confirmSource)
	releaseScript = redis.NewScript(releaseSource)
	raiseScript   = redis.NewScript(raiseSource)
	restoreScript = redis.NewScript(restoreSource)
)

// The fields of a record that are no trigger's name. An answer's field is its id, 16 bytes, which no name has.
const fieldUnsubscribed = "unsubscribed"

var (
	fieldOutOfTime  = strconv.Itoa(CodeOutOfTime)
	fieldOutOfCount = strconv.Itoa(CodeOutOfCount)
)

// spare is how much longer a record lives than the longest allowance that it may hold.
const spare = 10 * time.Minute

// Event notes that the user did t at the instant at (WeChat's CreateTime). It may be called in any order and any
// number of times. An event dated after now counts as of now and a little: a forged or foreign clock opens nothing ahead.
func (l *Ledger) Event(ctx context.Context, app message.AppID, openid message.OpenID, t Trigger, at, now time.Time) error {
	if t.place() < 0 {
		return fmt.Errorf("note event: trigger %q: want one of %v", t, Triggers())
	}
	return l.raise(ctx, app, openid, string(t), at, now)
}

// Unsubscribed notes that the user left at the instant at: nothing that was done up to then allows answers any more.
func (l *Ledger) Unsubscribed(ctx context.Context, app message.AppID, openid message.OpenID, at, now time.Time) error {
	return l.raise(ctx, app, openid, fieldUnsubscribed, at, now)
}

// A Note is what was heard of a user.
type Note struct {
	AppID   message.AppID
	OpenID  message.OpenID
	Trigger Trigger // empty: the user left
	At      time.Time
}

// Heard is [Ledger.Event] and [Ledger.Unsubscribed] for many users in one round trip. After an error any of them may be
// noted; repeat all.
func (l *Ledger) Heard(ctx context.Context, notes []Note, now time.Time) error {
	_, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, n := range notes {
			field, err := n.field()
			if err != nil {
				return err
			}
			// The source, not its digest: a pipeline cannot ask whether Redis knows it.
			raiseScript.Eval(ctx, p, []string{key(n.AppID, n.OpenID)}, field, dated(n.At, now), l.lives(n.AppID))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("note %d events: %w", len(notes), err)
	}
	return nil
}

func (n Note) field() (string, error) {
	switch {
	case n.Trigger == "":
		return fieldUnsubscribed, nil
	case n.Trigger.place() < 0:
		return "", fmt.Errorf("trigger %q: want one of %v", n.Trigger, Triggers())
	}
	return string(n.Trigger), nil
}

// dated is when an event counts as of, in seconds: at most a little after now.
func dated(at, now time.Time) int64 {
	if latest := now.Add(Skew); at.After(latest) {
		at = latest
	}
	return at.Unix()
}

// Refused notes that WeChat answered [CodeOutOfTime] or [CodeOutOfCount] at the instant now: the user stays closed, or
// used up, until a newer event. Release the message's slot as well.
func (l *Ledger) Refused(ctx context.Context, app message.AppID, openid message.OpenID, code int, now time.Time) error {
	if code != CodeOutOfTime && code != CodeOutOfCount {
		return fmt.Errorf("note refusal: code %d says nothing about the window", code)
	}
	return l.raise(ctx, app, openid, strconv.Itoa(code), now, now)
}

func (l *Ledger) raise(ctx context.Context, app message.AppID, openid message.OpenID, field string, at, now time.Time) error {
	if at.Unix() <= 0 {
		return fmt.Errorf("note %s: the event has no time", field)
	}
	err := raiseScript.Run(ctx, l.rdb, []string{key(app, openid)}, field, dated(at, now), l.lives(app)).Err()
	if err != nil {
		return fmt.Errorf("note %s: %w", field, err)
	}
	return nil
}

// lives is how many seconds a record lives after it last changed.
func (l *Ledger) lives(app message.AppID) int64 {
	return l.rules(app).terms().longest() + seconds(spare)
}

// Reserve takes a slot for message id, if the user may be answered now. The slot is the message's: reserving again
// keeps it. It lapses [Hold] after the last Reserve unless confirmed. Check and reservation are one step over all
// processes: no allowance is overrun.
func (l *Ledger) Reserve(ctx context.Context, app message.AppID, openid message.OpenID, id message.ID, now time.Time) (Verdict, error) {
	return l.reserve(ctx, app, openid, id, now, 0)
}

// Spend is [Ledger.Reserve] by whoever alone may send the message, right before it does: the slot counts for good. Another
// run of the message may have given the held one back meanwhile, so that it went to another message.
func (l *Ledger) Spend(ctx context.Context, app message.AppID, openid message.OpenID, id message.ID, now time.Time) (Verdict, error) {
	return l.reserve(ctx, app, openid, id, now, 1)
}

func (l *Ledger) reserve(ctx context.Context, app message.AppID, openid message.OpenID, id message.ID, now time.Time, goes int) (Verdict, error) {
	ts := l.rules(app).terms()
	keys := []string{key(app, openid)}
	if l.careful {
		keys = append(keys, restoredKey(app, openid), startKey(app))
	}
	args := make([]any, 0, 7+4*len(triggers))
	args = append(args, now.Unix(), id[:], holdSeconds, skewSeconds, ts.keep(), goes, l.lives(app))
	for i, t := range triggers {
		args = append(args, string(t), ts[i].messages, ts[i].lasts, ts[i].margin)
	}
	answer, err := reserveScript.Run(ctx, l.rdb, keys, args...).Slice()
	if err != nil {
		return Verdict{}, fmt.Errorf("reserve window: %w", err)
	}
	if len(answer) == 4 {
		start, _ := answer[3].(string)
		return Verdict{Lost: start}, nil
	}
	got := make([]int64, len(answer))
	for i := range answer {
		got[i], _ = answer[i].(int64)
	}
	if len(got) != 3 || got[0] < 0 || got[0] >= int64(len(states)) {
		return Verdict{}, fmt.Errorf("reserve window: odd answer %v", got)
	}
	return Verdict{State: states[got[0]], Held: got[1] == 1, Until: instant(got[2])}, nil
}

// states is in the order of the script's answers.
var states = [...]State{Open, Closed, Used, UnknownUser}

// Confirm makes the message's slot count for good: WeChat took it at the instant at, or may have. It is idempotent, and
// a message without a slot is counted too. After the loss of Redis it is how the answers of the last days come back.
func (l *Ledger) Confirm(ctx context.Context, app message.AppID, openid message.OpenID, id message.ID, at time.Time) error {
	err := confirmScript.Run(ctx, l.rdb, []string{key(app, openid)}, at.Unix(), id[:], l.lives(app)).Err()
	if err != nil {
		return fmt.Errorf("confirm window: %w", err)
	}
	return nil
}

// Release gives the message's slot back: it surely was not sent. It is idempotent and leaves a confirmed slot alone.
func (l *Ledger) Release(ctx context.Context, app message.AppID, openid message.OpenID, id message.ID) error {
	return l.release(ctx, app, openid, id, 0)
}

// Withdraw is [Ledger.Release] by whoever took the slot to send the message, and knows that it was not sent.
func (l *Ledger) Withdraw(ctx context.Context, app message.AppID, openid message.OpenID, id message.ID) error {
	return l.release(ctx, app, openid, id, 1)
}

func (l *Ledger) release(ctx context.Context, app message.AppID, openid message.OpenID, id message.ID, taken int) error {
	if err := releaseScript.Run(ctx, l.rdb, []string{key(app, openid)}, id[:], taken).Err(); err != nil {
		return fmt.Errorf("release window: %w", err)
	}
	return nil
}

// Look describes what is known of the user, and takes nothing.
func (l *Ledger) Look(ctx context.Context, app message.AppID, openid message.OpenID, now time.Time) (View, error) {
	r, err := l.read(ctx, app, openid)
	if err != nil {
		return View{}, fmt.Errorf("look at window: %w", err)
	}
	return r.view(now.Unix(), l.rules(app).terms()), nil
}

func (l *Ledger) read(ctx context.Context, app message.AppID, openid message.OpenID) (*record, error) {
	fields, err := l.rdb.HGetAll(ctx, key(app, openid)).Result()
	if err != nil {
		return nil, err
	}
	return recordOf(fields)
}

// recordOf reads a record as it lies in Redis.
func recordOf(fields map[string]string) (*record, error) {
	r := &record{sends: make(map[message.ID]sent)}
	for field, value := range fields {
		if err := r.put(field, value); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (r *record) put(field, value string) (err error) {
	if len(field) == len(message.ID{}) {
		r.sends[message.ID([]byte(field))], err = parseSent(value)
		return err
	}
	var mark *int64
	switch field {
	case fieldUnsubscribed:
		mark = &r.unsubscribed
	case fieldOutOfTime:
		mark = &r.outOfTime
	case fieldOutOfCount:
		mark = &r.outOfCount
	default:
		i := Trigger(field).place()
		if i < 0 {
			return nil // of a newer version
		}
		mark = &r.events[i]
	}
	*mark, err = strconv.ParseInt(value, 10, 64)
	return err
}

// parseSent reads an answer as the scripts write it: seconds, h(eld) or c(onfirmed), place of the trigger from 1, 0 unknown.
func parseSent(value string) (sent, error) {
	n := len(value) - 2
	if n < 1 {
		return sent{}, errors.New("odd answer in a window's record")
	}
	at, err := strconv.ParseInt(value[:n], 10, 64)
	from := int(value[n+1]-'0') - 1
	if err != nil || from < unknownTrigger || from >= len(triggers) {
		return sent{}, errors.New("odd answer in a window's record")
	}
	return sent{at: at, from: from, confirmed: value[n] == 'c'}, nil
}

// key is where a user's record lies. The openid is hashed: it stands in no key.
func key(app message.AppID, openid message.OpenID) string {
	sum := sha256.Sum256([]byte(string(app) + "/" + string(openid)))
	return "hongyan:window:{" + string(app) + "}:" + base64.RawURLEncoding.EncodeToString(sum[:12])
}
