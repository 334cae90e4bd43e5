//go:build unix

package dataplane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/listener"
	"github.com/sluice-proxy/sluice/dataplane/transport"
	"github.com/sluice-proxy/sluice/dataplane/worker"
)

// binding is a listener as the Server has it, over all its versions.
type binding struct {
	s       *Server
	name    string
	sockets []*socket // in the order of the newest version; guarded by Server.mu

	closedAt []string // addresses of sockets that DrainListeners closed; guarded by Server.mu

	// state is what new connections get. nil before the first Serve.
	state atomic.Pointer[state]

	pending pendings // connections in secure
	stats   listenerStats
}

// state is one version of a listener. Immutable.
type state struct {
	l      *listener.Listener
	chains map[uint64]*chain // by listener.Chain.Key
	simple bool              // see simple
}

// chain is a filter chain that connections are bound to, over all the versions
// of its listener that have its Key.
type chain struct {
	*worker.Chain
	// retired: connections of this chain drain. One that is handed over in the
	// very moment is caught by whoever looks second (see binding.serve).
	retired atomic.Bool
}

// bindLocked makes the binding of l own all addresses of l, and of a version
// that is being served.
func (s *Server) bindLocked(l *listener.Listener) error {
	if err := supported(l); err != nil {
		return err
	}
	b := s.bindings[l.Name]
	if b == nil {
		b = &binding{s: s, name: l.Name}
	}
	var errs []error
	var sockets, fresh []*socket
	for i, a := range l.Addresses {
		key := addressKey(l.Name, i, a)
		k := s.sockets[key]
		switch {
		case slices.Contains(sockets, k) && k != nil:
			errs = append(errs, fmt.Errorf("address %s: listed twice", a.Address))
			continue
		case k != nil && k.closing && k.reusePort == l.ReusePort:
			// Only a removed listener's socket closes: it can change hands
			// whatever becomes of l.
			k.adoptLocked(b)
			fresh = append(fresh, k)
		case k != nil && k.closing:
			k.closeLocked()
			k = nil
		case k != nil && k.holder != b:
			errs = append(errs, fmt.Errorf("address %s: taken by listener %q", a.Address, k.holder.name))
			continue
		}
		if k == nil {
			var err error
			if k, err = s.newSocket(b, key, a, l.ReusePort); err != nil {
				errs = append(errs, err)
				continue
			}
			s.sockets[key] = k
			fresh = append(fresh, k)
		}
		sockets = append(sockets, k)
	}
	if len(errs) > 0 {
		for _, k := range fresh {
			k.releaseLocked()
		}
		return errors.Join(errs...)
	}
	// What serves now goes on until Serve; what was reserved for a version
	// that never came is given up.
	for _, k := range b.sockets {
		if slices.Contains(sockets, k) {
			continue
		}
		if k.owner.Load() == b {
			sockets = append(sockets, k)
		} else {
			k.releaseLocked()
		}
	}
	b.sockets = sockets
	s.bindings[l.Name] = b
	return nil
}

// supported says what of l this package cannot do.
func supported(l *listener.Listener) error {
	if len(l.Addresses) == 0 {
		return errors.New("no address")
	}
	for _, ch := range l.Chains.Chains() {
		if _, ok := ch.TLS.(*transport.Server); ch.TLS != nil && !ok {
			return fmt.Errorf("filter chain %q: a transport socket of type %T is not supported", ch.Name, ch.TLS)
		}
		if ch.Manager == nil {
			return fmt.Errorf("filter chain %q: no connection manager", ch.Name)
		}
	}
	return nil
}

// addressKey tells addresses apart. Each use of port 0 is an address of its
// own.
func addressKey(name string, i int, a listener.Address) string {
	if a.Network != "unix" && strings.HasSuffix(a.Address, ":0") {
		return name + "/" + strconv.Itoa(i) + "/" + a.Address
	}
	return strings.TrimRight(a.Network, "46") + "/" + a.Address
}

