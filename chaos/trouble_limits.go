package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
	"github.com/hongyan-dispatch/hongyan/message"
)

// busy lets WeChat answer everything with -1 for a while.
func busy(ctx context.Context, r *rig) error {
	if err := r.flowing(ctx, 300); err != nil {
		return err
	}
	mended := r.broke("-1 to every call", "")
	id, err := r.sim.Inject(wechattest.Fault{Kind: wechattest.Errcode, Code: -1})
	if err != nil {
		return err
	}
	const trips = 10 * time.Second
	if err := pause(ctx, trips); err != nil {
		return err
	}
	before := r.calls()
	if err := pause(ctx, r.plan.outage-trips); err != nil {
		return err
	}
	sends := r.calls() - before
	r.sim.Heal(id)
	r.figure("sends while WeChat was busy", sends)
	if most := int64(r.plan.outage/(5*time.Second)) * int64(len(sendAPIs)); sends > most {
		r.finding("(e) %d sends after 10 s of -1, want at most %d: the breaker holds back nothing", sends, most)
	}
	return r.goesOn(ctx, "dispatch again", mended) // a rest may be a minute long
}

// calls are the calls that sent or tried to.
func (r *rig) calls() (n int64) {
	for _, api := range append(slices.Clone(sendAPIs), wechattest.PathMassSend) {
		n += r.sim.Account(appID).Calls(api).Arrived
	}
	return n
}

func noneFailed(ctx context.Context, r *rig) []string {
	var n int
	if err := r.db.QueryRow(ctx, "SELECT count(*)::int FROM message WHERE state = 'failed'").Scan(&n); err != nil {
		return []string{err.Error()}
	}
	if n > 0 {
		return []string{fmt.Sprintf("(a) %d messages failed for a trouble that went by", n)}
	}
	return nil
}

// hang lets WeChat leave calls without an answer: 1 %, then 20 %, then all of them.
func hang(ctx context.Context, r *rig) error {
	mended := r.broke("hanging calls", "")
	for _, chance := range []float64{0.01, 0.2, 1} {
		var ids []int
		for _, api := range sendAPIs {
			id, err := r.sim.Inject(wechattest.Fault{Kind: wechattest.Hang, For: 12 * time.Second, API: api, Chance: chance})
			if err != nil {
				return err
			}
			ids = append(ids, id)
		}
		if err := pause(ctx, r.plan.outage); err != nil {
			return err
		}
		r.sim.Heal(ids...)
	}
	if err := pause(ctx, 15*time.Second); err != nil { // what hangs, hangs on
		return err
	}
	mended()
	return nil
}

// sparePerWorker is the burst of repetitions that a worker allows an account.
const sparePerWorker = 50

// fewRepeated: repetitions that brought nothing are a tenth of the calls, and a burst for each worker.
func fewRepeated(ctx context.Context, r *rig) (found []string) {
	var repeated, useful int64
	err := r.db.QueryRow(ctx, `
		SELECT coalesce(sum(greatest(attempt - 1, 0)), 0)::int8, count(*) FILTER (WHERE attempt > 1 AND state = 'sent') FROM message`).Scan(&repeated, &useful)
	if err != nil {
		return []string{err.Error()}
	}
	calls := r.calls()
	r.figure("calls", calls)
	r.figure("repeated", repeated)
	r.figure("repeated in vain", repeated-useful)
	if most := calls/10 + int64(sparePerWorker*r.plan.workers); repeated-useful > most {
		found = append(found, fmt.Sprintf("(e) %d of %d calls were repetitions in vain, want at most %d", repeated-useful, calls, most))
	}
	return append(found, r.inBounds()...)
}

// inBounds says which workers hold more than what they have in hand can be.
func (r *rig) inBounds() (found []string) {
	for _, w := range r.crew.alive() {
		rss, _, err := w.holds()
		if err != nil {
			return append(found, err.Error())
		}
		r.most("RSS MiB", time.Duration(rss/(1<<20)*float64(time.Second)))
		if rss > 160<<20 {
			found = append(found, fmt.Sprintf("worker %s holds %.0f MiB", w.name, rss/(1<<20)))
		}
	}
	return found
}

func noneFailedInBounds(ctx context.Context, r *rig) []string {
	return append(noneFailed(ctx, r), r.inBounds()...)
}

// Numbers of the messages that are no producer's.
const firstOfMany = 50_000_000

