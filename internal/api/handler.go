package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"github.com/hongyan-dispatch/hongyan/internal/clock"
	"github.com/hongyan-dispatch/hongyan/message"
)

// Bounds of a request.
const (
	MaxArray     = 1000    // messages of an array; more come as JSON Lines
	maxBody      = 8 << 20 // of an array
	maxEvents    = 1 << 20 // of an array of events
	maxEvent     = 4 << 10
	maxSmallBody = 16 << 10
)

// Options are what the door is made of; Log and what stands behind the door have no default.
type Options struct {
	Log       *slog.Logger
	Keys      func(context.Context) ([]Key, error) // that live
	Enqueuer  Enqueuer
	Events    Events
	Ledger    Ledger
	Accounts  Accounts
	Approvals Approvals
	Campaigns Campaigns
	Replays   Replayer
	Recorder  Recorder
	Backlog   Backlog                                                // nil: there is never too much
	Observe   func(operation string, status int, took time.Duration) // a request was answered
	Trace     Trace                                                  // nil: requests are not traced
	Memory    int64                                                  // bytes of bodies in hand at one time; default 128 MiB
	Patience  time.Duration                                          // with a body that does not come, and with who does not read. Default 30 s
}

// Trace is told of a request by a live key, its route such as "POST /v1/messages", and the W3C traceparent that came with it.
// The request goes on in the context that it returns, and its answer's status goes to done.
type Trace func(ctx context.Context, route, traceparent string) (next context.Context, done func(status int))

const defaultMemory = 128 << 20

// A Handler answers /v1/….
type Handler struct {
	options Options
	keys    keyring
	guessed rate.Sometimes // is a key that opens nothing logged: strangers must not fill a disk
	memory  *semaphore.Weighted
	audit   auditor
	mux     *http.ServeMux

	closing context.Context // done: streams end with the slab they have in hand
	close   context.CancelFunc
}

// New makes the door. Its Run must run besides.
func New(o Options) *Handler {
	if o.Memory <= 0 {
		o.Memory = defaultMemory
	}
	if o.Patience <= 0 {
		o.Patience = 30 * time.Second
	}
	if o.Observe == nil {
		o.Observe = func(string, int, time.Duration) {}
	}
	if o.Backlog == nil {
		o.Backlog = func(string, message.Kind, message.Lane) (bool, time.Duration) { return false, 0 }
	}
	h := &Handler{
		options: o, keys: keyring{load: o.Keys}, guessed: rate.Sometimes{Interval: time.Second},
		memory: semaphore.NewWeighted(o.Memory), audit: newAuditor(o), mux: http.NewServeMux(),
	}
	h.closing, h.close = context.WithCancel(context.Background())
	for _, r := range append(h.routes(), h.campaignRoutes()...) {
		h.mux.Handle(r.method+" "+r.path, h.door(r))
	}
	h.mux.HandleFunc("/v1/", h.lost)
	return h
}

// A route is one operation of the contract, by its operationId there.
type route struct {
	operation    string
	method, path string
	serve        func(*call) error // a *problem is written by the door
}

func (h *Handler) routes() []route {
	return []route{
		{"postMessages", "POST", "/v1/messages", h.postMessages},
		{"findMessage", "GET", "/v1/messages", h.findMessage},
		{"getMessage", "GET", "/v1/messages/{id}", h.getMessage},
		{"cancelMessage", "POST", "/v1/messages/{id}/cancel", h.cancelMessage},
		{"replay", "POST", "/v1/replay", h.replay},
		{"postEvents", "POST", "/v1/events", h.postEvents},
		{"getQuota", "GET", "/v1/accounts/{account}/quota", h.getQuota},
		{"getGates", "GET", "/v1/accounts/{account}/gates", h.getGates},
		{"openGate", "POST", "/v1/accounts/{account}/gates/{api}/open", h.openGate},
		{"closeGate", "POST", "/v1/accounts/{account}/gates/{api}/close", h.closeGate},
		{"getWindow", "GET", "/v1/accounts/{account}/window/{openid}", h.getWindow},
		{"getApprovals", "GET", "/v1/accounts/{account}/approvals", h.getApprovals},
		{"getApproval", "GET", "/v1/approvals/{id}", h.getApproval},
		{"approve", "POST", "/v1/approvals/{id}/approve", h.approve},
		{"refuse", "POST", "/v1/approvals/{id}/refuse", h.refuse},
	}
}

func (p *problem) Error() string { return p.Title + ": " + p.Detail }

// A call is one request that was let in.
type call struct {
	w       *recorder
	r       *http.Request
	rc      *http.ResponseController
	key     *holder
	now     time.Time
	release func()           // gives back the memory of the body
	traced  func(status int) // nil: nobody wants to know
	torn    bool             // the answer is not whole, and must not look so
}

func (c *call) ctx() context.Context { return c.r.Context() }

// A recorder remembers the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController through.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// ServeHTTP answers a request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	deadline := time.Time{}
	if r.Body != http.NoBody { // the server waits for a body that nobody reads before it answers
		deadline = time.Now().Add(h.options.Patience)
	}
	_ = http.NewResponseController(w).SetReadDeadline(deadline)
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	h.mux.ServeHTTP(w, r)
}

