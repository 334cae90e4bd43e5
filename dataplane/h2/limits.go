package h2

// Limits are the bounds on what a peer can make us do (core-design §9). A
// rate is a token bucket: Burst tokens, refilled at Rate per second.
type Limits struct {
	// RefusedBurst/RefusedRate: streams refused over MaxConcurrentStreams.
	// A client may overshoot by what it sent before it read our SETTINGS
	// (StreamGrace, no penalty at all); one that keeps on is flooding.
	RefusedBurst, RefusedRate int32
	StreamGrace               uint32

	// ResetBurst/ResetRate: streams reset before their response ended, by the
	// peer (CVE-2023-44487) or by us because of what the peer sent
	// (CVE-2025-8671): each costs an upstream request.
	ResetBurst, ResetRate int32

	// Continuations is how many CONTINUATION frames a block may have;
	// EmptyContinuations how many of them may be empty (CVE-2024-24549 and
	// relatives). EncodedFactor x MaxHeaderBytes bounds a block's encoded bytes.
	Continuations, EmptyContinuations int
	EncodedFactor                     int

	// PingBurst/PingRate and SettingsBurst/SettingsRate: each frame makes us
	// write an ACK (CVE-2019-9512, -9515).
	PingBurst, PingRate         int32
	SettingsBurst, SettingsRate int32
	// UnsentControl bounds, in bytes, the control frames a peer makes us
	// queue without reading them; at half of it StopReading is true.
	UnsentControl int64

	// UselessBurst/UselessRate: PRIORITY, WINDOW_UPDATE, unknown frames and
	// frames for closed streams (CVE-2019-9513). Each DATA frame we send adds
	// 2 tokens and one per 2 KiB: a reader of small pieces may send two
	// updates for each (Go's net/http does after 4 KiB).
	UselessBurst, UselessRate int32

	// EmptyInRow: DATA without payload and END_STREAM, in a row; in total
	// EmptyInRow plus one tenth of all frames (CVE-2019-9518).
	EmptyInRow int32

	// ClosedData is how many bytes of DATA may come for closed streams beyond
	// what their windows allowed when we reset them.
	ClosedData int64
}

// DefaultLimits returns the limits for peers of a Conn of role r. Upstream
// servers have ten times what clients have: they are ours, but not trusted.
func DefaultLimits(r Role) *Limits {
	l := &Limits{
		RefusedBurst: 1000, RefusedRate: 1000, StreamGrace: 16,
		ResetBurst: 200, ResetRate: 100,
		Continuations: 32, EmptyContinuations: 2, EncodedFactor: 2,
		PingBurst: 20, PingRate: 10,
		SettingsBurst: 10, SettingsRate: 2,
		UnsentControl: 64 << 10,
		UselessBurst:  2000, UselessRate: 500,
		EmptyInRow: 100,
		ClosedData: 128 << 10,
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