// park writes many template messages into the ledger that wait for a gate, as if it had been closed for long.
func (r *rig) park(ctx context.Context, many int) error {
	var of int32
	if err := r.db.QueryRow(ctx, "SELECT id FROM account WHERE name = $1", account).Scan(&of); err != nil {
		return err
	}
	const some = 50_000
	for from := 0; from < many; from += some {
		now := time.Now()
		var messages, bodies, parked [][]any
		for n := from; n < min(from+some, many); n++ {
			id := [16]byte(message.NewID(now))
			epoch := time.Unix(0, 0)
			messages = append(messages, []any{id, [16]byte{}, int64(0), epoch, epoch, epoch, of, "template", "bulk", "parked", "gate", int32(0), int32(0), int32(0), int32(0), int32(0), int16(0), false})
			m := r.compose((firstOfMany + n) * 20) // every 20th is a template
			bodies = append(bodies, []any{id, string(m.To), string(m.Body)})
			parked = append(parked, []any{id, byHand, of, "template", "bulk", "gate", false})
		}
		if err := r.copyRows(ctx, messages, bodies, parked); err != nil {
			return err
		}
		r.progress.say(r.name, "%d of %d messages parked", min(from+some, many), many)
	}
	return nil
}

// byHand is until when a gate is closed that a person must open.
var byHand = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// copyRows writes rows by way of tables of text, since COPY's binary form knows no enums by name.
func (r *rig) copyRows(ctx context.Context, messages, bodies, parked [][]any) error {
	return pgx.BeginFunc(ctx, r.db, func(tx pgx.Tx) error {
		for _, t := range []struct {
			table, columns, types string
			rows                  [][]any
		}{
			{
				"message", "id, parcel, msgid, first_intent_at, intent_at, finished_at, account, kind, lane, state, reason, claim, pod, errcode, firing, n, attempt, doubt",
				"uuid, uuid, int8, timestamptz, timestamptz, timestamptz, int4, message_kind, message_lane, message_state, message_reason, int4, int4, int4, int4, int4, int2, bool", messages,
			},
			{"message_body", "id, recipient, content", "uuid, text, text", bodies},
			{"parked", "id, due_at, account, kind, lane, reason, alone", "uuid, timestamptz, int4, message_kind, message_lane, message_reason, bool", parked},
		} {
			columns, types := strings.Split(t.columns, ", "), strings.Split(t.types, ", ")
			var fields, casts []string
			for i, c := range columns {
				typ := types[i]
				if strings.HasPrefix(typ, "message_") {
					typ = "text"
				}
				fields, casts = append(fields, c+" "+typ), append(casts, c+"::"+types[i])
			}
			if _, err := tx.Exec(ctx, "CREATE TEMP TABLE copied ("+strings.Join(fields, ", ")+") ON COMMIT DROP"); err != nil {
				return err
			}
			if _, err := tx.CopyFrom(ctx, pgx.Identifier{"copied"}, columns, pgx.CopyFromRows(t.rows)); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM copied", t.table, t.columns, strings.Join(casts, ", "))); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, "DROP TABLE copied"); err != nil {
				return err
			}
		}
		return nil
	})
}

// A load is what a worker and its Redis do in a second.
type load struct{ cores, calls float64 }

// loadOf measures for a while.
func (r *rig) loadOf(ctx context.Context, w *worker, d time.Duration) (load, error) {
	look := func() (time.Duration, int64, error) {
		used, err := w.used()
		if err != nil {
			return 0, 0, err
		}
		calls, err := r.redisCalls(ctx)
		return used, calls, err
	}
	began := time.Now()
	used, calls, err := look()
	if err != nil {
		return load{}, err
	}
	if err := pause(ctx, d); err != nil {
		return load{}, err
	}
	usedThen, callsThen, err := look()
	took := time.Since(began).Seconds()
	return load{(usedThen - used).Seconds() / took, float64(callsThen-calls) / took}, err
}

// redisCalls counts the calls to Redis, scripts' inner ones not.
func (r *rig) redisCalls(ctx context.Context) (n int64, err error) {
	text, err := r.rdb.Info(ctx, "stats").Result()
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "total_commands_processed:"); ok {
			_, err = fmt.Sscan(rest, &n)
		}
	}
	return n, err
}

