package envoydiff

import "strings"

var routes = []testCase{
	{path: "/any"},
	{path: "/any", plain: true},
	{path: "/any?x=y", headers: []string{"x-in", "in", "x-gone", "bye"}},
	{path: "/any", headers: []string{"x-in", "a|b"}},
	{path: "/any", headers: []string{"grpc-timeout", "5S"}},
	{path: "/path"},
	{path: "/path?q=1"},
	{path: "/path/more", differs: sayWhy},
	{path: "/fold"},
	{path: "/sep"},
	{path: "/sep/more?x=1"},
	{path: "/separate", differs: sayWhy},
	{path: "/re/123"},
	{path: "/re/123?x=1"},
	{path: "/re/12a", differs: sayWhy},
	{path: "/h", headers: []string{"x-kind", "gold"}},
	{path: "/h", headers: []string{"x-kind", "gold", "x-not", "1", "x-n", "19"}},
	{path: "/h", headers: []string{"x-n", "20"}, differs: sayWhy},
	{path: "/h", headers: []string{"x-n", "10"}},
	{path: "/q?a=bc"},
	{path: "/q?a=cb", differs: sayWhy},
	{path: "/cookie", headers: []string{"cookie", "x=y; a=bc"}},
	{path: "/cookie", headers: []string{"cookie", `a="bc";c=e`}},
	{path: "/cookie", headers: []string{"cookie", "a=x; a=bc"}, differs: sayWhy},
	{path: "/cookie", headers: []string{"cookie", "a=bc; c=d"}, differs: sayWhy},
	{path: "/cookie", headers: []string{"cookie", "c=e"}, differs: sayWhy},
	{path: "/cookie", differs: sayWhy},
	{path: "/g"},
	{path: "/g", plain: true, headers: []string{"content-type", "application/json"}, differs: sayWhy},
	{path: "/any", headers: []string{":authority", "exact.example"}},
	{path: "/any", headers: []string{":authority", "EXACT.example"}},
	{path: "/any", headers: []string{":authority", "exact.example:81"}},
	{path: "/any", headers: []string{":authority", "a.b.example"}},
	{path: "/any", headers: []string{":authority", "exact.net"}},
	{path: "/bytes/x", plain: true},
	{path: "/bytes/\xe9", plain: true},
	{path: "/bytes/é", plain: true},
	{path: "/bytes/.*", plain: true},
	{path: "/bytes/☺"},
	{path: "/values", headers: []string{"x-v", "two|one"}},
	{path: "/values", headers: []string{"x-v", "two,one"}},
	{path: "/values", headers: []string{"x-v", "7|t|4"}},
	{path: "/values", headers: []string{"x-v", "7|t"}},
	{path: "/values", headers: []string{"x-v", "7|9"}},
	{path: "/values", headers: []string{"accept", "a|b"}},
	{path: "/values", headers: []string{"x-v", "t|three", "accept", "b|a", "cookie", "a=1|b=2"}},
	{path: "/typed", plain: true},
	{path: "/typed"},
	{path: "/typed/if", plain: true},
	{path: "/typed/if"},
	{path: "/typed/none", plain: true},
	{path: "/typed/none"},
	{path: "/by-header", headers: []string{"x-cluster", "be"}},
	{path: "/by-header", headers: []string{"x-cluster", "named"}},
	{path: "/by-header", headers: []string{"x-cluster", "nowhere"}, differs: sayWhy},
	{path: "/by-header", differs: sayWhy},
	{path: "/missing", differs: sayWhy},
	{path: "/missing", plain: true, differs: sayWhy},
	{path: "/teapot", differs: sayWhy},
	{path: "/teapot", plain: true, differs: sayWhy},
	{path: "/broken", differs: sayWhy},
	{path: "/broken", plain: true, differs: sayWhy},
	{path: "/direct"},
	{path: "/direct", plain: true},
	{path: "/direct/200"},
	{path: "/direct/200", plain: true},
	{path: "/direct/400"},
	{path: "/direct/404"},
	{path: "/direct/429"},
	{path: "/direct/503"},
	{path: "/direct/301", plain: true},
	{path: "/direct/599"},
	{path: "/direct/204", plain: true},
	{path: "/dead", differs: connectFailure},
	{path: "/dead", plain: true, differs: connectFailure},
	{path: "/empty"},
	{path: "/empty", plain: true},
	{path: "/any", headers: []string{"x-reply", "404"}, differs: httpError},
	{path: "/any", headers: []string{"x-reply", "503"}, differs: httpError},
	{path: "/any", headers: []string{"x-reply", "503"}, plain: true},
	{path: "/any", headers: []string{"x-reply", "trailers-only"}},
	{path: "/any", headers: []string{"x-reply", "internal"}},
	{path: "/any", headers: []string{"x-reply", "reset"}, differs: resetCode},
	{path: "/any", headers: []string{"x-reply", "reset"}, plain: true, differs: sayWhy},
}

