package callback

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/clock"
	"github.com/hongyan-dispatch/hongyan/message"
)

// A Recorder writes down what a push says.
type Recorder interface {
	// Record returns when the state is written. again says that this very request was recorded before: it is
	// acknowledged, and nothing else happens.
	Record(ctx context.Context, e Entry) (again bool, err error)
}

// An Entry is a push on its way into the stores.
type Entry struct {
	Account string
	AppID   message.AppID
	Meaning Meaning
	Sealed  bool
	Request string // names the request: its signature, timestamp and nonce
}

// An Upstream is the account's own callback server, which gets every request as it came, once.
type Upstream interface {
	// Forward passes the request on and gives back what is to be answered. Where ok is false the answer is success. It
	// returns when ctx ends.
	Forward(ctx context.Context, r Request) (a Answer, ok bool)
}

// A Request is one of WeChat's, let in.
type Request struct {
	Query       url.Values
	RawQuery    string
	ContentType string
	Body        []byte
	Delivery    *Delivery
}

// An Answer goes to WeChat as it is.
type Answer struct {
	ContentType string
	Body        []byte
}

// Replies says what a user is told at once; false: nothing.
type Replies interface {
	Reply(p *Push) (Reply, bool)
}

// An Endpoint is one account's half of the door.
type Endpoint struct {
	Name     string
	AppID    message.AppID
	Door     *Door
	Upstream Upstream // nil: none
	Replies  Replies  // nil: none
}

// Results of requests, for metrics.
const (
	ResultRecorded = "recorded"
	ResultAgain    = "again"    // acknowledged, was known
	ResultVerified = "verified" // the console's test of the URL
	ResultRefused  = "refused"
	ResultBusy     = "busy" // too many at a time
	ResultFailed   = "failed"
)

// A Handler is the HTTP door: GET and POST /wechat/{account}.
type Handler struct {
	endpoints map[string]Endpoint
	recorder  Recorder
	options   HandlerOptions
	slots     chan struct{}
	strangers chan struct{} // who must prove themselves by the body get a part of the slots
	hush      hush
}

// strangersShare is the part of the slots that requests get which bear no signature of WeChat's in their query: so that
// strangers who send slowly do not keep WeChat out.
const strangersShare = 4

// HandlerOptions shape a [Handler]; only Log has no default.
type HandlerOptions struct {
	Log         *slog.Logger
	MaxParallel int           // requests at a time; what is over it is answered 503 at once. Default 512
	Patience    time.Duration // with the body of a request, and with an upstream. Default 4 s: WeChat waits 5 s
	Observe     func(account, result string, took time.Duration)
	Pushed      func(account string, m Meaning)
}

// NewHandler makes the door of accounts, each found by its name and its AppID.
func NewHandler(endpoints []Endpoint, r Recorder, o HandlerOptions) *Handler {
	if o.MaxParallel <= 0 {
		o.MaxParallel = 512
	}
	if o.Patience <= 0 {
		o.Patience = 4 * time.Second
	}
	if o.Observe == nil {
		o.Observe = func(string, string, time.Duration) {}
	}
	if o.Pushed == nil {
		o.Pushed = func(string, Meaning) {}
	}
	h := &Handler{
		endpoints: map[string]Endpoint{}, recorder: r, options: o,
		slots: make(chan struct{}, o.MaxParallel), strangers: make(chan struct{}, max(1, o.MaxParallel/strangersShare)),
	}
	for _, e := range endpoints {
		h.endpoints[e.Name] = e
		if e.AppID != "" {
			h.endpoints[string(e.AppID)] = e
		}
	}
	return h
}

// ServeHTTP answers a request for the account that the pattern's {account} names. Who is refused learns the status and
// nothing else; the log has the reason.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	_ = http.NewResponseController(w).SetReadDeadline(start.Add(h.options.Patience)) // also for what the server reads of a refused body
	e, known := h.endpoints[r.PathValue("account")]
	if !known {
		h.options.Observe("unknown", ResultRefused, 0)
		unread(w, http.StatusNotFound)
		return
	}
	result := h.admit(w, r, e, clock.Of(start))
	h.options.Observe(e.Name, result, time.Since(start))
}

// admit serves a request if there is a slot for it.
func (h *Handler) admit(w http.ResponseWriter, r *http.Request, e Endpoint, now time.Time) string {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		w.Header().Set("Connection", "close")
		return h.refuse(w, e, refuse(badRequest, "query is malformed"))
	}
	gates := []chan struct{}{h.slots}
	if !e.Door.Knows(query, now) {
		gates = []chan struct{}{h.strangers, h.slots}
	}
	for _, gate := range gates {
		select {
		case gate <- struct{}{}:
			defer func() { <-gate }()
		default:
			w.Header().Set("Retry-After", "1")
			unread(w, http.StatusServiceUnavailable)
			return ResultBusy
		}
	}
	return h.serve(w, r, e, query, now)
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request, e Endpoint, query url.Values, now time.Time) string {
	switch r.Method {
	case http.MethodGet:
		echo, err := e.Door.Verify(query, now)
		if err != nil {
			return h.refuse(w, e, err)
		}
		write(w, Answer{ContentType: "text/plain; charset=utf-8", Body: []byte(echo)})
		return ResultVerified
	case http.MethodPost:
		return h.push(w, r, e, query, now)
	}
	w.Header().Set("Allow", "GET, POST")
	unread(w, http.StatusMethodNotAllowed)
	return ResultRefused
}

