package controlplane

import (
	"context"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// nodeKey is what the cache keeps snapshots under. Neither part can have a zero
// byte: protobuf strings are UTF-8 and these are names, but a slash is usual.
func nodeKey(n *corev3.Node) string { return n.GetCluster() + "\x00" + n.GetId() }

// keyHash is go-control-plane's way to nodeKey.
type keyHash struct{}

func (keyHash) ID(n *corev3.Node) string { return nodeKey(n) }

// callbacks follows the streams for the node table and the publisher.
func (s *Server) callbacks() serverv3.Callbacks {
	return serverv3.CallbackFuncs{
		StreamClosedFunc: func(id int64, _ *corev3.Node) { s.closed(streamID{false, id}) },
		StreamRequestFunc: func(id int64, r *discoveryv3.DiscoveryRequest) (err error) {
			r.Node, err = s.request(streamID{false, id}, r.GetNode(), request{
				url: r.GetTypeUrl(), nonce: r.GetResponseNonce(), nack: refusal(r.ErrorDetail != nil, r.GetErrorDetail().GetMessage()),
				names: r.GetResourceNames(), version: r.GetVersionInfo(),
			})
			return err
		},
		StreamResponseFunc: func(_ context.Context, id int64, req *discoveryv3.DiscoveryRequest, r *discoveryv3.DiscoveryResponse) {
			s.nodes.sent(streamID{false, id}, r.GetTypeUrl(), response{
				nonce: r.GetNonce(), version: r.GetVersionInfo(), names: req.GetResourceNames(),
			})
		},
		DeltaStreamClosedFunc: func(id int64, _ *corev3.Node) { s.closed(streamID{true, id}) },
		DeltaStreamOpenFunc: func(_ context.Context, id int64, url string) error {
			s.deltaTypes.Store(id, url)
			return nil
		},
		StreamDeltaRequestFunc: func(id int64, r *discoveryv3.DeltaDiscoveryRequest) (err error) {
			if r.GetTypeUrl() == "" { // go-control-plane fills this in after this call only
				if url, ok := s.deltaTypes.Load(id); ok {
					r.TypeUrl, _ = url.(string)
				}
			}
			r.Node, err = s.request(streamID{true, id}, r.GetNode(), request{
				url: r.GetTypeUrl(), nonce: r.GetResponseNonce(), nack: refusal(r.ErrorDetail != nil, r.GetErrorDetail().GetMessage()),
				subscribe: r.GetResourceNamesSubscribe(), unsubscribe: r.GetResourceNamesUnsubscribe(), initial: r.GetInitialResourceVersions(),
			})
			return err
		},
		StreamDeltaResponseFunc: func(id int64, _ *discoveryv3.DeltaDiscoveryRequest, r *discoveryv3.DeltaDiscoveryResponse) {
			hashes := make(map[string]string, len(r.GetResources()))
			for _, res := range r.GetResources() {
				hashes[res.GetName()] = res.GetVersion()
			}
			s.nodes.sent(streamID{true, id}, r.GetTypeUrl(), response{
				nonce: r.GetNonce(), version: r.GetSystemVersionInfo(), hashes: hashes, removed: r.GetRemovedResources(),
			})
		},
	}
}

// refusal returns why a proxy refuses, "" if it does not.
func refusal(refused bool, why string) string {
	if refused && why == "" {
		return "no reason given"
	}
	return why
}

// request handles the part of a request that go-control-plane leaves to us:
// who the node is, and whether it accepted what it was sent. It returns the
// node of the stream: go-control-plane finds the snapshot by the node of each
// request, which need not have it again.
func (s *Server) request(id streamID, n *corev3.Node, r request) (*corev3.Node, error) {
	node := s.nodes.node(id)
	switch {
	case node == nil:
		if n.GetId() == "" {
			return n, status.Error(codes.InvalidArgument, "the first request has no node.id")
		}
		rev := s.store.For(n)
		if rev == nil {
			s.log.Warn("node refused", "node", n.GetId(), "cluster", n.GetCluster(), "reason", "it belongs to no group")
			return n, status.Errorf(codes.FailedPrecondition, "node %q of cluster %q belongs to no group", n.GetId(), n.GetCluster())
		}
		node = n
		s.nodes.open(id, n, rev.Group.Name)
		s.publisher.connected(n)
		s.log.Info("node connected", "node", n.GetId(), "cluster", n.GetCluster(), "group", rev.Group.Name, "agent", n.GetUserAgentName())
	case n.GetId() != "" && nodeKey(n) != nodeKey(node):
		return node, status.Errorf(codes.InvalidArgument, "node %q became %q within a stream", node.GetId(), n.GetId())
	}
	if s.nodes.request(id, r) {
		s.log.Warn("node refused an update", "node", node.GetId(), "cluster", node.GetCluster(), "type", shortType(r.url), "nonce", r.nonce, "reason", r.nack)
	}
	return node, nil
}

func (s *Server) closed(id streamID) {
	if id.delta {
		s.deltaTypes.Delete(id.id)
	}
	if n := s.nodes.close(id); n != nil {
		s.log.Info("node disconnected", "node", n.GetId(), "cluster", n.GetCluster())
	}
}
