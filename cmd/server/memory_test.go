package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// envLong has the tests of memory take as much as a server must bear: a body of 1 GiB, 10,000 connections.
const envLong = "HONGYAN_TEST_LONG"

func sizes[T any](short, long T) T {
	if os.Getenv(envLong) != "" {
		return long
	}
	return short
}

// shadow is how much more memory a program takes under the race detector, which keeps a record of each word.
func shadow() int64 {
	info, ok := debug.ReadBuildInfo()
	if ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		return 8
	}
	return 1
}

// resident is what the process has in memory, and had at most, in bytes.
func (p *process) resident() (now, most int64) {
	p.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if errors.Is(err, os.ErrNotExist) {
		p.t.Skip("NOT run: this system does not tell how much memory a process has")
	}
	for name, into := range map[string]*int64{"VmRSS": &now, "VmHWM": &most} {
		m := regexp.MustCompile(name + `:\s+(\d+) kB`).FindSubmatch(text)
		if m == nil {
			p.t.Fatalf("no %s in %s", name, text)
		}
		kib, _ := strconv.ParseInt(string(m[1]), 10, 64)
		*into = kib << 10
	}
	return now, most
}

// A mixture is a body of so many bytes that is nowhere whole: short lines, a line as long as a line may be, one that is
// longer, and one that ends nowhere near.
type mixture struct {
	left int64
	next int
	rest string
	of   []string
}

func newMixture(n int64) *mixture {
	var users strings.Builder
	for i := range 100_000 { // over three megabytes
		fmt.Fprintf(&users, `"oUSER%029d",`, i)
	}
	short := posted("news", "oA", "the same") + "\n"
	return &mixture{left: n, of: []string{
		strings.Repeat(short, (1<<20)/len(short)),
		`{"account":"news","kind":"mass","key":"many","to":[` + strings.TrimSuffix(users.String(), ",") + `],"mass":{"msgtype":"none"}}` + "\n",
		strings.Repeat(short, 100),
		`{"account":"news","kind":"template","to":"` + strings.Repeat("x", 6<<20) + `"}` + "\n",
	}}
}

func (m *mixture) Read(p []byte) (int, error) {
	if m.rest == "" {
		if m.left <= 0 {
			return 0, io.EOF
		}
		m.rest = m.of[m.next%len(m.of)]
		m.left -= int64(len(m.rest))
		m.next++
	}
	n := copy(p, m.rest)
	m.rest = m.rest[n:]
	return n, nil
}

// A stream may be as long as it likes: what the server holds of it is not.
func TestAStreamOfAnyLengthTakesLittleMemory(t *testing.T) {
	h := startAPI(t)
	key := h.key("all", "*:*:*")
	p, address := startBeside(h)
	length := sizes[int64](48<<20, 1<<30)
	r, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+address+"/v1/messages", newMixture(length))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+key)
	r.Header.Set("Content-Type", linesType)
	before, _ := p.resident()
	began := time.Now()
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	n, last, statuses := 0, "", map[string]int{}
	for results := bufio.NewScanner(res.Body); results.Scan(); n++ {
		last = results.Text()
		if m := regexp.MustCompile(`^{"line":\d+,"status":(\d+)`).FindStringSubmatch(last); m != nil {
			statuses[m[1]]++
		}
	}
	if !strings.HasPrefix(last, `{"done":true,`) || statuses["202"] == 0 || statuses["400"] == 0 || statuses["413"] == 0 {
		t.Errorf("after %d results of %v: %s", n, statuses, last)
	}
	_, most := p.resident()
	t.Logf("%d MiB in %v: %v; from %d MiB to at most %d MiB", length>>20, time.Since(began).Round(time.Second), statuses, before>>20, most>>20)
	if most-before > shadow()*64<<20 { // half of the shorter body
		t.Errorf("the server grew from %d MiB to %d MiB", before>>20, most>>20)
	}
}

// Half of the connections say nothing, half stand in the middle of a post: the server holds little for each, and others do
// not wait for them.
func TestManyConnectionsTakeLittleMemory(t *testing.T) {
	h := startAPI(t)
	key := h.key("all", "*:*:*")
	p, address := startBeside(h)
	connections := sizes(1000, 10_000)
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil || files.Cur < uint64(connections+500) {
		t.Skipf("NOT run: %d files may be open, %d connections want more (%v)", files.Cur, connections, err)
	}
	before, _ := p.resident()
	half := posted("news", "oB", "held")
	open := make([]net.Conn, connections)
	var err error
	for i := range open {
		if open[i], err = net.Dial("tcp", address); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		defer open[i].Close()
		if i%2 == 0 {
			fmt.Fprintf(open[i], "POST /v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
				key, len(half), half[:40])
		}
	}
	began := time.Now()
	h.url = "http://" + address
	h.want(202, key, "POST", "/v1/messages", posted("news", "oC", "between"), nil) // nobody waits for them
	waited := time.Since(began)
	_, most := p.resident()
	each := (most - before) / int64(connections)
	t.Logf("%d connections: from %d MiB to at most %d MiB, %d KiB each; another's post took %v", connections, before>>20, most>>20, each>>10, waited.Round(time.Millisecond))
	if each > shadow()*64<<10 {
		t.Errorf("%d bytes for each connection", each)
	}
	if waited > 5*time.Second {
		t.Errorf("another's post took %v", waited)
	}
	for i := 0; i < connections; i += 2 {
		fmt.Fprint(open[i], half[40:])
		if status, err := bufio.NewReader(open[i]).ReadString('\n'); err != nil || !strings.Contains(status, " 202 ") {
			t.Fatalf("connection %d: %q %v", i, status, err)
		}
	}
	_ = open[1].SetReadDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.Copy(io.Discard, open[1]); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a connection that says nothing stays")
	}
}
