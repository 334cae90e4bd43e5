package route

import (
	"strings"
	"testing"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// TestRequireTLS: a virtual host that requires TLS answers requests without it
// before any route is tried, and Explain says so.
func TestRequireTLS(t *testing.T) {
	tables := map[bool]*Table{}
	reply := &call.Reply{HTTP: 301}
	for _, external := range []bool{false, true} {
		b := NewBuilder("cfg")
		vh, _ := b.AddVirtualHost("v", []string{"*"})
		vh.RequireTLS(&TLSRequirement{ExternalOnly: external, Reply: reply, Route: &call.Route{}})
		if err := vh.Add(Match{}, to("c")); err != nil {
			t.Fatal(err)
		}
		tbl, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		tables[external] = tbl
	}
	for _, tc := range []struct {
		name     string
		headers  []string
		tls      bool
		external bool
		refused  bool
	}{
		{name: "plaintext", headers: []string{"x-forwarded-proto", "http"}, refused: true},
		{name: "TLS", headers: []string{"x-forwarded-proto", "https"}},
		{name: "TLS before a proxy", headers: []string{"x-forwarded-proto", "http"}, tls: true, refused: true},
		{name: "nobody says", refused: true},
		{name: "nobody says, TLS", tls: true},
		{name: "external", headers: []string{"x-forwarded-proto", "http"}, external: true, refused: true},
		{name: "internal", headers: []string{"x-forwarded-proto", "http", "x-envoy-internal", "true"}, external: true},
	} {
		c := post("/a", tc.headers...)
		c.Conn = &call.Conn{}
		if tc.tls {
			c.Conn.TLS = &call.TLSInfo{}
		}
		tbl := tables[tc.external]
		d, err := tbl.Direct(c)
		if got := d.Reply == reply; err != nil || got != tc.refused {
			t.Errorf("%s: refused %v, %v", tc.name, got, err)
		}
		if x := tbl.Explain(c); x.NeedsTLS != tc.refused || strings.Contains(x.String(), "require_tls") != tc.refused {
			t.Errorf("%s: explained as %s", tc.name, x)
		}
	}
}
