package controlplane

import (
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
)

// refusedAgain is how long a proxy that refused a version is left alone with
// it. go-control-plane sends it again at once, and Envoy refuses it at once:
// both would do nothing else. It is sent again after all because what was in
// the way may have gone, such as another process on the listener's port.
const refusedAgain = 30 * time.Second

// knownCache keeps go-control-plane's cache from sending what a
// state-of-the-world client has seen already, nothing to one that asks for "*",
// and everything to one that has taken back all that it asked for. (A delta
// client is sent differences anyway.) Two cases are left to it by the server:
//
//   - The first request of a stream says which version the proxy has. The
//     protocol allows to send nothing if the subscription is to all resources;
//     with names, the version does not tell which names it covered.
//     https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#resource-versions
//   - A NACK asks for everything after the last accepted version, which is what
//     has been refused just now.
type knownCache struct {
	cachev3.SnapshotCache
}

// CreateWatch implements cachev3.ConfigWatcher.
func (c *knownCache) CreateWatch(req *cachev3.Request, sub cachev3.Subscription, value chan cachev3.Response) (func(), error) {
	switch {
	case sub.IsWildcard() && len(req.GetResourceNames()) > 0:
		req = wildcard(req)
	case !sub.IsWildcard() && len(sub.SubscribedResources()) == 0:
		return func() {}, nil // it wants nothing; v0.14.0 takes no names for all
	}
	snap, err := c.GetSnapshot(nodeKey(req.GetNode()))
	st, ok := snap.(*state)
	if err != nil || !ok {
		return c.SnapshotCache.CreateWatch(req, sub, value)
	}
	url := req.GetTypeUrl()
	switch version := st.GetVersion(url); {
	case req.GetErrorDetail() != nil && !returned(sub, st.set(url)):
		return c.SnapshotCache.CreateWatch(withVersion(req, ""), sub, value)
	case req.GetErrorDetail() != nil:
		return c.park(req, sub, value, st)
	case req.GetResponseNonce() == "" && sub.IsWildcard() && req.GetVersionInfo() == version:
		return c.SnapshotCache.CreateWatch(req, allKnown{sub, st.set(url)}, value)
	}
	return c.SnapshotCache.CreateWatch(req, sub, value)
}

// returned reports whether a stream has been sent all that it subscribes to of
// a set.
func returned(sub cachev3.Subscription, set *typeSet) bool {
	seen := sub.ReturnedResources()
	if sub.IsWildcard() {
		for name := range set.byName {
			if seen[name] != set.version {
				return false
			}
		}
	}
	for name := range sub.SubscribedResources() {
		if set.byName[name] != nil && seen[name] != set.version {
			return false
		}
	}
	for name, version := range seen { // gone, or of another version
		if version != set.version || set.byName[name] == nil {
			return false
		}
	}
	return true
}

// allKnown is a subscription that has been sent all of a set. The cache answers
// it when the version changes.
type allKnown struct {
	cachev3.Subscription
	set *typeSet
}

func (a allKnown) ReturnedResources() map[string]string { return a.set.hashes }

// wildcard returns the request of a client that asks for all by "*" as one of a
// client that names nothing: go-control-plane v0.14.0 knows what "*" means when
// it decides whether to answer, and takes it for a name when it does.
func wildcard(req *cachev3.Request) *cachev3.Request {
	all := withVersion(req, req.GetVersionInfo())
	all.ResourceNames = nil
	return all
}

// withVersion returns the request as one of a client that has that version.
func withVersion(req *cachev3.Request, version string) *cachev3.Request {
	return &discoveryv3.DiscoveryRequest{
		VersionInfo: version, Node: req.GetNode(), ResourceNames: req.GetResourceNames(),
		TypeUrl: req.GetTypeUrl(), ResponseNonce: req.GetResponseNonce(), ErrorDetail: req.GetErrorDetail(),
	}
}

// park answers a NACK when the version changes, or else after a while.
func (c *knownCache) park(req *cachev3.Request, sub cachev3.Subscription, value chan cachev3.Response, st *state) (func(), error) {
	url := req.GetTypeUrl()
	cancel, err := c.SnapshotCache.CreateWatch(withVersion(req, st.GetVersion(url)), allKnown{sub, st.set(url)}, value)
	if err != nil {
		return nil, err
	}
	p := &parked{cancel: cancel}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = time.AfterFunc(refusedAgain, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.over {
			return
		}
		// value holds one response. If it is there, the version has changed and
		// been answered; asking once more would block the cache.
		if p.cancel(); len(value) > 0 {
			return
		}
		if again, err := c.SnapshotCache.CreateWatch(withVersion(req, ""), sub, value); err == nil {
			p.cancel = again
		}
	})
	return p.end, nil
}

// parked is a watch whose answer waits.
type parked struct {
	mu     sync.Mutex // guards all below; held while the watch is replaced
	over   bool
	cancel func()
	timer  *time.Timer
}

// end cancels the watch. It may be called again.
func (p *parked) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	p.timer.Stop()
	p.cancel()
}
