package e2e

import (
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/sluice-proxy/sluice/test/rawh2"
)

// wantExit waits for the end of a process that was asked to end.
func wantExit(t *testing.T, p *proxy) {
	t.Helper()
	timer := time.NewTimer(longest)
	defer timer.Stop()
	select {
	case <-p.Done():
		if how := p.Exit(); how != "exit status 0" {
			t.Errorf("the proxy ended with %s", how)
		}
	case <-timer.C:
		t.Errorf("the proxy has not ended within %v", longest)
	}
}

// TestTermIsGraceful, SIGTERM with a call in progress:
//  1. the client gets GOAWAY(2^31-1), and a call it opens before it has answered
//     the PING behind it is served;
//  2. as the PING's ACK does not come, GOAWAY with the last id follows after
//     drain_timeout, in which that call comes on a busy machine, too;
//  3. both calls end well; then the connection is closed and the process ends.
func TestTermIsGraceful(t *testing.T) {
	s := newScene(t, fixedConfig{hcm: "drain_timeout: 4s", args: []string{"--shutdown-grace", "40s"}})
	c := connect(t, s.p.port, rawh2.Options{NoPingAck: true})
	first := &exchange{T: t, conn: c, srv: s.srv}
	first.open(false, request())
	s.p.Signal(syscall.SIGTERM)
	g, err := c.WaitGoAway(1)
	must(t, err)
	if g[0].LastID != 1<<31-1 || g[0].Code != http2.ErrCodeNo {
		t.Errorf("the first GOAWAY is %+v", g[0])
	}
	second := &exchange{T: t, conn: c, srv: s.srv}
	second.open(true, request())
	g, err = c.WaitGoAway(2)
	must(t, err)
	if g[1].LastID != second.cl.ID || g[1].Code != http2.ErrCodeNo {
		t.Errorf("the second GOAWAY is %+v, want last stream %d", g[1], second.cl.ID)
	}
	first.cl.Data(true, message(0, "end"))
	first.must(first.sv.WaitEnd())
	for _, x := range []*exchange{first, second} {
		answer(x.sv)
		x.must(x.cl.WaitEnd())
		wantStatus(t, x.cl.Text(), "0")
	}
	must(t, c.WaitClosed())
	first.sv.Conn().Close()
	wantExit(t, s.p)
}

// TestTermIdle: a proxy whose clients have no calls ends within seconds, not
// after its grace, even if a backend ignores GOAWAY.
func TestTermIdle(t *testing.T) {
	s := newScene(t, fixedConfig{args: []string{"--shutdown-grace", "20s"}})
	c := connect(t, s.p.port, rawh2.Options{})
	must(t, c.Sync())
	s.p.Signal(syscall.SIGTERM)
	g, err := c.WaitGoAway(2)
	must(t, err)
	if g[1].LastID != 0 {
		t.Errorf("the second GOAWAY is %+v, want last stream 0", g[1])
	}
	wantExit(t, s.p)
}

// TestTermDeadline: calls that do not end within the grace end with
// UNAVAILABLE, not with a cut connection.
func TestTermDeadline(t *testing.T) {
	s := newScene(t, fixedConfig{args: []string{"--shutdown-grace", "500ms"}})
	c := connect(t, s.p.port, rawh2.Options{})
	x := &exchange{T: t, conn: c, srv: s.srv}
	x.open(false, request())
	x.sv.Headers(false, response())
	x.must(x.cl.WaitHeaders(1))
	start := time.Now()
	s.p.Signal(syscall.SIGTERM)
	x.must(x.cl.WaitEnd())
	wantStatus(t, x.cl.Text(), "14")
	if d := time.Since(start); d < 400*time.Millisecond || d > longest {
		t.Errorf("the grace of 500 ms took %v", d)
	}
	x.must(x.sv.WaitReset())
	wantExit(t, s.p)
}
