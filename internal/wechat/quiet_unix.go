//go:build unix

package wechat

import "syscall"

// quiet looks at a socket without waiting: a closed one has its end to read.
func quiet(fd uintptr) bool {
	var one [1]byte
	_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK)
	return err == syscall.EAGAIN
}
