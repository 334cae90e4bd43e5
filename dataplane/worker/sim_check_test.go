package worker

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/h2"
)

// buildConfig draws hosts, cluster options and the connection manager.
func (w *world) buildConfig() {
	w.set = &simSet{w: w}
	opt := &call.UpstreamOptions{Cluster: call.Scope{Index: 2}, MaxConnections: w.opt.connections, MaxRequests: w.opt.maxRequests, MaxAge: w.opt.age}
	m := &call.Manager{Scope: call.Scope{Index: 1}, Director: w.set, StreamIdleTimeout: 5 * time.Minute, MaxStreamDuration: w.opt.odd.duration, MaxConnectionDuration: w.opt.age, MaxRequestsPerConn: w.opt.maxRequests}
	if w.rnd.IntN(2) == 0 {
		opt.HTTP2.InitialStreamWindowSize = 500 + uint32(w.rnd.IntN(100_000))
		m.HTTP2.InitialStreamWindowSize = 500 + uint32(w.rnd.IntN(100_000))
	}
	if w.rnd.IntN(2) == 0 {
		opt.HTTP2.InitialConnectionWindowSize = 65535 + uint32(w.rnd.IntN(200_000))
		m.HTTP2.InitialConnectionWindowSize = 65535 + uint32(w.rnd.IntN(200_000))
	}
	if w.rnd.IntN(2) == 0 {
		m.ForwardedProto, m.GenerateRequestID, m.EnvoyHeaders, m.Sanitize = true, true, true, true
		m.ServerHeader, m.ServerName = call.ServerOverwrite, "sim"
	}
	if d := w.opt.odd.silence; d > 0 {
		m.StreamIdleTimeout = d
	}
	if w.rnd.IntN(2) == 0 {
		m.MaxPeekBytes = 1 + w.rnd.IntN(2000)
	}
	w.limits = w.opt.odd.limits()
	if w.opt.filters {
		m.Filters = w.simFilters()
	}
	w.chain = NewChain(m)
	for range w.opt.hosts {
		w.addHost(opt)
	}
}

func (w *world) addHost(opt *call.UpstreamOptions) {
	w.hosts = append(w.hosts, &simHost{target: &call.Target{Network: "tcp", Address: "host-" + itoa(len(w.hosts)), Options: opt, Limits: w.limits, Stats: &call.HostStats{}}})
}

// disturb causes one fault that the world's options allow.
func (w *world) disturb() {
	switch w.rnd.IntN(7) {
	case 0:
		if l := w.pick(func(l *link) bool { return l.peer != nil && !l.peer.gone && !l.shut }); w.opt.cuts && l != nil && w.rnd.IntN(3) == 0 {
			w.fault("cut")
			l.peer.cut(w.rnd.IntN(2) == 0)
		}
	case 1:
		if w.opt.odd.goaways && w.rnd.IntN(2) == 0 {
			w.goodbye()
		} else if w.opt.goaways {
			w.goaway()
		}
	case 2, 3:
		if w.opt.settings {
			w.changeSettings()
		}
	case 4:
		if w.opt.retire && w.rnd.IntN(3) == 0 {
			w.fault("retire")
			h := w.hosts[w.rnd.IntN(len(w.hosts))]
			w.addHost(h.target.Options)
			h.retired = true
			w.g.Sweep()
		}
	case 5:
		if w.opt.drain && w.rnd.IntN(10) == 0 {
			w.fault("drain")
			for _, p := range w.clients {
				p.drained = true
			}
			w.g.Drain(func(*Chain) bool { return true }, time.Duration(w.rnd.IntN(int(time.Second))))
		}
	case 6:
		if len(w.clients) < 30 {
			w.connect()
		}
	}
}

// goaway makes a server say that it has had enough, at its highest stream or
// at a lower one whose successors it has not begun to answer.
func (w *world) goaway() {
	l := w.pick(func(l *link) bool {
		return l.peer != nil && !l.peer.client && !l.peer.gone && (!l.peer.goawaySent || l.peer.goawayLast == goawaySoon) && l.peer.highest > 0
	})
	if l == nil {
		return
	}
	p := l.peer
	last := p.highest
	for i := len(p.order) - 1; i >= 0 && w.rnd.IntN(2) == 0; i-- {
		s := p.streams[p.order[i]]
		if s.attempt == nil || s.headSent || s.sendEnd || s.reset || s.attempt.info || s.attempt.ended {
			break
		}
		s.attempt.refused, s.reset = true, true
		s.r.refusals++
		last = max(s.id, 2) - 2
	}
	w.fault("goaway")
	p.goawaySent, p.goawayLast = true, last
	p.fr.WriteGoAway(last, http2.ErrCodeNo, nil)
}

