package audience

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hongyan-dispatch/hongyan/message"
)

// The formats.
const (
	CSV   = "csv"   // the first line names the columns
	JSONL = "jsonl" // JSON Lines: one flat object on each line
	XLSX  = "xlsx"  // Excel: the first row names the columns
)

// The encodings. Files that begin with a byte order mark of UTF-16 are read, too.
const (
	UTF8    = "utf-8"
	GB18030 = "gb18030" // and so GBK and GB2312
)

// Options say what the name and the content of a file leave open; the zero value finds out by itself.
type Options struct {
	Format   string // CSV, JSONL or XLSX
	Encoding string // UTF8 or GB18030
	Comma    rune   // of CSV: a comma, a semicolon, a tab or |
	Sheet    string // of Excel; the first one

	MaxWorkbook int64 // bytes of an Excel file, which is held whole; 0: 256 MiB
}

// A Row is one recipient. It may be kept, but keeps some dozens of neighbours' text alive.
type Row struct {
	OpenID message.OpenID
	Vars   []string // by the Reader's Columns
	Line   int64    // where it begins, counted from 1, the header's included
}

// Refused says why a row cannot be taken; reading goes on behind it.
type Refused struct {
	Line   int64
	Reason string // names the field and the rule; no value stands in it
}

func (r *Refused) Error() string { return fmt.Sprintf("line %d: %s", r.Line, r.Reason) }

const (
	maxLine    = message.MaxBytes // bytes of a row: what is longer fits no message
	maxColumns = 100
	maxName    = 64 // characters of a column's name
)

var errLong = fmt.Errorf("longer than %d KiB", maxLine>>10)

// A Reader reads the rows of one file. It is for one goroutine.
type Reader struct {
	in      *input
	rows    rows
	columns []string
	openid  int // its place among a row's fields

	spare []string // Vars of the rows to come
}

// rows are the rows of one format, as they stand in the file.
type rows interface {
	// names reads the names of the columns.
	names() ([]string, error)
	// next reads the fields of a row, by the names, and says on which line it began. The fields hold until the next row.
	// What is wrong with a row is a [*Refused].
	next() (fields []string, line int64, err error)
	// last is the last line that was read.
	last() int64
	close() error
}

// Open begins to read a file: packed by gzip or zstd or not, as its content says; CSV, JSON Lines or Excel, as the name or
// the content says. The name of standard input may be "-". The error says what is wrong with the file as a whole.
func Open(name string, r io.Reader, o Options) (*Reader, error) {
	a, err := open(name, r, o)
	if err != nil {
		return nil, fmt.Errorf("audience %s: %w", name, err)
	}
	return a, nil
}

func open(name string, r io.Reader, o Options) (*Reader, error) {
	in, err := newInput(name, r, o)
	if err != nil {
		return nil, cutOff(err)
	}
	a := &Reader{in: in}
	if err := a.begin(o); err != nil {
		return nil, errors.Join(cutOff(err), a.Close())
	}
	return a, nil
}

func (r *Reader) begin(o Options) (err error) {
	if !slices.Contains([]rune{0, ',', ';', '\t', '|'}, o.Comma) {
		return fmt.Errorf("values cannot be parted by %q; want a comma, a semicolon, a tab or |", o.Comma)
	}
	switch r.in.format {
	case XLSX:
		s, err := newSheet(r.in.packed, o)
		if err != nil {
			return err
		}
		r.rows = s
	case JSONL:
		r.rows = newObjects(newLines(r.in.packed, o.Encoding))
	default:
		r.rows = newTable(newLines(r.in.packed, o.Encoding), o.Comma)
	}
	names, err := r.rows.names()
	if errors.Is(err, io.EOF) {
		return errors.New("there is nothing in it")
	}
	if err != nil {
		return err
	}
	r.columns, r.openid, err = header(names)
	return err
}

// cutOff says what it means that a packed file has no end.
func cutOff(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the packed file ends in its middle: %w", err)
	}
	return err
}

