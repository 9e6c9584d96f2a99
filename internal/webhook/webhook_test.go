package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// The example of the standard (Standard Webhooks, spec, "Signature scheme").
func TestSignature(t *testing.T) {
	k, err := ParseKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	got := k.Sign("msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if text := fmt.Sprintf("%v %+v %#v %s", k, k, k, struct{ K Key }{k}); strings.Contains(text, "MfKQ") {
		t.Errorf("the key prints as %s", text)
	}
	for _, bad := range []string{"", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_short", "whsec_!!!!"} {
		if _, err := ParseKey(bad); err == nil || bad != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("%q: got %v", bad, err)
		}
	}
}

// A drawer is a Store in memory.
type drawer struct {
	mu       sync.Mutex
	events   []Event
	due      map[string]time.Time
	failing  time.Time
	disabled string
	stuck    error // of what ends an event, or the webhook
}

func (d *drawer) Events(_ context.Context, now time.Time, limit int) (due []Event, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.events {
		if !d.due[e.ID].After(now) && len(due) < limit && d.disabled == "" {
			due = append(due, e)
		}
	}
	return due, nil
}

func (d *drawer) Told(_ context.Context, ids []string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.events = slices.DeleteFunc(d.events, func(e Event) bool { return slices.Contains(ids, e.ID) })
	d.failing = time.Time{}
	return nil
}

func (d *drawer) Failed(_ context.Context, id string, again, now time.Time, _ string) (time.Time, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.events {
		if d.events[i].ID == id {
			d.events[i].Tries++
			d.due[id] = again
		}
	}
	if d.failing.IsZero() {
		d.failing = now
	}
	return d.failing, nil
}

func (d *drawer) Forget(_ context.Context, id string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stuck == nil {
		d.events = slices.DeleteFunc(d.events, func(e Event) bool { return e.ID == id })
	}
	return d.stuck
}

func (d *drawer) Disable(_ context.Context, reason string, _ time.Time) (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stuck == nil {
		d.disabled = reason
	}
	return int64(len(d.events)), d.stuck
}

var start = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func setup(t *testing.T, n int, h http.HandlerFunc) (*Sender, *drawer, *bytes.Buffer) {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	u, _ := url.Parse(server.URL + "/hook?password=canary")
	key, err := ParseKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	d := &drawer{due: map[string]time.Time{}}
	for i := range n {
		d.events = append(d.events, Event{
			ID: fmt.Sprintf("event-%d", i), Type: "message.outcome", At: start,
			Data: json.RawMessage(fmt.Sprintf(`{"id":"m%d","status":"sent","recipient":"oABC","wechat_msgid":"9007199254740993","attempts":1}`, i)),
		})
	}
	log := &bytes.Buffer{}
	s := &Sender{Account: "shop", URL: u, Key: key, Store: d, Log: slog.New(slog.NewTextHandler(log, nil)), client: &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Timeout: 20 * time.Second,
	}}
	return s, d, log
}

// verify is a receiver's check, written from the standard (Standard Webhooks, spec, "Verifying webhook authenticity").
func verify(h http.Header, body []byte, now time.Time) error {
	id, stamp := h.Get("webhook-id"), h.Get("webhook-timestamp")
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || now.Sub(time.Unix(seconds, 0)).Abs() > 5*time.Minute {
		return fmt.Errorf("webhook-timestamp %q", stamp)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return err
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.%s", id, stamp, body)
	for given := range strings.FieldsSeq(h.Get("webhook-signature")) { // several while a secret is changed
		version, sum, _ := strings.Cut(given, ",")
		if raw, err := base64.StdEncoding.DecodeString(sum); err == nil && version == "v1" && hmac.Equal(raw, mac.Sum(nil)) {
			return nil
		}
	}
	return fmt.Errorf("webhook-signature %q", h.Get("webhook-signature"))
}

func TestEventsAreTold(t *testing.T) {
	var mu sync.Mutex
	got := map[string]string{}
	s, d, _ := setup(t, 3, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		id := r.Header.Get("webhook-id")
		if err := verify(r.Header, body, start); err != nil {
			t.Error(err)
			w.WriteHeader(401)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		got[id] = string(body)
	})
	if _, err := s.round(t.Context(), start); err != nil || len(d.events) != 0 || len(got) != 3 {
		t.Fatalf("got %v, %v; %d wait", got, err, len(d.events))
	}
	want := `{"data":{"attempts":1,"id":"m0","status":"sent","wechat_msgid":"9007199254740993"},"timestamp":"2026-11-22T12:00:00Z","type":"message.outcome"}`
	if got["event-0"] != want {
		t.Errorf("told %s, want %s: no openid unless asked for", got["event-0"], want)
	}
}

func TestOpenIDIsToldWhereAskedFor(t *testing.T) {
	var body []byte
	s, _, _ := setup(t, 1, func(_ http.ResponseWriter, r *http.Request) { body, _ = io.ReadAll(r.Body) })
	s.OpenID = true
	if _, err := s.round(t.Context(), start); err != nil || !bytes.Contains(body, []byte(`"recipient":"oABC"`)) {
		t.Errorf("told %s, %v", body, err)
	}
}

func TestFailuresAreTriedAgain(t *testing.T) {
	var ids []string
	fails := 2
	s, d, _ := setup(t, 1, func(w http.ResponseWriter, r *http.Request) {
		ids = append(ids, r.Header.Get("webhook-id"))
		if fails--; fails >= 0 {
			w.WriteHeader(500)
		}
	})
	now := start
	for range 10 {
		if _, err := s.round(t.Context(), now); err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Minute)
	}
	if len(ids) != 3 || ids[0] != ids[2] || len(d.events) != 0 || !d.failing.IsZero() {
		t.Errorf("tries %v, %d wait, failing since %v; want three tries under one id", ids, len(d.events), d.failing)
	}
}

