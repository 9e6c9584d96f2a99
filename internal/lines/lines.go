// Package lines cuts a stream of JSON Lines into slabs, in bounded memory whatever the stream holds, and takes the slabs
// through work, many at once, to be reported in their order.
package lines

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
)

// A Slab is a run of lines that are worked on together. Its memory is used again.
type Slab struct {
	Lines  []Line
	Offset int64 // bytes of the stream read up to its end

	number int // of the slab, from 0
	text   []byte
	held   int // bytes of memory while it is in hand
}

// A Line is a piece of a slab's text.
type Line struct {
	Number  int  // in the stream, from 1
	TooLong bool // the text is its beginning only

	from, to int
}

// At is the text of a line, good until the slab is used again.
func (b *Slab) At(l Line) []byte { return b.text[l.from:l.to] }

// MaxLines bounds the lines of a slab: what travels to the stores together.
const MaxLines = 1000

// slabBytes bounds the memory that a slab may take (a line more, in fact).
const slabBytes = 1 << 20

const (
	readerBytes = 256 << 10
	shownBytes  = 1 << 10 // of a line that is too long
)

// A Reader cuts a stream into lines. It unpacks gzip.
type Reader struct {
	Most int // lines of a slab: 1 to MaxLines, which it is unless it is set before reading

	raw    *countingReader
	in     *bufio.Reader
	limit  int  // bytes of a line
	live   bool // somebody may be writing it now: do not wait for a full slab
	number int  // of the last line
}

// NewReader reads lines of at most limit bytes from f, beginning with line fromLine, which counts from 1.
func NewReader(f io.Reader, limit, fromLine int) (*Reader, error) {
	r := &Reader{Most: MaxLines, raw: &countingReader{r: f}, limit: limit, live: !IsRegular(f)}
	r.in = bufio.NewReaderSize(r.raw, readerBytes)
	if head, _ := r.in.Peek(2); bytes.Equal(head, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(r.in)
		if err != nil {
			return nil, err
		}
		r.in = bufio.NewReaderSize(z, readerBytes)
	}
	var b Slab
	for r.number < fromLine-1 {
		b.text = b.text[:0]
		if _, err := r.line(&b); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// IsRegular says whether f is a file of a known size.
func IsRegular(f io.Reader) bool {
	file, ok := f.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode().IsRegular()
}

// fill reads lines into an empty slab; empty ones are left out. io.EOF comes with the last lines.
func (r *Reader) fill(b *Slab) error {
	b.text, b.Lines = b.text[:0], b.Lines[:0]
	if cap(b.text) > 2*slabBytes { // a long line is rare, and its memory is not kept
		b.text = nil
	}
	for len(b.Lines) < r.Most && len(b.text) < slabBytes {
		l, err := r.line(b)
		if err != nil && !errors.Is(err, io.EOF) {
			return err // what there is of the line is not the line
		}
		if len(bytes.TrimSpace(b.At(l))) > 0 {
			b.Lines = append(b.Lines, l)
		}
		if err != nil {
			b.Offset = r.raw.n.Load()
			return err
		}
		if r.live && len(b.Lines) > 0 && !r.hasLine() {
			break
		}
	}
	b.Offset = r.raw.n.Load()
	return nil
}

// hasLine says whether the next line can be read without waiting for whoever writes it.
func (r *Reader) hasLine() bool {
	rest, _ := r.in.Peek(r.in.Buffered())
	return bytes.IndexByte(rest, '\n') >= 0
}

// line appends the next line to the slab's text.
func (r *Reader) line(b *Slab) (Line, error) {
	l := Line{Number: r.number + 1, from: len(b.text)}
	for {
		piece, err := r.in.ReadSlice('\n')
		if !l.TooLong && len(b.text)-l.from+len(bytes.TrimRight(piece, "\r\n")) > r.limit {
			b.text = append(b.text, piece...)
			b.text = b.text[:min(len(b.text), l.from+shownBytes)]
			l.TooLong = true
		}
		if !l.TooLong {
			b.text = append(b.text, piece...)
		}
		l.to = len(b.text)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err == nil || l.to > l.from {
			r.number++
		}
		return l, err
	}
}

// A countingReader knows how far it is; another goroutine may ask.
type countingReader struct {
	r io.Reader
	n atomic.Int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}
