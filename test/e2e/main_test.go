package e2e

import (
	"fmt"
	"os"
	"testing"

	"github.com/sluice-proxy/sluice/test/proc"
)

// bins is where TestMain built the programs.
var bins string

// TestMain builds both programs once. SLUICE_E2E_RACE=1 builds them with the
// race detector.
func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "sluice-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	bins = dir
	if err := proc.Build(dir, os.Getenv("SLUICE_E2E_RACE") != "", "dataplane", "controlplane"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}
