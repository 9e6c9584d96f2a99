package postgres

import (
	"encoding/binary"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

// The hot statements speak Postgres' binary format directly: pgx would box each of a batch's thousands of values.
// What is written here is the format of COPY … BINARY and of array parameters, which share the form of a value
// (length, then bytes; length -1 for NULL).

// OIDs of the element types of arrays; they are fixed in Postgres' own catalogue (pg_type.dat).
const (
	oidBool        = 16
	oidInt8        = 20
	oidInt2        = 21
	oidInt4        = 23
	oidText        = 25
	oidBytea       = 17
	oidTimestamptz = 1184
	oidUUID        = 2950
)

// binaryFormat asks for binary values throughout: one entry stands for all columns.
var binaryFormat = []int16{1}

// postgresEpoch is where Postgres counts its microseconds from.
const postgresEpochMicros = 946684800 * 1_000_000

func micros(t time.Time) int64 {
	if t.IsZero() {
		t = time.Unix(0, 0) // the ledger's sentinel for "not yet"
	}
	return t.UnixMicro() - postgresEpochMicros
}

// instant is the time of a timestamptz value; the sentinel (1970) gives the zero Time.
func instant(b []byte) time.Time {
	us := int64(binary.BigEndian.Uint64(b)) + postgresEpochMicros
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us)
}

// values is a run of binary values.
type values []byte

func (v *values) null() { *v = binary.BigEndian.AppendUint32(*v, 0xffffffff) }

func (v *values) uuid(id message.ID) {
	*v = append(binary.BigEndian.AppendUint32(*v, 16), id[:]...)
}

func (v *values) int2(n int16) {
	*v = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint32(*v, 2), uint16(n))
}

func (v *values) int4(n int32) {
	*v = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(*v, 4), uint32(n))
}

func (v *values) int8(n int64) {
	*v = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(*v, 8), uint64(n))
}

func (v *values) bool(b bool) {
	*v = append(binary.BigEndian.AppendUint32(*v, 1), 0)
	if b {
		(*v)[len(*v)-1] = 1
	}
}

func (v *values) time(t time.Time) { v.int8(micros(t)) }

// timeOrNull is for columns where absent is NULL.
func (v *values) timeOrNull(t time.Time) {
	if t.IsZero() {
		v.null()
		return
	}
	v.time(t)
}

func (v *values) text(s string) {
	*v = append(binary.BigEndian.AppendUint32(*v, uint32(len(s))), s...)
}

func (v *values) bytes(b []byte) {
	*v = append(binary.BigEndian.AppendUint32(*v, uint32(len(b))), b...)
}

// textOrNull is for columns where absent is NULL.
func (v *values) textOrNull(s string) {
	if s == "" {
		v.null()
		return
	}
	v.text(s)
}

func (v *values) uuidOrNull(id message.ID) {
	if id.IsZero() {
		v.null()
		return
	}
	v.uuid(id)
}

// jsonb is a jsonb value in its binary form: a version, then the text.
func (v *values) jsonbOrNull(s []byte) {
	if len(s) == 0 {
		v.null()
		return
	}
	*v = append(binary.BigEndian.AppendUint32(*v, uint32(len(s)+1)), 1)
	*v = append(*v, s...)
}

// uuids is an array of uuid as one value.
func (v *values) uuids(ids []message.ID) {
	a := newArray(oidUUID)
	for _, id := range ids {
		a.uuid(id)
		a.n++
	}
	v.bytes(a.param())
}

// textsOrNull is an array of text as one value.
func (v *values) textsOrNull(n int, at func(int) string) {
	if n == 0 {
		v.null()
		return
	}
	a := newArray(oidText)
	for i := range n {
		a.text(at(i))
		a.n++
	}
	v.bytes(a.param())
}

// An array is a one-dimensional array parameter under construction: values, then n counted up.
type array struct {
	values
	n int
}

const arrayHeader = 20 // dimensions, has-nulls flag, element type, length, lower bound

func newArray(oid uint32) array {
	var a array
	a.begin(oid)
	return a
}

func (a *array) begin(oid uint32) {
	a.n = 0
	if cap(a.values) > keepBuffer { // one long list of users need not be held for ever
		a.values = nil
	}
	a.values = append(a.values[:0], make([]byte, arrayHeader)...)
	binary.BigEndian.PutUint32(a.values[0:], 1)
	binary.BigEndian.PutUint32(a.values[4:], 1) // may hold NULLs; Postgres only checks that it is 0 or 1
	binary.BigEndian.PutUint32(a.values[8:], oid)
	binary.BigEndian.PutUint32(a.values[16:], 1)
}

// param is the finished parameter. An array of no elements has no dimension.
func (a *array) param() []byte {
	if a.n == 0 {
		binary.BigEndian.PutUint32(a.values[0:], 0)
		return a.values[:12]
	}
	binary.BigEndian.PutUint32(a.values[12:], uint32(a.n))
	return a.values
}

// columns are array parameters of equal length, one for each column of an unnest.
type columns []array

// begin empties the columns and sets their element types.
func (c *columns) begin(oids ...uint32) {
	if cap(*c) < len(oids) {
		*c = make(columns, len(oids))
	}
	*c = (*c)[:len(oids)]
	for i, oid := range oids {
		(*c)[i].begin(oid)
	}
}

// row counts a row whose value has been written into every column.
func (c columns) row() {
	for i := range c {
		c[i].n++
	}
}

func (c columns) rows() int {
	if len(c) == 0 {
		return 0
	}
	return c[0].n
}

// params appends the columns to a statement's parameters.
func (c columns) params(to [][]byte) [][]byte {
	for i := range c {
		to = append(to, c[i].param())
	}
	return to
}

// Scalar parameters.

func int4Param(n int32) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }
func int8Param(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

// Readers of binary results.

func readUUID(b []byte) (id message.ID) { copy(id[:], b); return id }
func readInt2(b []byte) int16           { return int16(binary.BigEndian.Uint16(b)) }
func readInt4(b []byte) int32           { return int32(binary.BigEndian.Uint32(b)) }
func readBool(b []byte) bool            { return len(b) == 1 && b[0] != 0 }
