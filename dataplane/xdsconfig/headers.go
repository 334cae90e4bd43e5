package xdsconfig

import (
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

// headerMutator is what RouteConfiguration, VirtualHost, Route and
// ClusterWeight have in common.
type headerMutator interface {
	GetRequestHeadersToAdd() []*corev3.HeaderValueOption
	GetRequestHeadersToRemove() []string
	GetResponseHeadersToAdd() []*corev3.HeaderValueOption
	GetResponseHeadersToRemove() []string
}

// headerOps are the mutations of one level.
type headerOps struct{ request, response []call.HeaderOp }

// level is the mutations of a RouteConfiguration, VirtualHost, Route or
// ClusterWeight. They are compiled once, unless a value names the route or the
// cluster: then once for each of these.
type level struct {
	at     *at
	m      headerMutator
	ops    headerOps
	scoped bool
}

// level compiles the mutations of m, which stands at a.
func (a *at) level(m headerMutator, fs formatScope) level {
	l := level{at: a, m: m}
	l.ops = a.headerOps(m, &fs)
	l.scoped = fs.used
	return l
}

// within returns the mutations for one route and cluster.
func (l *level) within(fs formatScope) headerOps {
	if !l.scoped || l.at.bad() {
		return l.ops
	}
	return l.at.headerOps(l.m, &fs)
}

func (a *at) headerOps(m headerMutator, fs *formatScope) headerOps {
	return headerOps{
		request:  a.mutations("request_headers_to_", m.GetRequestHeadersToRemove(), m.GetRequestHeadersToAdd(), fs),
		response: a.mutations("response_headers_to_", m.GetResponseHeadersToRemove(), m.GetResponseHeadersToAdd(), fs),
	}
}

// mutations compiles the mutations of one direction. What is removed is
// removed before anything is added, as in Envoy's HeaderParser.
func (a *at) mutations(prefix string, remove []string, add []*corev3.HeaderValueOption, fs *formatScope) []call.HeaderOp {
	if len(remove)+len(add) == 0 {
		return nil
	}
	ops := make([]call.HeaderOp, 0, len(remove)+len(add))
	for i, name := range remove {
		if !modifiable(name) {
			a.item(prefix+"remove", i).errorf("%q: headers beginning with \":\" and host may not be removed", name)
			continue
		}
		ops = append(ops, call.HeaderOp{Action: call.HeaderRemove, Field: hpack.NewField(strings.ToLower(name), "")})
	}
	for i, o := range add {
		if op, ok := a.item(prefix+"add", i).headerOp(o, fs); ok {
			ops = append(ops, op)
		}
	}
	if len(ops) > 0 {
		ops[0].Next = true
	}
	return ops
}

// modifiable: pseudo-headers and host have their own fields (rewrites).
func modifiable(name string) bool {
	return !strings.HasPrefix(name, ":") && !strings.EqualFold(name, "host")
}

var headerActions = map[corev3.HeaderValueOption_HeaderAppendAction]call.HeaderAction{
	corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD:    call.HeaderAppend,
	corev3.HeaderValueOption_ADD_IF_ABSENT:              call.HeaderAddIfAbsent,
	corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD: call.HeaderOverwrite,
	corev3.HeaderValueOption_OVERWRITE_IF_EXISTS:        call.HeaderOverwriteIfExist,
}

func (a *at) headerOp(o *corev3.HeaderValueOption, fs *formatScope) (op call.HeaderOp, ok bool) {
	h := o.GetHeader()
	key := a.field("header").field("key")
	if !modifiable(h.GetKey()) {
		key.errorf("%q: headers beginning with \":\" and host may not be modified", h.GetKey())
		return op, false
	}
	op.Action = headerActions[o.GetAppendAction()]
	if o.GetAppend() != nil {
		if o.GetAppendAction() != corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD {
			a.errorf("append and append_action are both set")
			return op, false
		}
		if !o.GetAppend().GetValue() {
			op.Action = call.HeaderOverwrite
		}
	}
	value, raw := h.GetValue(), h.GetRawValue()
	if len(raw) > 0 {
		if value != "" {
			a.field("header").errorf("value and raw_value are both set")
			return op, false
		}
		value = string(raw)
	}
	text, f := a.field("header").field("value").format(value, fs)
	if f == nil && text == "" && !o.GetKeepEmptyValue() {
		return op, false // Envoy adds no empty header
	}
	op.Field = hpack.NewField(strings.ToLower(h.GetKey()), text)
	op.Value = f
	op.KeepEmpty = o.GetKeepEmptyValue()
	return op, true
}

// combine joins the mutations of a route's levels, given most specific first,
// in the order Envoy evaluates them: a weighted cluster's come first always;
// of the others the most specific come first, or last if its mutations shall
// win. Levels that are alone are shared, not copied.
func combine(cluster headerOps, levels []headerOps, mostSpecificWins bool) (request, response []call.HeaderOp) {
	if mostSpecificWins {
		levels = slices.Clone(levels)
		slices.Reverse(levels)
	}
	request, response = cluster.request, cluster.response
	for _, l := range levels {
		request = concat(request, l.request)
		response = concat(response, l.response)
	}
	return request, response
}

func concat(a, b []call.HeaderOp) []call.HeaderOp {
	switch {
	case len(b) == 0:
		return a
	case len(a) == 0:
		return b
	}
	return slices.Concat(a, b)
}
