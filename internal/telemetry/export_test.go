package telemetry

import (
	"context"

	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// Break takes the listener away, as a system out of descriptors may.
func (s *Server) Break() { _ = s.listener.Close() }

// TracesTo makes traces that tell to.
func TracesTo(ratio float64, to sdktrace.SpanExporter) *Traces {
	return newTraces(ratio, resource.Empty(), to)
}

// Flush exports what was told.
func (t *Traces) Flush(ctx context.Context) error { return t.provider.ForceFlush(ctx) }
