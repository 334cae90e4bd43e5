package worker

import (
	"testing"

	"golang.org/x/net/http2"
)

// TestUpstreamHeaderLimit: a request whose header list is over the server's
// SETTINGS_MAX_HEADER_LIST_SIZE never leaves, and its neighbour on the same
// connection goes on.
func TestUpstreamHeaderLimit(t *testing.T) {
	s := newScript(t, nil, nil)
	neighbour := s.call(&rpc{grpc: true})
	p, _ := s.server(neighbour, 0)
	p.fr.WriteSettings(http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: 100})
	p.initNext = append(p.initNext, p.lastInit())
	p.push()
	s.settleNow()

	for _, tt := range []struct {
		grpc bool
		want string
	}{{true, "200 grpc 8"}, {false, "431"}} {
		r := s.call(&rpc{grpc: tt.grpc})
		s.expect(r, tt.want)
		if len(r.served) != 0 {
			t.Errorf("%d servers saw it", len(r.served))
		}
	}
	s.reply(neighbour, 0, true, trailersOnly(neighbour, "0")...)
	s.expect(neighbour, "200 grpc 0")
	s.finish()
}
