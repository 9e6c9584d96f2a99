package telemetry

import (
	"context"
	"crypto/rand"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/hongyan-dispatch/hongyan/internal/clock"
)

// The spans of a message's trace, each child of the first:
//
//	message    from its acceptance to its outcome; told by who writes that
//	├ enqueue  in the server, by a link from the request's own trace
//	├ dispatch one run in a worker, by a link from the parcel
//	│ ├ POST … each call to WeChat
//	│ └ settle
//	└ receipt  when it has found its message
//
// Their times are those that all processes agree on, as the ids' are: a trace is told by several.
const (
	spanMessage  = "message"
	spanDispatch = "dispatch"
)

func randomTrace() (id trace.TraceID) {
	_, _ = rand.Read(id[:])
	return id
}

func randomSpan() (id trace.SpanID) {
	_, _ = rand.Read(id[:])
	return id
}

// place is a span of any process.
func place(in trace.TraceID, span trace.SpanID) trace.SpanContext {
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: in, SpanID: span, TraceFlags: trace.FlagsSampled, Remote: true})
}

func rootOf(id ID) trace.SpanContext { return place(id, derived(spanMessage, id, 0)) }

// link is none where there is nothing to link to.
func link(to trace.SpanContext) []trace.Link {
	if !to.IsValid() {
		return nil
	}
	return []trace.Link{{SpanContext: to}}
}

// parse reads a W3C traceparent; one that is none is not valid.
func parse(traceparent string) trace.SpanContext {
	ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{"traceparent": traceparent})
	return trace.SpanContextFromContext(ctx)
}

func format(c trace.SpanContext) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(trace.ContextWithSpanContext(context.Background(), c), carrier)
	return carrier["traceparent"]
}

// A span is one about to be told.
type span struct {
	name       string
	kind       trace.SpanKind
	parent     trace.SpanContext // invalid: none
	ids        given
	start, end time.Time
	links      []trace.Link
	attributes []attribute.KeyValue
	failed     bool
}

func (t *Traces) tell(s span) {
	ctx := context.WithValue(context.Background(), givenKey{}, s.ids)
	if s.parent.IsValid() {
		ctx = trace.ContextWithRemoteSpanContext(ctx, s.parent)
	}
	_, told := t.tracer.Start(ctx, s.name, trace.WithSpanKind(s.kind), trace.WithTimestamp(s.start), trace.WithLinks(s.links...),
		trace.WithAttributes(s.attributes...))
	if s.failed {
		told.SetStatus(codes.Error, "")
	}
	told.End(trace.WithTimestamp(s.end))
}

// words are the attributes of words that are not empty, given as name, word, name, word, ….
func words(pairs ...string) []attribute.KeyValue {
	all := make([]attribute.KeyValue, 0, len(pairs)/2+2)
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			all = append(all, attribute.String("hongyan."+pairs[i], pairs[i+1]))
		}
	}
	return all
}

// posted is a request to the API, by the context that it goes on with.
type posted struct {
	here trace.SpanContext

	mu    sync.Mutex
	links []trace.Link // to messages
	count int
}

type postedKey struct{}

// maxLinks bounds what a span links to; a request may bring a million messages.
const maxLinks = 100

// Request begins a request, such as "POST /v1/messages", that came with a traceparent or none. It is told when it is answered:
// if the producer's own trace is sampled, if its trace is of the share, or if a message of the share came with it.
func (t *Traces) Request(ctx context.Context, route, traceparent string) (context.Context, func(status int)) {
	parent, start := parse(traceparent), clock.Now()
	in := parent.TraceID()
	if !parent.IsValid() {
		in = randomTrace()
	}
	p := &posted{here: place(in, randomSpan())}
	return context.WithValue(ctx, postedKey{}, p), func(status int) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.count == 0 && !parent.IsSampled() && !t.Samples(ID(in)) {
			return
		}
		t.tell(span{
			name: route, kind: trace.SpanKindServer, parent: parent, ids: given{in, p.here.SpanID()}, start: start, end: clock.Now(), links: p.links,
			attributes: []attribute.KeyValue{attribute.String("http.route", route), attribute.Int("http.response.status_code", status)},
			failed:     status >= 500,
		})
	}
}

// Accepted tells of a message that was accepted, by a request if that is its context's.
func (t *Traces) Accepted(ctx context.Context, id ID, account, kind, lane string, start time.Time) {
	if !t.Samples(id) {
		return
	}
	s := span{
		name: "enqueue", kind: trace.SpanKindProducer, parent: rootOf(id), ids: given{span: derived("enqueue", id, 0)}, start: start, end: clock.Now(),
		attributes: words("account", account, "kind", kind, "lane", lane),
	}
	if p, ok := ctx.Value(postedKey{}).(*posted); ok {
		s.links = link(p.here)
		p.mu.Lock()
		if p.count++; len(p.links) < maxLinks {
			p.links = append(p.links, trace.Link{SpanContext: place(id, s.ids.span)})
		}
		p.mu.Unlock()
	}
	t.tell(s)
}

