package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/fault"
	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

func TestCheckFindsWhatIsWrong(t *testing.T) {
	noon := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	at := func(s outcome.Status) row {
		return row{N: 1, Kind: message.Custom, Status: s, Worker: "kill-1", Claimed: noon, Finished: noon.Add(20 * time.Second)}
	}
	struck := func(worker string) []strike {
		return []strike{{What: "kill -9", From: noon.Add(time.Second), To: noon.Add(time.Second), Worker: worker}}
	}
	doubted := at(outcome.Unknown)
	doubted.Doubt = true
	accept := wechattest.Accept{Body: `{"text":{"content":"您好 #1#"}}`}
	dead := struck("kill-1")
	dead[0].From, dead[0].To, dead[0].Deadly = noon.Add(-2*time.Second), noon.Add(-time.Second), true
	stood := slices.Clone(dead)
	stood[0].Deadly = false
	killed := []strike{{What: "kill -9", From: noon.Add(time.Second), To: noon.Add(time.Second)}}
	for _, c := range []struct {
		name    string
		rows    []row
		accepts []wechattest.Accept
		faults  []strike
		want    string // the letter of the broken promise; empty for none
	}{
		{"sent and accepted once", []row{at(outcome.Sent)}, []wechattest.Accept{accept}, nil, ""},
		{"skipped and not accepted", []row{at(outcome.Skipped)}, nil, nil, ""},
		{"unknown under a kill", []row{at(outcome.Unknown)}, nil, killed, ""},
		{"unknown under a kill, and accepted", []row{at(outcome.Unknown)}, []wechattest.Accept{accept}, killed, ""},
		{"unknown under its worker's kill", []row{at(outcome.Unknown)}, nil, struck("kill-1"), ""},
		{"unknown under another worker's kill", []row{at(outcome.Unknown)}, nil, struck("kill-2"), "(d)"},
		{"unknown, claimed after its worker's death", []row{at(outcome.Unknown)}, nil, dead, ""},
		{"unknown, claimed after its worker stood still", []row{at(outcome.Unknown)}, nil, stood, "(d)"},
		{"in doubt before, and unknown under another worker's kill", []row{doubted}, nil, struck("kill-2"), ""},
		{"dead, and accepted", []row{at(outcome.Dead)}, []wechattest.Accept{accept}, killed, ""},
		{"not in the ledger", nil, nil, nil, "(a)"},
		{"not decided", []row{at(outcome.Parked)}, nil, nil, "(a)"},
		{"accepted twice", []row{at(outcome.Sent)}, []wechattest.Accept{accept, accept}, nil, "(b)"},
		{"sent without being accepted", []row{at(outcome.Sent)}, nil, nil, "(c)"},
		{"failed and yet accepted", []row{at(outcome.Failed)}, []wechattest.Accept{accept}, nil, "(c)"},
		{"unknown without a fault", []row{at(outcome.Unknown)}, nil, nil, "(d)"},
		{"unknown after the fault was over", []row{at(outcome.Unknown)}, nil, []strike{{From: noon.Add(-2 * time.Second), To: noon.Add(-time.Second)}}, "(d)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := evidence{accepted: map[int]message.Kind{1: message.Custom}, rows: c.rows, accepts: c.accepts, faults: c.faults}
			got := e.check().list
			switch {
			case c.want == "" && len(got) > 0:
				t.Errorf("got %q, want nothing found", got)
			case c.want != "" && (len(got) != 1 || !strings.HasPrefix(got[0], c.want)):
				t.Errorf("got %q, want one finding of %s", got, c.want)
			}
		})
	}
}

func TestAMutationIsSeenByThePromiseThatItBreaks(t *testing.T) {
	for _, c := range []struct {
		breaches []string
		held     bool
	}{
		{nil, false},
		{[]string{"(d) something else"}, false},
		{[]string{"(d) something else", "(b) accepted twice"}, true},
	} {
		r := Result{Figures: map[string]any{}, Breaches: c.breaches}
		r.mutated(fault.Claim, "(b)")
		if held := len(r.Breaches) == 0; held != c.held {
			t.Errorf("%q: left %q", c.breaches, r.Breaches)
		}
	}
}

func TestSeedRepeatsTheSchedule(t *testing.T) {
	draw := func(seed uint64, name string) time.Duration {
		r := &rig{rand: random(seed, name)}
		return r.between(2*time.Second, 5*time.Second)
	}
	first, again := draw(7, "kill"), draw(7, "kill")
	if first != again {
		t.Errorf("the same seed gives %v and %v", first, again)
	}
	if first == draw(8, "kill") && first == draw(9, "kill") {
		t.Error("other seeds give the same schedule")
	}
}
