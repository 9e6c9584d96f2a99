package main

import (
	"strings"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/report"
)

func TestLongLinesAreCountedAsTheScreenBreaksThem(t *testing.T) {
	for text, want := range map[string]int{
		"":                                  0,
		"one\n\nthree\n":                    3,
		strings.Repeat("x", 10) + "\n":      1,
		strings.Repeat("x", 11) + "\n":      2,
		strings.Repeat("价", 5) + "\n":       1, // two columns each
		strings.Repeat("价", 6) + "\nx\n":    3,
		"paused: " + strings.Repeat("░", 3): 2,
	} {
		if got := linesOn(text, 10); got != want {
			t.Errorf("%q takes %d lines, want %d", text, got, want)
		}
	}
}

func TestSlowRatesAreToldApart(t *testing.T) {
	for perSecond, want := range map[float64]string{0: "0/s", 0.04: "0.0/s", 0.5: "0.5/s", 9.94: "9.9/s", 9.96: "10/s", 1234.5: "1234/s"} {
		if got := rate(perSecond); got != want {
			t.Errorf("%v: got %s, want %s", perSecond, got, want)
		}
	}
}

func TestStanding(t *testing.T) {
	at := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	for want, c := range map[string]client.Campaign{
		"draft":                             {State: client.CampaignDraft},
		"scheduled for " + report.Clock(at): {State: client.CampaignScheduled, NextTick: at},
		"parked until " + report.Clock(at) + ": quiet":       {State: client.CampaignParked, Until: at, Reason: "quiet", NextTick: at},
		"throttled until opened by hand: gate: by hand":      {State: client.CampaignThrottled, Until: report.ByHand, Reason: "gate: by hand"},
		"throttled: its account is not in the configuration": {State: client.CampaignThrottled, Reason: "its account is not in the configuration"},
	} {
		if got := standing(c); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
