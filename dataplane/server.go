//go:build unix

package dataplane

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/listener"
	"github.com/sluice-proxy/sluice/dataplane/telemetry"
	"github.com/sluice-proxy/sluice/dataplane/worker"
)

// DefaultDrainTime is how long calls may go on after their connection began to
// drain (Envoy's --drain-time-s).
const DefaultDrainTime = 600 * time.Second

// Options configure a Server. The zero value is usable.
type Options struct {
	// Concurrency is the number of workers; 0: GOMAXPROCS. It never changes
	// GOMAXPROCS, and fewer workers than that is slower, not leaner.
	Concurrency int
	// Logger gets what operators should know. nil: nothing is logged.
	Logger *slog.Logger
	// Registry gets the server's own stats. nil: none are kept.
	Registry *telemetry.Registry
	// DrainTime bounds every drain; 0: DefaultDrainTime.
	DrainTime time.Duration
	// ShutdownAccept is how long addresses accept after Shutdown began, at
	// least; they do while connections are left, for 10 s if this is not longer.
	ShutdownAccept time.Duration
	// Rebalance is how often a worker that is busy, and has much more to do
	// than another, sends one of its clients away with a graceful GOAWAY, so
	// that it comes back to the other; 0: never.
	Rebalance time.Duration
	// MemoryBudget bounds the bytes that the whole proxy holds for slow
	// receivers; 0: the worker's default.
	MemoryBudget int64
}

// Server is a proxy. Its methods are safe for concurrent use; what
// configures listeners is done one after the other.
type Server struct {
	// Set at creation.

	log    *slog.Logger
	drain  time.Duration
	accept time.Duration // ShutdownAccept
	group  *worker.Group
	reg    *telemetry.Registry
	stats  stats
	done   chan struct{} // closed when addresses close

	accepting sync.WaitGroup // the accept goroutines
	securing  sync.WaitGroup // those of connections that no worker has yet

	handshakes    *worker.Handshakes
	handshakeCtx  context.Context //nolint:containedctx // of all handshakes; Shutdown ends it
	endHandshakes context.CancelFunc

	connID atomic.Uint64

	mu       sync.Mutex // guards all below, and the sockets
	closed   bool
	bindings map[string]*binding // by listener name
	sockets  map[string]*socket  // by address key; includes those that are closing

	stopped   []DrainOptions // listeners that these concern do not accept any more
	drainEnds []*time.Timer  // of drains after which listeners close
}

// stats are the server's own; their names are Envoy's.
type stats struct {
	createSuccess, createFailure, active, stopped *telemetry.Counter
}

// errClosed is what a Server that was shut down says.
var errClosed = errors.New("dataplane: server is shut down")

// New returns a running Server without listeners. It must be shut down.
func New(o Options) (*Server, error) {
	if o.Concurrency < 0 {
		return nil, fmt.Errorf("dataplane: concurrency %d is negative", o.Concurrency)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Registry == nil {
		o.Registry = telemetry.NewRegistry()
	}
	s := &Server{
		log:    o.Logger,
		drain:  cmp.Or(o.DrainTime, DefaultDrainTime),
		accept: o.ShutdownAccept,
		reg:    o.Registry,
		group: worker.NewGroup(worker.Options{
			N:            o.Concurrency,
			Logger:       o.Logger,
			NewDriver:    worker.NewNetpoll,
			MemoryBudget: o.MemoryBudget,
			Rebalance:    o.Rebalance,
		}),
		stats: stats{
			createSuccess: o.Registry.Counter("listener_manager.listener_create_success"),
			createFailure: o.Registry.Counter("listener_manager.listener_create_failure"),
			active:        o.Registry.Gauge("listener_manager.total_listeners_active"),
			stopped:       o.Registry.Counter("listener_manager.listener_stopped"),
		},
		done:     make(chan struct{}),
		bindings: make(map[string]*binding),
		sockets:  make(map[string]*socket),
	}
	s.handshakes = worker.NewHandshakes(s.group)
	s.handshakeCtx, s.endHandshakes = context.WithCancel(context.Background())
	o.Registry.Func(s.http2Stats)
	s.addUpstreamHTTP2(o.Registry)
	o.Registry.Func(s.listenerStats)
	o.Registry.Func(s.holdStats)
	if o.Rebalance > 0 {
		o.Registry.GaugeFunc("server.connections_rebalanced", s.group.Rebalanced)
	}
	return s, nil
}

// Bind reserves the addresses of l that the listener of that name does not
// have yet, without listening. If it fails, nothing has changed; the error
// names each address that could not be had, and why.
func (s *Server) Bind(l *listener.Listener) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	if s.stoppedLocked(l) {
		return nil
	}
	if err := s.bindLocked(l); err != nil {
		s.stats.createFailure.Add(1)
		return fmt.Errorf("listener %q: %w", l.Name, err)
	}
	return nil
}

