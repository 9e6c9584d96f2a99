package wechat

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"testing"
)

// BenchmarkDo is a template message's call on a kept connection, the server's cheapest answer included.
func BenchmarkDo(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				in := bufio.NewReader(c)
				for {
					if _, err := in.Peek(1); err != nil {
						return
					}
					_, _ = in.Discard(in.Buffered()) // a request comes in one piece
					_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nDate: Sun, 22 Nov 2026 09:00:00 GMT\r\nContent-Type: application/json; encoding=utf-8\r\nContent-Length: 38\r\n\r\n"+goodReply[len(goodReply)-38:])
				}
			}()
		}
	}()
	client := New(Config{BaseURL: "http://" + l.Addr().String(), Transport: NewHTTP(HTTPConfig{})})
	body := fmt.Appendf(nil, `{"template_id":"T","data":{"thing2":{"value":"%0320d"}}}`, 1)
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if r := client.SendTemplate(context.Background(), canaryToken, "oUser", "0123", body); r.Class != Sent {
				b.Error(r.Err)
				return
			}
		}
	})
}
