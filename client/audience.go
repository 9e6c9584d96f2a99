package client

import (
	"slices"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/postgres"
)

// An AudienceState is how far an audience's import has come.
type AudienceState struct {
	Source     string // file:NAME, tag:ID, followers, sql; empty: there is no audience
	State      string // importing, ready
	Columns    []string
	Recipients int
	Duplicates int // dropped: the openid stood above
	Refused    int // lines that name nobody, or not as they should
	Suppressed int // dropped: they refuse such messages
	Lines      int64
	Bytes      int64 // of the input that were read
	Since      time.Time
}

func audienceState(a postgres.Audience) AudienceState {
	return AudienceState{
		Source: a.Source, State: a.State, Columns: a.Columns, Recipients: int(a.Total), Duplicates: int(a.Duplicates), Refused: int(a.Refused),
		Suppressed: int(a.Suppressed), Lines: a.Lines, Bytes: a.Bytes, Since: a.CreatedAt,
	}
}

// youngest is the audience that counts: of those that are no retries, the last.
func youngest(list []postgres.Audience) *postgres.Audience {
	i := slices.IndexFunc(list, func(a postgres.Audience) bool { return a.State != "dropped" && !a.Retry() })
	if i < 0 {
		return nil
	}
	return &list[i]
}
