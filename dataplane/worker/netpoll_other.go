//go:build unix && !linux

package worker

import (
	"syscall"
	"time"
)

// iovecs is empty here: buffers are written one by one.
type iovecs struct{}

// rawRead reads what is there; the descriptor is non-blocking.
func rawRead(fd int, b []byte) (int, syscall.Errno) {
	for {
		n, err := syscall.Read(fd, b)
		if err != syscall.EINTR {
			return max(n, 0), errnoOf(err)
		}
	}
}

// rawWritev writes what the socket takes of bufs.
func rawWritev(fd int, _ *iovecs, bufs [][]byte) (sum int, errno syscall.Errno) {
	for _, b := range bufs {
		n, err := syscall.Write(fd, b)
		for err == syscall.EINTR {
			n, err = syscall.Write(fd, b)
		}
		sum += max(n, 0)
		if err != nil && sum == 0 {
			return 0, errnoOf(err)
		}
		if n < len(b) {
			break
		}
	}
	return sum, 0
}

func errnoOf(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	if e, ok := err.(syscall.Errno); ok {
		return e
	}
	return syscall.EIO
}

// shutdown ends both directions of c's socket. Here that wakes nobody if the
// connection is gone already; a deadline does.
func shutdown(c *netConn) {
	_ = syscall.Shutdown(c.fd, syscall.SHUT_RDWR)
	_ = c.nc.SetDeadline(time.Unix(1, 0))
}

// hangups does not exist here: every read goes on to EAGAIN.
type hangups struct{}

func newHangups(*netpoll) *hangups { return nil }
func (*hangups) add(*netConn) bool { return false }
func (*hangups) remove(int)        {}
func (*hangups) close()            {}
