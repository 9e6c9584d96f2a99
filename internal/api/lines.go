package api

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/lines"
	"github.com/hongyan-dispatch/hongyan/message"
)

// What a stream of JSON Lines has in hand.
const (
	lineWorkers  = 4
	lineBytes    = 8 << 20  // of lines
	spoolChunks  = 64       // results that nobody has read yet, in chunks of
	spoolBytes   = 64 << 10 // bytes: 4 MiB
	streamMemory = lineBytes + spoolChunks*spoolBytes
)

// A lineResult is what became of one line. Its statuses are those of HTTP.
type lineResult struct {
	Line      int                  `json:"line"`
	Status    int                  `json:"status"`
	ID        message.ID           `json:"id,omitzero"`
	Duplicate bool                 `json:"duplicate,omitempty"`
	Parts     []message.ID         `json:"parts,omitempty"`
	Detail    string               `json:"detail,omitempty"`
	Errors    []message.FieldError `json:"errors,omitempty"`

	account string
	stops   *problem // nothing behind it is begun
}

// A lineSummary is the last line of the answer.
type lineSummary struct {
	Done       bool   `json:"done"` // every line has its result
	Lines      int    `json:"lines"`
	Accepted   int    `json:"accepted"`
	Duplicates int    `json:"duplicates"`
	Refused    int    `json:"refused"`
	FromLine   int    `json:"from_line,omitempty"` // where to go on
	RetryAfter int    `json:"retry_after,omitempty"`
	Detail     string `json:"detail,omitempty"`
}

func (h *Handler) postLines(c *call) error {
	if c.r.Header.Get(headerKey) != "" {
		if err := c.pay(1); err != nil {
			return err
		}
		return malformed(headerKey+" is for one message", "give each line its own key")
	}
	return h.stream(c, message.MaxMassBytes, "enqueue", func(ctx context.Context, b *lines.Slab) []lineResult { return h.enqueueLines(ctx, c, b) })
}

// enqueueLines parses and enqueues the lines of a slab.
func (h *Handler) enqueueLines(ctx context.Context, c *call, b *lines.Slab) []lineResult {
	results := make([]lineResult, len(b.Lines))
	batch, places := make([]message.Message, 0, len(b.Lines)), make([]int, 0, len(b.Lines))
	for i, l := range b.Lines {
		r := &results[i]
		if l.TooLong {
			r.refuse(tooLarge(fmt.Sprintf("longer than %d KiB", message.MaxMassBytes>>10), ""))
			continue
		}
		m, err := message.Parse(b.At(l))
		if err != nil {
			r.refuse(unparsed(err))
			continue
		}
		m.Defaults(true)
		if bad := h.forbids(c.key, m); bad != nil {
			p := forbidden(bad.Error())
			p.Errors = bad
			r.refuse(p)
			continue
		}
		if m.Kind == message.Mass && h.options.Accounts.WantsApproval(m.Account) {
			r.refuse(invalid(message.Invalid{{Path: "kind", Rule: wantsApproval}}))
			continue
		}
		if full, after := h.options.Backlog(m.Account, m.Kind, m.Lane); full {
			r.refuse(tooMany(fmt.Sprintf("too many %s messages of %s wait already", m.Kind, m.Account), after))
			continue
		}
		r.account = m.Account
		batch, places = append(batch, *m), append(places, i)
	}
	for i, receipt := range h.options.Enqueuer.EnqueueBatch(ctx, batch) {
		results[places[i]].receipt(receipt)
	}
	return results
}

// begins waits until a stream has paid for its first line, or, where it has none, for itself: before it holds any memory.
func (h *Handler) begins(c *call) error {
	for _, set := range []func(time.Time) error{c.rc.SetReadDeadline, c.rc.SetWriteDeadline} { // it may take long
		_ = set(time.Time{})
	}
	if h.passes(c, 1) != nil {
		return unavailable("the server is closing")
	}
	_ = c.rc.SetWriteDeadline(time.Now().Add(2 * h.options.Patience))
	return nil
}

// passes waits until n lines may pass at the key's rate.
func (h *Handler) passes(c *call, n int) error {
	waiting, stop := context.WithCancel(c.ctx())
	defer stop()
	defer context.AfterFunc(h.closing, stop)()
	return c.key.wait(waiting, n, time.Now())
}

