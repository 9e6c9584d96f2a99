package wechattest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

const adminPrefix = "/_sim/"

// adminRoutes are for other processes what the methods of Sim and Account are for this one. Bodies are
// JSON or YAML, as in a scenario; an answer is JSON, or 400 with one line.
//
//	GET    /_sim/state                  clock, faults, accounts with the witness's counts
//	GET    /_sim/accepts?after=N        the accept log as JSON Lines
//	GET    /_sim/pushes?after=N         what callbacks were told, and what became of it, as JSON Lines
//	POST   /_sim/faults                 {kind: drop, when: after, api: template/send, next: 3} → {"id":1}
//	DELETE /_sim/faults?id=N            without id: all
//	POST   /_sim/clock                  {set: 2026-11-30T23:59:58+08:00} | {advance: 1h} | {freeze: true} | {run: true} | {real: true}
//	POST   /_sim/latency                {latency: 60ms-350ms}
//	POST   /_sim/log                    {mode: bodies}
//	POST   /_sim/accounts               an account as in a scenario
//	POST   /_sim/accounts/{appid}       the settings to change
//	POST   /_sim/accounts/{appid}/users {openid: oX, actions: [message], tags: [2], permits: {tpl: 1}}; or openids: […]
//	POST   /_sim/accounts/{appid}/act   {openid: oX, action: message, type: image, text: …, key: …, templates: […]}; or openids: […]
//	POST   /_sim/accounts/{appid}/verify the GET with an echostr, as the console does it: {} → {"ok":true}
//	POST   /_sim/accounts/{appid}/used  {template/send: 60000}
//	POST   /_sim/accounts/{appid}/tokens {do: expire | kick | break}
//	POST   /_sim/accounts/{appid}/mass  {msg_id: 3000000001, allow: true}
func (s *Sim) adminRoutes() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /_sim/state", s.showState)
	m.HandleFunc("GET /_sim/accepts", s.showAccepts)
	m.HandleFunc("GET /_sim/pushes", s.showPushes)
	m.HandleFunc("POST /_sim/faults", take(func(_ *http.Request, f *Fault) (any, error) {
		id, err := s.Inject(*f)
		return map[string]int{"id": id}, err
	}))
	m.HandleFunc("DELETE /_sim/faults", s.heal)
	m.HandleFunc("POST /_sim/clock", take(s.setClock))
	m.HandleFunc("POST /_sim/latency", take(func(_ *http.Request, in *struct{ Latency string }) (any, error) {
		l, err := ParseLatency(in.Latency)
		if err == nil {
			s.SetLatency(l)
		}
		return nil, err
	}))
	m.HandleFunc("POST /_sim/log", take(func(_ *http.Request, in *struct{ Mode LogMode }) (any, error) {
		s.SetLog(in.Mode)
		return nil, nil
	}))
	m.HandleFunc("POST /_sim/accounts", take(func(_ *http.Request, in *ScenarioAccount) (any, error) {
		return nil, s.addScenarioAccount(*in)
	}))
	m.HandleFunc("POST /_sim/accounts/{appid}", s.changeAccount)
	m.HandleFunc("POST /_sim/accounts/{appid}/users", about(s, changeUsers))
	m.HandleFunc("POST /_sim/accounts/{appid}/act", about(s, letAct))
	m.HandleFunc("POST /_sim/accounts/{appid}/verify", take(s.verify))
	m.HandleFunc("POST /_sim/accounts/{appid}/used", about(s, func(a *Account, in *map[string]int64) error {
		for api, n := range *in {
			if err := a.SetUsed(api, n); err != nil {
				return err
			}
		}
		return nil
	}))
	m.HandleFunc("POST /_sim/accounts/{appid}/tokens", about(s, changeTokens))
	m.HandleFunc("POST /_sim/accounts/{appid}/mass", about(s, decideMass))
	return m
}

// take makes a handler of a function that is given the decoded body.
func take[T any](f func(*http.Request, *T) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		in := new(T)
		err := strictly(http.MaxBytesReader(w, r.Body, 16<<20), in)
		var out any
		if err == nil {
			out, err = f(r, in)
		}
		answer(w, out, err)
	}
}

// about is take for what concerns one account.
func about[T any](s *Sim, f func(*Account, *T) error) http.HandlerFunc {
	return take(func(r *http.Request, in *T) (any, error) {
		a, err := s.named(r)
		if err != nil {
			return nil, err
		}
		return nil, f(a, in)
	})
}

