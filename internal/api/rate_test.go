package api

import (
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/time/rate"
)

// limiter gives the bundle's key a full burst and no more.
func (b *bundle) limiter(t *testing.T) *rate.Limiter {
	t.Helper()
	keys, err := b.handler.keys.keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l := rate.NewLimiter(1e-6, burst)
	for _, k := range keys {
		k.limiter = l
	}
	return l
}

// Each element of a request takes one of the key's rate, whatever becomes of it; so does a request that has none.
func TestWhatARequestCosts(t *testing.T) {
	event := `{"Account":"shop"}`
	bad := strings.Replace(good, `"oA"`, `""`, 1)
	for name, c := range map[string]struct {
		path, kind, body string
		status, costs    int
	}{
		"a message":                 {"/v1/messages", typeJSON, good, 202, 1},
		"a bad message":             {"/v1/messages", typeJSON, bad, 400, 1},
		"no message":                {"/v1/messages", typeJSON, "hello", 400, 1},
		"a body of another type":    {"/v1/messages", "text/html", good, 415, 1},
		"a body that is too large":  {"/v1/messages", typeJSON, strings.Repeat(" ", maxBody+1), 413, 1},
		"a list":                    {"/v1/messages", typeJSON, "[" + strings.Repeat(good+",", 4) + good + "]", 202, 5},
		"a list with a bad message": {"/v1/messages", typeJSON, "[" + strings.Repeat(good+",", 4) + bad + "]", 400, 5},
		"a full list":               {"/v1/messages", typeJSON, "[" + strings.Repeat(good+",", MaxArray-1) + good + "]", 202, MaxArray},
		"lines, bad and good":       {"/v1/messages", typeLines, good + "\n" + bad + "\nhello\n" + strings.Replace(good, "shop", "strange", 1), 200, 4},
		"no lines":                  {"/v1/messages", typeLines, "\n\n", 400, 1},
		"a full slab of lines":      {"/v1/messages", typeLines, strings.Repeat(good+"\n", MaxArray), 200, MaxArray},
		"an event":                  {"/v1/events", typeJSON, event, 200, 1},
		"events":                    {"/v1/events", typeJSON, "[" + strings.Repeat(event+",", 6) + event + "]", 200, 7},
		"events, one of them bad":   {"/v1/events", typeJSON, "[" + event + ",7]", 400, 2},
		"lines of events":           {"/v1/events", typeLines, event + "\n7\n" + event, 200, 3},
		"an event of another type":  {"/v1/events", "text/html", event, 415, 1},
		"another request":           {"/v1/accounts/shop/gates/custom/close", typeJSON, `{"until":"1999-01-01T00:00:00Z"}`, 400, 1},
		"one to no end":             {"/v1/accounts/shop/gates/none/open", "", "", 404, 1},
	} {
		b := setup(t, Options{})
		l := b.limiter(t)
		status, text := b.post(t, c.path, c.kind, strings.NewReader(c.body))
		if spent := burst - int(l.Tokens()+0.5); status != c.status || spent != c.costs {
			t.Errorf("%s: %d, and cost %d; want %d and %d: %.200s", name, status, spent, c.status, c.costs, text)
		}
	}
}

// Who has nothing left is told so before anything is read, parsed or looked up.
func TestNothingIsLeftOfTheRate(t *testing.T) {
	b := setup(t, Options{})
	l := b.limiter(t)
	for path, body := range map[string]string{"/v1/messages": good, "/v1/events": `{"Account":"shop"}`} {
		l.AllowN(time.Now(), burst-2)
		list := "[" + strings.Repeat(body+",", 9) + body + "]"
		if status, text := b.post(t, path, typeJSON, strings.NewReader(list)); status != http.StatusTooManyRequests || b.accepted != 0 {
			t.Errorf("%s, a list that is longer than what is left: %d %s", path, status, text)
		}
		l.AllowN(time.Now(), int(l.Tokens()))
		if status, _ := b.post(t, path, typeJSON, strings.NewReader(body)); status != http.StatusTooManyRequests {
			t.Errorf("%s, with nothing left: %d", path, status)
		}
		l = b.limiter(t)
	}
}

// A stream of a key that has nothing left waits for its turn, even one without lines, and holds none of the memory meanwhile.
func TestAStreamWaitsWithoutMemory(t *testing.T) {
	b := setup(t, Options{Memory: streamMemory})
	l := b.limiter(t)
	l.AllowN(time.Now(), burst)
	free := make(chan bool, 1)
	go func() {
		for l.Tokens() > -0.5 && t.Context().Err() == nil { // it comes to wait
			runtime.Gosched()
		}
		all := b.handler.memory.TryAcquire(streamMemory)
		if all {
			b.handler.memory.Release(streamMemory)
		}
		free <- all
		b.handler.Drain()
	}()
	if status, text := b.post(t, "/v1/messages", typeLines, strings.NewReader("\n")); status != http.StatusServiceUnavailable {
		t.Fatalf("an empty stream of a server that closes: %d %s", status, text)
	}
	if !<-free {
		t.Error("who waits holds memory")
	}
}

// However a stream is cut into slabs, each of them passes a limiter of the least burst that a key can have.
func TestSlabsPassTheSmallestBurst(t *testing.T) {
	b := setup(t, Options{})
	keys, err := b.handler.keys.keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		k.limiter = rate.NewLimiter(1e6, burst)
	}
	body := strings.Repeat(good+"\n", 5*MaxArray)
	status, text := b.post(t, "/v1/messages", typeLines, strings.NewReader(body))
	if want := fmt.Sprintf(`"accepted":%d,`, 5*MaxArray); status != 200 || !strings.Contains(text, want) {
		t.Errorf("%d %s", status, text[max(0, len(text)-200):])
	}
}
