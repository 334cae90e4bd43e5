package xdsconfig

import (
	"slices"
	"time"
)

// A control plane need not send again what it has sent on this stream: one on
// go-control-plane stays silent when a name is unsubscribed and subscribed
// again at one version. So what nobody uses any more is kept for a while,
// should its user come back.

// lapsedWait is how long news is awaited where an old version is at hand. A
// control plane that has any sends it at once; and old endpoints or routes are
// better than none.
const lapsedWait = time.Second

// Bounds on what is kept: assignments are small, route tables may not be.
const (
	maxLapsedEndpoints = 256
	maxLapsedRoutes    = 16
	maxLapsedSecrets   = 64
)

// fetchWait is how long to wait from now on for a resource whose
// initial_fetch_timeout is timeout and that is subscribed to since asked; 0: for
// ever. It does not begin anew with each user: one that changes faster than the
// timeout would never be warm.
func fetchWait(timeout time.Duration, lapsed bool, asked time.Time) time.Duration {
	if lapsed && (timeout <= 0 || timeout > lapsedWait) {
		timeout = lapsedWait
	}
	if timeout <= 0 {
		return 0
	}
	return max(timeout-time.Since(asked), 1)
}

// lapsedNames are the names of resources that are kept without a user, oldest
// first.
type lapsedNames struct {
	most  int
	names []string
}

// keep adds a name. If there are too many, full is true and the oldest is out.
func (l *lapsedNames) keep(name string) (oldest string, full bool) {
	l.names = append(l.names, name)
	if len(l.names) <= l.most {
		return "", false
	}
	oldest = l.names[0]
	l.names = slices.Delete(l.names, 0, 1)
	return oldest, true
}

// take removes a name, whose resource has a user again.
func (l *lapsedNames) take(name string) {
	if i := slices.Index(l.names, name); i >= 0 {
		l.names = slices.Delete(l.names, i, i+1)
	}
}
