package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/fault"
	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
	"github.com/hongyan-dispatch/hongyan/message"
)

// The points that a producer and a worker pass.
var (
	producerPoints = []fault.Point{fault.Offered, fault.Accepted, fault.Enqueued}
	workerPoints   = []fault.Point{fault.Dequeued, fault.Taken, fault.Claimed, fault.Written, fault.Answered, fault.Settled}
	pointKinds     = []message.Kind{message.Template, message.Custom, message.Mass}
)

// pathOf is how a request that is written names its kind.
var pathOf = map[message.Kind]string{
	message.Template: wechattest.PathTemplate, message.Custom: wechattest.PathCustom, message.Mass: wechattest.PathMassSend,
}

// crashPoints kills at each arrow of a message's way, with each kind: producers before and after they are accepted and
// queued, and workers from the queue to the settled outcome. Messages of all kinds flow meanwhile.
func crashPoints(ctx context.Context, r *rig) error {
	next := 1_000_000
	some := func(kind message.Kind) (numbers []int) {
		want := 20
		if kind == message.Mass {
			want = 1 // a day allows a hundred
		}
		for ; len(numbers) < want; next++ {
			if r.compose(next).Kind == kind {
				numbers = append(numbers, next)
			}
		}
		return numbers
	}
	if err := r.crew.hire(ctx, 1); err != nil { // who looks for what producers left
		return err
	}
	for _, p := range producerPoints {
		for _, kind := range pointKinds {
			if err := r.dieProducing(ctx, p, some(kind)); err != nil {
				return err
			}
		}
	}
	if err := r.crew.retire(ctx, r.crew.alive()[0]); err != nil {
		return err
	}
	for _, p := range workerPoints {
		for _, kind := range pointKinds {
			if err := r.offer(ctx, r.producer, some(kind)); err != nil {
				return err
			}
			of, times := string(kind), 1
			if p == fault.Written {
				of = pathOf[kind]
			}
			if kind != message.Mass && p != fault.Dequeued { // parcels are few
				times = 1 + r.rand.IntN(10)
			}
			r.crew.env = []string{fmt.Sprintf("HONGYAN_FAULT_AT=%s/%s:%d", p, of, times)}
			if err := r.dieOnce(ctx, 90*time.Second); err != nil {
				return err
			}
		}
	}
	r.crew.env = nil
	return r.crew.hire(ctx, 3)
}

// dieProducing lets a producer die at a point, and another offer the same messages again, under the same keys.
func (r *rig) dieProducing(ctx context.Context, p fault.Point, numbers []int) error {
	file, err := r.batchFile(numbers)
	if err != nil {
		return err
	}
	mended := r.broke("death at "+string(p), "")
	out, err := r.enqueue(ctx, []string{"HONGYAN_FAULT_AT=" + string(p)}, "batch", file).CombinedOutput()
	mended()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ProcessState.ExitCode() != -1 {
		return fmt.Errorf("the producer that was to die at %s ended with %w: %s", p, err, out)
	}
	keys := make([]string, len(numbers))
	for i, n := range numbers {
		keys[i] = r.compose(n).Key
	}
	before, err := r.idsOf(ctx, keys)
	if err != nil {
		return err
	}
	if want := map[fault.Point]int{fault.Offered: 0, fault.Accepted: len(numbers), fault.Enqueued: len(numbers)}[p]; len(before) != want {
		r.finding("(a) %d messages were accepted when their producer died at %s, want %d", len(before), p, want)
	}
	if p == fault.Accepted { // no queue has them: whoever looks for such messages must
		if err := r.found(ctx, keys); err != nil {
			return err
		}
	}
	if err := r.offer(ctx, r.producer, numbers); err != nil {
		return err
	}
	after, err := r.idsOf(ctx, keys)
	if err != nil {
		return err
	}
	if len(after) != len(numbers) {
		r.finding("(a) %d messages stand under the keys of %d", len(after), len(numbers))
	}
	for key, id := range before {
		if after[key] != id {
			r.finding("(a) key %s was of message %s, and is of %s", key, id, after[key])
		}
	}
	return nil
}

