package xdsconfig

import (
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/sluice-proxy/sluice/dataplane/route"
)

// match compiles a RouteMatch.
func (rc *routesCompiler) match(a *at, m *routev3.RouteMatch) route.Match {
	out := route.Match{GRPC: m.GetGrpc() != nil}
	out.Path.IgnoreCase = m.GetCaseSensitive() != nil && !m.GetCaseSensitive().GetValue()
	switch p := m.GetPathSpecifier().(type) {
	case *routev3.RouteMatch_Prefix:
		out.Path.Kind, out.Path.Value = route.PathPrefix, p.Prefix
	case *routev3.RouteMatch_Path:
		out.Path.Kind, out.Path.Value = route.PathExact, p.Path
	case *routev3.RouteMatch_PathSeparatedPrefix:
		out.Path.Kind, out.Path.Value = route.PathSeparatedPrefix, p.PathSeparatedPrefix
	case *routev3.RouteMatch_SafeRegex:
		out.Path.Kind, out.Path.Regex = route.PathRegex, rc.regex(a.field("safe_regex"), p.SafeRegex)
		out.Path.IgnoreCase = false
	case *routev3.RouteMatch_ConnectMatcher_:
		out.Path.Kind = route.PathConnect
	}
	for i, h := range m.GetHeaders() {
		out.Headers = append(out.Headers, rc.headerMatch(a.item("headers", i), h))
	}
	for i, q := range m.GetQueryParameters() {
		out.Query = append(out.Query, rc.queryMatch(a.item("query_parameters", i), q))
	}
	for i, k := range m.GetCookies() {
		out.Cookies = append(out.Cookies, route.CookieMatch{
			Name:   k.GetName(),
			String: rc.stringMatch(a.item("cookies", i).field("string_match"), k.GetStringMatch()),
			Invert: k.GetInvertMatch(),
		})
	}
	if f := m.GetRuntimeFraction(); f != nil {
		out.Fraction = a.fraction(f)
	}
	return out
}

// regex compiles a RegexMatcher; the same expression is compiled once per
// RouteConfiguration.
func (rc *routesCompiler) regex(a *at, m *matcherv3.RegexMatcher) *route.Regex {
	expr := m.GetRegex()
	re, ok := rc.regexes[expr]
	if !ok {
		var err error
		if re, err = route.CompileRegex(expr); err != nil {
			a.field("regex").errorf("%s", err)
		}
		rc.regexes[expr] = re
	} else if re == nil {
		a.field("regex").errorf("%q: see above", expr)
	}
	return re
}

func (rc *routesCompiler) headerMatch(a *at, m *routev3.HeaderMatcher) route.HeaderMatch {
	out := route.HeaderMatch{
		Name:           strings.ToLower(m.GetName()),
		Invert:         m.GetInvertMatch(),
		MissingAsEmpty: m.GetTreatMissingHeaderAsEmpty(),
	}
	str := func(k route.StringKind, v string) {
		out.Kind, out.String = route.HeaderString, route.StringMatch{Kind: k, Value: v}
	}
	switch s := m.GetHeaderMatchSpecifier().(type) {
	case *routev3.HeaderMatcher_ExactMatch:
		str(route.StringExact, s.ExactMatch)
	case *routev3.HeaderMatcher_PrefixMatch:
		str(route.StringPrefix, s.PrefixMatch)
	case *routev3.HeaderMatcher_SuffixMatch:
		str(route.StringSuffix, s.SuffixMatch)
	case *routev3.HeaderMatcher_ContainsMatch:
		str(route.StringContains, s.ContainsMatch)
	case *routev3.HeaderMatcher_SafeRegexMatch:
		str(route.StringRegex, "")
		out.String.Regex = rc.regex(a.field("safe_regex_match"), s.SafeRegexMatch)
	case *routev3.HeaderMatcher_StringMatch:
		out.Kind, out.String = route.HeaderString, rc.stringMatch(a.field("string_match"), s.StringMatch)
	case *routev3.HeaderMatcher_RangeMatch:
		out.Kind, out.Start, out.End = route.HeaderRange, s.RangeMatch.GetStart(), s.RangeMatch.GetEnd()
	case *routev3.HeaderMatcher_PresentMatch:
		out.Absent = !s.PresentMatch
	}
	return out
}

func (rc *routesCompiler) queryMatch(a *at, m *routev3.QueryParameterMatcher) route.QueryMatch {
	out := route.QueryMatch{Name: m.GetName()}
	switch s := m.GetQueryParameterMatchSpecifier().(type) {
	case *routev3.QueryParameterMatcher_StringMatch:
		out.Kind, out.String = route.QueryString, rc.stringMatch(a.field("string_match"), s.StringMatch)
	case *routev3.QueryParameterMatcher_PresentMatch:
		out.Absent = !s.PresentMatch
	}
	return out
}

func (rc *routesCompiler) stringMatch(a *at, m *matcherv3.StringMatcher) route.StringMatch {
	out := route.StringMatch{IgnoreCase: m.GetIgnoreCase()}
	switch p := m.GetMatchPattern().(type) {
	case *matcherv3.StringMatcher_Exact:
		out.Kind, out.Value = route.StringExact, p.Exact
	case *matcherv3.StringMatcher_Prefix:
		out.Kind, out.Value = route.StringPrefix, p.Prefix
	case *matcherv3.StringMatcher_Suffix:
		out.Kind, out.Value = route.StringSuffix, p.Suffix
	case *matcherv3.StringMatcher_Contains:
		out.Kind, out.Value = route.StringContains, p.Contains
	case *matcherv3.StringMatcher_SafeRegex:
		a.foldedRegex(m)
		out.Kind, out.IgnoreCase = route.StringRegex, false
		out.Regex = rc.regex(a.field("safe_regex"), p.SafeRegex)
	case *matcherv3.StringMatcher_Custom:
		a.field("custom").unsupported()
	}
	return out
}

// foldedRegex refuses what Envoy's StringMatcherImpl refuses.
func (a *at) foldedRegex(m *matcherv3.StringMatcher) {
	if m.GetIgnoreCase() {
		a.field("ignore_case").errorf("has no effect for safe_regex")
	}
}

var denominators = map[typev3.FractionalPercent_DenominatorType]uint32{
	typev3.FractionalPercent_HUNDRED:      100,
	typev3.FractionalPercent_TEN_THOUSAND: 10_000,
	typev3.FractionalPercent_MILLION:      1_000_000,
}

// denominator of a fraction, never 0: one that is unknown fails the check.
func denominator(m *typev3.FractionalPercent) uint32 {
	return max(denominators[m.GetDenominator()], 1)
}

func (a *at) fraction(m *corev3.RuntimeFractionalPercent) *route.Fraction {
	f := &route.Fraction{
		Numerator:   m.GetDefaultValue().GetNumerator(),
		Denominator: denominator(m.GetDefaultValue()),
		Key:         m.GetRuntimeKey(),
	}
	if f.Key != "" {
		f.Lookup = a.r.env.Runtime
	}
	return f
}
