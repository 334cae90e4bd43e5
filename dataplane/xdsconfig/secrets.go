package xdsconfig

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/sluice-proxy/sluice/xdsclient/bootstrap"
)

// secretState is a Secret by name that comes over ADS.
type secretState struct {
	users   map[*boundSecret]bool
	res     *resource[*tlsv3.Secret] // last good version; nil: none yet
	version string
	updated time.Time
	failure *failure
	updates updates

	// See endpointState.

	lapsed bool
	asked  time.Time
}

func (ss *secretState) used() bool { return len(ss.users) > 0 }
func (ss *secretState) lapse()     { ss.lapsed = true }

// secretSet is what one version of a listener or cluster needs for its TLS.
type secretSet struct {
	owner   string // for logs
	bound   []*boundSecret
	missing map[*boundSecret]bool // that it warms for
	timers  []*time.Timer
	stops   []func() // of files
	came    func()   // nothing is missing any more
}

// boundSecret is a use of a secret by one TLS context.
type boundSecret struct {
	src   *SecretSource
	set   *secretSet
	stop  func()   // of the file that the secret stands in; nil: it comes over ADS
	stops []func() // of the files that the secret is made of
}

// waits says what is missing; empty if nothing is.
func (s *secretSet) waits() string {
	var names []string
	for b := range s.missing {
		names = append(names, fmt.Sprintf("%q", b.src.Name))
	}
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	return "secrets " + strings.Join(slices.Compact(names), ", ")
}

// useSecrets makes what n says available to its TLS contexts, now and
// whenever it changes, until releaseSecrets. came is called later, if something
// is missing now.
func (m *Manager) useSecrets(n *Secrets, owner string, came func()) *secretSet {
	s := &secretSet{owner: owner, missing: map[*boundSecret]bool{}, came: came}
	for _, f := range n.Files {
		s.stops = append(s.stops, m.followFiles(f))
	}
	for _, src := range n.SDS {
		b := &boundSecret{src: src, set: s}
		s.bound = append(s.bound, b)
		s.missing[b] = true
		wait := src.FetchTimeout
		if src.Path != "" {
			b.stop = m.followSecretFile(b)
		} else {
			ss := m.subscribeSecret(b)
			wait = fetchWait(wait, ss.lapsed, ss.asked)
		}
		if s.missing[b] && wait > 0 {
			s.timers = append(s.timers, m.later(wait, func() { m.secretTimeout(b) }))
		}
	}
	return s
}

// subscribeSecret makes b a user of a secret that comes over ADS. If that is
// known and up to date b need not wait.
func (m *Manager) subscribeSecret(b *boundSecret) *secretState {
	ss := m.secrets[b.src.Name]
	if ss == nil {
		ss = &secretState{users: map[*boundSecret]bool{}}
		m.secrets[b.src.Name] = ss
	}
	m.lapsedSecrets.take(b.src.Name)
	if !ss.used() {
		ss.asked = time.Now()
	}
	ss.users[b] = true
	m.dirty.secrets = true
	if ss.res != nil && !ss.lapsed {
		m.takeSecret(b, ss.res.value)
	}
	return ss
}

// takeSecret gives b a version of its secret, outside of a response.
func (m *Manager) takeSecret(b *boundSecret, s *tlsv3.Secret) {
	t, err := b.src.take(s, m.secretEnv)
	if err != nil {
		m.log.Warn("secret refused, the last good version stays", "secret", b.src.Name, "user", b.set.owner, "reason", err)
		return
	}
	m.commitSecret(b, t)
}

// commitSecret makes b's context use what was taken.
func (m *Manager) commitSecret(b *boundSecret, t *taken) {
	t.commit()
	stopAll(b.stops)
	b.stops = nil
	for _, f := range t.files {
		b.stops = append(b.stops, m.followFiles(f))
	}
	m.secretCame(b)
}

func (m *Manager) secretCame(b *boundSecret) {
	s := b.set
	if s.missing[b] {
		delete(s.missing, b)
		if len(s.missing) == 0 && s.came != nil {
			s.came()
		}
	}
}

// secretTimeout ends the wait for b: with the secret from before or, without
// one, so that handshakes fail until it comes.
func (m *Manager) secretTimeout(b *boundSecret) {
	if !b.set.missing[b] {
		return
	}
	if ss := m.secrets[b.src.Name]; b.src.Path == "" && ss.res != nil {
		m.log.Info(b.set.owner+" takes the secret that it had", "secret", b.src.Name, "version", ss.version)
		ss.lapsed = false
		m.takeSecret(b, ss.res.value)
	}
	if !b.set.missing[b] {
		return
	}
	m.log.Warn(b.set.owner+" no longer waits", "reason", fmt.Sprintf("secret %q", b.src.Name))
	if ss := m.secrets[b.src.Name]; b.src.Path == "" && ss != nil {
		ss.updates.timeout++
	}
	m.secretCame(b)
}

