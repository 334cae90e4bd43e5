package xdsconfig

import (
	"errors"
	"maps"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/route"
)

// defaultRouteTimeout is Envoy's RouteAction.timeout where it is not set.
const defaultRouteTimeout = 15 * time.Second

// vhostCompiler holds what the routes of one virtual host share.
type vhostCompiler struct {
	*routesCompiler
	m     *routev3.VirtualHost
	level level
	retry *call.RetryPolicy
}

// route compiles a Route and adds it.
func (vc *vhostCompiler) route(a *at, vb *route.VHostBuilder, m *routev3.Route) {
	a.perFilterConfig(m.GetTypedPerFilterConfig())
	match := vc.match(a.field("match"), m.GetMatch())
	rt := &routeCompiler{vhostCompiler: vc, at: a, m: m}
	rt.level = a.level(m, formatScope{route: m.GetName()})
	act := route.Action{Name: m.GetName()}
	switch x := m.GetAction().(type) {
	case *routev3.Route_Route:
		rt.routeAction(a.field("route"), x.Route, &act)
	case *routev3.Route_DirectResponse:
		act.Reply = rt.directResponse(a.field("direct_response"), x.DirectResponse)
		act.Route = rt.replyPolicy()
		if s := act.Reply.HTTP; s == 201 || s/100 == 3 {
			act.Route.ResponseOps = append([]call.HeaderOp{redirection{}.location()}, act.Route.ResponseOps...)
		}
	case *routev3.Route_Redirect:
		rt.redirect(a.field("redirect"), x.Redirect, &act)
	}
	if a.bad() {
		return // the builder would only repeat it
	}
	if err := vb.Add(match, act); err != nil {
		a.errors(err)
	}
}

// routeCompiler compiles one Route.
type routeCompiler struct {
	*vhostCompiler
	at     *at
	m      *routev3.Route
	level  level
	policy call.Route // what the route's clusters have in common
	// rewritePath and rewriteHost are those of the RouteAction.
	rewritePath func(*call.Call) string
	rewriteHost func(*call.Call, call.Host) string
	appendHost  bool // append_x_forwarded_host
}

// headers returns the header mutations of the route for one of its clusters.
func (rt *routeCompiler) headers(weighted level, cluster string) (request, response []call.HeaderOp) {
	fs := formatScope{route: rt.m.GetName(), cluster: cluster}
	var first headerOps
	if weighted.m != nil {
		first = weighted.within(fs)
	}
	levels := []headerOps{rt.level.within(fs), rt.vhostCompiler.level.within(fs), rt.routesCompiler.level.within(fs)}
	return combine(first, levels, rt.config.GetMostSpecificHeaderMutationsWins())
}

// routeAction compiles where the route leads and how.
func (rt *routeCompiler) routeAction(a *at, m *routev3.RouteAction, act *route.Action) {
	rt.policy = call.Route{Name: rt.m.GetName(), VirtualHost: rt.vhostCompiler.m.GetName(), Retry: rt.retry}
	rt.timeouts(a, m)
	if p := m.GetRetryPolicy(); p != nil {
		rt.policy.Retry = a.field("retry_policy").retryPolicy(p)
	}
	rt.bufferLimit()
	rt.rewrites(a, m)
	missing := noClusterReply(m.GetClusterNotFoundResponseCode())
	if missing != call.ReplyNoCluster {
		act.NoCluster = missing
	}
	switch s := m.GetClusterSpecifier().(type) {
	case *routev3.RouteAction_Cluster:
		act.Clusters = []route.WeightedCluster{{
			Weight: 1, Backends: rt.backends(s.Cluster, missing), Route: rt.clusterPolicy(level{}, s.Cluster, ""),
		}}
	case *routev3.RouteAction_ClusterHeader:
		act.ClusterHeader = rt.clusterHeader(s.ClusterHeader, level{}, "")
	case *routev3.RouteAction_WeightedClusters:
		act.Clusters = rt.weighted(a.field("weighted_clusters"), s.WeightedClusters, missing)
	}
}

