package client

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A batch that goes on may take as long as it needs; one that stands still ends with the patience.
func TestPatienceBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := newTries(t.Context())
		defer tries.end()
		for range 5 {
			time.Sleep(Patience - time.Second)
			if err := tries.ctx.Err(); err != nil {
				t.Fatal(err)
			}
			tries.goesOn()
		}
		time.Sleep(Patience - time.Second)
		if again, err := tries.again(&Problem{Status: 503, after: 2 * time.Second}); again || !errors.Is(err, ErrUnavailable) {
			t.Errorf("there was no time for another try: %v, %v", again, err)
		}
		time.Sleep(2 * time.Second)
		if cause := context.Cause(tries.ctx); cause != context.DeadlineExceeded {
			t.Errorf("the patience ended with %v", cause)
		}
	})
}
