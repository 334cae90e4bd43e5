package controlplane

import (
	"context"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// nodeKey is what the cache keeps snapshots under.
func nodeKey(n *corev3.Node) string { return n.GetCluster() + "/" + n.GetId() }

// keyHash is go-control-plane's way to nodeKey.
type keyHash struct{}

func (keyHash) ID(n *corev3.Node) string { return nodeKey(n) }

// callbacks follows the streams for the node table and the publisher.
func (s *Server) callbacks() serverv3.Callbacks {
	return serverv3.CallbackFuncs{
		StreamClosedFunc:      func(id int64, _ *corev3.Node) { s.closed(streamID{false, id}) },
		DeltaStreamClosedFunc: func(id int64, _ *corev3.Node) { s.closed(streamID{true, id}) },
		StreamRequestFunc: func(id int64, r *discoveryv3.DiscoveryRequest) error {
			return s.request(streamID{false, id}, r.GetNode(), r.GetTypeUrl(), r.GetResponseNonce(), r.GetErrorDetail().GetMessage())
		},
		StreamDeltaRequestFunc: func(id int64, r *discoveryv3.DeltaDiscoveryRequest) error {
			return s.request(streamID{true, id}, r.GetNode(), r.GetTypeUrl(), r.GetResponseNonce(), r.GetErrorDetail().GetMessage())
		},
		// A state-of-the-world answer has the names that were asked for, as far
		// as they exist.
		StreamResponseFunc: func(_ context.Context, id int64, req *discoveryv3.DiscoveryRequest, r *discoveryv3.DiscoveryResponse) {
			s.nodes.sent(streamID{false, id}, r.GetTypeUrl(), r.GetNonce(), r.GetVersionInfo(), req.GetResourceNames(), nil)
		},
		StreamDeltaResponseFunc: func(id int64, _ *discoveryv3.DeltaDiscoveryRequest, r *discoveryv3.DeltaDiscoveryResponse) {
			names := make([]string, 0, len(r.GetResources()))
			for _, res := range r.GetResources() {
				names = append(names, res.GetName())
			}
			s.nodes.sent(streamID{true, id}, r.GetTypeUrl(), r.GetNonce(), r.GetSystemVersionInfo(), names, r.GetRemovedResources())
		},
	}
}

// request handles the part of a request that go-control-plane leaves to us:
// who the node is, and whether it accepted what it was sent.
func (s *Server) request(id streamID, n *corev3.Node, url, nonce, nack string) error {
	if s.nodes.key(id) == "" {
		if n.GetId() == "" {
			return status.Error(codes.InvalidArgument, "the first request has no node.id")
		}
		rev := s.store.For(n)
		if rev == nil {
			return status.Errorf(codes.FailedPrecondition, "node %q of cluster %q belongs to no group", n.GetId(), n.GetCluster())
		}
		s.nodes.open(id, nodeKey(n), rev.Group.Name, n)
		s.publisher.post(event{key: nodeKey(n), node: n})
		s.log.Info("node connected", "node", n.GetId(), "cluster", n.GetCluster(), "group", rev.Group.Name, "agent", n.GetUserAgentName())
	}
	if s.nodes.answered(id, url, nonce, nack) {
		s.log.Warn("node refused an update", "node", s.nodes.key(id), "type", shortType(url), "nonce", nonce, "reason", nack)
	}
	return nil
}

func (s *Server) closed(id streamID) {
	if key := s.nodes.key(id); key != "" {
		s.log.Info("node disconnected", "node", key)
	}
	s.nodes.close(id)
}
