package main

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// A row is what the ledger says of a message.
type row struct {
	ID       message.ID
	N        int // the message's own number, -1 if its content has none
	Kind     message.Kind
	Status   outcome.Status
	Reason   string
	Doubt    bool
	Worker   string // of the last claim
	Claimed  time.Time
	Finished time.Time
}

func (r row) String() string {
	return fmt.Sprintf("%s message #%d# %s (%s %s)", r.Kind, r.N, r.ID, r.Status, r.Reason)
}

// Evidence is the three books and the list of faults.
type evidence struct {
	accepted map[int]message.Kind // the producer's
	rows     []row                // the ledger's
	accepts  []wechattest.Accept  // the simulator's
	faults   []strike
	parked   bool // parked is an end, too
}

var marker = regexp.MustCompile(`#(\d+)#`)

func markerOf(text string) int {
	found := marker.FindStringSubmatch(text)
	if found == nil {
		return -1
	}
	n, err := strconv.Atoi(found[1])
	if err != nil {
		return -1
	}
	return n
}

func (r *rig) ledger(ctx context.Context) ([]row, error) {
	rows, err := r.db.Query(ctx, `
		SELECT m.id, coalesce(b.content, (
				SELECT '#' || r.vars[1] || '#' FROM firing f JOIN recipient r ON r.audience = f.audience AND r.n = m.n WHERE f.id = m.firing), ''), m.kind::text, m.state::text, m.reason::text, m.doubt, coalesce(p.name, ''), m.first_intent_at, m.finished_at
		FROM message m LEFT JOIN message_body b ON b.id = m.id LEFT JOIN pod p ON p.id = m.pod`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(c pgx.CollectableRow) (row, error) {
		var o row
		var id [16]byte
		var content, kind, status string
		err := c.Scan(&id, &content, &kind, &status, &o.Reason, &o.Doubt, &o.Worker, &o.Claimed, &o.Finished)
		o.ID, o.N, o.Kind, o.Status = id, markerOf(content), message.Kind(kind), outcome.Status(status)
		return o, err
	})
}

// findings are what is wrong, by the letter of the promise.
type findings struct {
	list       []string
	lost       int
	duplicates map[message.Kind]int
}

func (f *findings) add(letter, format string, args ...any) {
	f.list = append(f.list, "("+letter+") "+fmt.Sprintf(format, args...))
}

// check compares the books.
func (e evidence) check() *findings {
	f := &findings{duplicates: map[message.Kind]int{}}
	rows := map[int][]row{}
	for _, r := range e.rows {
		rows[r.N] = append(rows[r.N], r)
	}
	accepts := map[int]int{}
	for _, a := range e.accepts {
		accepts[markerOf(a.Body)]++
	}
	e.checkEnds(f, rows)
	for n, times := range accepts {
		if times > 1 {
			f.duplicates[e.accepted[n]]++
			f.add("b", "message #%d# was accepted %d times: %v", n, times, rows[n])
		}
		if !slices.ContainsFunc(rows[n], func(r row) bool { return mayHaveLeft(r.Status) }) {
			f.add("c", "message #%d# was accepted, and its outcome denies it: %v", n, rows[n])
		}
	}
	for n, list := range rows {
		sent := 0
		for _, r := range list {
			if r.Status == outcome.Sent {
				sent++
			}
			if r.Status == outcome.Unknown && !e.explains(r) {
				f.add("d", "%s of worker %s is unknown without a fault between %s and %s", r, r.Worker, r.Claimed.Format(clock), r.Finished.Format(clock))
			}
		}
		if sent > accepts[n] {
			f.add("c", "message #%d# is sent %d times and was accepted %d times: %v", n, sent, accepts[n], list)
		}
	}
	slices.Sort(f.list)
	return f
}

const clock = "15:04:05.000"

// checkEnds looks for accepted messages without an end.
func (e evidence) checkEnds(f *findings, rows map[int][]row) {
	for n, kind := range e.accepted {
		if len(rows[n]) == 0 {
			f.lost++
			f.add("a", "%s message #%d# was accepted and is not in the ledger", kind, n)
			continue
		}
		for _, r := range rows[n] {
			if !r.Status.Terminal() && (!e.parked || !heldByDay(r)) {
				f.lost++
				f.add("a", "%s has no end", r)
			}
		}
	}
}

// mayHaveLeft says whether the outcome leaves room for a message that WeChat has: of one that killed its workers nobody
// knows, either.
func mayHaveLeft(s outcome.Status) bool {
	return s == outcome.Sent || s == outcome.Unknown || s == outcome.Dead
}

// heldByDay says whether a message waits for calls that the day does not have any more.
func heldByDay(r row) bool {
	return r.Status == outcome.Parked && (r.Reason == string(outcome.Quota) || r.Reason == string(outcome.Gate))
}

// explains says whether a fault struck between a message's first claim and its end. One that struck a worker explains
// what that worker had in hand, and no other's; where an earlier claim is in doubt, that may have been its worker. A claim
// that a worker had asked for may be granted after its death.
func (e evidence) explains(r row) bool {
	return slices.ContainsFunc(e.faults, func(f strike) bool {
		others := f.Worker != "" && r.Worker != "" && f.Worker != r.Worker && !r.Doubt
		over := !f.To.IsZero() && f.To.Before(r.Claimed) && (!f.Deadly || f.Worker != r.Worker)
		return !others && !over && !f.From.After(r.Finished)
	})
}

// The codes by which WeChat says that a limit was overrun.
var overrun = map[int]string{45009: "the day's quota", 45011: "the pace", 45015: "a closed window", 45047: "a window's number", 45028: "a mass cap"}

