package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// CommitterOptions tune a [Committer]; the zero value is fine.
type CommitterOptions struct {
	MaxRows int           // of a transaction, beside as many recipients whose claims make no row; default 256
	Drain   time.Duration // how long Run goes on writing what is in hand after its ctx ended; default 5 s
	// Committed, if set, is called after each transaction, for metrics.
	Committed func(rows int, took time.Duration)
	// Failed, if set, is called when a transaction failed and will be tried again or split, for logs.
	Failed func(err error, rows int)
}

// A Committer is one pod's way to write claims, settles and verdicts: it gathers those of all goroutines into one
// transaction at a time. It commits at once when idle; what comes while a commit is under way goes with the next.
// Its methods may be called from any number of goroutines while [Committer.Run] runs.
//
// A commit whose answer was lost is run again under the same number; the database refuses a number that it has
// committed before, and the committer then reads what that commit did. So no claim is granted twice, and none is
// granted and forgotten. A transaction that the database refuses for a row's sake is split until the bad row
// stands alone and fails alone ([ErrUnstorable]).
type Committer struct {
	store *Store
	pod   int32
	o     CommitterOptions

	mu      sync.Mutex
	queue   []*op
	parcels []message.ID // done: outbox rows to delete with the next transaction
	stopped bool
	wake    chan struct{} // holds one token when there is work

	// Of Run's goroutine alone.
	session      *session
	number       int64         // of the last transaction that was begun
	flights      map[int64]int // claims not yet settled, by batch
	landed       []int64       // batches with none left, whose in_flight row is still there
	rowsExpected bool          // the last claims found rows, so the next will: claim by UPDATE, without sending bodies
	b            batch         // reused by gather
	seen         map[message.ID]struct{}
	scratch      scratch

	massBatch atomic.Int64
}

// NewCommitter makes the committer of the pod that [Store.StartPod] wrote down. A pod has one committer.
func (s *Store) NewCommitter(pod int32, o CommitterOptions) *Committer {
	if o.MaxRows == 0 {
		o.MaxRows = 256
	}
	if o.Drain == 0 {
		o.Drain = 5 * time.Second
	}
	return &Committer{store: s, pod: pod, o: o, wake: make(chan struct{}, 1), flights: map[int64]int{}}
}

// A Claim is the right to send a message once. It is also the intent, on disk before the wire, and the fence:
// what becomes of the message counts only under the claim's number.
type Claim struct {
	// OK: the message is ours to send, now, once. Otherwise it was decided, parked or claimed by somebody else, or,
	// where Verdict is set, by this claim itself; in both cases it counts as handled.
	OK          bool
	Number      int32     // the fence
	Attempt     int16     // this one included; 1 for the first
	FirstIntent time.Time // database time of the first claim
	Intent      time.Time // database time of this one
	Doubt       bool      // an earlier attempt may have reached WeChat
	// Asked is the pod's own clock, monotonic part included, right before the commit was sent: the age of the claim
	// is at most time.Since(Asked).
	Asked   time.Time
	Verdict *outcome.Outcome // duplicate or key conflict, written with the claim; nil: none

	batch   int64
	rowless bool // of a recipient, whose message gets its row with the settle
}

// Effects are what a settle or a verdict brings about besides the message's own state, in the same transaction and
// only if the state was written.
type Effects struct {
	Suppress *Suppression     // the user refuses our messages
	Fallback *message.Message // to be sent instead: parked, due now (or at its NotBefore); blanks are filled from the first
	Doubt    bool             // Parked after an ambiguous result: the message may have been sent
	Alone    bool             // Parked: released in a parcel of its own
	Note     string           // for the timeline
}

// Claim asks to send m, which came in the given parcel. It blocks until the claim is committed or refused. A
// message that has no row yet (it was handed over through Redis alone) gets one, and takes its key.
//
// When ctx ends first Claim returns its error, and the message is not to be sent: a claim that was committed
// nevertheless is taken back by parking the message, due at once.
func (c *Committer) Claim(ctx context.Context, m *message.Message, parcel message.ID) (Claim, error) {
	o := newOp(opClaim, m)
	o.parcel = parcel
	return c.claim(ctx, o)
}

