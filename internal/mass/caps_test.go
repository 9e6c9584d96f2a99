package mass_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/hongyan-dispatch/hongyan/internal/mass"
	"github.com/hongyan-dispatch/hongyan/message"
)

func TestDecide(t *testing.T) {
	service, subscription := mass.DefaultCaps(message.ServiceAccount), mass.DefaultCaps(message.SubscriptionAccount)
	none := mass.Caps{PerDay: mass.NoCap, AllPerDay: mass.NoCap, AllPerMonth: mass.NoCap, UserPerMonth: mass.NoCap}
	observed := service
	observed.Observe = true
	for _, c := range []struct {
		claim  string
		caps   mass.Caps
		scope  mass.Scope
		counts mass.Counts
		want   mass.Verdict
	}{
		{"a subscription account sends to all once a day", subscription, mass.All, mass.Counts{}, ok(mass.NoCap)},
		{"and not twice", subscription, mass.All, mass.Counts{Day: 1, AllDay: 1, AllMonth: 1}, no(mass.AccountDay)},
		{"nor to a tag on the same day", subscription, mass.Tag, mass.Counts{Day: 1, AllDay: 1, AllMonth: 1}, no(mass.AccountDay)},
		{"but on each of many days", subscription, mass.All, mass.Counts{AllMonth: 29}, ok(mass.NoCap)},
		{"a service account sends to all once a day", service, mass.All, mass.Counts{Day: 7}, ok(4)},
		{"and not twice", service, mass.All, mass.Counts{AllDay: 1, AllMonth: 1}, no(mass.AllDay)},
		{"the fourth of a month goes to all", service, mass.All, mass.Counts{AllMonth: 3}, ok(1)},
		{"the fifth does not", service, mass.All, mass.Counts{AllMonth: 4}, no(mass.AllMonth)},
		{"a list goes to users who had fewer than 4", service, mass.List, mass.Counts{}, ok(4)},
		{"sends to all count for the users of a list", service, mass.List, mass.Counts{AllDay: 1, AllMonth: 3}, ok(1)},
		{"after 4 sends to all a list has nobody left", service, mass.List, mass.Counts{AllMonth: 4}, no(mass.UserMonth)},
		{"lists have no cap of their own", service, mass.List, mass.Counts{Day: 99}, ok(4)},
		{"a tag may get 4 a month", service, mass.Tag, mass.Counts{TagMonth: 3}, ok(4)},
		{"and not 5", service, mass.Tag, mass.Counts{TagMonth: 4}, no(mass.UserMonth)},
		{"sends to all count for a tag", service, mass.Tag, mass.Counts{AllMonth: 2, TagMonth: 2}, no(mass.UserMonth)},
		{"a cap of 0 allows nothing", mass.Caps{}, mass.Tag, mass.Counts{}, no(mass.AccountDay)},
		{"without caps anything goes", none, mass.All, mass.Counts{Day: 9, AllDay: 9, AllMonth: 9}, ok(mass.NoCap)},
		{"caps that are only observed refuse nothing", observed, mass.All, mass.Counts{AllDay: 1, AllMonth: 4}, ok(mass.NoCap)},
	} {
		t.Run(c.claim, func(t *testing.T) {
			if got := mass.Decide(c.caps, c.scope, c.counts); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func ok(room int) mass.Verdict   { return mass.Verdict{OK: true, Room: room} }
func no(c mass.Cap) mass.Verdict { return mass.Verdict{Cap: c} }

func TestOpens(t *testing.T) {
	service, subscription := mass.DefaultCaps(message.ServiceAccount), mass.DefaultCaps(message.SubscriptionAccount)
	for _, c := range []struct {
		claim   string
		caps    mass.Caps
		scope   mass.Scope
		counts  mass.Counts
		at, end string
	}{
		{"a day's cap opens at Beijing's midnight", subscription, mass.All, mass.Counts{Day: 1}, "2026-11-22T18:00:00Z", "2026-11-24T00:00:05+08:00"},
		{"so does that of everybody", service, mass.All, mass.Counts{AllDay: 1, AllMonth: 1}, "2026-11-22T12:00:00+08:00", "2026-11-23T00:00:05+08:00"},
		{"the fourth of a month opens with the next month", service, mass.All, mass.Counts{AllDay: 1, AllMonth: 4}, "2026-11-22T12:00:00+08:00", "2026-12-01T00:00:05+08:00"},
		{"a tag's cap, too", service, mass.Tag, mass.Counts{TagMonth: 4}, "2026-12-02T12:00:00+08:00", "2027-01-01T00:00:05+08:00"},
		{"on the last day of a month tomorrow has no counts", service, mass.List, mass.Counts{AllMonth: 4}, "2026-11-30T23:00:00+08:00", "2026-12-01T00:00:05+08:00"},
		{"what is never allowed never opens", mass.Caps{}, mass.Tag, mass.Counts{}, "2026-12-02T12:00:00+08:00", ""},
	} {
		t.Run(c.claim, func(t *testing.T) {
			got := mass.Opens(c.caps, c.scope, c.counts, parse(t, c.at))
			if c.end == "" && !got.IsZero() || c.end != "" && !got.Equal(parse(t, c.end)) {
				t.Errorf("got %v, want %q", got, c.end)
			}
		})
	}
}

// Over a month of any sends, none goes beyond a cap, whatever the caps are; a refund makes room again.
func TestNoSendGoesBeyondACap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(mass.NoCap, 5)
		caps := mass.Caps{
			PerDay: limit.Draw(t, "per day"), AllPerDay: limit.Draw(t, "all per day"),
			AllPerMonth: limit.Draw(t, "all per month"), UserPerMonth: limit.Draw(t, "user per month"),
		}
		var n mass.Counts
		lists := 0 // that reached one user
		var made []mass.Scope
		within := func(what string, count, limit int) {
			if limit >= 0 && count > limit {
				t.Fatalf("%s: %d, cap %d", what, count, limit)
			}
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch step := rapid.SampledFrom([]string{"list", "tag", "all", "refund", "next day"}).Draw(t, "step"); step {
			case "next day":
				n.Day, n.AllDay, made = 0, 0, nil
			case "refund":
				if len(made) > 0 {
					last := made[len(made)-1]
					made, n = made[:len(made)-1], n.Add(last, -1)
					if v := mass.Decide(caps, last, n); !v.OK {
						t.Fatalf("after the refund of a send to %s: got %+v, want room", last, v)
					}
				}
			default:
				scope := mass.Scope(step)
				v := mass.Decide(caps, scope, n)
				if !v.OK {
					continue
				}
				if scope == mass.List { // not refunded here: each user has a count of their own
					if v.Room >= 0 && lists >= v.Room {
						continue
					}
					lists++
					n = n.Add(scope, 1)
					made = nil
				} else {
					n = n.Add(scope, 1)
					made = append(made, scope)
				}
			}
			within("calls of the day", n.Day, caps.PerDay)
			within("to all of the day", n.AllDay, caps.AllPerDay)
			within("to all of the month", n.AllMonth, caps.AllPerMonth)
			within("to one user by lists", lists, caps.UserPerMonth)
		}
	})
}

func TestListsAreForServiceAccounts(t *testing.T) {
	for _, s := range []mass.Scope{mass.List, mass.Tag, mass.All} {
		if !mass.CanSend(message.ServiceAccount, s) {
			t.Errorf("service account, %s: got no, want yes", s)
		}
		if got, want := mass.CanSend(message.SubscriptionAccount, s), s != mass.List; got != want {
			t.Errorf("subscription account, %s: got %t, want %t", s, got, want)
		}
	}
}
