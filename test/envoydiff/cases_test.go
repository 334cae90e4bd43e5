package envoydiff

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// profiles are the listeners. Each has its cases in cases.
var profiles = []profile{
	{name: "inside"},
	{name: "edge", hcm: "use_remote_address: true"},
	{name: "edge-hops", hcm: "use_remote_address: true\nxff_num_trusted_hops: 1\npreserve_external_request_id: true"},
	{name: "edge-skip", hcm: "use_remote_address: true\nskip_xff_append: true\nalways_set_request_id_in_response: true"},
	{name: "edge-internal", hcm: "use_remote_address: true\ninternal_address_config: { cidr_ranges: [{ address_prefix: 127.0.0.0, prefix_len: 8 }, { address_prefix: 10.0.0.0, prefix_len: 8 }] }"},
	{name: "inside-internal", hcm: "internal_address_config: { cidr_ranges: [{ address_prefix: 10.0.0.0, prefix_len: 8 }] }\nappend_x_forwarded_port: true"},
	{name: "private", hcm: "use_remote_address: true\nskip_xff_append: true\ninternal_address_config: { unix_sockets: true }"},
	{name: "inside-private", hcm: "internal_address_config: { unix_sockets: true }"},
	{name: "inside-hops", hcm: "xff_num_trusted_hops: 1\ninternal_address_config: { cidr_ranges: [{ address_prefix: 10.0.0.0, prefix_len: 8 }] }"},
	{name: "names", hcm: "add_user_agent: true\nserver_name: me\nserver_header_transformation: APPEND_IF_ABSENT\nvia: proxy\ngenerate_request_id: false"},
	{name: "pass", hcm: "server_name: me\nserver_header_transformation: PASS_THROUGH\nforward_client_cert_details: ALWAYS_FORWARD_ONLY", router: ", suppress_envoy_headers: true"},
	{name: "cert-forward", hcm: "forward_client_cert_details: FORWARD_ONLY"},
	{name: "cert-append", hcm: "forward_client_cert_details: APPEND_FORWARD\nset_current_client_cert_details: { subject: true, uri: true }"},
	{name: "paths", hcm: "normalize_path: true\nmerge_slashes: true"},
	{name: "escaped", hcm: "normalize_path: true\npath_with_escaped_slashes_action: UNESCAPE_AND_FORWARD"},
	{name: "escaped-reject", hcm: "path_with_escaped_slashes_action: REJECT_REQUEST"},
	{name: "escaped-redirect", hcm: "merge_slashes: true\npath_with_escaped_slashes_action: UNESCAPE_AND_REDIRECT"},
	{name: "port", hcm: "strip_matching_host_port: true\nstrip_trailing_host_dot: true"},
	{name: "any-port", hcm: "strip_any_host_port: true"},
	{name: "drop", hcm: "common_http_protocol_options: { headers_with_underscores_action: DROP_HEADER }"},
	{name: "reject", hcm: "common_http_protocol_options: { headers_with_underscores_action: REJECT_REQUEST }"},
	{name: "tls-forward", tls: true, hcm: "forward_client_cert_details: FORWARD_ONLY\nuse_remote_address: true"},
	{name: "tls-append", tls: true, hcm: "forward_client_cert_details: APPEND_FORWARD\nset_current_client_cert_details: { uri: true, dns: true }"},
	{name: "tls-set", tls: true, hcm: "forward_client_cert_details: SANITIZE_SET\nset_current_client_cert_details: { subject: true, cert: true, chain: true, uri: true, dns: true }"},
	{name: "tls-sanitize", tls: true},
	{name: "tls-always", tls: true, hcm: "forward_client_cert_details: ALWAYS_FORWARD_ONLY"},
	{name: "duration", hcm: "common_http_protocol_options: { max_stream_duration: 0.4s }"},
	{name: "parameters", table: "ignore_path_parameters_in_path_matching: true"},
	{name: "specific", table: "most_specific_header_mutations_wins: true"},
}

// lists are headers that are one list however many fields they come in.
var lists = []string{"x-forwarded-for", "x-forwarded-client-cert", "via"}

// sameLists joins lists that Envoy joins and we leave in the fields they came
// in, which means the same (RFC 9110 §5.3).
//
// Envoy's own address at the end of x-forwarded-for becomes that of the peer:
// for a peer on a loopback address Envoy appends an address of the machine
// instead, so that the next hop sees one that means something there. We say
// what we saw.
func sameLists(m message) {
	for _, name := range lists {
		v, ok := m.Headers[name]
		if !ok {
			continue
		}
		list := strings.Split(strings.ReplaceAll(v, "|", ","), ",")
		for i := range list {
			list[i] = strings.TrimSpace(list[i])
		}
		if last := list[len(list)-1]; name == "x-forwarded-for" && localAddress(last) {
			list[len(list)-1] = "127.0.0.1"
		}
		m.Headers[name] = strings.Join(list, ",")
	}
}

