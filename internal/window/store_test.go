package window

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/hongyan-dispatch/hongyan/internal/devstack"
	"github.com/hongyan-dispatch/hongyan/message"
)

func TestMain(m *testing.M) { devstack.Main(m) }

const (
	app  message.AppID  = "wx0000000000000001"
	user message.OpenID = "oABCDEFGHIJKLMNOPQRSTUVWXYZ1"
)

func defaults(message.AppID) Rules { return DefaultRules() }

func at(second int64) time.Time { return time.Unix(start+second, 0) }

type bundle struct {
	*Ledger
	ctx context.Context
	rdb *redis.Client
	url string
}

func setup(t *testing.T, rules func(message.AppID) Rules) bundle {
	t.Helper()
	url := devstack.Redis(t)
	rdb := connect(t, url)
	return bundle{New(rdb, rules), t.Context(), rdb, url}
}

func connect(t *testing.T, url string) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

func TestLedgerTellsTheWholeStory(t *testing.T) {
	t.Parallel()
	b := setup(t, defaults)
	first, second := message.NewID(at(1)), message.NewID(at(2))
	must(t, b.Event(b.ctx, app, user, Menu, at(0), at(1)))
	for _, id := range []message.ID{first, second, message.NewID(at(3))} {
		if v, err := b.Reserve(b.ctx, app, user, id, at(3)); err != nil || v != (Verdict{State: Open, Until: at(50)}) {
			t.Fatalf("got %+v, %v, want open until %s", v, err, at(50))
		}
	}
	if v, err := b.Reserve(b.ctx, app, user, first, at(4)); err != nil || v.State != Open || !v.Held {
		t.Errorf("reserved again: got %+v, %v, want open and held", v, err)
	}
	must(t, b.Confirm(b.ctx, app, user, first, at(4)))
	must(t, b.Release(b.ctx, app, user, second))
	v, err := b.Look(b.ctx, app, user, at(5))
	want := View{State: Open, Until: at(50), Buckets: []Bucket{{Trigger: Menu, At: at(0), Until: at(50), Used: 2, Left: 1, Open: true}}}
	if err != nil || !reflect.DeepEqual(v, want) {
		t.Errorf("look: got %+v, %v, want %+v", v, err, want)
	}
	must(t, b.Refused(b.ctx, app, user, CodeOutOfCount, at(6)))
	if v, err := b.Reserve(b.ctx, app, user, second, at(7)); err != nil || v.State != Used {
		t.Errorf("after 45047: got %+v, %v, want used", v, err)
	}
	must(t, b.Unsubscribed(b.ctx, app, user, at(8), at(8)))
	if v, err := b.Reserve(b.ctx, app, user, second, at(9)); err != nil || v.State != Closed {
		t.Errorf("after unsubscribing: got %+v, %v, want closed", v, err)
	}
	if v, err := b.Reserve(b.ctx, app, "oAnother", second, at(9)); err != nil || v.State != UnknownUser {
		t.Errorf("another user: got %+v, %v, want unknown", v, err)
	}
	if v, err := b.Reserve(b.ctx, "wx0000000000000002", user, second, at(9)); err != nil || v.State != UnknownUser {
		t.Errorf("another account: got %+v, %v, want unknown", v, err)
	}
}

func TestEventFromTheFutureOpensNothingAhead(t *testing.T) {
	t.Parallel()
	b := setup(t, defaults)
	must(t, b.Event(b.ctx, app, user, Message, at(365*24*hour), at(0)))
	v, err := b.Look(b.ctx, app, user, at(0))
	if want := at(skewSeconds); err != nil || !v.Buckets[0].At.Equal(want) {
		t.Errorf("got %+v, %v, want the event at %s", v, err, want)
	}
}

func TestNonsenseIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t, defaults)
	for claim, err := range map[string]error{
		"an unknown trigger":                  b.Event(b.ctx, app, user, "click", at(0), at(0)),
		"an event without a time":             b.Event(b.ctx, app, user, Message, time.Time{}, at(0)),
		"a code that is not about the window": b.Refused(b.ctx, app, user, 45009, at(0)),
	} {
		if err == nil {
			t.Errorf("%s: got no error, want one", claim)
		}
	}
}

