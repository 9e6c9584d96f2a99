package wechattest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// over sends one template message over a real connection and gives the status, the body and the error.
func (b *bundle) over(url string) (int, []byte, error) {
	b.Helper()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	resp, err := client.Post(url+PathTemplate+"?access_token="+b.shop.Token(), "application/json", strings.NewReader(template(alice, "")))
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

func TestFaults(t *testing.T) {
	type seen struct {
		status int
		body   []byte
		err    error
	}
	for _, c := range []struct {
		fault Fault
		says  func(seen) bool
	}{
		{Fault{Kind: Errcode}, func(s seen) bool {
			return bytes.HasPrefix(s.body, []byte(`{"errcode":-1,"errmsg":"system error rid: `))
		}},
		{Fault{Kind: Errcode, Code: 43117}, func(s seen) bool { return bytes.Contains(s.body, []byte(`:43117,`)) }},
		{Fault{Kind: Status}, func(s seen) bool { return s.status == 502 }},
		{Fault{Kind: HTML}, func(s seen) bool { return s.status == 200 && bytes.HasPrefix(s.body, []byte("<html>")) }},
		{Fault{Kind: Truncate}, func(s seen) bool { return s.err == nil && len(s.body) > 0 && !json.Valid(s.body) }},
		{Fault{Kind: HalfReply}, func(s seen) bool { return errors.Is(s.err, io.ErrUnexpectedEOF) }},
		{Fault{Kind: Drop}, func(s seen) bool { return errors.Is(s.err, io.EOF) }},
		{Fault{Kind: Reset}, func(s seen) bool { return errors.Is(s.err, syscall.ECONNRESET) || errors.Is(s.err, io.EOF) }},
		{Fault{Kind: Redirect, Location: "http://198.51.100.1/x"}, func(s seen) bool { return s.status == 307 }},
	} {
		for when, accepted := range map[Moment]int{Before: 0, After: 1} {
			t.Run(string(c.fault.Kind)+" "+string(when), func(t *testing.T) {
				b := setup(t)
				srv := httptest.NewServer(b.sim)
				defer srv.Close()
				f := c.fault
				f.When, f.API, f.Next = when, "template/send", 1
				id := b.sim.MustInject(f)
				status, body, err := b.over(srv.URL)
				if !c.says(seen{status, body, err}) {
					t.Errorf("got %d %s %v", status, body, err)
				}
				b.accepted(accepted)
				if b.sim.Struck(id) != 1 || b.shop.Used(PathTemplate) != 1 || b.shop.Calls(PathTemplate).Struck != 1 {
					t.Error("the fault struck not once, or the call did not count")
				}
				if _, body, err := b.over(srv.URL); err != nil || !bytes.Contains(body, []byte(`"errcode":0`)) {
					t.Errorf("afterwards: %s %v", body, err)
				}
			})
		}
	}
	t.Run("hang_up answers well and closes", func(t *testing.T) {
		b := setup(t)
		srv := httptest.NewServer(b.sim)
		defer srv.Close()
		b.sim.MustInject(Fault{Kind: HangUp})
		if _, body, err := b.over(srv.URL); err != nil || !bytes.Contains(body, []byte(`"errcode":0`)) {
			t.Errorf("got %s %v", body, err)
		}
		b.accepted(1)
	})
}

func TestHang(t *testing.T) {
	for when, meanwhile := range map[Moment]int{Before: 0, After: 1} {
		t.Run(string(when), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBundle(t)
				b.sim.MustInject(Fault{Kind: Hang, When: when, For: time.Hour})
				done := make(chan reply)
				go func() { done <- b.post(PathTemplate, template(alice, "")) }()
				synctest.Wait() // until the call hangs
				b.accepted(meanwhile)
				b.sim.Close()
				b.want(<-done, 0)
				b.accepted(1)
			})
		})
	}
}