func (c *Committer) claim(ctx context.Context, o *op) (Claim, error) {
	if err := storable(o.m); err != nil {
		return Claim{}, fmt.Errorf("claim: %w", err)
	}
	if err := c.do(ctx, o); err != nil {
		return Claim{}, fmt.Errorf("claim: %w", err)
	}
	claim := o.claim
	ops.Put(o)
	return claim, nil
}

// Settle writes what became of m under its claim, and says whether that took effect. It did not if the claim was
// lost (its pod counted as dead and another hand decided): then the result is kept in the timeline, and at most
// turns an unknown into what it proves. The outcome is terminal or parked.
//
// When ctx ends first Settle returns its error and the outcome may still be written.
func (c *Committer) Settle(ctx context.Context, m *message.Message, claim Claim, o outcome.Outcome, e Effects) (bool, error) {
	op, err := settleOp(m, claim, o, e)
	if err != nil {
		return false, fmt.Errorf("settle: %w", err)
	}
	if err := c.do(ctx, op); err != nil {
		return false, fmt.Errorf("settle: %w", err)
	}
	took := op.took
	ops.Put(op)
	return took, nil
}

// SettleLater is Settle for a caller who need not wait: then is called once, with what Settle would have answered, and must
// not block, since all others wait behind it. What is claimed afterwards is not committed before.
func (c *Committer) SettleLater(ctx context.Context, m *message.Message, claim Claim, o outcome.Outcome, e Effects, then func(took bool, err error)) {
	settle, err := settleOp(m, claim, o, e)
	if err == nil {
		settle.then = func(o *op, err error) { then(o.took, err) }
		err = c.enqueue(ctx, settle)
	}
	if err != nil {
		then(false, fmt.Errorf("settle: %w", err))
	}
}

func settleOp(m *message.Message, claim Claim, o outcome.Outcome, e Effects) (*op, error) {
	if !claim.OK || !o.Status.Terminal() && o.Status != outcome.Parked {
		return nil, fmt.Errorf("%s: outcome %q under claim %d is a mistake of the caller", m.ID, o.Status, claim.Number)
	}
	if err := e.complete(m); err != nil {
		return nil, err
	}
	op := newOp(opSettle, m)
	op.claim, op.out, op.effects = claim, o, e
	return op, nil
}

// Verdict writes what was decided about m without a claim (skipped, expired, parked, failed as invalid), and says
// whether it took effect: it writes only over accepted, or where there is no row yet. If it did not, somebody else
// has decided, and the message counts as handled.
//
// When ctx ends first Verdict returns its error and the verdict may still be written.
func (c *Committer) Verdict(ctx context.Context, m *message.Message, parcel message.ID, o outcome.Outcome, e Effects) (bool, error) {
	op := newOp(opVerdict, m)
	op.parcel, op.out, op.effects = parcel, o, e
	return c.verdict(ctx, op)
}

func (c *Committer) verdict(ctx context.Context, op *op) (bool, error) {
	if !op.out.Status.Terminal() && op.out.Status != outcome.Parked {
		return false, fmt.Errorf("verdict on %s: outcome %q is a mistake of the caller", op.m.ID, op.out.Status)
	}
	if err := storable(op.m); err != nil {
		return false, fmt.Errorf("verdict: %w", err)
	}
	if err := op.effects.complete(op.m); err != nil {
		return false, fmt.Errorf("verdict: %w", err)
	}
	if err := c.do(ctx, op); err != nil {
		return false, fmt.Errorf("verdict: %w", err)
	}
	took := op.took
	ops.Put(op)
	return took, nil
}

// ParcelDone says that every message of the parcel is terminal or parked: its outbox row goes with the next
// transaction. It does not block. If it is lost with the process, the reconciler finds the parcel done.
func (c *Committer) ParcelDone(id message.ID) {
	c.mu.Lock()
	c.parcels = append(c.parcels, id)
	c.mu.Unlock()
	c.nudge()
}

