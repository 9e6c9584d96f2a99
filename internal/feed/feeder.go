package feed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/internal/clock"
	"github.com/hongyan-dispatch/hongyan/internal/gate"
	"github.com/hongyan-dispatch/hongyan/internal/tasks"
	"github.com/hongyan-dispatch/hongyan/message"
)

const (
	// ahead is how much of a flow's pace is kept in the queue, whatever a campaign's size.
	ahead = 2 * time.Second
	// A flow has at least leastChunks there, so that a worker never waits for its feeder, and at most mostChunks.
	leastChunks, mostChunks = 2, 200
	// slowChunks is how many chunks a flow has in the queue beside those, of firings whose own pace is the reason why they
	// take long: half of what a worker takes in hand.
	slowChunks = 6
	// mostBehind is how many chunks a firing may make up for that had less than its share.
	mostBehind = 20
	// tidyEvery is how often chunks and firings are looked after that no worker ends.
	tidyEvery = time.Second
)

// A Firing is a firing that has not ended.
type Firing struct {
	ID        int32
	Campaign  message.ID
	Name      string
	Stock     Stock          // whose pace it shares
	State     campaign.State // of the campaign
	Until     time.Time      // throttled, parked: when it goes on
	Reason    string
	Weight    int     // its share of the account's pace, 0: 1
	PerSecond float64 // its own pace; 0: none
	ChunkSize int
	Busy      int  // its chunks that are queued or running
	Canary    bool // its first chunk goes alone
	Opens     func(time.Time) (time.Time, bool)
	Expires   time.Time // when all that it has not sent by then ends so; zero: never
}

// over says that nothing of the firing can be sent any more. Workers' clocks may be a little behind this one's.
func (f *Firing) over(now time.Time) bool {
	const behind = 5 * time.Second
	return !f.Expires.IsZero() && now.Sub(f.Expires) > behind
}

// A Due is a campaign whose next tick has come.
type Due struct {
	Campaign message.ID
	Name     string
	Ticks    []time.Time // to fire, by its catch-up policy
	Last     time.Time   // up to which its schedule is then followed
	Next     time.Time   // zero: never again
}

// Campaigns are the campaigns' rows.
type Campaigns interface {
	// Due lists campaigns whose next tick has come.
	Due(ctx context.Context, now time.Time) ([]Due, error)
	// Fire makes the firing of a tick, unless it is there; then it says false. The error is ErrNotYet while its audience is
	// fetched.
	Fire(ctx context.Context, id message.ID, tick time.Time) (bool, error)
	// Ticked moves the schedule on.
	Ticked(ctx context.Context, d Due) error

	// Firings lists those that have not ended.
	Firings(ctx context.Context) ([]Firing, error)
	// QueueChunks marks up to n waiting chunks as queued.
	QueueChunks(ctx context.Context, firing int32, n int) ([]tasks.Chunk, error)
	// Tidy looks after what no worker brings back: queued chunks that the queue has lost, and those of dead workers.
	Tidy(ctx context.Context, firing int32) ([]tasks.Chunk, error)
	// Hold makes a campaign wait, Free lets it go on.
	Hold(ctx context.Context, id message.ID, state campaign.State, reason string, until time.Time) error
	Free(ctx context.Context, id message.ID) error
}

// ErrNotYet says that a tick cannot be fired yet.
var ErrNotYet = errors.New("not yet")

// Looks says which gate stands before an API.
type Looks interface {
	Look(ctx context.Context, account, api string, id message.ID, now time.Time) (g gate.Gate, open bool, err error)
}

// ChunkQueue takes chunks; one that is there already is no error.
type ChunkQueue interface {
	EnqueueChunks(ctx context.Context, chunks []tasks.Chunk) []error
}

// A Feeder fires campaigns when they are due, and keeps chunks of those that run in the queue. Its Run is called by the
// pod that leads.
type Feeder struct {
	Campaigns Campaigns
	Gates     Looks
	Queue     ChunkQueue
	Flows     func() []Flow // asked each tick
	Log       *slog.Logger

	tidied time.Time         // by this machine's clock, which nothing puts back
	served map[int32]float64 // chunks that a firing has had, by its weight: the least goes next
}

