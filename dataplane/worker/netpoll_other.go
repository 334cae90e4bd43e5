//go:build unix && !linux

package worker

import (
	"errors"
	"syscall"
	"time"
)

// iovecs is empty here: buffers are written one by one.
type iovecs struct{}

// rawRead reads what is there; the descriptor is non-blocking.
func rawRead(fd int, b []byte) (int, syscall.Errno) {
	for {
		n, err := syscall.Read(fd, b)
		if errno := errnoOf(err); errno != syscall.EINTR {
			return max(n, 0), errno
		}
	}
}

// rawWritev writes what the socket takes of bufs.
func rawWritev(fd int, _ *iovecs, bufs [][]byte) (sum int, errno syscall.Errno) {
	for _, b := range bufs {
		n, errno := 0, syscall.EINTR
		for errno == syscall.EINTR {
			k, err := syscall.Write(fd, b)
			n, errno = max(k, 0), errnoOf(err)
		}
		sum += n
		if errno != 0 && sum == 0 {
			return 0, errno
		}
		if n < len(b) {
			break
		}
	}
	return sum, 0
}

func errnoOf(err error) (errno syscall.Errno) {
	if err != nil && !errors.As(err, &errno) {
		return syscall.EIO
	}
	return errno
}

// rawQueued is not known here.
func rawQueued(int) int { return 0 }

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

// hungUp reports whether the peer has closed the connection and all that it
// sent was read.
func hungUp(fd int) bool {
	var b [1]byte
	n, _, err := syscall.Recvfrom(fd, b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return n == 0 && err == nil || errors.Is(err, syscall.ECONNRESET)
}
