package campaign

import (
	"errors"
	"testing"
)

func TestVerbs(t *testing.T) {
	allowed := map[State]string{
		Draft: "start cancel", Scheduled: "pause cancel", Running: "pause cancel", Throttled: "pause cancel", Parked: "pause cancel",
		Paused: "resume cancel", Done: "", Cancelled: "", Failed: "",
	}
	for _, s := range States() {
		got := ""
		for _, v := range []Verb{Start, Pause, Resume, Cancel} {
			err := v.Allowed(s)
			if err == nil {
				got += " " + string(v)
			} else if _, ok := errors.AsType[*MoveError](err); !ok {
				t.Errorf("%s of a %s campaign: %v is no MoveError", v, s, err)
			}
		}
		if got != "" {
			got = got[1:]
		}
		if want := allowed[s]; got != want {
			t.Errorf("a %s campaign takes %q, want %q", s, got, want)
		}
		if s.Ended() != (allowed[s] == "") {
			t.Errorf("%s: Ended is %v", s, s.Ended())
		}
	}
}