// closedGate measures what a worker does that is idle, and one that has many messages behind a closed gate; then opens it.
func closedGate(ctx context.Context, r *rig) error {
	const look = 30 * time.Second
	w := r.crew.alive()[0]
	if err := r.until(ctx, time.Minute, "SELECT count(*) >= 1 FROM message WHERE state = 'sent'"); err != nil {
		return err
	}
	if err := pause(ctx, 5*time.Second); err != nil {
		return err
	}
	idle, err := r.loadOf(ctx, w, look)
	if err != nil {
		return err
	}
	if out, err := r.enqueue(ctx, nil, "gate", "close", account, "template").CombinedOutput(); err != nil {
		return fmt.Errorf("close the gate: %w: %s", err, out)
	}
	if err := r.park(ctx, r.plan.many); err != nil {
		return err
	}
	if _, err := r.db.Exec(ctx, "VACUUM ANALYZE"); err != nil {
		return err
	}
	if err := pause(ctx, 15*time.Second); err != nil { // a count of the fleet, and the end of what this began
		return err
	}
	closed, err := r.loadOf(ctx, w, look)
	if err != nil {
		return err
	}
	r.figure("parked", r.plan.many)
	r.figure("idle: Redis calls/s", int(idle.calls))
	r.figure("closed: Redis calls/s", int(closed.calls))
	r.figure("idle: % of a core", float64(int(idle.cores*1000))/10)
	r.figure("closed: % of a core", float64(int(closed.cores*1000))/10)
	if more := closed.calls - idle.calls; more > 10 {
		r.finding("a closed gate costs %.0f Redis calls a second, want at most 10", more)
	}
	if more := closed.cores - idle.cores; more > 0.05 {
		r.finding("a closed gate costs %.1f %% of a core, want at most 5", more*100)
	}
	return r.openGate(ctx)
}

