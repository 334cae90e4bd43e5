package bootstrap

import (
	"errors"
	"fmt"
	"os"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
)

// Sources say where a bootstrap comes from and what overrides it.
type Sources struct {
	ConfigPath string // --config-path: a YAML or JSON file; empty: none
	ConfigYAML string // --config-yaml: merged over the file

	NodeID      string // --service-node: overrides node.id
	NodeCluster string // --service-cluster: overrides node.cluster
	NodeZone    string // --service-zone: overrides node.locality.zone

	Options Options
}

// Options are how strictly a bootstrap is read.
type Options struct {
	// AllowUnknownStaticFields ignores fields that the API does not have.
	AllowUnknownStaticFields bool
	// Warn, if not nil, is told of ignored fields.
	Warn func(path, problem string)
}

// Load reads a bootstrap, merges and overrides as s says, fills in what the
// node leaves open, and validates the result.
func Load(s Sources) (*bootstrapv3.Bootstrap, error) {
	if s.ConfigPath == "" && s.ConfigYAML == "" {
		return nil, errors.New("bootstrap: neither a file nor inline configuration given")
	}
	b := &bootstrapv3.Bootstrap{}
	if s.ConfigPath != "" {
		data, err := os.ReadFile(s.ConfigPath)
		if err != nil {
			return nil, fmt.Errorf("bootstrap: %w", err)
		}
		if b, err = Parse(data, s.Options); err != nil {
			return nil, fmt.Errorf("bootstrap %s: %w", s.ConfigPath, err)
		}
	}
	if s.ConfigYAML != "" {
		over, err := Parse([]byte(s.ConfigYAML), s.Options)
		if err != nil {
			return nil, fmt.Errorf("bootstrap --config-yaml: %w", err)
		}
		proto.Merge(b, over) // lists are appended, as in Envoy
	}
	overrideNode(b, s)
	if err := validate(b); err != nil {
		return nil, fmt.Errorf("bootstrap %s: %w", s.name(), err)
	}
	return b, nil
}

func (s *Sources) name() string {
	switch {
	case s.ConfigPath == "":
		return "--config-yaml"
	case s.ConfigYAML == "":
		return s.ConfigPath
	}
	return s.ConfigPath + " with --config-yaml"
}

// overrideNode applies the command line and says who we are. Control planes
// that look at the version of an "envoy" (Consul) find one that all of them
// serve.
func overrideNode(b *bootstrapv3.Bootstrap, s Sources) {
	if b.Node == nil {
		b.Node = &corev3.Node{}
	}
	n := b.Node
	if s.NodeID != "" {
		n.Id = s.NodeID
	}
	if s.NodeCluster != "" {
		n.Cluster = s.NodeCluster
	}
	if s.NodeZone != "" {
		if n.Locality == nil {
			n.Locality = &corev3.Locality{}
		}
		n.Locality.Zone = s.NodeZone
	}
	if n.UserAgentName == "" {
		n.UserAgentName = "envoy"
	}
	if n.UserAgentVersionType == nil {
		n.UserAgentVersionType = &corev3.Node_UserAgentBuildVersion{UserAgentBuildVersion: &corev3.BuildVersion{
			Version: &typev3.SemanticVersion{MajorNumber: 1, MinorNumber: 36},
		}}
	}
}
