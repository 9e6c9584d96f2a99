package app

import (
	"log/slog"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/pipeline"
	"github.com/hongyan-dispatch/hongyan/internal/telemetry"
	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// tracesOf are traces of a share, which talk to nobody.
func tracesOf(tb testing.TB, ratio float64) *telemetry.Traces {
	tb.Helper()
	traces, err := telemetry.NewTraces(telemetry.TraceOptions{Endpoint: "http://127.0.0.1:1", Ratio: ratio, Program: "worker", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(traces.Close)
	return traces
}

func TestWithoutTracesTheHooksStayWhatTheyAre(t *testing.T) {
	if o := (Options{}).traced(); o.Called != nil || o.Decided != nil || o.Joined != nil || o.Resolved != nil {
		t.Errorf("hooks are hung without traces: %+v", o)
	}
	if parcelTrace(nil) != nil || requestTrace(nil) != nil {
		t.Error("parcels and requests have hooks without traces")
	}
}

// A message that is not of the share costs a look at its id.
func TestOthersCostNothing(t *testing.T) {
	o := Options{Traces: tracesOf(t, 0)}.traced()
	parcel := parcelTrace(o.Traces)
	m := &message.Message{ID: message.NewID(time.Now()), Kind: message.Template}
	a, p := &pipeline.Attempt{Message: m, Now: time.Now()}, &message.Parcel{ID: m.ID, Messages: []*message.Message{m}}
	if n := testing.AllocsPerRun(100, func() {
		o.Called(a, wechat.Result{Class: wechat.Sent})
		o.Decided(a, outcome.Outcome{Status: outcome.Sent}, time.Second)
		parcel(p)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkTraceHooks(b *testing.B) {
	for name, o := range map[string]Options{"off": {}, "not of the share": {Traces: tracesOf(b, 0)}, "of the share": {Traces: tracesOf(b, 1)}} {
		b.Run(name, func(b *testing.B) {
			o := o.traced()
			m := &message.Message{ID: message.NewID(time.Now()), Kind: message.Template}
			a := &pipeline.Attempt{Message: m, Now: time.Now(), Settling: time.Now()}
			b.ReportAllocs()
			for b.Loop() {
				if o.Called != nil { // as the pipeline asks
					o.Called(a, wechat.Result{Class: wechat.Sent})
				}
				if o.Decided != nil { // as the handler asks
					o.Decided(a, outcome.Outcome{Status: outcome.Sent}, time.Second)
				}
			}
		})
	}
}
