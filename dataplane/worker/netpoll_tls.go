package worker

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/h2"
)

// Sizes in TLS (RFC 8446 §5, RFC 5246 §6.2).
const (
	recordHeader  = 5
	maxPlaintext  = 16 << 10
	maxCiphertext = maxPlaintext + 2048
	// cipherRead is how much is read at once; what is left of a record stands
	// before it.
	cipherRead = 64 << 10
	// maxEncrypt bounds what is encrypted before it is known whether the socket
	// takes it.
	maxEncrypt = 256 << 10
	// maxUnsent bounds ciphertext that is not sent: beyond what maxEncrypt makes
	// there are only answers to key updates, and who asks for so many of them
	// without reading means no good.
	maxUnsent = 2 * maxEncrypt
)

var errUnsent = errors.New("worker: the peer makes us write and does not read")

// tlsLayer is the net.Conn under a tls.Conn (docs/core.md, "TLS"). While the
// handshake lasts it is the socket, in a goroutine that may block. Afterwards
// it is memory, under the worker's lock: Read takes from in, Write appends to
// out and never fails, because crypto/tls remembers a failed write for ever.
//
// crypto/tls cannot be asked whether it has a whole record, and a Read that
// finds none costs an error. So the records that come in are counted, and Read
// is called once for each. A record without data (a ticket, a key update) makes
// a Read take the next one as well, or find nothing: then the count is put
// right.
type tlsLayer struct {
	net.Conn
	tc *tls.Conn

	records recordScanner
	gate    *gate // of the handshake; nil when it is over: live

	// Guarded by the worker's lock.

	d       *netpoll
	in      []byte    // ciphertext for tc: in the driver's buffer, during a batch
	rest    *h2.Chunk // what is left of in between batches; owned
	whole   int       // records that came in whole and were not read
	out     []byte    // ciphertext that was not written
	own     bool      // out is not the driver's buffer
	closing bool      // a FIN follows out
}

// errWouldBlock is what Read says when in is empty. crypto/tls does not
// remember temporary errors of the transport.
var errWouldBlock error = wouldBlock{}

type wouldBlock struct{}

func (wouldBlock) Error() string   { return "would block" }
func (wouldBlock) Timeout() bool   { return true }
func (wouldBlock) Temporary() bool { return true }

// Read implements net.Conn. During the handshake it returns no byte beyond the
// record at hand, so that tc holds nothing when the handshake is over.
func (l *tlsLayer) Read(p []byte) (int, error) {
	if l.gate != nil {
		p = p[:min(len(p), l.records.want())]
		n, err := l.gate.read(l.Conn, p)
		l.records.scan(p[:n])
		return n, err
	}
	if len(l.in) == 0 {
		return 0, errWouldBlock
	}
	n := copy(p, l.in)
	l.in = l.in[n:]
	return n, nil
}

// Write implements net.Conn.
func (l *tlsLayer) Write(p []byte) (int, error) {
	if l.gate != nil {
		return l.gate.write(l.Conn, p)
	}
	if l.out == nil {
		if l.d.cipherOut == nil {
			l.d.cipherOut = make([]byte, 0, maxEncrypt+maxEncrypt/16)
		}
		l.out = l.d.cipherOut[:0]
	}
	l.out = append(l.out, p...)
	return len(p), nil
}

// SetDeadline, SetReadDeadline and SetWriteDeadline implement net.Conn. Once
// the layer is live, crypto/tls must not touch the socket's deadlines.
func (l *tlsLayer) SetDeadline(t time.Time) error {
	if l.gate == nil {
		return nil
	}
	return l.Conn.SetDeadline(t)
}

func (l *tlsLayer) SetReadDeadline(t time.Time) error {
	if l.gate == nil {
		return nil
	}
	return l.Conn.SetReadDeadline(t)
}

func (l *tlsLayer) SetWriteDeadline(t time.Time) error {
	if l.gate == nil {
		return nil
	}
	return l.Conn.SetWriteDeadline(t)
}

// live makes l memory. The handshake is over.
func (l *tlsLayer) live(d *netpoll) {
	l.d, l.gate = d, nil
	l.records = recordScanner{}
}

// recordScanner counts the records in a stream of bytes.
type recordScanner struct {
	head   [recordHeader]byte
	have   int // bytes of head
	left   int // bytes of the body still to come
	broken bool
}

// want returns how many bytes the present header or body still needs.
func (s *recordScanner) want() int {
	if s.have < recordHeader {
		return recordHeader - s.have
	}
	return s.left
}

// scan takes the next bytes and returns how many records they complete. A
// header that crypto/tls will refuse is a whole record, and the last one.
func (s *recordScanner) scan(b []byte) (n int) {
	for len(b) > 0 && !s.broken {
		if s.have < recordHeader {
			k := copy(s.head[s.have:], b)
			s.have += k
			b = b[k:]
			if s.have < recordHeader {
				return n
			}
			s.left = int(s.head[3])<<8 | int(s.head[4])
			if s.left > maxCiphertext || s.head[0] < 20 || s.head[0] > 24 {
				s.broken = true
				return n + 1
			}
		}
		k := min(s.left, len(b))
		s.left -= k
		b = b[k:]
		if s.left == 0 {
			s.have = 0
			n++
		}
	}
	return n
}

