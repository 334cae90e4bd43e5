//go:build unix

package dataplane

import (
	"reflect"
	"testing"

	"github.com/sluice-proxy/sluice/dataplane/h2"
	"github.com/sluice-proxy/sluice/dataplane/telemetry"
	"github.com/sluice-proxy/sluice/test/echo"
)

// TestListenerStats: connections are counted under the listener's address.
func TestListenerStats(t *testing.T) {
	h, _ := backend(t, &echo.Server{Instance: "one"})
	reg := telemetry.NewRegistry()
	s, err := New(Options{Registry: reg})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Shutdown(testContext(t)) })
	mustServe(t, s, version(t, 1, h))
	say(t, client(t, s))
	got := map[string]uint64{}
	for _, st := range reg.Collect(s) {
		got[st.Name] = st.Value
	}
	if got["server.worker_lock_us"] == 0 {
		t.Error("no hold of a worker's lock was counted")
	}
	want := map[string]uint64{
		"listener.127.0.0.1_0.downstream_cx_total":   1,
		"listener.127.0.0.1_0.downstream_cx_active":  1,
		"listener.127.0.0.1_0.downstream_cx_destroy": 0,
	}
	for name, n := range want {
		if v, ok := got[name]; !ok || v != n {
			t.Errorf("%s is %d (there: %v), want %d", name, v, ok, n)
		}
	}
}

// TestHTTP2Names: every field of h2.Counters is added up by Add and has one
// name in the stats.
func TestHTTP2Names(t *testing.T) {
	names := map[string]bool{}
	for _, c := range http2Names {
		names[c.name] = true
	}
	typ := reflect.TypeFor[h2.Counters]()
	if len(names) != typ.NumField() || len(http2Names) != typ.NumField() {
		t.Errorf("%d names, %d of them different, for %d counters", len(http2Names), len(names), typ.NumField())
	}
	for i := range typ.NumField() {
		var one, sum h2.Counters
		reflect.ValueOf(&one).Elem().Field(i).SetUint(7)
		sum.Add(&one)
		sum.Add(&one)
		var shown int
		for _, c := range http2Names {
			if v := c.of(&sum); v == 14 {
				shown++
			} else if v != 0 {
				t.Errorf("%s: counter %s is %d, want 14", typ.Field(i).Name, c.name, v)
			}
		}
		if shown != 1 {
			t.Errorf("%s is shown %d times", typ.Field(i).Name, shown)
		}
	}
}
