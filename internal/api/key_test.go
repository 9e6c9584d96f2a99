package api

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/clock"
)

// behind has this machine's clock be that much behind until the test ends.
func behind(t *testing.T, d time.Duration) {
	set := func(d time.Duration) {
		now := time.Now()
		clock.Follow(now.Add(d), now, now)
	}
	set(d)
	t.Cleanup(func() { set(0) })
}

// Not parallel: the offset is the process's.
func TestKeysAreReadAgainWhateverTheClockDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		id, text, hash := NewKey()
		var live []Key
		down := error(nil)
		keys := keyring{load: func(context.Context) ([]Key, error) { return live, down }}
		opens := func() error {
			time.Sleep(freshFor)
			_, err := keys.find(t.Context(), text, clock.Now())
			return err
		}
		for _, d := range []time.Duration{0, 10 * time.Minute, 0, -10 * time.Minute, 0} {
			behind(t, d)
			live, down = []Key{{ID: id, Hash: hash}}, errAway
			if err := opens(); !errors.Is(err, errAway) {
				t.Errorf("%v behind, and the store away: %v", d, err)
			}
			down = nil
			behind(t, 0)
			if err := opens(); err != nil {
				t.Errorf("%v behind a moment ago, and the store back: %v", d, err)
			}
			behind(t, d)
			if err := opens(); err != nil {
				t.Errorf("%v behind: %v", d, err)
			}
			live = nil
			behind(t, 0)
			if err := opens(); !errors.Is(err, errNoKey) {
				t.Errorf("%v behind a moment ago, and the key is revoked: %v", d, err)
			}
		}
	})
}
