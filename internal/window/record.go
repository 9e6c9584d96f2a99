package window

import (
	"cmp"
	"slices"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

// A record is all that is kept of one user. Times are Unix seconds, as WeChat gives them; 0 is never.
// Every change is a maximum or a union, so that order and repetition do not matter.
type record struct {
	events       [len(triggers)]int64 // the last action of each kind
	unsubscribed int64
	outOfTime    int64 // the last 45015
	outOfCount   int64 // the last 45047
	sends        map[message.ID]sent
}

// sent is one answer of ours: on its way, or gone.
type sent struct {
	at        int64
	from      int // place of the trigger it was granted for, or unknownTrigger
	confirmed bool
}

// unknownTrigger marks an answer that was confirmed without a reservation that we know of.
const unknownTrigger = -1

// terms are Rules as the arithmetic wants them.
type terms [len(triggers)]struct{ messages, lasts, margin int64 }

func (r Rules) terms() terms {
	var ts terms
	for i, t := range triggers {
		a := r[t]
		ts[i].messages, ts[i].lasts, ts[i].margin = int64(a.Messages), seconds(a.For), seconds(a.Margin)
	}
	return ts
}

func seconds(d time.Duration) int64 { return int64(d / time.Second) }

const holdSeconds, skewSeconds = int64(Hold / time.Second), int64(Skew / time.Second)

// longest is the longest time that an action of any kind may count.
func (ts terms) longest() int64 {
	var longest int64
	for _, t := range ts {
		longest = max(longest, t.lasts)
	}
	return longest
}

// lastsFrom is how long an answer may count that was granted for the trigger at place from.
func (ts terms) lastsFrom(from int) int64 {
	if from == unknownTrigger {
		return ts.longest()
	}
	return ts[from].lasts
}

// keep is how many answers a record holds: all that can be charged at once, and some to recognise.
func (ts terms) keep() int64 {
	var sum int64
	for _, t := range ts {
		sum += max(0, t.messages)
	}
	return max(20, sum)
}

func (r *record) confirm(id message.ID, at int64) {
	s, ok := r.sends[id]
	if !ok {
		s.from = unknownTrigger
	}
	if r.sends == nil {
		r.sends = make(map[message.ID]sent)
	}
	r.sends[id] = sent{at: max(s.at, at), from: s.from, confirmed: true}
}

// release takes back what was only held: a confirmed answer stays counted.
func (r *record) release(id message.ID) {
	if !r.sends[id].confirmed {
		delete(r.sends, id)
	}
}

// withdraw takes back whatever there is of the message: whoever was about to send it knows that it was not sent.
func (r *record) withdraw(id message.ID) { delete(r.sends, id) }

// A bucket is the allowance of a user's last action of one kind.
type bucket struct {
	place  int
	at     int64
	over   int64 // WeChat's end: no answer from then on was charged to it
	ends   int64 // ours, earlier by the margin
	limit  int64 // negative: unlimited
	used   int64
	shut   bool // by unsubscribing or 45015
	spent  bool // by 45047
	lasts  int64
	usable bool // seen and enabled
}

func (b *bucket) room() bool            { return b.limit < 0 || b.used < b.limit }
func (b *bucket) inTime(now int64) bool { return b.usable && !b.shut && now < b.ends }
func (b *bucket) open(now int64) bool   { return b.inTime(now) && !b.spent && b.room() }

// endedBy says whether a mark ends the bucket, and ends it: what went later counted for another.
func (b *bucket) endedBy(mark, skew int64) bool {
	if mark == 0 || b.at > mark+skew {
		return false
	}
	b.over = min(b.over, mark+1)
	return true
}

// buckets works out what is used of each allowance, and which one each answer was charged to.
func (r *record) buckets(now int64, ts terms) (bs [len(triggers)]bucket, charged map[message.ID]int) {
	for i, t := range ts {
		at := r.events[i]
		b := &bs[i]
		*b = bucket{
			place: i, at: at, over: at + t.lasts, ends: at + t.lasts - t.margin, limit: t.messages, lasts: t.lasts,
			usable: at > 0 && t.messages != 0,
		}
		left, late := b.endedBy(r.unsubscribed, 0), b.endedBy(r.outOfTime, skewSeconds)
		b.shut = left || late
		b.spent = b.endedBy(r.outOfCount, skewSeconds)
	}
	charged = make(map[message.ID]int, len(r.sends))
	for _, id := range r.byTime() {
		s := r.sends[id]
		if !s.confirmed && now >= s.at+holdSeconds {
			continue // lapsed
		}
		if b := firstToExpire(&bs, func(b *bucket) bool {
			return b.usable && b.at <= s.at && s.at < b.over && b.lasts <= r.reach(s, ts) && b.room()
		}); b != nil {
			b.used++
			charged[id] = b.place
		}
	}
	return bs, charged
}

// reach is how long the allowances last that an answer may be charged to. One whose action's place was taken by
// a later action of the kind counted for that action, which is gone, and must not fall to a longer one.
func (r *record) reach(s sent, ts terms) int64 {
	if s.from != unknownTrigger && r.events[s.from] > s.at {
		return ts[s.from].lasts
	}
	return ts.longest()
}

func (r *record) byTime() []message.ID {
	ids := make([]message.ID, 0, len(r.sends))
	for id := range r.sends {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b message.ID) int {
		if c := cmp.Compare(r.sends[a].at, r.sends[b].at); c != 0 {
			return c
		}
		return slices.Compare(a[:], b[:])
	})
	return ids
}