// redirects do not depend on whether the request is gRPC's, but for their form.
var redirects = []testCase{
	{path: "/to-https"},
	{path: "/to-https/a?q=1", plain: true},
	{path: "/to-https/a", plain: true, headers: []string{":authority", "any.host:80"}},
	{path: "/to-https/a", plain: true, headers: []string{":authority", "any.host:81"}},
	{path: "/to-https/a", plain: true, headers: []string{":authority", "[::1]:80"}},
	{path: "/to-https/a", plain: true, headers: []string{":authority", "[::1]"}},
	{path: "/to-https/a", plain: true, headers: []string{":authority", "any.host:443", "x-forwarded-proto", "https"}},
	{path: "/to-https/a", plain: true, headers: []string{":authority", "any.host:80", "x-forwarded-proto", "https"}},
	{path: "/to-scheme", plain: true, headers: []string{":authority", "any.host:80"}},
	{path: "/to-scheme", plain: true},
	{path: "/to-host?q", plain: true, headers: []string{":authority", "any.host:80"}},
	{path: "/to-port", plain: true, headers: []string{":authority", "any.host:80"}},
	{path: "/to-path/a?q=1", plain: true},
	{path: "/to-query/a?q=1", plain: true},
	{path: "/to-strip/a?q=1", plain: true},
	{path: "/to-prefix/a?q=1", plain: true},
	{path: "/to-exact?q=1", plain: true},
	{path: "/to-regex/12/x?q=/3", plain: true},
	{path: "/to-bare/path?q=1", plain: true},
	{path: "/to-bare/query?q=1", plain: true},
	{path: "/to-bare/prefix/a?q=1", plain: true},
	{path: "/to-nothing/a?q=1", plain: true},
	{path: "/direct/301", plain: true, headers: []string{":authority", "any.host:80"}},
	{path: "/any", headers: []string{":authority", "secure.host"}},
	{path: "/any", headers: []string{":authority", "secure.host:80"}},
	{path: "/any?q=1", plain: true, headers: []string{":authority", "secure.host"}},
	{path: "/nowhere", plain: true, headers: []string{":authority", "secure.host"}},
	{path: "/any", headers: []string{":authority", "secure.host", "x-forwarded-proto", "https"}},
	{path: "/any", plain: true, headers: []string{":authority", "outside.host"}},
	{path: "/any", plain: true, headers: []string{":authority", "outside.host", "x-forwarded-for", "8.8.8.8"}},
	{path: "/any", plain: true, headers: []string{":authority", "outside.host", "x-forwarded-for", "10.9.8.7"}},
}

// connectFailure: Envoy adds the operating system's error to its words.
func connectFailure(envoy, ours *seen) { sayWhy(envoy, ours) }

// parameters of paths: a profile ignores them.
var parameters = []testCase{
	{path: "/Param/path;a?b;c=d"},
	{path: "/param;a/path;b/"},
	{path: "/param;a/path"},
	{path: "/param/path;a/;b"},
	{path: "/param/prefix;a/b;c?d"},
	{path: "/param;a/prefix/b;c?d"},
	{path: "/param/redirect;a/b?c", plain: true},
	{path: "/param;a/redirect;b", plain: true},
	{path: "/param;a/regex/b;c?d;e"},
	{path: "/param/regex/b/;c"},
}

