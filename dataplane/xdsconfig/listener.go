package xdsconfig

import (
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/sluice-proxy/sluice/dataplane/listener"
	"github.com/sluice-proxy/sluice/dataplane/telemetry"
)

// Listener is a compiled listener and what it waits for before it serves.
type Listener struct {
	*listener.Listener
	Routes  []RouteSource // RouteConfigurations by name; each once
	Secrets Secrets       // of its TLS contexts

	statPrefixes map[string][]string // of the connection managers, by the RouteConfiguration that they take
}

// RouteSource is an RDS subscription of a listener.
type RouteSource struct {
	Name string
	// FetchTimeout is how long the listener waits for it; 0: for ever.
	FetchTimeout time.Duration
}

// defaultFetchTimeout is Envoy's ConfigSource.initial_fetch_timeout.
const defaultFetchTimeout = 15 * time.Second

// defaultFiltersTimeout is Envoy's Listener.listener_filters_timeout.
const defaultFiltersTimeout = 15 * time.Second

// CompileListener compiles a Listener. It opens no socket: that its address
// can be bound is found out by whoever binds it.
func CompileListener(m *listenerv3.Listener, env *Env) (*Listener, error) {
	r := &report{kind: "Listener", name: m.GetName(), env: env}
	a := r.root()
	a.check(m)
	ln := &Listener{Listener: &listener.Listener{
		Name:              m.GetName(),
		ReusePort:         m.GetEnableReusePort() == nil || m.GetEnableReusePort().GetValue(),
		Backlog:           int(m.GetTcpBacklogSize().GetValue()),
		Inbound:           m.GetTrafficDirection() == corev3.TrafficDirection_INBOUND,
		FiltersTimeout:    defaultFiltersTimeout,
		ContinueOnTimeout: m.GetContinueOnListenerFiltersTimeout(),
	}}
	if d := m.GetListenerFiltersTimeout(); d != nil {
		ln.FiltersTimeout = d.AsDuration()
	}
	a.listenAddresses(m, ln.Listener)
	a.listenerFilters(m.GetListenerFilters())
	ln.Chains = a.chains(m, ln)
	if r.failed() {
		return nil, r.done()
	}
	for _, ch := range ln.Chains.Chains() { // a listener that is refused leaves no stats behind
		ch.Manager.Scope = env.scope(telemetry.KindHTTP, ch.Manager.StatPrefix)
	}
	return ln, r.done()
}

func (a *at) listenAddresses(m *listenerv3.Listener, ln *listener.Listener) {
	add := func(here *at, ad *corev3.Address) {
		if x, ok := here.numeric(ad); ok {
			ln.Addresses = append(ln.Addresses, listener.Address{Network: x.network, Address: x.address, Mode: x.mode})
		}
	}
	if m.GetAddress() == nil {
		a.field("address").errorf("value is required")
		return
	}
	if v := m.GetBindToPort(); v != nil && !v.GetValue() {
		a.field("bind_to_port").errorf("false: not supported by this version")
	}
	add(a.field("address"), m.GetAddress())
	for i, x := range m.GetAdditionalAddresses() {
		add(a.item("additional_addresses", i).field("address"), x.GetAddress())
	}
}

// listenerFilters checks listener filters. The TLS and HTTP inspectors find
// out what this proxy knows without them.
func (a *at) listenerFilters(filters []*listenerv3.ListenerFilter) {
	for i, f := range filters {
		here := a.item("listener_filters", i)
		if f.GetConfigDiscovery() != nil {
			here.field("config_discovery").unsupported()
		} else if t := typeName(f.GetTypedConfig()); !a.r.env.extensions().listenerFilters[t] {
			here.errorf("filter %q of type %q: no such filter in this version", f.GetName(), t)
		}
	}
}