func firstToExpire(bs *[len(triggers)]bucket, fits func(*bucket) bool) *bucket {
	var first *bucket
	for i := range bs {
		if b := &bs[i]; fits(b) && (first == nil || b.ends < first.ends) {
			first = b
		}
	}
	return first
}

// ruling is a Verdict in seconds.
type ruling struct {
	state State
	held  bool
	until int64
}

// reserve takes a slot for the message, if the user may be answered. A slot that the message holds and that is
// still good stays; one whose allowance is over is exchanged for another, which is no second slot.
func (r *record) reserve(id message.ID, now int64, ts terms) ruling {
	bs, charged := r.buckets(now, ts)
	i, held := charged[id]
	if held && bs[i].inTime(now) && !bs[i].spent {
		if s := r.sends[id]; !s.confirmed {
			s.at = max(s.at, now)
			r.sends[id] = s
		}
		return ruling{Open, held, bs[i].ends}
	}
	b := firstToExpire(&bs, func(b *bucket) bool { return b.open(now) })
	if b == nil {
		return ruling{state: r.refusal(now, &bs)}
	}
	delete(r.sends, id)
	r.makeRoom(now, ts, &bs, charged)
	if r.sends == nil {
		r.sends = make(map[message.ID]sent)
	}
	// Where our clock is behind the event's, the answer still comes after it.
	r.sends[id] = sent{at: max(now, b.at), from: b.place}
	return ruling{Open, held, b.ends}
}

// spend is reserve right before the message is sent: the slot counts for good.
func (r *record) spend(id message.ID, now int64, ts terms) ruling {
	got := r.reserve(id, now, ts)
	if got.state == Open {
		r.confirm(id, now)
	}
	return got
}

// refusal says why no allowance has room.
func (r *record) refusal(now int64, bs *[len(triggers)]bucket) State {
	if r.events == [len(triggers)]int64{} && r.unsubscribed == 0 && r.outOfTime == 0 && r.outOfCount == 0 {
		return UnknownUser
	}
	for i := range bs {
		if bs[i].inTime(now) {
			return Used
		}
	}
	return Closed
}

// makeRoom forgets answers that are too old to count, then the oldest that are charged to no limited allowance, until
// one more may be kept.
func (r *record) makeRoom(now int64, ts terms, bs *[len(triggers)]bucket, charged map[message.ID]int) {
	for id, s := range r.sends {
		if now >= s.at+ts.lastsFrom(s.from) && now >= s.at+holdSeconds {
			delete(r.sends, id)
		}
	}
	for _, id := range r.byTime() {
		if int64(len(r.sends)) < ts.keep() {
			return
		}
		if i, ok := charged[id]; !ok || bs[i].limit < 0 {
			delete(r.sends, id)
		}
	}
}

// view describes the record.
func (r *record) view(now int64, ts terms) View {
	bs, _ := r.buckets(now, ts)
	v := View{Unsubscribed: instant(r.unsubscribed), OutOfTime: instant(r.outOfTime), OutOfCount: instant(r.outOfCount)}
	var until int64
	for i := range bs {
		b := &bs[i]
		if b.at == 0 {
			continue
		}
		if b.open(now) {
			until = max(until, b.ends)
		}
		v.Buckets = append(v.Buckets, Bucket{
			Trigger: triggers[i], At: instant(b.at), Until: instant(b.ends), Used: int(b.used), Left: b.left(), Open: b.inTime(now),
		})
	}
	v.State, v.Until = Open, instant(until)
	if until == 0 {
		v.State = r.refusal(now, &bs)
	}
	return v
}

func (b *bucket) left() int {
	switch {
	case b.spent:
		return 0
	case b.limit < 0:
		return -1
	}
	return int(b.limit - b.used)
}

func instant(s int64) time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.Unix(s, 0)
}
