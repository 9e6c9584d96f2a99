package mass

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/hongyan-dispatch/hongyan/message"
)

// Hash is the name by which a user is counted: the first 64 bits of HMAC-SHA256. No openid comes back from it.
func Hash(key []byte, openid message.OpenID) int64 {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(openid))
	var sum [sha256.Size]byte
	return int64(binary.BigEndian.Uint64(mac.Sum(sum[:0])))
}

// UserHash is the name by which a user of an account is counted. The key is the account's, not its secret: a secret
// changes, and the counts of a month must outlive that.
func UserHash(app message.AppID, openid message.OpenID) int64 {
	return Hash([]byte("hongyan/mass/"+string(app)), openid)
}

// Pack writes the hashes of a call's users, sorted and each once, in 8 bytes each: what an exact refund needs.
func Pack(hashes []int64) []byte {
	sorted := slices.Clone(hashes)
	slices.Sort(sorted)
	sorted = slices.Compact(sorted)
	packed := make([]byte, 0, 8*len(sorted))
	for _, h := range sorted {
		packed = binary.BigEndian.AppendUint64(packed, uint64(h))
	}
	return packed
}

// Unpack reads what [Pack] wrote: sorted, each once.
func Unpack(packed []byte) ([]int64, error) {
	if len(packed)%8 != 0 {
		return nil, fmt.Errorf("unpack users: %d bytes are no whole number of hashes", len(packed))
	}
	hashes := make([]int64, 0, len(packed)/8)
	for rest := packed; len(rest) > 0; rest = rest[8:] {
		h := int64(binary.BigEndian.Uint64(rest))
		if n := len(hashes); n > 0 && hashes[n-1] >= h {
			return nil, fmt.Errorf("unpack users: hash %d is out of order", n)
		}
		hashes = append(hashes, h)
	}
	return hashes, nil
}

// Parts are the sizes into which a list of n users is cut: as few as [MaxList] allows, and as equal as can be, so that
// none is too small to send. Fewer than [MinList] users make no part.
func Parts(n int) []int {
	if n < MinList {
		return nil
	}
	parts := make([]int, (n+MaxList-1)/MaxList)
	for i := range parts {
		parts[i] = n / len(parts)
		if i < n%len(parts) {
			parts[i]++
		}
	}
	return parts
}

// Split cuts a list into its [Parts], in order, without copying.
func Split(list []message.OpenID) [][]message.OpenID {
	sizes := Parts(len(list))
	parts := make([][]message.OpenID, len(sizes))
	for i, size := range sizes {
		parts[i], list = list[:size:size], list[size:]
	}
	return parts
}