func TestEndpointThatTakesNothingIsDisabled(t *testing.T) {
	tries := 0
	s, d, log := setup(t, 1, func(w http.ResponseWriter, _ *http.Request) { tries++; w.WriteHeader(503) })
	for now := start; d.disabled == "" && now.Before(start.Add(30*time.Hour)); now = now.Add(time.Minute) {
		if _, err := s.round(t.Context(), now); err != nil {
			t.Fatal(err)
		}
		if d.disabled != "" && now.Sub(start) < 24*time.Hour {
			t.Fatalf("disabled after %v", now.Sub(start))
		}
	}
	if !strings.Contains(d.disabled, "HTTP status 503") || tries < 15 || tries > 60 {
		t.Errorf("disabled: %q after %d tries", d.disabled, tries)
	}
	if text := log.String(); strings.Contains(text, "canary") || !strings.Contains(text, "enqueue webhook enable") {
		t.Errorf("the log tells a secret, or no remedy:\n%s", text)
	}
	s, d, _ = setup(t, 2, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(410) })
	if _, err := s.round(t.Context(), start); err != nil || !strings.Contains(d.disabled, "410") {
		t.Errorf("410: disabled %q, %v", d.disabled, err)
	}
}

func TestEventThatIsNeverTakenIsGivenUp(t *testing.T) {
	tries := 0
	s, d, log := setup(t, 1, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("webhook-id") == "event-0" {
			tries++
			w.WriteHeader(422)
		}
	})
	now := start
	for hour := 0; len(d.events) > 0 && hour < 48; hour++ {
		d.events = append(d.events, Event{ID: fmt.Sprintf("good-%d", hour), At: now, Data: json.RawMessage(`{}`)})
		for range 60 {
			if _, err := s.round(t.Context(), now); err != nil {
				t.Fatal(err)
			}
			now = now.Add(time.Minute)
		}
	}
	if len(d.events) != 0 || d.disabled != "" || now.Sub(start) < 24*time.Hour || tries < giveUpTries {
		t.Errorf("after %v and %d tries %d events wait, disabled %q; want the one given up after a day", now.Sub(start), tries, len(d.events), d.disabled)
	}
	if !strings.Contains(log.String(), "webhook_id=event-0") || !strings.Contains(log.String(), "HTTP status 422") {
		t.Errorf("the log does not tell:\n%s", log)
	}

	// One that is old when it is tried first has its day all the same.
	s, d, _ = setup(t, 1, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	if _, err := s.round(t.Context(), start.Add(30*time.Hour)); err != nil || len(d.events) != 1 {
		t.Errorf("got %v; %d wait, want the event", err, len(d.events))
	}
}

// What the store did not take note of did not happen: it is neither counted nor told.
func TestAnEndThatIsNotKept(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		tries  int
		want   string
	}{"of an event": {422, giveUpTries, GivenUp}, "of a webhook": {410, 0, Disabled}} {
		s, d, log := setup(t, 1, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(c.status) })
		d.events[0].Tries, d.failing = c.tries, start.Add(25*time.Hour)
		var counted []string
		s.Observe = func(_, result string, _ time.Duration) { counted = append(counted, result) }
		d.stuck = errors.New("the database is away")
		if _, err := s.round(t.Context(), start.Add(25*time.Hour)); !errors.Is(err, d.stuck) || slices.Contains(counted, c.want) || log.Len() > 0 {
			t.Errorf("%s: %v, counted %v, and the log says\n%s", name, err, counted, log)
		}
		d.stuck, d.due = nil, map[string]time.Time{}
		if _, err := s.round(t.Context(), start.Add(25*time.Hour)); err != nil || !slices.Contains(counted, c.want) || log.Len() == 0 {
			t.Errorf("%s, when it is back: %v, counted %v", name, err, counted)
		}
	}
}

func TestHostileEndpoints(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"hangs": func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body); <-r.Context().Done() },
		"redirects": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, d, log := setup(t, 1, h)
			s.client.Timeout = 500 * time.Millisecond
			if _, err := s.round(t.Context(), start); err != nil || len(d.events) != 1 || d.events[0].Tries != 1 {
				t.Errorf("got %v; %+v", err, d.events)
			}
			if strings.Contains(log.String(), "canary") {
				t.Errorf("the log tells the URL's password:\n%s", log)
			}
		})
	}
	t.Run("answers without an end", func(t *testing.T) {
		s, d, _ := setup(t, 1, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(bytes.Repeat([]byte("x"), 1<<20)) })
		if _, err := s.round(t.Context(), start); err != nil || len(d.events) != 0 {
			t.Errorf("got %v; %d wait", err, len(d.events))
		}
	})
	t.Run("asks to wait", func(t *testing.T) {
		s, d, _ := setup(t, 1, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Retry-After", "600"); w.WriteHeader(429) })
		if _, err := s.round(t.Context(), start); err != nil || d.due["event-0"].Before(start.Add(10*time.Minute)) {
			t.Errorf("got %v; due %v", err, d.due)
		}
	})
}

func TestTheDrainIsNoFailure(t *testing.T) {
	s, d, _ := setup(t, 1, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body); <-r.Context().Done() })
	ctx, stop := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("drain"))
	defer stop()
	if _, err := s.round(ctx, start); err != nil || d.events[0].Tries != 0 {
		t.Errorf("got %v; %+v", err, d.events)
	}
}
