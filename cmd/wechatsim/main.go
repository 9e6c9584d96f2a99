// Wechatsim serves a simulator of the WeChat Official Account API: a test bed that enforces WeChat's rules
// and keeps a log of every message that it accepted.
package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
)

//go:embed default.yaml
var defaultScenario []byte

type flags struct {
	Listen   string `help:"Address to listen on; port 0 takes a free one." placeholder:"ADDR" default:"127.0.0.1:8090"`
	Scenario string `help:"File with accounts, users, limits and faults (YAML). Without one there are two accounts, wx0000000000000001 and wx0000000000000002, whose followers are everybody." placeholder:"FILE"`
	Latency  string `help:"How long answers take: 20ms, 60ms-350ms, or 60ms-350ms,5s@0.001 for rare stalls. Wins over the scenario's." placeholder:"TIME"`
}

const help = `Simulates the WeChat Official Account API: tokens, template messages, subscription
notifications, customer service, mass send, quotas. It enforces WeChat's rules, injects
faults and keeps a log of every message that it accepted. An account with a callback is
pushed what its users do, and a receipt for each message.

Point an account's base_url at it. Its own administration is under /_sim/: GET /_sim/state,
GET /_sim/accepts, GET /_sim/pushes, POST /_sim/faults, POST /_sim/clock and more. Users write, click,
follow and leave by POST /_sim/accounts/APPID/act {openid: oX, action: message}.`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the command: 0 done, 1 failed, 2 bad input.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var f flags
	helped := false
	parser, err := kong.New(&f, kong.Name("wechatsim"), kong.Description(help),
		kong.Writers(stdout, stderr), kong.Exit(func(int) { helped = true }))
	if err != nil {
		panic(err) // the flags above are wrong
	}
	_, err = parser.Parse(args)
	if helped {
		return 0
	}
	if err != nil {
		return complain(stderr, 2, fmt.Errorf("%w (see wechatsim --help)", err))
	}
	sim, err := f.simulator()
	if err != nil {
		return complain(stderr, 2, err)
	}
	defer sim.Close()
	if _, port, err := net.SplitHostPort(f.Listen); err != nil || !isPort(ctx, port) {
		return complain(stderr, 2, fmt.Errorf("--listen: want HOST:PORT, such as 127.0.0.1:8090, got %q", f.Listen))
	}
	listener, err := net.Listen("tcp", f.Listen)
	if err != nil {
		return complain(stderr, 1, err)
	}
	_, _ = fmt.Fprintf(stdout, "listening on http://%s (seed %d)\n", listener.Addr(), sim.Seed())
	if err := serve(ctx, sim, listener); err != nil {
		return complain(stderr, 1, err)
	}
	return 0
}

func isPort(ctx context.Context, port string) bool {
	_, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
	return err == nil
}

func complain(stderr io.Writer, code int, err error) int {
	_, _ = fmt.Fprintf(stderr, "wechatsim: %v\n", err)
	return code
}

// simulator makes the simulator that the flags ask for.
func (f *flags) simulator() (*wechattest.Sim, error) {
	if f.Latency != "" {
		if _, err := wechattest.ParseLatency(f.Latency); err != nil {
			return nil, fmt.Errorf("--latency: %w", err)
		}
	}
	text := defaultScenario
	if f.Scenario != "" {
		var err error
		if text, err = os.ReadFile(f.Scenario); err != nil {
			return nil, fmt.Errorf("--scenario: %w", err)
		}
	}
	sim, err := f.start(text)
	if err != nil && f.Scenario != "" {
		return nil, fmt.Errorf("%s: %w (keys and values: examples/wechatsim.yaml)", f.Scenario, err)
	}
	return sim, err
}

func (f *flags) start(text []byte) (*wechattest.Sim, error) {
	scenario, err := wechattest.ReadScenario(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	if f.Latency != "" {
		scenario.Latency = f.Latency
	}
	return scenario.Start()
}

// serve answers until ctx ends, then lets calls that are under way end.
func serve(ctx context.Context, sim *wechattest.Sim, listener net.Listener) error {
	server := &http.Server{Handler: sim, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	sim.Close()
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := server.Shutdown(ending); err != nil {
		_ = server.Close()
	}
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
