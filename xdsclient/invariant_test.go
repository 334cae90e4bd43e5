package xdsclient

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// TestSotWInvariants plays random histories on the state machine alone and
// checks what must hold for every request:
//
//  1. its nonce is that of the newest response of the type on this stream, or
//     empty if there is none;
//  2. its version is that of the newest accepted response;
//  3. it has an error exactly if it is the first since the newest response was
//     refused;
//  4. it names all that is wanted at that moment;
//  5. none is sent while the newest response of the type has no verdict;
//
// and at the end, when time has passed, that every response has been answered
// and the server knows what is wanted.
func TestSotWInvariants(t *testing.T) {
	for seed := range uint64(500) {
		playSotW(t, rand.New(rand.NewPCG(seed, 1)), seed)
		if t.Failed() {
			return
		}
	}
}

// typeModel is what a test knows of one type.
type typeModel struct {
	want     []string
	told     []string // the names of the last request on this stream
	nonce    string
	newest   *Response
	verdict  bool // newest has one
	refused  bool // and it is not told yet
	accepted *Response
}

func playSotW(t *testing.T, rnd *rand.Rand, seed uint64) {
	urls := []string{ClusterType, EndpointType, RouteType}
	model := map[string]*typeModel{}
	for _, u := range urls {
		model[u] = &typeModel{}
	}
	cfg := Config{Node: &corev3.Node{}, Backoff: Backoff{}.withDefaults(), Logger: slog.New(slog.DiscardHandler)}
	s := newSotW(&cfg)
	now := time.Unix(1000, 0)
	var open bool
	var pending []*Response
	serial := 0

	verdict := func(r *Response) {
		m := model[r.TypeURL]
		var err error
		if rnd.IntN(2) == 0 {
			err = errors.New("bad")
		} else if m.accepted == nil || r.seq > m.accepted.seq {
			m.accepted = r
		}
		if r == m.newest {
			m.verdict, m.refused = true, err != nil
		}
		s.answered(r, err, now)
	}
	check := func(req *discoveryv3.DiscoveryRequest) {
		m := model[req.TypeUrl]
		fail := func(format string, args ...any) {
			t.Errorf("seed %d: request %v: %s", seed, req, fmt.Sprintf(format, args...))
		}
		if req.ResponseNonce != m.nonce {
			fail("nonce, want %q", m.nonce)
		}
		if v := versionOf(m.accepted); req.VersionInfo != v {
			fail("version, want %q", v)
		}
		if (req.ErrorDetail != nil) != m.refused {
			fail("error, want one: %t", m.refused)
		}
		if !slices.Equal(req.ResourceNames, m.want) {
			fail("names, want %v", m.want)
		}
		if m.newest != nil && !m.verdict {
			fail("while a response has no verdict")
		}
		m.refused, m.told = false, m.want
	}
	drain := func() time.Duration {
		for {
			req, wait := s.next(now)
			if req == nil {
				return wait
			}
			check(req.(*discoveryv3.DiscoveryRequest))
		}
	}

	for range 100 {
		u := urls[rnd.IntN(len(urls))]
		m := model[u]
		switch op := rnd.IntN(10); {
		case op == 0:
			if open = !open; open {
				s.opened(now)
			} else {
				s.closed()
			}
			for _, m := range model {
				m.nonce, m.newest, m.refused, m.told = "", nil, false, nil
			}
		case op <= 3:
			m.want = []string{"a", "b", "c"}[:rnd.IntN(4)]
			s.subscribe(u, Subscription{Names: m.want}, now)
		case op <= 6 && open && m.told != nil:
			serial++
			msg := &discoveryv3.DiscoveryResponse{TypeUrl: u, VersionInfo: fmt.Sprint("v", serial/3), Nonce: fmt.Sprint("n", serial)}
			m.nonce, m.refused = msg.Nonce, false
			m.newest, _ = s.received(msg, now)
			m.verdict = false
			if m.newest != nil {
				pending = append(pending, m.newest)
			}
		case len(pending) > 0:
			i := rnd.IntN(len(pending))
			verdict(pending[i])
			pending = slices.Delete(pending, i, i+1)
		}
		if rnd.IntN(2) == 0 {
			drain()
		}
		now = now.Add(time.Duration(rnd.Int64N(int64(3 * time.Second))))
	}

	for _, r := range pending {
		verdict(r)
	}
	if !open {
		return
	}
	now = now.Add(time.Minute)
	if wait := drain(); wait >= 0 {
		t.Errorf("seed %d: something is due in %v after all was said", seed, wait)
	}
	for u, m := range model {
		if m.refused && m.told != nil {
			t.Errorf("seed %d: %s: a refusal was never told", seed, u)
		}
		if !slices.Equal(m.told, m.want) {
			t.Errorf("seed %d: %s: the server knows %v, want %v", seed, u, m.told, m.want)
		}
	}
}

func versionOf(r *Response) string {
	if r == nil {
		return ""
	}
	return r.Version
}