// push lets a POST in, has it written down, and answers.
func (h *Handler) push(w http.ResponseWriter, r *http.Request, e Endpoint, query url.Values, now time.Time) string {
	body, err := h.read(w, r)
	if err != nil {
		return h.refuse(w, e, err)
	}
	in, err := e.Door.Open(query, body, now)
	if err != nil {
		return h.refuse(w, e, err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), h.options.Patience)
	defer cancel()
	m := in.Push.Meaning()
	entry := Entry{Account: e.Name, AppID: e.AppID, Meaning: m, Sealed: in.Sealed, Request: requestName(query)}
	again, failed := h.record(ctx, entry)
	if again {
		write(w, success)
		return ResultAgain
	}
	// The account's own server hears of it even where our stores are away.
	answer, answered := h.forward(ctx, e, Request{
		Query: query, RawQuery: r.URL.RawQuery, ContentType: r.Header.Get("Content-Type"), Body: body, Delivery: in,
	})
	if failed != nil {
		if left, ok := h.hush.let(e.Name, "record", now); ok {
			h.options.Log.Error("record a push", "account", e.Name, "error", failed, "also", left)
		}
		short(w, http.StatusInternalServerError) // WeChat repeats it
		return ResultFailed
	}
	h.options.Pushed(e.Name, m)
	if !m.Known {
		if left, ok := h.hush.let(e.Name, "unknown", now); ok {
			h.options.Log.Info("a push of a kind that nothing is known of", "account", e.Name, "type", in.Push.MsgType, "event", in.Push.Event, "also", left)
		}
	}
	if !answered {
		answer = h.reply(e, in, now)
	}
	write(w, answer)
	return ResultRecorded
}

// recordWithin bounds the wait for the stores. What is written later is known when WeChat repeats the push.
const recordWithin = time.Second

func (h *Handler) record(ctx context.Context, e Entry) (again bool, err error) {
	ctx, stop := context.WithTimeout(ctx, recordWithin)
	defer stop()
	return h.recorder.Record(ctx, e)
}

func (h *Handler) forward(ctx context.Context, e Endpoint, r Request) (Answer, bool) {
	if e.Upstream == nil {
		return Answer{}, false
	}
	return e.Upstream.Forward(ctx, r)
}

var success = Answer{ContentType: "text/plain; charset=utf-8", Body: []byte(Success)}

// reply is what the account's rules say to the user, or the bare acknowledgement.
func (h *Handler) reply(e Endpoint, in *Delivery, now time.Time) Answer {
	if e.Replies == nil {
		return success
	}
	r, ok := e.Replies.Reply(in.Push)
	if !ok {
		return success
	}
	body, err := in.Answer(r, now)
	if err != nil {
		h.options.Log.Error("write a passive reply", "account", e.Name, "error", err)
		return success
	}
	return Answer{ContentType: in.Form.ContentType(), Body: body}
}

// read reads the body, which may be neither long nor slow.
func (h *Handler) read(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength > MaxBody {
		return nil, refuse(tooLarge, errTooLarge.Error())
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	if long := (*http.MaxBytesError)(nil); errors.As(err, &long) {
		return nil, refuse(tooLarge, errTooLarge.Error())
	} else if err != nil {
		return nil, refuse(http.StatusRequestTimeout, "body did not come in time, or broke off")
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	return body, nil
}

// refuse answers with the refusal's status.
func (h *Handler) refuse(w http.ResponseWriter, e Endpoint, err error) string {
	status := http.StatusBadRequest
	if r := (*Refusal)(nil); errors.As(err, &r) {
		status = r.Status
	}
	if left, ok := h.hush.let(e.Name, err.Error(), time.Now()); ok {
		h.options.Log.Warn("a request to the callback is refused", "account", e.Name, "status", status, "reason", err.Error(), "also", left)
	}
	if status == http.StatusRequestEntityTooLarge || status == http.StatusRequestTimeout {
		w.Header().Set("Connection", "close")
	}
	short(w, status)
	return ResultRefused
}

// unread answers a request whose body nobody reads: the connection ends with it, else the server would wait for the body
// before it answers.
func unread(w http.ResponseWriter, status int) {
	w.Header().Set("Connection", "close")
	short(w, status)
}

func short(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
}

func write(w http.ResponseWriter, a Answer) {
	if a.ContentType != "" {
		w.Header().Set("Content-Type", a.ContentType)
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(a.Body) // WeChat repeats what it did not get
}

// requestName names a request for the memory of those that were recorded.
func requestName(query url.Values) string {
	signature := query.Get("msg_signature") // in plain mode there is none
	if signature == "" {
		signature = query.Get("signature")
	}
	return digest("request", query.Get("timestamp"), query.Get("nonce"), signature)
}
