package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-proxy/sluice/test/echo"
	"github.com/sluice-proxy/sluice/test/rawh2"
)

// callLog is what the backends have seen and what the clients' calls came to,
// by the calls' ids.
type callLog struct {
	last atomic.Int64

	mu     sync.Mutex // guards all below
	seen   map[string]int
	failed map[string]string
	left   []string // calls that a GOAWAY says were not processed: clients send them again
	ok     int
	drops  []string
}

func newCallLog() *callLog { return &callLog{seen: map[string]int{}, failed: map[string]string{}} }

func (l *callLog) id(kind string) string { return fmt.Sprintf("%s-%d", kind, l.last.Add(1)) }

// onCall is the backends' part.
func (l *callLog) onCall(ctx context.Context, _ string) {
	md, _ := metadata.FromIncomingContext(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range md.Get("x-call-id") {
		l.seen[id]++
	}
}

// ended is the clients' part. why is empty for a success.
func (l *callLog) ended(id, why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if why == "" {
		l.ok++
	} else {
		l.failed[id] = time.Now().Format("05.000 ") + why
	}
}

// leftOut is a call of a stream above the id of a GOAWAY.
func (l *callLog) leftOut(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left = append(l.left, id)
}

// dropped is a connection that ended before the proxy said anything.
func (l *callLog) dropped(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drops = append(l.drops, time.Now().Format("05.000 ")+err.Error())
}

func (l *callLog) succeeded() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ok
}

// check compares both sides. No failed call may be one that no backend has
// logged, and none may have reached two backends; and as everything here ends
// gracefully, none may have failed at all.
func (l *callLog) check(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	unseen, twice := 0, 0
	var lines []string
	for id, why := range l.failed {
		if l.seen[id] == 0 {
			unseen++
			why += " (no backend has seen it)"
		}
		lines = append(lines, fmt.Sprintf("%s: %s", id, why))
	}
	for _, n := range l.seen {
		if n > 1 {
			twice++
		}
	}
	slices.Sort(lines)
	t.Logf("%d calls succeeded, %d failed, of them %d that no backend has seen; %d reached two backends", l.ok, len(l.failed), unseen, twice)
	if len(lines) > 0 || twice > 0 {
		t.Errorf("failed, and seen twice: %d, %d\n%v", len(lines), twice, lines[:min(len(lines), 10)])
	}
	for _, id := range l.left {
		if l.seen[id] > 0 {
			t.Errorf("%s was processed, against what GOAWAY said", id)
		}
	}
	// A socket cannot be closed and its last newcomer accepted in one step, so
	// one may fall in between; a queue that was not emptied is more.
	if len(l.drops) > 1 {
		t.Errorf("%d connections ended before the proxy's SETTINGS: %v", len(l.drops), l.drops)
	}
	if l.ok < 500 {
		t.Errorf("only %d calls: no load", l.ok)
	}
}

// rollingLoad makes calls with grpc-go and with raw HTTP/2 clients until stop.
type rollingLoad struct {
	log  *callLog
	stop chan struct{}
	wg   sync.WaitGroup
}

func startRollingLoad(t *testing.T, log *callLog, port int) *rollingLoad {
	t.Helper()
	l := &rollingLoad{log: log, stop: make(chan struct{})}
	for range 2 {
		cl := echo.NewEchoClient(dial(t, port))
		for range 3 {
			l.wg.Go(func() { l.repeat(func() { l.unary(cl) }) })
		}
		l.wg.Go(func() { l.repeat(func() { l.stream(cl) }) })
	}
	for range 3 {
		l.wg.Go(func() { l.repeat(func() { l.raw(port) }) })
	}
	return l
}

func (l *rollingLoad) finish(t *testing.T) {
	t.Helper()
	close(l.stop)
	l.wg.Wait()
	l.log.check(t)
}

func (l *rollingLoad) stopped() bool {
	select {
	case <-l.stop:
		return true
	default:
		return false
	}
}

func (l *rollingLoad) repeat(one func()) {
	for !l.stopped() {
		one()
		time.Sleep(2 * time.Millisecond) // the rate of the load
	}
}

func (l *rollingLoad) begin(kind string) (id string, ctx context.Context, cancel func()) {
	id = l.log.id(kind)
	ctx, cancel = context.WithTimeout(context.Background(), longest)
	return id, metadata.AppendToOutgoingContext(ctx, "x-call-id", id), cancel
}

func (l *rollingLoad) end(id string, err error) {
	why := ""
	if err != nil {
		why = err.Error()
	}
	l.log.ended(id, why)
}

func (l *rollingLoad) unary(cl echo.EchoClient) {
	id, ctx, cancel := l.begin("unary")
	defer cancel()
	_, err := cl.Say(ctx, &echo.SayRequest{Text: "u", DelayMs: 5})
	l.end(id, err)
}

func (l *rollingLoad) stream(cl echo.EchoClient) {
	id, ctx, cancel := l.begin("stream")
	defer cancel()
	l.end(id, func() error {
		st, err := cl.Chat(ctx)
		if err != nil {
			return err
		}
		for range 20 {
			_ = st.Send(&echo.SayRequest{Text: "s"}) // Recv has the status
			if _, err := st.Recv(); err != nil {
				return err
			}
			time.Sleep(10 * time.Millisecond) // a stream that lasts
		}
		_ = st.CloseSend()
		if _, err := st.Recv(); !errors.Is(err, io.EOF) {
			return fmt.Errorf("end: %w", err)
		}
		return nil
	}())
}

