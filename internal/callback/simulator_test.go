package callback_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/callback"
	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
	"github.com/hongyan-dispatch/hongyan/message"
)

const (
	simAppID = "wx0000000000000001"
	simToken = "simulated-token"
	simKey   = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
	simUser  = "oAlice"
)

// A desk answers the simulator's pushes through a door and keeps their meanings.
type desk struct {
	door  *callback.Door
	reply callback.Reply

	mu       sync.Mutex
	meanings []callback.Meaning
	refused  []error
}

func (d *desk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.Method == http.MethodGet {
		echo, err := d.door.Verify(r.URL.Query(), time.Now())
		d.note(err)
		_, _ = io.WriteString(w, echo)
		return
	}
	in, err := d.door.Open(r.URL.Query(), body, time.Now())
	if d.note(err); err != nil {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	d.meanings = append(d.meanings, in.Push.Meaning())
	if d.reply != nil {
		answer, err := in.Answer(d.reply, time.Now())
		d.note(err)
		_, _ = w.Write(answer)
	}
}

func (d *desk) note(err error) {
	if err != nil {
		d.refused = append(d.refused, err)
	}
}

// simulated is a simulator that pushes to a desk. The two were written apart, each from WeChat's pages.
func simulated(t *testing.T, form wechattest.CallbackForm, mode callback.Mode) (*wechattest.Sim, *wechattest.Account, *desk) {
	t.Helper()
	door, err := callback.New(callback.Config{AppID: simAppID, Mode: mode, Tokens: []string{simToken}, AESKeys: []string{simKey}})
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{door: door}
	server := httptest.NewServer(d)
	t.Cleanup(server.Close)
	sim := wechattest.New(wechattest.Options{Seed: 1})
	t.Cleanup(sim.Close)
	account := sim.MustAddAccount(wechattest.Settings{
		AppID: simAppID, Secret: "s", AnyOpenID: true, Templates: []wechattest.Template{{ID: "tpl", Keys: []string{"thing1"}}},
		Callback: &wechattest.Callback{
			URL: server.URL, Token: simToken, AESKey: simKey, Form: form, Mode: wechattest.CallbackMode(mode), Gap: time.Millisecond,
		},
	})
	return sim, account, d
}

// call calls an API of the simulator.
func call(t *testing.T, sim *wechattest.Sim, account *wechattest.Account, path, body string) {
	t.Helper()
	w := httptest.NewRecorder()
	sim.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path+"?access_token="+account.Token(), strings.NewReader(body)))
	if !strings.Contains(w.Body.String(), `"errcode":0`) {
		t.Fatalf("%s: %s", path, w.Body)
	}
}

