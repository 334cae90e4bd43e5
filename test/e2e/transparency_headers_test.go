package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"github.com/sluice-proxy/sluice/test/rawh2"
)

// TestRequestHeadersPass sends requests whose headers a proxy could be tempted
// to mend; the backend sees each as it was sent. What an HTTP proxy has to
// settle itself (a host header, no authority, a fragment) is in test/envoydiff.
func TestRequestHeadersPass(t *testing.T) {
	s := newScene(t, fixedConfig{})
	cases := map[string][]rawh2.Field{
		"plain":                     request(),
		"user agent":                request("user-agent", "grpc-c++/1.2 (weird; agent) x/y  z"),
		"another case of authority": withFields(request(), ":authority", "SHOP.Example:443"),
		"no te":                     withFields(request(), "te", "-"),
		"scheme https":              withFields(request(), ":scheme", "https"),
		"path":                      withFields(request(), ":path", "//a/../b/./c%2Fd%zz?x=%20&y=1&&"),
		"path with 8-bit":           withFields(request(), ":path", "/a/\xc3\xa9"),
		"pseudo order":              rawh2.Fields(":path", "/a/b", ":authority", "a", ":method", "POST", ":scheme", "http", "te", "trailers", "content-type", "application/grpc"),
		"not gRPC":                  rawh2.Fields(":method", "GET", ":scheme", "http", ":path", "/index.html", ":authority", "a", "accept", "*/*", "accept-encoding", "gzip, br"),
		"another method":            rawh2.Fields(":method", "PROPFIND", ":scheme", "http", ":path", "/", ":authority", "a"),
		"order, duplicates, empty":  request("z", "1", "a", "", "z", "", "m", "x", "a", "2", "z", "1", "a", "2"),
		"cookie crumbs":             request("cookie", "a=1", "x", "between", "cookie", "b=2; c=3", "cookie", ""),
		"8-bit values":              request("x-text", "\xe4\xf6\xfc \x7f\x80\xff", "x-tab", "a\tb"),
		"odd names":                 request("x_under", "1", "x.dot", "2", "!#$%&'*+-.^_`|~", "3", "1", "4"),
		"spaces within":             request("x", "a  b", "y", "a, b ,c"),
		"commas":                    request("x", "a,b", "x", "c"),
		"forwarded":                 request("x-forwarded-for", "10.0.0.1, 10.0.0.2", "via", "1.1 a", "forwarded", "for=1", "x-request-id", "mine", "x-envoy-original-path", "/x"),
		"expect":                    request("expect", "100-continue"),
		"retry metadata":            request("grpc-previous-rpc-attempts", "2", "grpc-trace-bin", "AAAA"),
		"reserved grpc names":       request("grpc-unknown-thing", "1", "grpc-accept-encoding", "identity,deflate,,gzip", "grpc-message-type", "acme.Thing"),
		"bin padded":                request("x-bin", "AQI=", "x-bin", "AQI", "x-bin", "AQI=,AQID,", "x-bin", "", "x-bin", "not base64 !"),
		"numbers":                   request("max-forwards", "0", "priority", "u=0, i"),
		"long value":                request("x-long", strings.Repeat("v", 20<<10)),
		"100 fields":                request(strings.Fields(strings.Repeat("x-k v ", 100))...),
	}
	for _, ct := range []string{
		"application/grpc+proto", "application/grpc+json", "application/grpc+x.y-z", "application/grpc;charset=utf-8",
		"application/grpc+proto; v=\"1\"", "APPLICATION/GRPC", "application/grpc-web", "application/grpc-web+proto", "application/connect+proto", "text/plain", "",
	} {
		cases["content-type "+ct] = withFields(request(), "content-type", ct)
	}
	for _, to := range []string{"10S", "00000010S", "99999999n", "5000000u", "1H", "8M", "99999999H", "1000m", "10s", "S", "-1S", "123456789S", "1 S"} {
		cases["grpc-timeout "+to] = request("grpc-timeout", to)
	}
	for name, fields := range cases {
		t.Run(name, func(t *testing.T) {
			s.same(t, func(x *exchange) {
				// Twice on a connection: the second time from the tables.
				for range 2 {
					x.open(true, fields)
					x.sv.Headers(true, response("grpc-status", "0"))
					x.must(x.cl.WaitEnd())
				}
			})
		})
	}
}

