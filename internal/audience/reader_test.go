package audience

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/xuri/excelize/v2"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/unicode"
)

// told is what a reader says of a file: a line for each row, refused or not.
func told(t testing.TB, name, content string, o Options) string {
	t.Helper()
	r, err := Open(name, strings.NewReader(content), o)
	if err != nil {
		return err.Error() + "\n"
	}
	defer func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}()
	return rest(t, r)
}

func rest(t testing.TB, r *Reader) string {
	t.Helper()
	var b strings.Builder
	for {
		row, err := r.Next()
		bad, refused := errors.AsType[*Refused](err)
		switch {
		case errors.Is(err, io.EOF):
			return b.String()
		case refused:
			fmt.Fprintf(&b, "%d: refused: %s\n", bad.Line, bad.Reason)
		case err != nil:
			return b.String() + "error: " + err.Error() + "\n"
		default:
			fmt.Fprintf(&b, "%d: %s %q\n", row.Line, row.OpenID, row.Vars)
		}
	}
}

func TestFilesAreRead(t *testing.T) {
	const many = "openid,name,city\noA1,陈一,北京\noB2,\"李,二\",\n"
	const rows = "2: oA1 [\"陈一\" \"北京\"]\n3: oB2 [\"李,二\" \"\"]\n"
	gb, err := simplifiedchinese.GB18030.NewEncoder().String(many)
	if err != nil {
		t.Fatal(err)
	}
	wide, err := unicode.UTF16(unicode.LittleEndian, unicode.UseBOM).NewEncoder().String(strings.ReplaceAll(many, ",", "\t"))
	if err != nil {
		t.Fatal(err)
	}
	wideRows := strings.ReplaceAll(strings.ReplaceAll(rows, "李,二", "李\\t二"), "\\\\", "\\")
	for _, c := range []struct {
		name, file, content string
		options             Options
		want                string
	}{
		{"plain", "a.csv", many, Options{}, rows},
		{"without an end of the last line", "a.csv", strings.TrimSuffix(many, "\n"), Options{}, rows},
		{"from Windows", "a.csv", "\xef\xbb\xbf" + strings.ReplaceAll(many, "\n", "\r\n"), Options{}, rows},
		{"in GB18030", "a.csv", gb, Options{}, rows},
		{"in GB18030, as told", "a.csv", gb, Options{Encoding: "GB18030"}, rows},
		{"in GB18030, where UTF-8 was told", "a.csv", gb, Options{Encoding: UTF8}, "2: refused: name: the text is not in the file's encoding\n" +
			"3: refused: name: the text is not in the file's encoding\n"},
		{"in UTF-16 with tabs", "a.txt", wide, Options{}, wideRows},
		{"packed by gzip", "a.csv.gz", gzipped(t, many), Options{}, rows},
		{"packed by zstd, without a name", "-", zstdOf(t, many), Options{}, rows},
		{"packed JSON Lines", "a.jsonl.gz", gzipped(t, "{\"openid\":\"oA1\",\"n\":1}\n"), Options{}, "1: oA1 [\"1\"]\n"},
		{"with semicolons", "-", "name;openid\na,b;oA1\n", Options{}, "2: oA1 [\"a,b\"]\n"},
		{"with a comma that was told", "-", "openid;a,b\noA1;x,y\n", Options{Comma: ';'}, "2: oA1 [\"x,y\"]\n"},
		{"openid in capitals, alone", "-", "OpenID\n oA1 \noB2\n", Options{}, "2: oA1 []\n3: oB2 []\n"},
		{"blank lines", "-", "\nopenid,a\n\n,\r\noA1,x\n\n", Options{}, "5: oA1 [\"x\"]\n"},
		{"quotes", "-", "openid,a\noA1,\"say \"\"hi\"\"\"\noB2,\"two\nlines\"\noC3,\"\"\n", Options{}, "2: oA1 [\"say \\\"hi\\\"\"]\n3: oB2 [\"two\\nlines\"]\n5: oC3 [\"\"]\n"},
		{
			"JSON Lines", "-", "{\"name\":\"陈\\n\\u4e00\",\"openid\":\"oA1\",\"n\":1.50,\"ok\":true,\"no\":null}\n\n" +
				" {\"openid\":\"oB2\" , \"no\":\"\", \"ok\":false,\"n\":-2e3,\"name\":\"\\ud83d\\ude00\"} \r\n",
			Options{},
			"1: oA1 [\"陈\\n一\" \"1.50\" \"true\" \"\"]\n3: oB2 [\"😀\" \"-2e3\" \"false\" \"\"]\n",
		},
		{"an Excel file", "a.xlsx", workbook(t), Options{}, "2: oA1 [\"陈一\" \"39.8\" \"2026-11-28\"]\n4: oB2 [\"李二\" \"13800001111\" \"\"]\n" +
			"5: refused: want 4 columns, got 5\n6: refused: openid: an openid has 1 to 64 characters (got 0)\n" +
			"7: refused: price: Excel shows the number shortened, as 1.2E+17; make the cell a text\n"},
		{"its other sheet", "-", workbook(t), Options{Sheet: "more"}, "2: oC3 []\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := told(t, c.file, c.content, c.options); got != c.want {
				t.Errorf("got\n%swant\n%s", got, c.want)
			}
		})
	}
}

