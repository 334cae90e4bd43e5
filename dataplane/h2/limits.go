package h2

import (
	"time"

	"github.com/sluice-proxy/sluice/dataplane/clock"
)

// Limits are the bounds on what a peer can make us do (docs/abuse.md). A
// rate is a token bucket: Burst tokens, refilled at Rate per second.
type Limits struct {
	// RefusedBurst/RefusedRate: streams refused over MaxConcurrentStreams: one
	// that keeps on is flooding. Until it acknowledged our SETTINGS a client
	// may have StreamGrace more, because it did not know.
	RefusedBurst, RefusedRate int32
	StreamGrace               uint32

	// ResetBurst/ResetRate: streams reset before their response ended, by the
	// peer (CVE-2023-44487) or by us because of what the peer sent
	// (CVE-2025-8671): each costs an upstream request. A client that cancels at
	// its own deadline is free (Stream.GivesUp), and a peer's reset of a stream
	// that is ResetAge old: it has waited, and what it had open meanwhile
	// MaxConcurrentStreams bounds. Each call that an upstream has answered earns
	// a reset (Conn.Served): of the many calls of a proxy some are cancelled, and to
	// reset half of them costs no more than to reset none. Upstream only resets of
	// streams that are gone count: each request can be reset once.
	ResetBurst, ResetRate int32
	ResetAge              time.Duration

	// Continuations is how many CONTINUATION frames a block may have;
	// EmptyContinuations how many of them may be empty (CVE-2024-24549 and
	// relatives). EncodedFactor x MaxHeaderBytes bounds a block's encoded bytes.
	Continuations, EmptyContinuations int
	EncodedFactor                     int

	// PingBurst/PingRate and SettingsBurst/SettingsRate: each frame makes us
	// write an ACK (CVE-2019-9512, -9515). Each DATA frame we send adds a PING:
	// gRPC libraries measure the bandwidth-delay product with one per round trip.
	// As they learn it they set another window: grpc-go up to 21 times, from 64 KiB
	// to 16 MiB in steps of a third at least, within as many round trips.
	PingBurst, PingRate         int32
	SettingsBurst, SettingsRate int32
	// UnsentControl bounds, in bytes, the control frames a peer makes us
	// queue without reading them; at half of it StopReading is true.
	UnsentControl int64

	// UselessBurst/UselessRate: PRIORITY, WINDOW_UPDATE, unknown frames and
	// frames for closed streams (CVE-2019-9513). Each DATA frame we send adds
	// 2 tokens and one per 2 KiB: a reader of small pieces may send two
	// updates for each (Go's net/http does after 4 KiB). Each reset of ours adds
	// LateFrames: an END_STREAM, the peer's own reset and a window update may be
	// under way. DATA that is, is not counted here.
	UselessBurst, UselessRate, LateFrames int32

	// EmptyInRow: DATA without payload and END_STREAM, in a row; in total
	// EmptyInRow plus one tenth of all frames (CVE-2019-9518).
	EmptyInRow int32

	// ClosedData is how many bytes of DATA may come for closed streams beyond
	// what their windows allowed when we reset them.
	ClosedData int64

	// StalledFor is how long held bytes may block the whole connection before
	// EventStalled; VictimIdle how long a stream must have been without
	// progress to be the victim.
	StalledFor, VictimIdle time.Duration

	// ShortGrace is how long a response that has begun may go on for a request
	// that ended short of its content-length.
	ShortGrace time.Duration
}

// DefaultLimits returns the limits for peers of a Conn of role r. Upstream
// servers have ten times what clients have: they are ours, but not trusted.
func DefaultLimits(r Role) *Limits {
	l := &Limits{
		RefusedBurst: 1000, RefusedRate: 1000, StreamGrace: 16,
		ResetBurst: 200, ResetRate: 100, ResetAge: time.Second,
		Continuations: 32, EmptyContinuations: 2, EncodedFactor: 2,
		PingBurst: 20, PingRate: 10,
		SettingsBurst: 50, SettingsRate: 10,
		UnsentControl: 64 << 10,
		UselessBurst:  2000, UselessRate: 500, LateFrames: 3,
		EmptyInRow: 100,
		ClosedData: 128 << 10,
		StalledFor: 10 * time.Second, VictimIdle: 5 * time.Second,
		ShortGrace: 5 * time.Second,
	}
	if r == Client {
		for _, p := range []*int32{&l.RefusedBurst, &l.RefusedRate, &l.ResetBurst, &l.ResetRate, &l.PingBurst, &l.PingRate,
			&l.SettingsBurst, &l.SettingsRate, &l.UselessBurst, &l.UselessRate, &l.EmptyInRow} {
			*p *= 10
		}
		l.UnsentControl *= 10
		l.ClosedData *= 10
	}
	return l
}

// bucket is a token bucket; its burst and rate are the caller's constants.
type bucket struct {
	level int32
	at    clock.Nanos // level is right for this instant
}

// take takes a token; false: there is none.
func (b *bucket) take(now clock.Nanos, burst, rate int32) bool {
	if now != b.at {
		b.refill(now, burst, rate)
	}
	if b.level <= 0 {
		return false
	}
	b.level--
	return true
}

// refill adds the tokens since b.at, whole ones only; the rest of the time
// stays for the next call.
func (b *bucket) refill(now clock.Nanos, burst, rate int32) {
	if rate <= 0 || now <= b.at {
		return
	}
	if b.level >= burst {
		b.at = now
		return
	}
	per := clock.Nanos(1e9) / clock.Nanos(rate)
	n := (now - b.at) / per
	if n >= clock.Nanos(burst-b.level) {
		b.level, b.at = burst, now
		return
	}
	b.level += int32(n)
	b.at += n * per
}

// earned bounds, in bursts, the tokens that frames of ours earn; servedBursts
// the resets that calls earn: 1,000 for clients, as many as nghttp2 allows at once.
const (
	earned       = 64
	servedBursts = 5
)

// add gives tokens beyond the burst, for frames of ours that a peer may answer
// or that cross its own.
func (b *bucket) add(n, burst int32) {
	if b.level < earned*burst {
		b.level += n
	}
}

// controlMeter counts the control bytes in the output that are not written
// yet, at worst a little too high: what was written is known at marks only.
type controlMeter struct {
	total     int64 // control bytes ever appended
	written   int64 // of them, surely written
	markPos   int64 // when the output has been written up to here...
	markTotal int64 // ...this many control bytes have
}

func (m *controlMeter) unsent() int64 { return m.total - m.written }

// wrote moves the marks after a write.
func (m *controlMeter) wrote(o *Out) {
	if o.wrote >= m.markPos {
		m.written = m.markTotal
		m.markPos, m.markTotal = o.total, m.total
	}
	if o.n == 0 {
		m.written = m.total
	}
}

// checkControl ends a connection whose peer makes us queue answers that it
// does not read.
func (c *Conn) checkControl() {
	if c.ctl.unsent() <= c.lim.UnsentControl {
		return
	}
	if c.flushed(); c.ctl.unsent() > c.lim.UnsentControl {
		c.fail(ErrCodeEnhanceYourCalm, &c.ctr.ControlFlood, "control frames not read")
	}
}

// StopReading reports that the peer makes us queue control frames, or answers,
// and does not read them: the driver should not read until output was written.
func (c *Conn) StopReading() bool {
	return c.ctl.unsent() > c.lim.UnsentControl/2 || c.out.n > 2*c.cfg.HiWater
}
