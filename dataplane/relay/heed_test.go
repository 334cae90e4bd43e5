package relay

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

type noBackends struct{ call.BackendSet }

func TestHeedHeaders(t *testing.T) {
	m := &call.Manager{Sanitize: true, UseRemoteAddress: true, Internal: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	base := &call.Route{Timeout: 15 * time.Second}
	ask := []string{":authority", "a", "x-envoy-upstream-rq-timeout-ms", "2000", "x-envoy-upstream-rq-per-try-timeout-ms", "300",
		"x-envoy-retry-on", "reset,retriable-status-codes", "x-envoy-retry-grpc-on", "cancelled", "x-envoy-retriable-status-codes", "418, 503", "x-envoy-max-retries", "4"}
	for _, peer := range []string{"10.0.0.1:1", "203.0.113.1:1"} {
		x := headerExchange(m, base, &call.Conn{Remote: netip.MustParseAddrPort(peer)}, ask...)
		if rp := x.receivedPolicy(&x.head, notesIn(&x.head)); rp != nil {
			t.Fatal(rp)
		}
		want := base
		if peer == "10.0.0.1:1" {
			want = &call.Route{Timeout: 2 * time.Second, Retry: &call.RetryPolicy{
				On: call.RetryReset, GRPCCodes: 1 << call.Canceled, HTTPCodes: []int{418, 503}, Max: 4, PerTry: 300 * time.Millisecond,
			}}
		}
		x.dec.Backends = noBackends{}
		if x.heeds {
			x.heedHeaders()
		}
		if d := cmp.Diff(want, x.dec.Route); d != "" {
			t.Errorf("%s: %s", peer, d)
		}
		if has := notesIn(&x.head); has&(noteRouter|noteOutside) != 0 {
			t.Errorf("%s: left %q", peer, fieldsOf(x.head.Fields))
		}
	}
	if base.Retry != nil || base.Timeout != 15*time.Second {
		t.Error("the shared route was changed")
	}
}

func TestHostStripping(t *testing.T) {
	conn := &call.Conn{Local: netip.MustParseAddrPort("10.0.0.1:443")}
	tests := []struct {
		host  string
		which call.StripPort
		want  string
	}{
		{"a:443", call.StripNone, "a:443"},
		{"a:443", call.StripMatching, "a"},
		{"a:444", call.StripMatching, "a:444"},
		{"a:444", call.StripAny, "a"},
		{"[::1]:443", call.StripMatching, "[::1]"},
		{"[::1]", call.StripAny, "[::1]"},
		{"a:", call.StripAny, "a:"},
		{"a:4x", call.StripAny, "a:4x"},
		{"a:4294967739", call.StripMatching, "a:4294967739"},
	}
	for _, tt := range tests {
		if got := stripPort(tt.host, tt.which, conn); got != tt.want {
			t.Errorf("stripPort(%q, %d) = %q, want %q", tt.host, tt.which, got, tt.want)
		}
	}
	for in, want := range map[string]string{"a.": "a", "a.:80": "a:80", "a.b:80": "a.b:80", "a": "a", "a..:1": "a.:1"} {
		if got := stripDot(in); got != want {
			t.Errorf("stripDot(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestLastForwarded(t *testing.T) {
	tests := []struct {
		in     []string
		skip   int
		want   string
		single bool
	}{
		{nil, 0, "invalid IP", false},
		{[]string{"10.0.0.1"}, 0, "10.0.0.1", true},
		{[]string{"10.0.0.1"}, 1, "invalid IP", false},
		{[]string{"1.1.1.1, 2.2.2.2 ,3.3.3.3"}, 0, "3.3.3.3", false},
		{[]string{"1.1.1.1, 2.2.2.2 ,3.3.3.3"}, 1, "2.2.2.2", false},
		{[]string{"1.1.1.1, 2.2.2.2 ,3.3.3.3"}, 2, "1.1.1.1", false},
		{[]string{"1.1.1.1", "2.2.2.2"}, 0, "2.2.2.2", false},
		{[]string{"1.1.1.1", "2.2.2.2"}, 1, "1.1.1.1", false},
		{[]string{"x"}, 0, "invalid IP", false},
		{[]string{"1.1.1.1:80"}, 0, "invalid IP", false},
		{[]string{"::ffff:1.2.3.4"}, 0, "1.2.3.4", true},
	}
	for _, tt := range tests {
		var kv []string
		for _, v := range tt.in {
			kv = append(kv, "x-forwarded-for", v, "other", "1")
		}
		x := headerExchange(&call.Manager{}, nil, nil, kv...)
		if got, single := lastForwarded(&x.head, tt.skip); got.String() != tt.want || single != tt.single {
			t.Errorf("%q skip %d: %v %v, want %s %v", tt.in, tt.skip, got, single, tt.want, tt.single)
		}
	}
}
