package xdsconfig

import (
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
)

// TestFingerprint: the same content in another encoding has the same
// fingerprint, also inside an Any; other content has another.
func TestFingerprint(t *testing.T) {
	meta := func(v string) *corev3.Metadata {
		s, err := structpb.NewStruct(map[string]any{"a": v, "b": 2.0, "c": 3.0})
		if err != nil {
			t.Fatal(err)
		}
		return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"x": s, "y": s}}
	}
	// In the encoding of an Any the order of a map's entries is free: here the
	// entries stand in two orders.
	encode := func(order ...string) *anypb.Any {
		x := &anypb.Any{TypeUrl: "type.googleapis.com/envoy.config.core.v3.Metadata"}
		for _, k := range order {
			m := meta("v")
			for name := range m.FilterMetadata {
				if name != k {
					delete(m.FilterMetadata, name)
				}
			}
			b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			x.Value = append(x.Value, b...)
		}
		return x
	}
	listener := func(x *anypb.Any) *listenerv3.Listener {
		return &listenerv3.Listener{Name: "l", FilterChains: []*listenerv3.FilterChain{{
			Filters: []*listenerv3.Filter{{ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: x}}},
		}}}
	}
	one, two := listener(encode("x", "y")), listener(encode("y", "x"))
	if string(one.FilterChains[0].Filters[0].GetTypedConfig().Value) == string(two.FilterChains[0].Filters[0].GetTypedConfig().Value) {
		t.Fatal("both encodings are the same: the test shows nothing")
	}
	before := proto.Clone(one)
	if fingerprintOf(one) != fingerprintOf(two) {
		t.Error("the same content in two encodings has two fingerprints")
	}
	if !proto.Equal(before, one) {
		t.Error("fingerprintOf changed its argument")
	}
	if fingerprintOf(one) == fingerprintOf(listener(encode("x"))) {
		t.Error("two contents have one fingerprint")
	}
	a, b := &corev3.Locality{Region: "ab"}, &corev3.Locality{}
	if fingerprintOf(a, b) == fingerprintOf(b, a) {
		t.Error("the order of messages does not count")
	}
}
