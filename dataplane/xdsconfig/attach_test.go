package xdsconfig

import (
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/google/go-cmp/cmp"
)

func TestMetadataOf(t *testing.T) {
	got := metadataOf([]*corev3.HeaderValue{
		{Key: "X-Token", Value: "a"}, {Key: "x-token", RawValue: []byte("b")}, {Key: "empty"},
	})
	want := map[string][]string{"x-token": {"a", "b"}, "empty": {""}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metadata (-want +got):\n%s", diff)
	}
}
