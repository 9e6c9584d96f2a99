package devstack_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/devstack"
)

// echo answers each line with itself.
func echo(t *testing.T) (address string) {
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
			go func() { defer c.Close(); _, _ = io.Copy(c, c) }()
		}
	}()
	return l.Addr().String()
}

func TestLink(t *testing.T) {
	t.Parallel()
	link, err := devstack.OpenLink(echo(t))
	if err != nil {
		t.Fatal(err)
	}
	say := func() (time.Duration, error) {
		c, err := net.Dial("tcp", link.Addr())
		if err != nil {
			return 0, err
		}
		defer c.Close()
		start := time.Now()
		fmt.Fprintln(c, "hello")
		text, err := bufio.NewReader(c).ReadString('\n')
		if err == nil && text != "hello\n" {
			t.Errorf("it hands on %q", text)
		}
		return time.Since(start), err
	}
	if _, err := say(); err != nil {
		t.Errorf("a good line: %v", err)
	}
	link.Set(devstack.Weather{Jitter: 100 * time.Millisecond})
	var slowest time.Duration
	for range 10 { // two pieces each: that all are quick has the chance of one in a million
		took, err := say()
		if err != nil {
			t.Errorf("a line with jitter: %v", err)
		}
		slowest = max(slowest, took)
	}
	if slowest < 30*time.Millisecond {
		t.Errorf("with jitter the slowest answer takes %v", slowest)
	}
	link.Set(devstack.Weather{Delay: 50 * time.Millisecond})
	if took, err := say(); err != nil || took < 100*time.Millisecond {
		t.Errorf("a slow line answers after %v, %v, want 100ms", took, err)
	}
	link.Set(devstack.Weather{Resets: 1})
	if _, err := say(); err == nil || errors.Is(err, io.EOF) || link.Torn() != 1 {
		t.Errorf("a torn connection reads %v, %d are torn", err, link.Torn())
	}
	link.Set(devstack.Weather{})
	link.Cut()
	if _, err := say(); err == nil {
		t.Error("a cut line lets through")
	}
	link.Mend()
	if _, err := say(); err != nil {
		t.Errorf("a mended line: %v", err)
	}
	if err := link.Close(); err != nil {
		t.Error(err)
	}
}
