package rawh2

import (
	"errors"
	"net"
	"sync"
	"time"
)

// Server accepts connections and leaves what to answer to the test.
type Server struct {
	// Set at creation.

	ln   net.Listener
	opt  Options
	done chan struct{} // closed when accepting has ended

	mu      sync.Mutex // guards all below
	changed chan struct{}
	conns   []*Conn // all that were accepted
	taken   int     // of them, given out by Accept
	closed  bool
}

// Listen serves on a free port of the loopback interface.
func Listen(o Options) (*Server, error) { return ListenOn("127.0.0.1:0", o) }

// ListenOn serves on an address.
func ListenOn(addr string, o Options) (*Server, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	if o.Patience == 0 {
		o.Patience = 20 * time.Second
	}
	s := &Server{ln: ln, opt: o, done: make(chan struct{}), changed: make(chan struct{})}
	go s.accept()
	return s, nil
}

func (s *Server) accept() {
	defer close(s.done)
	for {
		nc, err := s.ln.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			_ = nc.Close()
			return
		}
		s.conns = append(s.conns, newConn(nc, false, s.opt))
		close(s.changed)
		s.changed = make(chan struct{})
		s.mu.Unlock()
	}
}

// Addr is host:port.
func (s *Server) Addr() string { return s.ln.Addr().String() }

// Port is where it listens.
func (s *Server) Port() int { return s.ln.Addr().(*net.TCPAddr).Port }

// Accept waits for the next connection.
func (s *Server) Accept() (*Conn, error) {
	t := time.NewTimer(s.opt.Patience)
	defer t.Stop()
	for {
		s.mu.Lock()
		if s.taken < len(s.conns) {
			s.taken++
			c := s.conns[s.taken-1]
			s.mu.Unlock()
			return c, nil
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-s.done:
			return nil, net.ErrClosed
		case <-t.C:
			return nil, errors.New("no connection came")
		}
	}
}

// AcceptStream waits for the next stream on any of the connections.
func (s *Server) AcceptStream() (*Stream, error) {
	deadline := time.Now().Add(s.opt.Patience)
	for time.Now().Before(deadline) {
		for _, c := range s.Conns() {
			if st := c.take(); st != nil {
				return st, nil
			}
		}
		time.Sleep(time.Millisecond) // several connections, each with its own events
	}
	return nil, errors.New("no stream came")
}

// take returns an accepted stream, nil if there is none.
func (c *Conn) take() *Stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.accepted) == 0 {
		return nil
	}
	s := c.accepted[0]
	c.accepted = c.accepted[1:]
	return s
}

// Conns returns all connections that ever came.
func (s *Server) Conns() []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*Conn(nil), s.conns...)
}

// StopListening closes the listener; connections stay.
func (s *Server) StopListening() {
	_ = s.ln.Close()
	<-s.done
}

// Close ends everything.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.StopListening()
	for _, c := range s.Conns() {
		c.Close()
	}
}