var rewrites = []testCase{
	{path: "/rw/host"},
	{path: "/rw/weighted"},
	{path: "/rw/both"},
	{path: "/rw/both", headers: []string{"x-to", "from.header"}},
	{path: "/h", headers: []string{"x-kind", "gold"}},
	{path: "/rw/literal?x=1"},
	{path: "/rw/append"},
	{path: "/rw/append", headers: []string{"x-forwarded-host", "before"}},
	{path: "/rw/header", headers: []string{"x-to", "from.header"}},
	{path: "/rw/header"},
	{path: "/rw/pathregex/sub?x=1"},
	{path: "/rw/auto"},
	{path: "/rw/autoappend"},
	{path: "/rw/same", headers: []string{":authority", "same.host"}},
	{path: "/rw/prefix/a"},
	{path: "/rw/sameprefix/a"},
	{path: "/rw/exact?q"},
	{path: "/rw/regexall/a/a?a"},
	{path: "/rw/slash/x"},
	{path: "/rw/nogroup"},
	{path: "/rw/badslash/bad?bad"},
	{path: "/rw/endslash/end/x"},
	{path: "/rw/nothing/x?q=1"},
}

var mutations = append([]testCase{
	{path: "/m/actions", headers: []string{"x-have", "h|i", "x-gone", "g", "x-reply", "many", "x-in", ""}},
	{path: "/m/actions", headers: []string{"x-reply", "many"}},
	{path: "/m/actions", headers: []string{"x-reply", "503"}, differs: httpError},
	{path: "/m/format", headers: []string{"x-in", "value", "x-long", "abcdefghij", "x-forwarded-for", "10.9.8.7"}},
	{path: "/m/format"},
	{path: "/m/format?b=x%20yz&a=1%3D+2&a=3", headers: []string{"x-request-id", "mine", "x-reply", "trailers-only"}},
	{path: "/m/format", headers: []string{"x-reply", "internal"}},
	{path: "/m/format", headers: []string{"x-reply", "503"}, plain: true},
	{path: "/m/format/direct?a=1"},
	{path: "/m/format/direct?a=1", plain: true},
	{path: "/m/weighted", headers: []string{"x-level", "client"}},
	{path: "/m/direct"},
	{path: "/m/direct", plain: true},
	{path: "/m/missing", differs: sayWhy},
	{path: "/m/rewritten/x"},
}, rewrites...)

func pseudo(nv ...string) []string { return nv }

// refusedBoth: how a malformed request is refused is each one's own (Envoy
// closes the connection, resets or answers; RFC 9113 §8.1.1 leaves it open);
// that neither lets it through is what counts.
func refusedBoth(envoy, ours *seen) {
	for _, s := range []*seen{envoy, ours} {
		h := s.Response.Headers
		if s.Response.End != "" || h[":status"] == "400" || h[":status"] == "431" || h["grpc-status"] == "13" {
			s.Response = message{End: "refused"}
			for i := range s.Requests { // begun, and reset
				if s.Requests[i].End != "" {
					s.Requests = nil
					break
				}
			}
		}
	}
}

// weRefuse: Envoy lets pass what the RFC calls malformed.
func weRefuse(envoy, ours *seen) {
	refusedBoth(envoy, ours)
	if ours.Response.End == "refused" && len(ours.Requests) == 0 {
		*envoy = *ours
	}
}

// weTrim: Envoy passes blanks around values on, which RFC 9113 §8.2.1 forbids.
func weTrim(envoy, _ *seen) {
	for name, v := range envoy.Requests[0].Headers {
		envoy.Requests[0].Headers[name] = strings.Trim(v, " \t")
	}
}

// wePass: a control character in a value is malformed to Envoy. RFC 9113
// §8.2.1 asks to refuse NUL, CR and LF only, and gRPC libraries do no more.
func wePass(envoy, ours *seen) {
	if envoy.Response.End != "" && len(envoy.Requests) == 0 && len(ours.Requests) == 1 {
		*envoy = *ours
	}
}

// crumbs: Envoy joins the fields of cookie; RFC 9113 §8.2.3 asks for it only on
// the way out of HTTP/2.
func crumbs(_, ours *seen) {
	h := ours.Requests[0].Headers
	h["cookie"] = strings.ReplaceAll(h["cookie"], "|", "; ")
}

// deadline: Envoy answers gRPC with what 504 maps to, UNAVAILABLE, which
// clients retry. A call whose time is up is DEADLINE_EXCEEDED.
func deadline(envoy, ours *seen) {
	if envoy.Response.Headers["grpc-status"] == "14" && ours.Response.Headers["grpc-status"] == "4" {
		ours.Response.Headers["grpc-status"] = "14"
	}
}

