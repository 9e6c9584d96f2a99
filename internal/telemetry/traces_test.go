package telemetry_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/hongyan-dispatch/hongyan/internal/clock"
	"github.com/hongyan-dispatch/hongyan/internal/telemetry"
)

// id is one as messages have it: a time, and bits of which a campaign fills most by itself.
func id(n uint64) (id telemetry.ID) {
	binary.BigEndian.PutUint64(id[:8], 0x0198c0de00007000)
	binary.BigEndian.PutUint64(id[8:], 0x8000000000000000|n)
	return id
}

func TestTheShareIsTheSameEverywhere(t *testing.T) {
	one, another := telemetry.TracesTo(0.01, tracetest.NewNoopExporter()), telemetry.TracesTo(0.01, tracetest.NewNoopExporter())
	wider := telemetry.TracesTo(0.1, tracetest.NewNoopExporter())
	for name, step := range map[string]uint64{"neighbours": 1, "recipients of a campaign": 1 << 42, "firings": 1 << 10} {
		const n = 100_000
		share := 0
		for i := range uint64(n) {
			in := one.Samples(id(i * step))
			if in {
				share++
			}
			if in != another.Samples(id(i*step)) {
				t.Fatalf("%s: two processes disagree about %d", name, i)
			}
			if in && !wider.Samples(id(i*step)) {
				t.Fatalf("%s: a wider share lacks %d", name, i)
			}
		}
		if share < 800 || share > 1200 {
			t.Errorf("%s: %d of %d are the share of 0.01", name, share, n)
		}
	}
	var off *telemetry.Traces
	if off.Samples(id(1)) || telemetry.TracesTo(0, tracetest.NewNoopExporter()).Samples(id(1)) {
		t.Error("a share of nothing has a message")
	}
	if !telemetry.TracesTo(1, tracetest.NewNoopExporter()).Samples(id(1)) {
		t.Error("the share of all lacks a message")
	}
	off.Close()
}

const producer = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// told are the spans of an exporter by name.
func told(t *testing.T, traces *telemetry.Traces, e *tracetest.InMemoryExporter) map[string]tracetest.SpanStub {
	t.Helper()
	if err := traces.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	spans := map[string]tracetest.SpanStub{}
	for _, s := range e.GetSpans() {
		if _, twice := spans[s.Name]; twice {
			t.Errorf("two spans %q", s.Name)
		}
		spans[s.Name] = s
	}
	return spans
}

func TestWhatIsToldOfAMessageMeets(t *testing.T) {
	accepting, sending := tracetest.NewInMemoryExporter(), tracetest.NewInMemoryExporter()
	server, worker := telemetry.TracesTo(1, accepting), telemetry.TracesTo(1, sending)
	m, first, parcel, start := id(7), id(6), id(8), time.Now()

	ctx, answered := server.Request(t.Context(), "POST /v1/messages", producer)
	server.Accepted(ctx, m, "shop", "template", "normal", start)
	traceparent, gone := server.Parcel(parcel, []telemetry.ID{m}, "shop", "template", "normal", 3)
	gone(nil)
	answered(http.StatusAccepted)
	worker.Called(telemetry.Call{
		ID: m, Run: start, API: "/cgi-bin/message/template/send", Class: "not sent", Answer: "backoff", ErrCode: -1, Connected: true, Start: start, End: start,
	})
	worker.Dispatched(telemetry.Run{
		ID: m, Parent: first, Account: "shop", Kind: "template", Status: "failed", Reason: "retries_exhausted", Stage: "send", Attempt: 2,
		Traceparent: traceparent, Start: start, Settling: start, End: time.Now(), Over: true, Failed: true, Born: start,
	})
	worker.Joined(m, "shop", "template", "msgid", true, 1500*time.Millisecond)

	here, there := told(t, server, accepting), told(t, worker, sending)
	root := there["message"]
	if got := root.SpanContext.TraceID().String(); got != hex.EncodeToString(m[:]) || root.Parent.IsValid() || root.Status.Code != codes.Error {
		t.Errorf("the root has trace %s, parent %v, status %v", got, root.Parent, root.Status)
	}
	if len(root.Links) != 1 || root.Links[0].SpanContext.TraceID().String() != hex.EncodeToString(first[:]) {
		t.Errorf("the root links to %v, want the message before it", root.Links)
	}
	dispatch, call := there["dispatch"], there["POST /cgi-bin/message/template/send"]
	for _, c := range []struct{ child, parent tracetest.SpanStub }{
		{here["enqueue"], root}, {dispatch, root}, {call, dispatch}, {there["settle"], dispatch}, {there["receipt"], root},
	} {
		if c.child.Parent.SpanID() != c.parent.SpanContext.SpanID() || c.child.SpanContext.TraceID() != root.SpanContext.TraceID() {
			t.Errorf("%s is not the child of %s", c.child.Name, c.parent.Name)
		}
	}
	request, way := here["POST /v1/messages"], here["parcel"]
	if request.SpanContext.TraceID().String() != producer[3:35] || request.Parent.SpanID().String() != producer[36:52] {
		t.Errorf("the request's span does not go on with the producer's trace: %v", request)
	}
	if way.SpanContext.TraceID().String() != hex.EncodeToString(parcel[:]) {
		t.Errorf("the parcel's trace is %v", way.SpanContext.TraceID())
	}
	for _, l := range []struct{ from, to tracetest.SpanStub }{
		{here["enqueue"], request}, {request, here["enqueue"]}, {dispatch, way}, {way, root},
	} {
		if len(l.from.Links) != 1 || l.from.Links[0].SpanContext.SpanID() != l.to.SpanContext.SpanID() ||
			l.from.Links[0].SpanContext.TraceID() != l.to.SpanContext.TraceID() {
			t.Errorf("%s links to %v, want %s", l.from.Name, l.from.Links, l.to.Name)
		}
	}
	said := fmt.Sprint(dispatch.Attributes, call.Attributes, there["receipt"].Attributes)
	for _, want := range []string{
		`"hongyan.stage":"send"`, `"hongyan.status":"failed"`, `"hongyan.reason":"retries_exhausted"`, `"hongyan.attempt":2`,
		`"hongyan.class":"not sent"`, `"hongyan.answer":"backoff"`, `"hongyan.errcode":-1`, `"hongyan.lag_seconds":1.5`, `"hongyan.delivered":true`,
	} {
		if !strings.Contains(said, want) {
			t.Errorf("the attributes lack %s: %s", want, said)
		}
	}
}

