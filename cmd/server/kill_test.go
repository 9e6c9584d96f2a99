package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/devstack"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/message"
)

// envServer makes the test binary the program itself.
const envServer = "HONGYAN_TEST_SERVER"

// A process is a server of its own, which can be killed.
type process struct {
	t    *testing.T
	file string
	cmd  *exec.Cmd
	log  *lines
}

func (p *process) start() {
	p.t.Helper()
	p.log = &lines{}
	p.cmd = exec.Command(os.Args[0], "--config", p.file)
	p.cmd.Env, p.cmd.Stderr = append(os.Environ(), envServer+"=1"), p.log
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
}

// startBeside starts another server of the house's configuration, as a process of its own.
func startBeside(h *house) (p *process, address string) {
	h.Helper()
	p = &process{t: h.T, file: h.file}
	p.start()
	h.Cleanup(p.kill)
	h.eventually("second server", func() bool {
		m := listening.FindStringSubmatch(p.log.String())
		if m != nil {
			address = m[1]
		}
		return m != nil
	})
	return p, address
}

// kill ends it without a word.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // an error says that it has ended
	_ = p.cmd.Wait()
}

// TestKillsDuringABatch kills the server again and again while a client posts a batch in many requests: at the end each
// message is there once, and whoever posts it again gets the same id.
func TestKillsDuringABatch(t *testing.T) {
	t.Parallel()
	redis, database := devstack.Redis(t), devstack.Postgres(t, postgres.Migrate)
	l, err := net.Listen("tcp", "127.0.0.1:0") // an address that every life of the server has
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	file := filepath.Join(t.TempDir(), "hongyan.yaml")
	text := strings.Replace(fmt.Sprintf(twoAccounts, redis, database), "127.0.0.1:0", address, 1)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	h := &house{T: t, file: file, stderr: &lines{}, url: "http://" + address}
	key := strings.TrimSpace(h.command(exitDone, "key", "create", "crm", "--scope", "*:*:*", "--config", file))
	p := &process{t: t, file: file}
	p.start()
	t.Cleanup(func() { p.kill() })

	c, err := client.HTTP(h.url, key)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const n, size = 3000, 100
	batch := make([]message.Message, n)
	for i := range batch {
		batch[i] = message.Message{
			Account: "shop", Kind: message.Template, To: message.OpenID(fmt.Sprintf("oKILL%d", i)), Key: fmt.Sprintf("kill-%d", i),
			Body: json.RawMessage(`{"template_id":"order_paid","data":{"thing2":{"value":"云南小粒咖啡豆"}}}`),
		}
	}
	ids := make([]message.ID, n)
	posted := make(chan int, n/size)
	var wg sync.WaitGroup
	work := make(chan int)
	for range 3 {
		wg.Go(func() {
			for from := range work {
				for i, r := range c.EnqueueBatch(t.Context(), batch[from:from+size]) {
					if r.Err != nil {
						t.Errorf("message %d: %v", from+i, r.Err)
					}
					ids[from+i] = r.ID
				}
				posted <- from
			}
		})
	}
	go func() {
		defer close(work)
		for from := 0; from < n; from += size {
			work <- from
		}
	}()
	for kills := range 5 { // each when some more of the batch is through, and the next is under way
		for range 4 {
			select {
			case <-posted:
			case <-time.After(60 * time.Second):
				t.Fatalf("after %d kills the batch does not go on; the log:\n%s", kills, p.log)
			}
		}
		p.kill()
		p.start()
	}
	wg.Wait()
	if h.db, err = pgxpool.New(context.Background(), database); err != nil {
		t.Fatal(err)
	}
	defer h.db.Close()
	if got := h.number("SELECT count(*)::int FROM message"); got != n {
		t.Errorf("%d messages, want %d", got, n)
	}
	again := c.EnqueueBatch(t.Context(), batch)
	for i, r := range again {
		if r.Err != nil || !r.Duplicate || r.ID != ids[i] {
			t.Fatalf("message %d posted again: %+v, want %s", i, r, ids[i])
		}
	}
}

// TestAServerThatDiesAfterItAccepted kills the server when it has committed and answered, and loses the answer: the client
// asks the next one, and a message is there once, though its producer gave it no key.
func TestAServerThatDiesAfterItAccepted(t *testing.T) {
	h := startAPI(t)
	key := h.key("crm", "*:*:*")
	type server struct {
		process *process
		address string
	}
	servers := make([]server, 3) // the first lives, the others take its place
	for i := range servers {
		servers[i].process, servers[i].address = startBeside(h)
	}
	deaths := 0
	var mu sync.Mutex
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		status, text := forward(t, r, servers[0].address)
		if status == 0 { // it is gone already
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		if deaths%2 == 0 && len(servers) > 1 {
			servers[0].process.kill()
			servers = servers[1:]
			deaths++
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			conn.Close()
			return
		}
		deaths++
		w.WriteHeader(status)
		fmt.Fprint(w, text)
	}))
	defer front.Close()
	c, err := client.HTTP(front.URL, key)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	m := message.Message{Account: "news", Kind: message.Template, To: "oA", Body: json.RawMessage(`{"template_id":"order_paid","data":{"thing2":{"value":"云南小粒咖啡豆"}}}`)}
	one, err := c.Enqueue(t.Context(), m)
	if err != nil || !one.Duplicate {
		t.Errorf("a message: %+v, %v; want the first try's", one, err)
	}
	batch := c.EnqueueBatch(t.Context(), []message.Message{m, m})
	for i, r := range batch {
		if r.Err != nil || !r.Duplicate {
			t.Errorf("message %d of a batch: %+v", i, r)
		}
	}
	if n := h.number("SELECT count(*)::int FROM message"); n != 3 || deaths != 4 {
		t.Errorf("%d messages after %d answers, want 3", n, deaths)
	}
}

// forward makes a request again at an address, and returns the whole answer; 0: there is none.
func forward(t *testing.T, r *http.Request, address string) (int, string) {
	again := r.Clone(r.Context())
	again.URL.Scheme, again.URL.Host, again.RequestURI = "http", address, ""
	res, err := http.DefaultTransport.RoundTrip(again)
	if err != nil {
		t.Logf("forward: %v", err)
		return 0, ""
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, ""
	}
	return res.StatusCode, string(text)
}

// A client that writes all before it reads anything is served, as long as it is not too long.
func TestWhoReadsLate(t *testing.T) {
	h := startAPI(t)
	key := h.key("all", "*:*:*")
	const n = 20_000
	var body strings.Builder
	for range n {
		body.WriteString(posted("news", "oA", "the same") + "\n")
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(h.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s",
		key, linesType, body.Len(), body.String())
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	got, last := 0, ""
	for results := bufio.NewScanner(res.Body); results.Scan(); got++ {
		last = results.Text()
	}
	if got != n+1 || !regexp.MustCompile(`^\{"done":true,`).MatchString(last) {
		t.Errorf("%d results, the last %s", got, last)
	}
}
