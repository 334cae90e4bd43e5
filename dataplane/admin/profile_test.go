package admin

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
)

// TestCPUProfiler: a profile is started, cannot be started again, and is a
// whole pprof file when it was stopped.
func TestCPUProfiler(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cpu.prof")
	h := New(Options{Bootstrap: &bootstrapv3.Bootstrap{Admin: &bootstrapv3.Admin{ProfilePath: file}}})
	for _, step := range []struct {
		query string
		code  int
	}{
		{"", http.StatusBadRequest},
		{"?enable=n", http.StatusOK},
		{"?enable=y", http.StatusOK},
		{"?enable=y", http.StatusInternalServerError},
		{"?enable=n", http.StatusOK},
	} {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/cpuprofiler"+step.query, nil))
		if rec.Code != step.code {
			t.Fatalf("%q: %d, want %d: %s", step.query, rec.Code, step.code, rec.Body)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	zr, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatalf("not a profile: %v", err)
	}
	if p, err := io.ReadAll(zr); err != nil || !bytes.Contains(p, []byte("cpu")) {
		t.Errorf("not a CPU profile: %v, %d bytes", err, len(p))
	}
}
