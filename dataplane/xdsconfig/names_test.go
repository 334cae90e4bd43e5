package xdsconfig

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/sluice-proxy/sluice/dataplane/cluster"
)

// TestNames: a name has one object while anybody holds it, and names that
// nobody holds do not add up.
func TestNames(t *testing.T) {
	n := newNames(cluster.NewHandle)
	held := n.get("held")
	if n.get("held") != held {
		t.Fatal("two objects of one name")
	}
	for i := range 10_000 {
		n.get(fmt.Sprint(i))
		if i%1000 == 0 {
			runtime.GC()
		}
	}
	if len(n.byName) > 5_000 {
		t.Errorf("%d names are remembered, though only one is held", len(n.byName))
	}
	if n.get("held") != held {
		t.Error("a name that is held got another object")
	}
	runtime.KeepAlive(held)
}
