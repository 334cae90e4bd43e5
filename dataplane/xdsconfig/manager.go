package xdsconfig

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/cluster"
	"github.com/sluice-proxy/sluice/dataplane/cluster/discovery"
	"github.com/sluice-proxy/sluice/dataplane/listener"
	"github.com/sluice-proxy/sluice/dataplane/route"
	"github.com/sluice-proxy/sluice/dataplane/telemetry"
	"github.com/sluice-proxy/sluice/dataplane/transport"
	"github.com/sluice-proxy/sluice/xdsclient"
	"github.com/sluice-proxy/sluice/xdsclient/bootstrap"
)

// Server is what the configuration is for. Calls come from one goroutine at a
// time.
type Server interface {
	// Bind reserves the addresses of l; the error names the address.
	Bind(l *listener.Listener) error
	// Serve makes l the configuration of its listener.
	Serve(l *listener.Listener) error
	// Remove drains the listener of that name and lets go of its addresses.
	Remove(name string)
	// Sweep lets go of upstream connections to retired hosts.
	Sweep()
}

// client is a *xdsclient.Client.
type client interface {
	Subscribe(typeURL string, s xdsclient.Subscription)
	Run(ctx context.Context) error
	Status() xdsclient.Status
}

// Manager owns the configuration of a Server. Its exported methods are safe
// for concurrent use.
type Manager struct {
	// Set at creation.

	log       *slog.Logger
	server    Server
	bootstrap *bootstrapv3.Bootstrap
	started   time.Time
	lookup    discovery.Lookup    // nil: the system's
	registry  *telemetry.Registry // nil: nothing is counted
	ctx       context.Context     //nolint:containedctx // of all goroutines; ended by Close
	cancel    context.CancelFunc
	running   sync.WaitGroup // all goroutines
	stopped   chan struct{}  // closed when run has returned
	ready     chan struct{}  // closed when the first listeners serve
	box       *mailbox
	warnings  *warnLog
	stats     stats
	sources   sources
	client    client // nil: no control plane

	handles *names[cluster.Handle]
	cells   *names[routeCell]

	clusterIntake  *intake[*Cluster]
	endpointIntake *intake[*cluster.Assignment]
	listenerIntake *intake[*Listener]
	routeIntake    *intake[*route.Table]
	secretIntake   *intake[*tlsv3.Secret]

	secretEnv *Env // of compilations of secrets
	files     *transport.Files

	// Owned by the configuration goroutine (run; Attach before it starts).

	stage     stage
	first     map[string]bool // what the stage waits for
	deadline  *time.Timer     // of the stage's first response
	answered  bool            // the stage's first response came, or its time is over
	clusters  map[string]*clusterState
	endpoints map[string]*endpointState
	listeners map[string]*listenerState
	routes    map[string]*routeState
	secrets   map[string]*secretState
	following bool              // files are watched
	versions  map[string]string // last applied version by type URL
	timeouts  map[string]uint64 // first responses that did not come in time, by type URL
	dirty     dirty
	answers   []answer

	lapsedEndpoints lapsedNames
	lapsedRoutes    lapsedNames
	lapsedSecrets   lapsedNames

	// Atomic: read by workers for cluster_header.

	existing atomic.Pointer[map[string]*cluster.Handle]

	after sync.Mutex // held by do once run has returned
}

// dirty is what settle has to do after a batch of work.
type dirty struct {
	sweep     bool // hosts were retired
	existing  bool // clusters came or went
	endpoints bool // the names of EDS may have changed
	routes    bool // the names of RDS may have changed
	secrets   bool // the names of SDS may have changed
}

// answer is what a response will be answered.
type answer struct {
	response *xdsclient.Response
	err      error
}

// failure is the last refused version of something.
type failure struct {
	content *anypb.Any
	version string
	at      time.Time
	err     error
}

