package reconcile

import (
	"context"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/clock"
	"github.com/hongyan-dispatch/hongyan/internal/tasks"
	"github.com/hongyan-dispatch/hongyan/message"
)

const (
	page = 1000 // parcels that are looked up in one round trip
	// rebuildAt is how many parcels are made anew at once: with up to 100 messages in each, it bounds memory.
	rebuildAt = 100
	// overlap is how much of what was new at the last look is looked at again: clocks differ a little, and a
	// transaction takes its time. What it misses the next whole look finds.
	overlap = 10 * time.Second
)

// outbox is how far the looks have come. It is memory only: another leader begins with a whole look.
type outbox struct {
	whole  time.Time  // the next look at everything is due, by this machine's clock, which nothing puts back
	cursor message.ID // where a look at everything goes on that was broken off
	young  time.Time  // parcels made before this were looked at when they were new
}

// sweep looks up parcels that are new, or all of them: once a minute (less often where that takes long), and as soon
// as Redis has forgotten something.
func (r *Reconciler) sweep(ctx context.Context, o *outbox, now time.Time) error {
	forgot, err := r.Lookup.Forgot(ctx)
	if err != nil {
		return err
	}
	if forgot {
		o.whole, o.cursor = time.Time{}, message.ID{}
	}
	began, settled := time.Now(), now.Add(-SettleIn)
	if began.Before(o.whole) {
		from := message.FirstID(o.young.Add(-overlap))
		if err := r.look(ctx, &from, message.FirstID(settled)); err != nil {
			return err
		}
		o.young = settled
		return nil
	}
	if err := r.look(ctx, &o.cursor, lastID); err != nil {
		return err
	}
	o.whole, o.young, o.cursor = began.Add(max(wholeEvery, wholeShare*time.Since(began))), settled, message.ID{}
	given, err := r.Lookup.Lease(ctx, now)
	if given > 0 {
		r.Log.Warn("tasks were running without a lease", "tasks", given)
	}
	return err
}

// lastID lies after every id.
var lastID = message.ID{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// look goes through the outbox between the cursor, which it moves, and before.
func (r *Reconciler) look(ctx context.Context, cursor *message.ID, before message.ID) error {
	back := 0
	defer func() {
		if back > 0 {
			r.Log.Warn("accepted messages were in no queue and are enqueued again", "messages", back)
		}
	}()
	for {
		list, err := r.Store.Outbox(ctx, *cursor, before, SettleIn, page)
		if err != nil {
			return err
		}
		missing, err := r.missing(ctx, list)
		if err != nil {
			return err
		}
		for len(missing) > 0 {
			n := min(rebuildAt, len(missing))
			put, err := r.putBack(ctx, missing[:n])
			back += put
			if err != nil {
				return err
			}
			missing = missing[n:]
		}
		if len(list) < page {
			return nil
		}
		*cursor = list[len(list)-1].ID
	}
}

// missing are those of the list that no queue will ever run.
func (r *Reconciler) missing(ctx context.Context, list []Waiting) ([]Waiting, error) {
	if len(list) == 0 {
		return nil, nil
	}
	places := make([]tasks.Place, len(list))
	for i, w := range list {
		places[i] = w.place()
	}
	gone, err := r.Lookup.Gone(ctx, places)
	if err != nil {
		return nil, err
	}
	var missing []Waiting
	for i, w := range list {
		if gone[i] {
			missing = append(missing, w)
		}
	}
	return missing, nil
}

func (w Waiting) place() tasks.Place {
	return tasks.Place{Queue: tasks.QueueOf(w.Kind, w.Lane, w.Account), ID: w.ID}
}

// putBack enqueues parcels again, under their ids, and says how many messages that were.
func (r *Reconciler) putBack(ctx context.Context, list []Waiting) (int, error) {
	parcels, err := r.Store.Rebuild(ctx, list)
	if err != nil {
		return 0, err
	}
	var going []*message.Parcel
	var places []tasks.Place
	for _, p := range parcels {
		if err := tasks.Check(p, clock.Now(), r.Retention); err != nil { // a worker would refuse it
			r.Log.Error("an accepted parcel cannot be queued", "parcel", p.ID, "error", err)
			continue
		}
		going = append(going, p)
		places = append(places, Waiting{ID: p.ID, Account: p.Account, Kind: p.Kind, Lane: p.Lane}.place())
	}
	if len(going) == 0 {
		return 0, nil
	}
	if err := r.Lookup.Forget(ctx, places); err != nil {
		return 0, err
	}
	messages := 0
	for i, err := range r.Queue.Enqueue(ctx, going) {
		if err != nil { // where Redis is away the next look says so; another parcel must not wait for this one
			r.Log.Warn("enqueue a parcel again", "parcel", going[i].ID, "error", err)
			continue
		}
		messages += len(going[i].Messages)
	}
	return messages, nil
}
