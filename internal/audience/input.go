package audience

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// An input is a file, unpacked, of a known format.
type input struct {
	count  counter
	packed *bufio.Reader // what is inside
	zstd   *zstd.Decoder
	format string
}

// A counter counts what is read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}

const (
	readBytes = 128 << 10
	// zstdWindow bounds the memory of an unpacker.
	zstdWindow = 64 << 20
)

func newInput(name string, r io.Reader, o Options) (*input, error) {
	in := &input{count: counter{r: r}}
	in.packed = bufio.NewReaderSize(&in.count, readBytes)
	head, err := in.packed.Peek(8)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	name = strings.ToLower(name)
	switch {
	case bytes.HasPrefix(head, []byte("\x1f\x8b")):
		unpacked, err := gzip.NewReader(in.packed)
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		in.packed, name = bufio.NewReaderSize(unpacked, readBytes), strings.TrimSuffix(name, ".gz")
	case bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd")):
		in.zstd, err = zstd.NewReader(in.packed, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(zstdWindow))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		in.packed, name = bufio.NewReaderSize(in.zstd, readBytes), strings.TrimSuffix(strings.TrimSuffix(name, ".zst"), ".zstd")
	}
	if in.format, err = in.findFormat(name, o.Format); err != nil {
		return nil, errors.Join(err, in.close())
	}
	return in, nil
}

// findFormat believes the content first, which does not lie, and then the name.
func (in *input) findFormat(name, given string) (string, error) {
	switch given {
	case CSV, JSONL, XLSX:
		return given, nil
	case "":
	default:
		return "", fmt.Errorf("unknown format %q; want csv, jsonl or xlsx", given)
	}
	head, err := in.packed.Peek(512)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	text := bytes.TrimSpace(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf")))
	switch {
	case bytes.HasPrefix(head, []byte("PK\x03\x04")):
		return XLSX, nil
	case bytes.HasPrefix(head, []byte("\xd0\xcf\x11\xe0")):
		return "", errors.New("it is an Excel file of the old kind (.xls), or one with a password; save it as .xlsx or as CSV")
	case bytes.HasPrefix(text, []byte("{")):
		return JSONL, nil
	case bytes.HasPrefix(text, []byte("[")):
		return "", errors.New("it is a JSON list; want JSON Lines, one object on each line")
	}
	switch path.Ext(name) {
	case ".jsonl", ".ndjson", ".json":
		return JSONL, nil
	}
	return CSV, nil
}

func (in *input) close() error {
	if in.zstd != nil {
		in.zstd.Close()
	}
	return nil
}
