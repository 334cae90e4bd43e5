package xdsconfig

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/cluster/discovery"
	"github.com/sluice-proxy/sluice/dataplane/telemetry"
	"github.com/sluice-proxy/sluice/internal/grpcclient"
	"github.com/sluice-proxy/sluice/xdsclient"
	"github.com/sluice-proxy/sluice/xdsclient/bootstrap"
)

// Options are how a server is attached. The zero value is usable.
type Options struct {
	Logger     *slog.Logger        // nil: no logs
	Registry   *telemetry.Registry // of the server; nil: nothing is counted
	Extensions *Extensions         // nil: those of this package

	// AllowUnknownStaticFields and RefuseUnknownDynamicFields turn around what
	// is done with fields that this build's protobufs do not know
	// (--allow-unknown-static-fields, --reject-unknown-dynamic-fields).
	AllowUnknownStaticFields   bool
	RefuseUnknownDynamicFields bool

	// ReadFile reads the files that data sources name; nil: os.ReadFile.
	ReadFile func(name string) ([]byte, error)
	// Lookup resolves the names of DNS clusters; nil: the system's resolver.
	Lookup discovery.Lookup
	// Runtime returns the value of a runtime key; see Env.Runtime. nil: that of
	// the bootstrap's static layers.
	Runtime func(key string) (numerator, denominator uint32, ok bool)
	// Backoff is the wait before the control plane is asked again, where the
	// bootstrap does not say.
	Backoff xdsclient.Backoff

	node *corev3.Node // the bootstrap's

	// newClient replaces the client of the control plane in tests.
	newClient func(h xdsclient.Handler) client
}

// Attach makes server serve what the bootstrap says, and what the control plane
// that it names will say. The bootstrap's resources are compiled, and its
// listeners bound, when Attach returns; its error joins all that is wrong with
// them. Close ends the manager, as does ctx.
func Attach(ctx context.Context, server Server, bs *bootstrapv3.Bootstrap, o Options) (*Manager, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.ReadFile == nil {
		o.ReadFile = os.ReadFile
	}
	o.node = bs.GetNode()
	if o.Runtime == nil {
		o.Runtime = NewRuntime(bs.GetLayeredRuntime()).Fraction
	}
	m := newManager(ctx, server, bs, o)
	var err error
	m.sources, err = dynamicSources(bs, m.warnings.warn)
	if err := errors.Join(err, m.connect(bs, o), m.addStatic(bs, o)); err != nil {
		m.abandon()
		return nil, err
	}
	m.running.Go(m.run)
	m.running.Go(func() { m.clusterIntake.run(m.ctx) })
	m.running.Go(func() { m.endpointIntake.run(m.ctx) })
	m.running.Go(func() { m.listenerIntake.run(m.ctx) })
	m.running.Go(func() { m.routeIntake.run(m.ctx) })
	m.running.Go(func() { m.secretIntake.run(m.ctx) })
	m.box.post(func() {}) // settle, and begin
	return m, nil
}

// addStatic compiles and starts the bootstrap's resources: clusters first.
func (m *Manager) addStatic(bs *bootstrapv3.Bootstrap, o Options) error {
	clusters, listeners, err := compileStatic(bs, m.env(o, !o.AllowUnknownStaticFields))
	if err != nil {
		return err // nothing was started
	}
	var errs []error
	for _, c := range clusters {
		errs = append(errs, m.addStaticCluster(c))
	}
	for _, l := range listeners {
		errs = append(errs, m.addStaticListener(l))
	}
	return errors.Join(errs...)
}

