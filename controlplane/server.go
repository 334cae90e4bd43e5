package controlplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	clusterservicev3 "github.com/envoyproxy/go-control-plane/envoy/service/cluster/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	endpointservicev3 "github.com/envoyproxy/go-control-plane/envoy/service/endpoint/v3"
	extensionservicev3 "github.com/envoyproxy/go-control-plane/envoy/service/extension/v3"
	listenerservicev3 "github.com/envoyproxy/go-control-plane/envoy/service/listener/v3"
	routeservicev3 "github.com/envoyproxy/go-control-plane/envoy/service/route/v3"
	runtimeservicev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	secretservicev3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
)

// Options configure a Server.
type Options struct {
	Dir    string       // the configuration directory; see LoadDir
	Logger *slog.Logger // nil: none
	// OnLoad, if set, is told of each load of the directory: its error is nil
	// if all groups are good.
	OnLoad func(err error)
}

// Server serves the resources of a directory over ADS.
type Server struct {
	opt        Options
	log        *slog.Logger
	store      *Store
	nodes      *nodes
	publisher  *publisher
	cache      cachev3.SnapshotCache
	deltaTypes sync.Map // stream id -> type URL of a delta stream for one type, "" for ADS

	mu     sync.Mutex // guards all below; held during a Reload
	loader loader
	told   map[string]bool // faults and warnings that were logged and may still hold
	warned []string        // those of told that are warnings
	faulty bool
}

// New reads the directory and returns a server for it. It fails if the
// directory cannot be read at all or no group in it is good.
func New(o Options) (*Server, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{opt: o, log: o.Logger, store: NewStore()}
	// Not go-control-plane's ADS mode, which drops a watch whose names are no
	// superset of the snapshot's: the publisher orders changes itself. See
	// docs/adr/0003-go-control-plane-faults.md.
	s.cache = &knownCache{cachev3.NewSnapshotCache(false, keyHash{}, nil)}
	s.publisher = newPublisher(s.cache, o.Logger)
	s.nodes = newNodes(s.publisher.kick)
	s.publisher.nodes = s.nodes
	if err := s.Reload(); err != nil && len(s.store.Revisions()) == 0 {
		return nil, err
	}
	return s, nil
}

// Reload reads the directory again and publishes what changed. Groups with a
// fault keep their last good revision; the error joins every fault (see
// Faults).
func (s *Server) Reload() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	begin := time.Now()
	cfg, err := s.loader.load(s.opt.Dir)
	var warnings []string
	refused := map[string]error{"": err}
	if err == nil {
		warnings = cfg.Check()
		refused = cfg.Errors
		err = cfg.Err()
		if changed := s.store.Apply(cfg.Groups, cfg.Errors); len(changed) > 0 {
			groups := s.store.present()
			if groups == nil {
				groups = revisions{}
			}
			s.publisher.post(event{groups: groups})
			for _, r := range groups {
				s.log.Debug("group", "group", r.Group.Name, "revision", r.Number, "resources", r.Group.Resources.Count())
			}
			s.log.Info("configuration published", "groups", changed, "took", time.Since(begin).Round(time.Millisecond))
		}
	}
	s.tell(warnings, refused, err)
	if s.opt.OnLoad != nil {
		s.opt.OnLoad(err)
	}
	return err
}

// tell logs what is wrong and was not so at the load before, one line each: the
// faults of groups, or of the directory under the name "". Of a group with a
// fault the warnings are not known: none is forgotten then.
func (s *Server) tell(warnings []string, refused map[string]error, err error) {
	told := map[string]bool{}
	line := func(msg, reason string) {
		if told[reason] = true; !s.told[reason] {
			s.log.Warn(msg, "reason", reason)
		}
	}
	for _, w := range warnings {
		line("configuration warning", w)
	}
	served := s.store.present()
	for _, name := range sortedKeys(refused) {
		msg, faults := "configuration refused", Faults(refused[name])
		if name == "" && len(served) > 0 || served.has(name) {
			msg += "; the last good one is served"
		}
		if name != "" {
			faults = at(fmt.Sprintf("group %q", name), refused[name])
		}
		for _, f := range faults {
			line(msg, f.Error())
		}
	}
	if err == nil && s.faulty {
		s.log.Info("configuration is good again")
	}
	if err != nil {
		for _, w := range s.warned {
			told[w] = true
		}
		warnings = slices.Concat(s.warned, warnings)
		slices.Sort(warnings)
		warnings = slices.Compact(warnings)
	}
	s.told, s.warned, s.faulty = told, warnings, err != nil
}

// Nodes returns the connected proxies and what they have accepted.
func (s *Server) Nodes() []NodeStatus { return s.nodes.list() }

// Revisions returns the good revision of each group.
func (s *Server) Revisions() []*Revision { return s.store.Revisions() }

// Serve answers xDS, health and reflection on ln, and follows changes of the
// directory, until ctx is done. It closes ln.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w, err := newWatcher(s.opt.Dir, s.log)
	if err != nil {
		ln.Close()
		return err
	}
	srv := grpc.NewServer(
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	)
	s.register(ctx, srv)

	var wg sync.WaitGroup
	wg.Go(func() { s.publisher.run(ctx) })
	wg.Go(func() { w.run(ctx, func() { _ = s.Reload() }) }) // Reload logs its error
	wg.Go(func() {
		<-ctx.Done()
		srv.Stop() // ADS streams never end by themselves
	})
	err = srv.Serve(ln)
	cancel()
	wg.Wait()
	if errors.Is(err, grpc.ErrServerStopped) {
		err = nil
	}
	return err
}

func (s *Server) register(ctx context.Context, srv *grpc.Server) {
	xds := serverv3.NewServer(ctx, s.cache, s.callbacks())
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(srv, xds)
	clusterservicev3.RegisterClusterDiscoveryServiceServer(srv, xds)
	endpointservicev3.RegisterEndpointDiscoveryServiceServer(srv, xds)
	listenerservicev3.RegisterListenerDiscoveryServiceServer(srv, xds)
	routeservicev3.RegisterRouteDiscoveryServiceServer(srv, xds)
	secretservicev3.RegisterSecretDiscoveryServiceServer(srv, xds)
	runtimeservicev3.RegisterRuntimeDiscoveryServiceServer(srv, xds)
	extensionservicev3.RegisterExtensionConfigDiscoveryServiceServer(srv, xds)
	hs := health.NewServer()
	hs.SetServingStatus(discoveryv3.AggregatedDiscoveryService_ServiceDesc.ServiceName, healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(srv, hs)
	reflection.Register(srv)
}
