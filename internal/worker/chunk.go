package worker

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/hibiken/asynq"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/internal/clock"
	"github.com/hongyan-dispatch/hongyan/internal/fault"
	"github.com/hongyan-dispatch/hongyan/internal/tasks"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// A Chunk is a run over a part of a campaign's firing. Whoever took it has it alone for as long as the lease is kept.
type Chunk struct {
	Campaign message.ID
	Kind     message.Kind
	State    campaign.State // of the campaign, when the chunk was taken
	First    bool           // no earlier run has begun with it
	Flow     string         // what shares a pace: the account and the API
	Hand     int            // how many messages of a flow are worked on at a time
	Paced    bool           // the campaign has a pace of its own, beside the flow's
	StopAt   float64        // the share of failures that pauses the campaign
	Held     any            // the ledger's own handle of the run
}

// A Letter is a recipient's message.
type Letter struct {
	*message.Message
	Err   error           // why it cannot be written
	Skip  outcome.Outcome // decided already: the recipient is to be spared
	Later bool            // another campaign has the recipient in hand: left to the next run
}

// late says that the message has expired.
func (l Letter) late() bool { return !l.ExpiresAt.IsZero() && !clock.Now().Before(l.ExpiresAt) }

// A Hold says why a campaign cannot go on by itself before a time.
type Hold struct {
	Reason string
	Until  time.Time
}

// Chunks are the chunks of campaigns, in the ledger.
type Chunks interface {
	// Take begins a run; nil means that there is nothing to do.
	Take(ctx context.Context, firing, no int32) (*Chunk, error)
	// Letters are the messages to the chunk's recipients that are not in the ledger yet, n of them, each composed when its
	// turn has come. Those of a campaign that was cancelled are empty.
	Letters(ctx context.Context, c *Chunk) (n int, letters iter.Seq[Letter], err error)
	// Pace waits until the campaign's own pace lets one more message go.
	Pace(ctx context.Context, c *Chunk) error
	// Keep keeps the run for some seconds more, and says how the campaign stands; empty: somebody else has the chunk.
	Keep(ctx context.Context, c *Chunk) (campaign.State, error)
	// GiveBack ends a run that has recipients left.
	GiveBack(ctx context.Context, c *Chunk, h Hold) error
	// End ends a run without: with the outcomes of all messages where these have ended, else with nil.
	End(ctx context.Context, c *Chunk, tally map[string]int) error
	// Stop pauses the campaign.
	Stop(ctx context.Context, c *Chunk, reason string) error
}

const (
	// keepEvery bounds how long a pause or a cancel goes unseen: of a worker's runs the first to see it halts all.
	keepEvery = time.Second
	// slice is how long a run takes new messages in hand: at a slow pace campaigns take turns in the servers' slots.
	slice = 10 * time.Second
	// turnWait is longer, so that whoever is next outlives those before.
	turnWait = slice + 2*time.Second
	// patience is how long a message waits for its turn: it is in hand because its turn is near. Its chunk has nobody
	// behind it whom that holds up.
	patience = 10 * time.Second
)

var (
	errStopped = errors.New("the campaign does not run any more")
	errLost    = errors.New("the chunk was given to another worker")
	errNoTurn  = errors.New("it was not the run's turn in time")
)

// chunk sees one chunk through, or as far as it may go.
func (h *Handler) chunk(ctx context.Context, t *asynq.Task) error {
	firing, no, err := tasks.DecodeChunk(t)
	if err != nil {
		return h.reject(ctx, t, err)
	}
	c, err := h.Chunks.Take(ctx, firing, no)
	if err != nil || c == nil {
		return err
	}
	fault.At(fault.Dequeued, string(c.Kind))
	r := &run{Handler: h, chunk: c, tally: map[string]int{}}
	r.ctx, r.halt = context.WithCancelCause(ctx)
	r.after = context.WithoutCancel(ctx)
	defer r.halt(nil)
	h.runs.Store(r, nil)
	defer h.runs.Delete(r)
	switch c.State {
	case campaign.Running:
		return r.see(r.send)
	case campaign.Cancelled, campaign.Failed:
		return r.see(r.cancel)
	}
	return h.Chunks.GiveBack(r.after, c, Hold{})
}

// A run is one worker's way through a chunk. It stops between messages: what is not claimed by then is left over.
type run struct {
	*Handler
	chunk *Chunk
	ctx   context.Context // of this run
	after context.Context // outlives it
	halt  context.CancelCauseFunc

	settling sync.WaitGroup // outcomes that are being written

	mu    sync.Mutex
	tally map[string]int
	left  int  // not decided: for another run
	open  bool // some messages have not ended, or are somebody else's
	hold  Hold
}

// see goes through the chunk's letters and ends the run. A letter that each has done with is done.
func (r *run) see(each func(l Letter, done func())) error {
	err := r.kept(func() error { return r.work(each) })
	switch {
	case errors.Is(context.Cause(r.ctx), errLost):
		return nil
	case err != nil || r.left > 0:
		return r.Chunks.GiveBack(r.after, r.chunk, r.hold)
	case r.open || !r.chunk.First:
		return r.Chunks.End(r.after, r.chunk, nil)
	}
	return r.Chunks.End(r.after, r.chunk, r.tally)
}

// kept keeps the run while it does its work.
func (r *run) kept(work func() error) error {
	var keeper sync.WaitGroup
	defer keeper.Wait()
	ctx, release := context.WithCancel(r.after)
	defer release()
	keeper.Go(func() { r.keep(ctx) })
	return work()
}

