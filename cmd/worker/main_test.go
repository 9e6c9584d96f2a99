package main

import (
	"io"
	"os"
	"testing"

	"github.com/hongyan-dispatch/hongyan/internal/devstack"
)

// envWorker makes a process of this test binary the command itself: workers in tests are processes of their own.
const envWorker = "HONGYAN_TEST_WORKER"

// envRelease is the version that such a worker says it is.
const envRelease = "HONGYAN_TEST_RELEASE"

func TestMain(m *testing.M) {
	if os.Getenv(envWorker) == "" {
		devstack.Main(m)
		return
	}
	go func() { // the tests hold the other end: a worker does not outlive them
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(exitOrphaned)
	}()
	release = os.Getenv(envRelease)
	main()
}

// exitOrphaned is how a worker ends whose tests have died.
const exitOrphaned = 9