func TestRecordLivesAsLongAsItsWindow(t *testing.T) {
	t.Parallel()
	b := setup(t, defaults)
	lives := func() time.Duration {
		t.Helper()
		d, err := b.rdb.TTL(b.ctx, key(app, user)).Result()
		must(t, err)
		return d
	}
	must(t, b.Confirm(b.ctx, app, user, message.NewID(at(0)), at(0)))
	if d := lives(); d < 48*time.Hour || d > 49*time.Hour {
		t.Errorf("a record made by Confirm lives %v, want a little over 48 h", d)
	}
	must(t, b.rdb.Expire(b.ctx, key(app, user), time.Hour).Err())
	must(t, b.Event(b.ctx, app, user, Message, at(10), at(10)))
	if d := lives(); d < 48*time.Hour {
		t.Errorf("after a new event the record lives %v, want over 48 h", d)
	}
	must(t, b.rdb.Expire(b.ctx, key(app, user), time.Hour).Err())
	must(t, b.Event(b.ctx, app, user, Message, at(5), at(11)))
	if d := lives(); d > time.Hour {
		t.Errorf("after an old event the record lives %v, want it left at an hour", d)
	}
}

func TestRecordsAreRebuiltFromEventsAndSends(t *testing.T) {
	t.Parallel()
	b := setup(t, defaults)
	ids := []message.ID{message.NewID(at(1)), message.NewID(at(2)), message.NewID(at(3))}
	must(t, b.Event(b.ctx, app, user, Message, at(0), at(1)))
	for i, id := range ids {
		if _, err := b.Reserve(b.ctx, app, user, id, at(int64(i+1))); err != nil {
			t.Fatal(err)
		}
		must(t, b.Confirm(b.ctx, app, user, id, at(int64(i+1))))
	}
	want, err := b.Look(b.ctx, app, user, at(10))
	must(t, err)
	must(t, b.rdb.FlushDB(b.ctx).Err())
	for i, id := range ids {
		must(t, b.Confirm(b.ctx, app, user, id, at(int64(i+1))))
	}
	must(t, b.Event(b.ctx, app, user, Message, at(0), at(9)))
	if got, err := b.Look(b.ctx, app, user, at(10)); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

// A careful ledger trusts no record that may have lost something, though it says that the user may be answered.
func TestACarefulLedgerTakesNothingFromARecordThatMayHaveLostSomething(t *testing.T) {
	t.Parallel()
	b := setup(t, defaults)
	careful := b.Careful()
	id := message.NewID(at(1))
	asks := map[string]func() (Verdict, error){
		"reserve": func() (Verdict, error) { return careful.Reserve(b.ctx, app, user, id, at(10)) },
		"spend":   func() (Verdict, error) { return careful.Spend(b.ctx, app, user, id, at(10)) },
	}
	must(t, b.Event(b.ctx, app, user, Message, at(0), at(1)))
	for when, loses := range map[string]func() error{
		"it is new": func() error { return nil },
		"it was wiped, and told the event": func() error {
			return errors.Join(b.rdb.FlushDB(b.ctx).Err(), b.Event(b.ctx, app, user, Message, at(0), at(2)))
		},
		"it has started again": func() error { // with all that it had
			return errors.Join(b.rdb.Set(b.ctx, startKey(app), "beef 1", 0).Err(), b.rdb.Set(b.ctx, restoredKey(app, user), "beef", 0).Err())
		},
	} {
		must(t, loses())
		var lost string
		for what, ask := range asks {
			v, err := ask()
			must(t, err)
			if lost = v.Lost; lost == "" {
				t.Errorf("%s when %s: got %+v, want it to say that it may have lost something", what, when, v)
			}
		}
		if view, err := b.Look(b.ctx, app, user, at(10)); err != nil || view.Buckets[0].Used != 0 {
			t.Errorf("when %s it took something: %+v, %v", when, view, err)
		}
		must(t, careful.Restore(b.ctx, app, user, lost, []Note{{app, user, Message, at(0)}}, []Answer{{message.NewID(at(2)), at(2)}}, at(10)))
		for what, ask := range asks {
			if v, err := ask(); err != nil || v.Lost != "" || v.State != Open {
				t.Errorf("%s, restored when %s: got %+v, %v", what, when, v, err)
			}
		}
		if view, err := b.Look(b.ctx, app, user, at(10)); err != nil || view.Buckets[0].Used != 2 {
			t.Errorf("restored when %s: %+v, %v, want two used: the one of before and ours", when, view, err)
		}
		must(t, b.rdb.FlushDB(b.ctx).Err())
		must(t, b.Event(b.ctx, app, user, Message, at(0), at(1)))
	}
	// One that has run for as long as records live has nothing to restore.
	lives := b.lives(app)
	_, err := careful.Reserve(b.ctx, app, user, id, at(0))
	must(t, err)
	must(t, b.Event(b.ctx, app, user, Message, at(lives), at(lives)))
	if v, err := careful.Reserve(b.ctx, app, user, id, at(lives)); err != nil || v.Lost != "" || v.State != Open {
		t.Errorf("after long: %+v, %v", v, err)
	}
}

// Two processes read what is kept elsewhere. The later one finds a message that was claimed meanwhile, and whose slot Redis has
// forgotten: the slot has gone to another.
func TestARecordIsMadeAgainOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, defaults)
	careful := b.Careful()
	claimed, other := message.NewID(at(5)), message.NewID(at(6))
	v, err := careful.Reserve(b.ctx, app, user, claimed, at(6))
	must(t, err)
	heard := []Note{{app, user, Message, at(0)}}
	var answers []Answer
	for i := range int64(4) {
		answers = append(answers, Answer{message.NewID(at(i)), at(i)})
	}
	must(t, careful.Restore(b.ctx, app, user, "beef", heard, nil, at(6))) // read for a start that is over
	if again, err := careful.Reserve(b.ctx, app, user, claimed, at(6)); err != nil || again.Lost != v.Lost {
		t.Errorf("restored for another start: got %+v, %v", again, err)
	}
	must(t, careful.Restore(b.ctx, app, user, v.Lost, heard, answers, at(6)))
	if got, err := careful.Spend(b.ctx, app, user, other, at(6)); err != nil || got.State != Open {
		t.Fatalf("the fifth answer: %+v, %v", got, err)
	}
	later := append(answers, Answer{claimed, at(5)})
	must(t, careful.Restore(b.ctx, app, user, v.Lost, heard, later, at(7)))
	if got, err := careful.Spend(b.ctx, app, user, claimed, at(7)); err != nil || got.State != Used {
		t.Errorf("the sixth: got %+v, %v, want used", got, err)
	}
	must(t, careful.Restore(b.ctx, app, user, v.Lost, []Note{{app, user, Scan, at(7)}}, nil, at(7)))
	if got, err := careful.Spend(b.ctx, app, user, claimed, at(7)); err != nil || got.State != Open {
		t.Errorf("after the user did something that only the later reading knows: %+v, %v, want open", got, err)
	}
}