func (w *world) changeSettings() {
	l := w.pick(func(l *link) bool {
		return l.peer != nil && !l.peer.gone && !l.peer.sawEnd && len(l.peer.initNext) < 3 && l.peer.sentSettings < 8
	})
	if l == nil || w.rnd.IntN(10) != 0 {
		return
	}
	p := l.peer
	v := int64(w.rnd.IntN(100_000))
	settings := []http2.Setting{p.windowSetting(v)}
	if !p.client && w.rnd.IntN(2) == 0 {
		n := uint32(w.rnd.IntN(10))
		settings = append(settings, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1 + n})
	}
	p.sentSettings++
	w.note("settings", p.l.id, int(v))
	p.fr.WriteSettings(settings...)
	p.initNext = append(p.initNext, p.lastInit())
}

// unavailable reports whether something happened to r itself that explains a
// local UNAVAILABLE: to the connection of one of its attempts, or to its host
// while an attempt had reached no server yet. That servers refused it unseen
// does not, until the free retries are used up: they are made for any request
// that is kept whole and that no server has begun to process.
func (w *world) unavailable(r *rpc) bool {
	if r.hurt || r.client != nil && r.client.drained {
		return true
	}
	// Those that reached no server are with it: their connection may have said
	// GOAWAY while they were on their way. One that took too long may have been
	// seen, for all the proxy knows.
	late := r.route == routeRetry && w.opt.perTry > 0
	if r.refusals+r.picks-r.arrived > 0 && w.opt.odd.budget > 0 {
		return true // what was kept of it was dropped
	}
	if n := r.refusals + r.picks - r.arrived; n > maxFree || n > 0 && (r.reqLen > keptWhole || r.processed() > 0 || late) {
		return true
	}
	if r.picks > r.arrived {
		for _, p := range r.picked {
			if p.host.lost > p.lost {
				return true
			}
		}
	}
	return false
}

// keptWhole is the length up to which a request is kept for another attempt,
// whatever the server has taken of it.
const keptWhole = 64 << 10

// explain says whether a local reply has a reason.
func (w *world) explain(r *rpc, code, status string) error {
	if w.scripted {
		return nil
	}
	bad := func() error {
		return fmt.Errorf("a local reply (grpc-status %q, status %q) that nothing explains; faults %v", code, status, w.faults)
	}
	type answer struct{ code, status string }
	allowed := map[answer]bool{}
	allow := func(code, status string) {
		if r.grpc {
			allowed[answer{code, ""}] = true
		} else {
			allowed[answer{"", status}] = true
		}
	}
	switch r.route {
	case routeNone:
		allow("12", "404")
	case routePanic:
		allow("13", "500")
	case routeReply:
		allow("9", "418")
	case routeTimeout, routeGRPC:
		allow("4", "504")
	}
	if r.route == routeRetry && w.opt.perTry > 0 {
		allow("4", "504")
	}
	if w.unavailable(r) || r.mode == modeHTTPError && len(r.served) > 0 {
		allow("14", "503")
	}
	if r.refused > 0 {
		allow("7", "403")
	}
	o := &w.opt.odd
	if o.budget > 0 && w.wk.downH2.HeldOverflow > 0 {
		allow("8", "503")
	}
	if o.silence > 0 {
		allow("4", "408")
	}
	if o.duration > 0 {
		allow("4", "504")
	}
	if o.pending > 0 {
		allow("14", "503")
	}
	if r.mode == modeReset {
		for _, a := range r.served {
			if a.reset && (!a.refused || r.resetAfter > 0) {
				allow(map[http2.ErrCode]string{http2.ErrCodeCancel: "1", http2.ErrCodeInternal: "13", http2.ErrCodeRefusedStream: "14",
					http2.ErrCodeEnhanceYourCalm: "8", http2.ErrCodeNo: "13"}[r.resetCode], "503")
			}
		}
	}
	got := answer{code, ""}
	if !r.grpc {
		got = answer{"", status}
	}
	if !allowed[got] {
		return bad()
	}
	return nil
}

// explainReset says whether an RST_STREAM in the middle of a response has one.
func (w *world) explainReset(r *rpc, code http2.ErrCode) error {
	if w.scripted || r.mode == modeReset && r.headers && code == r.resetCode {
		return nil
	}
	if !r.grpc && r.headers && code == http2.ErrCodeInternal && (w.unavailable(r) || r.timeout > 0 || r.refused > 0 || w.opt.odd.cuts() || r.mode == modeReset && r.resetCode == http2.ErrCodeNo) {
		return nil
	}
	if r.shortAt != 0 && code == http2.ErrCodeProtocol && w.now.Sub(r.shortAt) >= h2.DefaultLimits(h2.Server).ShortGrace {
		return nil
	}
	return fmt.Errorf("RST_STREAM %v that nothing explains; faults %v", code, w.faults)
}

