package message

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"time"
)

// ID names a message, a parcel or a chunk: a UUIDv7 (RFC 9562), whose first 48 bits are the time of
// its making in milliseconds. IDs therefore sort by time, and the ledger is partitioned by them.
// The zero ID is no ID.
type ID [16]byte

// NewID makes an ID for the instant now; two IDs of one instant differ in 74 random bits.
func NewID(now time.Time) ID {
	var id ID
	_, _ = rand.Read(id[6:]) // never fails (crypto/rand, Go 1.24)
	return id.at(now)
}

// FirstID is the smallest ID of the instant t: the bound of a partition that begins at t.
func FirstID(t time.Time) ID {
	var id ID
	id.putMillis(t.UnixMilli())
	return id
}

func (id ID) at(t time.Time) ID {
	id.putMillis(t.UnixMilli())
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id
}

func (id *ID) putMillis(ms int64) {
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
}

// Time is the instant the ID was made for, to the millisecond.
func (id ID) Time() time.Time {
	var ms int64
	for _, b := range id[:6] {
		ms = ms<<8 | int64(b)
	}
	return time.UnixMilli(ms)
}

// IsZero says whether there is no ID.
func (id ID) IsZero() bool { return id == ID{} }

// Hex is the ID as 32 hexadecimal digits: our client_msg_id and clientmsgid, which WeChat limits to 32
// bytes (a UUID with dashes was refused with 45067).
func (id ID) Hex() string { return hex.EncodeToString(id[:]) }

// String is the ID in the usual form of a UUID.
func (id ID) String() string {
	var b [36]byte
	hex.Encode(b[0:8], id[0:4])
	hex.Encode(b[9:13], id[4:6])
	hex.Encode(b[14:18], id[6:8])
	hex.Encode(b[19:23], id[8:10])
	hex.Encode(b[24:36], id[10:16])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}

// ParseID reads the form that [ID.String] or [ID.Hex] writes.
func ParseID(s string) (ID, error) {
	var id ID
	var digits [32]byte
	switch {
	case len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-':
		copy(digits[0:], s[0:8])
		copy(digits[8:], s[9:13])
		copy(digits[12:], s[14:18])
		copy(digits[16:], s[19:23])
		copy(digits[20:], s[24:36])
	case len(s) == 32:
		copy(digits[:], s)
	default:
		return ID{}, fmt.Errorf("id %q: want a UUID such as 0198c0de-0000-7000-8000-000000000001", s)
	}
	if _, err := hex.Decode(id[:], digits[:]); err != nil {
		return ID{}, fmt.Errorf("id %q: %w", s, err)
	}
	return id, nil
}

// MarshalText writes the ID as a UUID; the zero ID as nothing.
func (id ID) MarshalText() ([]byte, error) {
	if id.IsZero() {
		return nil, nil
	}
	return []byte(id.String()), nil
}

// UnmarshalText reads what MarshalText writes.
func (id *ID) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*id = ID{}
		return nil
	}
	parsed, err := ParseID(string(text))
	if err != nil {
		return err
	}
	*id = parsed
	return nil
}