// Serve makes l the configuration of its listener: its addresses (those that
// Bind did not reserve are reserved now) accept, new connections get its filter
// chains, connections whose chain's Key stands pick up that chain's Manager
// with their next call, and those whose Key is gone drain. Addresses of an
// earlier version that l does not have stop accepting. If it fails, the earlier
// version goes on.
func (s *Server) Serve(l *listener.Listener) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	if s.stoppedLocked(l) {
		if b := s.bindings[l.Name]; b != nil && b.state.Load() != nil {
			b.swap(l)
		}
		return nil
	}
	err := s.bindLocked(l)
	if err == nil {
		err = s.serveLocked(l)
	}
	if err != nil {
		s.stats.createFailure.Add(1)
		return fmt.Errorf("listener %q: %w", l.Name, err)
	}
	return nil
}

// Remove stops accepting for the listener of that name and drains its
// connections. It returns at once; unknown names are ignored.
func (s *Server) Remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.bindings[name]
	if b == nil {
		return
	}
	delete(s.bindings, name)
	for _, k := range b.sockets {
		k.releaseLocked()
	}
	if b.state.Load() != nil {
		b.swap(nil)
		s.stats.active.Set(s.activeLocked())
		s.log.Info("listener removed", "listener", name)
	}
}

// Sweep makes the workers let go of upstream connections to hosts that were
// retired. Call it after host sets have changed.
func (s *Server) Sweep() { s.group.Sweep() }

// ReadCounters implements telemetry.Source.
func (s *Server) ReadCounters(f func(worker int, scopes [][]uint64)) { s.group.ReadCounters(f) }

// ListenerStatus is what is known of one listener.
type ListenerStatus struct {
	Name      string
	Addresses []string // as bound: a port of 0 is the one the system chose
	Serving   bool     // false: addresses are reserved, Serve was not called yet
}

// Listeners returns the listeners, sorted by name.
func (s *Server) Listeners() []ListenerStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []ListenerStatus
	for name, b := range s.bindings {
		st := ListenerStatus{Name: name, Serving: b.state.Load() != nil}
		for _, k := range b.sockets {
			st.Addresses = append(st.Addresses, k.bound())
		}
		if len(b.sockets) == 0 {
			st.Addresses = b.closedAt
		}
		out = append(out, st)
	}
	slices.SortFunc(out, func(a, b ListenerStatus) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Shutdown ends the proxy without losing a call. All connections get GOAWAY at
// once. Addresses go on accepting, and what comes is served and told to leave
// before the end, until no connection is left, 10 s (or ShutdownAccept, if that
// is longer) or four fifths of the time are over; then they close. When ctx is done or DrainTime is over, calls that are
// left get UNAVAILABLE. The error is nil if every call ended by itself.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return errClosed
	}
	s.closed = true
	for _, t := range s.drainEnds {
		t.Stop()
	}
	s.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, s.drain)
	defer cancel()
	s.leave(ctx)

	close(s.done)
	s.mu.Lock()
	for _, b := range s.bindings {
		for _, k := range b.sockets {
			k.releaseLocked()
		}
	}
	clear(s.bindings)
	s.stats.active.Set(0)
	s.mu.Unlock()

	stop := context.AfterFunc(ctx, s.closeQueues)
	s.accepting.Wait()
	stop()
	grace := time.AfterFunc(handshakeGrace, s.endHandshakes)
	s.securing.Wait()
	grace.Stop()
	s.endHandshakes()
	return s.group.Shutdown(ctx)
}

// closeQueues ends what Shutdown waits for before the workers: the time is over.
func (s *Server) closeQueues() {
	s.endHandshakes()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.sockets {
		k.closeLocked()
	}
}

// leave makes connections drain while addresses still accept.
func (s *Server) leave(ctx context.Context) {
	end, _ := ctx.Deadline()
	begin := time.Now()
	accept := min(end.Sub(begin)*4/5, max(s.accept, maxAccept))
	s.group.Leave(accept)
	t := time.NewTicker(leavePoll)
	defer t.Stop()
	for {
		over := time.Since(begin)
		if over >= accept || over >= s.accept && s.group.Connections() == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

const (
	maxAccept = 10 * time.Second      // how long leave accepts, unless more is asked for
	leavePoll = 10 * time.Millisecond // how often it looks whether connections are left
)

// pause waits for d or Shutdown.
func (s *Server) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.done:
	}
}

func (s *Server) activeLocked() uint64 {
	n := uint64(0)
	for _, b := range s.bindings {
		if b.state.Load() != nil {
			n++
		}
	}
	return n
}