// door lets in who has a live key, and answers with what goes wrong behind it.
func (h *Handler) door(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		c := &call{w: &recorder{ResponseWriter: w}, r: r, rc: http.NewResponseController(w), now: clock.Of(start), release: func() {}}
		_ = c.rc.SetWriteDeadline(start.Add(2 * h.options.Patience)) // instead of the server's own; streams go on
		if err := h.enter(c, rt); err != nil {
			h.complain(c, rt, err)
		}
		c.release()
		if c.traced != nil {
			c.traced(c.w.status)
		}
		h.options.Observe(rt.operation, c.w.status, time.Since(start))
		if c.torn {
			panic(http.ErrAbortHandler) // net/http's way to end the connection without the answer's end
		}
	})
}

func (h *Handler) enter(c *call, rt route) error {
	text, given := bearer(c.r)
	if !given {
		return noKey()
	}
	k, err := h.keys.find(c.ctx(), text, c.now)
	if errors.Is(err, errNoKey) {
		h.guessed.Do(func() {
			h.options.Log.Warn("a key that opens nothing", "operation", rt.operation, "address", c.address())
		})
		return noKey()
	} else if err != nil {
		return fmt.Errorf("%w: postgres: %w", ErrUnavailable, err)
	}
	c.key = k
	h.audit.used(k.ID)
	if h.options.Trace != nil {
		ctx, traced := h.options.Trace(c.ctx(), rt.method+" "+rt.path, c.r.Header.Get("traceparent"))
		c.r, c.traced = c.r.WithContext(ctx), traced
	}
	if rt.operation != "postMessages" && rt.operation != "postEvents" { // which pay for each of theirs
		if err := c.pay(1); err != nil {
			return err
		}
	}
	if err := c.readable(); err != nil {
		return err
	}
	return rt.serve(c)
}

// readable says what of the query is no text that a store could look for.
func (c *call) readable() error {
	if c.r.URL.RawQuery == "" {
		return nil
	}
	query, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return malformed("the query cannot be read: "+err.Error(), "write what is no letter or digit as %XX, a semicolon as %3B")
	}
	for name, values := range query {
		for _, v := range values {
			if !utf8.ValidString(v) || strings.ContainsRune(v, 0) {
				return malformed(name+": want text in UTF-8 without the character U+0000", "")
			}
		}
	}
	return nil
}

// pay takes n from the key's rate: one for a request, or one for each of its elements, whatever becomes of them.
func (c *call) pay(n int) error {
	if n < 1 {
		return nil
	}
	if wait := c.key.take(n, time.Now()); wait > 0 {
		return tooMany("the key is used more often than its rate allows", wait)
	}
	return nil
}

// complain answers with what went wrong.
func (h *Handler) complain(c *call, rt route, err error) {
	if c.w.status != 0 { // the answer has begun
		h.options.Log.Warn("an answer broke off", "operation", rt.operation, "key", c.keyID(), "error", err)
		return
	}
	p := problemOf(err)
	if p.Status >= http.StatusInternalServerError && c.ctx().Err() == nil {
		h.options.Log.Error("a request failed", "operation", rt.operation, "key", c.keyID(), "error", err)
	}
	if c.unread(p) {
		h.hearOut(c, p)
		return
	}
	p.write(c.w)
}

// Bounds of what is read of a body that is refused.
const (
	heardBytes = 32 << 20
	heardFor   = 5 * time.Second
	readAnyway = 256 << 10 // by net/http, before it answers
)

// unread says whether the answer comes while much of the body is still on its way.
func (c *call) unread(p *problem) bool {
	length := c.r.ContentLength
	return p.Status != http.StatusRequestTimeout && c.r.ProtoMajor == 1 && c.r.Body != http.NoBody && c.r.Header.Get("Expect") == "" &&
		(length < 0 || length > readAnyway)
}

// hearOut answers, and then reads on for a while: who writes all before reading anything would find the connection reset, and
// no answer.
func (h *Handler) hearOut(c *call, p *problem) {
	c.release() // nothing of it is kept
	c.release = func() {}
	_ = c.rc.EnableFullDuplex()
	p.close = true
	p.write(c.w)
	_ = c.rc.Flush()
	_ = c.rc.SetReadDeadline(time.Now().Add(min(heardFor, h.options.Patience)))
	_, _ = io.CopyN(io.Discard, c.r.Body, heardBytes) // an error ends it as well
}

// problemOf is what to answer about an error.
func problemOf(err error) *problem {
	p := (*problem)(nil)
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, ErrNotFound):
		return notFound("it was never accepted here, is older than the retention, or belongs to an account that this key does not know")
	case errors.Is(err, ErrInDoubt):
		return inDoubt("a store stopped answering while the request was on its way there")
	}
	return unavailable("a store does not answer, or not in time")
}

func (c *call) keyID() string {
	if c.key == nil {
		return ""
	}
	return c.key.ID
}

// address is the peer's, without its port.
func (c *call) address() string {
	host, _, err := net.SplitHostPort(c.r.RemoteAddr)
	if err != nil {
		return ""
	}
	return host
}

// lost answers for paths and methods that are none.
func (h *Handler) lost(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := h.mux.Handler(other); pattern != "/v1/" {
			allowed = append(allowed, method)
		}
	}
	p := notFound("this server has no such path; see /docs")
	if allowed != nil {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		p = trouble(http.StatusMethodNotAllowed, "method", "The path does not know this method", quote(r.Method)+" is not for this path", "use "+strings.Join(allowed, " or "))
	}
	p.write(w)
	h.options.Observe("none", p.Status, 0)
}

// Drain has streams end with what they have in hand, and say so: the server is about to close.
func (h *Handler) Drain() { h.close() }

// Run writes the audit log until ctx ends, and then what is left of it.
func (h *Handler) Run(ctx context.Context) error { return h.audit.run(ctx) }
