package wechattest

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// A Scenario is a simulator in a file.
type Scenario struct {
	Seed     uint64            `yaml:"seed"`    // 0: another one each time
	Clock    time.Time         `yaml:"clock"`   // where the clock starts; none: real time
	Freeze   bool              `yaml:"freeze"`  // the clock stands there
	Latency  string            `yaml:"latency"` // as ParseLatency reads it
	Log      LogMode           `yaml:"log"`     // sends, bodies or counts
	Accounts []ScenarioAccount `yaml:"accounts"`
	Faults   []Fault           `yaml:"faults"`
}

// A ScenarioAccount is an account with its users.
type ScenarioAccount struct {
	Settings  `yaml:",inline"`
	Followers struct {
		Prefix string `yaml:"prefix"` // see [OpenID]
		Count  int    `yaml:"count"`
	} `yaml:"followers"`
	Users []ScenarioUser   `yaml:"users"`
	Used  map[string]int64 `yaml:"used"` // API → calls that the day has seen already
}

// A ScenarioUser is a follower with a story.
type ScenarioUser struct {
	OpenID  string         `yaml:"openid"`
	Tags    []int64        `yaml:"tags"`
	Permits map[string]int `yaml:"permits"` // subscription permissions by template; -1: lasting
	Actions []Action       `yaml:"actions"` // at the start, in this order
}

// OpenID is the i-th openid of a prefix: 28 characters, as WeChat's are.
func OpenID(prefix string, i int) string {
	return fmt.Sprintf("%s%0*d", prefix, max(1, 28-len(prefix)), i)
}

// ReadScenario reads a scenario in YAML; an unknown key is an error.
func ReadScenario(r io.Reader) (Scenario, error) {
	var sc Scenario
	if err := strictly(r, &sc); err != nil {
		return Scenario{}, fmt.Errorf("scenario: %w", err)
	}
	if len(sc.Accounts) == 0 {
		return Scenario{}, errors.New("scenario: accounts: at least one is needed")
	}
	return sc, nil
}

// Start makes the simulator that the scenario describes.
func (sc Scenario) Start() (*Sim, error) {
	o := Options{Seed: sc.Seed, Log: sc.Log}
	if sc.Latency != "" {
		var err error
		if o.Latency, err = ParseLatency(sc.Latency); err != nil {
			return nil, fmt.Errorf("scenario: %w", err)
		}
	}
	s := New(o)
	switch {
	case sc.Freeze:
		s.Clock.Freeze(sc.Clock)
	case !sc.Clock.IsZero():
		s.Clock.Set(sc.Clock)
	}
	for _, a := range sc.Accounts {
		if err := s.addScenarioAccount(a); err != nil {
			return nil, fmt.Errorf("scenario: %w", err)
		}
	}
	for _, f := range sc.Faults {
		if _, err := s.Inject(f); err != nil {
			return nil, fmt.Errorf("scenario: %w", err)
		}
	}
	return s, nil
}

func (s *Sim) addScenarioAccount(sa ScenarioAccount) error {
	a, err := s.AddAccount(sa.Settings)
	if err != nil {
		return err
	}
	for i := range sa.Followers.Count {
		a.AddFollowers(OpenID(sa.Followers.Prefix, i+1))
	}
	for _, u := range sa.Users {
		a.AddFollowers(u.OpenID)
		for _, t := range u.Tags {
			a.Tag(t, u.OpenID)
		}
		for template, n := range u.Permits {
			a.Permit(u.OpenID, template, n)
		}
		for _, action := range u.Actions {
			if err := a.Act(u.OpenID, action); err != nil {
				return fmt.Errorf("account %s: user %s: %w", sa.AppID, u.OpenID, err)
			}
		}
	}
	for api, n := range sa.Used {
		if err := a.SetUsed(api, n); err != nil {
			return fmt.Errorf("account %s: used: %w", sa.AppID, err)
		}
	}
	return nil
}

// unknownKey is how yaml names a key that nothing takes.
var unknownKey = regexp.MustCompile(`field (\S+) not found in type \S+`)

// strictly decodes one YAML (or JSON) document without unknown keys.
func strictly(r io.Reader, v any) error {
	d := yaml.NewDecoder(r)
	d.KnownFields(true)
	err := d.Decode(v)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if all := (*yaml.TypeError)(nil); errors.As(err, &all) {
		text := strings.Join(all.Errors, "; ") // one line
		return errors.New(unknownKey.ReplaceAllString(text, `unknown key "$1"`))
	}
	return err
}

var logModes = map[string]LogMode{"sends": LogSends, "bodies": LogBodies, "counts": LogCounts}

// UnmarshalText reads sends, bodies or counts.
func (m *LogMode) UnmarshalText(b []byte) error {
	mode, ok := logModes[string(b)]
	if !ok {
		return fmt.Errorf("log mode %q is none of sends, bodies, counts", b)
	}
	*m = mode
	return nil
}
