package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	resources "go.opentelemetry.io/proto/otlp/resource/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// A collector takes spans by OTLP over HTTP. The SDK's own exporter for it links gRPC, which makes every worker 2.5 MiB
// heavier, also one without traces.
//
// Specification: opentelemetry.io/docs/specs/otlp/#otlphttp.
type collector struct {
	url    string // with /v1/traces
	client http.Client
}

func newCollector(endpoint string) (*collector, error) {
	to, err := url.JoinPath(endpoint, "/v1/traces")
	if err != nil {
		return nil, bare(err)
	}
	transport := &http.Transport{MaxIdleConns: 1, MaxConnsPerHost: 1}
	return &collector{to, http.Client{Timeout: exportTimeout, Transport: transport, CheckRedirect: noRedirect}}, nil
}

var errRedirect = errors.New("it redirects")

func noRedirect(*http.Request, []*http.Request) error { return errRedirect }

// ExportSpans implements sdktrace.SpanExporter. Its error holds no URL.
func (c *collector) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if len(spans) == 0 {
		return nil
	}
	// Byte for byte an ExportTraceServiceRequest, whose package is the one that links gRPC.
	body, err := proto.Marshal(&otlp.TracesData{ResourceSpans: []*otlp.ResourceSpans{{
		Resource:   &resources.Resource{Attributes: attributesOf(spans[0].Resource().Attributes())},
		ScopeSpans: []*otlp.ScopeSpans{{Scope: scopeOf(spans[0].InstrumentationScope()), Spans: spansOf(spans)}},
	}}})
	if err != nil {
		return fmt.Errorf("encode spans: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return bare(err)
	}
	r.Header = http.Header{"Content-Type": {"application/x-protobuf"}, "User-Agent": {"hongyan"}}
	reply, err := c.client.Do(r)
	if err != nil {
		return bare(err)
	}
	defer func() { _ = reply.Body.Close() }()
	_, _ = io.CopyN(io.Discard, reply.Body, 64<<10) // so that the connection can be used again
	if reply.StatusCode/100 != 2 {
		return fmt.Errorf("it answers %d", reply.StatusCode)
	}
	return nil
}

// Shutdown implements sdktrace.SpanExporter.
func (c *collector) Shutdown(context.Context) error {
	c.client.CloseIdleConnections()
	return nil
}

// bare is an error without a URL.
func bare(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

func scopeOf(s instrumentation.Scope) *common.InstrumentationScope {
	return &common.InstrumentationScope{Name: s.Name}
}

func spansOf(spans []sdktrace.ReadOnlySpan) []*otlp.Span {
	all := make([]*otlp.Span, len(spans))
	for i, s := range spans {
		all[i] = spanOf(s)
	}
	return all
}

func spanOf(s sdktrace.ReadOnlySpan) *otlp.Span {
	here, parent := s.SpanContext(), s.Parent()
	in, span := here.TraceID(), here.SpanID()
	o := &otlp.Span{
		TraceId: in[:], SpanId: span[:], Flags: uint32(here.TraceFlags()), Name: s.Name(), Kind: otlp.Span_SpanKind(s.SpanKind()), // the same numbers
		StartTimeUnixNano: uint64(s.StartTime().UnixNano()), EndTimeUnixNano: uint64(s.EndTime().UnixNano()),
		Attributes: attributesOf(s.Attributes()), DroppedLinksCount: uint32(s.DroppedLinks()),
	}
	if parent.SpanID().IsValid() {
		above := parent.SpanID()
		o.ParentSpanId = above[:]
	}
	for _, l := range s.Links() {
		o.Links = append(o.Links, linkOf(l.SpanContext))
	}
	if s.Status().Code == codes.Error {
		o.Status = &otlp.Status{Code: otlp.Status_STATUS_CODE_ERROR}
	}
	return o
}

func linkOf(to trace.SpanContext) *otlp.Span_Link {
	in, span := to.TraceID(), to.SpanID()
	return &otlp.Span_Link{TraceId: in[:], SpanId: span[:], Flags: uint32(to.TraceFlags())}
}

func attributesOf(list []attribute.KeyValue) []*common.KeyValue {
	all := make([]*common.KeyValue, len(list))
	for i, a := range list {
		all[i] = &common.KeyValue{Key: string(a.Key), Value: valueOf(a.Value)}
	}
	return all
}

func valueOf(v attribute.Value) *common.AnyValue {
	switch v.Type() {
	case attribute.BOOL:
		return &common.AnyValue{Value: &common.AnyValue_BoolValue{BoolValue: v.AsBool()}}
	case attribute.INT64:
		return &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: v.AsInt64()}}
	case attribute.FLOAT64:
		return &common.AnyValue{Value: &common.AnyValue_DoubleValue{DoubleValue: v.AsFloat64()}}
	default:
		return &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: v.String()}}
	}
}

// who is the process that tells.
func who(program, version string) (*resource.Resource, error) {
	return resource.New(context.Background(), resource.WithHost(), resource.WithProcessPID(), resource.WithAttributes(
		attribute.String("service.name", "hongyan-"+program), attribute.String("service.version", version),
	))
}
