package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

// The media types that we read.
const (
	typeJSON  = "application/json"
	typeLines = "application/x-ndjson"
)

// mediaType is that of the body: JSON or JSON Lines.
func (c *call) mediaType() (string, error) {
	given, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	switch {
	case err == nil && given == typeJSON:
		if coding := c.r.Header.Get("Content-Encoding"); coding != "" && coding != "identity" {
			return "", unsupported("Content-Encoding "+quote(coding), "send JSON as it is; JSON Lines may be packed with gzip")
		}
		return typeJSON, nil
	case err == nil && slices.Contains([]string{typeLines, "application/jsonl", "application/jsonlines"}, given):
		if coding := c.r.Header.Get("Content-Encoding"); !slices.Contains([]string{"", "identity", "gzip", "x-gzip"}, strings.ToLower(coding)) {
			return "", unsupported("Content-Encoding "+quote(coding), "pack JSON Lines with gzip, or send them as they are")
		}
		return typeLines, nil
	}
	return "", unsupported("Content-Type "+quote(c.r.Header.Get("Content-Type")), "send Content-Type: "+typeJSON+", or "+typeLines+" for JSON Lines")
}

func unsupported(detail, remedy string) *problem {
	p := trouble(http.StatusUnsupportedMediaType, "media-type", "The body is of a type that nobody reads here", detail, remedy)
	p.close = true
	return p
}

func quote(text string) string {
	if len(text) > 60 {
		text = text[:60] + "…"
	}
	return fmt.Sprintf("%q", text)
}

// waitForMemory is how long a body waits until there is room for it.
const waitForMemory = time.Second

// hold takes n bytes of the memory for bodies, or says that there is none now.
func (h *Handler) hold(c *call, n int64) error {
	ctx, cancel := context.WithTimeout(c.ctx(), waitForMemory)
	defer cancel()
	if h.memory.Acquire(ctx, n) != nil {
		p := unavailable("the server has its hands full of bodies")
		p.close = true
		return p
	}
	before := c.release
	c.release = func() { before(); h.memory.Release(n) }
	return nil
}

// read reads a body of at most limit bytes, which may be neither long nor slow.
func (h *Handler) read(c *call, limit int64, remedy string) ([]byte, error) {
	length := c.r.ContentLength
	if length > limit {
		return nil, tooLarge(fmt.Sprintf("%d bytes; at most %d", length, limit), remedy)
	}
	room := length + 1 // so that the end is seen without growing
	if length < 0 {
		room = limit + 1
	}
	if err := h.hold(c, room); err != nil {
		return nil, err
	}
	_ = c.rc.SetReadDeadline(time.Now().Add(h.options.Patience))
	b := bytes.NewBuffer(make([]byte, 0, min(room, 64<<10)))
	if length > 0 {
		b.Grow(int(room))
	}
	n, err := b.ReadFrom(http.MaxBytesReader(c.w, c.r.Body, limit))
	switch long := (*http.MaxBytesError)(nil); {
	case errors.As(err, &long):
		return nil, tooLarge(fmt.Sprintf("more than %d bytes", limit), remedy)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, slow()
	case err != nil:
		return nil, cut(n, length)
	}
	_ = c.rc.SetReadDeadline(time.Time{})
	return b.Bytes(), nil
}

func slow() *problem {
	p := trouble(http.StatusRequestTimeout, "slow", "The body did not come in time", "the server waited for the rest of the body", "make the same request again")
	p.close = true
	return p
}

func cut(n, length int64) *problem {
	detail := fmt.Sprintf("it broke off after %d bytes", n)
	if length >= 0 {
		detail += fmt.Sprintf(" of %d", length)
	}
	p := malformed("the body is not whole: "+detail, "make the same request again; nothing was accepted")
	p.close = true
	return p
}

// elements takes a JSON array apart without looking into its elements, which their parser does. Of one that is no array
// or broken off it says so.
func elements(body []byte, limit int) ([][]byte, error) {
	if !isList(body) {
		return nil, message.Invalid{{Rule: "want a list"}}
	}
	var all [][]byte
	depth, inString, from, n := 0, false, -1, 0
	element := func(to int) {
		if n++; n <= limit { // what is over it is counted, and takes no memory
			all = append(all, body[from:to])
		}
	}
	for i := 0; i < len(body); i++ {
		c := body[i]
		if inString {
			switch c {
			case '\\':
				i++
			case '"':
				inString = false
			}
			continue
		}
		switch c {
		case '"':
			inString = true
		case '[', '{':
			if depth++; depth == 1 {
				from = i + 1
			}
		case ',':
			if depth == 1 {
				element(i)
				from = i + 1
			}
		case ']', '}':
			if depth--; depth > 0 {
				continue
			}
			if c != ']' {
				return nil, message.Invalid{{Rule: "malformed JSON: the list ends with }"}}
			}
			if last := bytes.TrimSpace(body[from:i]); len(last) > 0 || n > 0 {
				element(i)
			}
			if rest := bytes.TrimSpace(body[i+1:]); len(rest) > 0 {
				return nil, message.Invalid{{Rule: "malformed JSON: something follows the list"}}
			}
			switch {
			case n == 0:
				return nil, message.Invalid{{Rule: "must not be empty", Got: "an empty list"}}
			case n > limit:
				return nil, message.Invalid{{Rule: fmt.Sprintf("at most %d in a list; send more as JSON Lines (%s)", limit, typeLines), Got: fmt.Sprint(n)}}
			}
			return all, nil
		}
	}
	return nil, message.Invalid{{Rule: "malformed JSON: ends too early"}}
}

// isList says whether the body is an array.
func isList(body []byte) bool {
	trimmed := bytes.TrimLeft(body, " \t\r\n")
	return len(trimmed) > 0 && trimmed[0] == '['
}

// within puts an element's place before the paths of its findings.
func within(i int, found message.Invalid) message.Invalid {
	moved := make(message.Invalid, len(found))
	for n, f := range found {
		switch place := fmt.Sprintf("[%d]", i); {
		case f.Path == "":
			f.Path = place
		default:
			f.Path = place + "." + f.Path
		}
		moved[n] = f
	}
	return moved
}

// patient reads a stream whose parts may be slow, each for itself.
type patient struct {
	body     io.Reader
	rc       *http.ResponseController
	patience time.Duration

	reading sync.Mutex // held while the body is read

	mu     sync.Mutex
	left   bool
	failed error // the first error but the end
}

func (p *patient) Read(b []byte) (int, error) {
	p.reading.Lock()
	defer p.reading.Unlock()
	p.mu.Lock()
	if p.left {
		p.mu.Unlock()
		return 0, errLeft
	}
	_ = p.rc.SetReadDeadline(time.Now().Add(p.patience))
	p.mu.Unlock()
	n, err := p.body.Read(b)
	if err == nil {
		return n, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.left:
	case errors.Is(err, io.EOF): // what comes behind the body may take its time: net/http watches the connection meanwhile
		_ = p.rc.SetReadDeadline(time.Time{})
	case p.failed == nil:
		p.failed = err
	}
	return n, err
}

// broke is why the body cannot be read to its end; nil: it can. A request's context ends just before a Read that breaks, so
// that whoever waits for both may hear of the context first: then the Read is waited for.
func (p *patient) broke(ended bool) error {
	if ended {
		p.reading.Lock()
		defer p.reading.Unlock()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

var errLeft = errors.New("nobody reads the body any more")

// leave ends a Read that may be under way: the handler cannot return before it.
func (p *patient) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = true
	_ = p.rc.SetReadDeadline(time.Unix(1, 0))
}
