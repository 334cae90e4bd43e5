package relay

import (
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/clock"
	"github.com/sluice-proxy/sluice/dataplane/h2/hdr"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

// headerExchange returns an exchange that has received the fields kv.
func headerExchange(m *call.Manager, rt *call.Route, conn *call.Conn, kv ...string) *Exchange {
	c := &Core{Rand: rand.NewPCG(1, 2), Now: 1e9}
	x := &Exchange{core: c, d: new(Downstream), m: m, grpcClient: -1}
	for i := 0; i < len(kv); i += 2 {
		x.head.AppendCopy(kv[i], kv[i+1])
	}
	x.call = call.Call{Conn: conn, Headers: &x.head, Arrived: 1e9, GRPC: true}
	x.call.Path, _ = x.head.Get(hdr.Path)
	if x.call.Host, _ = x.head.Get(hdr.Authority); x.call.Host == "" {
		x.call.Host, _ = x.head.Get(hdr.Host)
	}
	x.dec.Route = rt
	return x
}

func notesIn(b *hpack.Block) (has notes) {
	for i := range b.Fields {
		has |= notesOf[b.Fields[i].ID]
	}
	return has
}

func fieldsOf(f []hpack.Field) (kv []string) {
	for i := range f {
		kv = append(kv, f[i].Name, f[i].Value)
	}
	return kv
}

func TestReceivedPolicy(t *testing.T) {
	inside := &call.Conn{Remote: netip.MustParseAddrPort("10.1.2.3:4000")}
	outside := &call.Conn{Remote: netip.MustParseAddrPort("203.0.113.9:4000")}
	secure := &call.Conn{Remote: outside.Remote, TLS: &call.TLSInfo{}}
	edge := &call.Manager{UseRemoteAddress: true, ForwardedProto: true}
	home := &call.Manager{UseRemoteAddress: true, ForwardedProto: true, Internal: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	strict := &call.Manager{Sanitize: true}
	say := []string{"x-envoy-internal", "true", "x-envoy-retry-on", "5xx", "x-envoy-upstream-rq-timeout-ms", "1"}
	tests := []struct {
		name string
		m    *call.Manager
		conn *call.Conn
		in   []string
		want []string
	}{
		{"transparent", &call.Manager{}, outside, []string{":path", "/a", "x-forwarded-for", "1.2.3.4"}, []string{":path", "/a", "x-forwarded-for", "1.2.3.4"}},
		{"proto added", &call.Manager{ForwardedProto: true}, inside, []string{":path", "/a"}, []string{":path", "/a", "x-forwarded-proto", "http"}},
		{"proto over TLS", &call.Manager{ForwardedProto: true}, secure, []string{":path", "/a"}, []string{":path", "/a", "x-forwarded-proto", "https"}},
		{"proto kept", &call.Manager{ForwardedProto: true}, inside, []string{"x-forwarded-proto", "https"}, []string{"x-forwarded-proto", "https"}},
		{"proto not judged", &call.Manager{ForwardedProto: true}, inside, []string{"x-forwarded-proto", "gopher"}, []string{"x-forwarded-proto", "gopher"}},
		{"proto at the edge", edge, outside, []string{"x-forwarded-proto", "https"}, []string{"x-forwarded-proto", "http", "x-forwarded-for", "203.0.113.9", "x-envoy-external-address", "203.0.113.9"}},
		{"edge, nobody is internal", edge, inside, nil, []string{"x-forwarded-for", "10.1.2.3", "x-forwarded-proto", "http", "x-envoy-external-address", "10.1.2.3"}},
		{"edge, inside", home, inside, nil, []string{"x-forwarded-for", "10.1.2.3", "x-forwarded-proto", "http", "x-envoy-internal", "true"}},
		{"edge, behind a proxy", home, inside, []string{"x-forwarded-for", "198.51.100.7", "x-envoy-internal", "true"},
			[]string{"x-forwarded-for", "198.51.100.7,10.1.2.3", "x-forwarded-proto", "http", "x-envoy-external-address", "10.1.2.3"}},
		{"edge without append", &call.Manager{UseRemoteAddress: true, SkipXFFAppend: true}, outside, []string{":path", "/"}, []string{":path", "/", "x-envoy-external-address", "203.0.113.9"}},
		{"outside, nothing to say", strict, outside, append([]string{":authority", "a"}, say...), []string{":authority", "a"}},
		{"inside may say", &call.Manager{Sanitize: true, Internal: home.Internal}, outside, append([]string{":authority", "a", "x-forwarded-for", "10.0.0.1"}, say...),
			append(append([]string{":authority", "a", "x-forwarded-for", "10.0.0.1"}, say[2:]...), "x-envoy-internal", "true")},
		{"host for :authority", strict, outside, []string{":path", "/", "host", "h"}, []string{":authority", "h", ":path", "/"}},
		{"host beside :authority", strict, outside, []string{":authority", "h", "host", "h"}, []string{":authority", "h"}},
		{"scheme repaired", strict, outside, []string{":scheme", "gopher", ":authority", "h"}, []string{":scheme", "http", ":authority", "h"}},
		{"request id kept", &call.Manager{GenerateRequestID: true}, inside, []string{"x-request-id", "mine"}, []string{"x-request-id", "mine"}},
		{"via", &call.Manager{Via: "sluice"}, inside, []string{":path", "/"}, []string{":path", "/", "via", "sluice"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x := headerExchange(tt.m, nil, tt.conn, tt.in...)
			x.receivedPolicy(&x.head, notesIn(&x.head))
			if d := cmp.Diff(tt.want, fieldsOf(x.head.Fields)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestRequestID(t *testing.T) {
	uuid := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	outside := &call.Conn{Remote: netip.MustParseAddrPort("203.0.113.9:4000")}
	seen := map[string]bool{}
	x := headerExchange(&call.Manager{GenerateRequestID: true}, nil, outside)
	for range 100 {
		x.head.Reset()
		x.receivedPolicy(&x.head, notesIn(&x.head))
		id, _ := x.head.Get(hdr.XRequestID)
		if !uuid.MatchString(id) || seen[id] {
			t.Fatalf("request id %q, new %v", id, !seen[id])
		}
		seen[strings.Clone(id)] = true // id lives in the block
	}
	// A client outside does not choose the id, unless it may.
	for keep, want := range map[bool]bool{false: false, true: true} {
		m := &call.Manager{GenerateRequestID: true, UseRemoteAddress: true, KeepRequestID: keep}
		x := headerExchange(m, nil, outside, "x-request-id", "mine")
		x.receivedPolicy(&x.head, notesIn(&x.head))
		if id, _ := x.head.Get(hdr.XRequestID); (id == "mine") != want {
			t.Errorf("KeepRequestID %v: id %q", keep, id)
		}
	}
}

func TestApplyOps(t *testing.T) {
	f := hpack.NewField
	dyn := func(v string) func(*call.Call, *call.Outcome) string {
		return func(*call.Call, *call.Outcome) string { return v }
	}
	tests := []struct {
		name     string
		ops      []call.HeaderOp
		in, want []string
	}{
		{"append", []call.HeaderOp{{Field: f("x-a", "2")}}, []string{"x-a", "1"}, []string{"x-a", "1", "x-a", "2"}},
		{"add if absent, absent", []call.HeaderOp{{Action: call.HeaderAddIfAbsent, Field: f("x-a", "2")}}, nil, []string{"x-a", "2"}},
		{"add if absent, present", []call.HeaderOp{{Action: call.HeaderAddIfAbsent, Field: f("x-a", "2")}}, []string{"x-a", "1"}, []string{"x-a", "1"}},
		{"overwrite all", []call.HeaderOp{{Action: call.HeaderOverwrite, Field: f("x-a", "3")}}, []string{"x-a", "1", "x-b", "b", "x-a", "2"}, []string{"x-a", "3", "x-b", "b"}},
		{"overwrite, absent", []call.HeaderOp{{Action: call.HeaderOverwrite, Field: f("x-a", "3")}}, []string{"x-b", "b"}, []string{"x-b", "b", "x-a", "3"}},
		{"overwrite if exists, absent", []call.HeaderOp{{Action: call.HeaderOverwriteIfExist, Field: f("x-a", "3")}}, nil, nil},
		{"overwrite if exists", []call.HeaderOp{{Action: call.HeaderOverwriteIfExist, Field: f("user-agent", "3")}}, []string{"user-agent", "1"}, []string{"user-agent", "3"}},
		{"remove all", []call.HeaderOp{{Action: call.HeaderRemove, Field: f("x-a", "")}}, []string{"x-a", "1", "x-b", "b", "x-a", "2"}, []string{"x-b", "b"}},
		{"remove known", []call.HeaderOp{{Action: call.HeaderRemove, Field: f("user-agent", "")}}, []string{"user-agent", "1", "te", "trailers"}, []string{"te", "trailers"}},
		{"formatted", []call.HeaderOp{{Field: f("x-a", ""), Value: dyn("v")}}, nil, []string{"x-a", "v"}},
		{"formatted to nothing", []call.HeaderOp{{Field: f("x-a", ""), Value: dyn("")}}, nil, nil},
		{"formatted to nothing, kept", []call.HeaderOp{{Field: f("x-a", ""), Value: dyn(""), KeepEmpty: true}}, nil, []string{"x-a", ""}},
		{"a level removes first", []call.HeaderOp{{Field: f("x-a", "1")}, {Action: call.HeaderRemove, Field: f("x-a", "")}}, []string{"x-a", "0"}, []string{"x-a", "1"}},
		{"a level looks first", []call.HeaderOp{{Field: f("x-a", "1")}, {Action: call.HeaderAddIfAbsent, Field: f("x-a", "2")}, {Action: call.HeaderOverwrite, Field: f("x-a", "3")}}, nil, []string{"x-a", "3", "x-a", "1", "x-a", "2"}},
		{"level by level", []call.HeaderOp{{Next: true, Field: f("x-a", "1")}, {Next: true, Action: call.HeaderRemove, Field: f("x-a", "")}, {Field: f("x-a", "2")}}, nil, []string{"x-a", "2"}},
		{"pseudo in place", []call.HeaderOp{{Action: call.HeaderOverwrite, Field: f(":authority", "b")}}, []string{":authority", "a", "te", "trailers"}, []string{":authority", "b", "te", "trailers"}},
		{"pseudo not added late", []call.HeaderOp{{Action: call.HeaderOverwrite, Field: f(":authority", "b")}}, []string{"te", "trailers"}, []string{"te", "trailers"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x := headerExchange(&call.Manager{}, nil, nil, tt.in...)
			x.applyOps(&x.head, tt.ops)
			if d := cmp.Diff(tt.want, fieldsOf(x.head.Fields)); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestGRPCTimeoutUpstream: verbatim, unless the route lowers it or time was
// spent here (docs/core.md, "Deadlines").
func TestGRPCTimeoutUpstream(t *testing.T) {
	tests := []struct {
		name  string
		rt    *call.Route
		in    string
		spent time.Duration
		retry bool
		want  string
	}{
		{"verbatim", nil, "00001S", 0, false, "00001S"},
		{"verbatim with a deadline", &call.Route{UseGRPCTimeout: true}, "2500m", 0, false, "2500m"},
		{"just spent", nil, "1S", time.Millisecond, false, "1S"},
		{"spent", nil, "1S", 10 * time.Millisecond, false, "990000u"},
		{"capped", &call.Route{UseGRPCTimeout: true, GRPCTimeoutMax: 500 * time.Millisecond}, "1S", 0, false, "500000u"},
		{"below the cap", &call.Route{UseGRPCTimeout: true, GRPCTimeoutMax: 5 * time.Second}, "1S", 0, false, "1S"},
		{"retry", nil, "1S", 0, true, "1000000u"},
		{"used up", nil, "1m", 2 * time.Millisecond, false, "0n"},
		{"malformed passes", nil, "soon", time.Second, false, "soon"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x := headerExchange(&call.Manager{}, tt.rt, nil, ":path", "/", "grpc-timeout", tt.in, "te", "trailers")
			x.grpcClient = parseTimeout(tt.in)
			x.limitTime()
			x.core.Now = x.core.Now.Add(tt.spent)
			x.grpcLeft = x.grpcLeft || tt.retry
			want := []string{":path", "/", "grpc-timeout", tt.want, "te", "trailers"}
			if d := cmp.Diff(want, fieldsOf(x.attemptFields(&Attempt{}))); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestLimitTime(t *testing.T) {
	at := func(d time.Duration) clock.Nanos { return clock.Nanos(1e9).Add(d) }
	tests := []struct {
		name     string
		m        call.Manager
		rt       *call.Route
		grpc     time.Duration
		deadline clock.Nanos
		idle     time.Duration
	}{
		{"none", call.Manager{}, nil, -1, 0, 0},
		{"manager", call.Manager{MaxStreamDuration: 7 * time.Second, StreamIdleTimeout: 3 * time.Second}, nil, -1, at(7 * time.Second), 3 * time.Second},
		{"route wins", call.Manager{MaxStreamDuration: 7 * time.Second, StreamIdleTimeout: 3 * time.Second}, &call.Route{MaxStreamDuration: 9 * time.Second, IdleTimeout: time.Second}, -1, at(9 * time.Second), time.Second},
		{"route says never", call.Manager{MaxStreamDuration: 7 * time.Second, StreamIdleTimeout: 3 * time.Second}, &call.Route{MaxStreamDuration: -1, IdleTimeout: -1}, -1, 0, -1},
		{"client's, not asked for", call.Manager{}, &call.Route{}, time.Second, 0, 0},
		{"client's", call.Manager{}, &call.Route{UseGRPCTimeout: true}, time.Second, at(time.Second), 0},
		{"client's, capped", call.Manager{}, &call.Route{UseGRPCTimeout: true, GRPCTimeoutMax: 400 * time.Millisecond}, time.Second, at(400 * time.Millisecond), 0},
		{"client's, offset", call.Manager{}, &call.Route{UseGRPCTimeout: true, GRPCTimeoutOffset: 100 * time.Millisecond}, time.Second, at(900 * time.Millisecond), 0},
		{"client's, offset too large", call.Manager{}, &call.Route{UseGRPCTimeout: true, GRPCTimeoutOffset: 2 * time.Second}, time.Second, at(time.Second), 0},
		{"duration is earlier", call.Manager{}, &call.Route{UseGRPCTimeout: true, MaxStreamDuration: 300 * time.Millisecond}, time.Second, at(300 * time.Millisecond), 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x := headerExchange(&tt.m, tt.rt, nil)
			x.timer.Owner = x
			x.grpcClient = int64(tt.grpc)
			x.limitTime()
			if x.deadline != tt.deadline || x.idle != int64(tt.idle) {
				t.Errorf("deadline %v, idle %v; want %v, %v", x.deadline, time.Duration(x.idle), tt.deadline, tt.idle)
			}
		})
	}
}

func TestResponsePolicy(t *testing.T) {
	tests := []struct {
		name     string
		m        *call.Manager
		in, want []string
	}{
		{"transparent", &call.Manager{}, []string{":status", "200", "server", "theirs"}, []string{":status", "200", "server", "theirs"}},
		{"server overwritten", &call.Manager{ServerHeader: call.ServerOverwrite}, []string{":status", "200", "server", "theirs"}, []string{":status", "200", "server", "envoy"}},
		{"server named", &call.Manager{ServerHeader: call.ServerOverwrite, ServerName: "s"}, []string{":status", "200"}, []string{":status", "200", "server", "s"}},
		{"server if absent", &call.Manager{ServerHeader: call.ServerAppendIfAbsent}, []string{":status", "200", "server", "theirs"}, []string{":status", "200", "server", "theirs"}},
		{"service time", &call.Manager{EnvoyHeaders: true}, []string{":status", "200"}, []string{":status", "200", "x-envoy-upstream-service-time", "12"}},
		{"request id", &call.Manager{RequestIDInReply: true}, []string{":status", "200"}, []string{":status", "200", "x-request-id", "r"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x := headerExchange(tt.m, nil, nil, "x-request-id", "r")
			var b hpack.Block
			for i := 0; i < len(tt.in); i += 2 {
				b.AppendCopy(tt.in[i], tt.in[i+1])
			}
			a := &Attempt{rec: call.Outcome{Start: 1e9, Headers: 1e9 + 12_700_000}}
			x.responsePolicy(a, &b)
			x.connectionPolicy(&b)
			if d := cmp.Diff(tt.want, fieldsOf(b.Fields)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestRoutePolicy(t *testing.T) {
	rt := &call.Route{
		Timeout:    15 * time.Second,
		RequestOps: []call.HeaderOp{{Field: hpack.NewField("x-op", "1")}},
		Rewrite:    &call.Rewrite{Path: func(*call.Call) string { return "/new" }, Host: func(*call.Call, call.Host) string { return "host" }},
	}
	x := headerExchange(&call.Manager{EnvoyHeaders: true}, rt, nil, ":authority", "old", ":path", "/old", "te", "trailers")
	x.routePolicy()
	want := []string{":authority", "host", ":path", "/new", "te", "trailers",
		"x-envoy-expected-rq-timeout-ms", "15000", "x-op", "1", "x-envoy-original-path", "/old", "x-envoy-original-host", "old"}
	got := fieldsOf(x.attemptFields(&Attempt{}))
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if again := fieldsOf(x.attemptFields(&Attempt{})); !slices.Equal(got, again) {
		t.Errorf("the second attempt has %q", again)
	}
}

// TestRewriteBase: a route's rewrite takes the place of a weighted cluster's
// host, which stays if the route has none to say.
func TestRewriteBase(t *testing.T) {
	for host, want := range map[string][]string{
		"":     {":authority", "base"},
		"host": {":authority", "host", "x-forwarded-host", "base", "x-envoy-original-host", "base"},
	} {
		rt := &call.Route{Rewrite: &call.Rewrite{Base: "base", AppendHost: true, Host: func(*call.Call, call.Host) string { return host }}}
		x := headerExchange(&call.Manager{EnvoyHeaders: true}, rt, nil, ":authority", "old")
		x.routePolicy()
		if d := cmp.Diff(want, fieldsOf(x.attemptFields(&Attempt{}))); d != "" {
			t.Error(d)
		}
	}
}
