package attack

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluice-proxy/sluice/internal/leaktest"
	"github.com/sluice-proxy/sluice/test/proc"
)

var (
	attackTime = flag.Duration("attack.time", time.Second, "how long each attack lasts")
	page       = flag.String("attack.page", "", "write the table of results into this page")
	baseline   = flag.Bool("attack.baseline", false, "run each attack against the dummy listener too, not only when the latency asks for it")
)

// program is where TestMain built the proxy.
var program string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	flag.Parse()
	dir, err := os.MkdirTemp("", "sluice-attack-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "dataplane")
	if err := proc.Build(dir, false, "dataplane"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if code == 0 {
		if err := leaktest.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}
