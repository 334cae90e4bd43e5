//go:build unix

package dataplane

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/sluice-proxy/sluice/dataplane/listener"
	"golang.org/x/sys/unix"
)

// defaultBacklog is for listeners without tcp_backlog_size; the system caps it
// (net.core.somaxconn).
const defaultBacklog = 4096

// reserve binds a new socket to a without listening: the address is ours, or
// the error says why not, and no client can connect yet.
func reserve(a listener.Address, reusePort bool) (fd int, err error) {
	if a.Network == "unix" {
		return reserveUnix(a)
	}
	sa, v6only, err := sockaddr(a)
	if err != nil {
		return -1, err
	}
	// SO_REUSEADDR passes over connections of an earlier process in TIME_WAIT,
	// but while we do not listen it also lets others have the address. So it
	// is the second try.
	fd, err = reserveTCP(sa, v6only, reusePort, false)
	if errors.Is(err, unix.EADDRINUSE) {
		fd, err = reserveTCP(sa, v6only, reusePort, true)
	}
	return fd, err
}

func reserveTCP(sa unix.Sockaddr, v6only int, reusePort, reuseAddr bool) (int, error) {
	domain := unix.AF_INET
	if _, ok := sa.(*unix.SockaddrInet6); ok {
		domain = unix.AF_INET6
	}
	fd, err := newSocket(domain)
	if err != nil {
		return -1, err
	}
	set := func(level, name, value int) {
		if err == nil {
			err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, level, name, value))
		}
	}
	if reuseAddr {
		set(unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if reusePort {
		set(unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}
	if domain == unix.AF_INET6 {
		set(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, v6only)
	}
	if err == nil {
		err = unix.Bind(fd, sa)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// newSocket returns a non-blocking stream socket that children do not inherit.
func newSocket(domain int) (int, error) {
	fd, err := unix.Socket(domain, unix.SOCK_STREAM, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return -1, os.NewSyscallError("setnonblock", err)
	}
	return fd, nil
}

// sockaddr parses a TCP address. The network "tcp" on an unspecified IPv6
// address takes IPv4 clients too, "tcp6" does not.
func sockaddr(a listener.Address) (sa unix.Sockaddr, v6only int, err error) {
	switch a.Network {
	case "tcp", "tcp4", "tcp6":
	default:
		return nil, 0, fmt.Errorf("network %q is not supported", a.Network)
	}
	ap, err := netip.ParseAddrPort(a.Address)
	if err != nil {
		return nil, 0, fmt.Errorf("not an IP address and port: %w", err)
	}
	if ip := ap.Addr(); ip.Is4() {
		return &unix.SockaddrInet4{Port: int(ap.Port()), Addr: ip.As4()}, 0, nil
	}
	if a.Network == "tcp6" {
		v6only = 1
	}
	s := &unix.SockaddrInet6{Port: int(ap.Port()), Addr: ap.Addr().As16()}
	if z := ap.Addr().Zone(); z != "" {
		if id, err := strconv.ParseUint(z, 10, 32); err == nil {
			s.ZoneId = uint32(id)
		} else {
			ifi, err := net.InterfaceByName(z)
			if err != nil {
				return nil, 0, fmt.Errorf("zone %q: %w", z, err)
			}
			s.ZoneId = uint32(ifi.Index)
		}
	}
	return s, v6only, nil
}

// reserveUnix binds a Unix socket. A path that a dead process left behind is
// taken over, one on which somebody listens is not.
func reserveUnix(a listener.Address) (int, error) {
	abstract := strings.HasPrefix(a.Address, "@")
	fd, err := newSocket(unix.AF_UNIX)
	if err != nil {
		return -1, err
	}
	sa := &unix.SockaddrUnix{Name: a.Address}
	err = unix.Bind(fd, sa)
	if errors.Is(err, unix.EADDRINUSE) && !abstract {
		if err = removeStale(a.Address); err == nil {
			err = unix.Bind(fd, sa)
		}
	}
	if err == nil && a.Mode != 0 && !abstract {
		if err = unix.Chmod(a.Address, a.Mode); err != nil {
			err = os.NewSyscallError("chmod", err)
			_ = unix.Unlink(a.Address)
		}
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// removeStale removes a socket that nobody listens on; anything else at path
// stays, and is the error.
func removeStale(path string) error {
	fi, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if fi.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("%s is there and is not a socket", path)
	}
	c, err := net.Dial("unix", path)
	if err == nil {
		_ = c.Close()
		return unix.EADDRINUSE
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return unix.EADDRINUSE
	}
	return os.Remove(path)
}

// listen makes a reserved socket accept. It takes fd in any case.
func listen(fd, backlog int) (deadliner, error) {
	if backlog <= 0 {
		backlog = defaultBacklog
	}
	f := os.NewFile(uintptr(fd), "listener")
	defer func() { _ = f.Close() }()
	if err := unix.Listen(fd, backlog); err != nil {
		return nil, os.NewSyscallError("listen", err)
	}
	ln, err := net.FileListener(f) // a duplicate
	if err != nil {
		return nil, err
	}
	return ln.(deadliner), nil
}
