package wechattest

import (
	"cmp"
	"time"
)

// MassRules are the rules of mass send (群发, /doc/service/guide/product/message/Batch_Sends.html). Zero is
// WeChat's value; below 0 there is no such rule.
type MassRules struct {
	PerDay        int `yaml:"per_day"`          // 订阅号: sends a day; 1
	PerUserMonth  int `yaml:"per_user_month"`   // 服务号: messages that a user gets in a calendar month; 4
	ToAllPerDay   int `yaml:"to_all_per_day"`   // 服务号, is_to_all: 1
	ToAllPerMonth int `yaml:"to_all_per_month"` // 服务号, is_to_all: 4
	MinList       int `yaml:"min_list"`         // openids of mass/send: 2
	MaxList       int `yaml:"max_list"`         // 10,000

	// RetryGap is how soon after the first a second call with its clientmsgid is too fast (45066); then it
	// is 45065 for 24 hours. One minute by the page; users also saw 45065 at once, which is a negative gap.
	RetryGap time.Duration `yaml:"retry_gap"`
	// ChunkGap is how soon after a mass/send the next one answers 42010. Off by default: it was seen only
	// with lists of 10,000 sent at once.
	ChunkGap time.Duration `yaml:"chunk_gap"`
	// JobTime is how long mass/get says SENDING.
	JobTime time.Duration `yaml:"job_time"`
	// Protected is API群发保护: a send to everyone waits for the administrator (89505, then 89504), who has
	// 30 minutes. See [Account.DecideMass].
	Protected bool `yaml:"protected"`
	// ProtectedSilent leaves msg_id out of the answers 89504 and 89505; the pages do not say whether it is
	// there.
	ProtectedSilent bool `yaml:"protected_silent"`
	// Verdict is the Status of every job's MASSSENDJOBFINISH, such as err(30003), in place of send success: nobody
	// gets the message, and mass/get says SEND_FAIL.
	Verdict string `yaml:"verdict"`
	// Articles is how many an mpnews holds; 1.
	Articles int `yaml:"articles"`
}

const (
	clientMsgIDBytes  = 32
	clientMsgIDMemory = 24 * time.Hour
	administratorTime = 30 * time.Minute
	previewsByName    = 100 // a day
)

func (m MassRules) withDefaults() MassRules {
	m.PerDay = cmp.Or(m.PerDay, 1)
	m.PerUserMonth = cmp.Or(m.PerUserMonth, 4)
	m.ToAllPerDay = cmp.Or(m.ToAllPerDay, 1)
	m.ToAllPerMonth = cmp.Or(m.ToAllPerMonth, 4)
	m.MinList = cmp.Or(m.MinList, 2)
	m.MaxList = cmp.Or(m.MaxList, 10_000)
	m.RetryGap = cmp.Or(m.RetryGap, time.Minute)
	m.Articles = cmp.Or(m.Articles, 1)
	return m
}

// massState is what an account has mass-sent. It needs Account.mu.
type massState struct {
	jobs     map[int64]*job
	byClient map[string]*job // by clientmsgid, or by a digest of range and content
	day      day             // of onDay, toAllOnDay, previews
	month    month           // of toAllInMonth
	lastList time.Time
	speed    int64
	most     map[month]int // the most messages any user got in a month

	onDay, toAllOnDay, toAllInMonth, previews int
}

// A job is one mass send that was taken.
type job struct {
	id, dataID int64
	kind       string
	to         string // list:N, tag:ID or all
	clientID   string
	content    uint64
	at         time.Time
	toAll      bool
	users      []*user // followers that the range names
	total      int     // of them
	sent       int     // of them, those who get it
	judged     string  // the Status of a job that was refused after it was taken; empty: none
	waits      bool    // for the administrator
	refused    bool
	deleted    bool
}

func (s *massState) turn(now time.Time) {
	if s.jobs == nil {
		s.jobs, s.byClient, s.most, s.speed = map[int64]*job{}, map[string]*job{}, map[month]int{}, 3
	}
	if d := dayOf(now); d != s.day {
		s.day, s.onDay, s.toAllOnDay, s.previews = d, 0, 0, 0
	}
	if m := monthOf(now); m != s.month {
		s.month, s.toAllInMonth = m, 0
	}
}

