package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/pprof"

	"github.com/hongyan-dispatch/hongyan/internal/app"
	"github.com/hongyan-dispatch/hongyan/internal/config"
)

// childFlags is what a process of the benchmark is told.
type childFlags struct {
	Role       string `required:"" enum:"stub,limit,naive,worker,server,bareserver"`
	URL        string
	Redis      string
	Database   string
	Config     string
	Senders    int
	N          int
	PerSecond  int
	Client     string // of the limit
	CPUProfile string `name:"cpu-profile"`
}

func (f childFlags) run(ctx context.Context) error {
	switch f.Role {
	case "stub":
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		fmt.Println("http://" + l.Addr().String())
		return new(stub).serve(ctx, l)
	case "limit":
		return runLimit(ctx, f)
	case "naive":
		return runNaive(ctx, f)
	case "server":
		return runServer(ctx, f)
	case "bareserver":
		return runBareServer(ctx, f)
	default:
		return runWorker(ctx, f)
	}
}

// runWorker is Hongyan's worker, just as cmd/worker runs it.
func runWorker(ctx context.Context, f childFlags) error {
	c, err := config.Load(f.Config, os.LookupEnv)
	if err != nil {
		return err
	}
	if f.CPUProfile != "" {
		out, err := os.Create(f.CPUProfile)
		if err != nil {
			return err
		}
		defer out.Close()
		if err := pprof.StartCPUProfile(out); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	return app.Run(ctx, c, app.Options{Log: log, Ready: func() { fmt.Println("ready") }})
}

var stdin = bufio.NewReader(os.Stdin)

// waitForStart waits for a line from the parent.
func waitForStart() {
	if _, err := stdin.ReadString('\n'); err != nil && err != io.EOF {
		fmt.Fprintln(os.Stderr, "bench child:", err)
	}
}
