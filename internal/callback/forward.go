package callback

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// ForwardOptions shape a [Forwarder]; URL and Log have no default.
type ForwardOptions struct {
	Account string
	URL     *url.URL      // from the configuration, and nowhere else
	Timeout time.Duration // of the account's server, while WeChat waits. Default 3.5 s
	Log     *slog.Logger
	Observe func(account, result string)
}

// What becomes of a forwarded request, for metrics.
const (
	Forwarded       = "forwarded"
	ForwardFailed   = "failed"   // the user gets no reply; an event is tried again
	ForwardRepeated = "repeated" // an event, later
	ForwardDropped  = "dropped"  // an event: too many wait, or it was tried often enough
	ForwardBusy     = "busy"     // too many under way
)

const (
	forwardTimeout  = 3500 * time.Millisecond
	forwardParallel = 64        // requests to one account's server at a time, while WeChat waits
	forwardRepeats  = 16        // and of events that are tried again
	forwardWaiting  = 2000      // events that wait for another try
	maxForwarded    = 256 << 10 // bytes of an answer
)

// forwardAgain are the waits before an event is forwarded again. Together they stay within the minutes for which a server
// accepts WeChat's timestamp, which is not changed.
var forwardAgain = []time.Duration{5 * time.Second, 30 * time.Second, 2 * time.Minute, 5 * time.Minute}

// A Forwarder is an [Upstream]: it passes requests on to the account's own callback server, with WeChat's own query and
// body, and gives its answer back byte for byte. It follows no redirect and asks no proxy.
type Forwarder struct {
	o      ForwardOptions
	client *http.Client
	slots  chan struct{}
	again  chan struct{}
	hush   hush

	mu      sync.Mutex
	waiting []*forward
}

// A forward is an event that waits for another try.
type forward struct {
	Request
	tries int
	due   time.Time
}

// NewForwarder makes the upstream of one account. Run repeats what failed.
func NewForwarder(o ForwardOptions) *Forwarder {
	if o.Timeout <= 0 {
		o.Timeout = forwardTimeout
	}
	if o.Observe == nil {
		o.Observe = func(string, string) {}
	}
	return &Forwarder{
		o: o, slots: make(chan struct{}, forwardParallel), again: make(chan struct{}, forwardRepeats),
		client: &http.Client{
			Transport: &http.Transport{
				MaxConnsPerHost: forwardParallel + forwardRepeats, MaxIdleConnsPerHost: forwardParallel, IdleConnTimeout: 30 * time.Second,
				TLSHandshakeTimeout: o.Timeout, MaxResponseHeaderBytes: 16 << 10,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// Forward passes a request on while WeChat waits.
func (f *Forwarder) Forward(ctx context.Context, r Request) (Answer, bool) {
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	default:
		f.o.Observe(f.o.Account, ForwardBusy)
		f.later(&forward{Request: r}, time.Now())
		return Answer{}, false
	}
	a, err := f.post(ctx, r)
	if err != nil {
		f.o.Observe(f.o.Account, ForwardFailed)
		if left, ok := f.hush.let(f.o.Account, "forward", time.Now()); ok {
			f.o.Log.Warn("forward a push", "account", f.o.Account, "error", err, "also", left)
		}
		f.later(&forward{Request: r}, time.Now())
		return Answer{}, false
	}
	f.o.Observe(f.o.Account, Forwarded)
	return a, true
}

func (f *Forwarder) post(ctx context.Context, r Request) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, f.o.Timeout)
	defer cancel()
	to := *f.o.URL
	if to.RawQuery != "" {
		to.RawQuery += "&"
	}
	to.RawQuery += r.RawQuery
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), bytes.NewReader(r.Body))
	if err != nil {
		return Answer{}, errors.New("the address makes no request") // the error would quote it
	}
	req.Header.Set("User-Agent", "Mozilla/4.0") // WeChat's own
	if r.ContentType != "" {
		req.Header.Set("Content-Type", r.ContentType)
	}
	res, err := f.client.Do(req)
	if err != nil {
		if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
			err = wrapped.Err // without the URL, whose query is signed
		}
		return Answer{}, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return Answer{}, fmt.Errorf("HTTP status %d", res.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxForwarded+1))
	if err != nil {
		return Answer{}, fmt.Errorf("read its answer: %w", err)
	}
	if len(body) > maxForwarded {
		return Answer{}, fmt.Errorf("its answer is longer than %d KiB", maxForwarded>>10)
	}
	return Answer{ContentType: res.Header.Get("Content-Type"), Body: body}, nil
}

// later keeps an event for another try. A message of a user's is not repeated: its answer would be nobody's.
func (f *Forwarder) later(w *forward, now time.Time) {
	if w.Delivery.Push.MsgType != typeEvent {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if w.tries >= len(forwardAgain) || len(f.waiting) >= forwardWaiting {
		f.o.Observe(f.o.Account, ForwardDropped)
		if left, ok := f.hush.let(f.o.Account, "drop", now); ok {
			f.o.Log.Error("an event could not be forwarded and is dropped; it is recorded here", "account", f.o.Account,
				"event", w.Delivery.Push.Event, "tries", w.tries+1, "also", left)
		}
		return
	}
	w.due = now.Add(forwardAgain[w.tries])
	w.tries++
	f.waiting = append(f.waiting, w)
}

// Run forwards events again whose time has come, until the context ends. What still waits then is lost to the account's
// server.
func (f *Forwarder) Run(ctx context.Context) error {
	var going sync.WaitGroup
	defer going.Wait()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			for _, w := range f.due(now) {
				f.again <- struct{}{}
				going.Go(func() {
					f.repeat(ctx, w)
					<-f.again
				})
			}
		}
	}
}

func (f *Forwarder) due(now time.Time) (due []*forward) {
	f.mu.Lock()
	defer f.mu.Unlock()
	rest := f.waiting[:0]
	for _, w := range f.waiting {
		if w.due.After(now) {
			rest = append(rest, w)
		} else {
			due = append(due, w)
		}
	}
	clear(f.waiting[len(rest):])
	f.waiting = rest
	return due
}

func (f *Forwarder) repeat(ctx context.Context, w *forward) {
	if _, err := f.post(ctx, w.Request); err != nil {
		f.later(w, time.Now())
		return
	}
	f.o.Observe(f.o.Account, ForwardRepeated)
}
