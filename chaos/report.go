package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/fault"
	"github.com/hongyan-dispatch/hongyan/message"
)

// A Result is what became of one scenario.
type Result struct {
	Scenario   string               `json:"scenario"`
	About      string               `json:"about"`
	Messages   int                  `json:"messages"`
	Faults     map[string]int       `json:"faults"`
	Accepted   int                  `json:"accepted_by_wechat"`
	Outcomes   map[string]int       `json:"outcomes,omitempty"`
	Duplicates map[message.Kind]int `json:"duplicates"`
	Lost       int                  `json:"lost"`
	Figures    map[string]any       `json:"figures"`
	Breaches   []string             `json:"breaches"`
	Repeat     string               `json:"repeat"`
	Took       string               `json:"took"`
}

// A Report is what became of all of them.
type Report struct {
	Subject string    `json:"subject"`
	Seed    uint64    `json:"seed"`
	Machine string    `json:"machine"`
	Commit  string    `json:"commit"`
	Results []*Result `json:"results"`
}

func (r *rig) result(f *findings) *Result {
	faults := map[string]int{}
	for _, one := range r.faults {
		faults[one.What]++
	}
	return &Result{
		Scenario: r.name, About: r.about, Messages: r.books.count(), Faults: faults, Accepted: r.sim.AcceptedTotal(),
		Duplicates: f.duplicates, Lost: f.lost, Figures: r.figures, Breaches: f.list,
	}
}

// mutated turns the verdict round where a safety was taken away: what was noticed is as it should be, if it is the promise
// that the safety keeps.
func (r *Result) mutated(without fault.Safety, notice string) {
	if without == "" {
		return
	}
	noticed := slices.DeleteFunc(slices.Clone(r.Breaches), func(b string) bool { return !strings.HasPrefix(b, notice) })
	r.Figures["noticed"] = len(noticed)
	if len(noticed) > 0 {
		r.Figures["first"] = noticed[0]
		r.Breaches = nil
		return
	}
	r.Breaches = append([]string{fmt.Sprintf("nobody noticed that the workers did without %s: want a breach of %s", without, cmp.Or(notice, "some promise"))}, r.Breaches...)
}

func (r *Report) broken() bool {
	return slices.ContainsFunc(r.Results, func(s *Result) bool { return len(s.Breaches) > 0 })
}

const mostBreaches = 20 // that are shown of one scenario; --json has all

func (r *Report) write(w io.Writer) {
	fmt.Fprintf(w, "\n%s, seed %d, commit %s, %s\n\n", r.Subject, r.Seed, r.Commit, r.Machine)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "scenario\tmessages\tfaults\tsent twice\tlost\tunknown\tbreaches\ttook\tfigures")
	for _, s := range r.Results {
		twice := 0
		for _, n := range s.Duplicates {
			twice += n
		}
		fmt.Fprintf(table, "%s\t%d\t%s\t%d\t%d\t%d\t%d\t%s\t%s\n", s.Scenario, s.Messages, inWords(s.Faults), twice, s.Lost,
			s.Outcomes["unknown"], len(s.Breaches), s.Took, inWords(s.Figures))
	}
	_ = table.Flush()
	for _, s := range r.Results {
		if len(s.Breaches) == 0 {
			continue
		}
		fmt.Fprintf(w, "\n%s broke %d promises; repeat with %s\n", s.Scenario, len(s.Breaches), s.Repeat)
		for _, b := range s.Breaches[:min(mostBreaches, len(s.Breaches))] {
			fmt.Fprintln(w, "  "+b)
		}
	}
}

func inWords[V any](m map[string]V) string {
	var all []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		all = append(all, fmt.Sprintf("%s %v", k, m[k]))
	}
	return strings.Join(all, ", ")
}

// progress tells what scenarios are doing: on a terminal in a line each second, elsewhere only their ends.
type progress struct {
	w        io.Writer
	terminal bool
	mu       sync.Mutex
	doing    map[string]string
	shown    time.Time
}

func newProgress(w io.Writer) *progress {
	p := &progress{w: w, doing: map[string]string{}}
	if f, ok := w.(*os.File); ok {
		info, err := f.Stat()
		p.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return p
}

func (p *progress) say(name, format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.doing[name] = fmt.Sprintf(format, args...)
	if p.terminal && time.Since(p.shown) > 500*time.Millisecond {
		p.shown = time.Now()
		fmt.Fprintf(p.w, "\r\033[K%s", inWords(p.doing))
	}
}

func (p *progress) done(r *Result) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.doing, r.Scenario)
	verdict := "held"
	if len(r.Breaches) > 0 {
		verdict = fmt.Sprintf("%d breaches", len(r.Breaches))
	}
	if p.terminal {
		fmt.Fprint(p.w, "\r\033[K")
	}
	fmt.Fprintf(p.w, "%s: %s after %s\n", r.Scenario, verdict, r.Took)
}

func (p *progress) end() {
	if p.terminal {
		fmt.Fprint(p.w, "\r\033[K")
	}
}