// sameTimeout writes grpc-timeout in one way: Envoy has its own, in
// milliseconds; we pass the client's text on while it is true.
func sameTimeout(m message) {
	v := m.Headers["grpc-timeout"]
	if v == "" {
		return
	}
	unit := map[byte]time.Duration{'H': time.Hour, 'M': time.Minute, 'S': time.Second, 'm': time.Millisecond, 'u': time.Microsecond, 'n': 1}[v[len(v)-1]]
	if n, err := strconv.Atoi(v[:len(v)-1]); err == nil {
		m.Headers["grpc-timeout"] = (time.Duration(n) * unit).String()
	}
}

// sayWhy: where Envoy answers without a word, we say why.
func sayWhy(envoy, ours *seen) {
	for _, s := range []*seen{envoy, ours} {
		delete(s.Response.Headers, "grpc-message")
		delete(s.Response.Headers, "content-type")
		delete(s.Response.Headers, "content-length")
		s.Response.Body = ""
	}
}

// envoyHeaders are what clients could send to tell an Envoy what to do.
var envoyHeaders = []string{
	"x-envoy-internal", "true", "x-envoy-external-address", "1.2.3.4",
	"x-envoy-decorator-operation", "op", "x-envoy-downstream-service-cluster", "c", "x-envoy-downstream-service-node", "n",
	"x-envoy-original-path", "/evil", "x-envoy-original-host", "evil", "x-envoy-original-url", "u", "x-envoy-original-method", "m",
	"x-envoy-original-dst-host", "1.2.3.4:5", "x-envoy-attempt-count", "7", "x-envoy-is-timeout-retry", "true",
	"x-envoy-retry-on", "5xx", "x-envoy-retry-grpc-on", "cancelled", "x-envoy-max-retries", "1",
	"x-envoy-upstream-alt-stat-name", "s", "x-envoy-upstream-rq-timeout-ms", "4000", "x-envoy-upstream-rq-per-try-timeout-ms", "3000",
	"x-envoy-upstream-rq-timeout-alt-response", "1", "x-envoy-upstream-stream-duration-ms", "9000", "x-envoy-expected-rq-timeout-ms", "77",
	"x-envoy-force-trace", "true", "x-envoy-ip-tags", "t",
	"x-envoy-retriable-header-names", "a", "x-envoy-retriable-status-codes", "418", "x-client-trace-id", "1",
}

var forwarding = []testCase{
	{path: "/any"},
	{path: "/any", headers: []string{"x-request-id", "mine", "x-forwarded-for", "10.9.8.7", "x-forwarded-proto", "https"}},
	{path: "/any", headers: []string{"x-forwarded-for", "1.2.3.4, 10.9.8.7"}},
	{path: "/any", headers: []string{"x-forwarded-for", "10.1.1.1|10.9.8.7"}},
	{path: "/any", headers: []string{"x-forwarded-for", "8.8.8.8"}},
	{path: "/any", headers: []string{"x-forwarded-for", "nonsense", "x-forwarded-port", "99"}},
	{path: "/any", headers: []string{"x-forwarded-for", ""}},
	{path: "/any", headers: []string{"x-forwarded-proto", "gopher"}},
	{path: "/any", headers: envoyHeaders},
	{path: "/any", headers: append([]string{"x-forwarded-for", "10.9.8.7"}, envoyHeaders...)},
	{path: "/any", headers: []string{"x-reply", "many", "x-request-id", "mine"}},
	{path: "/any", headers: []string{"x-reply", "no-server"}},
	{path: "/missing", differs: sayWhy},
	{path: "/direct"},
	{path: "/any", headers: []string{"user-agent", ""}},
	{path: "/any", headers: []string{"x-forwarded-client-cert", "By=evil;Hash=00|Hash=11"}},
	{path: "/any", headers: []string{"referer", "http://a/b", "x-http_under", "u", "a_b", "1"}},
	{path: "/any", headers: []string{"referer", "nonsense"}},
	{path: "/any", headers: []string{"x-envoy-upstream-rq-timeout-ms", "300", "x-reply", "slow", "x-forwarded-for", "10.9.8.7"}, differs: deadline},
	{path: "/any", headers: []string{"x-envoy-upstream-rq-timeout-ms", "3000", "x-envoy-upstream-rq-per-try-timeout-ms", "200", "x-envoy-retry-on", "5xx", "x-envoy-max-retries", "2", "x-reply", "slow-once", "x-forwarded-for", "10.9.8.7"}},
}

