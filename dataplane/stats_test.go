//go:build unix

package dataplane

import (
	"reflect"
	"testing"

	"github.com/sluice-proxy/sluice/dataplane/h2"
)

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
