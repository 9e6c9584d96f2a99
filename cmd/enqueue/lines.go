package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
)

// A slab is a run of lines that are worked on together. Its memory is used again.
type slab struct {
	number int // of the slab, from 0
	text   []byte
	lines  []line
	offset int64 // bytes of the file read up to its end
}

// A line is a piece of a slab's text.
type line struct {
	number   int // in the file, from 1
	from, to int
	tooLong  bool // the text is its beginning only
}

func (b *slab) at(l line) []byte { return b.text[l.from:l.to] }

// Bounds of a slab: what travels to the stores together, and how much memory it may take (a line more, in fact).
const (
	slabLines = 1000
	slabBytes = 1 << 20
)

const (
	readerBytes = 256 << 10
	shownBytes  = 1 << 10 // of a line that is too long
)

// A lineReader cuts a file into lines, in bounded memory whatever the file holds. It unpacks gzip.
type lineReader struct {
	raw    *countingReader
	in     *bufio.Reader
	limit  int  // bytes of a line
	live   bool // somebody may be writing it now: do not wait for a full slab
	number int  // of the last line
}

func newLineReader(f io.Reader, limit, fromLine int) (*lineReader, error) {
	r := &lineReader{raw: &countingReader{r: f}, limit: limit, live: !isRegular(f)}
	r.in = bufio.NewReaderSize(r.raw, readerBytes)
	if head, _ := r.in.Peek(2); bytes.Equal(head, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(r.in)
		if err != nil {
			return nil, err
		}
		r.in = bufio.NewReaderSize(z, readerBytes)
	}
	var b slab
	for r.number < fromLine-1 {
		b.text = b.text[:0]
		if _, err := r.line(&b); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func isRegular(f io.Reader) bool {
	file, ok := f.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode().IsRegular()
}

// fill reads lines into an empty slab; empty ones are left out. io.EOF comes with the last lines.
func (r *lineReader) fill(b *slab) error {
	b.text, b.lines = b.text[:0], b.lines[:0]
	for len(b.lines) < slabLines && len(b.text) < slabBytes {
		l, err := r.line(b)
		if err != nil && !errors.Is(err, io.EOF) {
			return err // what there is of the line is not the line
		}
		if len(bytes.TrimSpace(b.at(l))) > 0 {
			b.lines = append(b.lines, l)
		}
		if err != nil {
			b.offset = r.raw.n.Load()
			return err
		}
		if r.live && len(b.lines) > 0 && !r.hasLine() {
			break
		}
	}
	b.offset = r.raw.n.Load()
	return nil
}

// hasLine says whether the next line can be read without waiting for whoever writes it.
func (r *lineReader) hasLine() bool {
	rest, _ := r.in.Peek(r.in.Buffered())
	return bytes.IndexByte(rest, '\n') >= 0
}

// line appends the next line to the slab's text.
func (r *lineReader) line(b *slab) (line, error) {
	l := line{number: r.number + 1, from: len(b.text)}
	for {
		piece, err := r.in.ReadSlice('\n')
		if !l.tooLong && len(b.text)-l.from+len(bytes.TrimRight(piece, "\r\n")) > r.limit {
			b.text = append(b.text, piece...)
			b.text = b.text[:min(len(b.text), l.from+shownBytes)]
			l.tooLong = true
		}
		if !l.tooLong {
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
