package attack

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-proxy/sluice/dataplane/h2"
)

// scripted are the limits that no attack of a few seconds can meet, and where
// dataplane/h2 has the frame script, by its title, or the test.
var scripted = map[string]string{
	"StalledFor":        "testdata/scripts/6.9.1-windows.txt: == a connection full of held bytes names a victim",
	"VictimIdle":        "testdata/scripts/6.9.1-windows.txt: == a connection full of held bytes names a victim",
	"ConnWindow":        "testdata/scripts/6.9.1-windows.txt: == one byte beyond the connection's window",
	"HoldLimit":         "testdata/scripts/6.9.1-windows.txt: == a connection full of held bytes names a victim",
	"HiWater":           "testdata/scripts/limits.txt: == room: hiWater",
	"KeepaliveInterval": "testdata/scripts/6.7-ping.txt: == keepalive:",
	"KeepaliveTimeout":  "testdata/scripts/6.7-ping.txt: == keepalive:",
	"ShortGrace":        "testdata/scripts/8.1.1-malformed.txt: == too little, while it is answered: for some time",
	"ResetAge":          "testdata/scripts/rapid-reset.txt: == not of streams that are a second old",
	"LateFrames":        "testdata/scripts/limits.txt: == each reset of ours earns three",
	"MaxStreamWindow":   "tune_test.go: func Test",
	"MaxConnWindow":     "tune_test.go: func Test",
}

// timed are those of TestTimeouts.
var timed = []string{"PrefaceTimeout", "SettingsTimeout", "HeaderTimeout", "SlowReader"}

// notLimits are the fields of h2.Config that limit no peer.
var notLimits = []string{
	"AllowConnect", "ExtendedConnect", "KeepaliveJitter", "KeepaliveIdle", "IdleTimeout", "DrainPing",
	"Limits", "Pool", "Counters", "Rand",
}

// TestEveryLimitHasAnAttack holds every field of h2.Limits and h2.Config to an
// attack here or a frame script there.
func TestEveryLimitHasAnAttack(t *testing.T) {
	have := map[string]bool{}
	for _, l := range timed {
		have[l] = true
	}
	for _, a := range allAttacks() {
		for _, l := range a.limits {
			have[l] = true
		}
	}
	known := map[string]bool{}
	for _, typ := range []reflect.Type{reflect.TypeFor[h2.Limits](), reflect.TypeFor[h2.Config]()} {
		for i := range typ.NumField() {
			name := typ.Field(i).Name
			known[name] = true
			if !have[name] && scripted[name] == "" && !slices.Contains(notLimits, name) {
				t.Errorf("%s.%s has neither an attack nor a frame script", typ, name)
			}
		}
	}
	for name := range have {
		if !known[name] {
			t.Errorf("an attack names %s, which is no limit", name)
		}
	}
	for name, where := range scripted {
		file, title, _ := strings.Cut(where, ": ")
		b, err := os.ReadFile(filepath.Join("..", "..", "dataplane", "h2", filepath.FromSlash(file)))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(b), title) {
			t.Errorf("%s: %s has no %q", name, file, title)
		}
	}
}