func compileStatic(bs *bootstrapv3.Bootstrap, env *Env) (clusters []*resource[*Cluster], listeners []*resource[*Listener], err error) {
	var errs []error
	clusterNames, listenerNames := map[string]bool{}, map[string]bool{}
	for _, c := range bs.GetStaticResources().GetClusters() {
		if clusterNames[c.GetName()] {
			errs = append(errs, &Error{Kind: "Cluster", Name: c.GetName(), Reason: twoOfOneName})
			continue
		}
		clusterNames[c.GetName()] = true
		v, err := CompileCluster(c, env)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		clusters = append(clusters, staticResource(c.GetName(), c, v))
	}
	for i, l := range bs.GetStaticResources().GetListeners() {
		if l.GetName() == "" { // as Envoy, which makes up a name
			l = proto.CloneOf(l)
			l.Name = fmt.Sprintf("static_resources.listeners[%d]", i)
		}
		if listenerNames[l.GetName()] {
			errs = append(errs, &Error{Kind: "Listener", Name: l.GetName(), Reason: twoOfOneName})
			continue
		}
		listenerNames[l.GetName()] = true
		v, err := CompileListener(l, env)
		if err == nil {
			err = knownClusters(l, clusterNames)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		listeners = append(listeners, staticResource(l.GetName(), l, v))
	}
	return clusters, listeners, errors.Join(errs...)
}

const twoOfOneName = "there are two of this name"

func staticResource[C any](name string, msg proto.Message, v C) *resource[C] {
	x, _ := anypb.New(msg) // of a valid message
	return &resource[C]{name: name, content: x, print: fingerprintOf(msg), value: v}
}

// abandon undoes an Attach that fails.
func (m *Manager) abandon() {
	for name := range m.listeners {
		m.server.Remove(name)
	}
	m.cancel()
	close(m.stopped) // run was not started, and do must not wait for it
	m.running.Wait()
}

// dynamicSources reads cds_config and lds_config, and warns of what else the
// bootstrap has and this version does not do.
func dynamicSources(bs *bootstrapv3.Bootstrap, warn func(Warning)) (sources, error) {
	r := &report{kind: "Bootstrap", name: bs.GetNode().GetId(), env: &Env{Warn: warn}}
	r.root().bootstrapFields(bs)
	read := func(name string, c *corev3.ConfigSource) source {
		if c == nil {
			return source{}
		}
		here := r.root().field("dynamic_resources").field(name)
		here.overADS(c)
		if bs.GetDynamicResources().GetAdsConfig() == nil {
			here.errorf("ads: there is no ads_config")
		}
		return source{configured: true, timeout: fetchTimeout(c)}
	}
	out := sources{
		clusters:  read("cds_config", bs.GetDynamicResources().GetCdsConfig()),
		listeners: read("lds_config", bs.GetDynamicResources().GetLdsConfig()),
	}
	return out, r.done()
}

// connect makes the client of the control plane, if there is one.
func (m *Manager) connect(bs *bootstrapv3.Bootstrap, o Options) error {
	src, err := bootstrap.ADS(bs)
	if err == nil {
		err = usable(bs, src)
	}
	if err != nil || src == nil {
		return err
	}
	if o.newClient != nil {
		m.client = o.newClient(m)
		return nil
	}
	if src.Delta {
		m.log.Warn("incremental xDS is not supported by this version: state-of-the-world is used", "field", "dynamic_resources.ads_config.api_type")
	}
	backoff := o.Backoff
	if src.BackoffBase > 0 {
		backoff.Base = src.BackoffBase
	}
	if src.BackoffMax > 0 {
		backoff.Max = src.BackoffMax
	}
	options := grpcclient.Options{Authority: src.Authority}
	if c, err := CompileCluster(bootstrap.Cluster(bs, src.Cluster), &Env{}); err == nil { // else addStatic tells
		h2 := c.Config.Options.HTTP2
		options.Extra = xdsclient.DialOptions(h2.KeepaliveInterval, h2.KeepaliveTimeout)
	}
	m.client = xdsclient.New(xdsclient.Config{
		Transport: &xdsclient.GRPC{
			Dial:     dialer(grpcclient.Dial, src.Cluster, m.handles.get(src.Cluster), options),
			Metadata: metadataOf(src.Metadata),
		},
		Handler:                   m,
		Node:                      bs.GetNode(),
		SetNodeOnFirstMessageOnly: src.SetNodeOnFirstMessageOnly,
		Backoff:                   backoff,
		Logger:                    o.Logger,
	})
	return nil
}

// metadataOf returns headers by name, in lower case.
func metadataOf(headers []*corev3.HeaderValue) map[string][]string {
	md := make(map[string][]string)
	for _, h := range headers {
		key := strings.ToLower(h.GetKey())
		md[key] = append(md[key], cmp.Or(h.GetValue(), string(h.GetRawValue())))
	}
	return md
}

// dialer binds the arguments of dial, whose result only the client's transport
// knows: this package does not speak gRPC.
func dialer[C any](dial func(string, call.BackendSet, grpcclient.Options) (C, error), name string, set call.BackendSet, o grpcclient.Options) func() (C, error) {
	return func() (C, error) { return dial(name, set, o) }
}
