package telemetry

import (
	"strings"
	"testing"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// A scope is shown while somebody holds it, and from the start if nobody ever
// did. One that comes back finds its counters.
func TestHold(t *testing.T) {
	r := NewRegistry()
	s := r.Scope(KindCluster, "a")
	r.Table([]Column{{Name: "http2.rapid_reset"}}, func(add func(call.Scope, []uint64)) { add(s, []uint64{1}) })
	shown := func() bool {
		found, inTable := false, false
		for _, st := range r.Collect(workers{{nil, {9}}}) {
			if strings.HasPrefix(st.Name, "cluster.a.") {
				found = true
				inTable = inTable || st.Name == "cluster.a.http2.rapid_reset"
				if st.Name == "cluster.a.upstream_cx_total" && st.Value != 9 {
					t.Errorf("%s is %d, want 9", st.Name, st.Value)
				}
			}
		}
		if found != inTable {
			t.Errorf("it is shown: %v, its row of a table: %v", found, inTable)
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