func gzipped(t testing.TB, text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := io.WriteString(w, text)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func zipped(t testing.TB, name string) string {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	_, err := w.Create(name)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func zstdOf(t testing.TB, text string) string {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(w.EncodeAll([]byte(text), nil))
}

func workbook(t testing.TB) string {
	f := excelize.NewFile()
	defer f.Close()
	style, err := f.NewStyle(&excelize.Style{NumFmt: 14})
	if err != nil {
		t.Fatal(err)
	}
	cells := map[string]any{
		"A1": "name", "B1": "openid", "C1": "price", "D1": "day", "A2": "陈一", "B2": "oA1", "C2": 39.8, "D2": 46354,
		"A7": "x", "B7": "oD4", "C7": 123456789012345678,
		"A4": "李二", "B4": "oB2", "C4": 13800001111, "A5": "x", "B5": "oC3", "E5": "too much", "A6": "nobody",
	}
	for cell, v := range cells {
		err = errors.Join(err, f.SetCellValue("Sheet1", cell, v))
	}
	_, added := f.NewSheet("more")
	err = errors.Join(err, f.SetCellStyle("Sheet1", "D2", "D2", style), added, f.SetCellValue("more", "A1", "openid"), f.SetCellValue("more", "A2", "oC3"))
	b, written := f.WriteToBuffer()
	if err := errors.Join(err, written); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestBadRowsAreToldAndNoOtherIsLost(t *testing.T) {
	for _, c := range []struct{ name, content, want string }{
		{"bad openid", "openid,a\no é,x\noB2,y\n", "2: refused: openid: an openid has only letters, digits, - and _ (got ' ' at 2)\n3: oB2 [\"y\"]\n"},
		{"no openid", "openid,a\n,x\noB2,y\n", "2: refused: openid: an openid has 1 to 64 characters (got 0)\n3: oB2 [\"y\"]\n"},
		{"wrong number of columns", "openid,a\noA1\noB2,y,z\noC3,\"a\",b\noD4,x\n", "2: refused: want 2 columns, got 1\n" +
			"3: refused: want 2 columns, got 3\n4: refused: want 2 columns, got 3\n5: oD4 [\"x\"]\n"},
		{"a quote that is never closed", "openid,a\noA1,\"x\noB2,y\noC3,z\n", "2: refused: a quote is opened and not closed\n3: oB2 [\"y\"]\n4: oC3 [\"z\"]\n"},
		{
			"a quote that the next row closes", "openid,a\noA1,\"x\noB2,y\"\noC3,z\n",
			"2: refused: a quote is opened and not closed: the next lines are rows of their own\n" +
				"3: refused: a quote inside a value without quotes; put the value in quotes, and write the quote twice\n4: oC3 [\"z\"]\n",
		},
		{"a quote that a quoted row closes", "openid,a\noA1,\"x\noB2,\"y\"\n", "2: refused: something stands behind a closing quote; write a quote inside a value twice\n3: oB2 [\"y\"]\n"},
		{"text behind a quote", "openid,a\noA1,\"x\"y\noB2,y\n", "2: refused: something stands behind a closing quote; write a quote inside a value twice\n3: oB2 [\"y\"]\n"},
		{"a quote inside", "openid,a\noA1,5\"\noB2,y\n", "2: refused: a quote inside a value without quotes; put the value in quotes, and write the quote twice\n3: oB2 [\"y\"]\n"},
		{"another encoding", "openid,a\noA1,陈\noB2,\xb3\xc2\noC3,z\n", "2: oA1 [\"陈\"]\n3: refused: a: the text is not in the file's encoding\n4: oC3 [\"z\"]\n"},
		{"half a character of GB18030", "openid,a\noA1,\xb3\xc2\noB2,x\xb3\noC3,\xb3\xc2\n", "2: oA1 [\"陈\"]\n3: refused: a: the text is not in the file's encoding\n4: oC3 [\"陈\"]\n"},
		{"a control character", "openid,a\noA1,x\x00\noB2,y\tz\n", "2: refused: a: control character U+0000\n3: oB2 [\"y\\tz\"]\n"},
		{
			"a key twice", "{\"openid\":\"oA1\",\"a\":1}\n{\"openid\":\"oB2\",\"a\":1,\"a\":2}\n{\"openid\":\"oC3\",\"a\":3}\n",
			"1: oA1 [\"1\"]\n2: refused: \"a\": the key stands there twice\n3: oC3 [\"3\"]\n",
		},
		{
			"nested values", "{\"openid\":\"oA1\",\"a\":1}\n{\"openid\":\"oB2\",\"a\":{\"b\":1}}\n{\"openid\":\"oC3\",\"a\":[]}\n",
			"1: oA1 [\"1\"]\n2: refused: \"a\": an object or a list; want a text or a number\n3: refused: \"a\": an object or a list; want a text or a number\n",
		},
		{
			"missing and unknown columns", "{\"openid\":\"oA1\",\"a\":1}\n{\"openid\":\"oB2\"}\n{\"openid\":\"oC3\",\"b\":1}\n",
			"1: oA1 [\"1\"]\n2: refused: a: missing; the first line has it\n3: refused: \"b\": no such column; the first line names \"openid\", \"a\"\n",
		},
		{
			"a first line that is none, and one without an openid", "{\"openid\":\n\n{\"a\":0}\n{\"openid\":\"oA1\",\"a\":1}\n{\"a\":2}\n{\"a\":3,\"openid\":\"oB2\"}\n",
			"1: refused: \"openid\": no JSON object: want a value at byte 11\n3: refused: openid: missing\n4: oA1 [\"1\"]\n" +
				"5: refused: openid: missing; the first line has it\n6: oB2 [\"3\"]\n",
		},
		{
			"no JSON", "{\"openid\":\"oA1\",\"a\":1}\n{\"openid\":\"oB2\",\"a\":01}\n{\"openid\":\"oC3\",\"a\":\"x}\n{\"openid\":\"oD4\",\"a\":\"\\ud800\"}\n" +
				"{\"openid\":\"oE5\",\"a\":\"\\u0000\"}\n[]\n{\"openid\":\"oF6\",\"a\":2} x\n{\"openid\":\"oG7\",\"a\":2}\n",
			"1: oA1 [\"1\"]\n2: refused: \"a\": no number in JSON; write it in quotes\n3: refused: \"a\": a text has no end\n" +
				"4: refused: \"a\": a text has an escape that is none in JSON\n5: refused: a: control character U+0000\n" +
				"6: refused: no JSON object: want { at byte 1\n7: refused: something stands behind the object\n8: oG7 [\"2\"]\n",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := told(t, "-", c.content, Options{}); got != c.want {
				t.Errorf("got\n%swant\n%s", got, c.want)
			}
		})
	}
}

func TestFilesAreRefused(t *testing.T) {
	for _, c := range []struct {
		name, file, content string
		options             Options
		want                string
	}{
		{"an empty file", "a.csv", "", Options{}, "there is nothing in it"},
		{"lines of an old Mac", "a.csv", "openid,name\roA1,x\r", Options{}, "its lines end by CR alone, as on old Macs; save it with LF or CRLF"},
		{"UTF-16 without a mark", "a.csv", "o\x00p\x00\n\x00", Options{}, "it is no text, or one in UTF-16 without a byte order mark; save it as UTF-8"},
		{"cut off", "a.csv.gz", gzipped(t, "openid,name\noA1,x\n")[:20], Options{}, "the packed file ends in its middle: unexpected EOF"},
		{"a zip that is no workbook", "a.zip", zipped(t, "a.csv"), Options{}, "read Excel file: there is no workbook in it; what else is packed as a zip is to be unpacked first"},
		{"no openid", "a.csv", "name,city\n", Options{}, `no column is named openid; the first line names the columns, and has "name", "city"`},
		{"two openids", "a.csv", "openid,OPENID\n", Options{}, "two columns are named openid"},
		{"one name twice", "a.csv", "openid,a,a\n", Options{}, `two columns are named "a"`},
		{"no name", "a.csv", "openid,,a\n", Options{}, "column 2 has no name"},
		{"a broken header", "a.csv", "openid,\"a\n", Options{}, "the first line names the columns: a quote is opened and not closed"},
		{"too many columns", "a.csv", "openid" + columnsOf(101) + "\n", Options{}, "102 columns, and at most 100 are taken"},
		{"a JSON list", "a.json", "[{}]", Options{}, "want JSON Lines"},
		{"a broken first line", "a.jsonl", "{\"openid\":}\n", Options{}, `line 1: "openid": no JSON object: want a value`},
		{"an old Excel file", "a.xls", "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Options{}, "save it as .xlsx"},
		{"a broken Excel file", "a.xlsx", "PK\x03\x04 something", Options{}, "read Excel file"},
		{"no such sheet", "a.xlsx", workbook(t), Options{Sheet: "none"}, `no sheet "none"; there is "Sheet1", "more"`},
		{"an unknown format", "a.csv", "openid\n", Options{Format: "xml"}, `unknown format "xml"`},
		{"an unknown comma", "a.csv", "openid\n", Options{Comma: '"'}, "values cannot be parted by"},
		{"an unknown encoding", "a.csv", "openid\n", Options{Encoding: "big5"}, `unknown encoding "big5"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := told(t, c.file, c.content, c.options); !strings.Contains(got, c.want) {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func columnsOf(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, ",c%d", i)
	}
	return b.String()
}

func TestLongLinesAreSkipped(t *testing.T) {
	for _, long := range []int{maxLine + 1, blockBytes - 1, blockBytes, blockBytes + 1, 3*blockBytes + 5, 100 << 20} {
		for name, format := range map[string]string{"csv": "openid,a\noA1,x\noB2,%s\noC3,z\n", "quoted": "openid,a\noA1,x\noB2,\"%s\noC3,z\n"} {
			before, after, _ := strings.Cut(format, "%s")
			in := io.MultiReader(strings.NewReader(before), io.LimitReader(repeat('x'), int64(long)), strings.NewReader(after))
			r, err := Open("-", in, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if got, want := rest(t, r), "2: oA1 [\"x\"]\n3: refused: longer than 64 KiB\n4: oC3 [\"z\"]\n"; got != want {
				t.Errorf("%s, %d bytes: got\n%swant\n%s", name, long, got, want)
			}
			if want := int64(len(before) + long + len(after)); r.Offset() != want {
				t.Errorf("%s: %d bytes were read, want %d", name, r.Offset(), want)
			}
		}
	}
}

// repeat is a byte without end.
type repeat byte

func (r repeat) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(r)
	}
	return len(b), nil
}

func TestQuotedRowsAcrossBlocks(t *testing.T) {
	var in, want strings.Builder
	in.WriteString("openid,a\n")
	line := 2
	for n := 0; in.Len() < 3*blockBytes; n++ {
		value := fmt.Sprintf("%d\n%s\n", n, strings.Repeat("é", n%700))
		fmt.Fprintf(&in, "o%d,\"%s\"\n", n, value)
		fmt.Fprintf(&want, "%d: o%d %q\n", line, n, []string{value})
		line += 3
	}
	for _, step := range []int{1000, 4096, 1 << 20} {
		r, err := Open("-", &slow{in.String(), step}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := rest(t, r); got != want.String() {
			t.Errorf("in steps of %d bytes: the rows differ", step)
		}
	}
}

// slow gives few bytes at a time.
type slow struct {
	text string
	step int
}

func (s *slow) Read(b []byte) (int, error) {
	if s.text == "" {
		return 0, io.EOF
	}
	n := copy(b, s.text[:min(s.step, len(s.text))])
	s.text = s.text[n:]
	return n, nil
}

func TestAnImportGoesOn(t *testing.T) {
	for name, content := range map[string]string{
		"csv":   "openid,a\noA1,x\noB2,\"1\n2\"\n\noC3,\"\noD4,y\noE5,z\n",
		"jsonl": "{\"openid\":\"oA1\"}\n{\"openid\":\"oB2\"}\n\n{}\n{\"openid\":\"oD4\"}\n",
		"early": "{\n\n{}\nx\n{\"openid\":\"oA1\"}\n{\n{\"openid\":\"oB2\"}\n",
		"xlsx":  workbook(t),
	} {
		t.Run(name, func(t *testing.T) {
			whole := strings.SplitAfter(told(t, "-", content, Options{}), "\n")
			for taken := range len(whole) {
				r, err := Open("-", strings.NewReader(content), Options{})
				if err != nil {
					t.Fatal(err)
				}
				var line int64
				for range taken {
					row, err := r.Next()
					if bad, refused := errors.AsType[*Refused](err); refused {
						line = bad.Line
					} else if err == nil {
						line = row.Line
					}
				}
				for _, line := range []int64{line, max(line, r.Line())} {
					again, err := Open("-", strings.NewReader(content), Options{})
					if err != nil {
						t.Fatal(err)
					}
					if taken > 0 {
						err = again.Skip(line)
					}
					if got, want := rest(t, again), strings.Join(whole[taken:], ""); err != nil || got != want {
						t.Errorf("behind %d rows, line %d: %v, got\n%swant\n%s", taken, line, err, got, want)
					}
				}
			}
		})
	}
}

func TestFormatAndEncodingAreTold(t *testing.T) {
	for content, want := range map[string][2]string{
		"openid,a\noA,陈\n": {CSV, UTF8}, "openid,a\noA,\xb3\xc2\n": {CSV, GB18030}, `{"openid":"oA"}`: {JSONL, UTF8}, workbook(t): {XLSX, UTF8},
	} {
		r, err := Open("-", strings.NewReader(content), Options{})
		if err != nil {
			t.Fatal(err)
		}
		rest(t, r)
		if got := [2]string{r.Format(), r.Encoding()}; got != want {
			t.Errorf("got %v, want %v", got, want)
		}
	}
}

func TestABrokenFileEndsTheReading(t *testing.T) {
	whole := gzipped(t, "openid\n"+strings.Repeat("oA1\n", 100_000))
	got := told(t, "-", whole[:len(whole)-4], Options{})
	if !strings.HasSuffix(got, "error: the packed file ends in its middle: unexpected EOF\n") {
		t.Errorf("it ends with %q", got[max(0, len(got)-60):])
	}
}
