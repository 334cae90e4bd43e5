package xdsconfig

import (
	"net/netip"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

var clientCerts = map[hcmv3.HttpConnectionManager_ForwardClientCertDetails]call.ClientCert{
	hcmv3.HttpConnectionManager_SANITIZE:            call.CertSanitize,
	hcmv3.HttpConnectionManager_FORWARD_ONLY:        call.CertForward,
	hcmv3.HttpConnectionManager_APPEND_FORWARD:      call.CertAppend,
	hcmv3.HttpConnectionManager_SANITIZE_SET:        call.CertSet,
	hcmv3.HttpConnectionManager_ALWAYS_FORWARD_ONLY: call.CertAlwaysForward,
}

// The implementation's default is to keep escaped slashes, as Envoy's is.
var escapedSlashes = map[hcmv3.HttpConnectionManager_PathWithEscapedSlashesAction]call.EscapedSlashes{
	hcmv3.HttpConnectionManager_REJECT_REQUEST:        call.EscapedReject,
	hcmv3.HttpConnectionManager_UNESCAPE_AND_REDIRECT: call.EscapedRedirect,
	hcmv3.HttpConnectionManager_UNESCAPE_AND_FORWARD:  call.EscapedForward,
}

var underscoreActions = map[corev3.HttpProtocolOptions_HeadersWithUnderscoresAction]call.Underscores{
	corev3.HttpProtocolOptions_ALLOW:          call.UnderscoresAllow,
	corev3.HttpProtocolOptions_REJECT_REQUEST: call.UnderscoresReject,
	corev3.HttpProtocolOptions_DROP_HEADER:    call.UnderscoresDrop,
}

// edge compiles what the manager believes of a request, and what it makes of
// its path and authority.
func (hc *managerCompiler) edge(a *at, m *hcmv3.HttpConnectionManager) {
	out := hc.out
	out.Sanitize = true
	if c := m.GetInternalAddressConfig(); c != nil {
		out.InternalUnix = c.GetUnixSockets()
		out.Internal = a.field("internal_address_config").prefixes("cidr_ranges", c.GetCidrRanges())
		if len(c.GetCidrRanges()) == 0 {
			out.Internal = privateRanges
		}
	}
	out.ForwardedPort = m.GetAppendXForwardedPort()
	if m.GetAddUserAgent().GetValue() {
		node := a.r.env.Node
		out.UserAgent, out.ServiceNode = node.GetCluster(), node.GetId()
	}
	out.ClientCert = clientCerts[m.GetForwardClientCertDetails()]
	if out.ClientCert == call.CertAppend || out.ClientCert == call.CertSet {
		d := m.GetSetCurrentClientCertDetails()
		for _, x := range []struct {
			on  bool
			bit call.CertDetails
		}{
			{d.GetCert(), call.CertPEM}, {d.GetChain(), call.CertChain}, {d.GetSubject().GetValue(), call.CertSubject},
			{d.GetUri(), call.CertURI}, {d.GetDns(), call.CertDNS},
		} {
			if x.on {
				out.ClientCertDetails |= x.bit
			}
		}
	}
	out.AnswerContinue = !m.GetProxy_100Continue()
	out.Paths = call.PathPolicy{
		Normalize:    m.GetNormalizePath().GetValue(),
		MergeSlashes: m.GetMergeSlashes(),
		Escaped:      escapedSlashes[m.GetPathWithEscapedSlashesAction()],
	}
	switch {
	case m.GetStripAnyHostPort():
		out.StripPort = call.StripAny
	case m.GetStripMatchingHostPort():
		out.StripPort = call.StripMatching
	}
	if m.GetStripAnyHostPort() && m.GetStripMatchingHostPort() {
		a.errorf("strip_matching_host_port and strip_any_host_port are both set")
	}
	out.StripDot = m.GetStripTrailingHostDot()
	out.Underscores = underscoreActions[m.GetCommonHttpProtocolOptions().GetHeadersWithUnderscoresAction()]
}

// privateRanges are internal where internal_address_config names none.
var privateRanges = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("::1/128"),
}
