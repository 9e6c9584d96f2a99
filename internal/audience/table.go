package audience

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/hongyan-dispatch/hongyan/message"
)

// A table is CSV (RFC 4180): values may stand in quotes, where a quote is doubled and a line may end.
//
// A quote that is never closed must not swallow the rest of the file. A row is refused, and reading goes on with the
// very next line, where the quote is closed by none of the next 64 KiB, where something stands behind the closing one,
// and where a line inside the quotes is itself a whole row, with as many values and an openid in its place.
type table struct {
	*lines
	comma   byte
	columns []string // as in the file
	openid  int
	fields  []string // of the last row
}

func newTable(l *lines, comma rune) *table {
	return &table{lines: l, comma: byte(comma), openid: -1}
}

func (t *table) last() int64  { return t.line }
func (t *table) close() error { return nil }

func (t *table) names() ([]string, error) {
	rest, err := t.rest()
	if err != nil {
		return nil, err
	}
	if t.comma == 0 {
		first, _, _ := strings.Cut(rest, "\n")
		t.comma = commaOf(first)
	}
	fields, _, err := t.row()
	if bad, ok := errors.AsType[*Refused](err); ok {
		return nil, errors.New("the first line names the columns: " + bad.Reason)
	}
	if err != nil {
		return nil, err
	}
	t.columns = append(t.columns, fields...)
	_, t.openid, err = header(t.columns)
	return t.columns, err
}

// commaOf finds what stands between values.
func commaOf(first string) byte {
	for _, c := range []byte{',', '\t', ';'} {
		if strings.IndexByte(first, c) >= 0 {
			return c
		}
	}
	return ','
}

func (t *table) next() ([]string, int64, error) {
	fields, line, err := t.row()
	switch {
	case err != nil:
		return nil, 0, err
	case len(fields) != len(t.columns):
		return nil, 0, &Refused{line, fmt.Sprintf("want %d columns, got %d", len(t.columns), len(fields))}
	case !t.clean:
		if err := checkFields(fields, t.columns, line); err != nil {
			return nil, 0, err
		}
	}
	return fields, line, nil
}

// row reads a row that is not blank, whatever its columns.
func (t *table) row() (fields []string, line int64, err error) {
	for {
		rest, err := t.rest()
		if err != nil {
			return nil, 0, err
		}
		if rest == "" {
			return nil, 0, io.EOF
		}
		line := t.line + 1
		n := strings.IndexByte(rest, '\n') + 1
		if n == 0 {
			n = len(rest)
		}
		text := trimEnd(rest[:n])
		switch {
		case len(text) > maxLine:
			t.take(n, 1)
			return nil, 0, &Refused{line, errLong.Error()}
		case strings.IndexByte(text, '"') >= 0:
			return t.quoted(line, n)
		}
		t.take(n, 1)
		if t.split(text); !blank(t.fields) {
			return t.fields, line, nil
		}
	}
}

// trimEnd takes the end of a line off.
func trimEnd(line string) string {
	line = strings.TrimSuffix(line, "\n")
	return strings.TrimSuffix(line, "\r")
}

// blank says whether there is nothing in a row, as in those that Excel leaves at the end.
func blank(fields []string) bool {
	for _, f := range fields {
		if f != "" {
			return false
		}
	}
	return true
}

// split takes a line without quotes apart.
func (t *table) split(text string) {
	t.fields = t.fields[:0]
	for {
		i := strings.IndexByte(text, t.comma)
		if i < 0 {
			t.fields = append(t.fields, text)
			return
		}
		t.fields = append(t.fields, text[:i])
		text = text[i+1:]
	}
}

var (
	errOpen   = errors.New("open") // the quotes are open where the text ends
	errBehind = errors.New("something stands behind a closing quote; write a quote inside a value twice")
	errInside = errors.New("a quote inside a value without quotes; put the value in quotes, and write the quote twice")
)

// quoted reads a row with quotes, whose first line has n bytes.
func (t *table) quoted(line int64, n int) ([]string, int64, error) {
	refuse := func(reason string) ([]string, int64, error) {
		t.take(n, 1)
		return nil, 0, &Refused{line, reason}
	}
	for {
		rest := t.text[t.at:]
		size, err := t.parse(rest[:min(len(rest), maxLine)])
		if errors.Is(err, errOpen) && len(rest) < maxLine {
			if err := t.more(); err == nil {
				continue
			} else if !errors.Is(err, io.EOF) {
				return nil, 0, err
			}
		}
		switch {
		case errors.Is(err, errOpen):
			return refuse("a quote is opened and not closed")
		case err != nil:
			return refuse(err.Error())
		case size == maxLine && rest[size-1] != '\n': // cut off
			return refuse(errLong.Error())
		case size > n && t.holdsRow(rest[n:size]):
			return refuse("a quote is opened and not closed: the next lines are rows of their own")
		}
		count := strings.Count(rest[:size], "\n")
		if !strings.HasSuffix(rest[:size], "\n") {
			count++
		}
		t.take(size, count)
		return t.fields, line, nil
	}
}

// parse takes a row apart, and says how many bytes it has with the end of its line.
func (t *table) parse(text string) (size int, err error) {
	t.fields = t.fields[:0]
	for at := 0; ; {
		var field string
		if at < len(text) && text[at] == '"' {
			field, at, err = inQuotes(text, at+1)
			if err != nil {
				return 0, err
			}
		} else {
			end := strings.IndexAny(text[at:], string([]byte{t.comma, '\n'}))
			if end < 0 {
				end = len(text) - at
			}
			field = text[at : at+end]
			if at += end; at == len(text) || text[at] == '\n' {
				field = strings.TrimSuffix(field, "\r")
			}
			if strings.IndexByte(field, '"') >= 0 {
				return 0, errInside
			}
		}
		t.fields = append(t.fields, field)
		switch tail := text[at:]; {
		case tail == "":
			return at, nil
		case tail[0] == t.comma:
			at++
		case tail[0] == '\n':
			return at + 1, nil
		case strings.HasPrefix(tail, "\r\n"):
			return at + 2, nil
		default:
			return 0, errBehind
		}
	}
}

// inQuotes reads a value whose first byte is at from, and says where its closing quote ends.
func inQuotes(text string, from int) (field string, at int, err error) {
	doubled := false
	for at = from; ; at += 2 {
		i := strings.IndexByte(text[at:], '"')
		if i < 0 {
			return "", 0, errOpen
		}
		at += i
		if at+1 == len(text) || text[at+1] != '"' {
			break
		}
		doubled = true
	}
	field = text[from:at]
	if doubled {
		field = strings.ReplaceAll(field, `""`, `"`)
	}
	return field, at + 1, nil
}

// holdsRow says whether one of the lines that a row has swallowed is a row itself.
func (t *table) holdsRow(swallowed string) bool {
	if t.openid < 0 {
		return false
	}
	for line := range strings.Lines(swallowed) {
		values := strings.Split(trimEnd(line), string(rune(t.comma)))
		if len(values) == len(t.columns) && message.OpenID(strings.Trim(values[t.openid], `" `)).Check() == nil {
			return true
		}
	}
	return false
}
