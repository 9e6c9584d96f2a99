package callback

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/url"
	"testing"
	"time"
)

func TestSlowBodiesEnd(t *testing.T) {
	d := serve(t, Encrypted, func(_ *Endpoint, o *HandlerOptions) { o.Patience = 300 * time.Millisecond })
	u, _ := url.Parse(d.url)
	q, _ := weChat.push(says("hello"), time.Now())
	c, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "POST %s?%s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n<", u.Path, q.Encode())
	answer, err := io.ReadAll(c) // ends when the server closes
	if err != nil || !bytes.HasPrefix(answer, []byte("HTTP/1.1 408")) {
		t.Errorf("got %q, %v", answer, err)
	}
}

func TestTooManyAtATimeAreSentAway(t *testing.T) {
	d := serve(t, Encrypted, func(_ *Endpoint, o *HandlerOptions) { o.MaxParallel = 20 })
	d.book.holds = make(chan struct{})
	const n = 200
	statuses := make(chan int, n)
	for range n {
		go func() {
			q, body := weChat.push(says("hello"), time.Now())
			status, _ := d.post(q, body)
			statuses <- status
		}()
	}
	got := map[int]int{}
	for tooLate := time.After(30 * time.Second); len(got) < 2 && got[503] < n-20; { // those under way wait for the stores
		select {
		case status := <-statuses:
			got[status]++
		case <-tooLate:
			close(d.book.holds)
			t.Fatalf("got %v, want all but 20 sent away", got)
		}
	}
	close(d.book.holds)
	for range 20 {
		got[<-statuses]++
	}
	if got[503] != n-20 || got[200] != 20 {
		t.Errorf("got %v, want 20 answered and the others sent away", got)
	}
}

// Who opens a POST, bears no signature, and sends its body slowly takes a part of the slots; WeChat gets the others.
func TestSlowStrangersKeepNobodyOut(t *testing.T) {
	d := serve(t, Encrypted, func(_ *Endpoint, o *HandlerOptions) { o.MaxParallel, o.Patience = 8, 20*time.Second })
	u, _ := url.Parse(d.url)
	answers := make(chan string, 50)
	for range 50 {
		c, err := net.Dial("tcp", u.Host)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		fmt.Fprintf(c, "POST %s?timestamp=%d&nonce=1&msg_signature=0 HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n<", u.Path, time.Now().Unix())
		go func() {
			head := make([]byte, len("HTTP/1.1 503"))
			_, _ = io.ReadFull(c, head)
			answers <- string(head)
		}()
	}
	for range 50 - 8/strangersShare { // the others hold their slots
		if got := <-answers; got != "HTTP/1.1 503" {
			t.Fatalf("a stranger over the share got %q", got)
		}
	}
	for range 20 {
		q, body := weChat.push(says("hello"), time.Now())
		if status, text := d.post(q, body); status != 200 || text != Success {
			t.Fatalf("WeChat got %d %q", status, text)
		}
	}
}
