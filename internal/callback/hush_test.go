package callback

import (
	"testing"
	"time"
)

func TestHush(t *testing.T) {
	var h hush
	for _, c := range []struct {
		after   time.Duration
		account string
		what    string
		left    int
		ok      bool
	}{
		{0, "shop", "forged", 0, true},
		{0, "shop", "forged", 0, false},
		{0, "club", "forged", 0, true},
		{0, "shop", "old", 0, true},
		{999 * time.Millisecond, "shop", "forged", 0, false},
		{time.Second, "shop", "forged", 2, true},
		{1999 * time.Millisecond, "shop", "forged", 0, false},
		{time.Hour, "shop", "forged", 1, true},
	} {
		if left, ok := h.let(c.account, c.what, noon.Add(c.after)); left != c.left || ok != c.ok {
			t.Errorf("%s of %s after %v: got %d, %t; want %d, %t", c.what, c.account, c.after, left, ok, c.left, c.ok)
		}
	}
}
