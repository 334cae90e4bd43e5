package xdsconfig

import (
	"log/slog"
	"sync"
)

// maxWarnings bounds what a warnLog remembers.
const maxWarnings = 10_000

// warnLog logs each warning once: a route table that is updated every second
// says the same each time. Safe for concurrent use.
type warnLog struct {
	log *slog.Logger

	mu   sync.Mutex // guards told
	told map[Warning]bool
}

func (l *warnLog) warn(w Warning) {
	if !l.first(w) {
		return
	}
	l.log.Warn("configuration may not do what it says", "resource", w.Kind, "name", w.Name, "field", w.Path, "reason", w.Reason)
}

func (l *warnLog) first(w Warning) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.told[w] {
		return false
	}
	if l.told == nil || len(l.told) >= maxWarnings {
		l.told = make(map[Warning]bool)
	}
	l.told[w] = true
	return true
}