// Not parallel: the offset is the process's.
func TestTracesGoByTheTimeOfAll(t *testing.T) {
	now := time.Now()
	clock.Follow(now.Add(10*time.Minute), now, now)
	t.Cleanup(func() { clock.Follow(now, now, now) })
	e := tracetest.NewInMemoryExporter()
	traces := telemetry.TracesTo(1, e)
	born := clock.Now() // as an id says it
	ctx, answered := traces.Request(t.Context(), "POST /v1/messages", producer)
	traces.Accepted(ctx, id(7), "shop", "template", "normal", born)
	_, gone := traces.Parcel(id(8), []telemetry.ID{id(7)}, "shop", "template", "normal", 1)
	gone(nil)
	answered(http.StatusAccepted)
	traces.Joined(id(7), "shop", "template", "msgid", true, time.Second)
	traces.Resolved(id(7), "shop", "template", "unknown", born)
	spans := told(t, traces, e)
	if len(spans) != 5 {
		t.Errorf("%d spans, want 5", len(spans))
	}
	for name, s := range spans {
		if s.StartTime.Before(born) || s.EndTime.Before(s.StartTime) || s.EndTime.Sub(born) > time.Minute {
			t.Errorf("%s from %v to %v, want both a moment after %v", name, s.StartTime, s.EndTime, born)
		}
	}
}

func TestRequestsThatAreTold(t *testing.T) {
	for name, c := range map[string]struct {
		ratio       float64
		traceparent string
		want        int
	}{
		"the producer's trace is sampled":     {0, producer, 1},
		"the producer's trace is not sampled": {0, producer[:53] + "00", 0},
		"it comes without a trace":            {0, "", 0},
		"it comes with nonsense":              {1, "00-nonsense", 1},
		"its own trace is of the share":       {1, "", 1},
	} {
		t.Run(name, func(t *testing.T) {
			e := tracetest.NewInMemoryExporter()
			traces := telemetry.TracesTo(c.ratio, e)
			_, answered := traces.Request(t.Context(), "GET /v1/messages", c.traceparent)
			answered(http.StatusInternalServerError)
			if got := len(told(t, traces, e)); got != c.want {
				t.Errorf("told %d, want %d", got, c.want)
			}
		})
	}
}

func TestOfOthersNothingIsTold(t *testing.T) {
	e := tracetest.NewInMemoryExporter()
	traces := telemetry.TracesTo(0, e)
	now := time.Now()
	traces.Accepted(t.Context(), id(1), "shop", "template", "normal", now)
	traces.Called(telemetry.Call{ID: id(1)})
	traces.Dispatched(telemetry.Run{ID: id(1), Over: true})
	traces.Resolved(id(1), "shop", "template", "unknown", now)
	traces.Joined(id(1), "shop", "template", "msgid", true, time.Second)
	if traceparent, done := traces.Parcel(id(2), nil, "shop", "template", "normal", 1); traceparent != "" || done != nil {
		t.Errorf("a parcel without messages of the share has traceparent %q", traceparent)
	}
	if spans := told(t, traces, e); len(spans) > 0 {
		t.Errorf("told %v", spans)
	}
}

// tellMany tells more than anybody keeps, and says how long the teller was held up.
func tellMany(traces *telemetry.Traces) time.Duration {
	start := time.Now()
	for i := range uint64(20_000) {
		traces.Resolved(id(i), "shop", "template", "sent", start)
	}
	return time.Since(start)
}

func TestCollectorThatHangsOrIsAwayHoldsNobodyUp(t *testing.T) {
	var asked atomic.Int64
	release := make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		<-release
	}))
	defer hanging.Close()
	defer close(release)
	away, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	away.Close()
	for name, endpoint := range map[string]string{"hanging": hanging.URL, "away": "http://" + away.Addr().String()} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			traces, err := telemetry.NewTraces(telemetry.TraceOptions{
				Endpoint: endpoint, Ratio: 1, Program: "worker", Version: "v1", Log: slog.New(slog.NewTextHandler(&log, nil)),
			})
			if err != nil {
				t.Fatal(err)
			}
			if took := tellMany(traces); took > 5*time.Second {
				t.Errorf("20,000 spans held their teller up for %v", took)
			}
			start := time.Now()
			traces.Close()
			if took := time.Since(start); took > 4*time.Second {
				t.Errorf("the end took %v", took)
			}
			if name == "hanging" {
				return // its export may still run, and write
			}
			if n := strings.Count(log.String(), "they are lost"); n != 1 || strings.Contains(log.String(), "/v1/traces") {
				t.Errorf("the log tells %d times, want once and no URL:\n%s", n, &log)
			}
		})
	}
	if asked.Load() == 0 {
		t.Error("nobody asked the collector that hangs")
	}
}

func TestNoEndpointIsNoTraces(t *testing.T) {
	if traces, err := telemetry.NewTraces(telemetry.TraceOptions{Ratio: 1}); traces != nil || err != nil {
		t.Errorf("got %v, %v", traces, err)
	}
}