// An op is one claim, settle or verdict on its way through a transaction.
type op struct {
	kind    opKind
	m       *message.Message
	account int32
	parcel  message.ID
	run     *Chunk // claim, verdict: of a recipient of this run; nil: of another message
	claim   Claim  // asked with (settle), or granted
	out     outcome.Outcome
	effects Effects

	fresh bool   // claim, verdict: a row may have to be made
	late  bool   // settle: the claim is known to be lost
	key   *keyed // fresh with a key

	took bool
	err  error
	then func(o *op, err error) // takes the answer; nil: somebody waits for done
	done chan struct{}          // takes one token: the answer is there
	fate atomic.Int32           // who was first: the answer or the caller's leaving
}

var ops = sync.Pool{New: func() any { return &op{done: make(chan struct{}, 1)} }}

// newOp makes an op, or takes one that had its answer.
func newOp(kind opKind, m *message.Message) *op {
	o := ops.Get().(*op)
	done := o.done
	*o = op{kind: kind, m: m, done: done}
	return o
}

type opKind int8

const (
	opClaim opKind = iota
	opSettle
	opVerdict
)

const (
	waiting int32 = iota
	answered
	left
)

// enqueue queues the op.
func (c *Committer) enqueue(ctx context.Context, o *op) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	account, err := c.store.accountID(ctx, o.m.Account)
	if err != nil {
		return err
	}
	o.account = account
	c.mu.Lock()
	if c.stopped {
		c.mu.Unlock()
		return ErrStopped
	}
	c.queue = append(c.queue, o)
	c.mu.Unlock()
	c.nudge()
	return nil
}

// do queues the op and waits for its answer.
func (c *Committer) do(ctx context.Context, o *op) error {
	if err := c.enqueue(ctx, o); err != nil {
		return err
	}
	gone := ctx.Done()
	if gone == nil { // as with most: a plain receive costs half of a select
		<-o.done
		return o.err
	}
	select {
	case <-o.done:
		return o.err
	case <-gone:
	}
	if o.fate.CompareAndSwap(waiting, left) {
		return ctx.Err()
	}
	<-o.done
	return o.err
}

func (c *Committer) nudge() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// answer gives the op back to its caller. A claim granted to a caller who has gone is taken back.
func (c *Committer) answer(o *op, err error) {
	if o.then != nil {
		o.then(o, err)
		ops.Put(o)
		return
	}
	o.err = err
	if o.fate.CompareAndSwap(waiting, answered) {
		o.done <- struct{}{}
		return
	}
	if o.kind == opClaim && err == nil && o.claim.OK {
		back := newOp(opSettle, o.m)
		back.account, back.claim = o.account, o.claim
		back.out = outcome.Outcome{Status: outcome.Parked, Reason: outcome.Pace}
		back.effects = Effects{Note: "claim given back before the wire: its run had gone"}
		c.requeue(back)
	}
}

// requeue puts ops that have waited before at the head of the line.
func (c *Committer) requeue(ops ...*op) {
	c.mu.Lock()
	c.queue = append(ops, c.queue...)
	c.mu.Unlock()
	c.nudge()
}

// Run writes until ctx ends, and then what is in hand within the drain time. It returns nil when all was written.
func (c *Committer) Run(ctx context.Context) error {
	// What must finish runs on a context that outlives the signal.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(c.o.Drain, cancel) })()
	defer c.closeSession()
	for work.Err() == nil {
		if c.gather() {
			c.write(work, c.b)
			continue
		}
		if ctx.Err() != nil {
			break
		}
		select {
		case <-c.wake:
		case <-ctx.Done():
		}
	}
	if len(c.landed) > 0 && work.Err() == nil {
		c.write(work, batch{}) // leave no row behind that only says "nothing here"
	}
	return c.stop()
}

// stop refuses what comes from now on, and what is left.
func (c *Committer) stop() error {
	c.mu.Lock()
	c.stopped = true
	rest := c.queue
	c.queue = nil
	c.mu.Unlock()
	for _, o := range rest {
		c.answer(o, ErrStopped)
	}
	if len(rest) > 0 {
		return errors.New("postgres: the committer stopped with work in hand")
	}
	return nil
}
