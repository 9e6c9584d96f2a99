package ratelimit

import (
	"errors"
	"fmt"
	"time"

	"github.com/hongyan-dispatch/hongyan/outcome"
)

// Refused is the answer of [Quota.Take] to what cannot go within its time.
type Refused struct {
	Until  time.Time      // try again then
	Reason outcome.Reason // outcome.Quota: the day is used up; outcome.Pace: others are before it
}

func (r *Refused) Error() string {
	return fmt.Sprintf("refused by %s until %s", r.Reason, r.Until.Format(time.RFC3339))
}

// ErrUnknown says that Redis knows nothing of the key's day and that what was used of it could not be found
// out yet ([WithRebuild]): nothing goes until it is.
var ErrUnknown = errors.New("what the day has used is not known yet")

// ErrNoAnswer says that Redis did not answer in time.
var ErrNoAnswer = errors.New("redis has not answered in time")
