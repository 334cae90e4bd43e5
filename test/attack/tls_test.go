package attack

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"time"
)

// More than may be in their handshakes at once (dataplane's maxPending).
const halfOpenConns = 1500

// tlsAttacks are clients that stop in the middle of a handshake. Besides the
// established clients' calls, new clients must get through.
func tlsAttacks() []*attack {
	hello := clientHello()
	say := func(what []byte) func(*peer, []byte) []byte {
		return func(_ *peer, b []byte) []byte { return append(b, what...) }
	}
	return []*attack{
		{name: "half-open TLS connections", tls: true, stat: "listener.tls.downstream_pre_cx_crowded", reaction: "close", atLeast: 2 * time.Second,
			run: hold(halfOpenConns, time.Second/2000, peerOptions{bare: true}, nil, nil)},
		{name: "half a ClientHello", tls: true, stat: "listener.tls.downstream_pre_cx_crowded", atLeast: 2 * time.Second,
			run: hold(halfOpenConns, time.Second/2000, peerOptions{bare: true}, say(hello[:len(hello)/2]), nil)},
		// Each costs a signature: beyond 500 a second and processor they would
		// only be in each other's way.
		{name: "a ClientHello and silence", tls: true, stat: "listener.tls.downstream_pre_cx_pressed", atLeast: 3 * time.Second,
			run: hold(halfOpenConns, time.Second/400, peerOptions{bare: true}, say(hello), nil)},
	}
}

// clientHello is what a client says first, whole.
func clientHello() []byte {
	var r recorder
	_ = tls.Client(&r, &tls.Config{ServerName: victim, NextProtos: []string{"h2"}}).Handshake() // fails: r answers nothing
	return r.Bytes()
}

// recorder is a connection that keeps what it is told.
type recorder struct {
	net.Conn
	bytes.Buffer
}

func (r *recorder) Write(p []byte) (int, error) { return r.Buffer.Write(p) }
func (r *recorder) Read([]byte) (int, error)    { return 0, io.EOF }
func (r *recorder) Close() error                { return nil }
