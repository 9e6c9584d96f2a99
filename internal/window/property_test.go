package window

import (
	"maps"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hongyan-dispatch/hongyan/message"
)

// What happened may be heard of in any order and any number of times: the record is the same.
func TestOrderAndRepetitionDoNotMatter(t *testing.T) {
	ts := DefaultRules().terms()
	rapid.Check(t, func(t *rapid.T) {
		second := rapid.Int64Range(start, start+3*minute)
		reserved := record{sends: map[message.ID]sent{}}
		for i := range rapid.IntRange(0, 8).Draw(t, "reserved") {
			id := message.ID{15: byte(i)}
			reserved.sends[id] = sent{at: second.Draw(t, "at"), from: rapid.IntRange(0, len(triggers)-1).Draw(t, "from")}
		}
		facts := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) func(*record) {
			at := second.Draw(t, "at")
			id := message.ID{15: byte(rapid.IntRange(0, 12).Draw(t, "id"))}
			switch kind := rapid.IntRange(0, 9).Draw(t, "kind"); kind {
			case 0:
				return func(r *record) { raise(&r.unsubscribed, at) }
			case 1:
				return func(r *record) { raise(&r.outOfTime, at) }
			case 2:
				return func(r *record) { raise(&r.outOfCount, at) }
			case 3, 4:
				id[15] += 100 // nobody confirms what was surely not sent
				return func(r *record) { r.release(id) }
			case 5, 6, 7:
				return func(r *record) { r.confirm(id, at) }
			default:
				place := rapid.IntRange(0, len(triggers)-1).Draw(t, "trigger")
				return func(r *record) { raise(&r.events[place], at) }
			}
		}), 1, 25).Draw(t, "facts")
		for i := range 3 {
			reserved.sends[message.ID{15: byte(100 + i)}] = sent{at: start, from: 0}
		}
		run := func(facts []func(*record)) (*record, View) {
			r := reserved
			r.sends = maps.Clone(reserved.sends)
			for _, happens := range facts {
				happens(&r)
			}
			return &r, r.view(start+3*minute, ts)
		}
		again := rapid.Permutation(slices.Concat(facts, rapid.SliceOf(rapid.SampledFrom(facts)).Draw(t, "again"))).Draw(t, "order")

		want, wantView := run(facts)
		got, gotView := run(again)
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("in another order the record is\n%+v, want\n%+v", got, want)
		}
		if !reflect.DeepEqual(gotView, wantView) {
			t.Fatalf("in another order the view is\n%+v, want\n%+v", gotView, wantView)
		}
	})
}

// platform counts as WeChat is believed to: one allowance per kind of action, the first to expire is used first.
type platform struct {
	ts    terms
	at    [len(triggers)]int64
	count [len(triggers)]int64
	left  int64 // when the user unsubscribed
}

func (p *platform) event(place int, at int64) {
	if at > p.at[place] {
		p.at[place], p.count[place] = at, 0
	}
}

// room is the place of the allowance that an answer would use, or -1.
func (p *platform) room(now, margin int64) int {
	first := -1
	for i, t := range p.ts {
		over := p.at[i] + t.lasts
		if p.at[i] > p.left && now < over-margin*t.margin && p.count[i] < t.messages && (first < 0 || over < p.at[first]+p.ts[first].lasts) {
			first = i
		}
	}
	return first
}

// Whatever happens, an answer that we allow is one that WeChat allows; and with nothing in doubt we allow all that is safe.
func TestNeverMoreThanWeChatAllows(t *testing.T) {
	ts := DefaultRules().terms()
	rapid.Check(t, func(t *rapid.T) {
		r, wechat := record{}, platform{ts: ts}
		var heard []func() // for repeating
		now, n := start, 0
		inHand := map[message.ID]bool{} // reserved, fate open
		step := rapid.OneOf(rapid.Int64Range(1, 3), rapid.Int64Range(1, 40), rapid.Int64Range(1, 40*hour))
		finish := func() {
			for id := range inHand {
				if rapid.IntRange(0, 3).Draw(t, "fate") == 0 {
					r.release(id)
				} else {
					send(t, &wechat, now)
					r.confirm(id, now)
				}
				delete(inHand, id)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"action": func(t *rapid.T) {
				finish()
				now += step.Draw(t, "step")
				place, at := rapid.IntRange(0, 3).Draw(t, "trigger"), now
				wechat.event(place, at)
				raise(&r.events[place], at)
				heard = append(heard, func() { raise(&r.events[place], at) })
			},
			"unsubscribe": func(t *rapid.T) {
				finish()
				now += step.Draw(t, "step")
				wechat.left = now
				raise(&r.unsubscribed, now)
			},
			"repeat": func(t *rapid.T) {
				if len(heard) > 0 {
					rapid.SampledFrom(heard).Draw(t, "heard")()
				}
			},
			"answer": func(t *rapid.T) {
				id := message.ID{14: byte(n >> 8), 15: byte(n)}
				n++
				got := r.reserve(id, now, ts)
				if safe := wechat.room(now, 1) >= 0; len(inHand) == 0 && got.state != Open && safe {
					t.Fatalf("second %d: got %s where WeChat has room", now-start, got.state)
				}
				if got.state == Open {
					inHand[id] = true
					if got := r.reserve(id, now, ts); !got.held {
						t.Fatalf("second %d: reserved again: got %+v, want held", now-start, got)
					}
				}
			},
			"settle": func(t *rapid.T) {
				now += rapid.Int64Range(1, 9).Draw(t, "step") // inside the margin
				finish()
			},
			"crash before the send": func(t *rapid.T) {
				if len(inHand) > 0 {
					clear(inHand)
					now += holdSeconds
				}
			},
		})
		if most := int(ts.keep()); len(r.sends) > most {
			t.Fatalf("the record holds %d answers, want at most %d", len(r.sends), most)
		}
	})
}

func send(t *rapid.T, wechat *platform, now int64) {
	place := wechat.room(now, 0)
	if place < 0 {
		t.Fatalf("second %d: WeChat refuses an answer that was allowed", now-start)
	}
	wechat.count[place]++
}
