package xdsconfig

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/sluice-proxy/sluice/dataplane/telemetry"
)

// The stats of a cluster that is removed go from /stats, those of one that
// changes stay.
func TestRemovedClusterHasNoStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.command([]string{"bootstrap"}, cdsOnly)
		r := telemetry.NewRegistry()
		w.m.registry, w.m.clusterIntake.env.Registry = r, r
		shown := func(name string) bool {
			for _, s := range r.Collect(nil) {
				if strings.HasPrefix(s.Name, "cluster."+name+".") {
					return true
				}
			}
			return false
		}
		const a = "- {name: a, type: STATIC, http2_protocol_options: {}, load_assignment: {cluster_name: a}%s}\n"
		for i, step := range []struct {
			cds  string
			want bool
		}{
			{strings.ReplaceAll(a, "%s", ""), true},
			{strings.ReplaceAll(a, "%s", ", lb_policy: RANDOM"), true},
			{strings.ReplaceAll(a, "name: a,", "name: b,"), false},
			{strings.ReplaceAll(a, "%s", ""), true},
		} {
			w.command([]string{"cds", string(rune('1' + i))}, strings.ReplaceAll(step.cds, "%s", ""))
			if shown("a") != step.want {
				t.Errorf("step %d: shown %v", i, !step.want)
			}
		}
	})
}

// TestRefusedLeavesNoStats: a resource that is refused takes no scope, or a
// control plane that sends bad ones under ever new names fills /stats.
func TestRefusedLeavesNoStats(t *testing.T) {
	for name, m := range goldenInputs(t) {
		r := telemetry.NewRegistry()
		before := len(r.Collect(nil))
		_, err := compileAny(t, m, &Env{Registry: r, LookupEnv: func(string) (string, bool) { return "", false }})
		if after := len(r.Collect(nil)); err != nil && after != before {
			t.Errorf("%s: %d stats before, %d after", name, before, after)
		}
	}
}
