package grpcclient

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/credentials"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/clock"
)

// hostConn is a connection that reports its end to the backend set once.
type hostConn struct {
	net.Conn
	dialer  *dialer
	host    call.Host
	attempt int
	start   clock.Nanos

	read  atomic.Uint64 // bytes
	wrote atomic.Uint64 // bytes
	up    atomic.Bool   // the credentials' handshake succeeded
	cut   atomic.Bool   // the peer broke the connection
	close sync.Once
}

func (c *hostConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.read.Add(uint64(n))
	// A deadline or our own Close says nothing of the host, and an EOF after
	// the handshake is how servers go.
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && !isTimeout(err) {
		c.cut.Store(true)
	}
	return n, err
}

func (c *hostConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.wrote.Add(uint64(n))
	return n, err
}

func (c *hostConn) Close() error {
	err := c.Conn.Close()
	c.close.Do(c.report)
	return err
}

// report tells the backend set how the connection did: badly if the handshake
// failed, or if the host broke it or never said anything.
func (c *hostConn) report() {
	o := &call.Outcome{
		Host: c.host, Attempt: c.attempt, Connected: true, MaybeSeen: true,
		Start: c.start, End: c.dialer.now(), BytesIn: c.wrote.Load(), BytesOut: c.read.Load(),
	}
	if !c.up.Load() || c.cut.Load() || c.read.Load() == 0 {
		o.Code, o.Flags, o.Side = call.Unavailable, call.UpstreamConnTerm, call.SideUpstream
	}
	c.dialer.set.Done(c.host, o)
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// watchedCredentials tell a hostConn that its handshake succeeded. A failure
// cannot be told: the credentials close the connection before they return.
type watchedCredentials struct {
	credentials.TransportCredentials
}

func (w watchedCredentials) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := w.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if hc, ok := raw.(*hostConn); ok && err == nil {
		hc.up.Store(true)
	}
	return conn, info, err
}

// Info hides the server name that TLS checks: grpc-go would insist that it is
// the authority, but Envoy's sni and authority are independent.
func (w watchedCredentials) Info() credentials.ProtocolInfo {
	info := w.TransportCredentials.Info()
	info.ServerName = "" //nolint:staticcheck // deprecated for users; credentials must still clear it
	return info
}

func (w watchedCredentials) Clone() credentials.TransportCredentials {
	return watchedCredentials{w.TransportCredentials.Clone()}
}