var cases = map[string][]testCase{
	"inside":           slicesOf(routes, redirects, forwarding[:18], mutations, protocol),
	"edge":             slicesOf(routes, redirects, forwarding[:18]),
	"edge-hops":        forwarding[:18],
	"edge-skip":        forwarding[:18],
	"edge-internal":    forwarding[:18],
	"inside-internal":  slicesOf(forwarding, redirects),
	"private":          forwarding[:10],
	"inside-private":   forwarding[:10],
	"inside-hops":      forwarding[:18],
	"names":            forwarding[:18],
	"pass":             slicesOf(forwarding[:18], rewrites),
	"cert-forward":     forwarding[15:16],
	"cert-append":      forwarding[15:16],
	"paths":            sayingWhy(paths),
	"escaped":          sayingWhy(paths),
	"escaped-reject":   sayingWhy(paths),
	"escaped-redirect": sayingWhy(paths),
	"port":             hosts,
	"any-port":         hosts,
	"drop":             underscores,
	"reject":           underscores,
	"duration":         durations,
	"parameters":       sayingWhy(parameters),
	"specific":         slicesOf(mutations, forwarding[8:10]),
}

func slicesOf(lists ...[]testCase) (all []testCase) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

func sayingWhy(list []testCase) []testCase {
	list = slices.Clone(list)
	for i := range list {
		list[i].differs = sayWhy
	}
	return list
}

var durations = []testCase{
	{path: "/any"},
	{path: "/any", plain: true},
	{path: "/any", headers: []string{"grpc-timeout", "5S", "x-reply", "slow"}},
	{path: "/to/duration"},
	{path: "/to/max", headers: []string{"grpc-timeout", "1S"}},
	{path: "/to/max"},
}

var underscores = []testCase{
	{path: "/any", headers: []string{"a_b", "1", "a-b", "2", "_", "3"}},
	{path: "/any", plain: true, headers: []string{"a_b", "1", "a-b", "2"}},
	{path: "/any", trailers: []string{"t_t", "1", "t-t", "2"}, differs: refusedBoth},
}

var paths = []testCase{
	{path: "/any//b///c/?x=//y"},
	{path: "//any"},
	{path: "/any/"},
	{path: "/any//"},
	{path: "/any/./b/../c"},
	{path: "/any/../../etc"},
	{path: "/any/.."},
	{path: "/../any"},
	{path: "/any/."},
	{path: "/any/%2e%2E/any"},
	{path: "/any/b%2Fc%2fd?x=%2F"},
	{path: "/any/b%5Cc%5c..%5cd"},
	{path: `/any\b\..\c`},
	{path: "/any/%"},
	{path: "/any/%zz%41%7e%20"},
	{path: "/any/%00"},
	{path: "/any/\x80\xff"},
	{path: "/any;a=b/../c"},
	{path: "/any/b%2F..%2F..%2Fdirect", plain: true},
	{path: "/any/a%2Fb", plain: true},
	{path: "/any/a%2525b'()*,<>\"|`{}^"},
	{path: "/any/...a/..b/.c/%2e%2e%2e"},
	{path: "/pkg.Svc/M"},
	{path: "/%61ny"},
	{path: "/any/%21%2D%5f%2a%7E%3a%40%5b"},
	{path: "/any/[x]@:!$&+=~;,"},
	{path: "/any/a/./../..//b/..\\c"},
	{path: "/any/.%2e/%2e./any"},
	{path: "/any/%2"},
	{path: "/any/.?a=/../b"},
	{path: "/any%3Fa=b"},
	{path: "/any%23"},
}

var hosts = []testCase{
	{path: "/any", headers: []string{":authority", "exact.example:PORT"}},
	{path: "/any", headers: []string{":authority", "exact.example:1234"}},
	{path: "/any", headers: []string{":authority", "exact.net:PORT"}},
	{path: "/any", headers: []string{":authority", "exact.example."}},
	{path: "/any", headers: []string{":authority", "exact.example.:PORT"}},
	{path: "/any", headers: []string{":authority", "exact.example..:1"}},
	{path: "/any", headers: []string{":authority", "[::1]:PORT"}},
	{path: "/any", headers: []string{":authority", "[::1]"}},
	{path: "/any", headers: []string{":authority", "exact.example:"}},
	{path: "/any", headers: []string{":authority", "exact.example:abc"}},
	{path: "/h", headers: []string{":authority", "any.host:PORT", "x-kind", "gold"}},
}
