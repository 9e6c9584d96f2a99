package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A link carries bytes to a server and back, each piece later by a delay.
type link struct {
	to       string
	listener net.Listener
	delay    atomic.Int64
	mu       sync.Mutex
	open     map[net.Conn]bool
}

func openLink(to string) (*link, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("link: %w", err)
	}
	k := &link{to: to, listener: l, open: map[net.Conn]bool{}}
	go k.serve()
	return k, nil
}

func (k *link) addr() string { return k.listener.Addr().String() }

func (k *link) slow(by time.Duration) { k.delay.Store(int64(by)) }

func (k *link) serve() {
	for {
		near, err := k.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		} else if err != nil {
			continue
		}
		far, err := net.Dial("tcp", k.to)
		if err != nil {
			_ = near.Close()
			continue
		}
		k.mu.Lock()
		k.open[near], k.open[far] = true, true
		k.mu.Unlock()
		go k.carry(near, far)
		go k.carry(far, near)
	}
}

// carry is one direction. Pieces keep their distance: a slow link delays, it does not throttle.
func (k *link) carry(from, to net.Conn) {
	type piece struct {
		at   time.Time
		text []byte
	}
	pieces := make(chan piece, 1024)
	go func() {
		for p := range pieces {
			time.Sleep(time.Until(p.at))
			if _, err := to.Write(p.text); err != nil {
				break
			}
		}
		k.drop(from, to)
		for range pieces { // until the reader has seen it
		}
	}()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			pieces <- piece{time.Now().Add(time.Duration(k.delay.Load()) / 2), append([]byte(nil), buffer[:n]...)}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				k.drop(from, to)
			}
			close(pieces)
			return
		}
	}
}

func (k *link) drop(conns ...net.Conn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
		delete(k.open, c)
	}
}

func (k *link) close() {
	_ = k.listener.Close()
	k.mu.Lock()
	defer k.mu.Unlock()
	for c := range k.open {
		_ = c.Close()
	}
}