func TestLastSlotGoesToOne(t *testing.T) {
	t.Parallel()
	b := setup(t, defaults)
	ledgers := []*Ledger{b.Ledger, New(connect(t, b.url), defaults), New(connect(t, b.url), defaults)}
	for round := range 5 {
		user := message.OpenID(fmt.Sprintf("oUser%d", round))
		must(t, b.Event(b.ctx, app, user, Message, at(0), at(0)))
		for range 4 {
			if v, err := b.Reserve(b.ctx, app, user, message.NewID(at(1)), at(1)); err != nil || v.State != Open {
				t.Fatalf("got %+v, %v, want open", v, err)
			}
		}
		var mu sync.Mutex
		got := map[State]int{}
		var racers sync.WaitGroup
		begin := make(chan struct{})
		for i := range 50 {
			racers.Go(func() {
				<-begin
				v, err := ledgers[i%3].Reserve(b.ctx, app, user, message.NewID(at(2)), at(2))
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				got[v.State]++
			})
		}
		close(begin)
		racers.Wait()
		if got[Open] != 1 || got[Used] != 49 {
			t.Fatalf("round %d: got %v, want one open and 49 used", round, got)
		}
	}
}

// Two runs have a message in hand, and the one that may not send it gives its slot back.
func TestASlotThatIsSpentIsNobodyElsesToGiveBack(t *testing.T) {
	t.Parallel()
	b := setup(t, func(message.AppID) Rules {
		rules := DefaultRules()
		rules[Message] = Allowance{Messages: 1, For: time.Hour, Margin: time.Minute}
		return rules
	})
	must(t, b.Event(b.ctx, app, user, Message, at(0), at(0)))
	mine, next := message.NewID(at(1)), message.NewID(at(2))
	ask := func(what string, may func(context.Context, message.AppID, message.OpenID, message.ID, time.Time) (Verdict, error), id message.ID, want State) {
		t.Helper()
		if v, err := may(b.ctx, app, user, id, at(3)); err != nil || v.State != want {
			t.Errorf("%s: %+v, %v, want %v", what, v, err, want)
		}
	}
	ask("the message looks", b.Reserve, mine, Open)
	must(t, b.Release(b.ctx, app, user, mine))
	ask("another one takes the slot that its other run gave back", b.Reserve, next, Open)
	ask("the message is about to go", b.Spend, mine, Used)
	must(t, b.Release(b.ctx, app, user, next))
	ask("it comes again", b.Spend, mine, Open)
	must(t, b.Release(b.ctx, app, user, mine))
	ask("another one, after the other run gave back what it could", b.Reserve, next, Used)
	must(t, b.Withdraw(b.ctx, app, user, mine))
	ask("another one, when it was not sent after all", b.Spend, next, Open)
}

