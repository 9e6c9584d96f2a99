package app

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/clock"
	"github.com/hongyan-dispatch/hongyan/internal/devstack"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
)

// Not parallel: the offset is the process's.
func TestSetClock(t *testing.T) {
	store, err := postgres.Open(t.Context(), devstack.Postgres(t, postgres.Migrate), postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	asked := time.Now()
	if !clock.Follow(asked.Add(10*time.Minute), asked, asked) || clock.Offset() != 10*time.Minute {
		t.Fatalf("offset %v, want ten minutes", clock.Offset())
	}
	var said strings.Builder
	log := slog.New(slog.NewTextHandler(&said, nil))
	for range 2 { // the database is on this machine
		if err := setClock(t.Context(), store, log); err != nil {
			t.Fatal(err)
		}
		if clock.Offset() != 0 {
			t.Errorf("offset %v, want none", clock.Offset())
		}
	}
	if n := strings.Count(said.String(), "agrees with the database's again"); n != 1 {
		t.Errorf("said %d times that the clock agrees, want once:\n%s", n, said.String())
	}
}
