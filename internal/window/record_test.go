package window

import (
	"strconv"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

// start is the second at which the tests' stories begin.
const start = int64(1_764_000_000)

const (
	minute = int64(60)
	hour   = 60 * minute
)

// story tells a record what happens, second by second after start.
type story struct {
	t  *testing.T
	r  record
	ts terms
	n  byte
}

func tell(t *testing.T) *story { return &story{t: t, ts: DefaultRules().terms()} }

func (s *story) event(t Trigger, at int64) { raise(&s.r.events[t.place()], start+at) }

func raise(mark *int64, at int64) { *mark = max(*mark, at) }

// wants reserves for the message at the second, and checks the answer.
func (s *story) wants(state State, id message.ID, at int64) ruling {
	s.t.Helper()
	got := s.r.reserve(id, start+at, s.ts)
	if got.state != state {
		s.t.Errorf("at second %d: got %s, want %s", at, got.state, state)
	}
	return got
}

// answers sends n answers, one a second, that must all be allowed.
func (s *story) answers(n int, at int64) {
	s.t.Helper()
	for i := range int64(n) {
		id := s.id()
		if got := s.r.reserve(id, start+at+i, s.ts); got.state != Open {
			s.t.Fatalf("answer %d of %d at second %d: got %s, want open", i+1, n, at+i, got.state)
		}
		s.r.confirm(id, start+at+i)
	}
}

func (s *story) id() message.ID {
	s.n++
	return message.ID{15: s.n}
}

func TestAllowances(t *testing.T) {
	t.Run("a message allows 5 answers", func(t *testing.T) {
		s := tell(t)
		s.event(Message, 0)
		s.answers(5, 1)
		s.wants(Used, s.id(), 10)
	})
	t.Run("a message's allowance ends a minute before 48 hours", func(t *testing.T) {
		s := tell(t)
		s.event(Message, 0)
		if got, want := s.wants(Open, s.id(), 48*hour-minute-1).until, start+48*hour-minute; got != want {
			t.Errorf("until %d, want %d", got, want)
		}
		s.wants(Closed, s.id(), 48*hour-minute)
	})
	for _, action := range []Trigger{Menu, Follow, Scan} {
		t.Run(string(action)+" allows 3 answers in 50 seconds", func(t *testing.T) {
			s := tell(t)
			s.event(action, 0)
			s.answers(3, 1)
			s.wants(Used, s.id(), 49)
			s.wants(Closed, s.id(), 50)
		})
	}
	t.Run("payment opens nothing by default", func(t *testing.T) {
		s := tell(t)
		s.event(Pay, 0)
		s.wants(Closed, s.id(), 1)
	})
	t.Run("payment may be configured as unlimited", func(t *testing.T) {
		rules := DefaultRules()
		rules[Pay] = Allowance{Messages: -1, For: 48 * time.Hour, Margin: time.Minute}
		s := tell(t)
		s.ts = rules.terms()
		s.event(Pay, 0)
		s.answers(200, 1)
		if got, most := len(s.r.sends), int(s.ts.keep()); got > most {
			t.Errorf("the record holds %d answers, want at most %d", got, most)
		}
		if v := s.r.view(start+300, s.ts); v.Buckets[0].Left != -1 {
			t.Errorf("left %d, want -1 for unlimited", v.Buckets[0].Left)
		}
	})
	t.Run("nothing is known of a new user", func(t *testing.T) {
		s := tell(t)
		s.wants(UnknownUser, s.id(), 0)
	})
}

func TestSeveralActions(t *testing.T) {
	t.Run("the same action again resets its allowance and never adds to it", func(t *testing.T) {
		s := tell(t)
		s.event(Message, 0)
		s.answers(4, 1)
		s.event(Message, 10)
		s.answers(5, 11)
		s.wants(Used, s.id(), 20)
	})
	t.Run("an older action changes nothing", func(t *testing.T) {
		s := tell(t)
		s.event(Message, 100)
		s.answers(5, 101)
		s.event(Message, 50)
		s.wants(Used, s.id(), 110)
	})
	t.Run("answers take from the allowance that expires first", func(t *testing.T) {
		s := tell(t)
		s.event(Message, 0)
		s.event(Menu, 10)
		s.answers(3, 11)
		s.answers(5, 100)
		s.wants(Used, s.id(), 110)
	})
	t.Run("five menu clicks with an answer each leave a message's 5 answers", func(t *testing.T) {
		s := tell(t)
		s.event(Message, 0)
		for click := int64(100); click < 600; click += 100 {
			s.event(Menu, click)
			s.answers(1, click+1)
		}
		s.answers(5, 700)
		s.wants(Used, s.id(), 710)
	})
	t.Run("a click that is heard of late is charged with its answers", func(t *testing.T) {
		s := tell(t)
		s.event(Message, 0)
		s.answers(3, 11)
		s.event(Message, 14)
		s.event(Menu, 10)
		s.answers(5, 15)
		s.wants(Used, s.id(), 21)
	})
	t.Run("answers beyond a late click's allowance stay with the message", func(t *testing.T) {
		s := tell(t)
		s.event(Message, 0)
		s.answers(4, 11)
		s.event(Menu, 10)
		s.answers(4, 15)
		s.wants(Used, s.id(), 21)
	})
}

func TestClosing(t *testing.T) {
	t.Run("unsubscribing closes everything until a newer action", func(t *testing.T) {
		s := tell(t)
		s.event(Message, 0)
		raise(&s.r.unsubscribed, start+10)
		s.wants(Closed, s.id(), 11)
		s.event(Follow, 20)
		s.answers(3, 21)
		s.wants(Used, s.id(), 25)
	})
	t.Run("45015 closes until a newer action", func(t *testing.T) {
		s := tell(t)
		s.event(Message, 0)
		raise(&s.r.outOfTime, start+10)
		s.wants(Closed, s.id(), 11)
		s.event(Message, 5) // known late, and WeChat refused after it
		s.wants(Closed, s.id(), 12)
		s.event(Message, 10+skewSeconds) // may be older by the other clock
		s.wants(Closed, s.id(), 13)
		s.event(Message, 10+skewSeconds+1)
		s.wants(Open, s.id(), 14)
	})
	t.Run("45047 uses up until a newer action", func(t *testing.T) {
		s := tell(t)
		s.event(Message, 0)
		s.event(Menu, 9)
		raise(&s.r.outOfCount, start+10)
		s.wants(Used, s.id(), 11)
		s.event(Menu, 20)
		s.answers(3, 21)
		s.wants(Used, s.id(), 25)
	})
	t.Run("a refusal of a user of whom nothing is known closes, so that one try is all", func(t *testing.T) {
		s := tell(t)
		raise(&s.r.outOfTime, start)
		s.wants(Closed, s.id(), 1)
	})
}

func TestSlots(t *testing.T) {
	t.Run("a message that holds a slot takes no other", func(t *testing.T) {
		s := tell(t)
		s.event(Menu, 0)
		s.answers(2, 1)
		last := s.id()
		s.wants(Open, last, 5)
		if got := s.wants(Open, last, 6); !got.held {
			t.Error("held false, want true")
		}
		s.wants(Used, s.id(), 7)
	})
	t.Run("a held slot lapses after 120 s", func(t *testing.T) {
		s := tell(t)
		s.event(Message, 0)
		s.answers(4, 1)
		s.wants(Open, s.id(), 10)
		s.wants(Used, s.id(), 129)
		s.wants(Open, s.id(), 130)
	})
	t.Run("reserving again holds for another 120 s", func(t *testing.T) {
		s := tell(t)
		s.event(Message, 0)
		s.answers(4, 1)
		last := s.id()
		s.wants(Open, last, 10)
		s.wants(Open, last, 100)
		s.wants(Used, s.id(), 219)
	})
	t.Run("a confirmed slot stays", func(t *testing.T) {
		s := tell(t)
		s.event(Message, 0)
		s.answers(5, 1)
		s.wants(Used, s.id(), 40*hour)
	})
	t.Run("a released slot is free, and releasing is idempotent", func(t *testing.T) {
		s := tell(t)
		s.event(Menu, 0)
		s.answers(2, 1)
		id := s.id()
		s.wants(Open, id, 5)
		s.r.release(id)
		s.r.release(id)
		s.answers(1, 6)
		s.wants(Used, s.id(), 7)
	})
	t.Run("a confirmed slot is not released", func(t *testing.T) {
		s := tell(t)
		s.event(Menu, 0)
		id := s.id()
		s.wants(Open, id, 1)
		s.r.confirm(id, start+2)
		s.r.release(id)
		s.answers(2, 3)
		s.wants(Used, s.id(), 8)
	})
	t.Run("a slot confirmed after it lapsed counts", func(t *testing.T) {
		s := tell(t)
		s.event(Message, 0)
		id := s.id()
		s.wants(Open, id, 1)
		s.r.confirm(id, start+200)
		s.answers(4, 201)
		s.wants(Used, s.id(), 210)
	})
	t.Run("a message whose click is over moves to another allowance", func(t *testing.T) {
		s := tell(t)
		s.event(Message, 0)
		s.event(Menu, 0)
		id := s.id()
		s.wants(Open, id, 1)
		if got := s.wants(Open, id, 70); !got.held || got.until != start+48*hour-minute {
			t.Errorf("got held %t until %d, want its slot exchanged for one of the message", got.held, got.until)
		}
		s.answers(4, 71)
		s.wants(Used, s.id(), 80)
	})
	t.Run("where our clock is behind, an answer still comes after its action", func(t *testing.T) {
		s := tell(t)
		s.event(Menu, 2)
		s.answers(1, 0)
		s.answers(1, 0)
		s.answers(1, 0)
		s.wants(Used, s.id(), 0)
	})
	t.Run("answers confirmed without a reservation count", func(t *testing.T) {
		s := tell(t)
		for i := range int64(3) {
			s.r.confirm(s.id(), start+10+i)
		}
		s.event(Message, 0)
		s.answers(2, 20)
		s.wants(Used, s.id(), 30)
	})
}

func TestCheckNamesTheRule(t *testing.T) {
	if err := DefaultRules().Check(); err != nil {
		t.Errorf("the default rules: %v", err)
	}
	for i, r := range []Rules{
		{"click": {Messages: 1, For: time.Minute}},
		{Menu: {Messages: 1, For: 1500 * time.Millisecond}},
		{Menu: {Messages: 1, For: -time.Second}},
		{Menu: {Messages: 1, For: time.Minute, Margin: time.Minute}},
		{Menu: {Messages: MaxMessages + 1, For: time.Minute}},
		{Menu: {Messages: 1, For: time.Minute, Margin: -time.Second}},
	} {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			if err := r.Check(); err == nil {
				t.Errorf("%v: got no error, want one", r)
			}
		})
	}
}