// serveLocked swaps l in. All its addresses are reserved.
func (s *Server) serveLocked(l *listener.Listener) error {
	b := s.bindings[l.Name]
	n := len(l.Addresses) // the first of b.sockets; the others are an earlier version's
	for _, k := range b.sockets[:n] {
		if err := k.listenLocked(l.Backlog); err != nil {
			s.unreserveLocked(b)
			return err
		}
	}
	for _, k := range b.sockets[n:] {
		k.releaseLocked()
	}
	b.sockets = b.sockets[:n:n]

	first := b.state.Load() == nil
	b.swap(l)
	for _, k := range b.sockets {
		k.acceptLocked()
	}
	if first {
		s.stats.createSuccess.Add(1)
		s.stats.active.Set(s.activeLocked())
	}
	s.log.Info("listener serves", "listener", l.Name, "addresses", len(l.Addresses), "chains", len(l.Chains.Chains()))
	return nil
}

// unreserveLocked gives up what b reserved for a version that cannot be served.
func (s *Server) unreserveLocked(b *binding) {
	b.sockets = slices.DeleteFunc(b.sockets, func(k *socket) bool {
		if k.owner.Load() == b {
			return false
		}
		k.releaseLocked()
		return true
	})
	if b.state.Load() == nil {
		delete(s.bindings, b.name)
	}
}

// swap makes l, or nothing, what the binding serves. Called under Server.mu.
func (b *binding) swap(l *listener.Listener) {
	var old map[uint64]*chain
	if st := b.state.Load(); st != nil {
		old = st.chains
	}
	next := &state{l: l, chains: make(map[uint64]*chain)}
	if l != nil {
		next.simple = simple(l)
		for _, lc := range l.Chains.Chains() {
			ch := old[lc.Key]
			if ch == nil {
				ch = &chain{Chain: worker.NewChain(lc.Manager)}
				ch.Listener = b.s.scope(l)
			} else {
				ch.SetManager(lc.Manager)
			}
			next.chains[lc.Key] = ch
		}
		b.state.Store(next)
	}
	// Without l the last state stays: what is still in the accept queue is
	// served and drained.
	gone := make(map[*worker.Chain]bool)
	for key, ch := range old {
		if next.chains[key] == nil {
			ch.retired.Store(true)
			gone[ch.Chain] = true
		}
	}
	if len(gone) > 0 {
		b.s.group.Drain(func(ch *worker.Chain) bool { return gone[ch] }, b.s.drain)
	}
}

// serve sees to an accepted connection: if its addresses decide about its
// filter chain and that has no TLS, a worker gets it at once.
func (b *binding) serve(nc net.Conn) {
	st := b.state.Load()
	if !st.simple {
		ctx, drop := context.WithCancelCause(b.s.handshakeCtx)
		p, err := b.place(nc, drop)
		if err != nil {
			drop(nil)
			b.stats.refused(err)
			_ = nc.Close()
			return
		}
		b.s.securing.Go(func() { b.secure(ctx, p, st, nc) })
		return
	}
	info := connInfo(b.s.connID.Add(1), b.name, nc)
	lc := st.l.Chains.Choose(&listener.Info{
		Local:             info.Local,
		Remote:            info.Remote,
		Direct:            info.Remote.Addr(),
		TransportProtocol: listener.TransportRaw,
	})
	if lc == nil {
		b.stats.refused(errNoChain)
		b.s.log.Debug("connection refused", "listener", b.name, "peer", info.Remote, "reason", errNoChain)
		_ = nc.Close()
		return
	}
	b.hand(st.chains[lc.Key], func(ch *chain) { b.s.group.Serve(ch.Chain, info, nc) })
}

// place waits for room among the connections that no worker has yet; those that
// come later wait in the accept queue. An error says that there is none, or that
// the client has left meanwhile, as many do that wait long.
func (b *binding) place(nc net.Conn, drop context.CancelCauseFunc) (*pending, error) {
	for begin := time.Now(); ; time.Sleep(roomPoll) {
		if b.pending.full() && worker.Gone(nc) {
			return nil, worker.ErrGone
		}
		now := time.Now()
		crowded := crowdedTime
		if now.Sub(begin) >= roomTime {
			crowded = 0
		}
		p, ok := b.pending.add(now, crowded, drop, &b.stats)
		if ok {
			return p, nil
		}
		if crowded == 0 || b.s.handshakeCtx.Err() != nil {
			return nil, errTooManyCx
		}
	}
}

// hand lets serve give a connection of ch to a worker. If the chain was
// retired meanwhile, it drains.
func (b *binding) hand(ch *chain, serve func(*chain)) {
	serve(ch)
	if ch.retired.Load() {
		b.s.group.Drain(func(c *worker.Chain) bool { return c == ch.Chain }, b.s.drain)
	}
}
