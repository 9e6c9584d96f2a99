package worker

import (
	"fmt"
	"sync"

	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

const (
	watched   = 1000 // passes of a campaign that are looked back on
	watchFrom = 100  // fewer say nothing
)

// A watch knows how the last passes of each campaign went in this pod. The zero value knows none.
type watch struct {
	mu     sync.Mutex
	passes map[message.ID]*passes
}

// passes are the classes of failure of the last ones, in a ring; empty: it went well.
type passes struct {
	ring  []string
	next  int
	count map[string]int
}

// note takes one pass, and answers why the campaign is to stop: a class of failures has more than its share of the
// last passes. Its memory of them is then empty, so that whoever resumes the campaign has that many more.
func (w *watch) note(id message.ID, stopAt float64, o outcome.Outcome) string {
	class := classOf(o)
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.passes[id]
	if p == nil {
		if class == "" {
			return "" // most campaigns never fail
		}
		if w.passes == nil {
			w.passes = map[message.ID]*passes{}
		}
		p = &passes{count: map[string]int{}}
		w.passes[id] = p
	}
	p.add(class)
	if class == "" || len(p.ring) < watchFrom || float64(p.count[class]) <= stopAt*float64(len(p.ring)) {
		return ""
	}
	delete(w.passes, id)
	return fmt.Sprintf("%d of the last %d messages ended %s", p.count[class], len(p.ring), class)
}

func (p *passes) add(class string) {
	if len(p.ring) < watched {
		p.ring = append(p.ring, class)
	} else {
		p.count[p.ring[p.next]]--
		p.ring[p.next] = class
		p.next = (p.next + 1) % watched
	}
	p.count[class]++
}

// classOf names a failure by its reason, and WeChat's code where there is one.
func classOf(o outcome.Outcome) string {
	switch {
	case o.Status == outcome.Failed, o.Status == outcome.Unknown, o.Status == outcome.Parked && o.Reason == outcome.Backoff:
	default:
		return ""
	}
	if o.ErrCode != 0 {
		return fmt.Sprintf("%s %s (%d)", o.Status, o.Reason, o.ErrCode)
	}
	return fmt.Sprintf("%s %s", o.Status, o.Reason)
}