// chains compiles the filter chains.
func (a *at) chains(m *listenerv3.Listener, ln *Listener) *listener.Table {
	if len(m.GetFilterChains()) == 0 && m.GetDefaultFilterChain() == nil {
		a.errorf("no filter_chains and no default_filter_chain")
		return nil
	}
	var chains []*listener.Chain
	for i, fc := range m.GetFilterChains() {
		chains = append(chains, a.item("filter_chains", i).chain(fc, false, ln))
	}
	var def *listener.Chain
	if m.GetDefaultFilterChain() != nil {
		def = a.field("default_filter_chain").chain(m.GetDefaultFilterChain(), true, ln)
	}
	for i := range m.GetFilterChains() {
		if a.item("filter_chains", i).field("filter_chain_match").bad() {
			return nil
		}
	}
	tbl, err := listener.NewTable(chains, def)
	if err != nil {
		a.field("filter_chains").errors(err)
		return nil
	}
	for _, ch := range append(chains, def) {
		if ch != nil && (len(ch.Match.ServerNames) > 0 || len(ch.Match.ApplicationProtocols) > 0 || ch.Match.TransportProtocol != "") {
			ln.Inspect = true
		}
	}
	return tbl
}

// chain compiles a FilterChain: one connection manager.
func (a *at) chain(m *listenerv3.FilterChain, isDefault bool, ln *Listener) *listener.Chain {
	ch := &listener.Chain{Name: m.GetName(), HandshakeTimeout: m.GetTransportSocketConnectTimeout().AsDuration()}
	ch.Match = a.field("filter_chain_match").chainMatch(m.GetFilterChainMatch())
	if s := a.serverTLS(m.GetTransportSocket(), &ln.Secrets); s != nil {
		ch.TLS = s
	}
	hc := a.networkFilters(m.GetFilters(), ln)
	if hc == nil {
		return ch
	}
	ch.Manager = hc.out
	ch.Key = connectionKey(m, isDefault, hc.config)
	return ch
}

func (a *at) chainMatch(m *listenerv3.FilterChainMatch) listener.Match {
	if m == nil {
		return listener.Match{}
	}
	out := listener.Match{
		DestinationPort:      uint16(m.GetDestinationPort().GetValue()),
		DestinationRanges:    a.prefixes("prefix_ranges", m.GetPrefixRanges()),
		TransportProtocol:    m.GetTransportProtocol(),
		ApplicationProtocols: m.GetApplicationProtocols(),
		DirectSourceRanges:   a.prefixes("direct_source_prefix_ranges", m.GetDirectSourcePrefixRanges()),
		SourceRanges:         a.prefixes("source_prefix_ranges", m.GetSourcePrefixRanges()),
	}
	switch m.GetSourceType() {
	case listenerv3.FilterChainMatch_SAME_IP_OR_LOOPBACK:
		out.SourceType = listener.SourceLocal
	case listenerv3.FilterChainMatch_EXTERNAL:
		out.SourceType = listener.SourceExternal
	}
	for _, p := range m.GetSourcePorts() {
		out.SourcePorts = append(out.SourcePorts, uint16(p))
	}
	for i, n := range m.GetServerNames() {
		if n == "*" || strings.Contains(strings.TrimPrefix(n, "*."), "*") {
			a.item("server_names", i).errorf("%q: a wildcard is only allowed as \"*.\" in front of a name", n)
			continue
		}
		out.ServerNames = append(out.ServerNames, strings.ToLower(n))
	}
	return out
}

// networkFilters compiles the network filters of a chain, which are one
// connection manager.
func (a *at) networkFilters(filters []*listenerv3.Filter, ln *Listener) *managerCompiler {
	var found *managerCompiler
	for i, f := range filters {
		here := a.item("filters", i)
		switch t := typeName(f.GetTypedConfig()); {
		case f.GetConfigDiscovery() != nil:
			here.field("config_discovery").unsupported()
		case found != nil:
			here.errorf("filter %q stands behind the HTTP connection manager, which must be the last", f.GetName())
		case t == typeHCM:
			found = here.field("typed_config").manager(f.GetTypedConfig(), ln)
		default:
			here.errorf("filter %q of type %q: no such filter in this version", f.GetName(), t)
		}
	}
	if found == nil && !a.field("filters").bad() {
		a.field("filters").errorf("the last filter must be an HTTP connection manager")
	}
	return found
}

// addRoutes notes that the listener needs a RouteConfiguration.
func (ln *Listener) addRoutes(name string, timeout time.Duration) {
	for i := range ln.Routes {
		if r := &ln.Routes[i]; r.Name == name {
			if timeout == 0 || r.FetchTimeout != 0 && timeout > r.FetchTimeout {
				r.FetchTimeout = timeout
			}
			return
		}
	}
	ln.Routes = append(ln.Routes, RouteSource{name, timeout})
}
