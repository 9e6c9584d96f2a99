package wechattest

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// An Account is one Official Account in the simulator. Its methods are safe for concurrent use.
type Account struct {
	sim    *Sim
	number uint16 // in the accept log
	set    atomic.Pointer[settings]
	change sync.Mutex // of set
	tokens tokens
	meters []meter // by endpoint.meter

	mu         sync.Mutex
	users      map[string]*user
	order      []*user // in the order in which they came: the order of user/get
	duplicates duplicates
	mass       massState
	media      map[string]medium
	clears     int // of the quota, in clearedIn
	clearedIn  month
}

// A user of an account, known by its openid.
type user struct {
	openid    string
	follows   bool
	refuses   bool // refuses messages: 43101
	blocks    bool // likewise, but only the receipt says so
	blacklist bool // the account has put the user on its blacklist: 43019
	tags      []int64
	windows   *windows
	paid      map[string]int // permissions for subscription notifications, by template; below 0: long-term
	spoke     time.Time      // the last exchange, for typing
	typing    time.Time      // until when the account shows as typing
	massMonth month
	massCount int // mass messages received in massMonth
	closed    int // sends refused with 45015 or 45047
}

// Settings are a copy of the account's settings.
func (a *Account) Settings() Settings { return a.set.Load().Settings.clone() }

// Change changes the account's settings; calls that are under way keep the old ones.
func (a *Account) Change(f func(*Settings)) error {
	return a.changed(func(s *Settings) error {
		f(s)
		return nil
	})
}

func (a *Account) changed(f func(*Settings) error) error {
	a.change.Lock()
	defer a.change.Unlock()
	s := a.Settings()
	if err := f(&s); err != nil {
		return err
	}
	if old := a.set.Load(); s.AppID != old.AppID {
		return fmt.Errorf("account %s: the appid cannot change", old.AppID)
	}
	ready, err := s.ready(a.sim.pathOf)
	if err != nil {
		return err
	}
	a.set.Store(ready)
	return nil
}

// AddFollowers makes followers of the openids, without opening a window.
func (a *Account) AddFollowers(openids ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, id := range openids {
		a.user(id).follows = true
	}
}

// Tag puts a tag on users.
func (a *Account) Tag(tag int64, openids ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, id := range openids {
		if u := a.user(id); !slices.Contains(u.tags, tag) {
			u.tags = append(u.tags, tag)
		}
	}
}

// user is the user of an openid, made if it is new. It needs a.mu.
func (a *Account) user(openid string) *user {
	u := a.users[openid]
	if u == nil {
		u = &user{openid: openid, follows: a.set.Load().AnyOpenID}
		a.users[openid] = u
		a.order = append(a.order, u)
	}
	return u
}

// Permit gives n permissions for subscription notifications of a template (一次性订阅); below 0 gives a
// lasting one (长期订阅).
func (a *Account) Permit(openid, template string, n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	u := a.user(openid)
	if u.paid == nil {
		u.paid = map[string]int{}
	}
	switch {
	case n < 0:
		u.paid[template] = -1
	case u.paid[template] >= 0:
		u.paid[template] += n
	}
}

// SetUsed sets what WeChat has counted of an API today, as if another consumer had called it.
func (a *Account) SetUsed(api string, n int64) error {
	m, err := a.meter(api)
	if err != nil {
		return err
	}
	m.setUsed(n, a.sim.Clock.Now())
	return nil
}

// Used is what WeChat has counted of an API today.
func (a *Account) Used(api string) int64 {
	m, err := a.meter(api)
	if err != nil {
		return 0
	}
	return m.usage(a.sim.Clock.Now())
}

// Calls are the witness's counts of an API, given by its path or the end of it ("template/send"). An
// unknown API panics.
func (a *Account) Calls(api string) Calls {
	m, err := a.meter(api)
	if err != nil {
		panic("wechattest: " + err.Error())
	}
	return m.calls()
}

// WindowRefusals is how often sends to a user were refused with 45015 or 45047.
func (a *Account) WindowRefusals(openid string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if u := a.users[openid]; u != nil {
		return u.closed
	}
	return 0
}

func (a *Account) meter(api string) (*meter, error) {
	path, err := a.sim.pathOf(api)
	if err != nil {
		return nil, err
	}
	return &a.meters[a.sim.routes[path].meter], nil
}
