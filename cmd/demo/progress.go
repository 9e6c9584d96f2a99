package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/hongyan-dispatch/hongyan/outcome"
)

// A progress shows what happens while it happens: on a terminal as a block that is drawn again and again, with
// what is said scrolling by above it; elsewhere as plain lines.
type progress struct {
	w     io.Writer
	width int // of the terminal; 0: none
	start time.Time

	mu     sync.Mutex
	made   int // messages enqueued
	last   picture
	at     time.Time // of the last picture
	rate   float64   // messages a second that the simulator took lately
	drawn  int       // lines of the block on the screen
	said   time.Time // the last plain line
	cancel context.CancelFunc
	ended  chan struct{}
}

func newProgress(w io.Writer) *progress {
	p := &progress{w: w, start: time.Now()}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" {
		p.width = 80
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			p.width = width
		}
	}
	return p
}

// say prints a line that stays.
func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	fmt.Fprintf(p.w, "%5.1fs  %s\n", time.Since(p.start).Seconds(), fmt.Sprintf(format, args...))
	p.draw()
}

func (p *progress) produced(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.made = n
}

// The times between two pictures, and between two plain lines.
const (
	redraw    = 200 * time.Millisecond
	plainLine = 2 * time.Second
)

// watch shows pictures until stop.
func (p *progress) watch(look func(context.Context) (picture, error)) {
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel, p.ended = cancel, make(chan struct{})
	go func() {
		defer close(p.ended)
		tick := time.NewTicker(redraw)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if seen, err := look(ctx); err == nil { // a picture that cannot be taken is not worth a word
				p.show(seen, time.Now())
			}
		}
	}()
}

// stop ends the display; the last block stays. It may be called again.
func (p *progress) stop() {
	if p.cancel == nil {
		return
	}
	p.cancel()
	<-p.ended
	p.cancel = nil
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drawn = 0
}

func (p *progress) show(seen picture, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.at.IsZero() {
		const inertia = 0.8 // of the shown rate, against flicker
		latest := float64(seen.accepted-p.last.accepted) / now.Sub(p.at).Seconds()
		p.rate = inertia*p.rate + (1-inertia)*latest
	}
	p.last, p.at = seen, now
	if p.width > 0 {
		p.erase()
		p.draw()
	} else if now.Sub(p.said) >= plainLine {
		p.said = now
		fmt.Fprintf(p.w, "%5.1fs  %s  %.0f/s\n", now.Sub(p.start).Seconds(), p.counts()+p.ofCampaign(), p.rate)
	}
}

// counts is the picture in one line.
func (p *progress) counts() string {
	r := p.last.rows
	rows := -p.last.instead
	for _, n := range r {
		rows += n
	}
	queued := max(0, p.made-rows) + r[outcome.Accepted] // what was handed over has no row before a worker takes it
	return fmt.Sprintf("queued %d  parked %d  sending %d  sent %d  skipped %d  failed %d  unknown %d",
		queued, r[outcome.Parked], r[outcome.Sending], r[outcome.Sent], r[outcome.Skipped],
		r[outcome.Failed]+r[outcome.Dead]+r[outcome.Expired]+r[outcome.Cancelled], r[outcome.Unknown])
}

func (p *progress) ofCampaign() string {
	c := p.last.campaign
	if c == nil {
		return ""
	}
	return fmt.Sprintf("  campaign %s: %d of %d", c.Campaign.State, c.Ended(), c.Total)
}

// bar is a share, drawn.
func (p *progress) bar(done, all int) string {
	bar := max(0, min(40, p.width-38))
	full := min(bar, bar*done/all)
	return strings.Repeat("█", full) + strings.Repeat("░", bar-full)
}

// erase takes the block off the screen.
func (p *progress) erase() {
	for range p.drawn {
		fmt.Fprint(p.w, "\x1b[1A\x1b[2K")
	}
	p.drawn = 0
}

// draw puts the block onto the screen.
func (p *progress) draw() {
	if p.width == 0 || p.at.IsZero() {
		return
	}
	done := 0
	for status, n := range p.last.rows {
		if status.Terminal() {
			done += n
		}
	}
	all := max(1, p.made+p.last.instead)
	lines := []string{
		"",
		fmt.Sprintf("  %s  %d of %d decided, %.0f/s sent", p.bar(done, all), done, all, p.rate),
		"  " + p.counts(),
	}
	if c := p.last.campaign; c != nil {
		lines = append(lines, fmt.Sprintf("  %s  campaign %s: %d of %d", p.bar(c.Ended(), max(1, c.Total)), c.Campaign.State, c.Ended(), c.Total))
	}
	for _, line := range lines {
		if letters := []rune(line); len(letters) >= p.width {
			line = string(letters[:p.width-1]) // a line that wraps could not be erased
		}
		fmt.Fprintln(p.w, line)
	}
	p.drawn = len(lines)
}
