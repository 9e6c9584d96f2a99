package wechattest

import (
	"cmp"
	"container/heap"
	"context"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// pushSlots is how many pushes are on their way at once.
const pushSlots = 64

// pushes are what is to be told to callbacks. One goroutine, started with the first push, waits for their times and
// lets up to pushSlots of them go at once.
type pushes struct {
	sim    *Sim
	client *http.Client
	slots  chan struct{}
	wake   chan struct{} // holds one word: the queue's head is another
	ended  chan struct{} // closed when the goroutine has ended

	randMu sync.Mutex
	rand   *rand.Rand // of what happens
	noise  *rand.Rand // of nonces, which tries ask for in any order

	mu      sync.Mutex
	queue   pushQueue
	all     []*push // in the order of their making
	counts  PushCounts
	waiters []chan struct{} // for the last push to end
	runs    bool
	closed  bool
}

// A push is one event on its way to an account's callback.
type push struct {
	account *Account
	event   event
	due     time.Time
	again   bool          // to come once more after it was answered
	repeat  time.Duration // and how long after
	first   chan struct{} // closed after the first try
	log     Push          // guarded by pushes.mu
}

func newPushes(s *Sim, seed uint64) *pushes {
	return &pushes{
		sim: s, rand: rand.New(rand.NewPCG(seed, 2)), noise: rand.New(rand.NewPCG(seed, 3)),
		client: &http.Client{
			Transport:     &http.Transport{MaxIdleConnsPerHost: pushSlots, IdleConnTimeout: time.Minute},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		slots: make(chan struct{}, pushSlots), wake: make(chan struct{}, 1), ended: make(chan struct{}),
	}
}

// add makes a push of an event; the channel is closed when its first try has ended.
func (p *pushes) add(a *Account, e event, f Fortune) (first <-chan struct{}) {
	s := p.sim
	lost, twice, late := s.chance(f.Lost), s.chance(f.Twice), s.chance(f.Reorder)
	delay := f.Delay.draw(s)
	if late {
		delay += max(f.Delay.Max, minHold)
	}
	if e.early {
		delay = 0
	}
	x := &push{account: a, event: e, again: twice, repeat: max(f.Delay.Max, minHold), first: make(chan struct{}), due: time.Now().Add(delay)}
	x.log = Push{
		At: e.at.In(Beijing), AppID: a.set.Load().AppID, What: e.what(), OpenID: e.user, MsgID: e.msgID, Status: e.status,
		Fate: Waiting, Early: e.early && !lost, Twice: twice && !lost,
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts.Made++
	x.log.Seq = uint64(p.counts.Made)
	if LogMode(s.log.mode.Load()) != LogCounts {
		p.all = append(p.all, x)
	}
	p.counts.Waiting++
	if lost || p.closed {
		close(x.first)
		p.end(x, Lost)
		return x.first
	}
	p.put(x)
	if !p.runs {
		p.runs = true
		go p.run()
	}
	return x.first
}

// minHold is how long a push is at least held back to be overtaken.
const minHold = 20 * time.Millisecond

// put queues the push. It needs p.mu.
func (p *pushes) put(x *push) {
	heap.Push(&p.queue, x)
	if p.queue[0] == x {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
}

// end notes what became of a push. It needs p.mu.
func (p *pushes) end(x *push, fate Fate) {
	x.log.Fate = fate
	p.counts.Waiting--
	switch fate {
	case Delivered:
		p.counts.Delivered++
	case Lost:
		p.counts.Lost++
	case GivenUp:
		p.counts.GivenUp++
	}
	if p.counts.Waiting == 0 {
		for _, w := range p.waiters {
			close(w)
		}
		p.waiters = nil
	}
}

// run lets pushes go at their times until the simulator closes; then it waits for those that are on their way.
func (p *pushes) run() {
	ctx, cancel := context.WithCancel(context.Background())
	var going sync.WaitGroup
	defer func() {
		cancel()
		going.Wait()
		p.client.CloseIdleConnections()
		close(p.ended)
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		x, wait := p.take(time.Now())
		if x == nil {
			timer.Reset(wait)
			select {
			case <-p.sim.done:
				return
			case <-p.wake:
			case <-timer.C:
			}
			continue
		}
		select {
		case <-p.sim.done:
			return
		case p.slots <- struct{}{}:
		}
		going.Go(func() {
			p.try(ctx, x)
			<-p.slots
		})
	}
}

// take is the first push if it is due, or how long to wait.
func (p *pushes) take(now time.Time) (*push, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) == 0 {
		return nil, time.Hour
	}
	if wait := p.queue[0].due.Sub(now); wait > 0 {
		return nil, wait
	}
	return heap.Pop(&p.queue).(*push), 0
}

// try lets a push go once.
func (p *pushes) try(ctx context.Context, x *push) {
	c := x.account.set.Load().callback // as it is now: the console may have changed it
	if c == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		x.log.Problem = "the account has no callback any more"
		x.firstDone()
		p.end(x, GivenUp)
		return
	}
	body, err := p.sim.send(ctx, c, x.event)
	shown, problem := "", err
	if err == nil {
		shown, problem = c.shown(x.event, body)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	x.log.Tries++
	x.log.Done = p.sim.Clock.Now().In(Beijing)
	x.log.Problem = ""
	if problem != nil {
		x.log.Problem = problem.Error()
	}
	switch {
	case ctx.Err() != nil: // the simulator closes
	case err == nil:
		x.log.Answered++
		x.log.Shown = cmp.Or(x.log.Shown, shown) // a repetition may be answered by success alone
		if x.again {
			x.again = false
			x.due = time.Now().Add(x.repeat)
			p.put(x)
			break
		}
		p.end(x, Delivered)
	case x.log.Answered > 0:
		p.end(x, Delivered) // the repetition alone failed
	case x.log.Tries >= c.Tries:
		x.log.Shown = OutOfOrder
		p.end(x, GivenUp)
	default:
		x.due = time.Now().Add(c.Gap)
		p.put(x)
	}
	x.firstDone()
}

// firstDone ends the wait for the first try. It needs pushes.mu.
func (x *push) firstDone() {
	select {
	case <-x.first:
	default:
		close(x.first)
	}
}

// stop is for Close: nothing new goes out, and what is on its way has ended when it returns.
func (p *pushes) stop() {
	p.mu.Lock()
	runs := p.runs
	p.closed = true
	p.mu.Unlock()
	if runs {
		<-p.ended
	}
}

// pushQueue is a heap of pushes by their times.
type pushQueue []*push

func (q pushQueue) Len() int { return len(q) }
func (q pushQueue) Less(i, j int) bool {
	if q[i].due.Equal(q[j].due) {
		return q[i].log.Seq < q[j].log.Seq
	}
	return q[i].due.Before(q[j].due)
}
func (q pushQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *pushQueue) Push(x any)   { *q = append(*q, x.(*push)) }
func (q *pushQueue) Pop() any {
	old := *q
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return last
}