// releaseSecrets ends what useSecrets began. Contexts keep what they have, and
// the last versions are kept for a while, should the user be made again.
func (m *Manager) releaseSecrets(s *secretSet) {
	if s == nil {
		return
	}
	s.came = nil
	for _, t := range s.timers {
		t.Stop()
	}
	stopAll(s.stops)
	for _, b := range s.bound {
		stopAll(b.stops)
		if b.stop != nil {
			b.stop()
			continue
		}
		ss := m.secrets[b.src.Name]
		if ss == nil {
			continue
		}
		delete(ss.users, b)
		if ss.used() {
			continue
		}
		m.dirty.secrets = true
		if ss.res == nil {
			delete(m.secrets, b.src.Name)
		} else {
			m.lapseSecret(b.src.Name)
		}
	}
	s.bound, s.stops, s.timers = nil, nil, nil
}

func stopAll(stops []func()) {
	for _, stop := range stops {
		stop()
	}
}

// applySecrets takes in an SDS response. What is missing in it has not
// changed. A secret that one of its users cannot use is refused for all.
func (m *Manager) applySecrets(b *batch[*tlsv3.Secret]) {
	var errs []error
	for _, res := range b.resources {
		ss := m.secrets[res.name]
		if ss == nil || !ss.used() {
			m.keepSecret(res, b.response.Version)
			continue // nobody wants it any more
		}
		err := res.err
		if err == nil && (ss.res == nil || ss.res.print != res.print || ss.lapsed) {
			if err = m.applySecret(ss, res); err != nil {
				errs = append(errs, err)
			} else {
				m.log.Info("secret serves", "secret", res.name, "version", b.response.Version)
			}
		}
		if err != nil {
			ss.updates.rejected++
			ss.failure = &failure{res.content, b.response.Version, time.Now(), err}
			m.log.Warn("secret refused, the last good version stays", "secret", res.name, "version", b.response.Version, "reason", err)
			continue
		}
		ss.failure, ss.res, ss.version, ss.lapsed = nil, res, b.response.Version, false
		ss.updates.accept(ss.version)
	}
	if err := errors.Join(b.nameless...); err != nil {
		m.unreadable(b.response.TypeURL, b.response.Version, err)
	}
	m.applied(b.response, b.fault(errs...))
}

// keepSecret is keepEndpoints for secrets.
func (m *Manager) keepSecret(res *resource[*tlsv3.Secret], version string) {
	if res.err != nil {
		return
	}
	ss := m.secrets[res.name]
	if ss == nil {
		ss = &secretState{users: map[*boundSecret]bool{}, lapsed: true}
		m.secrets[res.name] = ss
		m.lapseSecret(res.name)
	}
	ss.res, ss.version, ss.updated, ss.failure = res, version, time.Now(), nil
}

// lapseSecret keeps a secret without a user for a while.
func (m *Manager) lapseSecret(name string) {
	if old, full := m.lapsedSecrets.keep(name); full {
		delete(m.secrets, old)
	}
}

func (m *Manager) applySecret(ss *secretState, res *resource[*tlsv3.Secret]) error {
	users := slices.SortedFunc(maps.Keys(ss.users), func(a, b *boundSecret) int { return strings.Compare(a.set.owner, b.set.owner) })
	var all []*taken
	var errs []error
	for _, b := range users {
		t, err := b.src.take(res.value, m.secretEnv)
		if err != nil && !slices.ContainsFunc(errs, func(e error) bool { return e.Error() == err.Error() }) {
			errs = append(errs, err)
		}
		all = append(all, t)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	ss.res, ss.updated = res, time.Now()
	for i, b := range users {
		m.commitSecret(b, all[i])
	}
	return nil
}

// followFiles keeps what is made of f current until the result is called.
func (m *Manager) followFiles(f *FileSource) (stop func()) {
	m.startFiles()
	stop, err := m.files.Watch(f.Paths, f.Dir, f.load)
	if err != nil {
		m.log.Warn("files cannot be used yet", "files", f.Paths, "reason", err)
	}
	return stop
}

// followSecretFile keeps b current from the file that its secret stands in: a
// DiscoveryResponse, as Envoy's path_config_source.
func (m *Manager) followSecretFile(b *boundSecret) (stop func()) {
	m.startFiles()
	stop, err := m.files.Watch([]string{b.src.Path}, b.src.Dir, func(contents [][]byte) error {
		s, err := secretIn(contents[0], b.src.Name)
		if err != nil {
			return err
		}
		m.box.post(func() {
			if b.set.came != nil { // else it was released
				m.takeSecret(b, s)
			}
		})
		return nil
	})
	if err != nil {
		m.log.Warn("file cannot be used yet", "secret", b.src.Name, "files", []string{b.src.Path}, "reason", err)
	}
	return stop
}

// secretIn finds a secret in a DiscoveryResponse.
func secretIn(text []byte, name string) (*tlsv3.Secret, error) {
	var r discoveryv3.DiscoveryResponse
	if err := bootstrap.Unmarshal(text, &r, bootstrap.Options{}); err != nil {
		return nil, err
	}
	for _, x := range r.GetResources() {
		s := new(tlsv3.Secret)
		if x.UnmarshalTo(s) == nil && s.GetName() == name {
			return s, nil
		}
	}
	return nil, errNoSecret
}

// startFiles starts watching files, with the first one.
func (m *Manager) startFiles() {
	if !m.following {
		m.following = true
		m.running.Go(func() { m.files.Run(m.ctx) })
	}
}