// Run feeds until the context ends.
func (f *Feeder) Run(ctx context.Context) error {
	f.served = map[int32]float64{}
	tick := time.NewTicker(Tick)
	defer tick.Stop()
	for {
		now, began := clock.Now(), time.Now()
		tidy := began.Sub(f.tidied) >= tidyEvery
		if tidy {
			f.tidied = began
			f.note("fire campaigns", ctx, f.fire(ctx, now))
		}
		f.note("feed campaigns", ctx, f.feed(ctx, now, tidy))
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (f *Feeder) note(what string, ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		f.Log.Warn(what, "error", err)
	}
}

// fire makes the firings that are due. A tick is fired before the schedule moves on, so that a death between the two
// costs nothing: the next feeder finds the firing there.
func (f *Feeder) fire(ctx context.Context, now time.Time) error {
	due, err := f.Campaigns.Due(ctx, now)
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range due {
		if err := f.fireOne(ctx, d); err != nil {
			errs = append(errs, fmt.Errorf("campaign %s: %w", d.Name, err)) // the others' turn is now
		}
	}
	return errors.Join(errs...)
}

func (f *Feeder) fireOne(ctx context.Context, d Due) error {
	for _, tick := range d.Ticks {
		made, err := f.Campaigns.Fire(ctx, d.Campaign, tick)
		if errors.Is(err, ErrNotYet) {
			return nil // the schedule waits
		}
		if err != nil {
			return err
		}
		if made {
			f.Log.Info("a campaign fires", "campaign", d.Campaign, "name", d.Name, "tick", tick)
		}
	}
	return f.Campaigns.Ticked(ctx, d)
}

// feed tops the queue up.
func (f *Feeder) feed(ctx context.Context, now time.Time, tidy bool) error {
	firings, err := f.Campaigns.Firings(ctx)
	if err != nil || len(firings) == 0 {
		return err
	}
	var errs []error
	going := map[Stock][]*Firing{}
	alive := map[message.ID]bool{} // campaigns that may send still
	for i := range firings {
		alive[firings[i].Campaign] = alive[firings[i].Campaign] || !firings[i].over(now)
	}
	for i := range firings {
		firing := &firings[i]
		if tidy {
			lost, err := f.Campaigns.Tidy(ctx, firing.ID)
			errs = append(errs, err, f.enqueue(ctx, lost))
		}
		goes, err := f.goes(ctx, firing, alive[firing.Campaign], now)
		if errs = append(errs, err); goes {
			going[firing.Stock] = append(going[firing.Stock], firing)
		}
	}
	for stock, list := range going {
		errs = append(errs, f.share(ctx, f.pace(stock), list))
	}
	return errors.Join(errs...)
}

// goes says whether a firing's chunks may be queued now, and keeps its campaign's state to that.
func (f *Feeder) goes(ctx context.Context, firing *Firing, alive bool, now time.Time) (bool, error) {
	switch firing.State {
	case campaign.Cancelled, campaign.Failed:
		return firing.Stock.Kind == message.Mass, nil // its parts become messages, to be cancelled; others are the settler's
	case campaign.Running, campaign.Throttled, campaign.Parked:
	default:
		return false, nil
	}
	flow, known := f.flow(firing.Stock)
	if known && !alive { // what is left ends as expired, whatever holds it up
		if firing.State == campaign.Running {
			return true, nil
		}
		return true, f.Campaigns.Free(ctx, firing.Campaign)
	}
	if opens, open := firing.Opens(now); !open {
		return false, f.hold(ctx, firing, campaign.Parked, "quiet hours or a closed day", opens)
	}
	if !known {
		return false, f.hold(ctx, firing, campaign.Throttled, "its account is not in the workers' configuration", time.Time{})
	}
	shut, open, err := f.Gates.Look(ctx, flow.Account, flow.API, message.ID{}, now)
	switch {
	case err != nil:
		return false, err
	case !open:
		until := time.Time{}
		if shut.State == gate.Closed {
			until = shut.Until
		}
		return false, f.hold(ctx, firing, campaign.Throttled, heldByGate+cmp.Or(shut.Detail, shut.Reason), until)
	case firing.State == campaign.Running:
		return true, nil
	case firing.State == campaign.Throttled && now.Before(firing.Until) && !strings.HasPrefix(firing.Reason, heldByGate):
		return false, nil // a worker found that the quota is spent; a gate may be opened before its time
	}
	return true, f.Campaigns.Free(ctx, firing.Campaign)
}

// heldByGate begins the reason of a campaign that a gate holds up.
const heldByGate = "gate: "

func (f *Feeder) hold(ctx context.Context, firing *Firing, state campaign.State, reason string, until time.Time) error {
	if firing.State == state && firing.Reason == reason && firing.Until.Equal(until) {
		return nil
	}
	return f.Campaigns.Hold(ctx, firing.Campaign, state, reason, until)
}

func (f *Feeder) flow(s Stock) (Flow, bool) {
	flows := f.Flows()
	i := slices.IndexFunc(flows, func(flow Flow) bool { return flow.Account == s.Account && flow.Kind == s.Kind })
	if i < 0 {
		return Flow{}, false
	}
	return flows[i], true
}

func (f *Feeder) pace(s Stock) float64 {
	flow, _ := f.flow(s)
	return flow.PerSecond
}

// share gives each firing of one flow its part of what may be in the queue: one chunk after another to the one that has
// had the least for its weight.
func (f *Feeder) share(ctx context.Context, pace float64, list []*Firing) error {
	most, weights := 0.0, 0
	for _, firing := range list {
		most = max(most, f.served[firing.ID])
		weights += max(1, firing.Weight)
	}
	slow := func(firing *Firing) bool { return firing.slow(pace, weights) }
	room := map[bool]int{false: chunksAhead(pace, list[0].ChunkSize), true: slowChunks} // for slow ones
	for _, firing := range list {
		room[slow(firing)] -= firing.Busy
	}
	for _, firing := range list { // who was away does not make up for it at the others' cost
		f.served[firing.ID] = max(f.served[firing.ID], most-mostBehind)
	}
	give := map[int32]int{}
	for {
		next := f.next(list, give, pace, func(firing *Firing) bool { return room[slow(firing)] > 0 })
		if next == nil {
			break
		}
		room[slow(next)]--
		give[next.ID]++
		f.served[next.ID] += 1 / float64(max(1, next.Weight))
	}
	var errs []error
	for _, firing := range list {
		if n := give[firing.ID]; n > 0 {
			chunks, err := f.Campaigns.QueueChunks(ctx, firing.ID, n)
			errs = append(errs, err, f.enqueue(ctx, chunks))
		}
	}
	return errors.Join(errs...)
}

// slow says that a firing's own pace is no more than its share of the flow's, and that its chunks take long for that alone:
// in the room of the others they would keep the flow from its pace.
func (f *Firing) slow(pace float64, weights int) bool {
	return f.PerSecond > 0 && f.State == campaign.Running && chunksAhead(f.PerSecond, f.ChunkSize) == leastChunks &&
		f.PerSecond*float64(weights) <= pace*float64(max(1, f.Weight))
}

// next is the firing that is given a chunk, of those for which there is room.
func (f *Feeder) next(list []*Firing, given map[int32]int, pace float64, room func(*Firing) bool) *Firing {
	var next *Firing
	for _, firing := range list {
		if !room(firing) {
			continue
		}
		own := pace
		if firing.PerSecond > 0 && firing.State == campaign.Running {
			own = min(own, firing.PerSecond)
		}
		most := chunksAhead(own, firing.ChunkSize)
		if firing.Canary || firing.Stock.Kind == message.Mass && !firing.State.Ended() { // parts go one after another
			most = 1
		}
		if firing.Busy+given[firing.ID] >= most {
			continue
		}
		if next == nil || f.served[firing.ID] < f.served[next.ID] {
			next = firing
		}
	}
	return next
}

// chunksAhead is how many chunks are in the queue at this pace.
func chunksAhead(perSecond float64, size int) int {
	n := math.Ceil(perSecond * ahead.Seconds() / float64(size))
	return int(min(max(n, leastChunks), mostChunks))
}

// enqueue puts chunks into the queue. Those that it cannot put are looked for later, as those that the queue loses.
func (f *Feeder) enqueue(ctx context.Context, chunks []tasks.Chunk) error {
	if len(chunks) == 0 {
		return nil
	}
	var failed int
	var first error
	for _, err := range f.Queue.EnqueueChunks(ctx, chunks) {
		if err != nil {
			failed++
			first = cmp.Or(first, err)
		}
	}
	if first != nil {
		return fmt.Errorf("enqueue %d chunks: %w", failed, first)
	}
	return nil
}