// openGate opens the gate, looks how soon and how fast messages go, and closes it again.
func (r *rig) openGate(ctx context.Context) error {
	before := r.sim.AcceptedTotal()
	opened := time.Now()
	open := r.enqueue(ctx, nil, "gate", "open", account, "template")
	if err := open.Start(); err != nil {
		return err
	}
	for r.sim.AcceptedTotal() == before && time.Since(opened) < time.Minute {
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	first := time.Since(opened)
	r.figure("first send s", first)
	if first > 2*time.Second {
		r.finding("the first message went %v after the gate opened, want within 2 s", first)
	}
	if err := open.Wait(); err != nil {
		return fmt.Errorf("open the gate: %w", err)
	}
	r.figure("all due s", time.Since(opened))
	if err := pause(ctx, 20*time.Second); err != nil {
		return err
	}
	calls := r.sim.Account(appID).Calls(wechattest.PathTemplate)
	r.figure("most in 1 s", calls.Max1s)
	r.figure("sent in 20 s and more", r.sim.AcceptedTotal()-before)
	if calls.Max1s > templatePerSecond {
		r.finding("(e) %d messages went within a second, want at most %d", calls.Max1s, templatePerSecond)
	}
	return r.rest(ctx)
}

// rest closes the gate and lets what is under way come to its end.
func (r *rig) rest(ctx context.Context) error {
	if out, err := r.enqueue(ctx, nil, "gate", "close", account, "template").CombinedOutput(); err != nil {
		return fmt.Errorf("close the gate: %w: %s", err, out)
	}
	return r.until(ctx, time.Minute, "SELECT NOT EXISTS (SELECT FROM in_flight) AND NOT EXISTS (SELECT FROM parcel)")
}

// besideMany measures how long a neighbour's single messages take, alone, and beside an account with many in the queue.
func besideMany(ctx context.Context, r *rig) error {
	alone, err := r.letters(ctx, 0)
	if err != nil {
		return err
	}
	var list []message.Message
	began := time.Now()
	for n := 0; n < r.plan.many; {
		list = list[:0]
		for ; n < r.plan.many && len(list) < 50_000; n++ {
			m := r.compose((firstOfMany + n) * 20)
			m.Key, m.Lane = "", message.Bulk
			list = append(list, m)
		}
		for i, receipt := range r.producer.EnqueueBatch(ctx, list) {
			if receipt.Err != nil {
				return fmt.Errorf("enqueue one of many (%d): %w", i, receipt.Err)
			}
		}
		r.progress.say(r.name, "%d of %d bulk messages enqueued", n, r.plan.many)
	}
	r.figure("bulk messages", r.plan.many)
	r.figure("enqueued in s", time.Since(began))
	before := r.sim.AcceptedTotal()
	began = time.Now()
	beside, err := r.letters(ctx, 1)
	if err != nil {
		return err
	}
	rate := float64(r.sim.AcceptedTotal()-before) / time.Since(began).Seconds()
	r.figure("bulk/s meanwhile", int(rate))
	if rate < templatePerSecond/2 {
		r.finding("only %.0f bulk messages a second went beside: the comparison compares nothing", rate)
	}
	if more := beside - alone; more > time.Second {
		r.finding("an account with %d messages adds %v to the p99 of another's, want at most 1 s", r.plan.many, more)
	}
	if err := r.nothingRequeued(ctx); err != nil {
		return err
	}
	for _, w := range r.crew.alive() { // the rest of the many is not waited for
		if err := r.crew.retire(ctx, w); err != nil {
			return err
		}
	}
	return nil
}

// letters sends a neighbour's single messages, five a second, and measures from the call of Enqueue to WeChat.
func (r *rig) letters(ctx context.Context, round int) (p99 time.Duration, err error) {
	const letters = 150
	first := 2_000_000 + round*letters*20
	asked := map[int]time.Time{}
	for i := range letters {
		m := r.compose(first + 20*i) // a template
		m.Account, m.Key = neighbour, ""
		asked[first+20*i] = time.Now()
		if _, err := r.producer.Enqueue(ctx, m); err != nil {
			return 0, err
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return 0, err
		}
	}
	for range 600 {
		var took []time.Duration
		r.sim.Accepts(0, func(a wechattest.Accept) bool {
			if a.AppID == neighbourID {
				if at, ok := asked[markerOf(a.Body)]; ok {
					took = append(took, a.At.Sub(at))
				}
			}
			return true
		})
		if len(took) == letters {
			slices.Sort(took)
			name := map[int]string{0: "alone", 1: "beside"}[round]
			r.figure(name+" p50 s", took[letters/2])
			r.figure(name+" p99 s", took[letters*99/100])
			return took[letters*99/100], nil
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return 0, err
		}
	}
	return 0, fmt.Errorf("a neighbour's %d messages did not go within a minute", letters)
}

// nothingRequeued: a long backlog that is well is left alone. It waits for a whole look at it, which comes once a minute.
func (r *rig) nothingRequeued(ctx context.Context) error {
	if err := pause(ctx, 75*time.Second); err != nil {
		return err
	}
	again := 0
	for _, w := range r.crew.workers {
		text, err := w.said()
		if err != nil {
			return err
		}
		again += strings.Count(text, "were in no queue and are enqueued again")
	}
	r.figure("enqueued again", again)
	if again > 0 {
		r.finding("messages of a backlog that is well were enqueued again, %d times", again)
	}
	return nil
}

// replay lets messages fail for a template that is missing, brings it, and sends them again: by several commands at a
// time, of which some are killed.
func replay(ctx context.Context, r *rig) error {
	if err := r.until(ctx, 3*time.Minute, fmt.Sprintf("SELECT count(*) >= %d FROM message WHERE state = 'failed'", r.plan.messages)); err != nil {
		return err
	}
	err := r.sim.Account(appID).Change(func(s *wechattest.Settings) {
		s.Templates = []wechattest.Template{{ID: "order_paid", Keys: []string{"thing2"}}}
	})
	if err != nil {
		return err
	}
	args := []string{"replay", "--status", "failed", "--since", "1h", "--json"}
	for killed := range 3 { // each somewhere in its third of the first three quarters
		cmd := r.enqueue(ctx, nil, args...)
		if err := cmd.Start(); err != nil {
			return err
		}
		quarter := r.plan.messages / 4
		at := killed*quarter + 1 + r.rand.IntN(quarter)
		if err := r.until(ctx, time.Minute, fmt.Sprintf("SELECT count(*) >= %d FROM replay", at)); err != nil {
			return err
		}
		mended := r.broke("kill -9 of a replay", "")
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		mended()
	}
	var done int
	if err := r.db.QueryRow(ctx, "SELECT count(*)::int FROM replay").Scan(&done); err != nil {
		return err
	}
	r.figure("replayed by those that were killed", done)
	if done == r.plan.messages {
		r.finding("the commands that were killed had replayed everything before: the scenario tests nothing")
	}
	ends := make(chan error, 2)
	for range cap(ends) {
		go func() {
			out, err := r.enqueue(ctx, nil, args...).CombinedOutput()
			if err != nil {
				err = fmt.Errorf("replay: %w: %s", err, out)
			}
			ends <- err
		}()
	}
	for range cap(ends) {
		if err := <-ends; err != nil {
			return err
		}
	}
	return nil
}

func replayedOnce(ctx context.Context, r *rig) (found []string) {
	var replayed, sent int
	err := r.db.QueryRow(ctx, "SELECT (SELECT count(*)::int FROM replay), (SELECT count(*)::int FROM message WHERE state = 'sent')").Scan(&replayed, &sent)
	if err != nil {
		return []string{err.Error()}
	}
	r.figure("replayed", replayed)
	if replayed != r.plan.messages || sent != r.plan.messages || r.sim.AcceptedTotal() != r.plan.messages {
		found = append(found, fmt.Sprintf("(b) of %d messages that failed %d were replayed, %d are sent, and WeChat accepted %d", r.plan.messages, replayed, sent, r.sim.AcceptedTotal()))
	}
	return found
}
