package devstack

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports are drawn from below the range out of which systems number outgoing connections (Linux 32768,
// macOS 49152). Inside it a client that redials a stopped server could be given the server's own port,
// connect to itself, and keep the server from coming back.
const (
	firstPort = 18000
	lastPort  = 31999
)

// freePort is a loopback port nobody listens on at this moment; who binds it must be ready to lose it.
func freePort() (int, error) {
	for range 200 {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		l, err := net.Listen("tcp", addr(port))
		if err != nil {
			continue
		}
		return port, l.Close()
	}
	return 0, errors.New("no free loopback port between 18000 and 31999")
}

func addr(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
