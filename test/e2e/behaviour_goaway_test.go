package e2e

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/sluice-proxy/sluice/test/rawh2"
)

// A request of up to 64 KiB that a backend's GOAWAY leaves unprocessed goes
// elsewhere, although the backend has given its window back.
func TestGoAwayMovesBodies(t *testing.T) {
	for _, n := range []int{100, 5_000, 40_000, 64 << 10} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			s := newScene(t, fixedConfig{})
			c := connect(t, s.p.port, rawh2.Options{})
			x := &exchange{T: t, conn: c, srv: s.srv}
			x.open(false, request())
			must(t, x.cl.Send(false, make([]byte, n)))
			must(t, x.sv.WaitData(n))
			x.sv.Conn().SendGoAway(x.sv.ID-2, http2.ErrCodeNo)
			sv, err := s.srv.AcceptStream()
			must(t, err)
			x.cl.Data(true, nil)
			must(t, sv.WaitData(n))
			answer(sv)
			must(t, x.cl.WaitEnd())
			wantStatus(t, x.cl.Text(), "0")
		})
	}
}

// Backends that restart one after the other may each leave the same request
// unprocessed; four times it goes on, then its client hears why it does not.
func TestGoAwayAgain(t *testing.T) {
	s := newScene(t, fixedConfig{})
	c := connect(t, s.p.port, rawh2.Options{})
	x := &exchange{T: t, conn: c, srv: s.srv}
	x.open(true, request())
	leave := func(sv *rawh2.Stream) { sv.Conn().SendGoAway(max(sv.ID, 2)-2, http2.ErrCodeNo) }
	sv := x.sv
	for range 4 {
		leave(sv)
		var err error
		sv, err = s.srv.AcceptStream()
		must(t, err)
	}
	leave(sv)
	must(t, x.cl.WaitEnd())
	wantStatus(t, x.cl.Text(), "14")
}

// On SIGTERM every connection hears of it at once, a half-open one or not; and
// whoever dials within the grace is served.
func TestTermAccepts(t *testing.T) {
	s := newScene(t, fixedConfig{args: []string{"--shutdown-grace", "60s"}})
	c := connect(t, s.p.port, rawh2.Options{})
	first := &exchange{T: t, conn: c, srv: s.srv}
	first.open(false, request())
	unspoken, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.p.port))
	must(t, err)
	defer unspoken.Close()
	time.Sleep(50 * time.Millisecond) // the kernel has it before the signal comes
	s.p.Signal(syscall.SIGTERM)
	_, err = c.WaitGoAway(1)
	must(t, err)

	late := connect(t, s.p.port, rawh2.Options{})
	second := &exchange{T: t, conn: late, srv: s.srv}
	second.open(true, request())
	answer(second.sv)
	must(t, second.cl.WaitEnd())
	wantStatus(t, second.cl.Text(), "0")

	// The client that had not spoken does now.
	_ = unspoken.SetDeadline(time.Now().Add(longest))
	_, err = unspoken.Write([]byte(http2.ClientPreface))
	must(t, err)
	fr := http2.NewFramer(unspoken, unspoken)
	must(t, fr.WriteSettings())
	for {
		f, err := fr.ReadFrame()
		must(t, err)
		if f, ok := f.(*http2.GoAwayFrame); ok {
			if f.LastStreamID != 1<<31-1 {
				t.Errorf("the first GOAWAY has last id %d", f.LastStreamID)
			}
			break
		}
	}

	answer(first.sv)
	must(t, first.cl.WaitEnd())
	wantStatus(t, first.cl.Text(), "0")
}

// Requests that are kept for a retry give way before calls do.
func TestKeptRequestsGiveWay(t *testing.T) {
	s := newScene(t, fixedConfig{action: `, retry_policy: {retry_on: "5xx", num_retries: 2}`})
	c := connect(t, s.p.port, rawh2.Options{Patience: longest})
	var xs []*exchange
	for range 200 { // of 250 kB: more than the memory budget
		x := &exchange{T: t, conn: c, srv: s.srv}
		x.open(false, request())
		must(t, x.cl.Send(true, make([]byte, 250_000)))
		must(t, x.sv.WaitEnd())
		xs = append(xs, x)
	}
	for _, x := range xs {
		answer(x.sv)
		must(t, x.cl.WaitEnd())
		wantStatus(t, x.cl.Text(), "0")
	}
}

// Small answers that nobody reads count with the memory they take: tens of
// thousands of them stay within the bound.
func TestSmallAnswersUnread(t *testing.T) {
	srv := listen(t, rawh2.Options{Patience: longest})
	p := startFixed(t, fixedConfig{ports: []int{srv.Port()}, cluster: "circuit_breakers: {thresholds: [{max_requests: 200000, max_pending_requests: 200000}]}"})
	before := p.resident(t)
	for range 50 {
		c, err := rawh2.Dial(fmt.Sprintf("127.0.0.1:%d", p.port), rawh2.Options{Settings: []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 0}}})
		must(t, err)
		defer c.Close()
		for range 400 {
			c.Open(true, request())
			sv, err := srv.AcceptStream()
			must(t, err)
			sv.Headers(false, response())
			sv.Data(true, make([]byte, 500))
		}
	}
	eventually(t, "calls end", func() error {
		if p.stat(t, "http2.held_overflow") == 0 {
			return errors.New("held_overflow is 0")
		}
		return nil
	})
	if grown := (p.resident(t) - before) >> 20; grown >= 64 && !raceEnabled {
		t.Errorf("resident memory grew by %d MiB", grown)
	}
}
