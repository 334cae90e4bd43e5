package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-proxy/sluice/controlplane"
)

// check says that a good directory is good, and of a bad one each fault on a
// line of its own.
func TestCheck(t *testing.T) {
	var out bytes.Buffer
	cmd := root()
	cmd.SetOut(&out)
	cmd.SetArgs([]string{"check", "--config", "../../testdata/quickstart"})
	if err := cmd.Execute(); err != nil {
		t.Errorf("quickstart: %v", err)
	}
	if !strings.Contains(out.String(), "2 groups with 12 resources: good") || strings.Contains(out.String(), "warning") {
		t.Errorf("output %s", out.String())
	}

	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "edge"), 0o700); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{"resources: []": "1 group with 0 resources: good"} {
		if err := os.WriteFile(filepath.Join(dir, "edge", "a.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out.Reset()
		cmd = root()
		cmd.SetOut(&out)
		cmd.SetArgs([]string{"check", "--config", dir})
		if err := cmd.Execute(); err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("error %v, output %s", err, out.String())
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "edge", "a.yaml"), []byte("resources: [{}, {}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd = root()
	cmd.SetArgs([]string{"check", "--config", dir})
	faults := controlplane.Faults(cmd.Execute())
	want := []string{
		`group "edge": edge/a.yaml:1: resources[0]: no "@type"`,
		`group "edge": edge/a.yaml:1: resources[1]: no "@type"`,
	}
	if len(faults) != 2 || faults[0].Error() != want[0] || faults[1].Error() != want[1] {
		t.Errorf("faults %q, want %q", faults, want)
	}
}
