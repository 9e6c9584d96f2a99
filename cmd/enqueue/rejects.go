package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// rejects is the file of refused lines: JSON Lines of line, reason and input. It is there from the start, so that
// a folder that takes no file is noticed before anything is accepted; an empty one is removed again.
type rejects struct {
	f     *os.File
	w     *bufio.Writer
	n     int
	stays bool // it is no file of ours
}

// openRejects makes the file, under another number where there is one already.
func openRejects(path string) (*rejects, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() && !info.IsDir() { // /dev/null, a pipe
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return nil, refuse("file for refused lines: %w; give --rejects PATH", err)
		}
		return &rejects{f: f, w: bufio.NewWriter(f), stays: true}, nil
	}
	ext := filepath.Ext(path)
	for n := 1; ; n++ {
		name := path
		if n > 1 {
			name = fmt.Sprintf("%s.%d%s", strings.TrimSuffix(path, ext), n, ext)
		}
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		switch {
		case errors.Is(err, fs.ErrExist):
		case err != nil:
			return nil, refuse("file for refused lines: %w; give --rejects PATH", err)
		default:
			return &rejects{f: f, w: bufio.NewWriter(f)}, nil
		}
	}
}

func (r *rejects) add(line int, reason error, input []byte) error {
	r.n++
	e := json.NewEncoder(r.w)
	e.SetEscapeHTML(false)
	return r.wrap(e.Encode(struct {
		Line   int    `json:"line"`
		Reason string `json:"reason"`
		Input  string `json:"input"`
	}{line, reason.Error(), strings.TrimRight(string(input), "\r\n")}))
}

func (r *rejects) flush() error { return r.wrap(r.w.Flush()) }

func (r *rejects) wrap(err error) error {
	if err != nil {
		return fmt.Errorf("file for refused lines: %w", err)
	}
	return nil
}

func (r *rejects) close() error {
	err := errors.Join(r.w.Flush(), r.f.Close())
	if r.n == 0 && err == nil && !r.stays {
		err = os.Remove(r.f.Name())
	}
	return r.wrap(err)
}

// written names the file, if it has anything in it.
func (r *rejects) written() string {
	if r.n == 0 {
		return ""
	}
	return r.f.Name()
}
