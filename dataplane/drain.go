//go:build unix

package dataplane

import (
	"time"

	"github.com/sluice-proxy/sluice/dataplane/listener"
	"github.com/sluice-proxy/sluice/dataplane/worker"
)

// DrainOptions are the parameters of Envoy's /drain_listeners.
type DrainOptions struct {
	Graceful    bool // connections drain for DrainTime first, while listeners go on accepting
	InboundOnly bool // only listeners whose traffic_direction is INBOUND
	SkipExit    bool // with Graceful: listeners are not closed in the end; without: nothing happens
}

func (o *DrainOptions) concerns(l *listener.Listener) bool { return !o.InboundOnly || l.Inbound }

// DrainListeners closes listeners and drains their connections, or the other
// way round (Graceful). Listeners that are closed stay so: later versions of
// them, and new ones, serve only the connections that are left. It returns at
// once.
func (s *Server) DrainListeners(o DrainOptions) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
	case !o.Graceful && !o.SkipExit:
		s.stopLocked(o)
	case o.Graceful:
		s.drainLocked(s.chainsLocked(o))
		if !o.SkipExit {
			s.drainEnds = append(s.drainEnds, time.AfterFunc(s.drain, func() { s.DrainListeners(DrainOptions{InboundOnly: o.InboundOnly}) }))
		}
	}
}

// chainsLocked returns the chains of the listeners that o concerns.
func (s *Server) chainsLocked(o DrainOptions) map[*worker.Chain]*chain {
	out := make(map[*worker.Chain]*chain)
	for _, b := range s.bindings {
		if st := b.state.Load(); st != nil && o.concerns(st.l) {
			for _, ch := range st.chains {
				out[ch.Chain] = ch
			}
		}
	}
	return out
}

func (s *Server) drainLocked(chains map[*worker.Chain]*chain) {
	s.group.Drain(func(ch *worker.Chain) bool { return chains[ch] != nil }, s.drain)
}

// stopLocked closes the listeners that o concerns, for good.
func (s *Server) stopLocked(o DrainOptions) {
	s.stopped = append(s.stopped, o)
	chains := s.chainsLocked(o)
	for _, ch := range chains {
		ch.retired.Store(true) // those in the accept queue drain, too
	}
	for _, b := range s.bindings {
		st := b.state.Load()
		if st == nil || !o.concerns(st.l) || len(b.sockets) == 0 {
			continue
		}
		for _, k := range b.sockets {
			b.closedAt = append(b.closedAt, k.bound())
			k.releaseLocked()
		}
		b.sockets = nil
		s.stats.stopped.Add(1)
		s.log.Info("listener closed", "listener", b.name)
	}
	s.drainLocked(chains)
}

// stoppedLocked reports that l must not accept any more.
func (s *Server) stoppedLocked(l *listener.Listener) bool {
	for _, o := range s.stopped {
		if o.concerns(l) {
			return true
		}
	}
	return false
}
