package campaign

import (
	"bytes"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hongyan-dispatch/hongyan/message"
)

func TestMessageIDs(t *testing.T) {
	start := time.UnixMilli(1_780_000_000_123)
	rapid.Check(t, func(t *rapid.T) {
		firing := rapid.Int32Min(1).Draw(t, "firing")
		n := rapid.Int32Min(1).Draw(t, "n")
		id := MessageID(start, firing, n)
		if again := MessageID(start, firing, n); again != id {
			t.Fatalf("a second computation gives %s, the first %s", again, id)
		}
		if !id.Time().Equal(start) {
			t.Fatalf("the id is of %v, want %v", id.Time(), start)
		}
		if id[6]>>4 != 7 || id[8]>>6 != 2 {
			t.Fatalf("%s is no UUIDv7", id)
		}
		otherFiring, otherN := rapid.Int32Min(1).Draw(t, "other firing"), rapid.Int32Min(1).Draw(t, "other n")
		other := MessageID(start, otherFiring, otherN)
		if (other == id) != (otherFiring == firing && otherN == n) {
			t.Fatalf("(%d, %d) and (%d, %d) give %s and %s", firing, n, otherFiring, otherN, id, other)
		}
		if otherN != n && (bytes.Compare(id[:], other[:]) < 0) != (n < otherN) {
			t.Fatalf("ids do not stand in the order of n: %d %s, %d %s", n, id, otherN, other)
		}
		from, to := IDRange(start, min(n, otherN), max(n, otherN))
		for _, id := range []message.ID{id, other} {
			if bytes.Compare(id[:], from[:]) < 0 || bytes.Compare(id[:], to[:]) > 0 {
				t.Fatalf("%s lies outside %s to %s", id, from, to)
			}
		}
		if before := MessageID(start, firing, min(n, otherN)-1); bytes.Compare(before[:], from[:]) >= 0 {
			t.Fatalf("%s lies inside the range from %s", before, from)
		}
	})
}