func TestFaultRules(t *testing.T) {
	strikes := func(b *bundle, n int) string {
		var s strings.Builder
		for range n {
			s.WriteByte("x."[min(1, b.post(PathTemplate, template(alice, "")).Errcode+1)])
		}
		return s.String()
	}
	for _, c := range []struct {
		name  string
		fault Fault
		want  string
	}{
		{"the next two", Fault{Kind: Errcode, Next: 2}, "xx......"},
		{"after three, the next two", Fault{Kind: Errcode, Skip: 3, Next: 2}, "...xx..."},
		{"every third", Fault{Kind: Errcode, Every: 3}, "..x..x.."},
		{"of another API", Fault{Kind: Errcode, API: "custom/send"}, "........"},
		{"of another account", Fault{Kind: Errcode, AppID: "wx9"}, "........"},
		{"of this account", Fault{Kind: Errcode, AppID: appID}, "xxxxxxxx"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := setup(t)
			b.sim.MustInject(c.fault)
			if got := strikes(b, 8); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			b.sim.Heal()
			if got := strikes(b, 2); got != ".." {
				t.Errorf("healed, got %s", got)
			}
		})
	}
	t.Run("chance repeats with the seed", func(t *testing.T) {
		b := setup(t)
		b.sim.MustInject(Fault{Kind: Errcode, Chance: 0.5, API: PathTemplate})
		other := &bundle{T: t, sim: New(Options{Seed: 1})}
		other.sim.Clock.Freeze(noon)
		other.shop = other.sim.MustAddAccount(shop())
		other.shop.AddFollowers(alice, bob)
		other.sim.MustInject(Fault{Kind: Errcode, Chance: 0.5, API: PathTemplate})
		one, two := strikes(b, 64), strikes(other, 64)
		if one != two || !strings.Contains(one, "x.") {
			t.Errorf("got %s\nand %s", one, two)
		}
	})
	t.Run("bad rules are refused", func(t *testing.T) {
		b := setup(t)
		for _, f := range []Fault{{Kind: "boom"}, {Kind: Drop, When: "never"}, {Kind: Drop, API: "nope"}, {Kind: Drop, Chance: 2}, {Kind: HangUp, When: Before}, {Kind: Status, Code: 7}} {
			if _, err := b.sim.Inject(f); err == nil {
				t.Errorf("%+v is taken", f)
			}
		}
	})
}

func TestAFaultStrikesTokenCalls(t *testing.T) {
	b := setup(t)
	b.sim.MustInject(Fault{Kind: Errcode, API: "stable_token", AppID: appID})
	b.want(b.stable("false"), systemBusy)
	if got := b.shop.Calls(PathStableToken); got.Arrived != 1 || got.Refused[systemBusy] != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestLatency(t *testing.T) {
	for in, want := range map[string]Latency{
		"0":                   {},
		"20ms":                {Min: 20 * time.Millisecond, Max: 20 * time.Millisecond},
		"60ms-350ms,5s@0.001": {Min: 60 * time.Millisecond, Max: 350 * time.Millisecond, Stall: 5 * time.Second, Chance: 0.001},
	} {
		if got, err := ParseLatency(in); err != nil || got != want {
			t.Errorf("%s: got %+v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "fast", "20ms-10ms", "-1ms", "1ms,5s", "1ms,5s@2"} {
		if _, err := ParseLatency(in); err == nil {
			t.Errorf("%q is taken", in)
		}
	}
	b := setup(t)
	l := Latency{Min: 10 * time.Millisecond, Max: 100 * time.Millisecond, Stall: time.Minute, Chance: 0.1}
	stalls := 0
	for range 1000 {
		switch d := l.draw(b.sim); {
		case d == time.Minute:
			stalls++
		case d < l.Min || d > l.Max:
			t.Fatalf("drew %s", d)
		}
	}
	if stalls < 50 || stalls > 200 {
		t.Errorf("%d stalls of 1000", stalls)
	}
}