// header finds openid among the columns' names.
func header(names []string) (columns []string, openid int, err error) {
	openid = -1
	seen := map[string]bool{}
	for i, name := range names {
		name = strings.TrimSpace(name)
		switch {
		case isOpenID(name):
			if openid >= 0 {
				return nil, 0, errors.New("two columns are named openid")
			}
			openid = i
			continue
		case name == "":
			return nil, 0, fmt.Errorf("column %d has no name; the first line names the columns", i+1)
		case seen[name]:
			return nil, 0, fmt.Errorf("two columns are named %s", short(name))
		case strings.ContainsRune(name, 0):
			return nil, 0, errors.New("it is no text, or one in UTF-16 without a byte order mark; save it as UTF-8")
		case strings.ContainsRune(name, '\r'):
			return nil, 0, errors.New("its lines end by CR alone, as on old Macs; save it with LF or CRLF")
		case utf8.RuneCountInString(name) > maxName || strings.IndexFunc(name, unicode.IsControl) >= 0 || !utf8.ValidString(name):
			return nil, 0, fmt.Errorf("column %d: a name has at most %d characters, all on one line", i+1, maxName)
		}
		seen[name] = true
		columns = append(columns, name)
	}
	switch {
	case openid < 0:
		return nil, 0, fmt.Errorf("no column is named openid; the first line names the columns, and has %s", list(names))
	case len(columns) > maxColumns:
		return nil, 0, fmt.Errorf("%d columns, and at most %d are taken", len(names), maxColumns)
	}
	return columns, openid, nil
}

func isOpenID(name string) bool { return strings.EqualFold(strings.TrimSpace(name), "openid") }

// list is some names for an error.
func list(names []string) string {
	const most = 8
	words := make([]string, 0, most)
	for _, name := range names[:min(len(names), most)] {
		words = append(words, short(name))
	}
	if len(names) > most {
		words = append(words, "…")
	}
	return strings.Join(words, ", ")
}

// short is a stranger's text for an error.
func short(text string) string {
	const most = 32
	if utf8.RuneCountInString(text) > most {
		text = string([]rune(text)[:most]) + "…"
	}
	return fmt.Sprintf("%q", text)
}

// Columns are the names of a row's Vars: all of the file's but openid.
func (r *Reader) Columns() []string { return r.columns }

// Format is how the file turned out to be written.
func (r *Reader) Format() string { return r.in.format }

// Encoding is how its text turned out to be encoded; a text of ASCII alone is [UTF8].
func (r *Reader) Encoding() string {
	if l, ok := r.rows.(interface{ encoding() string }); ok {
		return l.encoding()
	}
	return UTF8
}

// Next reads the next row. The error is io.EOF behind the last, a [*Refused] for a row that cannot be taken, and any
// other ends the reading.
func (r *Reader) Next() (Row, error) {
	fields, line, err := r.rows.next()
	if err != nil {
		return Row{}, cutOff(err)
	}
	row := Row{OpenID: message.OpenID(strings.TrimSpace(fields[r.openid])), Line: line}
	if err := row.OpenID.Check(); err != nil {
		return Row{}, &Refused{line, "openid: " + err.Error()}
	}
	row.Vars = r.vars(fields)
	return row, nil
}

// spareVars is how many values' places are made at a time.
const spareVars = 4096

// vars copies the fields but openid. Rows share what they are copied to.
func (r *Reader) vars(fields []string) []string {
	n := len(fields) - 1
	if len(r.spare) < n {
		r.spare = make([]string, max(n, spareVars))
	}
	vars := r.spare[:n:n]
	r.spare = r.spare[n:]
	copy(vars, fields[:r.openid])
	copy(vars[r.openid:], fields[r.openid+1:])
	return vars
}

// Skip reads on until all rows that begin at a line or before it are behind, as an import does that goes on where a
// killed one was.
func (r *Reader) Skip(line int64) error {
	for r.rows.last() < line {
		_, _, err := r.rows.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if _, bad := errors.AsType[*Refused](err); err != nil && !bad {
			return err
		}
	}
	return nil
}

// Line is the last line that was read: an import that has taken all rows so far goes on by [Reader.Skip] of it.
func (r *Reader) Line() int64 { return r.rows.last() }

// Offset is how many bytes of the input, as it lies, have been read. An Excel file is read whole by [Open].
func (r *Reader) Offset() int64 { return r.in.count.n }

// Close gives back what the reader holds. The input is the caller's to close.
func (r *Reader) Close() error {
	var err error
	if r.rows != nil {
		err = r.rows.close()
	}
	return errors.Join(err, r.in.close())
}

// checkFields judges what every value must be, for Postgres and for JSON.
func checkFields(fields, names []string, line int64) error {
	for i, f := range fields {
		if !utf8.ValidString(f) || strings.ContainsRune(f, utf8.RuneError) {
			return &Refused{line, names[i] + ": the text is not in the file's encoding"}
		}
		if j := strings.IndexFunc(f, isControl); j >= 0 {
			return &Refused{line, fmt.Sprintf("%s: control character U+%04X", names[i], f[j])}
		}
	}
	return nil
}

// isControl says whether WeChat or Postgres would not take the character.
func isControl(r rune) bool { return r < ' ' && r != '\t' && r != '\n' && r != '\r' }
