package audience

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/hongyan-dispatch/hongyan/message"
)

// Options say what the name and the content of a file leave open; the zero value finds out by itself.
type Options struct {
	Format   string // csv, jsonl, xlsx
	Encoding string // utf-8, gb18030
	Comma    rune   // of CSV
	Sheet    string // of Excel; the first one
}

// A Row is one recipient.
type Row struct {
	OpenID message.OpenID
	Vars   []string // by the Reader's Columns
	Line   int64    // where it begins, counted from 1, the header's included
}

// Refused says why a row cannot be taken; reading goes on behind it.
type Refused struct {
	Line   int64
	Reason string
}

func (r *Refused) Error() string { return fmt.Sprintf("line %d: %s", r.Line, r.Reason) }

// A Reader reads the rows of one file. It is for one goroutine.
type Reader struct {
	csv     *csv.Reader
	columns []string
	openid  int
	line    int64
}

// Open begins to read a file; its name may tell how it is packed and written.
func Open(name string, r io.Reader, _ Options) (*Reader, error) {
	a := &Reader{csv: csv.NewReader(r)}
	header, err := a.csv.Read()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if a.openid = slices.Index(header, "openid"); a.openid < 0 {
		return nil, fmt.Errorf("%s: no column openid", name)
	}
	a.columns = slices.Delete(slices.Clone(header), a.openid, a.openid+1)
	return a, nil
}

// Columns are the names of a row's Vars: all of the file's but openid.
func (r *Reader) Columns() []string { return r.columns }

// Next reads the next row. The error is io.EOF behind the last, a [*Refused] for a row that cannot be taken, or another one
// that ends the reading.
func (r *Reader) Next() (Row, error) {
	fields, err := r.csv.Read()
	if bad, ok := errors.AsType[*csv.ParseError](err); ok {
		r.line = int64(bad.Line)
		return Row{}, &Refused{Line: int64(bad.StartLine), Reason: bad.Err.Error()}
	}
	if err != nil {
		return Row{}, err
	}
	line, _ := r.csv.FieldPos(0)
	r.line = int64(line)
	row := Row{OpenID: message.OpenID(fields[r.openid]), Vars: slices.Delete(fields, r.openid, r.openid+1), Line: int64(line)}
	if err := row.OpenID.Check(); err != nil {
		return Row{}, &Refused{Line: row.Line, Reason: "openid: " + err.Error()}
	}
	return row, nil
}

// Skip reads on until the rows that begin at a line or before it are behind, as a resumed import does.
func (r *Reader) Skip(line int64) error {
	for r.line < line {
		if _, err := r.Next(); errors.Is(err, io.EOF) {
			return nil
		} else if _, bad := errors.AsType[*Refused](err); err != nil && !bad {
			return err
		}
	}
	return nil
}

// Offset is how many bytes of the input, as it lies, have been read.
func (r *Reader) Offset() int64 { return r.csv.InputOffset() }

// Close gives back what the reader holds; the input stays open.
func (r *Reader) Close() error { return nil }