// TestBlanksAroundValues: gRPC's libraries send them, though HTTP forbids it: a
// call does not fail for that. They are cut off, or escaped where that says the
// same.
func TestBlanksAroundValues(t *testing.T) {
	s := newScene(t, fixedConfig{})
	client, server := s.run(t, s.p.port, func(x *exchange) {
		for range 3 { // the second time from the tables
			x.open(true, request("x-a", " a b\t", "x-b", "\t", "authorization", " 1234567890123456789"))
			x.sv.Headers(false, response("x-c", "c "))
			x.sv.Headers(true, rawh2.Fields("grpc-status", "5", "grpc-message", " failed: ", "x-d-bin", "AQI= "))
			x.must(x.cl.WaitEnd())
		}
	})
	if want := ` x-a="a b" x-b="" authorization="1234567890123456789"(never indexed)`; !strings.HasSuffix(server[0], want) {
		t.Errorf("the backend sees %s, want %s", server[0], want)
	}
	want := []string{
		`HEADERS :status="200" content-type="application/grpc" x-c="c"`, `HEADERS grpc-status="5" grpc-message="%20failed:%20" x-d-bin="AQI="`, "END",
	}
	if !slices.Equal(client, want) {
		t.Errorf("the client sees\n%s", strings.Join(client, "\n"))
	}
}

// TestNeverIndexedStays: a field that came never-indexed leaves never-indexed,
// in both directions (RFC 7541 §6.2.3).
func TestNeverIndexedStays(t *testing.T) {
	s := newScene(t, fixedConfig{})
	secret := []rawh2.Field{{Name: "x-secret", Value: strings.Repeat("s", 40), Sensitive: true}, {Name: "x-open", Value: "1"}}
	client, server := s.run(t, s.p.port, func(x *exchange) {
		for range 3 {
			x.open(true, append(request(), secret...))
			x.sv.Headers(true, append(response("grpc-status", "0"), secret...))
			x.must(x.cl.WaitEnd())
		}
	})
	for _, lines := range [][]string{client, server} {
		if !strings.HasSuffix(lines[0], `s"(never indexed) x-open="1"`) {
			t.Errorf("got %q", lines)
		}
	}
}

// TestResponseHeadersPass is the same for the three places of a response.
func TestResponseHeadersPass(t *testing.T) {
	s := newScene(t, fixedConfig{})
	lists := map[string][]string{
		"nothing":         {},
		"order":           {"z", "1", "a", "", "z", "", "m", "x", "a", "2", "z", "1"},
		"server and date": {"server", "acme/1", "date", "yesterday", "via", "2 b"},
		"set-cookie":      {"set-cookie", "a=1", "set-cookie", "b=2"},
		"bin":             {"x-bin", "AQI=", "x-bin", "AQI", "x-bin", "AQI=,AQID", "x-bin", ""},
		"8-bit":           {"x", "\xe4\xf6\xfc \x7f\x80\xff", "y", "a\tb"},
		"encodings":       {"grpc-encoding", "acme-zip", "grpc-accept-encoding", "acme-zip,identity"},
		"envoy's":         {"x-envoy-upstream-service-time", "7", "x-request-id", "1", "x-envoy-overloaded", "true"},
		"60 KiB":          {"x-a", strings.Repeat("a", 30<<10), "x-b", strings.Repeat("b", 30<<10)},
	}
	for name, nv := range lists {
		t.Run(name, func(t *testing.T) {
			s.same(t, func(x *exchange) {
				x.open(true, request())
				x.sv.Headers(false, response(nv...))
				x.sv.Data(false, message(0, "m"))
				x.sv.Headers(true, trailers(nv...))
				x.must(x.cl.WaitEnd())
			})
			s.same(t, func(x *exchange) { // trailers-only
				x.open(true, request())
				x.sv.Headers(true, response(append([]string{"grpc-status", "5"}, nv...)...))
				x.must(x.cl.WaitEnd())
			})
			s.same(t, func(x *exchange) { // nothing between headers and trailers
				x.open(true, request())
				x.sv.Headers(false, response(nv...))
				x.sv.Headers(true, trailers(nv...))
				x.must(x.cl.WaitEnd())
			})
		})
	}
}

