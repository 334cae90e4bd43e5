//go:build unix

package dataplane

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/listener"
	"golang.org/x/sys/unix"
)

const (
	// acceptGrace is how long an address that is given up still accepts, so
	// that the clients in its queue are served (and drained), not reset.
	acceptGrace = 20 * time.Millisecond
	// queueWait is how long the queue must then be empty, at least, and queueMax
	// how many are taken out of it at most: no queue is longer.
	queueWait = time.Millisecond
	queueMax  = 1 << 16
	// Back-off after an accept that failed: descriptors or memory ran out.
	acceptBackoffMin = 5 * time.Millisecond
	acceptBackoffMax = time.Second
)

// deadliner is a net.Listener whose Accept can be woken up.
type deadliner interface {
	net.Listener
	SetDeadline(time.Time) error
}

// socket is one address that is ours: reserved at first, accepting later.
type socket struct {
	// Set at creation.

	s         *Server
	key       string
	addr      listener.Address
	reusePort bool

	// owner gets the connections: the holder, from its Serve on.
	owner atomic.Pointer[binding]

	// Guarded by Server.mu.

	holder  *binding  // whose address it is
	fd      int       // of a reserved socket; -1 when ln has it
	ln      deadliner // nil: reserved only
	accepts bool      // the goroutine accept runs
	closing bool      // accepts until its deadline, unless a binding takes it over
}

// newSocket reserves a for b.
func (s *Server) newSocket(b *binding, key string, a listener.Address, reusePort bool) (*socket, error) {
	fd, err := reserve(a, reusePort)
	if err != nil {
		return nil, fmt.Errorf("address %s: bind: %w", a.Address, err)
	}
	return &socket{s: s, key: key, addr: a, reusePort: reusePort, holder: b, fd: fd}, nil
}

// listenLocked makes k listen; clients wait in its queue until acceptLocked.
func (k *socket) listenLocked(backlog int) error {
	if k.ln != nil {
		return nil
	}
	fd := k.fd
	k.fd = -1
	ln, err := listen(fd, backlog)
	if err != nil {
		return fmt.Errorf("address %s: %w", k.addr.Address, err)
	}
	k.ln = ln
	return nil
}

// acceptLocked makes k accept for its holder.
func (k *socket) acceptLocked() {
	k.owner.Store(k.holder)
	if !k.accepts {
		k.accepts = true
		k.s.accepting.Go(k.accept)
	}
}

// releaseLocked gives the address up: at once, or after acceptGrace if it
// accepts.
func (k *socket) releaseLocked() {
	if !k.accepts {
		k.closeLocked()
		return
	}
	k.closing = true
	_ = k.ln.SetDeadline(time.Now().Add(acceptGrace))
}

// adoptLocked gives a socket that is about to close to b instead. Until b
// serves, it goes on for the owner that was removed, whose connections drain.
func (k *socket) adoptLocked(b *binding) {
	k.closing = false
	k.holder = b
	_ = k.ln.SetDeadline(time.Time{})
}

// closeLocked closes k and forgets it. From then on its address may be another
// socket's.
func (k *socket) closeLocked() {
	k.closing = false
	delete(k.s.sockets, k.key)
	// The path goes before the descriptor: nobody else can have bound it yet.
	if k.addr.Network == "unix" && k.addr.Address[0] != '@' {
		_ = os.Remove(k.addr.Address)
	}
	if k.ln != nil {
		_ = k.ln.Close()
	} else if k.fd >= 0 {
		_ = unix.Close(k.fd)
		k.fd = -1
	}
}

// bound returns the address as the system has it: with the port it chose.
func (k *socket) bound() string {
	if k.ln != nil {
		if k.addr.Network == "unix" {
			return k.addr.Address
		}
		return k.ln.Addr().String()
	}
	sa, err := unix.Getsockname(k.fd)
	if err != nil {
		return k.addr.Address
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)).String()
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port)).String()
	}
	return k.addr.Address
}

// accept runs until k is closed. It survives every error: a proxy that stops
// accepting because descriptors ran out once is worse than one that waits.
func (k *socket) accept() {
	backoff := time.Duration(0)
	over, last := false, 0 // the grace is over; what the queue held then
	wait := queueWait
	for {
		nc, err := k.ln.Accept()
		switch {
		case err == nil:
			backoff, wait = 0, queueWait
			k.owner.Load().serve(nc)
			if over {
				last++
				over = k.extend(wait)
			}
		case errors.Is(err, os.ErrDeadlineExceeded):
			// After its deadline Accept does not even look at the queue, and on a
			// busy machine it may come too late to look at all.
			if over && k.queued() {
				wait *= 2
			} else if over && k.closeIfClosing() {
				return
			}
			over = k.extend(wait)
		case errors.Is(err, net.ErrClosed):
			return
		case errors.Is(err, unix.ECONNABORTED): // the client left the queue
		default:
			if backoff == 0 {
				backoff = acceptBackoffMin
				k.s.log.Warn("accept failed", "listener", k.owner.Load().name, "address", k.addr.Address, "reason", err)
			} else {
				backoff = min(2*backoff, acceptBackoffMax)
			}
			k.s.pause(backoff)
		}
		if last >= queueMax && k.closeIfClosing() {
			return
		}
	}
}

// extend gives a socket whose grace is over some time to take what is queued,
// and reports whether it is one.
func (k *socket) extend(wait time.Duration) bool {
	k.s.mu.Lock()
	defer k.s.mu.Unlock()
	if k.closing {
		_ = k.ln.SetDeadline(time.Now().Add(wait))
	}
	return k.closing
}

// queued reports whether a client waits in the queue.
func (k *socket) queued() (yes bool) {
	sc, ok := k.ln.(syscall.Conn)
	if !ok {
		return false
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	err = rc.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 0)
		yes = n == 1 && err == nil && p[0].Revents&unix.POLLIN != 0
	})
	return yes && err == nil
}

// closeIfClosing ends the grace of a socket that nobody took over.
func (k *socket) closeIfClosing() bool {
	k.s.mu.Lock()
	defer k.s.mu.Unlock()
	if !k.closing {
		return false
	}
	k.closeLocked()
	return true
}

// connInfo describes an accepted connection.
func connInfo(id uint64, name string, nc net.Conn) *call.Conn {
	return &call.Conn{ID: id, Listener: name, Remote: addrPort(nc.RemoteAddr()), Local: addrPort(nc.LocalAddr())}
}

// addrPort returns a as IP and port, zero for a Unix socket. IPv4 clients of a
// dual-stack socket are IPv4.
func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
