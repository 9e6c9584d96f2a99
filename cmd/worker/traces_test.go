package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/hongyan-dispatch/hongyan/internal/api"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
	"github.com/hongyan-dispatch/hongyan/message"
)

// A listener is a collector that keeps what it is told.
type listener struct {
	testing.TB
	url string

	mu    sync.Mutex
	bytes []byte
	spans []*otlp.Span
}

func listen(t *testing.T) *listener {
	l := &listener{TB: t}
	server := httptest.NewServer(http.HandlerFunc(l.hear))
	t.Cleanup(server.Close)
	l.url = server.URL
	return l
}

func (l *listener) hear(_ http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var told otlp.TracesData // as the service's request is on the wire
	if err == nil {
		err = proto.Unmarshal(body, &told)
	}
	if err != nil || r.URL.Path != "/v1/traces" {
		l.Errorf("%s: %v", r.URL.Path, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bytes = fmt.Append(l.bytes, r.Header)
	l.bytes = append(l.bytes, body...)
	for _, resource := range told.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			l.spans = append(l.spans, scope.Spans...)
		}
	}
}

// of are the spans of a trace by name, in the order of their beginning.
func (l *listener) of(trace []byte) map[string][]*otlp.Span {
	l.mu.Lock()
	defer l.mu.Unlock()
	found := map[string][]*otlp.Span{}
	for _, s := range l.spans {
		if bytes.Equal(s.TraceId, trace) {
			all := append(found[s.Name], s)
			for i := len(all) - 1; i > 0 && all[i].StartTimeUnixNano < all[i-1].StartTimeUnixNano; i-- {
				all[i], all[i-1] = all[i-1], all[i]
			}
			found[s.Name] = all
		}
	}
	return found
}

// key makes a key of the API.
func (f *fleet) key(scopes ...string) string {
	f.Helper()
	store, err := postgres.Open(f.Context(), f.database, postgres.Options{Name: "test"})
	if err != nil {
		f.Fatal(err)
	}
	defer store.Close()
	id, text, hash := api.NewKey()
	if err := store.CreateAPIKey(f.Context(), postgres.APIKey{ID: id, Name: "test", Hash: hash[:], Scopes: scopes, Created: time.Now()}, postgres.AuditEntry{At: time.Now(), Action: "key create"}); err != nil {
		f.Fatal(err)
	}
	return text
}

// post posts one message over HTTP, as soon as the server knows the key, and returns its id.
func (f *fleet) post(key, traceparent string, m map[string]any) (id message.ID) {
	f.Helper()
	body, err := json.Marshal(m)
	if err != nil {
		f.Fatal(err)
	}
	eventually(f, 30*time.Second, "message that is accepted", func() bool {
		r, err := http.NewRequestWithContext(f.Context(), http.MethodPost, f.door+"/v1/messages", bytes.NewReader(body))
		if err != nil {
			f.Fatal(err)
		}
		r.Header = http.Header{"Authorization": {"Bearer " + key}, "Content-Type": {"application/json"}, "Traceparent": {traceparent}}
		reply, err := http.DefaultClient.Do(r)
		if err != nil {
			f.Fatal(err)
		}
		defer reply.Body.Close()
		text, _ := io.ReadAll(reply.Body)
		if reply.StatusCode == http.StatusUnauthorized {
			return false
		}
		var accepted struct{ ID message.ID }
		if err := json.Unmarshal(text, &accepted); reply.StatusCode != http.StatusAccepted || err != nil {
			f.Fatalf("answered %d: %s", reply.StatusCode, text)
		}
		id = accepted.ID
		return true
	})
	return id
}