const foundWithin = 10 * time.Second

// found waits until messages are on their way that no queue had.
func (r *rig) found(ctx context.Context, keys []string) error {
	began := time.Now()
	for {
		var still int
		err := r.db.QueryRow(ctx, `
			SELECT count(*)::int FROM message_body b JOIN message m USING (id) WHERE b.key = ANY ($1) AND m.state = 'accepted'`, keys).Scan(&still)
		if err != nil {
			return err
		}
		if took := time.Since(began); still == 0 {
			if took > foundWithin {
				r.finding("(a) messages that no queue had went after %v, want within %v", took, foundWithin)
			}
			r.most("found in no queue s", took)
			return nil
		}
		if time.Since(began) > time.Minute {
			r.finding("(a) %d messages that no queue has stay there", still)
			return nil
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// idsOf are the ids of the messages that have these keys.
func (r *rig) idsOf(ctx context.Context, keys []string) (map[string]string, error) {
	rows, err := r.db.Query(ctx, "SELECT key, id::text FROM message_body WHERE key = ANY ($1)", keys)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	ids := map[string]string{}
	for rows.Next() {
		var key, id string
		if err := rows.Scan(&key, &id); err != nil {
			return nil, err
		}
		if ids[key] != "" {
			r.finding("(a) key %s stands on two messages", key)
		}
		ids[key] = id
	}
	return ids, rows.Err()
}

// batchFile writes messages as enqueue batch reads them.
func (r *rig) batchFile(numbers []int) (string, error) {
	var text []byte
	for _, n := range numbers {
		m := r.compose(n)
		line := map[string]any{"account": m.Account, "kind": m.Kind, "key": m.Key, "lane": m.Lane, string(m.Kind): m.Body}
		line["to"] = m.To
		if m.Kind == message.Mass {
			line["to"] = m.List
		}
		b, err := json.Marshal(line)
		if err != nil {
			return "", err
		}
		text = append(append(text, b...), '\n')
	}
	file := filepath.Join(r.dir, fmt.Sprintf("batch-%d.jsonl", numbers[0]))
	return file, os.WriteFile(file, text, 0o600)
}

// enqueue is the command, with the suite's stores and accounts.
func (r *rig) enqueue(ctx context.Context, env []string, args ...string) *exec.Cmd {
	file := filepath.Join(r.dir, "enqueue.yaml")
	_ = os.WriteFile(file, r.configuration("enqueue", "127.0.0.1:0"), 0o600) // what is missing the command tells
	cmd := exec.CommandContext(ctx, r.home.enqueue, append(slices.Clone(args), "--config", file)...)
	cmd.Env = append(environment(), env...)
	return cmd
}

func crashedOften(ctx context.Context, r *rig) []string {
	found := append(certain(ctx, r), massCounts(ctx, r)...)
	if got, want := len(r.faults), len(pointKinds)*(len(producerPoints)+len(workerPoints)); got != want {
		found = append(found, fmt.Sprintf("%d processes died, want %d", got, want))
	}
	return found
}

// massCounts says where our count of what users got of mass sends is not WeChat's.
func massCounts(ctx context.Context, r *rig) []string {
	var ours, calls int
	err := r.db.QueryRow(ctx, "SELECT (SELECT coalesce(sum(n), 0)::int FROM mass_user), (SELECT count(*)::int FROM mass_call WHERE state = 'sent')").Scan(&ours, &calls)
	if err != nil {
		return []string{err.Error()}
	}
	theirs, accepted := 0, 0
	r.sim.Accepts(0, func(a wechattest.Accept) bool {
		if a.API == wechattest.PathMassSend {
			theirs, accepted = theirs+a.Recipients, accepted+1
		}
		return true
	})
	r.figure("mass sends", accepted)
	if ours != theirs || calls != accepted || accepted == 0 {
		return []string{fmt.Sprintf("(e) we count %d mass sends to %d users, and WeChat %d to %d", calls, ours, accepted, theirs)}
	}
	return nil
}
