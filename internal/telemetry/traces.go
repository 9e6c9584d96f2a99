package telemetry

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math"
	"net/url"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// An ID is a message's or a parcel's. It is its trace's id, too: whoever has a part of a message's trace to tell, in whatever
// process, tells it without having been told anything, and who has the message's id has found its trace.
type ID = [16]byte

// Traces tells an OpenTelemetry collector what becomes of messages, of a share of them. What is told holds ids, names of the
// configuration and words of closed lists; no openid, key, content, URL, or words of WeChat's.
//
// A nil *Traces tells nothing. Its methods may be called concurrently, and wait for nobody: what the collector does not
// take in time is lost.
type Traces struct {
	below    uint64 // of an id's hash: the share
	all      bool
	tracer   trace.Tracer
	provider *sdktrace.TracerProvider
}

// TraceOptions say what is told, and to whom.
type TraceOptions struct {
	Endpoint         string // such as http://127.0.0.1:4318; empty: there are no traces
	Ratio            float64
	Program, Version string
	Log              *slog.Logger
}

const (
	exportTimeout = 5 * time.Second
	closeTimeout  = 2 * time.Second
	tracesPath    = "/v1/traces"
)

// NewTraces makes traces. It talks to nobody yet. Without an endpoint it answers nil.
func NewTraces(o TraceOptions) (*Traces, error) {
	if o.Endpoint == "" {
		return nil, nil //nolint:nilnil // nil is traces that are off
	}
	endpoint, err := url.JoinPath(o.Endpoint, tracesPath)
	if err != nil {
		return nil, fmt.Errorf("telemetry.traces.endpoint: %w", bare(err))
	}
	exporter, err := otlptracehttp.New(context.Background(), otlptracehttp.WithEndpointURL(endpoint),
		otlptracehttp.WithTimeout(exportTimeout), otlptracehttp.WithRetry(otlptracehttp.RetryConfig{}))
	if err != nil {
		return nil, fmt.Errorf("telemetry.traces: %w", bare(err))
	}
	who, err := resource.New(context.Background(), resource.WithHost(), resource.WithProcessPID(), resource.WithAttributes(
		attribute.String("service.name", "hongyan-"+o.Program), attribute.String("service.version", o.Version),
	))
	if err != nil {
		return nil, fmt.Errorf("telemetry.traces: %w", err)
	}
	return newTraces(o.Ratio, who, &exports{SpanExporter: exporter, log: o.Log}), nil
}

func newTraces(ratio float64, who *resource.Resource, to sdktrace.SpanExporter) *Traces {
	t := &Traces{all: ratio >= 1}
	if !t.all {
		t.below = uint64(ratio * (1 << 32) * (1 << 32))
	}
	// Who is told of is decided here, before anything is made for it. Of the queue's room the batcher drops what is beyond.
	t.provider = sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.AlwaysSample()), sdktrace.WithIDGenerator(givenIDs{}),
		sdktrace.WithResource(who), sdktrace.WithBatcher(to, sdktrace.WithExportTimeout(exportTimeout)))
	t.tracer = t.provider.Tracer("github.com/hongyan-dispatch/hongyan")
	return t
}

// Close exports what is left, as far as the collector takes it within two seconds.
func (t *Traces) Close() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = t.provider.Shutdown(ctx) // what is lost is spans
}

// Samples says whether a message is one of the share. All processes say the same.
func (t *Traces) Samples(id ID) bool {
	return t != nil && (t.all || mix(id) < t.below)
}

// mix spreads ids evenly; their own bits are no dice: they hold times, and a campaign's its recipients' numbers.
func mix(id ID) uint64 {
	x := binary.BigEndian.Uint64(id[:8])*0x9e3779b97f4a7c15 ^ binary.BigEndian.Uint64(id[8:])
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9 // the finalizer of SplitMix64
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// derived is the id of a span that several processes, or several moments, must name without having met.
func derived(what string, id ID, n int64) (s trace.SpanID) {
	h := fnv.New64a()
	_, _ = h.Write([]byte(what))
	_, _ = h.Write(id[:])
	_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(n)))
	h.Sum(s[:0])
	if !s.IsValid() {
		s[7] = 1
	}
	return s
}

// given are the ids of a span about to be made.
type given struct {
	trace trace.TraceID
	span  trace.SpanID // zero: any
}

type givenKey struct{}

// givenIDs generates the ids that its context asks for.
type givenIDs struct{}

func (g givenIDs) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	ids, _ := ctx.Value(givenKey{}).(given)
	if !ids.trace.IsValid() {
		ids.trace = randomTrace()
	}
	return ids.trace, g.NewSpanID(ctx, ids.trace)
}

func (givenIDs) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	if ids, _ := ctx.Value(givenKey{}).(given); ids.span.IsValid() {
		return ids.span
	}
	return randomSpan()
}

// exports passes spans on. What goes wrong is told the log, once a minute at most: the SDK's own way would write to stderr
// whatever the transport says, each time.
type exports struct {
	sdktrace.SpanExporter
	log  *slog.Logger
	told atomic.Int64 // in Unix seconds
	lost atomic.Int64 // since
}

func (e *exports) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	if err == nil {
		return nil
	}
	e.lost.Add(int64(len(spans)))
	if now := time.Now().Unix(); now-e.told.Load() >= 60 {
		e.told.Store(now)
		e.log.Warn("the collector did not take spans; they are lost", "spans", e.lost.Swap(0), "error", bare(err))
	}
	return nil
}

// bare is an error without a URL.
func bare(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// seconds is a time as an attribute.
func seconds(d time.Duration) float64 { return math.Round(d.Seconds()*1e6) / 1e6 }