func (rt *routeCompiler) weighted(a *at, m *routev3.WeightedCluster, missing *call.Reply) []route.WeightedCluster {
	var out []route.WeightedCluster
	var sum uint64
	unweighted := false
	for i, cw := range m.GetClusters() {
		ca := a.item("clusters", i)
		ca.perFilterConfig(cw.GetTypedPerFilterConfig())
		if (cw.GetName() == "") == (cw.GetClusterHeader() == "") {
			ca.errorf("exactly one of name and cluster_header is required")
		}
		if cw.GetWeight() == nil {
			ca.field("weight").errorf("value is required")
			unweighted = true
		}
		sum += uint64(cw.GetWeight().GetValue())
		wc := route.WeightedCluster{Weight: cw.GetWeight().GetValue()}
		weighted := ca.level(cw, formatScope{route: rt.m.GetName(), cluster: cw.GetName()})
		if cw.GetClusterHeader() != "" {
			wc.Header = rt.clusterHeader(cw.GetClusterHeader(), weighted, cw.GetHostRewriteLiteral())
		} else {
			wc.Backends = rt.backends(cw.GetName(), missing)
			wc.Route = rt.clusterPolicy(weighted, cw.GetName(), cw.GetHostRewriteLiteral())
		}
		out = append(out, wc)
	}
	switch {
	case sum == 0 && !unweighted:
		a.errorf("the sum of the weights must be greater than 0")
	case sum > math.MaxUint32:
		a.errorf("the sum of the weights is %d, more than %d", sum, uint32(math.MaxUint32))
	}
	return out
}

// clusterPolicy returns the route's policy for one of its clusters.
func (rt *routeCompiler) clusterPolicy(weighted level, cluster, host string) *call.Route {
	p := rt.policy
	p.Cluster = cluster
	p.RequestOps, p.ResponseOps = rt.headers(weighted, cluster)
	p.Rewrite = rt.rewrite(host)
	return &p
}

// clusterHeader takes the cluster from a request header. One policy serves
// whatever cluster that names, unless a header value says its name.
func (rt *routeCompiler) clusterHeader(header string, weighted level, host string) *route.ClusterHeader {
	env := rt.at.r.env
	p := rt.clusterPolicy(weighted, "", host)
	policy := func(string) *call.Route { return p }
	if weighted.scoped || rt.level.scoped || rt.vhostCompiler.level.scoped || rt.routesCompiler.level.scoped {
		policy = rt.policies(weighted, host)
	}
	return &route.ClusterHeader{
		Name: header,
		Lookup: func(name string) (call.BackendSet, *call.Route) {
			set, ok := env.findCluster(name)
			if !ok {
				return nil, p
			}
			return set, policy(name)
		},
	}
}

// policies returns the route's policy by the cluster's name. It is made when
// the first call goes to a cluster of that name, and kept: clusters are few.
func (rt *routeCompiler) policies(weighted level, host string) func(cluster string) *call.Route {
	quiet := func(l level) level { // what is wrong was told, and the compilation is over
		l.at = (&report{env: &Env{ReadFile: rt.at.r.env.ReadFile, LookupEnv: rt.at.r.env.LookupEnv}}).root()
		return l
	}
	vc, rc := *rt.vhostCompiler, *rt.routesCompiler
	vc.routesCompiler, vc.level, rc.level = &rc, quiet(vc.level), quiet(rc.level)
	quietly := *rt
	quietly.vhostCompiler, quietly.level = &vc, quiet(rt.level)
	weighted = quiet(weighted)
	var mu sync.Mutex
	var known atomic.Pointer[map[string]*call.Route]
	known.Store(&map[string]*call.Route{})
	return func(cluster string) *call.Route {
		if p := (*known.Load())[cluster]; p != nil {
			return p
		}
		mu.Lock()
		defer mu.Unlock()
		more := maps.Clone(*known.Load())
		cluster = strings.Clone(cluster) // it dies with the call
		if more[cluster] == nil {
			more[cluster] = quietly.clusterPolicy(weighted, cluster, host)
		}
		known.Store(&more)
		return more[cluster]
	}
}

