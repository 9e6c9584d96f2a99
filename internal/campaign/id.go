package campaign

import (
	"encoding/binary"
	"hash/fnv"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

// An id of a campaign's message is a UUIDv7 whose random bits are not random:
//
//	48 bits  the firing's start in milliseconds: all messages of a firing lie in the partition of the day it began
//	 4       version
//	12       n, upper bits
//	 2       variant
//	20       n, lower bits: neighbours in the audience are neighbours in the index
//	32       firing: no two campaigns of a ledger share an id
//	10       a hash of the above, against another ledger of the same account: WeChat takes an id of ours once
const (
	lowBits  = 20
	hashBits = 10
)

// MessageID is the id of the message to recipient n of a firing that began at start. It is the same whoever computes it.
func MessageID(start time.Time, firing, n int32) message.ID {
	id := bare(start, n)
	low := binary.BigEndian.Uint64(id[8:]) | uint64(uint32(firing))<<hashBits
	binary.BigEndian.PutUint64(id[8:], low)
	h := fnv.New32a()
	_, _ = h.Write(id[:]) // never fails
	binary.BigEndian.PutUint64(id[8:], low|uint64(h.Sum32()&(1<<hashBits-1)))
	return id
}

// IDRange bounds, inclusively, the ids of recipients first to last of any firing that began at start.
func IDRange(start time.Time, first, last int32) (from, to message.ID) {
	from, to = bare(start, first), bare(start, last)
	low := binary.BigEndian.Uint64(to[8:])
	binary.BigEndian.PutUint64(to[8:], low|(1<<(64-2-lowBits)-1))
	return from, to
}

// bare is the id without its firing and hash.
func bare(start time.Time, n int32) message.ID {
	id := message.FirstID(start)
	binary.BigEndian.PutUint16(id[6:], 0x7000|uint16(uint32(n)>>lowBits))
	binary.BigEndian.PutUint64(id[8:], 1<<63|uint64(uint32(n)&(1<<lowBits-1))<<(64-2-lowBits))
	return id
}