// processed counts the attempts that a server did not refuse.
func (r *rpc) processed() (n int) {
	for _, a := range r.served {
		if !a.refused {
			n++
		}
	}
	return n
}

// checkServed: no request reaches two servers unless the policy says so.
func (w *world) checkServed(r *rpc) {
	if w.scripted {
		return
	}
	n, limit := r.processed(), 1
	if r.route == routeRetry {
		limit = 3
	}
	if n > limit {
		w.fatalf("%v: processed by %d servers", r, n)
	}
}

// checkStep holds after every step.
func (w *world) checkStep() {
	held := int64(0)
	for k := w.wk.socks.next; k != &w.wk.socks; k = k.next {
		c := k.conn
		if k.down && !c.Established() || c.Dead() {
			continue
		}
		wc, hold := c.ReceiveWindow()
		withheld := max(0, c.HeldBytes()-hold)
		if c.FreeWindow()+withheld != wc {
			w.fatalf("link %d: recvWin + unacked = %d, withheld = %d, Wc = %d", k.impl.(*link).id, c.FreeWindow(), withheld, wc)
		}
		held += c.HeldBytes()
	}
	// What is queued is held for its sender, or kept for another attempt, or
	// is the rest of a response whose connection or stream is gone.
	orphans := w.opt.cuts || w.opt.goaways || w.opt.resets || w.opt.retire || w.opt.maxRequests > 0 || w.opt.age > 0
	orphans = orphans || w.opt.odd.leaves || w.opt.odd.goaways || w.opt.filters // which credit what they gather a message of
	kept := w.wk.core.Kept()
	kept += int64(w.wk.core.Live()) * 16 // bodies of local replies
	if q := w.wk.core.Queued(); q < 0 || q > held+kept && !orphans {
		w.fatalf("queued = %d, held %d, kept %d", q, held, kept)
	}
	if len(w.wk.dirty) != 0 {
		w.fatalf("%d dirty socks after a batch", len(w.wk.dirty))
	}
	if w.steps%64 == 0 {
		for k := w.wk.socks.next; k != &w.wk.socks; k = k.next {
			if err := k.conn.Check(); err != nil {
				w.fatalf("link %d: %v", k.impl.(*link).id, err)
			}
		}
		// Room of every connection, partial frames, and what is queued.
		limit := int(w.wk.core.Memory()) + 160<<10*(w.wk.nsocks+1) + 16<<10*(w.wk.core.Live()+1)
		if n := w.wk.pool.LiveBytes(); n > limit {
			w.fatalf("%d bytes of chunks, formula %d", n, limit)
		}
	}
}

// checkRest: nothing is under way, so nothing may be left of it.
func (w *world) checkRest() {
	c := &w.wk.core
	if n := w.wk.g.grown.Load(); w.wk.nsocks == 0 && (n != 0 || w.wk.lent != 0) {
		w.fatalf("at rest: windows of connections that are gone have grown by %d, those of streams by %d", n, w.wk.lent)
	}
	if c.Live() != 0 || c.Attempts() != 0 || c.Queued() != 0 || c.Memory() != 0 {
		w.fatalf("at rest: %d exchanges, %d attempts, %d bytes queued", c.Live(), c.Attempts(), c.Queued())
	}
	for _, p := range w.wk.order {
		if p.pending != 0 || p.head != nil {
			w.fatalf("at rest: %d attempts wait", p.pending)
		}
	}
	if n := w.wk.inbox.n.Load(); n != 0 {
		w.fatalf("at rest: %d messages", n)
	}
	timers := 0
	for k := w.wk.socks.next; k != &w.wk.socks; k = k.next {
		if k.conn.Streams() != 0 || k.conn.HeldBytes() != 0 {
			w.fatalf("at rest: link %d has %d streams, %d bytes held", k.impl.(*link).id, k.conn.Streams(), k.conn.HeldBytes())
		}
		if k.tick.Active() {
			timers++
		}
		if k.closing.Active() {
			timers++
		}
	}
	if w.wk.trim.timer.Active() {
		timers++
	}
	if n := c.Wheel.Len(); n != timers {
		w.fatalf("at rest: %d timers, %d of them of connections", n, timers)
	}
	picks := 0
	for _, r := range w.rpcs {
		picks += r.picks
		w.checkServed(r)
		if r.started && !r.done {
			w.fatalf("not ended: %v", r)
		}
		if r.directed > 0 && r.records != 1 {
			w.fatalf("%v: recorded %d times", r, r.records)
		}
	}
	if w.filters != w.filtersDone {
		w.fatalf("%d filters, %d dones", w.filters, w.filtersDone)
	}
	if picks != w.doneCount {
		w.fatalf("%d picks, %d dones", picks, w.doneCount)
	}
}

