package wechattest

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

func TestAcceptLog(t *testing.T) {
	t.Run("holds what was accepted, in order", func(t *testing.T) {
		b := setup(t, func(s *Settings) { s.AnyWindow = true })
		first := b.post(PathTemplate, template(alice, "id-1"))
		b.post(PathTemplate, template("oNobody", "id-2"))
		b.post(PathTemplate, template(bob, "id-3"))
		b.post(PathCustom, textTo(bob))
		all := b.sim.AllAccepts()
		if len(all) != 3 {
			t.Fatalf("%d sends, want 3", len(all))
		}
		want := Accept{
			Seq: 1, At: noon, AppID: appID, API: PathTemplate, To: alice, Recipients: 1,
			ClientID: "id-1", Content: all[0].Content, MsgID: first.MsgID,
		}
		if !all[0].At.Equal(noon) {
			t.Errorf("at %s", all[0].At)
		}
		if all[0].At = noon; all[0] != want {
			t.Errorf("got  %+v\nwant %+v", all[0], want)
		}
		if all[0].Content != all[1].Content || all[1].Content == all[2].Content {
			t.Error("the content hash is not that of the content")
		}
		if n := b.sim.CountBy(ByOpenID); n[bob] != 2 || n[alice] != 1 {
			t.Errorf("by openid: %v", n)
		}
		if n := b.sim.CountBy(ByClientID); len(n) != 2 || n["id-3"] != 1 {
			t.Errorf("by client id: %v", n)
		}
		b.sim.Accepts(2, func(a Accept) bool {
			if a.Seq != 3 || a.API != PathCustom {
				t.Errorf("after 2 comes %+v", a)
			}
			return true
		})
	})
	t.Run("keeps bodies, or only counts", func(t *testing.T) {
		b := setup(t)
		b.sim.SetLog(LogBodies)
		b.post(PathTemplate, template(alice, ""))
		b.sim.SetLog(LogCounts)
		b.post(PathTemplate, template(alice, ""))
		all := b.sim.AllAccepts()
		if len(all) != 1 || all[0].Body != template(alice, "") || b.sim.AcceptedTotal() != 2 {
			t.Errorf("%d accepted, the log is %+v", b.sim.AcceptedTotal(), all)
		}
		if got := b.shop.Calls(PathTemplate).Accepted; got != 2 {
			t.Errorf("the witness counts %d", got)
		}
	})
	t.Run("loses nothing under concurrent calls", func(t *testing.T) {
		b := setup(t)
		token := b.shop.Token()
		const callers, each = 8, 1500
		var wg sync.WaitGroup
		for i := range callers {
			wg.Go(func() {
				for j := range each {
					r := httptest.NewRequest("POST", PathTemplate+"?access_token="+token, strings.NewReader(template(alice, fmt.Sprint(i, j))))
					b.sim.ServeHTTP(httptest.NewRecorder(), r)
				}
			})
		}
		wg.Wait()
		ids := b.sim.CountBy(ByClientID)
		if len(ids) != callers*each || b.sim.AcceptedTotal() != callers*each {
			t.Errorf("%d ids, %d accepted", len(ids), b.sim.AcceptedTotal())
		}
		if got := b.shop.Calls(PathTemplate); got.Max60s != callers*each || got.Accepted != callers*each {
			t.Errorf("the witness counts %+v", got)
		}
	})
}

type discard struct{ h http.Header }

func (d discard) Header() http.Header         { return d.h }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

func BenchmarkTemplate(b *testing.B) {
	for name, mode := range map[string]LogMode{"sends": LogSends, "counts": LogCounts} {
		b.Run(name, func(b *testing.B) {
			set := shop()
			set.AnyOpenID = true
			set.Limits = map[string]Limit{"template/send": {}}
			s := New(Options{Log: mode})
			token := s.MustAddAccount(set).Token()
			w := discard{http.Header{}}
			b.ReportAllocs()
			for i := range b.N {
				body := template("oABCDEFGHIJKLMNOPQRSTUVWXYZ0", fmt.Sprintf("%032x", i))
				s.ServeHTTP(w, httptest.NewRequest("POST", PathTemplate+"?access_token="+token, strings.NewReader(body)))
			}
		})
	}
}

func BenchmarkServer(b *testing.B) {
	set := shop()
	set.AnyOpenID = true
	set.Limits = map[string]Limit{"template/send": {}}
	s := New(Options{})
	token := s.MustAddAccount(set).Token()
	srv := httptest.NewServer(s)
	defer srv.Close()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			resp, err := client.Post(srv.URL+PathTemplate+"?access_token="+token, "application/json", strings.NewReader(template(alice, "")))
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
	})
}
