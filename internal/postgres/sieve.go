package postgres

import (
	"hash/maphash"

	"github.com/hongyan-dispatch/hongyan/message"
)

// A sieve finds openids that it may have seen before, at 8 bytes for each: half a hash, and a number by which the row
// is found that says whether it really is the same. Ten million people take some 130 MiB where a map of their openids
// takes a gigabyte; of them one in 430 shares its half of a hash with another, and costs a look at a row.
type sieve struct {
	seed   maphash.Seed
	shards [1 << shardBits]shard // small tables grow one at a time
}

const (
	shardBits  = 8
	leastSlots = 1 << 6
)

// A shard is an open-addressing table of tag and n; a slot of 0 is free.
type shard struct {
	slots []uint64
	used  int
}

func newSieve() *sieve { return &sieve{seed: maphash.MakeSeed()} }

func (s *sieve) tag(openid message.OpenID) uint32 {
	return uint32(maphash.String(s.seed, string(openid)))
}

// find appends the numbers that were added under the tag.
func (s *sieve) find(dst []int32, tag uint32) []int32 {
	h := &s.shards[tag>>(32-shardBits)]
	if h.used == 0 {
		return dst
	}
	mask := uint32(len(h.slots) - 1)
	for i := tag & mask; h.slots[i] != 0; i = (i + 1) & mask {
		if uint32(h.slots[i]>>32) == tag {
			dst = append(dst, int32(uint32(h.slots[i])))
		}
	}
	return dst
}

// add remembers a number, from 1, under a tag.
func (s *sieve) add(tag uint32, n int32) {
	h := &s.shards[tag>>(32-shardBits)]
	if 4*h.used >= 3*len(h.slots) {
		old := h.slots
		h.slots = make([]uint64, max(leastSlots, 2*len(old)))
		for _, slot := range old {
			if slot != 0 {
				h.put(slot)
			}
		}
	}
	h.put(uint64(tag)<<32 | uint64(uint32(n)))
	h.used++
}

func (h *shard) put(slot uint64) {
	mask := uint32(len(h.slots) - 1)
	i := uint32(slot>>32) & mask
	for h.slots[i] != 0 {
		i = (i + 1) & mask
	}
	h.slots[i] = slot
}
