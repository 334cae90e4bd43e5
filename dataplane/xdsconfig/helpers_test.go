package xdsconfig

import (
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

func mapKeys[V any](m map[string]V) iter.Seq[string] { return maps.Keys(m) }

// newCall returns a gRPC call of a client at 192.0.2.7, unless tc says
// otherwise.
func newCall(tc testCall) *call.Call {
	if tc.Method == "" {
		tc.Method = "POST"
	}
	if tc.Remote == "" {
		tc.Remote = "192.0.2.7:4711"
	}
	headers := map[string]string{"content-type": "application/grpc"}
	maps.Copy(headers, tc.Headers)
	b := new(hpack.Block)
	b.AppendCopy(":method", tc.Method)
	b.AppendCopy(":scheme", "http")
	b.AppendCopy(":path", tc.Path)
	b.AppendCopy(":authority", tc.Host)
	for _, k := range slices.Sorted(maps.Keys(headers)) {
		b.AppendCopy(k, headers[k])
	}
	return &call.Call{
		Conn: &call.Conn{
			ID: 7, Listener: "test",
			Remote: netip.MustParseAddrPort(tc.Remote), Local: netip.MustParseAddrPort("192.0.2.1:443"),
		},
		Headers: b, Path: tc.Path, Host: tc.Host, Method: tc.Method,
		GRPC: strings.HasPrefix(headers["content-type"], "application/grpc"), Rand: tc.Rand,
	}
}
