package report

import (
	"context"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// What Redis says in its own words is for a log; people are told what is not known, and why.
func TestARedisThatDoesNotAnswer(t *testing.T) {
	refused := func(words string) *redis.Client {
		return answering(t, func(c net.Conn) { fmt.Fprintf(c, "-%s\r\n", words) })
	}
	gone := redis.NewClient(&redis.Options{Dialer: func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(10, 1, 2, 3), Port: 6379}, Err: syscall.ECONNREFUSED}
	}, MaxRetries: -1})
	for name, c := range map[string]struct {
		rdb  *redis.Client
		is   func(*facts)
		want string
	}{
		"a custom message": {gone, nil, "whether a queue has it, whether the user may be answered, what is left of the day's calls: Redis cannot be reached"},
		"a template message that waits": {
			gone, func(f *facts) { f.status.State, f.status.Message.Kind = outcome.Parked, message.Template },
			"what is left of the day's calls: Redis cannot be reached",
		},
		"one of another configuration": {gone, func(f *facts) { f.account = nil }, "whether a queue has it: Redis cannot be reached"},
		"which loads":                  {refused("LOADING Redis is loading the dataset in memory"), nil, "the day's calls: Redis refuses to answer (LOADING)"},
		"which knows no such password": {refused("WRONGPASS invalid username-password pair of 'secretuser'"), nil, "Redis refuses to answer (WRONGPASS)"},
		"which is strange":             {refused("user_secret odd"), nil, "Redis refuses to answer"},
		"which says nothing":           {answering(t, func(net.Conn) {}), nil, "Redis did not answer within 5s"},
	} {
		t.Run(name, func(t *testing.T) {
			f := facts{account: &Account{}}
			f.status = postgres.Status{State: outcome.Accepted, Message: &message.Message{Account: "shop", Kind: message.Custom, To: "oA"}}
			f.around.Now = time.Now()
			if c.is != nil {
				c.is(&f)
			}
			logged := error(nil)
			f.redis(t.Context(), c.rdb, func(err error) { logged = err })
			if !strings.HasPrefix(f.noRedis, "not known is ") || !strings.HasSuffix(f.noRedis, c.want) || logged == nil {
				t.Errorf("got %q (%v), want %q", f.noRedis, logged, c.want)
			}
		})
	}
}

// answering is a Redis that gives each question the same answer.
func answering(t *testing.T, answer func(net.Conn)) *redis.Client {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for b := make([]byte, 4096); ; {
					n, err := c.Read(b)
					if err != nil {
						return
					}
					for range strings.Count("\r\n"+string(b[:n]), "\r\n*") {
						answer(c)
					}
				}
			}()
		}
	}()
	rdb := redis.NewClient(&redis.Options{Addr: l.Addr().String(), MaxRetries: -1, ReadTimeout: 100 * time.Millisecond, DisableIdentity: true})
	t.Cleanup(func() { rdb.Close() })
	return rdb
}
