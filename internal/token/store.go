package token

import (
	"context"
	_ "embed" // the scripts
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
)

var (
	//go:embed see.lua
	seeSource string
	//go:embed store.lua
	storeSource string
	//go:embed refuse.lua
	refuseSource string
	//go:embed force.lua
	forceSource string

	seeScript    = redis.NewScript(seeSource)
	storeScript  = redis.NewScript(storeSource)
	refuseScript = redis.NewScript(refuseSource)
	forceScript  = redis.NewScript(forceSource)
)

// keys are an account's keys in Redis; {appid} keeps them in one slot.
type keys struct{ token, refusal, lock, forced string }

func keysOf(app message.AppID, secretName string) keys {
	prefix := "hongyan:token:{" + string(app) + "}:" + secretName
	return keys{token: prefix, refusal: prefix + ":refusal", lock: prefix + ":lock", forced: prefix + ":forced"}
}

// A shelf is where an account's token lies for all pods.
type shelf struct {
	rdb  redis.UniversalClient
	keys keys
	seal *sealer
}

// A view is what lay on the shelf.
type view struct {
	locked    bool         // the lock is ours now
	gen       int64        // of the stored token; 0: none
	token     wechat.Token // zero if there is none, or it does not open
	due       time.Time    // when it should be renewed
	refusal   string       // why the last token call failed; empty: it did not, or long ago
	refusedTo time.Time
}

// A wish is what a caller of see wants beyond a look.
type wish struct {
	owner   string // of the lock to take; empty: look only
	beyond  int64  // generation that is not good enough
	ifDue   bool   // refresh only a token that is due
	lockFor time.Duration
}

func (s *shelf) see(ctx context.Context, w wish) (view, error) {
	start := time.Now() // before Redis counts: what we add to it ends early, never late
	r, err := seeScript.Run(ctx, s.rdb, []string{s.keys.token, s.keys.refusal, s.keys.lock},
		w.owner, w.beyond, flag(w.ifDue), w.lockFor.Milliseconds()).Slice()
	if err != nil {
		return view{}, fmt.Errorf("look up the token: %w", err)
	}
	var v view
	var locked, lives, due, refusedFor int64
	var sealed string
	if err := scan(r, &locked, &v.gen, &sealed, &lives, &due, &v.refusal, &refusedFor); err != nil {
		return view{}, fmt.Errorf("look up the token: %w", err)
	}
	v.locked = locked == 1
	v.due = start.Add(time.Duration(due) * time.Millisecond)
	v.refusedTo = start.Add(time.Duration(refusedFor) * time.Millisecond)
	if lives > 0 {
		if value, err := s.seal.open(sealed); err == nil {
			v.token = wechat.Token{Value: value, Gen: v.gen, ExpiresAt: start.Add(time.Duration(lives) * time.Millisecond)}
		}
	}
	return v, nil
}

// An entry is a token to store.
type entry struct {
	owner  string // of the lock
	read   int64  // generation that stood there when the lock was taken
	token  wechat.Secret
	lives  time.Duration
	due    time.Duration
	beyond int64 // generation that the new one must exceed
	same   bool  // it is the token that stands there: its generation stays
}

// store writes a token fetched under the lock; gen 0 says that somebody else wrote first.
func (s *shelf) store(ctx context.Context, e entry) (gen int64, err error) {
	gen, err = storeScript.Run(ctx, s.rdb, []string{s.keys.token, s.keys.refusal, s.keys.lock},
		e.owner, e.read, s.seal.seal(e.token), e.lives.Milliseconds(), e.due.Milliseconds(), e.beyond, flag(e.same)).Int64()
	if err != nil {
		return 0, fmt.Errorf("store the token: %w", err)
	}
	return gen, nil
}

// refuse remembers for all pods why a token call failed, and frees the lock.
func (s *shelf) refuse(ctx context.Context, owner, refusal string, lives time.Duration) error {
	err := refuseScript.Run(ctx, s.rdb, []string{s.keys.refusal, s.keys.lock}, owner, refusal, lives.Milliseconds()).Err()
	if err != nil {
		return fmt.Errorf("store the refusal: %w", err)
	}
	return nil
}

// Forgive forgets a refusal of the account's token call, so that the next call is made at once: for whoever has just
// mended its cause.
func Forgive(ctx context.Context, rdb redis.UniversalClient, app message.AppID, secret wechat.Secret) error {
	seal, err := newSealer(app, secret)
	if err != nil {
		return fmt.Errorf("forget the refusal: %w", err)
	}
	if err := rdb.Del(ctx, keysOf(app, seal.name).refusal).Err(); err != nil {
		return fmt.Errorf("forget the refusal: %w", err)
	}
	return nil
}

// The answers of force.
const (
	forceTaken = iota
	forceTooSoon
	forceSpent
)

// force takes one of the day's forced refreshes, if it may.
func (s *shelf) force(ctx context.Context, perDay int, gap time.Duration) (int, error) {
	n, err := forceScript.Run(ctx, s.rdb, []string{s.keys.forced}, perDay, gap.Milliseconds()).Int()
	if err != nil {
		return 0, fmt.Errorf("count a forced refresh: %w", err)
	}
	return n, nil
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

// scan copies a script's answer into variables.
func scan(values []any, to ...any) error {
	if len(values) != len(to) {
		return errors.New("the script answered with another form")
	}
	for i, v := range values {
		switch p := to[i].(type) {
		case *int64:
			n, ok := v.(int64)
			if !ok {
				return errors.New("the script answered with another form")
			}
			*p = n
		case *string:
			*p, _ = v.(string)
		}
	}
	return nil
}
