package controlplane

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"sync"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/proto"
)

// typeURLs are the resource types that are published, in the order in which
// they are checked and reported.
var typeURLs = []string{
	resourcev3.ClusterType, resourcev3.EndpointType, resourcev3.ListenerType, resourcev3.RouteType,
	resourcev3.SecretType, resourcev3.RuntimeType, resourcev3.ExtensionConfigType,
	resourcev3.ScopedRouteType, resourcev3.VirtualHostType,
}

// Resource is one xDS resource and where it came from. Immutable; shared by
// all groups that include its folder and by all loads while its file stays as
// it is, so that it is encoded, hashed and checked once.
type Resource struct {
	Message proto.Message
	Origin  string // "edge/routes.yaml: resources[2]"
	Name    string
	URL     string

	encoded []byte // Message's deterministic encoding
	hash    string // of encoded; go-control-plane's version of the resource

	place place

	check struct { // what Check found
		once     sync.Once
		warnings []string
		err      error
		refs     []ref // what it refers to, each once, sorted
	}
}

func newResource(url string, where place, m proto.Message) (*Resource, error) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	return &Resource{
		Message: m, Origin: where.String(), place: where, Name: cachev3.GetResourceName(m), URL: url,
		encoded: b, hash: cachev3.HashResource(b),
	}, nil
}

// kind is the message's name, as people know it: "RouteConfiguration".
func (r *Resource) kind() string { return string(r.Message.ProtoReflect().Descriptor().Name()) }

// assignment returns the name of the endpoint resource that a cluster needs,
// "" if it needs none.
func (r *Resource) assignment() string {
	cl, ok := r.Message.(*clusterv3.Cluster)
	if !ok || cl.GetType() != clusterv3.Cluster_EDS {
		return ""
	}
	if s := cl.GetEdsClusterConfig().GetServiceName(); s != "" {
		return s
	}
	return cl.GetName()
}

// Resources are the resources of one node group, by type URL and name. A
// published value is never changed.
type Resources map[string]map[string]*Resource

// add stores a resource unless there is one of its type and name, which is the
// error.
func (r Resources) add(res *Resource) error {
	if r[res.URL] == nil {
		r[res.URL] = map[string]*Resource{}
	}
	if prev := r[res.URL][res.Name]; prev != nil {
		return fmt.Errorf("%s: %s %q: is in %s already", res.place.at(""), res.kind(), res.Name, prev.place.at(""))
	}
	r[res.URL][res.Name] = res
	return nil
}

// names returns the sorted names of a type's resources.
func (r Resources) names(url string) []string { return slices.Sorted(maps.Keys(r[url])) }

// Count returns the number of resources of all types.
func (r Resources) Count() int {
	n := 0
	for _, m := range r {
		n += len(m)
	}
	return n
}

// contentVersion is the hash of a type's content: the same resources have the
// same version, also after a restart.
func contentVersion(byName map[string]*Resource) string {
	h := sha256.New()
	for _, n := range slices.Sorted(maps.Keys(byName)) {
		h.Write([]byte(n))
		h.Write([]byte{0})
		h.Write([]byte(byName[n].hash))
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}
