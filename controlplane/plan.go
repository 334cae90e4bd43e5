package controlplane

import (
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
)

// What a proxy must have before it is told of something that uses it, and what
// it must have dropped before that goes away.
var (
	usedTypes  = []string{resourcev3.ClusterType, resourcev3.EndpointType, resourcev3.SecretType, resourcev3.ExtensionConfigType, resourcev3.RuntimeType}
	usingTypes = []string{resourcev3.ListenerType, resourcev3.RouteType, resourcev3.ScopedRouteType, resourcev3.VirtualHostType}
)

// stepKind is the part of a change that a step is.
type stepKind uint8

const (
	stepMake  stepKind = iota // what is used comes; needs nothing
	stepSwap                  // listeners and routes change; what they use must have been taken in
	stepBreak                 // what is used no longer goes; the swap must have been taken in
)

// nextStep returns the state to publish next on the way from one state to
// another, which differ. No step has a listener or route that uses what the
// step before has not, and no step drops what the listeners or routes of the
// step before use. swapping says that from's listeners and routes may not have
// been taken in yet.
//
// Most changes are one step: weights of endpoints (make), weights of routes
// (swap).
func nextStep(from, to *state, swapping bool) (*state, stepKind) {
	swap := !from.same(to, usingTypes...)
	if !swap && !swapping {
		return to, stepMake // nothing that uses it changes: what goes is not used
	}
	if made := from.plus(to, usedTypes...); !made.same(from, usedTypes...) {
		if made.same(to, usedTypes...) && !swap {
			return to, stepMake // nothing goes
		}
		return made, stepMake
	}
	if !swap {
		return to, stepBreak
	}
	if from.same(to, usedTypes...) {
		return to, stepSwap
	}
	return from.with(to, usingTypes...), stepSwap
}