// timeouts fills in what limits a call in time.
func (rt *routeCompiler) timeouts(a *at, m *routev3.RouteAction) {
	p := &rt.policy
	p.Timeout = defaultRouteTimeout
	if m.GetTimeout() != nil {
		p.Timeout = max(m.GetTimeout().AsDuration(), 0)
	} else if m.GetMaxGrpcTimeout() == nil && m.GetMaxStreamDuration() == nil {
		a.field("timeout").warnf("not set: Envoy's default ends a call 15s after its request has ended; 0s disables it")
	}
	p.IdleTimeout = orNone(m.GetIdleTimeout())
	d := m.GetMaxStreamDuration()
	if d != nil {
		p.Timeout = 0 // Envoy's router leaves the time to max_stream_duration alone
		p.TellDuration = true
	}
	p.MaxStreamDuration = orNone(d.GetMaxStreamDuration())
	limit, offset := d.GetGrpcTimeoutHeaderMax(), d.GetGrpcTimeoutHeaderOffset()
	if limit == nil {
		p.OldGRPCTimeout = m.GetMaxGrpcTimeout() != nil && d == nil
		limit, offset = m.GetMaxGrpcTimeout(), m.GetGrpcTimeoutOffset() // their names before 2020
	}
	if limit != nil {
		p.UseGRPCTimeout = true
		p.GRPCTimeoutMax = limit.AsDuration()
		p.GRPCTimeoutOffset = offset.AsDuration()
	}
}

// orNone maps a duration where 0 disables: unset is 0, 0 is negative.
func orNone(d *durationpb.Duration) time.Duration {
	switch v := d.AsDuration(); {
	case d == nil:
		return 0
	case v <= 0:
		return -1
	default:
		return v
	}
}

func noClusterReply(code routev3.RouteAction_ClusterNotFoundResponseCode) *call.Reply {
	status := map[routev3.RouteAction_ClusterNotFoundResponseCode]int{
		routev3.RouteAction_NOT_FOUND:             404,
		routev3.RouteAction_INTERNAL_SERVER_ERROR: 500,
	}[code]
	if status == 0 {
		return call.ReplyNoCluster
	}
	r := *call.ReplyNoCluster
	r.HTTP, r.GRPC = status, call.CodeFromHTTP(status)
	return &r
}

// backends returns the handle of a cluster, which answers missing while there
// is no such cluster.
func (rt *routeCompiler) backends(name string, missing *call.Reply) call.BackendSet {
	set := rt.at.r.env.cluster(name)
	if missing == call.ReplyNoCluster {
		return set
	}
	return &orReply{set, missing.Naming(name)}
}

// orReply is a cluster handle with its own cluster_not_found_response_code.
type orReply struct {
	call.BackendSet
	missing *call.Reply
}

// Scope returns where the cluster is counted: what it refuses counts there
// whoever asks.
func (b *orReply) Scope() call.Scope {
	if s, ok := b.BackendSet.(interface{ Scope() call.Scope }); ok {
		return s.Scope()
	}
	return call.Scope{}
}

func (b *orReply) Pick(c *call.Call, attempt int) (call.Host, error) {
	h, err := b.BackendSet.Pick(c, attempt)
	if errors.Is(err, call.ReplyNoCluster) {
		err = b.missing
	}
	return h, err
}

// directResponse compiles an answer that the proxy gives itself.
func (rt *routeCompiler) directResponse(a *at, m *routev3.DirectResponseAction) *call.Reply {
	body := a.field("body").data(m.GetBody())
	if len(body) > rt.maxBody {
		a.field("body").errorf("%d bytes, more than max_direct_response_body_size_bytes (%d)", len(body), rt.maxBody)
	}
	status := int(m.GetStatus())
	return &call.Reply{
		HTTP: status, GRPC: call.CodeFromHTTP(status), Message: string(body), Detail: "direct_response", Body: body,
	}
}
