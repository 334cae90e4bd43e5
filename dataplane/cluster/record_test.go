package cluster

import (
	"testing"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// What /clusters counts of a host: each attempt is a success, an error or
// neither; one that took too long is an error, too.
func TestRecord(t *testing.T) {
	for name, tt := range map[string]struct {
		o                          call.Outcome
		successes, errors, timeout uint64
	}{
		"OK":               {o: call.Outcome{Side: call.SideUpstream, HTTP: 200, HasCode: true}, successes: 1},
		"application":      {o: call.Outcome{Side: call.SideUpstream, HTTP: 200, HasCode: true, Code: call.NotFound}, successes: 1},
		"UNAVAILABLE":      {o: call.Outcome{Side: call.SideUpstream, HTTP: 200, HasCode: true, Code: call.Unavailable}, errors: 1},
		"timeout":          {o: call.Outcome{Side: call.SideUpstream, Flags: call.UpstreamRequestTimeout}, errors: 1, timeout: 1},
		"no response":      {o: call.Outcome{Side: call.SideUpstream}},
		"the client's end": {o: call.Outcome{Side: call.SideDownstream, HTTP: 200}},
	} {
		c := newCluster(t, Config{}, equalHosts(1))
		h, err := c.Pick(&call.Call{}, 0)
		if err != nil {
			t.Fatal(err)
		}
		c.Done(h, &tt.o)
		got := c.Hosts()[0]
		if got.Successes != tt.successes || got.Errors != tt.errors || got.Timeouts != tt.timeout {
			t.Errorf("%s: %d successes, %d errors, %d timeouts", name, got.Successes, got.Errors, got.Timeouts)
		}
	}
}
