package app

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/internal/devstack"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/tasks"
	"github.com/hongyan-dispatch/hongyan/internal/worker"
	"github.com/hongyan-dispatch/hongyan/message"
)

func lettersTo(users ...message.OpenID) []worker.Letter {
	var list []worker.Letter
	for _, u := range users {
		list = append(list, worker.Letter{Message: &message.Message{ID: message.NewID(time.Now()), To: u, Body: json.RawMessage(`{"to":"` + string(u) + `"}`)}})
	}
	return list
}

func TestWhoIsSpared(t *testing.T) {
	beijing := message.Beijing(time.Now()).Location()
	now := time.Date(2026, 11, 25, 10, 0, 0, 0, beijing) // a Wednesday
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	day, week := campaign.FrequencyCap{Messages: 2, Per: "day"}, campaign.FrequencyCap{Messages: 2, Per: "week"}
	for _, tc := range []struct {
		name string
		spec campaign.Spec
		got  []time.Duration // ago, to user a, with the same content
		want string
	}{
		{"under the cap", campaign.Spec{Cap: day}, []time.Duration{time.Hour}, " "},
		{"at the cap", campaign.Spec{Cap: day}, []time.Duration{time.Hour, 2 * time.Hour}, "frequency_cap "},
		{"yesterday does not count for a day", campaign.Spec{Cap: day}, []time.Duration{time.Hour, 11 * time.Hour}, " "},
		{"but for a week", campaign.Spec{Cap: week}, []time.Duration{time.Hour, 11 * time.Hour}, "frequency_cap "},
		{"whose Monday was", campaign.Spec{Cap: week}, []time.Duration{time.Hour, 57 * time.Hour}, "frequency_cap "},
		{"no longer ago", campaign.Spec{Cap: week}, []time.Duration{time.Hour, 59 * time.Hour}, " "},
		{"the same content within a day", campaign.Spec{Dedupe: true}, []time.Duration{23 * time.Hour}, "duplicate "},
		{"or longer ago", campaign.Spec{Dedupe: true}, []time.Duration{25 * time.Hour}, " "},
		{"without either", campaign.Spec{}, []time.Duration{time.Hour, time.Hour, time.Hour}, " "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			letters := lettersTo("oA", "oB")
			var got []postgres.CampaignSend
			for _, d := range tc.got {
				got = append(got, postgres.CampaignSend{To: "oA", At: ago(d), Content: string(letters[0].Body)})
			}
			spare(&tc.spec, letters, got, now)
			if words := fmt.Sprintf("%s %s", letters[0].Skip.Reason, letters[1].Skip.Reason); words != tc.want {
				t.Errorf("spared: %q, want %q", words, tc.want)
			}
		})
	}
}

func TestAUserIsInOneHand(t *testing.T) {
	rdb, err := tasks.Redis(devstack.Redis(t))
	if err != nil {
		t.Fatal(err)
	}
	defer rdb.Close()
	u := users{rdb}
	hold := func(letters []worker.Letter, want ...bool) {
		t.Helper()
		held, err := u.hold(t.Context(), "wx1", letters)
		if err != nil || !slices.Equal(held, want) {
			t.Errorf("held %v, %v, want %v", held, err, want)
		}
		for i := range letters {
			letters[i].Later = !held[i]
		}
	}
	first, second := lettersTo("oA", "oB"), lettersTo("oB", "oC")
	hold(first, true, true)
	hold(first, true, true) // its run was lost; this is the next
	hold(second, false, true)
	u.release(t.Context(), "wx1", second)
	hold(lettersTo("oB", "oC"), false, true) // the first's hold is not the second's to give back
	u.release(t.Context(), "wx1", first)
	hold(second, true, false)
}