// checkLimits compares the simulator's counts with the limits.
func (r *rig) checkLimits(f *findings, tolerated map[int]int64) {
	template, other := r.plan.paces()
	paces := map[string]int64{wechattest.PathTemplate: template, wechattest.PathCustom: other, wechattest.PathSubscribe: other}
	for _, a := range r.sim.State().Accounts {
		for api, calls := range a.APIs {
			for code, what := range overrun {
				if n := calls.Refused[code]; n > tolerated[code] {
					f.add("e", "%s: %d calls over %s (%d)", api, n, what, code)
				}
			}
			if pace := paces[api]; pace > 0 && calls.Max60s > 60*pace {
				f.add("e", "%s: %d calls within 60 s; want at most %d", api, calls.Max60s, 60*pace)
			}
		}
		if a.MassMost > 4 {
			f.add("e", "a user got %d mass messages this month; want at most 4", a.MassMost)
		}
	}
}

// judge compares the books and makes the result.
func (r *rig) judge(ctx context.Context) (*Result, error) {
	if r.subject == naive {
		return r.judgeNaive(), nil
	}
	rows, err := r.ledger(ctx)
	if err != nil {
		return nil, err
	}
	e := evidence{accepted: r.books.accepted, rows: rows, accepts: r.sim.AllAccepts(), faults: r.faults, parked: r.plan.parked}
	f := e.check()
	r.checkLimits(f, r.tolerated)
	leaks, err := r.canaries(ctx)
	if err != nil {
		return nil, err
	}
	f.list = append(f.list, leaks...)
	counts := map[string]int{}
	custom, unknown := 0, 0
	var resolved []time.Duration
	for _, o := range rows {
		counts[string(o.Status)]++
		if o.Kind == message.Custom {
			custom++
			if o.Status == outcome.Unknown {
				unknown++
			}
		}
		if o.Status == outcome.Unknown {
			if died, ok := r.death(o.Worker); ok && o.Finished.After(died) {
				resolved = append(resolved, o.Finished.Sub(died))
			}
		}
	}
	if custom > 0 {
		r.figure("unknown of 1,000 customer-service", float64(unknown*10_000/custom)/10)
	}
	more, err := r.repeated(ctx)
	if err != nil {
		return nil, err
	}
	if resolved = append(resolved, more...); len(resolved) > 0 {
		slices.Sort(resolved)
		r.figure("in doubt", len(resolved))
		r.figure("resolved p50 s", resolved[len(resolved)/2])
		r.figure("resolved p99 s", resolved[(len(resolved)*99)/100])
	}
	if r.books.retries > 0 {
		r.figure("offered again", r.books.retries)
	}
	if r.after != nil {
		f.list = append(f.list, r.after(ctx, r)...)
	}
	f.list = append(f.list, r.deserters()...)
	f.list = append(f.list, r.wrong...)
	result := r.result(f)
	result.Outcomes = counts
	return result, nil
}

// deserters are processes that have ended, though nobody had ended them.
func (r *rig) deserters() (found []string) {
	for _, w := range append(slices.Clone(r.crew.workers), r.crew.servers...) {
		_, struck := r.death(w.name)
		if w.hasEnded() && !w.asked && !struck {
			text, _ := w.said()
			found = append(found, fmt.Sprintf("(a) process %s ended by itself; its last words: %s", w.name, text[max(0, len(text)-300):]))
		}
	}
	return found
}

// certain: a message by whose id WeChat knows a repetition is sent again, and is not unknown.
func certain(ctx context.Context, r *rig) (found []string) {
	rows, err := r.ledger(ctx)
	if err != nil {
		return []string{err.Error()}
	}
	for _, o := range rows {
		if o.Kind.HasClientID() && o.Status == outcome.Unknown {
			found = append(found, fmt.Sprintf("(d) %s, though it could be sent again", o))
		}
	}
	return found
}

// resolvedWithin is how soon what a dead worker had in hand is decided.
const resolvedWithin = 30.0

func resolvedSoon(ctx context.Context, r *rig) []string {
	found := certain(ctx, r)
	if s, _ := r.figures["resolved p99 s"].(float64); s > resolvedWithin {
		found = append(found, fmt.Sprintf("(a) what dead workers had in hand was decided after %.1f s (p99), want within %.0f", s, resolvedWithin))
	}
	return found
}

// death is when the worker was killed or stopped.
func (r *rig) death(name string) (time.Time, bool) {
	for _, f := range r.faults {
		if f.Worker == name && name != "" {
			return f.From, true
		}
	}
	return time.Time{}, false
}

// repeated are the times from a worker's death to the decision to repeat what it had in hand.
func (r *rig) repeated(ctx context.Context) ([]time.Duration, error) {
	rows, err := r.db.Query(ctx, "SELECT at, note FROM event WHERE state = 'parked' AND note <> ''")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []time.Duration
	for rows.Next() {
		var at time.Time
		var note string
		if err := rows.Scan(&at, &note); err != nil {
			return nil, err
		}
		for _, word := range words.FindAllString(note, -1) {
			if died, ok := r.death(word); ok && at.After(died) {
				all = append(all, at.Sub(died))
				break
			}
		}
	}
	return all, rows.Err()
}

var words = regexp.MustCompile(`[\w-]+`)

// judgeNaive counts what the naive build made of the same faults. Its breaches are figures, not errors.
func (r *rig) judgeNaive() *Result {
	f := &findings{duplicates: map[message.Kind]int{}}
	accepts := map[int]int{}
	for _, a := range r.sim.AllAccepts() {
		accepts[markerOf(a.Body)]++
	}
	for n, kind := range r.books.accepted {
		switch times := accepts[n]; {
		case times == 0:
			f.lost++
		case times > 1:
			f.duplicates[kind] += times - 1
		}
	}
	return r.result(f)
}