func TestWhatTheSimulatorPushesIsUnderstood(t *testing.T) {
	t.Parallel()
	for _, form := range []wechattest.CallbackForm{wechattest.XMLForm, wechattest.JSONForm} {
		for _, mode := range []callback.Mode{callback.Encrypted, callback.Compatible, callback.Plain} {
			t.Run(fmt.Sprint(form, " ", mode), func(t *testing.T) {
				t.Parallel()
				sim, account, d := simulated(t, form, mode)
				if err := account.Verify(t.Context()); err != nil {
					t.Error(err)
				}
				var want []string
				expect := func(s string) { want = append(want, s) }
				for _, c := range []struct {
					deed wechattest.Deed
					want string
				}{
					{wechattest.Deed{Action: wechattest.Follow, Key: "7"}, "follow followed scene 7"},
					{wechattest.Deed{Action: wechattest.Message, Text: "<&]]>"}, "message active"},
					{wechattest.Deed{Action: wechattest.Message, Type: "location"}, "message active"},
					{wechattest.Deed{Action: wechattest.Tap}, "menu active"},
					{wechattest.Deed{Action: wechattest.Menu}, "menu active"},
					{wechattest.Deed{Action: wechattest.View}, " active"},
					{wechattest.Deed{Action: wechattest.Scan, Key: "8"}, "scan active scene 8"},
					{wechattest.Deed{Action: wechattest.Agree, Templates: []string{"tpl", "b"}}, " , tpl accepted, b accepted"},
					{wechattest.Deed{Action: wechattest.Decline, Templates: []string{"c"}}, " , c refused"},
					{wechattest.Deed{Action: wechattest.SwitchOff, Templates: []string{"d"}}, " , d refused"},
				} {
					if err := account.Do(simUser, c.deed); err != nil {
						t.Fatal(err)
					}
					expect(simUser + " " + c.want)
				}
				notice := `{"touser":"oAlice","template_id":"tpl","data":{"thing1":{"value":"茶"}}}`
				call(t, sim, account, wechattest.PathTemplate, notice)
				expect(simUser + "  , template arrived: ")
				call(t, sim, account, wechattest.PathSubscribe, notice)
				expect(simUser + "  , subscribe arrived: ")
				_ = account.Act(simUser, wechattest.Block)
				call(t, sim, account, wechattest.PathTemplate, notice)
				expect(simUser + "  , template lost: " + callback.Blocked)
				call(t, sim, account, wechattest.PathMassSend, `{"touser":["oBob","oCarol"],"msgtype":"text","text":{"content":"hi"}}`)
				expect("  , mass true 2 of 2")
				_ = account.Act(simUser, wechattest.Unsubscribe)
				expect(simUser + "  left")
				if err := sim.AwaitPushes(t.Context()); err != nil {
					t.Fatal(err)
				}
				d.mu.Lock()
				defer d.mu.Unlock()
				var got []string
				for _, m := range d.meanings {
					if !m.Known || m.Key == "" || time.Since(m.At) > time.Minute {
						t.Errorf("meaning %+v", m)
					}
					got = append(got, describe(m))
				}
				slices.Sort(got)
				slices.Sort(want)
				if !slices.Equal(got, want) || len(d.refused) > 0 {
					t.Errorf("understood\n%s\nwant\n%s\nand refused %v", strings.Join(got, "\n"), strings.Join(want, "\n"), d.refused)
				}
			})
		}
	}
}

// describe is a meaning in one line.
func describe(m callback.Meaning) string {
	s := fmt.Sprintf("%s %s %s", m.User, m.Trigger, m.Presence)
	if m.Scene != "" {
		s += " scene " + m.Scene
	}
	for _, c := range m.Choices {
		s += ", " + c.TemplateID + map[bool]string{true: " refused", false: " accepted"}[c.Refused]
	}
	for _, r := range m.Receipts {
		s += fmt.Sprintf(", %s %s: %s", r.Kind, map[bool]string{true: "arrived", false: "lost"}[r.Delivered], r.Reason)
		if r.MsgID == 0 || r.Kind == message.Subscribe && r.TemplateID != "tpl" {
			s += fmt.Sprintf(" of %d %s", r.MsgID, r.TemplateID)
		}
	}
	if m.Mass != nil {
		s += fmt.Sprintf(", mass %t %d of %d", m.Mass.Sent, m.Mass.Job.SentCount, m.Mass.Job.TotalCount)
	}
	return s
}

func TestTheSimulatorUnderstandsOurReplies(t *testing.T) {
	t.Parallel()
	for _, form := range []wechattest.CallbackForm{wechattest.XMLForm, wechattest.JSONForm} {
		for _, mode := range []callback.Mode{callback.Encrypted, callback.Compatible, callback.Plain} {
			t.Run(fmt.Sprint(form, " ", mode), func(t *testing.T) {
				t.Parallel()
				sim, account, d := simulated(t, form, mode)
				d.reply = callback.Text{Content: "您好 <1> ]]>"}
				if err := account.Act(simUser, wechattest.Message); err != nil {
					t.Fatal(err)
				}
				if err := sim.AwaitPushes(t.Context()); err != nil {
					t.Fatal(err)
				}
				got := sim.Pushes(0)[0]
				if got.Fate != wechattest.Delivered || got.Problem != "" || !strings.Contains(got.Shown, "您好") {
					t.Errorf("got %+v; refused %v", got, d.refused)
				}
			})
		}
	}
}