func newManager(ctx context.Context, server Server, bs *bootstrapv3.Bootstrap, o Options) *Manager {
	m := &Manager{
		log: o.Logger, registry: o.Registry, server: server, bootstrap: bs, started: time.Now(), lookup: o.Lookup,
		stopped: make(chan struct{}), ready: make(chan struct{}), box: newMailbox(),
		warnings: &warnLog{log: o.Logger},
		stats:    newStats(o.Registry),
		handles:  newNames(cluster.NewHandle),
		cells:    newNames(func(string) *routeCell { return new(routeCell) }),
		clusters: map[string]*clusterState{}, endpoints: map[string]*endpointState{},
		listeners: map[string]*listenerState{}, routes: map[string]*routeState{}, secrets: map[string]*secretState{},
		files:           transport.NewFiles(o.Logger),
		versions:        map[string]string{},
		timeouts:        map[string]uint64{},
		lapsedEndpoints: lapsedNames{most: maxLapsedEndpoints},
		lapsedRoutes:    lapsedNames{most: maxLapsedRoutes},
		lapsedSecrets:   lapsedNames{most: maxLapsedSecrets},
	}
	m.ctx, m.cancel = context.WithCancel(ctx)
	m.existing.Store(&map[string]*cluster.Handle{})
	if r := o.Registry; r != nil {
		m.addMembership(r)
		m.addUpdateStats(r)
	}
	env := m.env(o, o.RefuseUnknownDynamicFields)
	m.clusterIntake = newIntake(env, func() *clusterv3.Cluster { return new(clusterv3.Cluster) },
		(*clusterv3.Cluster).GetName, CompileCluster, posting(m, m.applyClusters))
	m.endpointIntake = newIntake(env, func() *endpointv3.ClusterLoadAssignment { return new(endpointv3.ClusterLoadAssignment) },
		(*endpointv3.ClusterLoadAssignment).GetClusterName, CompileEndpoints, m.endpointBatch)
	m.listenerIntake = newIntake(env, func() *listenerv3.Listener { return new(listenerv3.Listener) },
		(*listenerv3.Listener).GetName, CompileListener, posting(m, m.applyListeners))
	m.routeIntake = newIntake(env, func() *routev3.RouteConfiguration { return new(routev3.RouteConfiguration) },
		(*routev3.RouteConfiguration).GetName, CompileRoutes, m.routeBatch)
	m.secretIntake = newIntake(env, func() *tlsv3.Secret { return new(tlsv3.Secret) },
		(*tlsv3.Secret).GetName, CompileSecret, m.secretBatch)
	m.secretEnv = env
	return m
}

func (m *Manager) endpointBatch(b *batch[*cluster.Assignment]) {
	m.box.post(func() {
		m.endpointIntake.recheck(b, func(name string) (bool, *resource[*cluster.Assignment]) {
			if es := m.endpoints[name]; es != nil {
				return es.used(), es.res
			}
			return false, nil
		})
		m.applyEndpoints(b)
	})
}

func (m *Manager) routeBatch(b *batch[*route.Table]) {
	m.box.post(func() {
		m.routeIntake.recheck(b, func(name string) (bool, *resource[*route.Table]) {
			if rs := m.routes[name]; rs != nil {
				return rs.used(), rs.res
			}
			return false, nil
		})
		m.applyRoutes(b)
	})
}

func (m *Manager) secretBatch(b *batch[*tlsv3.Secret]) {
	m.box.post(func() {
		m.secretIntake.recheck(b, func(name string) (bool, *resource[*tlsv3.Secret]) {
			if ss := m.secrets[name]; ss != nil {
				return ss.used(), ss.res
			}
			return false, nil
		})
		m.applySecrets(b)
	})
}

func posting[C any](m *Manager, apply func(*batch[C])) func(*batch[C]) {
	return func(b *batch[C]) { m.box.post(func() { apply(b) }) }
}

// env returns what compilations of this manager see.
func (m *Manager) env(o Options, refuseUnknown bool) *Env {
	return &Env{
		Extensions:          o.Extensions,
		RefuseUnknownFields: refuseUnknown,
		Warn:                m.warnings.warn,
		ReadFile:            o.ReadFile,
		Registry:            o.Registry,
		Cluster:             func(name string) call.BackendSet { return m.handles.get(name) },
		FindCluster: func(name string) (call.BackendSet, bool) {
			h, ok := (*m.existing.Load())[name]
			return h, ok
		},
		Secret:  func(name string) *tlsv3.Secret { return bootstrap.Secret(m.bootstrap, name) },
		Routes:  func(name string) call.Director { return m.cells.get(name) },
		Node:    o.node,
		Runtime: o.Runtime,
	}
}

// run is the configuration goroutine.
func (m *Manager) run() {
	defer close(m.stopped)
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-m.box.wake:
			for _, f := range m.box.take() {
				f()
			}
			m.settle()
			for _, a := range m.answers {
				a.response.Done(a.err)
			}
			m.answers = nil
		}
	}
}

