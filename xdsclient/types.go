package xdsclient

import "slices"

// Type URLs of the resources of the Envoy v3 API.
const (
	RuntimeType     = "type.googleapis.com/envoy.service.runtime.v3.Runtime"
	ClusterType     = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	EndpointType    = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	SecretType      = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
	ListenerType    = "type.googleapis.com/envoy.config.listener.v3.Listener"
	ScopedRouteType = "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration"
	RouteType       = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
	VirtualHostType = "type.googleapis.com/envoy.config.route.v3.VirtualHost"
	ExtensionType   = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
)

// requestOrder is the order in which types are asked for when several are due
// at once: what is referred to comes before what refers to it, so that a server
// which answers in the order of requests makes before it breaks ("Eventual
// consistency considerations" of the xDS protocol). The runtime comes first,
// as its values may matter to all others.
var requestOrder = []string{
	RuntimeType,
	ClusterType, EndpointType, SecretType,
	ListenerType, ScopedRouteType, RouteType, VirtualHostType, ExtensionType,
}

// rank is the place of a type in the order of requests. Unknown types come
// last and keep the order in which they were first subscribed.
func rank(typeURL string) int {
	if i := slices.Index(requestOrder, typeURL); i >= 0 {
		return i
	}
	return len(requestOrder)
}
