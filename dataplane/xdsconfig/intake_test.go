package xdsconfig

import (
	"errors"
	"testing"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sluice-proxy/sluice/xdsclient"
)

// TestIntakeCompilesOnce: the same bytes are not parsed again, the same
// content in other bytes is not compiled again, what was refused is.
func TestIntakeCompilesOnce(t *testing.T) {
	var compiled []string
	fail := false
	newMessage := func() *endpointv3.ClusterLoadAssignment { return new(endpointv3.ClusterLoadAssignment) }
	in := newIntake(&Env{}, newMessage, (*endpointv3.ClusterLoadAssignment).GetClusterName,
		func(m *endpointv3.ClusterLoadAssignment, _ *Env) (int, error) {
			compiled = append(compiled, m.GetClusterName())
			if fail {
				return 0, errors.New("refused")
			}
			return len(compiled), nil
		}, nil)
	resource := func(name string, priorities ...uint32) *anypb.Any {
		m := &endpointv3.ClusterLoadAssignment{ClusterName: name}
		for _, p := range priorities {
			m.Endpoints = append(m.Endpoints, &endpointv3.LocalityLbEndpoints{Priority: p})
		}
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return &anypb.Any{TypeUrl: xdsclient.EndpointType, Value: b}
	}
	// Unknown fields of value 0 behind the rest: other bytes. The content is
	// the same once the field is a known one set to what it was.
	again := func(x *anypb.Any, name string) *anypb.Any {
		return &anypb.Any{TypeUrl: x.TypeUrl, Value: append(append([]byte{}, x.Value...), append([]byte{0x0a, byte(len(name))}, name...)...)}
	}
	a1 := resource("a", 1)
	for _, step := range []struct {
		name      string
		wanted    map[string]bool
		fail      bool
		resources []*anypb.Any
		compiled  []string
		nameless  int
	}{
		{name: "first", resources: []*anypb.Any{a1, resource("b")}, compiled: []string{"a", "b"}},
		{name: "same bytes", resources: []*anypb.Any{a1, resource("b")}},
		{name: "same content", resources: []*anypb.Any{again(a1, "a"), resource("b")}},
		{name: "same content, first bytes", resources: []*anypb.Any{a1, resource("b")}},
		{name: "changed", resources: []*anypb.Any{resource("a", 2), resource("b")}, compiled: []string{"a"}},
		{name: "gone", resources: []*anypb.Any{resource("b")}},
		{name: "back", resources: []*anypb.Any{resource("a", 2), resource("b")}, compiled: []string{"a"}},
		{name: "bad", fail: true, resources: []*anypb.Any{resource("c")}, compiled: []string{"c"}},
		{name: "bad again", fail: true, resources: []*anypb.Any{resource("c")}, compiled: []string{"c"}},
		{name: "unwanted", wanted: map[string]bool{"d": true}, resources: []*anypb.Any{resource("d"), resource("e")}, compiled: []string{"d"}},
		{name: "nameless and twice", resources: []*anypb.Any{resource(""), resource("d"), resource("d"), {Value: []byte{0xff}}}, nameless: 3},
	} {
		compiled, fail = nil, step.fail
		in.wanted.Store(nil)
		if step.wanted != nil {
			in.wanted.Store(&step.wanted)
		}
		b := in.take(&xdsclient.Response{Resources: step.resources})
		if diff := cmp.Diff(step.compiled, compiled); diff != "" {
			t.Errorf("%s: compiled, -want +got:\n%s", step.name, diff)
		}
		if len(b.nameless) != step.nameless {
			t.Errorf("%s: %d resources without a name, want %d: %v", step.name, len(b.nameless), step.nameless, b.nameless)
		}
	}
}
