package audience

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// blockBytes is how much is decoded at a time: some thousand rows, and more than a row may have.
const blockBytes = 256 << 10

// lines are the lines of a text, in blocks: one string holds many lines, and what is taken out of it costs nothing more.
type lines struct {
	r     io.Reader
	buf   []byte // read, and not text yet
	end   error  // of r
	code  string // the encoding; empty: nothing but ASCII so far
	text  string // whole lines
	at    int    // in text, behind the last line that was taken
	line  int64  // the number of that line
	clean bool   // text holds nothing that checkFields refuses
}

func newLines(r *bufio.Reader, encoding string) *lines {
	l := &lines{r: r, buf: make([]byte, 0, blockBytes), code: strings.ToLower(encoding)}
	mark, _ := r.Peek(3)
	switch {
	case bytes.HasPrefix(mark, []byte("\xef\xbb\xbf")):
		_, _ = r.Discard(3)
		l.code = UTF8
	case bytes.HasPrefix(mark, []byte("\xff\xfe")), bytes.HasPrefix(mark, []byte("\xfe\xff")):
		l.r = transform.NewReader(r, unicode.UTF16(unicode.LittleEndian, unicode.UseBOM).NewDecoder())
		l.code = UTF8
	}
	return l
}

func (l *lines) encoding() string {
	if l.code == "" {
		return UTF8
	}
	return l.code
}

// rest is the text behind the last line that was taken, whole lines of it; it is empty at the end.
func (l *lines) rest() (string, error) {
	if l.at == len(l.text) {
		if err := l.more(); err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
	}
	return l.text[l.at:], nil
}

// take steps over n bytes of the rest, which are whole lines.
func (l *lines) take(n, count int) {
	l.at += n
	l.line += int64(count)
}

// more adds a block to the rest. At the end of the input it is io.EOF.
func (l *lines) more() error {
	rest := l.text[l.at:]
	block, err := l.block()
	if len(block) == 0 {
		return err
	}
	if err := l.decide(block); err != nil {
		return err
	}
	text, clean := l.decode(block)
	l.text, l.at = rest+text, 0
	l.clean = clean && (rest == "" || l.clean)
	l.buf = append(l.buf[:0], l.buf[len(block):]...)
	return nil
}

// block reads until there are whole lines, and returns these. A line that no row could be is cut short: what is left of
// it is still too long.
func (l *lines) block() ([]byte, error) {
	for {
		if i := bytes.LastIndexByte(l.buf, '\n'); i >= 0 {
			return l.buf[:i+1], nil
		}
		if l.end != nil {
			if errors.Is(l.end, io.EOF) && len(l.buf) > 0 {
				return l.buf, nil
			}
			return nil, l.end
		}
		if len(l.buf) == cap(l.buf) {
			if err := l.cutShort(); err != nil {
				return nil, err
			}
			continue
		}
		l.read()
	}
}

func (l *lines) read() {
	n, err := l.r.Read(l.buf[len(l.buf):cap(l.buf)])
	l.buf = l.buf[:len(l.buf)+n]
	if err != nil {
		l.end = err
	}
}

// cutShort leaves out what is in the middle of a line that fills the whole buffer.
func (l *lines) cutShort() error {
	const kept = maxLine + 8
	for l.end == nil {
		l.buf = l.buf[:kept]
		l.read()
		if i := bytes.IndexByte(l.buf[kept:], '\n'); i >= 0 {
			l.buf = append(l.buf[:kept], l.buf[kept+i:]...)
			return nil
		}
	}
	l.buf = l.buf[:kept]
	if errors.Is(l.end, io.EOF) {
		return nil
	}
	return l.end
}

// decide finds the encoding when first there is more than ASCII: UTF-8 if most of such lines are. One broken line must
// not turn a whole file of UTF-8 into other characters.
func (l *lines) decide(block []byte) error {
	switch l.code {
	case UTF8, GB18030:
		return nil
	case "":
	default:
		return fmt.Errorf("unknown encoding %q; want utf-8 or gb18030", l.code)
	}
	var good, bad int
	for line := range bytes.Lines(block) {
		switch {
		case isASCII(line):
		case utf8.Valid(line):
			good++
		default:
			bad++
		}
	}
	switch {
	case good+bad == 0:
	case good >= bad:
		l.code = UTF8
	default:
		l.code = GB18030
	}
	return nil
}

func isASCII(text []byte) bool {
	for _, c := range text {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// decode makes text of a block, and says whether all of it is what it should be.
func (l *lines) decode(block []byte) (text string, clean bool) {
	text = string(block)
	if l.code == GB18030 {
		// What it cannot read becomes U+FFFD, and it has no other error.
		text, _ = simplifiedchinese.GB18030.NewDecoder().String(text)
	}
	return text, utf8.ValidString(text) && !strings.Contains(text, "\uFFFD") && !hasControl(text)
}

func hasControl(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' && c != '\n' && c != '\t' && c != '\r' {
			return true
		}
	}
	return false
}
