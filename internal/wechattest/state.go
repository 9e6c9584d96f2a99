package wechattest

import (
	"net/http"
	"time"
)

// State is what GET /_sim/state answers.
type State struct {
	Now          time.Time      `json:"now"`
	Seed         uint64         `json:"seed"`
	Latency      string         `json:"latency"`
	Accepted     int            `json:"accepted"`
	UnknownCalls int64          `json:"unknown_calls"`
	Pushes       PushCounts     `json:"pushes"`
	Faults       []FaultState   `json:"faults"`
	Accounts     []AccountState `json:"accounts"`
}

// FaultState is a fault in force.
type FaultState struct {
	ID     int   `json:"id"`
	Struck int64 `json:"struck"`
	Fault
}

// AccountState is an account's part of [State].
type AccountState struct {
	AppID        string              `json:"appid"`
	Type         Type                `json:"type"`
	Users        int                 `json:"users"`
	TokensMade   int64               `json:"tokens_made"`
	TokensForced int64               `json:"tokens_forced"`
	MassMost     int                 `json:"mass_most"` // most mass messages to one user this month
	APIs         map[string]APIState `json:"apis"`      // those that were called
}

// APIState is one API's part: what WeChat counts and what the witness counts.
type APIState struct {
	Used  int64 `json:"used"`
	Limit Limit `json:"limit"`
	Calls
}

func (s *Sim) showState(w http.ResponseWriter, _ *http.Request) { answer(w, s.State(), nil) }

// State is a picture of the whole simulator.
func (s *Sim) State() State {
	out := State{
		Now: s.Clock.Now().In(Beijing), Seed: s.seed, Latency: s.latency.Load().String(),
		Accepted: s.AcceptedTotal(), UnknownCalls: s.UnknownCalls(), Pushes: s.PushCounts(), Faults: s.faults.list(),
	}
	for _, a := range s.Accounts() {
		out.Accounts = append(out.Accounts, a.state())
	}
	return out
}

func (a *Account) state() AccountState {
	now, set := a.sim.Clock.Now(), a.set.Load()
	out := AccountState{AppID: set.AppID, Type: set.Type, APIs: map[string]APIState{}, MassMost: a.MassMost(now)}
	out.TokensMade, out.TokensForced = a.TokenCounts()
	a.mu.Lock()
	out.Users = len(a.users)
	a.mu.Unlock()
	for path := range a.sim.routes {
		m, _ := a.meter(path)
		if calls := m.calls(); calls.Arrived > 0 && a.sim.routes[path].quota == path {
			out.APIs[path] = APIState{m.usage(now), set.limits[path], calls}
		}
	}
	return out
}
