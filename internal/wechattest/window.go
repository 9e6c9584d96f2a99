package wechattest

import "time"

// A Trigger is what a user does that lets the account answer by customer-service messages.
type Trigger string

// The triggers of the window table (/doc/service/api/customer/message/api_sendcustommessage).
const (
	ByMessage Trigger = "message" // 用户发送消息
	ByMenu    Trigger = "menu"    // 点击自定义菜单 (click, scancode_push, scancode_waitmsg), or an item of a msgmenu
	ByFollow  Trigger = "follow"  // 关注
	ByScan    Trigger = "scan"    // 扫描二维码
	ByPay     Trigger = "pay"     // 支付成功
)

var triggers = []Trigger{ByMessage, ByMenu, ByFollow, ByScan, ByPay}

// An Allowance is how many messages a trigger allows, and for how long. Messages below 0 is without
// number; 0 is none.
type Allowance struct {
	Messages int           `yaml:"messages"`
	For      time.Duration `yaml:"for"`
}

// DefaultWindow is the newest window table. Of 支付成功 the pages disagree: it is off.
func DefaultWindow() map[Trigger]Allowance {
	return map[Trigger]Allowance{
		ByMessage: {5, 48 * time.Hour},
		ByMenu:    {3, time.Minute},
		ByFollow:  {3, time.Minute},
		ByScan:    {3, time.Minute},
		ByPay:     {0, 0},
	}
}

// Combine selects how the allowances of several actions combine. The pages say nothing of official
// accounts; for mini programs they say that allowances do not add up.
type Combine string

// The rules; the zero value is Separate.
const (
	Separate Combine = "separate" // each trigger has its own allowance, renewed by its next action
	Maximum  Combine = "maximum"  // mini programs: an action sets the count to its own and the end to the longest
)

// windows are what one user's actions allow.
type windows struct {
	open [5]allowed // by trigger; only the first under Maximum
}

type allowed struct {
	left  int // below 0: without number
	until time.Time
}

// act opens the window of an action at the time at.
func (w *windows) act(t Trigger, a Allowance, rule Combine, at time.Time) {
	if a.Messages == 0 {
		return
	}
	until := at.Add(a.For)
	if rule == Maximum {
		if w.open[0].until.After(until) {
			until = w.open[0].until
		}
		w.open[0] = allowed{a.Messages, until}
		return
	}
	for i := range triggers {
		if triggers[i] == t {
			w.open[i] = allowed{a.Messages, until}
		}
	}
}

// take uses up one message of the window that ends first and has room. It gives 45015 if no window is
// open and 45047 if none of the open ones has room.
func (w *windows) take(now time.Time) int {
	best, code := -1, outOfTime
	for i, a := range w.open {
		if !now.Before(a.until) {
			continue
		}
		if a.left == 0 {
			code = max(code, outOfCount)
			continue
		}
		if best < 0 || a.until.Before(w.open[best].until) {
			best = i
		}
	}
	if best < 0 {
		return code
	}
	if w.open[best].left > 0 {
		w.open[best].left--
	}
	return 0
}