// Parcel begins the way of a parcel into the queue: a trace of its own, which its messages of the share link to. The
// traceparent travels with it; done tells how the way ended. Without such messages there is neither.
func (t *Traces) Parcel(id ID, messages []ID, account, kind, lane string, count int) (traceparent string, done func(error)) {
	if len(messages) == 0 {
		return "", nil
	}
	here, start := place(id, randomSpan()), clock.Now()
	return format(here), func(err error) {
		s := span{
			name: "parcel", kind: trace.SpanKindProducer, ids: given{id, here.SpanID()}, start: start, end: clock.Now(), failed: err != nil,
			attributes: append(words("account", account, "kind", kind, "lane", lane), attribute.Int("hongyan.messages", count)),
		}
		for _, m := range messages {
			s.links = append(s.links, trace.Link{SpanContext: rootOf(m)})
		}
		t.tell(s)
	}
}

// A Call is one call to WeChat, by a run that began at Run.
type Call struct {
	ID         ID
	Run        time.Time
	API        string // its path
	Class      string // what is known of it afterwards
	Answer     string // what the errcode means for us
	ErrCode    int
	Connected  bool
	Start, End time.Time
}

// Called tells of a call.
func (t *Traces) Called(c Call) {
	if !t.Samples(c.ID) {
		return
	}
	t.tell(span{
		name: "POST " + c.API, kind: trace.SpanKindClient, parent: place(c.ID, derived(spanDispatch, c.ID, c.Run.UnixNano())), start: c.Start, end: c.End,
		attributes: append(words("api", c.API, "class", c.Class, "answer", c.Answer),
			attribute.Int("hongyan.errcode", c.ErrCode), attribute.Bool("hongyan.connected", c.Connected)),
		failed: c.Class != "sent",
	})
}

// A Run is one run of a message in a worker, and what it decided.
type Run struct {
	ID, Parent          ID
	Account, Kind, Lane string
	Stage               string // which ended it
	Status, Reason      string
	Attempt             int    // counted from 1, if it came to a call
	Traceparent         string // of the parcel
	Start, Settling     time.Time
	End                 time.Time
	Over, Failed        bool // the message has come to its end, to a bad one
	Born                time.Time
}

// Dispatched tells of a run, and, if it was the last one, of the message.
func (t *Traces) Dispatched(r Run) {
	if !t.Samples(r.ID) {
		return
	}
	about := words("account", r.Account, "kind", r.Kind, "lane", r.Lane, "status", r.Status, "reason", r.Reason)
	here := place(r.ID, derived(spanDispatch, r.ID, r.Start.UnixNano()))
	s := span{
		name: spanDispatch, kind: trace.SpanKindConsumer, parent: rootOf(r.ID), ids: given{span: here.SpanID()}, start: r.Start, end: r.End,
		links: link(parse(r.Traceparent)), attributes: append(words("stage", r.Stage), about...), failed: r.Failed,
	}
	if r.Attempt > 0 {
		s.attributes = append(s.attributes, attribute.Int("hongyan.attempt", r.Attempt))
	}
	t.tell(s)
	if !r.Settling.IsZero() {
		t.tell(span{name: "settle", kind: trace.SpanKindInternal, parent: here, start: r.Settling, end: r.End})
	}
	if r.Over {
		t.finished(r.ID, r.Parent, r.Born, r.End, about, r.Failed)
	}
}

// Resolved tells of a message that a dead worker left, and that has come to its end.
func (t *Traces) Resolved(id ID, account, kind, status string, born time.Time) {
	if t.Samples(id) {
		t.finished(id, ID{}, born, clock.Now(), words("account", account, "kind", kind, "status", status), status != "sent")
	}
}

// finished tells the root. A fallback, or a part of a long list, is linked to the message that it comes from.
func (t *Traces) finished(id, parent ID, born, end time.Time, about []attribute.KeyValue, failed bool) {
	s := span{name: spanMessage, kind: trace.SpanKindInternal, ids: given{id, rootOf(id).SpanID()}, start: born, end: end, attributes: about, failed: failed}
	if parent != (ID{}) {
		s.links = link(rootOf(parent))
	}
	t.tell(s)
}

// Joined tells that a receipt has found its message, how and how long after the send it came.
func (t *Traces) Joined(id ID, account, kind, how string, delivered bool, lag time.Duration) {
	if !t.Samples(id) {
		return
	}
	now := clock.Now()
	t.tell(span{
		name: "receipt", kind: trace.SpanKindConsumer, parent: rootOf(id), start: now, end: now, failed: !delivered,
		attributes: append(words("account", account, "kind", kind, "how", how),
			attribute.Bool("hongyan.delivered", delivered), attribute.Float64("hongyan.lag_seconds", seconds(lag))),
	})
}