func (s *Sim) named(r *http.Request) (*Account, error) {
	a := s.Account(r.PathValue("appid"))
	if a == nil {
		return nil, fmt.Errorf("account %q is not known", r.PathValue("appid"))
	}
	return a, nil
}

func answer(w http.ResponseWriter, out any, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if out == nil {
		out = struct{}{}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out)
}

func (s *Sim) heal(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("id")
	if id == "" {
		s.Heal()
		answer(w, nil, nil)
		return
	}
	n, err := strconv.Atoi(id)
	if err == nil {
		s.Heal(n)
	}
	answer(w, nil, err)
}

type clockChange struct {
	Set     time.Time
	Advance time.Duration
	Freeze  bool
	Run     bool
	Real    bool
}

func (s *Sim) setClock(_ *http.Request, in *clockChange) (any, error) {
	if in.Advance < 0 {
		return nil, errors.New("advance: must not be negative; set goes back")
	}
	if in.Real {
		s.Clock.Real()
	}
	if !in.Set.IsZero() {
		s.Clock.Set(in.Set)
	}
	if in.Advance > 0 {
		s.Clock.Advance(in.Advance)
	}
	if in.Freeze {
		s.Clock.Freeze(s.Clock.Now())
	}
	if in.Run {
		s.Clock.Run()
	}
	return map[string]time.Time{"now": s.Clock.Now().In(Beijing)}, nil
}

// changeAccount decodes the change over the settings as they are, so that it names only what changes.
func (s *Sim) changeAccount(w http.ResponseWriter, r *http.Request) {
	a, err := s.named(r)
	if err == nil {
		err = a.changed(func(set *Settings) error {
			return strictly(http.MaxBytesReader(w, r.Body, 16<<20), set)
		})
	}
	answer(w, nil, err)
}

type userChange struct {
	ScenarioUser `yaml:",inline"`
	OpenIDs      []string `yaml:"openids"`
}

func changeUsers(a *Account, in *userChange) error {
	openids := in.OpenIDs
	if in.OpenID != "" {
		openids = append(openids, in.OpenID)
	}
	if len(openids) == 0 {
		return errors.New("openid is missing")
	}
	for _, id := range openids {
		if len(in.Actions) == 0 {
			a.AddFollowers(id)
		}
		for _, t := range in.Tags {
			a.Tag(t, id)
		}
		for template, n := range in.Permits {
			a.Permit(id, template, n)
		}
		for _, action := range in.Actions {
			if err := a.Act(id, action); err != nil {
				return err
			}
		}
	}
	return nil
}

type deedOf struct {
	Deed    `yaml:",inline"`
	OpenID  string   `yaml:"openid"`
	OpenIDs []string `yaml:"openids"`
}

func letAct(a *Account, in *deedOf) error {
	openids := in.OpenIDs
	if in.OpenID != "" || len(openids) == 0 {
		openids = append(openids, in.OpenID)
	}
	for _, id := range openids {
		if err := a.Do(id, in.Deed); err != nil {
			return err
		}
	}
	return nil
}

func (s *Sim) verify(r *http.Request, _ *struct{}) (any, error) {
	a, err := s.named(r)
	if err == nil {
		err = a.Verify(r.Context())
	}
	return map[string]bool{"ok": true}, err
}

func changeTokens(a *Account, in *struct{ Do string }) error {
	switch in.Do {
	case "expire":
		a.ExpireTokens()
	case "kick":
		a.KickTokens()
	case "break":
		a.BreakToken()
	default:
		return fmt.Errorf("do: %q is none of expire, kick, break", in.Do)
	}
	return nil
}

type massDecision struct {
	MsgID int64 `yaml:"msg_id"`
	Allow bool  `yaml:"allow"`
}

func decideMass(a *Account, in *massDecision) error {
	if !a.DecideMass(in.MsgID, in.Allow) {
		return fmt.Errorf("msg_id %d waits for no decision", in.MsgID)
	}
	return nil
}

func (s *Sim) showAccepts(w http.ResponseWriter, r *http.Request) {
	after, err := strconv.ParseUint(r.URL.Query().Get("after"), 10, 64)
	if err != nil && r.URL.Query().Has("after") {
		answer(w, nil, fmt.Errorf("after: %w", err))
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	buffered := bufio.NewWriterSize(w, 64<<10)
	lines := json.NewEncoder(buffered)
	lines.SetEscapeHTML(false)
	s.Accepts(after, func(a Accept) bool { return lines.Encode(a) == nil })
	_ = buffered.Flush()
}