// shorterStays: Envoy overwrites the client's deadline with the route's even if
// that is later.
func shorterStays(envoy, ours *seen) {
	if len(ours.Requests) > 0 && len(envoy.Requests) > 0 && ours.Requests[0].Headers["grpc-timeout"] == "100ms" {
		envoy.Requests[0].Headers["grpc-timeout"] = "100ms"
	}
}

// httpError: Envoy passes an HTTP error of an upstream to a gRPC client as it
// is. We give it the grpc-status that the client would make of it
// (http-grpc-status-mapping), so that all see the same.
func httpError(envoy, ours *seen) {
	if envoy.Response.Headers[":status"] != "200" && ours.Response.Headers["grpc-status"] != "" {
		for _, s := range []*seen{envoy, ours} {
			for _, name := range []string{":status", "content-type", "grpc-status", "grpc-message"} {
				delete(s.Response.Headers, name)
			}
		}
	}
}

// resetCode: Envoy answers gRPC with what 503 maps to; we with what the
// upstream's RST_STREAM maps to (gRPC over HTTP/2, "Errors"), as a client
// without a proxy would see.
func resetCode(envoy, ours *seen) {
	sayWhy(envoy, ours)
	if envoy.Response.Headers["grpc-status"] == "14" && ours.Response.Headers["grpc-status"] == "13" {
		ours.Response.Headers["grpc-status"] = "14"
	}
}

