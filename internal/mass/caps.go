package mass

import (
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

// Bounds of a list of users, by WeChat.
const (
	MinList = 2
	MaxList = 10_000
)

// NoCap is a cap that does not exist; 0 is one that allows nothing.
const NoCap = -1

// Caps are the mass-send caps of one account.
type Caps struct {
	PerDay       int  // calls of the account, whatever the scope
	AllPerDay    int  // calls to everyone
	AllPerMonth  int  // calls to everyone
	UserPerMonth int  // sends that one user receives
	Observe      bool // count, and leave the refusing to WeChat
}

// DefaultCaps are WeChat's caps as of 2026-11-22.
func DefaultCaps(t message.AccountType) Caps {
	if t == message.SubscriptionAccount {
		return Caps{PerDay: 1, AllPerDay: NoCap, AllPerMonth: NoCap, UserPerMonth: NoCap}
	}
	return Caps{PerDay: NoCap, AllPerDay: 1, AllPerMonth: 4, UserPerMonth: 4}
}

// A Scope is to whom a mass send goes.
type Scope string

// The scopes.
const (
	List Scope = "list" // named users
	Tag  Scope = "tag"  // everyone with one tag
	All  Scope = "all"  // everyone
)

// CanSend says whether WeChat lets an account of the type send to the scope: lists are for service accounts.
func CanSend(t message.AccountType, s Scope) bool {
	return s != List || t == message.ServiceAccount
}

// Counts are the sends that hold a cap, of one account, at the day and month of a new one.
type Counts struct {
	Day      int // calls of the day, whatever the scope
	AllDay   int // to everyone, of the day
	AllMonth int // to everyone, of the month
	TagMonth int // to the tag in question, of the month
}

// Add is what the counts are after n more sends to s: 1 to reserve, -1 to refund.
func (c Counts) Add(s Scope, n int) Counts {
	c.Day += n
	switch s {
	case All:
		c.AllDay += n
		c.AllMonth += n
	case Tag:
		c.TagMonth += n
	}
	return c
}

// A Cap names the cap that refuses a send.
type Cap string

// The caps.
const (
	AccountDay Cap = "account_day"
	AllDay     Cap = "all_day"
	AllMonth   Cap = "all_month"
	UserMonth  Cap = "user_month"
)

// A Verdict is what [Decide] says of one send.
type Verdict struct {
	OK  bool
	Cap Cap // not OK: the cap that is reached
	// Room is for lists: a user may get the send if the lists of the month reached them fewer than Room times.
	// [NoCap]: any user may.
	Room int
}

// Decide says whether the account may make one more send to s. For a list it also says which users may get it;
// fewer than [MinList] of them make no call. Its caller holds the counts, and reserves them in the same
// transaction.
func Decide(caps Caps, s Scope, n Counts) Verdict {
	if caps.Observe {
		return Verdict{OK: true, Room: NoCap}
	}
	room := NoCap
	if caps.UserPerMonth >= 0 {
		room = max(0, caps.UserPerMonth-n.AllMonth)
	}
	switch {
	case reached(n.Day, caps.PerDay):
		return Verdict{Cap: AccountDay}
	case s == All && reached(n.AllDay, caps.AllPerDay):
		return Verdict{Cap: AllDay}
	case s == All && reached(n.AllMonth, caps.AllPerMonth):
		return Verdict{Cap: AllMonth}
	case room == 0, s == Tag && room > 0 && n.TagMonth >= room:
		return Verdict{Cap: UserMonth} // everyone had as many as a user gets
	}
	return Verdict{OK: true, Room: room}
}

// Opens is when the caps allow a send to s that they refuse at now: on the next day, or in the next month, by Beijing's
// calendar, if nothing else is sent. Zero: they never do.
func Opens(caps Caps, s Scope, n Counts, now time.Time) time.Time {
	tomorrow := message.NextDay(now)
	if MonthOf(tomorrow) == MonthOf(now) && Decide(caps, s, Counts{AllMonth: n.AllMonth, TagMonth: n.TagMonth}).OK {
		return PastBoundary(tomorrow)
	}
	if !Decide(caps, s, Counts{}).OK {
		return time.Time{}
	}
	y, m, _ := message.Beijing(now).Date()
	return PastBoundary(time.Date(y, m+1, 1, 0, 0, 0, 0, tomorrow.Location()))
}

func reached(count, limit int) bool { return limit >= 0 && count >= limit }