// settle does once what a batch of work has made necessary.
func (m *Manager) settle() {
	d := m.dirty
	m.dirty = dirty{}
	if d.existing {
		all := make(map[string]*cluster.Handle, len(m.clusters))
		for name, cs := range m.clusters {
			if cs.active != nil {
				all[name] = cs.handle
			}
		}
		m.existing.Store(&all)
		m.stats.clusters(m.clusters)
	}
	if d.endpoints {
		m.subscribe(xdsclient.EndpointType, &m.endpointIntake.wanted, usedNames(m.endpoints))
	}
	if d.routes {
		m.subscribe(xdsclient.RouteType, &m.routeIntake.wanted, usedNames(m.routes))
	}
	if d.secrets {
		m.subscribe(xdsclient.SecretType, &m.secretIntake.wanted, usedNames(m.secrets))
	}
	if d.sweep {
		m.server.Sweep()
	}
	m.advance()
	if m.dirty != (dirty{}) {
		m.settle() // the next stage has begun something
	}
}

// usedNames returns the names of the states that somebody uses. The others
// lapse: their subscription ends. What lost its last user and found another
// before that is as up to date as ever.
func usedNames[S interface {
	used() bool
	lapse()
}](states map[string]S) map[string]bool {
	names := make(map[string]bool, len(states))
	for name, s := range states {
		if s.used() {
			names[name] = true
		} else {
			s.lapse()
		}
	}
	return names
}

// subscribe tells the control plane the names of a type, if they changed. The
// intake knows first: an answer must not find its name unwanted.
func (m *Manager) subscribe(typeURL string, wanted *atomic.Pointer[map[string]bool], names map[string]bool) {
	if old := wanted.Load(); old != nil && sameKeys(*old, names) {
		return
	}
	wanted.Store(&names)
	if m.client == nil {
		return
	}
	sub := xdsclient.Subscription{Names: make([]string, 0, len(names))}
	for name := range names {
		sub.Names = append(sub.Names, name)
	}
	m.client.Subscribe(typeURL, sub)
}

func sameKeys(a, b map[string]bool) bool {
	if len(a) != len(b) {
		return false
	}
	for k := range a {
		if !b[k] {
			return false
		}
	}
	return true
}

// Response implements xdsclient.Handler.
func (m *Manager) Response(r *xdsclient.Response) {
	var in chan *xdsclient.Response
	switch r.TypeURL {
	case xdsclient.ClusterType:
		in = m.clusterIntake.in
	case xdsclient.EndpointType:
		in = m.endpointIntake.in
	case xdsclient.ListenerType:
		in = m.listenerIntake.in
	case xdsclient.RouteType:
		in = m.routeIntake.in
	case xdsclient.SecretType:
		in = m.secretIntake.in
	default:
		return // never subscribed to
	}
	select {
	case in <- r:
	case <-m.ctx.Done():
	}
}

// Malformed implements xdsclient.Handler.
func (m *Manager) Malformed(typeURL, version string, err error) {
	m.box.post(func() { m.unreadable(typeURL, version, err) })
}

// StreamUp implements xdsclient.Handler.
func (m *Manager) StreamUp() { m.stats.connected.Set(1) }

// StreamDown implements xdsclient.Handler. What was received stays valid.
func (m *Manager) StreamDown(error) {
	m.stats.connected.Set(0)
	m.box.post(m.streamFailed)
}

// Ready is closed when the proxy is initialised: the first clusters are warm
// and the first listeners serve.
func (m *Manager) Ready() <-chan struct{} { return m.ready }

// Backends returns the hosts of a cluster by its name, for a Director of one's
// own: it may send calls to what the control plane says, by rules that xDS does
// not know. The set is live: it follows updates of the cluster and of its
// endpoints, and may be asked for before the cluster is there. While there is
// none, Pick says so, and calls fail as those of routes to unknown clusters do.
func (m *Manager) Backends(name string) call.BackendSet { return m.handles.get(name) }

// Close ends the subscription to the control plane and returns when no
// goroutine of the manager is left. The Server goes on with what it has.
func (m *Manager) Close() {
	m.cancel()
	m.running.Wait()
}

// do runs f on the configuration goroutine and waits for it. When that has
// ended, f runs here.
func (m *Manager) do(f func()) {
	done := make(chan struct{})
	m.box.post(func() {
		defer close(done)
		f()
	})
	select {
	case <-done:
	case <-m.stopped:
		select {
		case <-done:
			return
		default:
		}
		m.after.Lock()
		defer m.after.Unlock()
		f()
	}
}

// later runs f on the configuration goroutine after d.
func (m *Manager) later(d time.Duration, f func()) *time.Timer {
	return time.AfterFunc(d, func() { m.box.post(f) })
}
