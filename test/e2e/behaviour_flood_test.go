package e2e

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/sluice-proxy/sluice/test/rawh2"
)

// TestStalledFlood: clients leave as many calls stalled as the proxy's four
// connections to the backend carry. Another client's call gets through within
// seconds: the calls that hold most for longest end (docs/core.md, "Flow control").
func TestStalledFlood(t *testing.T) {
	s := newScene(t, fixedConfig{})
	n := 0
flood:
	for {
		c := connect(t, s.p.port, rawh2.Options{Settings: []http2.Setting{setting(http2.SettingInitialWindowSize, 0)}})
		for range 100 {
			c.Open(true, request())
			sv, err := s.srv.AcceptStream()
			if err != nil || n > 2000 { // no connection takes one more
				break flood
			}
			n++
			sv.Headers(false, response())
			for i := 0; i < 4 && sv.Window() >= 16<<10; i++ {
				sv.Data(false, make([]byte, 16<<10))
			}
		}
	}
	c := connect(t, s.p.port, rawh2.Options{Patience: longest})
	start := time.Now()
	cl := c.Open(true, request("x-good", "1"))
	eventually(t, "the call reaches the backend", func() error {
		sv, err := s.srv.AcceptStream()
		if err != nil {
			return err
		}
		answer(sv)
		if header(sv, "x-good") != "1" {
			return errors.New("another call came")
		}
		return nil
	})
	must(t, cl.WaitEnd())
	wantStatus(t, cl.Text(), "0")
	t.Logf("past %d stalled calls in %v", n, time.Since(start))
}
