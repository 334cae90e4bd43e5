//go:build unix

package dataplane

import (
	"log/slog"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// failing is a listening socket that fails with each of errs in turn.
type failing struct {
	deadliner
	errs []error
}

func (f *failing) Accept() (net.Conn, error) {
	err := f.errs[0]
	f.errs = f.errs[1:]
	return nil, err
}

// Accepting goes on after whatever error, waiting longer each time, until the
// socket is closed.
func TestAcceptBackoff(t *testing.T) {
	tests := map[string]struct {
		errs []error
		want time.Duration
	}{
		"closed":                    {nil, 0},
		"client left":               {[]error{syscall.ECONNABORTED, syscall.ECONNABORTED}, 0},
		"out of descriptors":        {[]error{syscall.EMFILE, syscall.ENFILE, syscall.EMFILE}, (5 + 10 + 20) * time.Millisecond},
		"anything":                  {[]error{syscall.EIO}, 5 * time.Millisecond},
		"deadline of a past holder": {[]error{os.ErrDeadlineExceeded}, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &Server{log: slog.New(slog.DiscardHandler), done: make(chan struct{})}
				k := &socket{s: s, ln: &failing{errs: append(tt.errs, net.ErrClosed)}}
				k.owner.Store(&binding{s: s})
				start := time.Now()
				k.accept()
				if got := time.Since(start); got != tt.want {
					t.Errorf("waited %v, want %v", got, tt.want)
				}
			})
		})
	}
}
