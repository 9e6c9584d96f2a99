package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hongyan-dispatch/hongyan/internal/callback"
	"github.com/hongyan-dispatch/hongyan/internal/clock"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/window"
	"github.com/hongyan-dispatch/hongyan/message"
)

// pushes writes what WeChat pushes: first into Postgres, then into the ledger of the windows, which is built from it where
// Redis was lost, and last that the request is known.
type pushes struct {
	store   *postgres.Store
	rdb     redis.UniversalClient
	windows *window.Ledger
	log     *slog.Logger

	mu   sync.Mutex
	late []window.Note // committed, but Redis was away
}

// requestKnownFor is how long a recorded request is known: for longer than its timestamp is accepted.
const requestKnownFor = 25 * time.Minute

// maxLate bounds what waits for Redis. What is beyond it is built again from Postgres only where Redis was lost.
const maxLate = 200_000

func (p *pushes) Write(ctx context.Context, entries []callback.Entry, now time.Time) (again []bool, err error) {
	again, away := p.known(ctx, entries)
	if away != nil { // Postgres gets them all the same: WeChat repeats a push for some seconds only
		again = make([]bool, len(entries))
	}
	var fresh []callback.Entry
	var notes []window.Note
	for i, e := range entries {
		if again[i] {
			continue
		}
		fresh = append(fresh, e)
		notes = append(notes, notesOf(e)...)
	}
	if err := p.keep(ctx, fresh); err != nil {
		return nil, err
	}
	if err := p.hear(ctx, notes, now); err != nil || away != nil {
		return nil, errors.Join(away, err)
	}
	return again, p.remember(ctx, entries, again)
}

// keep writes entries into Postgres. Of what the database refuses the bad one is found and left out, so that it takes none of
// those down with it that came at the same time; WeChat's repetition would not make it better.
func (p *pushes) keep(ctx context.Context, entries []callback.Entry) error {
	var rows postgres.Pushes
	for _, e := range entries {
		addRows(&rows, e)
	}
	if len(rows.Inbound)+len(rows.Choices)+len(rows.Receipts) == 0 {
		return nil
	}
	err := p.store.RecordPushes(ctx, rows)
	if !postgres.RefusedRow(err) {
		return err
	}
	if half := len(entries) / 2; half > 0 {
		if err := p.keep(ctx, entries[:half]); err != nil {
			return err
		}
		return p.keep(ctx, entries[half:])
	}
	p.log.Error("a push cannot be kept: the database refuses it", "account", entries[0].Account, "error", err)
	return nil
}

// hear tells the windows, also what they have not heard before because Redis was away.
func (p *pushes) hear(ctx context.Context, notes []window.Note, now time.Time) error {
	p.mu.Lock()
	notes = append(p.late, notes...)
	p.late = nil
	p.mu.Unlock()
	if len(notes) == 0 {
		return nil
	}
	err := p.windows.Heard(ctx, notes, now)
	if err == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.late = append(p.late, notes...)
	if over := len(p.late) - maxLate; over > 0 {
		p.log.Error("events are too many for the wait until Redis is back: windows that they opened count as closed", "events", over)
		p.late = p.late[over:]
	}
	return err
}

// Run tells the windows late what they could not be told, until the context ends.
func (p *pushes) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			_ = p.hear(ctx, nil, clock.Now()) // or a second later; whoever records says what is wrong
		}
	}
}

func requestKey(e callback.Entry) string {
	return "hongyan:callback:{" + string(e.AppID) + "}:" + e.Request
}

// known says which requests were recorded before.
func (p *pushes) known(ctx context.Context, entries []callback.Entry) ([]bool, error) {
	found := make([]*redis.IntCmd, len(entries))
	_, err := p.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, e := range entries {
			found[i] = pipe.Exists(ctx, requestKey(e))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look up requests: %w", err)
	}
	again := make([]bool, len(entries))
	here := map[string]bool{}
	for i, e := range entries {
		key := requestKey(e)
		again[i] = found[i].Val() > 0 || here[key]
		here[key] = true
	}
	return again, nil
}

func (p *pushes) remember(ctx context.Context, entries []callback.Entry, again []bool) error {
	_, err := p.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, e := range entries {
			if !again[i] {
				pipe.Set(ctx, requestKey(e), 1, requestKnownFor)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("remember requests: %w", err)
	}
	return nil
}

// addRows is what the ledger keeps of a push. One that is not surely WeChat's opens windows, as the account's mode wants
// it, and proves nothing about messages.
func addRows(rows *postgres.Pushes, e callback.Entry) {
	m := e.Meaning
	add := func(trigger string) {
		rows.Inbound = append(rows.Inbound, postgres.Inbound{Account: e.Account, OpenID: m.User, Trigger: trigger, At: m.At})
	}
	switch {
	case m.Presence == callback.Left:
		add(postgres.TriggerLeft)
	case m.Trigger != callback.NoTrigger:
		add(string(m.Trigger))
	case m.Presence != callback.NoPresence:
		add(postgres.TriggerSeen)
	}
	for _, c := range m.Choices {
		rows.Choices = append(rows.Choices, postgres.Choice{Account: e.Account, OpenID: m.User, TemplateID: c.TemplateID, Refused: c.Refused, At: m.At})
	}
	for i, r := range m.Receipts {
		key := m.Key
		if i > 0 {
			key += "#" + strconv.Itoa(i)
		}
		rows.Receipts = append(rows.Receipts, postgres.Receipt{
			Account: e.Account, Key: key, Kind: r.Kind, MsgID: r.MsgID, OpenID: m.User, TemplateID: r.TemplateID, At: m.At,
			Delivered: r.Delivered, Reason: r.Reason, Code: int(r.Code), Blocked: r.Reason == callback.Blocked, Sealed: e.Sealed,
		})
	}
	if r := m.Mass; r != nil {
		rows.Receipts = append(rows.Receipts, postgres.Receipt{
			Account: e.Account, Key: m.Key, Kind: message.Mass, MsgID: r.MsgID, At: m.At,
			Delivered: r.Sent, Reason: r.Reason, Code: int(r.Code), Sealed: e.Sealed, Job: jobOf(r.Job),
		})
	}
}

// jobOf is the rest of a mass send's receipt as it is kept.
func jobOf(j callback.MassJob) []byte {
	text, err := json.Marshal(map[string]any{
		"total": j.TotalCount, "filtered": j.FilterCount, "sent": j.SentCount, "failed": j.ErrorCount,
		"check": j.CheckState, "copyright": j.Copyright, "urls": j.URLs,
	})
	if err != nil {
		panic("app: a job of numbers and texts is no JSON: " + err.Error())
	}
	return text
}

// notesOf is what the windows hear of a push.
func notesOf(e callback.Entry) []window.Note {
	m := e.Meaning
	n := window.Note{AppID: e.AppID, OpenID: m.User, Trigger: window.Trigger(m.Trigger), At: m.At}
	if m.Presence == callback.Left || m.Trigger != callback.NoTrigger {
		return []window.Note{n}
	}
	return nil
}
