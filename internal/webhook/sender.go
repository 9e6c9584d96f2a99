package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/clock"
)

// An Event is what an endpoint is told.
type Event struct {
	ID    string
	Type  string
	At    time.Time
	Tries int             // before this one
	Data  json.RawMessage // null: the message is forgotten
}

// Store keeps the events of one account.
type Store interface {
	Events(ctx context.Context, now time.Time, limit int) ([]Event, error)
	Told(ctx context.Context, ids []string) error
	// Failed sets the event's next try and answers since when the endpoint fails.
	Failed(ctx context.Context, id string, again, now time.Time, reason string) (since time.Time, err error)
	// Forget drops an event that the endpoint will not take.
	Forget(ctx context.Context, id string) error
	Disable(ctx context.Context, reason string, now time.Time) (forgotten int64, err error)
}

// Results of tries, for metrics.
const (
	Told     = "told"
	Failed   = "failed"
	GivenUp  = "given_up" // one event that failed for a day, of an endpoint that took others
	Disabled = "disabled"
)

// A Sender tells one account's endpoint.
type Sender struct {
	Account string
	URL     *url.URL
	Key     Key
	OpenID  bool // the recipient stands in what is told
	Store   Store
	Log     *slog.Logger
	Observe func(account, result string, lag time.Duration) // optional

	client *http.Client
}

// Times and bounds.
const (
	lookEvery   = time.Second
	atOnce      = 100 // events in a look
	parallel    = 8
	timeout     = 10 * time.Second
	maxAnswer   = 64 << 10 // bytes that are read of an answer
	giveUpAfter = 24 * time.Hour
	giveUpTries = 20 // at the least: an event may be a day old when it is tried first
)

// waits are those before the next tries; the last repeats until the day is over.
var waits = []time.Duration{5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour}

// Run tells until the context ends, or the endpoint is disabled.
func (s *Sender) Run(ctx context.Context) error {
	s.client = &http.Client{
		Transport:     &http.Transport{MaxConnsPerHost: parallel, MaxIdleConnsPerHost: parallel, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: timeout},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       timeout,
	}
	defer s.client.CloseIdleConnections()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		more, err := s.round(ctx, clock.Now())
		if err != nil && ctx.Err() == nil {
			s.Log.Warn("tell a webhook", "account", s.Account, "error", err)
		}
		if more && err == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// round tells what is due, and says whether there may be more.
func (s *Sender) round(ctx context.Context, now time.Time) (more bool, err error) {
	events, err := s.Store.Events(ctx, now, atOnce)
	if err != nil || len(events) == 0 {
		return false, err
	}
	var (
		mu    sync.Mutex
		told  []string
		fault error
		gone  string // why the endpoint wants no more
		wg    sync.WaitGroup
	)
	slots := make(chan struct{}, parallel)
	for _, e := range events {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			again, err := s.tell(ctx, e, now)
			if err == nil {
				mu.Lock()
				told = append(told, e.ID)
				mu.Unlock()
				s.observe(Told, now.Sub(e.At))
				return
			}
			if ctx.Err() != nil {
				return // we are going: it is not the endpoint's fault
			}
			s.observe(Failed, now.Sub(e.At))
			since, ferr := s.Store.Failed(ctx, e.ID, now.Add(again), now, err.Error())
			if ferr == nil && e.Tries+1 >= giveUpTries && now.Sub(e.At) >= giveUpAfter {
				if ferr = s.Store.Forget(ctx, e.ID); ferr == nil { // otherwise it is tried once more
					s.observe(GivenUp, now.Sub(e.At))
					s.Log.Error("a webhook's event is given up: the endpoint did not take it for a day", "account", s.Account, "webhook_id", e.ID, "tries", e.Tries+1, "error", err)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			fault = errors.Join(fault, ferr)
			if errors.Is(err, errGone) {
				gone = err.Error()
			} else if ferr == nil && now.Sub(since) >= giveUpAfter {
				gone = "took nothing for a day; last: " + err.Error()
			}
		})
	}
	wg.Wait()
	if len(told) > 0 {
		fault = errors.Join(fault, s.Store.Told(context.WithoutCancel(ctx), told))
		gone = "" // it lives
	}
	if gone != "" {
		forgotten, err := s.Store.Disable(ctx, gone, now)
		if err != nil {
			return false, errors.Join(fault, err)
		}
		s.observe(Disabled, 0)
		s.Log.Error("a webhook is disabled: enqueue webhook enable lets it go on", "account", s.Account, "reason", gone, "events_forgotten", forgotten)
		return false, fault
	}
	return len(events) == atOnce && len(told) > 0, fault
}

func (s *Sender) observe(result string, lag time.Duration) {
	if s.Observe != nil {
		s.Observe(s.Account, result, lag)
	}
}

// errGone is an endpoint's word that it wants no more.
var errGone = errors.New("HTTP status 410: the endpoint is gone")

// tell makes one try, and says after how long another makes sense.
func (s *Sender) tell(ctx context.Context, e Event, now time.Time) (again time.Duration, err error) {
	again = waits[min(e.Tries, len(waits)-1)]
	again += rand.N(again/4 + 1)
	body, err := s.body(e)
	if err != nil {
		return again, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL.String(), bytes.NewReader(body))
	if err != nil {
		return again, errors.New("the address makes no request")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "hongyan")
	req.Header.Set("webhook-id", e.ID)
	req.Header.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
	req.Header.Set("webhook-signature", s.Key.Sign(e.ID, now, body))
	res, err := s.client.Do(req)
	if err != nil {
		if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
			err = wrapped.Err // without the URL, which may hold a password of its own
		}
		return again, err
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, maxAnswer) // the connection serves again
	switch {
	case res.StatusCode >= 200 && res.StatusCode < 300:
		return 0, nil
	case res.StatusCode == http.StatusGone:
		return again, errGone
	}
	if seconds, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && seconds > 0 {
		again = max(again, min(time.Duration(seconds)*time.Second, time.Hour))
	}
	return again, fmt.Errorf("HTTP status %d", res.StatusCode)
}

// body is what is told: the type, the time, and the message as the view outcomes shows it.
func (s *Sender) body(e Event) ([]byte, error) {
	var data map[string]any
	d := json.NewDecoder(bytes.NewReader(e.Data))
	d.UseNumber()
	if err := d.Decode(&data); err != nil {
		return nil, fmt.Errorf("event %s: %w", e.ID, err)
	}
	if !s.OpenID {
		delete(data, "recipient")
	}
	return json.Marshal(map[string]any{"type": e.Type, "timestamp": e.At.UTC().Format(time.RFC3339Nano), "data": data})
}
