package report

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/clock"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
)

// A Gate stands before an API of an account.
type Gate struct {
	Account string    `json:"account"`
	API     string    `json:"api"` // empty: the whole account
	State   string    `json:"state"`
	Reason  string    `json:"reason,omitempty"`
	ErrCode int       `json:"errcode,omitempty"`
	Detail  string    `json:"detail,omitempty"`
	Since   time.Time `json:"since"`
	Until   time.Time `json:"until,omitzero"`
}

// Shut lists the gates that are not open.
func Shut(ctx context.Context, store *postgres.Store) ([]Gate, error) {
	gates, err := store.Gates(ctx)
	if err != nil {
		return nil, err
	}
	views := []Gate{}
	for _, g := range gates {
		if g.State == postgres.GateOpen || g.State == postgres.GateClosed && !g.Until.After(clock.Now()) {
			continue
		}
		views = append(views, Gate{g.Account, g.API, g.State, g.Reason, g.ErrCode, g.Detail, g.Since, g.Until})
	}
	return views, nil
}

// ByHand is how long a gate stays closed that was closed without an end: until a person opens it.
var ByHand = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// Until is when a closed gate opens, for people.
func Until(t time.Time) string {
	if t.Equal(ByHand) {
		return "opened by hand"
	}
	return Clock(t)
}

// WholeAccount stands for all APIs of an account.
const WholeAccount = "all"

// APIName is how people call an API: by the kind of message where there is one.
func APIName(path string) string {
	if path == "" {
		return WholeAccount
	}
	for _, kind := range message.Kinds() {
		if wechat.PathOf(kind) == path {
			return string(kind)
		}
	}
	return path
}

// ParseAPI reads what APIName writes, or the path of a kind's call. No gate stands before another.
func ParseAPI(name string) (string, error) {
	switch {
	case name == WholeAccount:
		return "", nil
	case name == wechat.PathMassSend: // both calls of mass share a gate
		return wechat.PathOf(message.Mass), nil
	}
	for _, kind := range message.Kinds() {
		if path := wechat.PathOf(kind); name == string(kind) || name == path {
			return path, nil
		}
	}
	return "", fmt.Errorf("API %q: want template, subscribe, custom, mass, all, or the path of one of their calls, such as %s", name, wechat.PathCustom)
}

// BringForward makes what waits behind the gate due, some at a time: others write to the same list.
func BringForward(ctx context.Context, store *postgres.Store, account, api string) (due int64, err error) {
	const some = 5000
	kinds := kindsBehind(api)
	for {
		n, err := store.BringForward(ctx, account, kinds, some)
		due += n
		if err != nil || n < some {
			return due, err
		}
	}
}

// kindsBehind are the kinds of message that an API sends; the whole account sends all.
func kindsBehind(api string) []message.Kind {
	return slices.DeleteFunc(message.Kinds(), func(k message.Kind) bool { return api != "" && wechat.PathOf(k) != api })
}
