package xdsconfig

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// listenerState is a listener by name, over its versions.
type listenerState struct {
	name    string
	static  bool // of the bootstrap: LDS does not change it
	active  *listenerUnit
	warming *listenerUnit
	failure *failure
}

// exists is false if no version was ever good.
func (ls *listenerState) exists() bool { return ls.active != nil || ls.warming != nil }

// listenerUnit is one version of a listener. Its addresses are bound.
type listenerUnit struct {
	state   *listenerState
	res     *resource[*Listener]
	version string
	updated time.Time

	waits   map[string]bool // RouteConfigurations that it warms for
	timers  []*time.Timer
	secrets *secretSet
}

// applyListeners takes in an LDS response. Acknowledged is what compiles and
// whose addresses could be bound.
func (m *Manager) applyListeners(b *batch[*Listener]) {
	there := make(map[string]bool, len(b.resources))
	for _, res := range b.resources {
		there[res.name] = true
	}
	// What goes first gives its address to what comes.
	if len(b.nameless) == 0 {
		for _, name := range slices.Sorted(maps.Keys(m.listeners)) {
			if ls := m.listeners[name]; !there[name] && !ls.static {
				m.removeListener(ls)
			}
		}
	}
	var unbound []*resource[*Listener]
	for _, res := range b.resources {
		if m.applyListener(res, b.response.Version) != nil {
			unbound = append(unbound, res)
		}
	}
	// Their addresses may have been held by listeners that have moved since.
	var errs []error
	for _, res := range unbound {
		if err := m.applyListener(res, b.response.Version); err != nil {
			m.refuseListener(res, b.response.Version, err)
			errs = append(errs, err)
		}
	}
	m.applied(b.response, b.fault(errs...))
	if m.stage == stageListeners {
		m.firstListeners()
	}
}

// applyListener returns an error if the listener cannot be bound.
func (m *Manager) applyListener(res *resource[*Listener], version string) error {
	ls := m.listeners[res.name]
	if ls != nil && ls.static {
		m.log.Warn("listener of the bootstrap is not changed by LDS", "listener", res.name, "version", version)
		return nil
	}
	if res.err != nil {
		m.refuseListener(res, version, res.err)
		return nil
	}
	if ls != nil && ls.active != nil && ls.active.res.print == res.print {
		// If a change on its way was taken back, its addresses go back, too.
		if m.discardListener(ls) {
			m.stats.listeners(m.listeners)
			if err := m.server.Bind(res.value.Listener); err != nil {
				return err
			}
		}
		ls.failure, ls.active.version = nil, version
		return nil
	}
	if ls != nil && ls.warming != nil && ls.warming.res.print == res.print {
		ls.failure, ls.warming.version = nil, version
		return nil
	}
	if err := m.server.Bind(res.value.Listener); err != nil {
		return err
	}
	switch {
	case ls == nil:
		ls = &listenerState{name: res.name}
		m.listeners[res.name] = ls
		m.stats.listenerAdded.Add(1)
	case ls.exists():
		m.stats.listenerModified.Add(1)
	default:
		m.stats.listenerAdded.Add(1)
	}
	ls.failure = nil
	m.warmListener(&listenerUnit{state: ls, res: res, version: version, updated: time.Now()})
	return nil
}

// refuseListener notes that a version was refused. What serves or warms goes
// on.
func (m *Manager) refuseListener(res *resource[*Listener], version string, err error) {
	ls := m.listeners[res.name]
	if ls == nil {
		ls = &listenerState{name: res.name}
		m.listeners[res.name] = ls
	}
	ls.failure = &failure{res.content, version, time.Now(), err}
	text := "listener refused"
	if ls.exists() {
		text = "listener refused, the last good version stays"
	}
	m.log.Warn(text, "listener", ls.name, "version", version, "reason", err)
}

// warmListener makes u the next version of its listener. It serves as soon as
// its RouteConfigurations and secrets are there.
func (m *Manager) warmListener(u *listenerUnit) {
	u.waits = map[string]bool{}
	for _, src := range u.res.value.Routes {
		m.useRoutes(u, src)
	}
	u.secrets = m.useSecrets(&u.res.value.Secrets, fmt.Sprintf("listener %q", u.state.name), func() { m.listenerWarm(u) })
	m.discardListener(u.state)
	u.state.warming = u
	m.stats.listeners(m.listeners)
	m.listenerWarm(u)
	if u.state.warming == u {
		m.log.Info("listener warms", "listener", u.state.name, "version", u.version, "reason", m.listenerWaits(u))
	}
}

// listenerWaits says what u warms for.
func (m *Manager) listenerWaits(u *listenerUnit) string {
	if m.stage < stageListeners {
		return "the first clusters"
	}
	var parts []string
	if names := slices.Sorted(maps.Keys(u.waits)); len(names) > 0 {
		for i, n := range names {
			names[i] = fmt.Sprintf("%q", n)
		}
		parts = append(parts, "routes "+strings.Join(names, ", "))
	}
	if w := u.secrets.waits(); w != "" {
		parts = append(parts, w)
	}
	return strings.Join(parts, "; ")
}

// listenerWarm makes u serve if nothing is missing.
func (m *Manager) listenerWarm(u *listenerUnit) {
	ls := u.state
	if ls.warming != u || len(u.waits) > 0 || len(u.secrets.missing) > 0 || m.stage < stageListeners {
		return
	}
	u.stopTimers()
	if err := m.server.Serve(u.res.value.Listener); err != nil {
		// It was bound and acknowledged; its address was lost since.
		m.log.Error("listener cannot serve", "listener", ls.name, "version", u.version, "reason", err)
		ls.failure = &failure{u.res.content, u.version, time.Now(), err}
		m.discardListener(ls)
		m.stats.listeners(m.listeners)
		return
	}
	old := ls.active
	ls.active, ls.warming = u, nil
	if old != nil {
		m.releaseListener(old)
	}
	m.stats.listeners(m.listeners)
}

func (u *listenerUnit) stopTimers() {
	for _, t := range u.timers {
		t.Stop()
	}
	u.timers = nil
}

// discardListener gives up the version that warms, and reports whether there
// was one. Its addresses are let go by the next Bind or Remove.
func (m *Manager) discardListener(ls *listenerState) bool {
	u := ls.warming
	if u == nil {
		return false
	}
	ls.warming = nil
	u.stopTimers()
	m.releaseListener(u)
	return true
}

// releaseListener ends what a version uses.
func (m *Manager) releaseListener(u *listenerUnit) {
	m.releaseRoutes(u)
	m.releaseSecrets(u.secrets)
}

func (m *Manager) removeListener(ls *listenerState) {
	delete(m.listeners, ls.name)
	if !ls.exists() {
		return
	}
	m.discardListener(ls)
	if ls.active != nil {
		m.releaseListener(ls.active)
	}
	m.server.Remove(ls.name)
	m.stats.listenerRemoved.Add(1)
	m.stats.listeners(m.listeners)
	m.log.Info("listener drains", "listener", ls.name, "reason", "removed by LDS")
}

// addStaticListener binds a listener of the bootstrap.
func (m *Manager) addStaticListener(res *resource[*Listener]) error {
	if m.listeners[res.name] != nil {
		return &Error{Kind: "Listener", Name: res.name, Reason: twoOfOneName}
	}
	if err := m.server.Bind(res.value.Listener); err != nil {
		return err
	}
	ls := &listenerState{name: res.name, static: true}
	m.listeners[res.name] = ls
	m.stats.listenerAdded.Add(1)
	m.warmListener(&listenerUnit{state: ls, res: res, updated: time.Now()})
	return nil
}