// TestStatusPasses: grpc-status, grpc-message and details come as the backend
// sent them, wherever they stand and whether or not they make sense.
func TestStatusPasses(t *testing.T) {
	s := newScene(t, fixedConfig{})
	for _, nv := range [][]string{
		{"grpc-status", "0"},
		{"grpc-status", "00"},
		{"grpc-status", "16", "grpc-message", "no"},
		{"grpc-status", "17"},
		{"grpc-status", "4294967296"},
		{"grpc-status", "x"},
		{"grpc-status", ""},
		{"grpc-message", "no status"},
		{"grpc-status", "1", "grpc-status", "2"},
		{"grpc-message", "first", "grpc-status", "3"},
		{"grpc-status", "13", "grpc-message", "%e2%82%AC %zz %2 % \xe2\x82\xac 100%"},
		{"grpc-status", "13", "grpc-message", ""},
		{"grpc-status", "9", "grpc-status-details-bin", "CAkSBW5vIQ", "grpc-message", "no!"},
		{"grpc-status", "9", "grpc-status-details-bin", "CAkSBW5vIQ=="},
		{"grpc-status", "14", "grpc-retry-pushback-ms", "-1"},
	} {
		t.Run(strings.Join(nv, " "), func(t *testing.T) {
			s.same(t, func(x *exchange) {
				x.open(true, request())
				x.sv.Headers(false, response())
				x.sv.Headers(true, rawh2.Fields(nv...))
				x.must(x.cl.WaitEnd())
			})
			s.same(t, func(x *exchange) {
				x.open(true, request())
				x.sv.Headers(true, response(nv...))
				x.must(x.cl.WaitEnd())
			})
		})
	}
	t.Run("DATA ends it, no status", func(t *testing.T) {
		s.same(t, func(x *exchange) {
			x.open(true, request())
			x.sv.Headers(false, response())
			x.sv.Data(true, message(0, "m"))
			x.must(x.cl.WaitEnd())
		})
	})
}

// TestPlainHTTPPasses: responses of backends that are not gRPC's.
func TestPlainHTTPPasses(t *testing.T) {
	s := newScene(t, fixedConfig{})
	get := func(method string) []rawh2.Field {
		return rawh2.Fields(":method", method, ":scheme", "http", ":path", "/", ":authority", "a")
	}
	for _, status := range []string{"200", "204", "301", "304", "404", "418", "429", "500", "503", "599", "999"} {
		t.Run(status, func(t *testing.T) {
			s.same(t, func(x *exchange) {
				x.open(true, get("GET"))
				bodyless := status == "204" || status == "304"
				x.sv.Headers(bodyless, rawh2.Fields(":status", status, "content-type", "text/plain", "content-length", map[bool]string{true: "0", false: "5"}[bodyless]))
				if !bodyless {
					x.sv.Data(true, []byte("hello"))
				}
				x.must(x.cl.WaitEnd())
			})
		})
	}
	t.Run("HEAD with content-length", func(t *testing.T) {
		s.same(t, func(x *exchange) {
			x.open(true, get("HEAD"))
			x.sv.Headers(true, rawh2.Fields(":status", "200", "content-length", "1234"))
			x.must(x.cl.WaitEnd())
		})
	})
	t.Run("request with content-length", func(t *testing.T) {
		s.same(t, func(x *exchange) {
			x.open(false, append(get("PUT"), rawh2.Fields("content-length", "3")...))
			x.cl.Data(true, []byte("abc"))
			x.must(x.sv.WaitEnd())
			x.sv.Headers(true, rawh2.Fields(":status", "201"))
			x.must(x.cl.WaitEnd())
		})
	})
}

