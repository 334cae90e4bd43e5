package grpcproxy

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// A call ends when nothing has happened for the route's time, or else the
// manager's, and not because it is long.
func TestXDSIdle(t *testing.T) {
	for name, tt := range map[string]struct {
		manager, route, want time.Duration // want 0: never
	}{
		"manager":      {time.Minute, 0, time.Minute},
		"route":        {time.Minute, time.Hour, time.Hour},
		"route: never": {time.Minute, -1, 0},
		"none":         {0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := NewXDSDirector(XDSOptions{})
				defer d.Close()
				b := &xdsBackend{xdsCall: &xdsCall{director: d, manager: &call.Manager{StreamIdleTimeout: tt.manager}}, client: t.Context()}
				b.decision.Route = &call.Route{IdleTimeout: tt.route}
				var ctx context.Context
				ctx, b.cancel = context.WithCancelCause(t.Context())
				defer b.cancel(nil)
				b.watchIdle()
				for range 5 {
					time.Sleep(tt.want / 2)
					b.active()
				}
				time.Sleep(tt.want - 1)
				synctest.Wait()
				if ctx.Err() != nil {
					t.Fatal("the call was cut though something had happened")
				}
				time.Sleep(24 * time.Hour)
				if cut := errors.Is(context.Cause(ctx), idleTimeout); cut != (tt.want > 0) {
					t.Errorf("the call has ended with %v", context.Cause(ctx))
				}
			})
		})
	}
}