// hasQuota judges the caps of the account; those of its users only shorten the list of who gets it.
func (s *massState) hasQuota(set *settings, toAll bool, now time.Time) bool {
	over := func(n, limit int) bool { return limit >= 0 && n >= limit }
	if set.Type == Subscription {
		return !over(s.onDay+s.waiting(now), set.Mass.PerDay)
	}
	if !toAll {
		return true
	}
	waiting := s.waiting(now)
	return !over(s.toAllOnDay+waiting, set.Mass.ToAllPerDay) && !over(s.toAllInMonth+waiting, set.Mass.ToAllPerMonth)
}

// waiting is how many sends the administrator may still allow: they hold their place in the caps.
func (s *massState) waiting(now time.Time) int {
	n := 0
	for _, j := range s.jobs {
		if j.waits && now.Sub(j.at) < administratorTime {
			n++
		}
	}
	return n
}

// deliver counts the job and gives it to every user who may have it.
func (s *massState) deliver(j *job, set *settings, now time.Time) {
	s.turn(now)
	s.onDay++
	if j.toAll {
		s.toAllOnDay++
		s.toAllInMonth++
	}
	limit := set.Mass.PerUserMonth
	if set.Type == Subscription {
		limit = -1
	}
	j.total = len(j.users)
	if j.judged != "" {
		j.users = nil
		return
	}
	for _, u := range j.users {
		if u.massMonth != s.month {
			u.massMonth, u.massCount = s.month, 0
		}
		if !u.follows || u.refuses || u.blocks || u.blacklist || limit >= 0 && u.massCount >= limit {
			continue
		}
		u.massCount++
		j.sent++
		s.most[s.month] = max(s.most[s.month], u.massCount)
	}
	j.users = nil
}

func (j *job) status(set *settings, now time.Time) string {
	switch {
	case j.deleted:
		return "DELETE"
	case j.refused, j.waits && now.Sub(j.at) >= administratorTime:
		return "SEND_FAIL"
	case j.waits, now.Sub(j.at) < set.Mass.JobTime:
		return "SENDING"
	case j.judged != "":
		return "SEND_FAIL"
	default:
		return "SEND_SUCCESS"
	}
}

// verdict is the Status of the job's receipt.
func (j *job) verdict() string { return cmp.Or(j.judged, massSent) }

// DecideMass is the administrator's answer to a protected mass send; false if none waits under the id.
func (a *Account) DecideMass(msgID int64, allow bool) bool {
	now, set := a.sim.Clock.Now(), a.set.Load()
	a.mu.Lock()
	defer a.mu.Unlock()
	j := a.mass.jobs[msgID]
	if j == nil || !j.waits || now.Sub(j.at) >= administratorTime {
		return false
	}
	j.waits, j.refused = false, !allow
	if allow {
		a.mass.deliver(j, set, now)
		a.logMass(j, a.sim.routes[PathMassSendAll], now, nil)
		a.massReceipt(j, set, now, j.verdict(), false)
	} else {
		a.massReceipt(j, set, now, massRefused, false)
	}
	return true
}

// logMass writes a delivered job into the accept log.
func (a *Account) logMass(j *job, ep *endpoint, now time.Time, body []byte) {
	a.sim.log.add(record{
		at: now.UnixNano(), msgID: j.id, dataID: j.dataID, content: j.content,
		recipients: int32(j.sent), account: a.number, api: uint16(ep.number),
	}, []byte(j.to), []byte(j.clientID), body)
	a.meters[ep.meter].accepted(now)
}

// MassReceived is how many mass messages a user got in the clock's month.
func (a *Account) MassReceived(openid string) int {
	m := monthOf(a.sim.Clock.Now())
	a.mu.Lock()
	defer a.mu.Unlock()
	if u := a.users[openid]; u != nil && u.massMonth == m {
		return u.massCount
	}
	return 0
}

// MassMost is the most mass messages that any user got in the month of t.
func (a *Account) MassMost(t time.Time) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.mass.most[monthOf(t)]
}
