package main

import (
	"fmt"
	"io"
	"slices"
	"time"
)

// A Run is one run of one subject.
type Run struct {
	Rate    float64            // messages a second, end to end
	CPU     float64            // µs of all processes, per message
	CPUOf   map[string]float64 // the same by process
	PeakRSS float64            // MiB, of the worker
}

func newRun(n int, took time.Duration, before, after map[string]time.Duration, rss float64) Run {
	r := Run{Rate: float64(n) / took.Seconds(), CPUOf: map[string]float64{}, PeakRSS: rss}
	for who, at := range after {
		us := float64((at - before[who]).Microseconds()) / float64(n)
		r.CPUOf[who] = us
		r.CPU += us
	}
	return r
}

// A Subject is what the rounds of one subject say; the ratios are medians of quotients within a round.
type Subject struct {
	Name      string             `json:"name"`
	Rate      float64            `json:"rate_per_s"`
	Min       float64            `json:"min"`
	Max       float64            `json:"max"`
	CPU       float64            `json:"cpu_us_per_message"`
	CPUOf     map[string]float64 `json:"cpu_us_of"`
	OfLimit   float64            `json:"ratio_to_limit"` // with the client that Hongyan uses
	OfLean    float64            `json:"ratio_to_lean_limit"`
	TimesNaiv float64            `json:"times_naive"`
	PeakRSS   float64            `json:"peak_rss_mib"`
}

// A Cell is one setting with all its subjects.
type Cell struct {
	Latency  string    `json:"api_latency"`
	Senders  int       `json:"senders"`
	Subjects []Subject `json:"subjects"`
}

// A Figure is a number that stands alone.
type Figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

// A Report is all that was measured.
type Report struct {
	Machine  string   `json:"machine"`
	Rounds   int      `json:"rounds"`
	Dispatch []Cell   `json:"dispatch,omitempty"`
	Figures  []Figure `json:"figures,omitempty"`
}

func summarise(runs map[string][]Run) []Subject {
	var all []Subject
	for _, name := range subjects {
		mine := runs[name]
		if len(mine) == 0 {
			continue
		}
		s := Subject{
			Name:      name,
			Rate:      medianOf(mine, func(r Run) float64 { return r.Rate }),
			CPU:       medianOf(mine, func(r Run) float64 { return r.CPU }),
			PeakRSS:   medianOf(mine, func(r Run) float64 { return r.PeakRSS }),
			OfLimit:   quotient(mine, runs[limitOurs]),
			OfLean:    quotient(mine, runs[limitLean]),
			TimesNaiv: quotient(mine, runs[naive]),
			CPUOf:     map[string]float64{},
		}
		for i, r := range mine {
			if i == 0 || r.Rate < s.Min {
				s.Min = r.Rate
			}
			s.Max = max(s.Max, r.Rate)
		}
		for who := range mine[0].CPUOf {
			s.CPUOf[who] = medianOf(mine, func(r Run) float64 { return r.CPUOf[who] })
		}
		all = append(all, s)
	}
	return all
}

func medianOf(runs []Run, of func(Run) float64) float64 {
	values := make([]float64, len(runs))
	for i, r := range runs {
		values[i] = of(r)
	}
	return median(values)
}

// quotient is the median, over the rounds, of the rate of one subject over that of another.
func quotient(of, by []Run) float64 {
	values := make([]float64, min(len(of), len(by)))
	for i := range values {
		values[i] = of[i].Rate / by[i].Rate
	}
	return median(values)
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	middle := len(values) / 2
	if len(values)%2 == 1 {
		return values[middle]
	}
	return (values[middle-1] + values[middle]) / 2
}

func percentile(values []float64, p float64) float64 {
	slices.Sort(values)
	return values[min(len(values)-1, int(p*float64(len(values))))]
}

func (r *Report) add(name string, value float64, unit string) {
	r.Figures = append(r.Figures, Figure{name, value, unit})
}

func (r *Report) write(w io.Writer) {
	fmt.Fprintf(w, "%s, medians of %d rounds\n", r.Machine, r.Rounds)
	for _, c := range r.Dispatch {
		fmt.Fprintf(w, "\nAPI latency %s, %d senders\n", c.Latency, c.Senders)
		fmt.Fprintf(w, "%-20s %9s %17s %7s %7s %7s %8s %7s  %s\n", "", "msg/s", "min-max", "/limit", "/lean", "×naive", "CPU µs", "RSS MiB", "CPU µs of worker, redis, postgres, stub, enqueuer")
		for _, s := range c.Subjects {
			fmt.Fprintf(w, "%-20s %9.0f %8.0f-%-8.0f %7.2f %7.2f %7.1f %8.0f %7.0f  %.0f, %.0f, %.0f, %.0f, %.0f\n",
				s.Name, s.Rate, s.Min, s.Max, s.OfLimit, s.OfLean, s.TimesNaiv, s.CPU, s.PeakRSS,
				s.CPUOf["worker"], s.CPUOf["redis"], s.CPUOf["postgres"], s.CPUOf["stub"], s.CPUOf["enqueuer"])
		}
	}
	if len(r.Figures) > 0 {
		fmt.Fprintln(w)
	}
	for _, f := range r.Figures {
		fmt.Fprintf(w, "%-64s %10.0f %s\n", f.Name, f.Value, f.Unit)
	}
}