// paced lets the lines of a slab pass at the key's rate, good and bad ones, and works on them. The first line is paid for.
func (h *Handler) paced(c *call, work func(context.Context, *lines.Slab) []lineResult) func(context.Context, *lines.Slab) []lineResult {
	var paid atomic.Int64
	paid.Store(1)
	return func(ctx context.Context, b *lines.Slab) []lineResult {
		if err := h.passes(c, len(b.Lines)-int(paid.Swap(0))); err != nil {
			results := make([]lineResult, len(b.Lines))
			for i := range results {
				results[i].refuse(unavailable("the server is closing"))
			}
			return results
		}
		return work(ctx, b)
	}
}

// A slab passes a limiter as a whole, which it could never do if it were larger than the burst.
const _ = uint(burst - lines.MaxLines)

// slabFor is how long the lines of a slab may wait for their key's rate: so long their results are not told.
const slabFor = 5 * time.Second

// slab is how many lines of a stream are worked on together.
func (h *holder) slab() int {
	if h.limiter == nil {
		return lines.MaxLines
	}
	return min(max(int(float64(h.limiter.Limit())*slabFor.Seconds()), 1), lines.MaxLines)
}

// wait lets n lines of a stream pass at the key's rate.
func (h *holder) wait(ctx context.Context, n int, now time.Time) error {
	if h.limiter == nil || n < 1 {
		return nil
	}
	turn := h.limiter.ReserveN(now, n)
	timer := time.NewTimer(turn.DelayFrom(now))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		turn.Cancel()
		return ctx.Err()
	}
}

func (r *lineResult) receipt(from Receipt) {
	if from.Err == nil {
		r.Status, r.ID, r.Duplicate, r.Parts = http.StatusAccepted, from.ID, from.Duplicate, from.Parts
		return
	}
	r.refuse(refused(from.Err))
}

// refuse says why the line was not accepted, and whether there is any use in going on.
func (r *lineResult) refuse(err error) {
	p := problemOf(err)
	r.Status, r.Detail, r.Errors = p.Status, p.Detail, p.Errors
	if len(p.Errors) > 0 {
		r.Detail = "" // errors say it
	}
	if p.Status == http.StatusServiceUnavailable || p.Status == http.StatusTooManyRequests {
		r.stops = p
	}
}

// stream takes the body's lines through work and answers with a result for each, in bounded memory: the results go out
// while the body comes in.
func (h *Handler) stream(c *call, limit int, action string, work func(context.Context, *lines.Slab) []lineResult) error {
	if err := h.begins(c); err != nil {
		return err
	}
	if err := h.hold(c, streamMemory); err != nil {
		return err
	}
	_ = c.rc.EnableFullDuplex() // HTTP/2 is it anyway
	ctx, cancel := context.WithCancel(c.ctx())
	defer cancel()
	defer context.AfterFunc(h.closing, cancel)()
	body := &patient{body: c.r.Body, rc: c.rc, patience: h.options.Patience}
	in, err := lines.NewReader(body, limit, 1)
	if err != nil {
		return shut(malformed("the body is packed, and not whole: "+err.Error(), "pack it with gzip, or send it as it is"))
	}
	in.Most = c.key.slab()
	out := &results{h: h, c: c, chunks: make(chan []byte, spoolChunks), broken: make(chan struct{}), ended: make(chan struct{})}
	counts := tally{}
	go out.send()
	through := lines.Stream[lineResult]{
		Lines: in, Workers: lineWorkers, Bytes: lineBytes, Work: h.paced(c, work),
		Stops: func(r lineResult) bool { return r.stops != nil },
		Report: func(b *lines.Slab, verdicts []lineResult) error {
			for i := range verdicts {
				if v := &verdicts[i]; v.Status == http.StatusAccepted {
					counts.add(v.account, v.ID)
				}
			}
			return out.report(b, verdicts)
		},
	}
	if err = through.Run(ctx); !through.Ended {
		err = cmp.Or(err, body.broke(c.ctx().Err() != nil))
		body.leave(h.hears())
	}
	counts.audit(h, c, action)
	if p := out.nothing(err); p != nil {
		out.finish()
		return p
	}
	out.summary(err, !through.Ended)
	err = out.finish()
	if !through.Ended && h.closing.Err() == nil { // else no request follows
		h.readOn(c)
	}
	return err
}

