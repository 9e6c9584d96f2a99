package wechattest

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A FaultKind is what goes wrong.
type FaultKind string

// The kinds of faults.
const (
	Errcode   FaultKind = "errcode"    // answers Code, such as -1
	Status    FaultKind = "status"     // answers with the HTTP status Code
	HTML      FaultKind = "html"       // answers 200 with a page
	Truncate  FaultKind = "truncate"   // answers 200 with half of the JSON
	HalfReply FaultKind = "half_reply" // closes the connection within the answer
	Drop      FaultKind = "drop"       // closes the connection without an answer
	Reset     FaultKind = "reset"      // the same, by RST
	HangUp    FaultKind = "hang_up"    // answers well and then closes the connection without a word
	Hang      FaultKind = "hang"       // waits For; then goes on as if nothing had been
	Redirect  FaultKind = "redirect"   // answers 307 to Location
)

var faultKinds = []FaultKind{Errcode, Status, HTML, Truncate, HalfReply, Drop, Reset, HangUp, Hang, Redirect}

// A Moment says on which side of the acceptance a fault strikes.
type Moment string

// The moments. What strikes Before leaves the call undecided (a hang goes on to the decision after its
// time); what strikes After hits only calls that were answered 0, whose send stands in the log.
const (
	Before Moment = "before"
	After  Moment = "after"
)

// A Fault is a rule that strikes calls. It strikes those that match API and AppID (empty: all), after the
// first Skip of them: each if nothing more is said, every Every-th, with probability Chance, and no more
// than Next of them.
type Fault struct {
	Kind     FaultKind     `yaml:"kind" json:"kind"`
	When     Moment        `yaml:"when" json:"when"` // default Before; HangUp is always After
	API      string        `yaml:"api" json:"api,omitempty"`
	AppID    string        `yaml:"appid" json:"appid,omitempty"`
	Code     int           `yaml:"code" json:"code,omitempty"` // errcode (default -1) or HTTP status (default 502)
	For      time.Duration `yaml:"for" json:"for,omitempty"`
	Location string        `yaml:"location" json:"location,omitempty"` // default: the same address again
	Skip     int64         `yaml:"skip" json:"skip,omitempty"`
	Every    int64         `yaml:"every" json:"every,omitempty"`
	Chance   float64       `yaml:"chance" json:"chance,omitempty"`
	Next     int64         `yaml:"next" json:"next,omitempty"`
}

// faults are the rules in force. Without rules a call pays one atomic load.
type faults struct {
	any    atomic.Bool
	mu     sync.Mutex
	nextID int
	rules  []*rule
}

type rule struct {
	Fault
	id     int
	seen   int64
	struck int64
}

// Inject adds a fault and gives its number for [Sim.Heal]. Rules are asked in the order of their coming;
// the first that strikes wins.
func (s *Sim) Inject(f Fault) (int, error) {
	if !slices.Contains(faultKinds, f.Kind) {
		return 0, fmt.Errorf("fault: kind %q is none of %v", f.Kind, faultKinds)
	}
	switch {
	case f.When == "":
		if f.When = Before; f.Kind == HangUp {
			f.When = After
		}
	case f.When == Before && f.Kind == HangUp:
		return 0, fmt.Errorf("fault: hang_up answers well, so it is always after")
	case f.When != Before && f.When != After:
		return 0, fmt.Errorf("fault: when %q is neither before nor after", f.When)
	}
	if f.Chance < 0 || f.Chance > 1 || f.Every < 0 || f.Next < 0 || f.Skip < 0 || f.For < 0 {
		return 0, fmt.Errorf("fault: chance is from 0 to 1; for, skip, every and next are not negative")
	}
	if f.API != "" {
		path, err := s.pathOf(f.API)
		if err != nil {
			return 0, fmt.Errorf("fault: %w", err)
		}
		f.API = path
	}
	if f.Code == 0 {
		f.Code = systemBusy
		if f.Kind == Status {
			f.Code = 502
		}
	}
	if f.Kind == Status && (f.Code < 100 || f.Code > 999) {
		return 0, fmt.Errorf("fault: %d is no HTTP status", f.Code)
	}
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.nextID++
	s.faults.rules = append(s.faults.rules, &rule{Fault: f, id: s.faults.nextID})
	s.faults.any.Store(true)
	return s.faults.nextID, nil
}

// MustInject is Inject for a fault that is known to be well-formed; it panics where it is not.
func (s *Sim) MustInject(f Fault) int {
	id, err := s.Inject(f)
	if err != nil {
		panic("wechattest: " + err.Error())
	}
	return id
}

// Heal takes faults away: those with the numbers, or all if none is given.
func (s *Sim) Heal(ids ...int) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.rules = slices.DeleteFunc(s.faults.rules, func(r *rule) bool {
		return len(ids) == 0 || slices.Contains(ids, r.id)
	})
	s.faults.any.Store(len(s.faults.rules) > 0)
}

// Struck is how often a fault that is still in force struck.
func (s *Sim) Struck(id int) int64 {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	for _, r := range s.faults.rules {
		if r.id == id {
			return r.struck
		}
	}
	return 0
}

func (fs *faults) list() []FaultState {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	all := make([]FaultState, 0, len(fs.rules))
	for _, r := range fs.rules {
		all = append(all, FaultState{r.id, r.struck, r.Fault})
	}
	return all
}

// draw is the fault that strikes the call at this moment, nil mostly.
func (fs *faults) draw(c *call, when Moment) *Fault {
	if !fs.any.Load() {
		return nil
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, r := range fs.rules {
		if r.When == when && r.matches(c) && r.strikes(c.sim) {
			return &r.Fault
		}
	}
	return nil
}

func (r *rule) matches(c *call) bool {
	if r.API != "" && r.API != c.ep.path {
		return false
	}
	return r.AppID == "" || r.AppID == c.appID()
}

func (r *rule) strikes(s *Sim) bool {
	r.seen++
	n := r.seen - r.Skip
	switch {
	case n <= 0, r.Next > 0 && r.struck >= r.Next, r.Every > 0 && n%r.Every != 0:
		return false
	case r.Chance > 0:
		s.randMu.Lock()
		defer s.randMu.Unlock()
		if s.rand.Float64() >= r.Chance {
			return false
		}
	}
	r.struck++
	return true
}

// appID is the account that the call is about; a token call names it itself.
func (c *call) appID() string {
	switch {
	case c.account != nil:
		return c.set.AppID
	case c.ep.path == PathStableToken:
		return string(text(field(c.validBody(), "appid")))
	default:
		return param(c.query, "appid")
	}
}

func (c *call) validBody() []byte {
	if validObject(c.body) {
		return c.body
	}
	return nil
}
