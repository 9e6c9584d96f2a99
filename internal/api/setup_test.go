package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/report"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// A backend is what stands behind the door, in memory. What the stores do is told by the tests of cmd/server.
type backend struct {
	mu       sync.Mutex
	accepted int
	down     error
}

func (b *backend) take(list []message.Message) []Receipt {
	b.mu.Lock()
	defer b.mu.Unlock()
	receipts := make([]Receipt, len(list))
	for i := range list {
		if receipts[i].Err = b.down; b.down == nil {
			receipts[i].ID = message.NewID(time.Now())
			b.accepted++
		}
	}
	return receipts
}

func (b *backend) Enqueue(_ context.Context, m message.Message) Receipt {
	return b.take([]message.Message{m})[0]
}

func (b *backend) EnqueueAll(_ context.Context, l []message.Message) []Receipt { return b.take(l) }

func (b *backend) EnqueueBatch(_ context.Context, l []message.Message) []Receipt { return b.take(l) }

func (b *backend) Parse(text []byte) (Event, error) {
	var e Event
	if err := json.Unmarshal(text, &e); err != nil {
		return e, message.Invalid{{Rule: "no event"}}
	}
	return e, nil
}
func (b *backend) Event(context.Context, Event) error { return b.down }

func (b *backend) Name(name string) (string, bool)                      { return name, name == "shop" || name == "news" }
func (b *backend) WantsApproval(string) bool                            { return false }
func (b *backend) Quotas(context.Context, string) ([]Quota, error)      { return nil, b.down }
func (b *backend) Gates(context.Context, string) ([]report.Gate, error) { return nil, b.down }
func (b *backend) OpenGate(context.Context, string, string) (bool, int64, error) {
	return false, 0, b.down
}

func (b *backend) CloseGate(context.Context, string, string, string, time.Time) (report.Gate, error) {
	return report.Gate{}, b.down
}

func (b *backend) Window(context.Context, string, message.OpenID) (Window, error) {
	return Window{}, b.down
}

func (b *backend) Message(context.Context, message.ID) (report.Message, error) {
	return report.Message{}, ErrNotFound
}

func (b *backend) Explain(context.Context, message.ID) (report.Explanation, error) {
	return report.Explanation{}, ErrNotFound
}

func (b *backend) Find(context.Context, string, string) (message.ID, error) {
	return message.ID{}, ErrNotFound
}

func (b *backend) Cancel(context.Context, message.ID) (outcome.Status, error) { return "", ErrNotFound }
func (b *backend) Audit(context.Context, []Entry, []string) error             { return nil }

// A bundle is a door with a key for it.
type bundle struct {
	*backend
	url, key string
	handler  *Handler
}

func setup(t testing.TB, o Options) *bundle {
	t.Helper()
	b := unserved(o)
	s := httptest.NewServer(b.handler)
	t.Cleanup(s.Close)
	b.url = s.URL
	return b
}

// unserved is a bundle for calls of its ServeHTTP.
func unserved(o Options) *bundle {
	b := &bundle{backend: &backend{}}
	id, text, hash := NewKey()
	b.key = text
	o.Log = slog.New(slog.DiscardHandler)
	o.Keys = func(context.Context) ([]Key, error) {
		return []Key{{ID: id, Name: "test", Hash: hash, Scopes: []Scope{{"*", "*", "*"}}}}, nil
	}
	o.Enqueuer, o.Events, o.Ledger, o.Accounts, o.Recorder = b.backend, b.backend, b.backend, b.backend, b.backend
	b.handler = New(o)
	return b
}

func (b *bundle) post(t testing.TB, path, kind string, body io.Reader) (int, string) {
	t.Helper()
	return b.do(t, http.MethodPost, path, kind, body)
}

func (b *bundle) get(t testing.TB, path string) (int, string) {
	t.Helper()
	return b.do(t, http.MethodGet, path, "", nil)
}

func (b *bundle) do(t testing.TB, method, path, kind string, body io.Reader) (int, string) {
	t.Helper()
	r, err := http.NewRequest(method, b.url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+b.key)
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(text)
}

const good = `{"account":"shop","kind":"template","to":"oA","key":"k","template":{"template_id":"t","data":{"thing1":{"value":"x"}}}}`

var errAway = errors.Join(ErrUnavailable, errors.New("gone"))

func linesIn(text string) []string { return strings.Split(strings.TrimSpace(text), "\n") }
