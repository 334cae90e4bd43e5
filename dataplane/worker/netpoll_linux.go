package worker

import (
	"errors"
	"os"
	"syscall"
	"unsafe"
)

// iovecs is what one writev is made of. The worker's driver has one, so that a
// write allocates nothing.
type iovecs [maxIovecs]syscall.Iovec

// rawRead reads what is there. The descriptor is non-blocking, so the
// scheduler need not hear of the call.
func rawRead(fd int, b []byte) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		if errno != syscall.EINTR {
			return int(n), errno
		}
	}
}

// rawWritev writes what the socket takes of bufs, at most maxIovecs of them.
func rawWritev(fd int, iov *iovecs, bufs [][]byte) (int, syscall.Errno) {
	for {
		var n uintptr
		var errno syscall.Errno
		if len(bufs) == 1 {
			n, _, errno = syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(bufs[0]))), uintptr(len(bufs[0])))
		} else {
			for i, b := range bufs {
				iov[i].Base = unsafe.SliceData(b)
				iov[i].SetLen(len(b))
			}
			n, _, errno = syscall.RawSyscall(syscall.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&iov[0])), uintptr(len(bufs)))
		}
		if errno != syscall.EINTR {
			return int(n), errno
		}
	}
}

// rawQueued returns how many bytes the peer has not acknowledged.
func rawQueued(fd int) int {
	var n int32
	if _, _, errno := syscall.RawSyscall(syscall.SYS_IOCTL, uintptr(fd), syscall.TIOCOUTQ, uintptr(unsafe.Pointer(&n))); errno != 0 {
		return 0
	}
	return int(n)
}

// shutdown ends both directions of c's socket and so wakes its goroutines,
// even if the connection is gone already: inet_shutdown reports the state
// change in every state.
func shutdown(c *netConn) {
	_ = syscall.Shutdown(c.fd, syscall.SHUT_RDWR)
}

// hangups watches the sockets of one worker for the end of what the peer
// sends. The runtime's poller is edge-triggered: bytes and the FIN that come in
// before their event is collected are one edge, a short read takes the bytes,
// and no edge ever tells of the FIN. So a second epoll set asks for
// EPOLLRDHUP only; the set is itself a descriptor in the runtime's poller.
type hangups struct {
	d  *netpoll
	ep int
	f  *os.File

	conns map[int32]*netConn // by descriptor; guarded by the worker's lock
}

// newHangups returns a running watcher, nil if the system refuses one.
func newHangups(d *netpoll) *hangups {
	ep, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil
	}
	if err := syscall.SetNonblock(ep, true); err != nil { // the runtime polls only such
		_ = syscall.Close(ep)
		return nil
	}
	h := &hangups{d: d, ep: ep, f: os.NewFile(uintptr(ep), "hangups"), conns: make(map[int32]*netConn)}
	rc, err := h.f.SyscallConn()
	if err != nil {
		_ = h.f.Close()
		return nil
	}
	d.wg.Go(func() { _ = rc.Read(h.collect) }) // ends when f is closed
	return h
}

// collect takes the events that are there and reads their connections to the
// end. It never says that it is done.
func (h *hangups) collect(uintptr) bool {
	var ev [64]syscall.EpollEvent
	for {
		n, err := syscall.EpollWait(h.ep, ev[:], 0)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if n <= 0 {
			return false
		}
		h.d.w.begin()
		for _, e := range ev[:n] {
			// A descriptor that was closed and given away since is in the map
			// as its new owner, who has nothing against being read.
			if c := h.conns[e.Fd]; c != nil {
				h.d.read(c.k, true)
			}
		}
		h.d.w.end()
	}
}

// add watches c and reports whether it could. Called under the lock.
func (h *hangups) add(c *netConn) bool {
	h.conns[int32(c.fd)] = c
	e := syscall.EpollEvent{Events: syscall.EPOLLRDHUP | epollET, Fd: int32(c.fd)}
	return syscall.EpollCtl(h.ep, syscall.EPOLL_CTL_ADD, c.fd, &e) == nil
}

// epollET is syscall.EPOLLET as the type of EpollEvent.Events has it.
const epollET = 1 << 31

// remove forgets a descriptor that is about to be closed; closing takes it out
// of the set. Called under the lock.
func (h *hangups) remove(fd int) { delete(h.conns, int32(fd)) }

func (h *hangups) close() { _ = h.f.Close() }

// hungUp reports whether the peer has closed the connection, read or not what
// it sent.
func hungUp(fd int) bool {
	const pollRDHUP, pollErr, pollHUP = 0x2000, 0x8, 0x10
	p := struct {
		fd              int32
		events, revents int16
	}{fd: int32(fd), events: pollRDHUP}
	var now syscall.Timespec
	n, _, errno := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&p)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	return errno == 0 && n == 1 && p.revents&(pollRDHUP|pollErr|pollHUP) != 0
}
