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
	"time"
)

// Compiled says whether this program can be told to fail.
const Compiled = true

var (
	dies    = readAt("HONGYAN_FAULT_AT")
	stops   = readAt("HONGYAN_FAULT_STOP")
	without = readWithout(os.Getenv("HONGYAN_FAULT_WITHOUT"))
)

// A passage is a point, passed by messages of some kind for the n-th time.
type passage struct {
	point Point
	only  string
	left  atomic.Int64
}

func readAt(variable string) *passage {
	text := os.Getenv(variable)
	name, times, _ := strings.Cut(text, ":")
	name, only, _ := strings.Cut(name, "/")
	n := int64(1)
	if times != "" {
		var err error
		if n, err = strconv.ParseInt(times, 10, 64); err != nil || n < 1 {
			panic(fmt.Sprintf("%s=%s: want a point and, after a colon, a number from 1", variable, text))
		}
	}
	if name != "" && !slices.Contains(Points(), Point(name)) {
		panic(fmt.Sprintf("%s=%s: no such point; there are %v", variable, text, Points()))
	}
	p := &passage{point: Point(name), only: only}
	p.left.Store(n)
	return p
}

// now says whether this is the one.
func (p *passage) now(at Point, of string) bool {
	return at == p.point && (p.only == "" || p.only == of) && p.left.Add(-1) == 0
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

// At ends the process, as kill -9 does, where it was told to, or stops it until somebody lets it go on. The point is
// passed by a message of a kind, or by a call of an API; empty: by whatever.
func At(p Point, of string) {
	if dies.now(p, of) {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // nothing more happens here until the signal has come
	}
	if stops.now(p, of) {
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		time.Sleep(100 * time.Millisecond) // the signal may come a moment later; it stops this sleep, too
	}
}

// Has says whether the safety is there.
func Has(s Safety) bool { return !slices.Contains(without, s) }