// keep keeps the run, and halts it where the campaign does not run any more.
func (r *run) keep(ctx context.Context) {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		state, err := r.Chunks.Keep(ctx, r.chunk)
		switch {
		case err != nil: // claims fail as well; what is lost is told by the next answer
		case state == "":
			r.halt(errLost)
		case state != r.chunk.State:
			r.haltAll()
		}
	}
}

// work waits for the run's turn, puts its letters into the crew's hands, one by one, and waits for them.
func (r *run) work(each func(l Letter, done func())) error {
	f := r.flow()
	release, err := r.begin(f)
	if err != nil {
		return err
	}
	defer release()
	over, cancel := context.WithTimeout(r.ctx, slice)
	defer cancel()
	n, letters, err := r.Chunks.Letters(r.ctx, r.chunk)
	if err != nil {
		r.fail(err)
		return err
	}

	var wg sync.WaitGroup
	done := func() { <-f.hand; wg.Done() }
	seen, busy := 0, 0
	for l := range letters {
		seen++
		if l.Later {
			busy++
			r.leave(1)
			continue
		}
		if over.Err() != nil || !r.turn(l, f.hand) {
			r.leave(n - seen + 1)
			break
		}
		wg.Add(1)
		each(l, done)
	}
	release() // not behind calls that hang
	wg.Wait()
	r.settling.Wait()
	if busy > 0 && busy == n { // it would only find them so again
		select {
		case <-time.After(busyWait):
		case <-r.ctx.Done():
		}
	}
	return nil
}

// begin waits for the run's turn to hand its letters out, if it needs one; release ends it, once.
func (r *run) begin(f *flow) (release func(), err error) {
	if r.chunk.State != campaign.Running || r.chunk.Paced {
		return func() {}, nil
	}
	wait, cancel := context.WithTimeout(r.ctx, turnWait)
	defer cancel()
	select {
	case f.runs <- struct{}{}:
		release = sync.OnceFunc(func() { <-f.runs })
	case <-wait.Done():
		return nil, errNoTurn
	}
	if r.ctx.Err() != nil { // both were so
		release()
		return nil, errNoTurn
	}
	return release, nil
}

// busyWait is how long a run waits whose recipients are all in other hands.
const busyWait = time.Second

// turn waits until the letter may be taken in hand; false: none may. One that is not to be sent waits for no pace.
func (r *run) turn(l Letter, hand chan struct{}) bool {
	if r.chunk.State == campaign.Running && l.Err == nil && !l.Skip.Decided() && !l.late() {
		if err := r.Chunks.Pace(r.ctx, r.chunk); err != nil {
			r.halt(err)
			return false
		}
	}
	select {
	case hand <- struct{}{}: // the usual case, which costs a fifth of the other
	default:
		select {
		case hand <- struct{}{}:
		case <-r.ctx.Done():
			return false
		}
	}
	if r.ctx.Err() != nil {
		<-hand
		return false
	}
	return true
}

// A flow bounds what its runs have under way.
type flow struct {
	// hand has a place for each message that is in the crew's hands: more would only stand in line for the flow's pace, and
	// keep other accounts' out.
	hand chan struct{}
	// runs has a place for each run that hands its letters out, unless a pace of its own holds it up: more would read their
	// recipients long before their turn, and spread a commit's claims over more chunks, each of which it must hold.
	runs chan struct{}
}

// runsAtATime lets some runs read their recipients while another hands its own out.
const runsAtATime = 3

func (r *run) flow() *flow {
	if f, ok := r.flows.Load(r.chunk.Flow); ok {
		return f.(*flow)
	}
	f, _ := r.flows.LoadOrStore(r.chunk.Flow, &flow{make(chan struct{}, max(1, r.chunk.Hand)), make(chan struct{}, runsAtATime)})
	return f.(*flow)
}

func (r *run) leave(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.left += n
}

// leaveOpen says that some message is somebody else's: the ledger counts when all have ended.
func (r *run) leaveOpen() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open = true
}

// count counts an outcome that was written.
func (r *run) count(o outcome.Outcome) {
	key := string(o.Status)
	if o.Reason != "" {
		key += " " + string(o.Reason)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tally[key]++
	r.open = r.open || !o.Status.Terminal()
}

// troubleFor is how long a campaign rests after an error: its next chunk would only meet it again.
const troubleFor = 5 * time.Second

// fail halts the run for an error; one that comes of the halt itself says nothing.
func (r *run) fail(err error) {
	r.mu.Lock()
	if r.ctx.Err() == nil {
		r.hold = Hold{Reason: err.Error(), Until: clock.Now().Add(troubleFor)}
	}
	r.mu.Unlock()
	r.halt(err)
}

// wait halts the run until its account may send again.
func (r *run) wait(o outcome.Outcome) {
	r.leave(1)
	r.mu.Lock()
	if o.Until.After(r.hold.Until) {
		r.hold = Hold{Reason: string(o.Reason), Until: o.Until}
		if o.ErrMsg != "" {
			r.hold.Reason += ": " + o.ErrMsg
		}
	}
	r.mu.Unlock()
	r.halt(fmt.Errorf("the account waits: %s", o.Reason))
}

// haltAll halts all runs in this worker that found the campaign as this one did: it has changed. Other workers see that
// within a second.
func (r *run) haltAll() {
	r.runs.Range(func(other, _ any) bool {
		if o := other.(*run); o.chunk.Campaign == r.chunk.Campaign && o.chunk.State == r.chunk.State {
			o.halt(errStopped)
		}
		return true
	})
}
