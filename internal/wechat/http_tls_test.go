package wechat

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// bunched sends what is written between hold and release in one piece, so that it is read in one piece.
type bunched struct {
	net.Conn
	held bool
	out  bytes.Buffer
}

func (b *bunched) Write(p []byte) (int, error) {
	if b.held {
		return b.out.Write(p)
	}
	return b.Conn.Write(p)
}

func (b *bunched) release() {
	b.held = false
	_, _ = b.out.WriteTo(b.Conn)
}

// SetWriteDeadline does nothing: a TLS connection that says goodbye leaves one that is over.
func (b *bunched) SetWriteDeadline(time.Time) error { return nil }

// tlsServer answers with one piece of TLS records for each request.
func tlsServer(t *testing.T, answer func(n int64, c *tls.Conn)) (*HTTP, Call) {
	t.Helper()
	names := httptest.NewTLSServer(nil) // for its certificate
	names.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	var requests atomic.Int64
	go func() {
		for {
			socket, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer socket.Close()
				piece := &bunched{Conn: socket}
				c := tls.Server(piece, &tls.Config{Certificates: names.TLS.Certificates, DynamicRecordSizingDisabled: true})
				in := bufio.NewReader(c)
				for {
					r, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, r.Body)
					piece.held = true
					answer(requests.Add(1), c)
					piece.release()
				}
			}()
		}
	}()
	transport := NewHTTP(HTTPConfig{TLS: names.Client().Transport.(*http.Transport).TLSClientConfig})
	t.Cleanup(transport.Close)
	return transport, post(t, "https://"+l.Addr().String())
}

// crypto/tls reads ahead: what came with an answer lies where a look at the socket does not find it.
func TestWhatATLSConnectionHasReadAheadIsSeen(t *testing.T) {
	const stray = "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n" + `{"msgid":1}`
	long := "HTTP/1.1 200 OK\r\nContent-Length: 12000\r\n\r\n" + strings.Repeat(" ", 12000)
	for name, first := range map[string]func(*tls.Conn){
		"another answer in a record of its own": func(c *tls.Conn) {
			_, _ = io.WriteString(c, goodReply)
			_, _ = io.WriteString(c, stray)
		},
		"another answer in the same record": func(c *tls.Conn) { _, _ = io.WriteString(c, long+stray) },
		"goodbye": func(c *tls.Conn) {
			_, _ = io.WriteString(c, goodReply)
			_ = c.CloseWrite()
		},
	} {
		t.Run(name, func(t *testing.T) {
			transport, call := tlsServer(t, func(n int64, c *tls.Conn) {
				if n == 1 {
					first(c)
					return
				}
				_, _ = io.WriteString(c, goodReply)
			})
			if _, _, err := transport.Do(t.Context(), call); err != nil {
				t.Fatal(err)
			}
			reply, _, err := transport.Do(t.Context(), call)
			if err != nil || string(reply.Body) != goodReply[len(goodReply)-38:] {
				t.Errorf("the next call got %q, %v", reply.Body, err)
			}
		})
	}
}
