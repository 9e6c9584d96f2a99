package audience

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"

	"github.com/xuri/excelize/v2"
)

const (
	// maxWorkbook bounds an Excel file, which is held whole; a sheet of a million rows has some 50 MB.
	maxWorkbook = 256 << 20
	maxUnzipped = 4 << 30
)

// A sheet is one of an Excel file. Its values are what Excel shows; days are written year first.
type sheet struct {
	file   *excelize.File
	rows   *excelize.Rows
	line   int64
	header []string
}

func newSheet(r io.Reader, o Options) (*sheet, error) {
	name, most := o.Sheet, cmp.Or(o.MaxWorkbook, maxWorkbook)
	whole := &io.LimitedReader{R: r, N: most + 1}
	file, err := excelize.OpenReader(whole, excelize.Options{
		UnzipSizeLimit: maxUnzipped, ShortDatePattern: "yyyy-mm-dd", LongDatePattern: "yyyy-mm-dd",
	})
	if whole.N == 0 {
		err = errors.Join(fmt.Errorf("an Excel file has at most %d MiB; save it as CSV", most>>20), closed(file))
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("there is no workbook in it; what else is packed as a zip is to be unpacked first")
	}
	if err != nil {
		return nil, fmt.Errorf("read Excel file: %w", err)
	}
	s := &sheet{file: file}
	names := file.GetSheetList()
	switch {
	case len(names) == 0:
		return nil, errors.Join(errors.New("the Excel file has no sheet"), s.close())
	case name == "":
		name = names[0]
	case !slices.Contains(names, name):
		return nil, errors.Join(fmt.Errorf("no sheet %s; there is %s", short(name), list(names)), s.close())
	}
	if s.rows, err = file.Rows(name); err != nil {
		return nil, errors.Join(fmt.Errorf("read sheet %s: %w", short(name), err), s.close())
	}
	return s, nil
}

func closed(f *excelize.File) error {
	if f == nil {
		return nil
	}
	return f.Close()
}

func (s *sheet) last() int64 { return s.line }

func (s *sheet) close() error {
	var err error
	if s.rows != nil {
		err = s.rows.Close()
	}
	return errors.Join(err, s.file.Close())
}

func (s *sheet) names() ([]string, error) {
	fields, _, err := s.row()
	s.header = slices.Clone(fields)
	return s.header, err
}

func (s *sheet) next() ([]string, int64, error) {
	fields, line, err := s.row()
	if err != nil {
		return nil, 0, err
	}
	if len(fields) > len(s.header) {
		return nil, 0, &Refused{line, fmt.Sprintf("want %d columns, got %d", len(s.header), len(fields))}
	}
	for len(fields) < len(s.header) { // empty cells at the end are not there
		fields = append(fields, "")
	}
	size := 0
	for _, f := range fields {
		size += len(f)
	}
	if size > maxLine {
		return nil, 0, &Refused{line, errLong.Error()}
	}
	for i, f := range fields {
		if shortened.MatchString(f) {
			return nil, 0, &Refused{line, s.header[i] + ": Excel shows the number shortened, as 1.2E+17; make the cell a text"}
		}
	}
	return fields, line, checkFields(fields, s.header, line)
}

// shortened is a number that Excel has no room for, such as one of an order: it knows no more than 15 digits.
var shortened = regexp.MustCompile(`^-?\d(\.\d+)?E[+-]\d+$`)

// row reads a row that is not blank.
func (s *sheet) row() ([]string, int64, error) {
	for s.rows.Next() {
		s.line++
		fields, err := s.rows.Columns()
		if err != nil {
			return nil, 0, fmt.Errorf("row %d: %w", s.line, err)
		}
		if !blank(fields) {
			for fields[len(fields)-1] == "" {
				fields = fields[:len(fields)-1]
			}
			return fields, s.line, nil
		}
	}
	if err := s.rows.Error(); err != nil {
		return nil, 0, fmt.Errorf("row %d: %w", s.line, err)
	}
	return nil, 0, io.EOF
}
