package attack

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/sluice-proxy/sluice/test/echo"
	"github.com/sluice-proxy/sluice/test/proc"
)

// TestTimeouts waits, beside the other tests, for the limits that are times:
// several connections of each kind stall, and each is ended when its time is
// over and not before. The times are those of h2.Config's defaults.
func TestTimeouts(t *testing.T) {
	t.Parallel()
	p := startProxy(t, startGood(t), 1)
	wide := []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: maxWindow}}
	tests := []struct {
		name     string
		o        peerOptions
		send     func(p *peer, b []byte) []byte
		after    time.Duration
		reaction string
		stat     string
	}{
		{"says nothing", peerOptions{bare: true}, nil, 10 * time.Second, "close", "http2.header_timeout"},
		{"half a preface", peerOptions{bare: true}, func(_ *peer, b []byte) []byte { return append(b, "PRI * HTTP/2"...) },
			10 * time.Second, "close", "http2.header_timeout"},
		{"no SETTINGS", peerOptions{bare: true, noAck: true}, func(_ *peer, b []byte) []byte { return append(b, http2.ClientPreface...) },
			10 * time.Second, "GOAWAY PROTOCOL_ERROR", "http2.header_timeout"},
		{"no ACK", peerOptions{noAck: true}, nil, 10 * time.Second, "GOAWAY SETTINGS_TIMEOUT", "http2.header_timeout"},
		{"half a header block", peerOptions{noAck: true}, func(p *peer, b []byte) []byte { return frame(b, http2.FrameHeaders, 0, p.id(), chatRequest[:5]) },
			headerTimeout, calm, "http2.header_timeout"},
		{"never reads", peerOptions{settings: wide, noRead: true}, func(p *peer, b []byte) []byte {
			b = frame(b, http2.FrameSettings, http2.FlagSettingsAck, 0, nil)
			b = frame(b, http2.FrameWindowUpdate, 0, 0, number(maxWindow-65535))
			for range streamsEach {
				id := p.id()
				b = frame(b, http2.FrameHeaders, endHeaders, id, bigRequest)
				b = frame(b, http2.FrameData, http2.FlagDataEndStream, id, message(&echo.SayRequest{}))
			}
			return b
		}, 30 * time.Second, "", "http2.slow_reader"},
	}
	const each = 3
	before := p.stats(t)
	want := map[string]float64{}
	begin := time.Now()
	// Together, so that the whole lasts as long as the longest.
	sieges := make([]*siege, len(tests))
	for i, tt := range tests {
		sieges[i] = newSiege(p.addr)
		for range each {
			pe := sieges[i].connect(tt.o)
			if pe == nil {
				t.Fatalf("%s: no connection", tt.name)
			}
			var b []byte
			if tt.send != nil {
				b = tt.send(pe, nil)
			}
			if !pe.write(b) {
				t.Fatalf("%s: not taken", tt.name)
			}
			t.Cleanup(func() { _ = pe.nc.Close() })
		}
		want[tt.stat] += each
	}
	const late = patience // the machine may be busy
	for i, tt := range tests {
		if tt.reaction != "" {
			proc.Eventually(t, time.Until(begin.Add(tt.after+late)), tt.name+" is ended", func() error {
				if n := sieges[i].count(tt.reaction); n < each {
					return fmt.Errorf("%d of %d saw %q: %v", n, each, tt.reaction, sieges[i])
				}
				return nil
			})
			if d := sieges[i].began(tt.reaction).Sub(begin); d < tt.after {
				t.Errorf("%s: ended after %v, want %v", tt.name, d, tt.after)
			}
		}
	}
	for stat, n := range want {
		proc.Eventually(t, time.Until(begin.Add(30*time.Second+late)), stat, func() error {
			if got := p.stats(t)[stat] - before[stat]; got != n {
				return fmt.Errorf("%v, want %v", got, n)
			}
			return nil
		})
	}
	for i := range sieges {
		sieges[i].end()
	}
	proc.Eventually(t, late, "no connection is left", func() error {
		if n := p.stats(t)["http.in.downstream_cx_active"]; n != 0 {
			return fmt.Errorf("%v are", n)
		}
		return nil
	})
}