// The scripts and record.go are one rule: whatever happens, both say the same and keep the same.
func TestScriptsDoAsTheRecordDoes(t *testing.T) {
	t.Parallel()
	rules := DefaultRules()
	rules[Pay] = Allowance{Messages: -1, For: 10 * time.Minute, Margin: 30 * time.Second}
	rules[Message] = Allowance{Messages: 5, For: 20 * time.Minute, Margin: time.Minute}
	ts := rules.terms()
	b := setup(t, func(message.AppID) Rules { return rules })
	users, many := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		users++
		user := message.OpenID(fmt.Sprintf("oUser%d", users))
		model, now := &record{sends: map[message.ID]sent{}}, int64(0)
		// Round steps, so that the bounds of margins, holds and allowances are met exactly.
		step := rapid.SampledFrom([]int64{0, 0, 1, 2, 10, 10, 20, 30, 50, minute, holdSeconds, 5 * minute, 10 * minute})
		// One id ends in bytes that text would order otherwise; ids of one second meet often.
		ids := rapid.Custom(func(t *rapid.T) message.ID {
			return message.ID{0: 0xff, 1: byte(rapid.SampledFrom([]int{0, 'a', 'B', 0xe4}).Draw(t, "high")), 15: byte(rapid.IntRange(0, 9).Draw(t, "low"))}
		})
		past := rapid.SampledFrom([]int64{0, 0, 1, 10, 20, minute, holdSeconds})
		no := func(err error) {
			if err != nil {
				t.Fatal(err)
			}
		}
		reserve := func(t *rapid.T, id message.ID) {
			got, err := b.Reserve(b.ctx, app, user, id, at(now))
			no(err)
			ruled := model.reserve(id, start+now, ts)
			if want := (Verdict{State: ruled.state, Held: ruled.held, Until: instant(ruled.until)}); got != want {
				t.Fatalf("second %d: the script says %+v, the record %+v\n%+v", now, got, want, model)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"event": func(t *rapid.T) {
				now += step.Draw(t, "step")
				trigger := rapid.SampledFrom(Triggers()).Draw(t, "trigger")
				when := now - past.Draw(t, "past") + skewSeconds
				no(b.Event(b.ctx, app, user, trigger, at(when), at(now)))
				raise(&model.events[trigger.place()], start+when)
			},
			"unsubscribe": func(t *rapid.T) {
				when := now - past.Draw(t, "past")
				no(b.Unsubscribed(b.ctx, app, user, at(when), at(now)))
				raise(&model.unsubscribed, start+when)
			},
			"refuse": func(t *rapid.T) {
				code, mark := CodeOutOfTime, &model.outOfTime
				if rapid.Bool().Draw(t, "out of count") {
					code, mark = CodeOutOfCount, &model.outOfCount
				}
				no(b.Refused(b.ctx, app, user, code, at(now)))
				raise(mark, start+now)
			},
			"reserve": func(t *rapid.T) {
				now += step.Draw(t, "step")
				reserve(t, ids.Draw(t, "id"))
			},
			"reserve many": func(t *rapid.T) {
				now += step.Draw(t, "step")
				for range 8 {
					many++
					reserve(t, message.ID{12: 1, 14: byte(many >> 8), 15: byte(many)})
				}
			},
			"confirm": func(t *rapid.T) {
				id, when := ids.Draw(t, "id"), now-past.Draw(t, "past")
				no(b.Confirm(b.ctx, app, user, id, at(when)))
				model.confirm(id, start+when)
			},
			"spend": func(t *rapid.T) {
				now += step.Draw(t, "step")
				id := ids.Draw(t, "id")
				got, err := b.Spend(b.ctx, app, user, id, at(now))
				no(err)
				ruled := model.spend(id, start+now, ts)
				if want := (Verdict{State: ruled.state, Held: ruled.held, Until: instant(ruled.until)}); got != want {
					t.Fatalf("second %d: the script says %+v, the record %+v\n%+v", now, got, want, model)
				}
			},
			"withdraw": func(t *rapid.T) {
				id := ids.Draw(t, "id")
				no(b.Withdraw(b.ctx, app, user, id))
				model.withdraw(id)
			},
			"release": func(t *rapid.T) {
				id := ids.Draw(t, "id")
				no(b.Release(b.ctx, app, user, id))
				model.release(id)
			},
			"": func(t *rapid.T) {
				got, err := b.read(b.ctx, app, user)
				no(err)
				if !reflect.DeepEqual(got, model) {
					t.Fatalf("second %d: Redis holds\n%+v, the record\n%+v", now, got, model)
				}
			},
		})
	})
}

