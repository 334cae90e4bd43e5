package telemetry

import (
	"strings"
	"testing"
)

// A scope is shown while somebody holds it, and from the start if nobody ever
// did. One that comes back finds its counters.
func TestHold(t *testing.T) {
	r := NewRegistry()
	s := r.Scope(KindCluster, "a")
	shown := func() bool {
		_, ok := r.Within(s, "http2.rapid_reset", 1)
		found := false
		for _, st := range r.Collect(workers{{nil, {9}}}) {
			if strings.HasPrefix(st.Name, "cluster.a.") {
				found = true
				if st.Name == "cluster.a.upstream_cx_total" && st.Value != 9 {
					t.Errorf("%s is %d, want 9", st.Name, st.Value)
				}
			}
		}
		if found != ok {
			t.Errorf("Collect shows it: %v, Within: %v", found, ok)
		}
		return found
	}
	for i, step := range []struct {
		do   func()
		want bool
	}{
		{func() {}, true},
		{func() { r.Hold(s) }, true},
		{func() { r.Hold(s) }, true},
		{func() { r.Drop(s) }, true},
		{func() { r.Drop(s) }, false},
		{func() { r.Hold(r.Scope(KindCluster, "a")) }, true},
	} {
		if step.do(); shown() != step.want {
			t.Errorf("step %d: shown %v", i, !step.want)
		}
	}
}