// readTLS is read for a connection with TLS.
func (d *netpoll) readTLS(k *Sock, c *netConn, toEnd bool) {
	l := c.tls
	if d.cipherIn == nil {
		d.cipherIn = make([]byte, recordHeader+maxCiphertext+cipherRead)
	}
	for budget := d.budget; !k.dead && !k.stopped && !c.ended; {
		n, full := 0, true
		if l.whole == 0 {
			var errno syscall.Errno
			off := l.restLen()
			b := d.cipherIn[off:min(off+cipherRead, len(d.cipherIn))]
			n, errno = rawRead(c.fd, b)
			switch {
			case errno == syscall.EAGAIN:
				return
			case errno != 0:
				c.ended = true
				k.eof(errno)
				return
			case n == 0: // without close_notify as with: HTTP/2 knows what is whole
				c.ended = true
				k.eof(nil)
				return
			}
			l.whole = l.records.scan(b[:n])
			full = n == len(b)
		}
		l.load(n)
		d.decrypt(k, c)
		l.keep(k)
		if !full && !toEnd && !c.toEnd {
			return
		}
		if budget -= n; budget <= 0 {
			d.w.flush()
			d.w.pause()
			budget = d.budget
		}
	}
}

func (l *tlsLayer) restLen() int {
	if l.rest == nil {
		return 0
	}
	return l.rest.Len()
}

// load makes in what was kept and the n bytes that were read behind it.
func (l *tlsLayer) load(n int) {
	off := l.restLen()
	if l.rest != nil {
		copy(l.d.cipherIn, l.rest.Bytes())
		l.d.w.pool.Put(l.rest)
		l.rest = nil
	}
	l.in = l.d.cipherIn[:off+n]
}

// keep saves what is left of in.
func (l *tlsLayer) keep(k *Sock) {
	if len(l.in) > 0 && !k.dead {
		l.rest = l.d.w.pool.Get(len(l.in))
		l.rest.Append(l.in)
	}
	l.in = nil
}

// decrypt feeds k what the whole records hold.
func (d *netpoll) decrypt(k *Sock, c *netConn) {
	l := c.tls
	for l.whole > 0 && !k.dead && !k.stopped && !c.ended {
		b, n := k.readBuf(), 0
		var err error
		for l.whole > 0 && len(b)-n >= maxPlaintext && err == nil {
			var m int
			m, err = l.tc.Read(b[n:])
			n += m
			l.whole--
		}
		if errors.Is(err, errWouldBlock) {
			l.whole, err = 0, nil
		}
		if len(l.out) > maxUnsent && err == nil {
			err = errUnsent
		}
		if len(l.out) > 0 { // the answer to a key update, an alert
			if done, _ := d.send(c); !done {
				d.Arm(k)
			}
		}
		if n > 0 {
			k.fed(n)
		}
		if err != nil && !k.dead {
			c.ended = true
			if errors.Is(err, io.EOF) { // close_notify
				err = nil
			}
			k.eof(err)
		}
	}
}

// writeTLS is Write for a connection with TLS: it encrypts only when all that
// was encrypted before is written.
func (d *netpoll) writeTLS(c *netConn, bufs [][]byte) (n int, again bool, err error) {
	l := c.tls
	if done, err := d.send(c); !done {
		return 0, true, nil
	} else if err != nil {
		return 0, false, err
	}
	for _, b := range bufs {
		if n > 0 && n+len(b) > maxEncrypt {
			break
		}
		if _, err := l.tc.Write(b); err != nil {
			return n, false, err
		}
		n += len(b)
	}
	done, err := d.send(c)
	return n, !done, err
}

// send writes ciphertext until nothing is left or the socket takes no more:
// then it is not done.
func (d *netpoll) send(c *netConn) (done bool, err error) {
	l := c.tls
	for len(l.out) > 0 {
		n, errno := rawWritev(c.fd, &d.iov, [][]byte{l.out})
		if errno == syscall.EAGAIN {
			if !l.own {
				l.out, l.own = append([]byte(nil), l.out...), true
			}
			return false, nil
		}
		if errno != 0 {
			err = errno
			break
		}
		l.out = l.out[n:]
	}
	l.out, l.own = nil, false
	if l.closing {
		l.closing = false
		_ = syscall.Shutdown(c.fd, syscall.SHUT_WR)
	}
	return true, err
}

// closeWriteTLS is CloseWrite for a connection with TLS.
func (d *netpoll) closeWriteTLS(k *Sock, c *netConn) {
	_ = c.tls.tc.CloseWrite() // appends close_notify
	c.tls.closing = true
	if done, _ := d.send(c); !done {
		d.Arm(k)
	}
}

// shutdownTLS says goodbye if the socket takes it, and frees what the layer
// holds.
func (d *netpoll) shutdownTLS(c *netConn) {
	l := c.tls
	l.closing = false
	if len(l.out) == 0 {
		_ = l.tc.CloseWrite()
		_, _ = d.send(c)
	}
	l.in, l.out = nil, nil
	if l.rest != nil {
		d.w.pool.Put(l.rest)
		l.rest = nil
	}
}
