package api

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// What is left of the body of a stream that was stopped is not taken for the connection's next request, whenever it comes.
func TestTheRestOfAStreamIsNoRequest(t *testing.T) {
	for name, c := range map[string]struct {
		rest string // behind the answer, before the end of the body; none: it never comes
		ends bool
	}{
		"that comes late":     {strings.Repeat(good+"\n", 3), true},
		"that looks like one": {"DELETE /v1/messages HTTP/1.1\r\nHost: x\r\n\r\n", true},
		"that never comes":    {"", false},
	} {
		b := setup(t, Options{Patience: 500 * time.Millisecond})
		b.down = errAway
		conn, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
		chunk := func(text string) { fmt.Fprintf(conn, "%x\r\n%s\r\n", len(text), text) }
		fmt.Fprintf(conn, "POST /v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n", b.key, typeLines)
		chunk("{}\n" + good + "\n") // the second line meets a store that is away
		in := bufio.NewReader(conn)
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(res.Body)
		for lines.Scan() && !strings.Contains(lines.Text(), `"done":false`) {
		}
		if c.rest != "" {
			chunk(c.rest)
			fmt.Fprint(conn, "0\r\n\r\n")
		}
		fmt.Fprintf(conn, "GET /v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", b.key)
		_, err = io.Copy(io.Discard, res.Body)
		if !c.ends {
			if answer, _ := io.ReadAll(in); len(answer) > 0 || err == nil {
				t.Errorf("%s: the connection goes on with %q", name, answer)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s: the answer is not whole: %v", name, err)
		}
		res, err = http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if text, _ := io.ReadAll(res.Body); !strings.Contains(string(text), "account and key are required") {
			t.Errorf("%s: the next request is answered %d %s", name, res.StatusCode, text)
		}
	}
}
