package wechattest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// A Push is one event that an account's callback was to be told, and what became of that.
type Push struct {
	Seq      uint64    `json:"seq"` // from 1
	At       time.Time `json:"at"`  // when it happened, by the simulator's clock
	AppID    string    `json:"appid"`
	What     string    `json:"what"` // the event, or the type of the message
	OpenID   string    `json:"openid"`
	MsgID    int64     `json:"msgid,omitempty"`  // of a receipt, even where the push says 0
	Status   string    `json:"status,omitempty"` // of a receipt
	Early    bool      `json:"early,omitempty"`  // it came before the API call was answered
	Twice    bool      `json:"twice,omitempty"`  // it came again although it was answered
	Fate     Fate      `json:"fate"`
	Tries    int       `json:"tries"`
	Answered int       `json:"answered"`          // tries that were
	Problem  string    `json:"problem,omitempty"` // of the last try
	Shown    string    `json:"shown,omitempty"`   // to the user: a passive reply, or that the service is out of order
	Done     time.Time `json:"done,omitzero"`     // end of the last try
}

// A Fate is what became of a push.
type Fate string

// The fates.
const (
	Waiting   Fate = "waiting"   // for its time, or for the next try
	Delivered Fate = "delivered" // answered
	Lost      Fate = "lost"      // never sent, as the account's Fortune wanted
	GivenUp   Fate = "given_up"  // never answered
)

// PushCounts count pushes by their fates.
type PushCounts struct {
	Made      int64 `json:"made"`
	Waiting   int64 `json:"waiting"`
	Delivered int64 `json:"delivered"`
	Lost      int64 `json:"lost"`
	GivenUp   int64 `json:"given_up"`
}

// PushCounts are the counts of now.
func (s *Sim) PushCounts() PushCounts {
	s.pushes.mu.Lock()
	defer s.pushes.mu.Unlock()
	return s.pushes.counts
}

// Pushes are the pushes after the one numbered after, as they stand. Under [LogCounts] none is kept.
func (s *Sim) Pushes(after uint64) []Push {
	s.pushes.mu.Lock()
	defer s.pushes.mu.Unlock()
	var all []Push
	for _, x := range s.pushes.all {
		if x.log.Seq > after {
			all = append(all, x.log)
		}
	}
	return all
}

// AwaitPushes returns when no push waits for its time or its next try.
func (s *Sim) AwaitPushes(ctx context.Context) error {
	p := s.pushes
	p.mu.Lock()
	if p.counts.Waiting == 0 {
		p.mu.Unlock()
		return nil
	}
	none := make(chan struct{})
	p.waiters = append(p.waiters, none)
	p.mu.Unlock()
	select {
	case <-none:
		return nil
	case <-s.done:
		return fmt.Errorf("wait for %d pushes: the simulator was closed", s.PushCounts().Waiting)
	case <-ctx.Done():
		return fmt.Errorf("wait for %d pushes: %w", s.PushCounts().Waiting, ctx.Err())
	}
}

func (s *Sim) showPushes(w http.ResponseWriter, r *http.Request) {
	after, err := strconv.ParseUint(r.URL.Query().Get("after"), 10, 64)
	if err != nil && r.URL.Query().Has("after") {
		answer(w, nil, fmt.Errorf("after: %w", err))
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	buffered := bufio.NewWriterSize(w, 64<<10)
	lines := json.NewEncoder(buffered)
	lines.SetEscapeHTML(false)
	for _, p := range s.Pushes(after) {
		if lines.Encode(p) != nil {
			return
		}
	}
	_ = buffered.Flush()
}
