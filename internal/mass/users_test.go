package mass_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hongyan-dispatch/hongyan/internal/mass"
	"github.com/hongyan-dispatch/hongyan/message"
)

func TestPartsAreFewEqualAndNeverOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.OneOf(rapid.IntRange(2, 25_000), rapid.IntRange(2, 5_000_000)).Draw(t, "n")
		parts := mass.Parts(n)
		sum := 0
		for _, p := range parts {
			sum += p
		}
		least, most := slices.Min(parts), slices.Max(parts)
		switch {
		case sum != n:
			t.Fatalf("Parts(%d) add up to %d", n, sum)
		case least < mass.MinList || most > mass.MaxList:
			t.Fatalf("Parts(%d) are of %d to %d users", n, least, most)
		case most-least > 1:
			t.Fatalf("Parts(%d) are not near-equal: %d to %d", n, least, most)
		case (len(parts)-1)*mass.MaxList >= n:
			t.Fatalf("Parts(%d) are %d, more than needed", n, len(parts))
		}
	})
}

func ExampleParts() {
	fmt.Println(mass.Parts(1), mass.Parts(2), mass.Parts(10_000), mass.Parts(10_001), mass.Parts(25_000))
	// Output: [] [2] [10000] [5001 5000] [8334 8333 8333]
}

func TestSplitKeepsEveryUserInOrder(t *testing.T) {
	list := make([]message.OpenID, 20_001)
	for i := range list {
		list[i] = message.OpenID(fmt.Sprintf("o%d", i))
	}
	parts := mass.Split(list)
	if len(parts) != 3 {
		t.Errorf("got %d parts, want 3", len(parts))
	}
	if !slices.Equal(slices.Concat(parts...), list) {
		t.Error("the parts together are not the list")
	}
	if parts := mass.Split(list[:1]); len(parts) != 0 {
		t.Errorf("one user: got %d parts, want none", len(parts))
	}
}

func TestHashDependsOnKeyAndUser(t *testing.T) {
	a := mass.Hash([]byte("key"), "oABC")
	if again := mass.Hash([]byte("key"), "oABC"); again != a {
		t.Errorf("got %d and %d for one user", a, again)
	}
	// printf oABC | openssl dgst -sha256 -hmac key
	if got, want := uint64(a), uint64(0xc26e0e628e5e7047); got != want {
		t.Errorf("got %016x, want %016x", got, want)
	}
	for _, b := range []int64{mass.Hash([]byte("key"), "oABD"), mass.Hash([]byte("kez"), "oABC")} {
		if a == b {
			t.Error("another user or key: got the same hash")
		}
	}
}

func TestPackedUsersComeBackSortedAndOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hashes := rapid.SliceOf(rapid.OneOf(rapid.Int64(), rapid.Int64Range(-3, 3))).Draw(t, "hashes")
		want := slices.Compact(slices.Sorted(slices.Values(hashes)))
		packed := mass.Pack(hashes)
		if len(packed) != 8*len(want) {
			t.Fatalf("packed into %d bytes, want %d", len(packed), 8*len(want))
		}
		if got, err := mass.Unpack(packed); err != nil || !slices.Equal(got, want) {
			t.Fatalf("got %v, %v, want %v", got, err, want)
		}
	})
}

func TestUnpackRefusesWhatPackDoesNotWrite(t *testing.T) {
	one, two := mass.Pack([]int64{1}), mass.Pack([]int64{2})
	for claim, packed := range map[string][]byte{
		"half a hash":  one[:4],
		"out of order": slices.Concat(two, one),
		"twice":        slices.Concat(one, one),
	} {
		if got, err := mass.Unpack(packed); err == nil {
			t.Errorf("%s: got %v, want an error", claim, got)
		}
	}
}
