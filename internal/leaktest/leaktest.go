// Package leaktest finds goroutines that tests leave behind, on machines that
// have much else to do: goleak alone gives them half a second to end.
package leaktest

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience is how long goroutines have to end.
const patience = 30 * time.Second

// Main runs the tests of a package, for its TestMain. If they pass and
// goroutines are left they have failed.
func Main(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if err := Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// Find returns an error that shows the goroutines that do not end; nil if there
// are none. It takes half a minute if there are.
func Find() error {
	err := goleak.Find()
	for end := time.Now().Add(patience); err != nil && time.Now().Before(end); {
		err = goleak.Find()
	}
	return err
}