// checkEmpty: everything is closed, so nothing is left at all.
func (w *world) checkEmpty() {
	if n := w.wk.pool.Live(); n != 0 {
		w.fatalf("%d chunks were not given back", n)
	}
	if n := w.wk.core.Wheel.Len(); n != 0 {
		w.fatalf("%d timers left", n)
	}
	if w.wk.nsocks != 0 || w.wk.downs != 0 || len(w.wk.chains) != 0 {
		w.fatalf("%d socks, %d downstream, %d chains", w.wk.nsocks, w.wk.downs, len(w.wk.chains))
	}
	for _, h := range w.hosts {
		if h.retries != 0 {
			w.fatalf("host %s has %d retries", h.target.Address, h.retries)
		}
		if s := h.target.Stats; s.Open.Load() != 0 || s.Pending.Load() != 0 {
			w.fatalf("host %s has %d connections, %d waiting", h.target.Address, s.Open.Load(), s.Pending.Load())
		}
	}
	for i, l := range w.links {
		if !l.shut {
			w.fatalf("link %d was not shut down", i)
		}
	}
	if l := w.limits; l != nil && (l.Connections.Taken() != 0 || l.Pending.Taken() != 0) {
		w.fatalf("%d connections, %d waiting are counted", l.Connections.Taken(), l.Pending.Taken())
	}
	cs := w.wk.core.Counters
	for scope, gauges := range map[int][]call.Counter{1: {call.DownstreamCxActive, call.DownstreamRqActive}, 2: {call.UpstreamCxActive, call.UpstreamRqActive, call.UpstreamRqPendingActive}} {
		if scope >= len(cs) || cs[scope] == nil {
			continue
		}
		for _, g := range gauges {
			if n := cs[scope][g]; n != 0 {
				w.fatalf("gauge %d of scope %d is %d", g, scope, int64(n))
			}
		}
	}
}

// runWorld runs one world and returns its trace hash, and how it failed.
func runWorld(t *testing.T, seed uint64) (hash uint64, failure string) {
	w := newWorld(t, seed, nil)
	failure = w.run()
	return w.hash.Sum64(), failure
}

// TestSimulation runs random worlds; -simworlds says how many. A failing seed
// is replayed with -simseed.
func TestSimulation(t *testing.T) {
	if *simSeed != 0 {
		if _, failure := runWorld(t, *simSeed); failure != "" {
			t.Fatalf("seed %d: %s", *simSeed, failure)
		}
		return
	}
	bad := 0
	for seed := uint64(1); seed <= uint64(*simWorlds); seed++ {
		if _, failure := runWorld(t, seed); failure != "" {
			t.Errorf("world failed: %s\nreplay: go test ./dataplane/worker -run 'TestSimulation$' -simseed=%d", failure, seed)
			if bad++; bad == 5 {
				t.Fatal("enough")
			}
		}
	}
}

// TestSimulationCrowd is one world of 500 connections, 2,000 in long runs.
func TestSimulationCrowd(t *testing.T) {
	crowd := 500
	if *simWorlds >= 1000 {
		crowd = 2000
	}
	w := newWorld(t, 1, func(o *worldOptions) {
		o.clients, o.hosts, o.rpcs = crowd, 5, 3*crowd
		o.cuts, o.cancels, o.resets, o.goaways, o.retries = true, true, true, true, true
	})
	if failure := w.run(); failure != "" {
		t.Fatal(failure)
	}
}

// TestSimulationReplays: one seed has one trace, in this process and in another.
func TestSimulationReplays(t *testing.T) {
	const seeds = 5
	var sums []string
	for seed := uint64(1); seed <= seeds; seed++ {
		a, _ := runWorld(t, seed)
		b, _ := runWorld(t, seed)
		if a != b {
			t.Fatalf("seed %d: trace %x, then %x", seed, a, b)
		}
		sums = append(sums, fmt.Sprintf("%x", a))
	}
	line := "trace " + strings.Join(sums, " ")
	if os.Getenv("SIM_REPLAY") != "" {
		_, _ = os.Stdout.WriteString(line + "\n")
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestSimulationReplays$")
	cmd.Env = append(os.Environ(), "SIM_REPLAY=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(string(out), line) {
		t.Fatalf("another process: %s, want %s", out, line)
	}
}
