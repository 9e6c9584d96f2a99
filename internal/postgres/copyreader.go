package postgres

import "io"

// copyChunk is how much of a COPY is made at a time: a list of any length costs no more memory.
const copyChunk = 64 << 10

// A copyReader is a COPY … FROM STDIN whose rows are made while they are read. buf begins with beginCopy.
type copyReader struct {
	row  func(*values) bool // appends the next row; false: there is none
	buf  values
	at   int // read up to here
	done bool
}

// Read gives the next bytes.
func (r *copyReader) Read(p []byte) (int, error) {
	if r.at == len(r.buf) {
		if r.done {
			return 0, io.EOF
		}
		r.buf, r.at = r.buf[:0], 0
	}
	for !r.done && len(r.buf) < copyChunk {
		if r.done = !r.row(&r.buf); r.done {
			r.buf = append(r.buf, copyTrailer...)
		}
	}
	n := copy(p, r.buf[r.at:])
	r.at += n
	return n, nil
}