func TestRecordIsSmallAndHidesTheOpenID(t *testing.T) {
	t.Parallel()
	b := setup(t, defaults)
	must(t, b.Event(b.ctx, app, user, Message, at(0), at(0)))
	one := b.memory(t)
	for i := range int64(5) {
		id := message.NewID(at(i))
		if _, err := b.Reserve(b.ctx, app, user, id, at(i)); err != nil {
			t.Fatal(err)
		}
		must(t, b.Confirm(b.ctx, app, user, id, at(i)))
	}
	full := b.memory(t)
	t.Logf("%d bytes with an event, %d with five answers too", one, full)
	if one > 200 || full > 400 {
		t.Errorf("a record takes %d bytes, %d with five answers, want at most 200 and 400", one, full)
	}
	if k := key(app, user); strings.Contains(k, string(user)) || !strings.HasPrefix(k, "hongyan:window:{wx0000000000000001}:") {
		t.Errorf("key %q: want the account in braces and no openid", k)
	}
}

func (b bundle) memory(t *testing.T) int64 {
	t.Helper()
	n, err := b.rdb.MemoryUsage(b.ctx, key(app, user)).Result()
	must(t, err)
	return n
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Many users are looked at in one round trip, and what is heard of them elsewhere counts, whether Redis has it or not.
func TestStatesOfMany(t *testing.T) {
	t.Parallel()
	b := setup(t, defaults)
	must(t, b.Event(b.ctx, app, "oInRedis", Message, at(0), at(0)))
	must(t, b.Event(b.ctx, app, "oLeft", Message, at(0), at(0)))
	must(t, b.Event(b.ctx, app, "oLongAgo", Menu, at(0), at(0)))
	must(t, b.Event(b.ctx, app, "oAnswered", Message, at(0), at(0)))
	for i := range 5 {
		_, err := b.Reserve(b.ctx, app, "oAnswered", message.NewID(at(int64(i))), at(100))
		must(t, err)
	}
	heard := []Note{
		{AppID: app, OpenID: "oHeard", Trigger: Message, At: at(0)},
		{AppID: app, OpenID: "oLeft", At: at(50)},
		{AppID: app, OpenID: "oNobodyAskedFor", Trigger: Message, At: at(0)},
		{AppID: app, OpenID: "oAnswered", Trigger: Message, At: at(0)},
	}
	users := []message.OpenID{"oInRedis", "oHeard", "oLeft", "oLongAgo", "oAnswered", "oStranger", "oInRedis"}
	want := []State{Open, Open, Closed, Closed, Used, UnknownUser, Open}
	got, err := b.States(b.ctx, app, users, heard, at(100))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	for i, user := range users {
		if v, err := b.Look(b.ctx, app, user, at(100)); user != "oHeard" && user != "oLeft" && (err != nil || v.State != want[i]) {
			t.Errorf("%s: one by one it is %s, %v", user, v.State, err)
		}
	}
}
