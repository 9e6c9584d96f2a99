package client

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/hongyan-dispatch/hongyan/internal/audience"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
)

// blockBytes bounds how much text a block of an import has.
const blockBytes = 8 << 20

// ImportAudience imports a file: CSV, JSON Lines or Excel, packed or not, as docs/campaigns.md says. Its name helps to
// know its format. Rows are committed 50,000 at a time, in memory that is bounded but for 8 bytes a recipient, by which
// duplicates are found; a row that cannot be taken stops no other.
func (c *Client) ImportAudience(ctx context.Context, idOrName, name string, file io.Reader, o ImportOptions) (AudienceState, error) {
	head, file, err := headOf(file)
	if err != nil {
		return AudienceState{}, fmt.Errorf("%s: %w", name, err)
	}
	r, err := audience.Open(name, file, audience.Options{Format: o.Format, Encoding: o.Encoding, MaxWorkbook: o.MaxWorkbook})
	if err != nil {
		return AudienceState{}, known{err, ErrNotAudience}
	}
	defer r.Close()
	i, done, err := c.startImport(ctx, idOrName, "file:"+filepath.Base(name), r.Columns(), o)
	if err != nil || done {
		return stateOf(i), err
	}
	if there := i.into.Audience; there.Lines > 0 {
		if there.Cursor != head {
			return stateOf(i), fmt.Errorf("%s: %w", name, ErrOtherInput)
		}
		if err := r.Skip(there.Lines); err != nil {
			return stateOf(i), fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := i.file(ctx, r, head); err != nil {
		return stateOf(i), err
	}
	return i.finish(ctx)
}

// headBytes are what an import remembers of its file, to know it again.
const headBytes = 64 << 10

// seekable is an input whose head can be looked at; others are read through a buffer.
type seekable interface {
	io.ReadSeeker
	io.ReaderAt
}

// headOf is a digest of a file's beginning, and the file, to be read from its beginning.
func headOf(file io.Reader) (string, io.Reader, error) {
	text := make([]byte, headBytes)
	if s, ok := file.(seekable); ok {
		if _, err := s.Seek(0, io.SeekCurrent); err == nil { // a pipe says no
			n, err := io.ReadFull(s, text)
			if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				return "", nil, err
			}
			_, err = s.Seek(int64(-n), io.SeekCurrent)
			return digest(text[:n]), file, err
		}
	}
	b := bufio.NewReaderSize(file, headBytes)
	text, err := b.Peek(headBytes)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", nil, err
	}
	return digest(text), b, nil
}

func digest(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// A block is some rows of a file on their way into the ledger.
type block struct {
	rows    []postgres.Newcomer
	refused []Reject
	bytes   int64 // of the file, read up to its end
	line    int64 // the last of them
	err     error // behind it; io.EOF: the file's end
}

// file reads the rest of the file, one block while the other is written.
func (i *importing) file(ctx context.Context, r *audience.Reader, head string) error {
	ctx, stop := context.WithCancel(ctx)
	blocks, free := make(chan *block), make(chan *block, 2)
	free <- new(block)
	free <- new(block)
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(blocks)
		for b := range each(ctx, free) {
			b.fill(r)
			select {
			case blocks <- b:
			case <-ctx.Done():
				return
			}
			if b.err != nil {
				return
			}
		}
	}()
	defer func() { <-read }()
	defer stop()
	for b := range each(ctx, blocks) {
		if err := i.block(ctx, b, head); err != nil {
			return err
		}
		if errors.Is(b.err, io.EOF) {
			return nil
		}
		if b.err != nil {
			return known{b.err, ErrNotAudience}
		}
		free <- b
	}
	return context.Cause(ctx)
}

// each yields what comes until the channel or ctx ends.
func each[T any](ctx context.Context, c <-chan T) func(func(T) bool) {
	return func(yield func(T) bool) {
		for {
			select {
			case <-ctx.Done():
				return
			case v, ok := <-c:
				if !ok || !yield(v) {
					return
				}
			}
		}
	}
}

// fill reads rows until the block is full, or the file ends.
func (b *block) fill(r *audience.Reader) {
	*b = block{rows: b.rows[:0], refused: b.refused[:0]}
	for size := 0; len(b.rows)+len(b.refused) < postgres.ImportBlock && size < blockBytes; {
		row, err := r.Next()
		if bad, ok := errors.AsType[*audience.Refused](err); ok {
			b.refused = append(b.refused, Reject{Line: bad.Line, Reason: bad.Reason})
			size += len(bad.Reason)
			continue
		}
		if err != nil {
			b.err = err
			break
		}
		b.rows = append(b.rows, postgres.Newcomer{Line: row.Line, OpenID: row.OpenID, Vars: row.Vars})
		size += len(row.OpenID)
		for _, v := range row.Vars {
			size += len(v)
		}
	}
	b.bytes, b.line = r.Offset(), r.Line()
}

// block tells of what the file's block has refused, and writes the rest.
func (i *importing) block(ctx context.Context, b *block, head string) error {
	if i.o.Rejected != nil {
		for _, r := range b.refused {
			if err := i.o.Rejected(r); err != nil {
				return err
			}
		}
	}
	if len(b.rows)+len(b.refused) == 0 { // the end of what another run has read
		return nil
	}
	return i.add(ctx, b.rows, func(a *postgres.Audience) {
		a.Refused += int32(len(b.refused))
		a.Bytes, a.Lines, a.Cursor = b.bytes, max(a.Lines, b.line), head
	})
}