// TestBigHeaders: 60 KiB of fields in every place where a block can be, in one
// value and in many, with and without the compression tables.
func TestBigHeaders(t *testing.T) {
	s := newScene(t, fixedConfig{})
	one := []string{"x-big", strings.Repeat("0123456789abcdef", 60<<10/16)}
	var many []string
	for i := range 60 {
		many = append(many, fmt.Sprintf("x-%02d", i), strings.Repeat(string(rune('a'+i%26)), 1000))
	}
	for name, nv := range map[string][]string{"one value": one, "many": many} {
		for _, table := range []uint32{4096, 0} {
			t.Run(fmt.Sprint(name, ", table ", table), func(t *testing.T) {
				s.same(t, func(x *exchange) {
					x.conn.EncoderTable(table)
					x.open(false, request(nv...))
					x.sv.Conn().EncoderTable(table)
					x.cl.Headers(true, rawh2.Fields(nv...))
					x.must(x.sv.WaitEnd())
					x.sv.Headers(false, response(nv...))
					x.sv.Headers(true, trailers(nv...))
					x.must(x.cl.WaitEnd())
					x.sv.Conn().EncoderTable(4096)
				})
			})
		}
	}
}

// TestInformational: 1xx blocks are relayed in order, with their fields. 100
// after the whole request was sent says nothing and is dropped.
func TestInformational(t *testing.T) {
	s := newScene(t, fixedConfig{})
	for name, statuses := range map[string][]string{"100": {"100"}, "103 twice": {"103", "103"}, "mixed": {"100", "102", "103", "199"}} {
		t.Run(name, func(t *testing.T) {
			s.same(t, func(x *exchange) {
				x.open(false, request("expect", "100-continue"))
				for i, st := range statuses {
					x.sv.Headers(false, rawh2.Fields(":status", st, "link", fmt.Sprint(i), "link", ""))
				}
				x.must(x.cl.WaitHeaders(len(statuses)))
				x.cl.Data(true, message(0, "m"))
				x.must(x.sv.WaitEnd())
				x.sv.Headers(false, response())
				x.sv.Headers(true, trailers())
				x.must(x.cl.WaitEnd())
			})
		})
	}
	t.Run("100 too late", func(t *testing.T) {
		client, _ := s.run(t, s.p.port, func(x *exchange) {
			x.open(true, request())
			x.sv.Headers(false, rawh2.Fields(":status", "100"))
			x.sv.Headers(false, rawh2.Fields(":status", "103"))
			x.sv.Headers(true, response("grpc-status", "0"))
			x.must(x.cl.WaitEnd())
		})
		if got := strings.Join(client, "\n"); strings.Contains(got, `"100"`) || !strings.Contains(got, `"103"`) {
			t.Errorf("the client sees\n%s", got)
		}
	})
	t.Run("101 is malformed", func(t *testing.T) {
		client, server := s.run(t, s.p.port, func(x *exchange) {
			x.open(true, request())
			x.sv.Headers(false, rawh2.Fields(":status", "101"))
			x.must(x.cl.WaitEnd())
		})
		wantStatus(t, client, "13")
		if server[len(server)-1] != "RESET "+http2.ErrCodeProtocol.String() {
			t.Errorf("the server sees %q", server)
		}
	})
}

// wantStatus checks the grpc-status that ends what a client saw.
func wantStatus(t *testing.T, client []string, status string) {
	t.Helper()
	for _, line := range client {
		if strings.Contains(line, fmt.Sprintf(" grpc-status=%q", status)) {
			return
		}
	}
	t.Errorf("want grpc-status %s, the client sees\n%s", status, strings.Join(client, "\n"))
}