var protocol = []testCase{
	{path: "/any", trailers: []string{"x-t", "1"}},
	{path: "/any", plain: true, empty: true, headers: []string{":method", "GET"}},
	{path: "/any", plain: true, empty: true, headers: []string{":method", "HEAD"}},
	{path: "/direct", plain: true, empty: true, headers: []string{":method", "HEAD"}},
	{path: "/missing", plain: true, empty: true, headers: []string{":method", "HEAD"}, differs: sayWhy},
	{path: "/any", plain: true, headers: []string{":method", "PUT", "content-length", "1"}},
	{path: "/any", plain: true, headers: []string{":method", "TRACE"}},
	{path: "/any", plain: true, headers: []string{":method", "BREW"}},
	{path: "/any", headers: []string{"expect", "100-continue"}},
	{path: "/any", headers: []string{"te", "trailers, deflate"}, differs: refusedBoth},
	{path: "/any", headers: []string{"te", "-"}},
	{path: "/any", headers: []string{"connection", "close"}, differs: refusedBoth},
	{path: "/any", headers: []string{"keep-alive", "1"}, differs: refusedBoth},
	{path: "/any", headers: []string{"proxy-connection", "close"}, differs: refusedBoth},
	{path: "/any", headers: []string{"upgrade", "websocket"}, differs: refusedBoth},
	{path: "/any", headers: []string{"transfer-encoding", "chunked"}, differs: refusedBoth},
	{path: "/any", headers: []string{"content-length", "7"}, differs: refusedBoth},
	{path: "/any", headers: []string{"host", "any.host"}},
	{path: "/any", headers: []string{"host", "other.host"}, differs: weRefuse},
	{path: "/any", headers: []string{":authority", "-", "host", "exact.example"}},
	{path: "/any", headers: []string{":authority", "-"}, differs: refusedBoth},
	{path: "/any", headers: []string{":authority", "-"}, plain: true, differs: refusedBoth},
	{path: "/any", headers: []string{":authority", ""}, differs: refusedBoth},
	{path: "/any", headers: []string{":scheme", "https"}},
	{path: "/any", headers: []string{":scheme", "HTTP"}, differs: weRefuse},
	{path: "/any", headers: []string{":scheme", "gopher"}},
	{path: "/any", headers: []string{"x-forwarded-proto", "https", ":scheme", "http"}},
	{path: "/any", headers: []string{":path", "/any#frag"}, differs: refusedBoth},
	{path: "/any", headers: []string{":path", "/any?a#frag"}, plain: true, differs: refusedBoth},
	{path: "/any", headers: []string{":path", "any"}, differs: refusedBoth},
	{path: "/any", headers: []string{":path", ""}, differs: refusedBoth},
	{path: "*", plain: true, headers: []string{":method", "OPTIONS"}, differs: sayWhy},
	{path: "*", differs: refusedBoth},
	{path: "/any/" + long(9000)},
	{path: "/any/" + long(70000), differs: refusedBoth},
	{path: "/any/ space", differs: refusedBoth},
	{path: "/any", headers: []string{"x-bad", "a\x00b"}, differs: refusedBoth},
	{path: "/any", headers: []string{"x-bad", "a\nb"}, differs: refusedBoth},
	{path: "/any", headers: []string{"x-ctl", "a\x01\x7fb"}, differs: wePass},
	{path: "/any", headers: []string{":authority", "é.example"}, differs: wePass},
	{path: "/any", headers: []string{"x-high", "a\x80\xffb"}},
	{path: "/any", headers: []string{"x-blank", " a "}, differs: weTrim},
	{path: "/any", headers: []string{"X-Upper", "a"}, differs: refusedBoth},
	{path: "/any", headers: []string{"x bad", "a"}, differs: refusedBoth},
	{path: "dup-method", raw: pseudo(":method", "POST", ":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/any"), differs: refusedBoth},
	{path: "dup-path", raw: pseudo(":method", "POST", ":scheme", "http", ":authority", "a", ":path", "/any", ":path", "/direct"), differs: refusedBoth},
	{path: "dup-authority", raw: pseudo(":method", "POST", ":scheme", "http", ":authority", "a", ":authority", "exact.example", ":path", "/any"), differs: refusedBoth},
	{path: "late-pseudo", raw: pseudo(":method", "POST", ":scheme", "http", "a", "b", ":authority", "a", ":path", "/any"), differs: refusedBoth},
	{path: "no-method", raw: pseudo(":scheme", "http", ":authority", "a", ":path", "/any"), differs: refusedBoth},
	{path: "no-path", raw: pseudo(":method", "POST", ":scheme", "http", ":authority", "a"), differs: refusedBoth},
	{path: "no-scheme", raw: pseudo(":method", "POST", ":authority", "a", ":path", "/any"), differs: refusedBoth},
	{path: "odd-pseudo", raw: pseudo(":method", "POST", ":scheme", "http", ":authority", "a", ":path", "/any", ":odd", "1"), differs: refusedBoth},
	{path: "connect", raw: pseudo(":method", "CONNECT", ":authority", "a:1"), differs: weRefuse},
	{path: "dup-host", raw: pseudo(":method", "POST", ":scheme", "http", ":path", "/any", "host", "a", "host", "b"), differs: refusedBoth},
	{path: "userinfo", raw: pseudo(":method", "POST", ":scheme", "http", ":authority", "u@any.host", ":path", "/any"), differs: refusedBoth},
	{path: "/any", headers: []string{"cookie", "a=1|b=2"}, differs: crumbs},
	{path: "/any", headers: []string{"content-type", "application/grpc+proto"}},
	{path: "/missing", headers: []string{"content-type", "application/grpc+proto"}, differs: sayWhy},
	{path: "/missing", headers: []string{"content-type", "application/grpc-web"}, differs: sayWhy},
	{path: "/any", headers: []string{"grpc-timeout", "soon", "grpc-encoding", "gzip"}},
	{path: "/to/1s", headers: []string{"grpc-timeout", "200m", "x-reply", "slow"}, differs: deadline},
	{path: "/to/max", headers: []string{"grpc-timeout", "300m", "x-reply", "slow"}},
	{path: "/to/max", headers: []string{"grpc-timeout", "5S"}},
	{path: "/to/oldmax", headers: []string{"grpc-timeout", "5S"}},
	{path: "/to/oldmax", headers: []string{"grpc-timeout", "100m"}},
	{path: "/to/oldmax"},
	{path: "/to/none"},
	{path: "/to/duration", headers: []string{"x-reply", "slow"}},
	{path: "/to/duration", plain: true},
	{path: "/to/duration", headers: []string{"grpc-timeout", "5S"}},
	{path: "/to/duration", headers: []string{"grpc-timeout", "100m"}, differs: shorterStays},
	{path: "/to/timeout", headers: []string{"x-reply", "slow"}, differs: deadline},
	{path: "/to/timeout", headers: []string{"x-reply", "slow"}, plain: true},
	{path: "/to/pertry", headers: []string{"x-reply", "slow-once"}},
	{path: "/retry", headers: []string{"x-reply", "unavailable-once"}},
	{path: "/retry", headers: []string{"x-reply", "internal"}},
	{path: "/retry", headers: []string{"x-reply", "503"}, differs: httpError},
}
