//go:build chaos

package fault

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// Compiled says whether this program can be told to fail.
const Compiled = true

var (
	point, only, left = readAt(os.Getenv("HONGYAN_FAULT_AT"))
	without           = readWithout(os.Getenv("HONGYAN_FAULT_WITHOUT"))
)

func readAt(text string) (_ Point, of string, left *atomic.Int64) {
	name, times, _ := strings.Cut(text, ":")
	name, of, _ = strings.Cut(name, "/")
	n := int64(1)
	if times != "" {
		var err error
		if n, err = strconv.ParseInt(times, 10, 64); err != nil || n < 1 {
			panic(fmt.Sprintf("HONGYAN_FAULT_AT=%s: want a point and, after a colon, a number from 1", text))
		}
	}
	if name != "" && !slices.Contains(Points(), Point(name)) {
		panic(fmt.Sprintf("HONGYAN_FAULT_AT=%s: no such point; there are %v", text, Points()))
	}
	left = new(atomic.Int64)
	left.Store(n)
	return Point(name), of, left
}

func readWithout(text string) []Safety {
	var list []Safety
	for name := range strings.SplitSeq(text, ",") {
		if name == "" {
			continue
		}
		if !slices.Contains(Safeties(), Safety(name)) {
			panic(fmt.Sprintf("HONGYAN_FAULT_WITHOUT=%s: no such safety; there are %v", text, Safeties()))
		}
		list = append(list, Safety(name))
	}
	return list
}

// At ends the process, as kill -9 does, where it was told to. The point is passed by a message of a kind, or by a
// call of an API; empty: by whatever.
func At(p Point, of string) {
	if p == point && (only == "" || only == of) && left.Add(-1) == 0 {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // nothing more happens here until the signal has come
	}
}

// Has says whether the safety is there.
func Has(s Safety) bool { return !slices.Contains(without, s) }