// readOn reads what is left of the body behind the answer, so that net/http does not take it for the connection's next
// request: it does so where the rest has not come by then. A body that goes on for long ends its connection.
func (h *Handler) readOn(c *call) {
	c.release() // nothing of it is kept
	c.release = func() {}
	_ = c.rc.Flush()
	_ = c.rc.SetReadDeadline(h.hears())
	_, err := io.CopyN(io.Discard, c.r.Body, heardBytes)
	c.torn = !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) // behind which nothing comes
}

// results writes what became of lines. Whoever reads nothing while they write has so much of it kept as the spool holds,
// and is then left.
type results struct {
	h       *Handler
	c       *call
	chunks  chan []byte
	broken  chan struct{} // closed: the peer reads no more
	ended   chan struct{} // closed: all is written
	failure error         // of the sender, once ended is closed

	total lineSummary
	last  int      // the number of the last line with a result
	stop  *problem // the first
}

// report puts the results of a slab into the spool.
func (o *results) report(b *lines.Slab, verdicts []lineResult) error {
	var chunk bytes.Buffer
	e := json.NewEncoder(&chunk)
	e.SetEscapeHTML(false)
	for i := range verdicts {
		v := &verdicts[i]
		v.Line = b.Lines[i].Number
		o.last = v.Line
		o.total.Lines++
		switch {
		case v.stops != nil:
			if o.stop == nil {
				o.stop, o.total.FromLine = v.stops, v.Line
			}
			if o.total.Accepted+o.total.Duplicates+o.total.Refused == 0 && chunk.Len() == 0 {
				continue // nothing was done yet: the whole answer will say so
			}
		case v.Status == http.StatusAccepted && v.Duplicate:
			o.total.Duplicates++
		case v.Status == http.StatusAccepted:
			o.total.Accepted++
		default:
			o.total.Refused++
		}
		if err := e.Encode(v); err != nil {
			return err
		}
		if chunk.Len() >= spoolBytes {
			if err := o.put(bytes.Clone(chunk.Bytes())); err != nil {
				return err
			}
			chunk.Reset()
		}
	}
	return o.put(chunk.Bytes())
}

var errUnread = errors.New("nobody reads the results")

func (o *results) put(chunk []byte) error {
	if len(chunk) == 0 {
		return nil
	}
	patience := time.NewTimer(o.h.options.Patience)
	defer patience.Stop()
	select {
	case o.chunks <- chunk:
		return nil
	case <-o.broken:
	case <-patience.C:
	}
	return errUnread
}

// send writes chunks as they come.
func (o *results) send() {
	defer close(o.ended)
	w := bufio.NewWriterSize(o.c.w, spoolBytes)
	began := false
	for chunk := range o.chunks {
		if !began {
			o.c.w.Header().Set("Content-Type", typeLines)
			o.c.w.WriteHeader(http.StatusOK)
			began = true
		}
		_ = o.c.rc.SetWriteDeadline(time.Now().Add(o.h.options.Patience))
		_, err := w.Write(chunk)
		if err == nil && len(o.chunks) == 0 {
			if err = w.Flush(); err == nil {
				err = o.c.rc.Flush()
			}
		}
		if err != nil {
			o.failure = err
			close(o.broken)
			return
		}
	}
	o.failure = w.Flush()
}

// nothing is the problem where no line has a result, so that the answer can still be one.
func (o *results) nothing(err error) *problem {
	if o.total.Accepted+o.total.Duplicates+o.total.Refused > 0 {
		return nil
	}
	switch {
	case o.stop != nil:
		p := *o.stop
		p.close = true
		return &p
	case errors.Is(err, os.ErrDeadlineExceeded):
		return slow()
	case err != nil:
		return cut(0, -1)
	case o.total.Lines == 0:
		return invalid(message.Invalid{{Rule: "must not be empty: want one message in each line"}})
	}
	return nil
}

// summary is the last line: whether all is done, and where to go on.
func (o *results) summary(err error, stopped bool) {
	s := &o.total
	s.Done = err == nil && o.stop == nil && !stopped
	if !s.Done && o.stop == nil {
		s.FromLine = o.last + 1
	}
	switch {
	case o.stop != nil:
		s.Detail, s.RetryAfter = o.stop.Detail, seconds(o.stop.after)
	case err != nil:
		s.Detail = "the body broke off"
	case stopped:
		s.Detail = "the server is closing"
	}
	if text, err := json.Marshal(s); err == nil {
		_ = o.put(append(text, '\n')) // finish tells
	}
}

func (o *results) finish() error {
	close(o.chunks)
	<-o.ended
	return o.failure
}
