package devstack

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// A Link is a bad line to a server: it hands on what it gets, late and in pieces, tears connections, or is cut. It may be
// used by several goroutines.
type Link struct {
	listener net.Listener
	to       string
	wg       sync.WaitGroup

	mu      sync.Mutex
	weather Weather
	cut     bool
	open    map[net.Conn]bool
	torn    int
}

// Weather is how bad a line is; the zero Weather is a good one.
type Weather struct {
	Delay  time.Duration // each piece is late by this
	Jitter time.Duration // and by up to this
	Resets float64       // chance of each piece to end its connection in its place
}

// OpenLink opens a line to an address, at a free port of loopback. Whoever opens one closes it.
func OpenLink(to string) (*Link, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l := &Link{listener: listener, to: to, open: map[net.Conn]bool{}}
	l.wg.Go(l.accept)
	return l, nil
}

// Addr is where the line begins.
func (l *Link) Addr() string { return l.listener.Addr().String() }

// Set changes the weather.
func (l *Link) Set(w Weather) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.weather = w
}

// Cut ends all connections and lets none through until Mend.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
	for c := range l.open {
		reset(c)
	}
}

// Mend lets connections through again.
func (l *Link) Mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = false
}

// Torn is how many connections the weather has ended.
func (l *Link) Torn() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.torn
}

// Close ends the line.
func (l *Link) Close() error {
	l.Cut()
	err := l.listener.Close()
	l.wg.Wait()
	return err
}

func (l *Link) accept() {
	for {
		near, err := l.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			l.wg.Go(func() { l.carry(near) })
		}
	}
}

// carry connects the two ends until either is done.
func (l *Link) carry(near net.Conn) {
	defer near.Close()
	if !l.enter(near) {
		reset(near)
		return
	}
	defer l.leave(near)
	far, err := net.DialTimeout("tcp", l.to, 5*time.Second)
	if err != nil {
		reset(near)
		return
	}
	defer far.Close()
	if !l.enter(far) {
		return
	}
	defer l.leave(far)
	var both sync.WaitGroup
	both.Go(func() { l.hand(near, far) })
	both.Go(func() { l.hand(far, near) })
	both.Wait()
}

// hand hands on in one direction; its end is the end of the connection.
func (l *Link) hand(from, to net.Conn) {
	piece := make([]byte, 16<<10)
	for {
		n, err := from.Read(piece)
		if n > 0 {
			late, torn := l.luck()
			time.Sleep(late)
			if torn {
				reset(from)
				reset(to)
				return
			}
			if _, err := to.Write(piece[:n]); err != nil {
				reset(from)
				return
			}
		}
		if errors.Is(err, io.EOF) {
			_ = to.(*net.TCPConn).CloseWrite()
			return
		}
		if err != nil {
			reset(to)
			return
		}
	}
}

func (l *Link) luck() (late time.Duration, torn bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	late = l.weather.Delay
	if j := l.weather.Jitter; j > 0 {
		late += rand.N(j)
	}
	if torn = rand.Float64() < l.weather.Resets; torn {
		l.torn++
	}
	return late, torn
}

func (l *Link) enter(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.cut {
		l.open[c] = true
	}
	return !l.cut
}

func (l *Link) leave(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, c)
}

// reset ends a connection as a broken line does: the other end reads an error, not an end.
func reset(c net.Conn) {
	_ = c.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
}
