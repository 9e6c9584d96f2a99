package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/internal/app"
	"github.com/hongyan-dispatch/hongyan/internal/config"
	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
	"github.com/hongyan-dispatch/hongyan/message"
)

const (
	callbackToken = "canarycallbacktoken1"
	callbackKey   = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
)

// newFleetThatHears is newFleet with a server for the callbacks of its one account. The configuration may get more.
func newFleetThatHears(t *testing.T, a account, receipts wechattest.Receipts, more ...string) *fleet {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a.yaml += fmt.Sprintf("\ncallback: {token: %s, aes_key: %s}", callbackToken, callbackKey)
	a.wechat.Callback = &wechattest.Callback{
		URL: "http://" + l.Addr().String() + "/wechat/" + a.name, Token: callbackToken, AESKey: callbackKey,
		Gap: 200 * time.Millisecond, Tries: 20, // a busy machine answers 500 now and then
		Receipts: receipts,
	}
	f := newFleet(t, a)
	f.door = "http://" + l.Addr().String()
	f.addConfig(strings.Join(more, "\n"))
	c, err := config.Load(f.config, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	traces, err := tracesOf(c, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(f.background())
	ended := make(chan error, 1)
	go func() {
		ended <- app.Serve(ctx, c, app.ServeOptions{Log: log, Listener: l, Traces: traces})
	}()
	t.Cleanup(func() {
		f.sim.Close() // its pushes first
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the server ended with %v", err)
		}
		traces.Close()
	})
	return f
}

// A reported message is one of the ledger's, with what it says of its receipt.
type reported struct {
	msgid, receipt string
	inferred       bool
	at             time.Time
}

func (f *fleet) reported() map[int64]reported {
	f.Helper()
	rows, err := f.db.Query(f.Context(), `
		SELECT o.wechat_msgid, coalesce(o.receipt, ''), coalesce(r.inferred, false), coalesce(r.at, 'epoch')
		FROM outcomes o LEFT JOIN receipt r ON r.message = o.id`)
	if err != nil {
		f.Fatal(err)
	}
	all := map[int64]reported{}
	var r reported
	if _, err := pgx.ForEachRow(rows, []any{&r.msgid, &r.receipt, &r.inferred, &r.at}, func() error {
		id, err := strconv.ParseInt(r.msgid, 10, 64)
		if _, twice := all[id]; twice {
			f.Errorf("two messages, or two receipts of one, have msgid %d", id)
		}
		all[id] = r
		return err
	}); err != nil {
		f.Fatal(err)
	}
	return all
}

// told are the receipts that the ledger keeps, by the msgid that they name; and those that name none, by user and second.
func (f *fleet) told() (byMsgID map[int64]bool, nameless map[string]bool) {
	f.Helper()
	rows, err := f.db.Query(f.Context(), `SELECT msgid, openid, at FROM receipt`)
	if err != nil {
		f.Fatal(err)
	}
	byMsgID, nameless = map[int64]bool{}, map[string]bool{}
	var id int64
	var openid string
	var at time.Time
	if _, err := pgx.ForEachRow(rows, []any{&id, &openid, &at}, func() error {
		if id == 0 {
			nameless[openid+at.UTC().Format(time.RFC3339)] = true
		} else {
			byMsgID[id] = true
		}
		return nil
	}); err != nil {
		f.Fatal(err)
	}
	return byMsgID, nameless
}

// words is what the view outcomes says of a status of WeChat's.
func words(status string) string {
	if status == "success" {
		return "delivered"
	}
	reason := strings.TrimSpace(strings.TrimPrefix(status, "failed:"))
	return "undelivered: " + reason
}

// Thousands of messages, several to each user; their receipts come up to ten minutes late, are lost, doubled, reordered, come
// before the answer, and some name no msgid. WeChat's own log says whose each is.
func TestReceiptsOfThousands(t *testing.T) {
	t.Parallel()
	const n, notices, people = 2000, 200, 600
	f := newFleetThatHears(t, quick(), wechattest.Receipts{
		Fortune: wechattest.Fortune{Delay: wechattest.Latency{Min: 100 * time.Millisecond, Max: 20 * time.Second}, Lost: 0.05, Twice: 0.05, Reorder: 0.2},
		Early:   0.2, NoMsgID: 0.1, Failed: 0.1,
	})
	var all []message.Message
	for i := range n {
		m := template("shop", i)
		m.To = user(i % people)
		all = append(all, m)
	}
	for i := range notices {
		f.wechat("shop").Permit(string(user(i)), "order_paid", 1)
		all = append(all, message.Message{
			Account: "shop", Kind: message.Subscribe, To: user(i), Lane: message.Normal,
			Body: json.RawMessage(`{"template_id":"order_paid","data":{"thing2":{"value":"订单"}}}`),
		})
	}
	f.start(2)
	f.enqueue(all...)
	f.await(120*time.Second, map[string]int{"sent": n + notices}, "true")
	// The receipts that have not come yet come nine minutes later.
	f.exec("UPDATE message SET intent_at = intent_at - interval '9 minutes', first_intent_at = first_intent_at - interval '9 minutes'")
	if err := f.sim.AwaitPushes(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, 60*time.Second, "end of the joining", func() bool {
		return f.number("SELECT count(*)::int FROM receipt WHERE msgid <> 0 AND message IS NULL OR received_at > now() - interval '3 seconds'") == 0
	})

	rows := f.reported()
	told, nameless := f.told()
	counts := map[string]int{}
	for _, p := range f.sim.Pushes(0) {
		r, ok := rows[p.MsgID]
		switch {
		case !ok:
			t.Errorf("no message has msgid %d", p.MsgID)
		case p.Fate == wechattest.Lost:
			counts["lost"]++
			if r.receipt != "" {
				t.Errorf("msgid %d: its receipt was lost, and it has %q", p.MsgID, r.receipt)
			}
		case p.Fate != wechattest.Delivered:
			t.Errorf("a push ended as %s: %s", p.Fate, p.Problem)
		case told[p.MsgID]:
			counts["joined by msgid"]++
			if r.receipt != words(p.Status) || r.inferred {
				t.Errorf("msgid %d has receipt %q, inferred %t; want %q by its msgid", p.MsgID, r.receipt, r.inferred, words(p.Status))
			}
		case !nameless[p.OpenID+p.At.UTC().Truncate(time.Second).Format(time.RFC3339)]:
			t.Errorf("the receipt of msgid %d is not kept", p.MsgID)
		case r.receipt == "":
			counts["kept alone"]++
		default:
			counts["inferred"]++
			if r.receipt != words(p.Status) || !r.inferred || !r.at.Equal(p.At.Truncate(time.Second)) {
				t.Errorf("msgid %d has receipt %q of %v, inferred %t; want %q of %v", p.MsgID, r.receipt, r.at, r.inferred, words(p.Status), p.At)
			}
		}
		if p.Twice {
			counts["came twice"]++
		}
		if p.Early {
			counts["came before the answer"]++
		}
	}
	t.Logf("%d messages: %v", n+notices, counts)
	for _, what := range []string{"lost", "joined by msgid", "kept alone", "inferred", "came twice", "came before the answer"} {
		if counts[what] == 0 {
			t.Errorf("nothing was %s: the test does not test it", what)
		}
	}
	if counts["joined by msgid"] < n*3/4 {
		t.Errorf("%d of %d joined by their msgid", counts["joined by msgid"], n)
	}
}

// A mass send whose receipt never comes is asked about, once in an hour, and reported.
func TestMassSendsWithoutReceipt(t *testing.T) {
	t.Parallel()
	nextDay(t)
	f := newFleetThatHears(t, massShop(), wechattest.Receipts{Fortune: wechattest.Fortune{Lost: 1}})
	first := f.start(1)[0]
	f.enqueue(massList("shop", users(0, 3), "没有回执"), massList("shop", users(3, 3), "也没有"))
	f.await(40*time.Second, map[string]int{"sent": 2}, "true")
	first.terminate()
	f.exec("UPDATE message SET finished_at = now() - interval '41 minutes'")
	p := f.start(1)[0]
	f.await(60*time.Second, map[string]int{"sent": 2}, "receipt = 'delivered'")
	if calls := f.wechat("shop").Calls(wechattest.PathMassGet).Arrived; calls != 2 {
		t.Errorf("%d calls of mass/get, want one for each", calls)
	}
	if n := strings.Count(p.stderr(), "a mass send has no receipt"); n != 2 {
		t.Errorf("the log tells of %d, want 2", n)
	}
}