// raw makes calls, three at a time, on one connection until GOAWAY comes. A
// connection that fails before the server's SETTINGS have come carried no call.
func (l *rollingLoad) raw(port int) {
	c, err := rawh2.Dial(fmt.Sprintf("127.0.0.1:%d", port), rawh2.Options{Patience: longest})
	if err != nil {
		// Somebody listens at every moment: a refusal is a call that is lost.
		l.log.ended(l.log.id("dial"), err.Error())
		return
	}
	defer c.Close()
	if err := c.WaitSettings(); err != nil {
		l.log.dropped(err)
		return
	}
	body, _ := proto.Marshal(&echo.SayRequest{Text: "raw", DelayMs: 5})
	var wg sync.WaitGroup
	var mu sync.Mutex // ids go out in order
	for range 3 {
		wg.Go(func() {
			for !l.stopped() && len(c.GoAways()) == 0 {
				id := l.log.id("raw")
				mu.Lock()
				st := c.Open(false, rawh2.Fields(":method", "POST", ":scheme", "http", ":path", echo.Echo_Say_FullMethodName, ":authority", "raw",
					"content-type", "application/grpc", "te", "trailers", "x-call-id", id))
				mu.Unlock()
				st.Data(true, message(0, string(body)))
				why, gone := rawOutcome(st), c.GoAways()
				if why != "" && len(gone) > 0 && st.ID > gone[len(gone)-1].LastID {
					l.log.leftOut(id) // GOAWAY and it have crossed
					return
				}
				l.log.ended(id, why)
				time.Sleep(2 * time.Millisecond) // the rate of the load
			}
		})
	}
	wg.Wait()
}

// rawOutcome says why a call failed, "" if it did not.
func rawOutcome(st *rawh2.Stream) string {
	if err := st.WaitOver(); err != nil {
		return err.Error()
	}
	log := st.Log()
	if e := log[len(log)-1]; e.Get("grpc-status") != "0" || st.Bytes() == 0 {
		return fmt.Sprintf("%q", st.Text())
	}
	return ""
}

// loggedBackend is a backend of grpc-go's that can be restarted in place.
type loggedBackend struct {
	log  *callLog
	name string
	port int
	srv  *grpc.Server
	done chan struct{}
}

func startLoggedBackend(t *testing.T, log *callLog, name string) *loggedBackend {
	t.Helper()
	b := &loggedBackend{log: log, name: name, port: freePort(t)}
	b.start(t)
	t.Cleanup(func() {
		b.srv.Stop()
		<-b.done
	})
	return b
}

func (b *loggedBackend) start(t *testing.T) {
	t.Helper()
	ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", b.port))
	must(t, err)
	srv, done := grpc.NewServer(), make(chan struct{})
	echo.RegisterEchoServer(srv, &echo.Server{Instance: b.name, OnCall: b.log.onCall})
	go func() {
		defer close(done)
		_ = srv.Serve(ln) // returns when stopped
	}()
	b.srv, b.done = srv, done
}

// restart says GOAWAY, lets calls end, is away for a moment and comes back.
func (b *loggedBackend) restart(t *testing.T) {
	t.Helper()
	b.srv.GracefulStop()
	<-b.done
	time.Sleep(100 * time.Millisecond) // the new one takes a moment to start
	b.start(t)
}

// TestRollingBackends restarts three backends one after the other, three
// times, under load.
func TestRollingBackends(t *testing.T) {
	log := newCallLog()
	var bs []*loggedBackend
	f := fixedConfig{}
	for i := range 3 {
		b := startLoggedBackend(t, log, fmt.Sprint("b", i))
		bs = append(bs, b)
		f.ports = append(f.ports, b.port)
	}
	p := startFixed(t, f)
	l := startRollingLoad(t, log, p.port)
	for range 3 {
		for _, b := range bs {
			b.restart(t)
			progress(t, log, 100)
		}
	}
	l.finish(t)
}

// TestRollingProxies replaces the proxy behind one port three times under
// load: the new one listens beside the old one (SO_REUSEPORT), which then gets
// SIGTERM.
func TestRollingProxies(t *testing.T) {
	log := newCallLog()
	b := startLoggedBackend(t, log, "b")
	f := fixedConfig{ports: []int{b.port}, args: []string{"--shutdown-grace", "20s"}}
	old := startFixed(t, f)
	l := startRollingLoad(t, log, old.port)
	progress(t, log, 100)
	for range 3 {
		next := startFixedOn(t, f, old.port)
		old.Signal(syscall.SIGTERM)
		wantExit(t, old) // it accepts for 10 s if someone always comes
		old = next
		progress(t, log, 100)
	}
	l.finish(t)
}

// progress waits for n more calls.
func progress(t *testing.T, log *callLog, n int) {
	t.Helper()
	before := log.succeeded()
	eventually(t, fmt.Sprint(n, " more calls"), func() error {
		if got := log.succeeded() - before; got < n {
			return fmt.Errorf("%d", got)
		}
		return nil
	})
}