// A message is posted, refused once by WeChat, sent again by way of the releaser, and its receipt comes: one trace, with
// the request's and the parcels' linked to it.
func TestOneTraceFromTheAPIToTheReceipt(t *testing.T) {
	t.Parallel()
	l := listen(t)
	f := newFleetThatHears(t, quick(), wechattest.Receipts{}, "telemetry: {traces: {endpoint: '"+l.url+"', ratio: 1}}")
	f.sim.MustInject(wechattest.Fault{Kind: wechattest.Errcode, Code: -1, API: wechattest.PathTemplate, Next: 1})
	worker := f.start(1)[0]
	key := f.key("shop:template:enqueue")
	const trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	id := f.post(key, "00-"+trace+"-"+span+"-01", map[string]any{
		"account": "shop", "kind": "template", "to": user(1), "key": "canary-key", "labels": map[string]string{"order": "canary-label"},
		"template": map[string]any{"template_id": "order_paid", "data": map[string]any{"thing2": map[string]any{"value": "canary-content"}}},
	})
	f.await(60*time.Second, map[string]int{"sent": 1}, "receipt = 'delivered'")
	if code, _ := worker.terminate(); code != exitDone {
		t.Errorf("the worker ended with %d", code)
	}
	request, err := hex.DecodeString(trace)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "spans of the server", func() bool { return len(l.of(id[:])["enqueue"]) > 0 && len(l.of(request)) > 0 })

	const call = "POST " + wechattest.PathTemplate
	spans := l.of(id[:])
	for name, n := range map[string]int{"message": 1, "enqueue": 1, "dispatch": 2, call: 2, "settle": 2, "receipt": 1} {
		if len(spans[name]) != n {
			t.Fatalf("%d spans %q, want %d: %v", len(spans[name]), name, n, spans)
		}
	}
	root, runs := spans["message"][0], spans["dispatch"]
	if len(spans) != 6 || len(root.ParentSpanId) > 0 {
		t.Errorf("the trace holds %v", spans)
	}
	for _, c := range []struct{ child, parent *otlp.Span }{
		{spans["enqueue"][0], root},
		{runs[0], root},
		{spans[call][0], runs[0]},
		{spans["settle"][0], runs[0]},
		{runs[1], root},
		{spans[call][1], runs[1]},
		{spans["settle"][1], runs[1]},
		{spans["receipt"][0], root},
	} {
		if !bytes.Equal(c.child.ParentSpanId, c.parent.SpanId) {
			t.Errorf("%s is not the child of %s", c.child.Name, c.parent.Name)
		}
	}
	says(t, runs[0], "send", "parked", "backoff")
	says(t, runs[1], "send", "sent")
	says(t, spans[call][0], wechattest.PathTemplate, "not sent")

	posted := l.of(request)["POST /v1/messages"]
	if len(posted) != 1 || hex.EncodeToString(posted[0].ParentSpanId) != span {
		t.Fatalf("the producer's trace holds %v", posted)
	}
	linked(t, spans["enqueue"][0], posted[0])
	linked(t, posted[0], spans["enqueue"][0])
	for _, run := range runs {
		if len(run.Links) != 1 {
			t.Fatalf("a run has links %v, want its parcel's", run.Links)
		}
		parcel := l.of(run.Links[0].TraceId)["parcel"]
		if len(parcel) != 1 {
			t.Fatalf("a run's parcel is %v", parcel)
		}
		linked(t, run, parcel[0])
		linked(t, parcel[0], root)
	}
	if bytes.Equal(runs[0].Links[0].TraceId, runs[1].Links[0].TraceId) {
		t.Error("both runs came of one parcel")
	}
	l.keptSecrets(f, key, "canary-key", "canary-label", "canary-content", callbackToken, callbackKey)
}

// says looks for words among a span's attributes.
func says(t *testing.T, s *otlp.Span, want ...string) {
	t.Helper()
	words := map[string]bool{}
	for _, a := range s.Attributes {
		words[a.Value.GetStringValue()] = true
	}
	for _, w := range want {
		if !words[w] {
			t.Errorf("%s says %v, want %q", s.Name, s.Attributes, w)
		}
	}
}

func linked(t *testing.T, from, to *otlp.Span) {
	t.Helper()
	if len(from.Links) != 1 || !bytes.Equal(from.Links[0].TraceId, to.TraceId) || !bytes.Equal(from.Links[0].SpanId, to.SpanId) {
		t.Errorf("%s links to %v, want %s", from.Name, from.Links, to.Name)
	}
}

// keptSecrets searches every byte that was told.
func (l *listener) keptSecrets(f *fleet, canaries ...string) {
	l.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	text := string(l.bytes)
	f.searchText("what the collector was told", text, true)
	for _, c := range append(canaries, "access_token", "client_msg_id") {
		if strings.Contains(text, c) {
			l.Errorf("the collector was told %q", c)
		}
	}
}

// A collector that takes the connection and says nothing: messages go as ever, and so does the worker.
func TestCollectorThatHangsHoldsNoMessageUp(t *testing.T) {
	t.Parallel()
	var once sync.Once
	asked, release := make(chan struct{}), make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		once.Do(func() { close(asked) })
		<-release
	}))
	t.Cleanup(hanging.Close)
	t.Cleanup(func() { close(release) })
	const n = 3000
	f := newFleet(t, quick())
	f.addConfig("telemetry: {traces: {endpoint: '" + hanging.URL + "', ratio: 1}}")
	worker := f.start(1)[0]
	f.enqueue(templates("shop", 0, n)...)
	f.await(60*time.Second, map[string]int{"sent": n}, "true")
	<-asked
	code, took := worker.terminate()
	if code != exitDone || took > 10*time.Second {
		t.Errorf("the worker ended with %d after %v", code, took)
	}
}
