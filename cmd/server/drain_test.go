package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/devstack"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
)

// A client that does not come to an end is left when the time is over; that is no failure of the server's.
func TestSlowClientsDoNotKeepAServer(t *testing.T) {
	h := startAPI(t)
	key := h.key("all", "*:*:*")
	p, address := startBeside(h) // SIGTERM is for the whole process
	body := posted("news", "oA", "half")
	slow := make([]net.Conn, 3)
	for i := range slow {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST /v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n",
			key, len(body))
		line := make([]byte, len("HTTP/1.1 100 Continue"))
		if _, err := io.ReadFull(conn, line); err != nil || !bytes.Contains(line, []byte(" 100 ")) { // it reads the body now
			t.Fatalf("%q, %v", line, err)
		}
		fmt.Fprint(conn, body[:20])
		slow[i] = conn
	}
	began := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	if took := time.Since(began); took > 25*time.Second {
		t.Errorf("it took %v", took)
	}
	if log := p.log.String(); !strings.Contains(log, "clients that are slow are cut off") || !strings.Contains(log, "msg=closed") {
		t.Errorf("the log:\n%s", log)
	}
	for i, conn := range slow {
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("connection %d is open still", i)
		}
	}
	if n := h.number("SELECT count(*)::int FROM message"); n != 0 {
		t.Errorf("%d messages of halves", n)
	}
}

// An upload during which the server closes is told so, and goes on at the next one.
func TestDrainInTheMiddleOfAnUpload(t *testing.T) {
	t.Parallel()
	redis, database := devstack.Redis(t), devstack.Postgres(t, postgres.Migrate)
	h := startConfigured(t, redis, database, fmt.Sprintf(twoAccounts, redis, database))
	key := h.key("shop", "shop:*:*")
	var made struct{ ID string }
	h.want(201, key, "POST", "/v1/campaigns", customCampaign, &made)
	at := "/v1/campaigns/" + made.ID + "/audience?name=people.csv"
	const n = 120_000
	var file bytes.Buffer
	file.WriteString("openid\n")
	for i := range n {
		fmt.Fprintf(&file, "oUPLOAD%06d\n", i)
	}
	out, in := io.Pipe()
	answered := make(chan string, 1)
	go func() {
		r, err := http.NewRequestWithContext(t.Context(), "POST", h.url+at, out)
		if err != nil {
			answered <- err.Error()
			return
		}
		r.Header.Set("Authorization", "Bearer "+key)
		r.Header.Set("Content-Type", csvType)
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			answered <- err.Error()
			return
		}
		defer res.Body.Close()
		text, _ := io.ReadAll(res.Body)
		answered <- fmt.Sprint(res.StatusCode, " ", string(text))
	}()
	if _, err := in.Write(file.Bytes()[:file.Len()*2/3]); err != nil {
		t.Fatal(err)
	}
	h.eventually("block that is committed", func() bool {
		return h.number(`SELECT coalesce(max(total), 0)::int FROM audience WHERE campaign = $1`, made.ID) >= 50_000
	})
	if code := h.stop(); code != exitDone {
		t.Errorf("the server ended with %d", code)
	}
	if got := <-answered; !strings.HasPrefix(got, "503 ") || !strings.Contains(got, "the server is closing; ") || !strings.Contains(got, "resume=true") {
		t.Errorf("the upload was answered %s", got)
	}
	_ = in.Close()
	h = startConfigured(t, redis, database, fmt.Sprintf(twoAccounts, redis, database))
	h.eventually("server that knows the key", func() bool {
		status, _, _ := h.do(key, "GET", "/v1/accounts/shop/gates", "", "")
		return status == 200
	})
	var whole struct {
		State      string
		Recipients int
	}
	status, _, text := h.do(key, "POST", at+"&resume=true", csvType, file.String())
	if h.read(text, &whole); status != 200 || whole.State != "ready" || whole.Recipients != n {
		t.Errorf("resumed: %d %s", status, text)
	}
}
