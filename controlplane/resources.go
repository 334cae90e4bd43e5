package controlplane

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"

	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
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

// Resource is one xDS resource and where it came from. Immutable.
type Resource struct {
	Message proto.Message
	Origin  string // "edge/routes.yaml: resources[2]"
}

// Resources are the resources of one node group, by type URL and name. A
// published value is never changed.
type Resources map[string]map[string]Resource

// add stores a resource; it returns the one that has the name already, if any.
func (r Resources) add(url, name string, res Resource) (prev Resource, dup bool) {
	if r[url] == nil {
		r[url] = map[string]Resource{}
	}
	if prev, dup = r[url][name]; dup {
		return prev, true
	}
	r[url][name] = res
	return Resource{}, false
}

// names returns the sorted names of a type's resources.
func (r Resources) names(url string) []string { return slices.Sorted(maps.Keys(r[url])) }

// with returns a copy of r that has other's resources of the types given.
func (r Resources) with(other Resources, urls ...string) Resources {
	out := maps.Clone(r)
	for _, u := range urls {
		out[u] = other[u]
	}
	return out
}

// union returns the resources of a type in a and b; b's win.
func union(a, b map[string]Resource) map[string]Resource {
	out := make(map[string]Resource, len(a)+len(b))
	maps.Copy(out, a)
	maps.Copy(out, b)
	return out
}

// version is the hash of a type's content: the same resources have the same
// version, also after a restart, so that nothing is sent twice.
func (r Resources) version(url string) string {
	h := sha256.New()
	opt := proto.MarshalOptions{Deterministic: true}
	for _, n := range r.names(url) {
		b, err := opt.Marshal(r[url][n].Message)
		if err != nil { // only for invalid UTF-8, which the parser has refused
			b = []byte(err.Error())
		}
		sum := sha256.Sum256(b)
		h.Write([]byte(n))
		h.Write([]byte{0})
		h.Write(sum[:])
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// cacheSnapshot returns r in go-control-plane's form, each type with its own
// version.
func (r Resources) cacheSnapshot() *cachev3.Snapshot {
	s := new(cachev3.Snapshot)
	for _, url := range typeURLs {
		i := cachev3.GetResponseType(url)
		if i == types.UnknownType {
			continue
		}
		list := make([]types.Resource, 0, len(r[url]))
		for _, n := range r.names(url) {
			list = append(list, r[url][n].Message)
		}
		s.Resources[i] = cachev3.NewResources(r.version(url), list)
	}
	return s
}

func (r Resources) count() int {
	n := 0
	for _, m := range r {
		n += len(m)
	}
	return n
}
