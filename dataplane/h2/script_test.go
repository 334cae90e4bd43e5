package h2

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-proxy/sluice/dataplane/clock"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

var update = flag.Bool("update", false, "rewrite the expected lines of testdata/scripts")

// TestScripts plays testdata/scripts: text files of cases, each starting with
// "== name". A line is a command; the lines "< ..." (frames we sent) and
// "! ..." (calls of the handler) below it are what it must cause. Both are
// rewritten by -update and then read by a human.
//
//	server|client [raw] [hold] [key=value...]   first line of a case; raw: no handshake, hold: data is not credited
//	> FRAME ...                                  a frame from the peer, see peer.frame
//	open ID | headers ID [end] f=v ... | data ID N [end] | reset ID CODE | credit ID N | shutdown PHASE | ping | eof | close | drain-at +DUR
//	time +DUR                                    the clock moves, Tick runs if due
//	block | unblock                              the socket takes nothing; takes everything
//	window ID = N, streams = N, free = N, dead = BOOL, going = BOOL, can-open = BOOL, next = DUR, counters = ...
//	xN COMMAND                                   N times; {a+bi} is replaced for i = 0, 1, ...
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/scripts/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			in, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			out := runFile(t, string(in))
			if *update {
				if err := os.WriteFile(name, []byte(out), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if d := cmp.Diff(strings.Split(string(in), "\n"), strings.Split(out, "\n")); d != "" {
				t.Errorf("%s (-want +got):\n%s", name, d)
			}
		})
	}
}

// runFile plays all cases of a file and returns it with the results.
func runFile(t *testing.T, in string) string {
	var out strings.Builder
	var w *world
	for _, line := range strings.Split(strings.TrimRight(in, "\n"), "\n") {
		cmd := strings.TrimSpace(line)
		if strings.HasPrefix(cmd, "<") || strings.HasPrefix(cmd, "!") {
			continue // a result: made anew
		}
		if cmd == "" || strings.HasPrefix(cmd, "#") || strings.HasPrefix(cmd, "==") {
			if strings.HasPrefix(cmd, "==") {
				w.done(t)
				w = nil
			}
			out.WriteString(line + "\n")
			continue
		}
		if w == nil {
			w = newWorld(t, cmd)
		} else {
			line = w.run(t, line)
		}
		out.WriteString(line + "\n")
		for _, l := range collapse(w.log) {
			out.WriteString("  " + l + "\n")
		}
		w.log = w.log[:0]
	}
	w.done(t)
	return out.String()
}

// collapse shortens repetitions of up to three lines that are equal but for
// their first number: the first, how many there were, the last.
func collapse(in []string) (out []string) {
	for i := 0; i < len(in); {
		period, times := 1, 1
		for p := 1; p <= 3; p++ {
			n := 1
			for i+(n+1)*p <= len(in) && sameShape(in[i:i+p], in[i+n*p:]) {
				n++
			}
			if n*p > period*times {
				period, times = p, n
			}
		}
		if times < 4 {
			out = append(out, in[i])
			i++
			continue
		}
		out = append(out, in[i:i+period]...)
		mark := in[i][:1] + " ... " + fmt.Sprintf("(x%d)", times)
		out = append(out, mark)
		i += period * times
		out = append(out, in[i-period:i]...)
	}
	return out
}

var firstNumber = regexp.MustCompile(`[0-9]+`)

func sameShape(a, b []string) bool {
	for i := range a {
		x, y := firstNumber.FindStringIndex(a[i]), firstNumber.FindStringIndex(b[i])
		if x == nil || y == nil {
			if a[i] != b[i] {
				return false
			}
			continue
		}
		if a[i][:x[0]] != b[i][:y[0]] || a[i][x[1]:] != b[i][y[1]:] {
			return false
		}
	}
	return true
}

// world is one Conn between a scripted peer and a scripted handler.
type world struct {
	c       *Conn
	pool    *Pool
	ctr     Counters
	now     clock.Nanos
	hold    bool
	blocked bool
	streams map[uint32]*Stream
	ended   map[uint32]int
	refuse  bool
	head    *hpack.Block // for the next stream of the peer

	writable func(*Stream) // instead of a line

	pendings int
	log      []string
	peer     *peer
	err      error
}

const worldStart = clock.Nanos(time.Hour)

func newWorld(t testing.TB, line string) *world {
	t.Helper()
	w := &world{now: worldStart, streams: map[uint32]*Stream{}, ended: map[uint32]int{}, peer: newPeer()}
	w.pool = NewPool(1<<20, true)
	args := strings.Fields(line)
	role := Server
	switch args[0] {
	case "client":
		role = Client
	case "server":
	default:
		t.Fatalf("a case must start with server or client, not %q", line)
	}
	cfg := DefaultConfig(role).ForWorker(w.pool, &w.ctr, nil)
	cfg.Limits = DefaultLimits(role)
	raw := false
	for _, a := range args[1:] {
		switch k, v, _ := strings.Cut(a, "="); k {
		case "raw":
			raw = true
		case "hold":
			w.hold = true
		case "refuse":
			w.refuse = true
		default:
			setConfig(t, cfg, k, v)
		}
	}
	w.c = NewConn(role, cfg, w, w.now)
	if raw {
		w.settle(t)
	} else {
		w.handshake(t)
	}
	return w
}

func setConfig(t testing.TB, cfg *Config, k, v string) {
	t.Helper()
	n, errN := strconv.Atoi(v)
	d, errD := time.ParseDuration(v)
	switch k {
	case "streams":
		cfg.MaxConcurrentStreams = uint32(n)
	case "w0":
		cfg.StreamWindow = int64(n)
	case "wc":
		cfg.ConnWindow = int64(n)
	case "lend":
		cfg.HoldLimit = int64(n)
	case "table":
		cfg.HeaderTable = uint32(n)
	case "hiwater":
		cfg.HiWater = n
	case "maxheader":
		cfg.MaxHeaderBytes = n
	case "maxfields":
		cfg.MaxHeaderFields = n
	case "control":
		cfg.Limits.UnsentControl = int64(n)
	case "connect":
		cfg.AllowConnect = true
	case "extconnect":
		cfg.ExtendedConnect = true
	case "keepalive":
		cfg.KeepaliveInterval = d
	case "keepalive-idle":
		cfg.KeepaliveIdle = d
	case "jitter":
		cfg.KeepaliveJitter = n
		cfg.Rand = rand.NewPCG(1, 1)
	case "idle":
		cfg.IdleTimeout = d
	default:
		t.Fatalf("unknown option %q", k)
	}
	if v != "" && errN != nil && errD != nil {
		t.Fatalf("option %s: bad value %q", k, v)
	}
}

// handshake exchanges prefaces and SETTINGS both ways without a trace.
func (w *world) handshake(t testing.TB) {
	if w.c.role == Server {
		w.feed(t, []byte(Preface))
	}
	w.feed(t, w.peer.frame(t, "SETTINGS"))
	w.feed(t, w.peer.frame(t, "SETTINGS ack"))
	w.settle(t)
	w.log = w.log[:0]
}

func (w *world) feed(t testing.TB, b []byte) {
	w.peer.in = append(w.peer.in, b...)
	n, err := w.c.Feed(w.now, w.peer.in)
	w.peer.in = append(w.peer.in[:0], w.peer.in[n:]...)
	if err != nil && w.err == nil {
		w.err = err
	}
}

// settle is the driver's end of a batch: deliver, write, log what was written.
func (w *world) settle(t testing.TB) {
	t.Helper()
	w.c.Deliver(w.now)
	for !w.blocked && w.c.Output().Len() > 0 {
		n := w.write()
		w.c.Wrote(w.now, n)
	}
	if w.blocked {
		w.c.Wrote(w.now, 0)
	}
	w.log = append(w.log, w.peer.received(t)...)
	if err := w.c.Check(); err != nil {
		t.Errorf("invariants: %v", err)
	}
}

func (w *world) write() (n int) {
	for _, b := range w.c.Output().Buffers(nil) {
		w.peer.got.Write(b)
		n += len(b)
	}
	return n
}

// done checks that a finished case leaks nothing.
func (w *world) done(t testing.TB) {
	if w == nil {
		return
	}
	w.c.Close()
	if n := w.pool.Live(); n != 0 {
		t.Errorf("%d chunks leaked", n)
	}
	for id := range w.streams {
		if w.ended[id] != 1 {
			t.Errorf("stream %d ended %d times", id, w.ended[id])
		}
	}
	if w.c.heldBytes != 0 && !w.hold {
		t.Errorf("%d bytes still held", w.c.heldBytes)
	}
}

func (w *world) run(t *testing.T, line string) string {
	cmd := strings.TrimSpace(line)
	times := 1
	if strings.HasPrefix(cmd, "x") {
		if n, rest, ok := strings.Cut(cmd[1:], " "); ok {
			if k, err := strconv.Atoi(n); err == nil {
				times, cmd = k, rest
			}
		}
	}
	for i := range times {
		if res := w.command(t, expand(cmd, i)); res != "" {
			line = res
		}
	}
	w.settle(t)
	return line
}

// expand replaces {a+bi}.
func expand(cmd string, i int) string {
	a, rest, ok := strings.Cut(cmd, "{")
	if !ok {
		return cmd
	}
	expr, rest, _ := strings.Cut(rest, "}")
	x, y, _ := strings.Cut(strings.TrimSuffix(expr, "i"), "+")
	n, _ := strconv.Atoi(x)
	k, _ := strconv.Atoi(y)
	return a + strconv.Itoa(n+k*i) + expand(rest, i)
}

// command runs one; a question returns the line with its answer.
func (w *world) command(t *testing.T, cmd string) (line string) {
	t.Helper()
	args := strings.Fields(cmd)
	num := func(i int) int {
		if i >= len(args) {
			t.Fatalf("%q: argument missing", cmd)
		}
		n, err := strconv.Atoi(args[i])
		if err != nil {
			t.Fatalf("%q: %v", cmd, err)
		}
		return n
	}
	stream := func() *Stream {
		s := w.streams[uint32(num(1))]
		if s == nil {
			t.Fatalf("%q: no such stream", cmd)
		}
		return s
	}
	switch args[0] {
	case ">":
		w.feed(t, w.peer.frame(t, strings.TrimSpace(cmd[1:])))
	case "open":
		s := &Stream{}
		if !w.c.OpenStream(s) {
			w.log = append(w.log, "! cannot open")
			break
		}
		if s.ID != uint32(num(1)) {
			t.Fatalf("%q: the id is %d", cmd, s.ID)
		}
		w.streams[s.ID] = s
	case "headers":
		end, fields := parseFields(args[2:])
		w.c.WriteHeaders(stream(), fields, end)
	case "data":
		n := w.c.WriteData(stream(), make([]byte, num(2)), len(args) > 3)
		if n != num(2) {
			w.log = append(w.log, fmt.Sprintf("! took %d of %d", n, num(2)))
		}
	case "reset":
		w.c.Reset(stream(), parseCode(t, args[2]))
	case "credit":
		w.c.Credit(stream(), num(2))
	case "shutdown":
		w.c.Shutdown(num(1), ErrCodeNo)
	case "ping-if-idle":
		w.c.PingIfIdle(w.now)
	case "eof":
		w.c.FeedEOF(w.now)
	case "close":
		w.c.Close()
	case "drain-at":
		w.c.DrainAt(w.now.Add(parseDuration(t, args[1])))
	case "next-id":
		w.c.nextID = uint32(num(1))
	case "time":
		w.now = w.now.Add(parseDuration(t, args[1]))
		if next := w.c.NextTick(); next != 0 && next <= w.now {
			w.c.Tick(w.now)
		}
	case "block":
		w.blocked = true
	case "unblock":
		w.blocked = false
	default:
		return w.question(t, cmd, args)
	}
	return ""
}

func (w *world) question(t *testing.T, cmd string, args []string) string {
	what, _, ok := strings.Cut(cmd, " =")
	if !ok {
		t.Fatalf("unknown command %q", cmd)
	}
	var v any
	switch args[0] {
	case "window":
		if args[1] == "0" {
			v = w.c.sendWin
			break
		}
		n, _ := strconv.Atoi(args[1])
		if w.streams[uint32(n)] == nil {
			t.Fatalf("%q: no such stream", cmd)
		}
		v = w.streams[uint32(n)].sendWin
	case "streams":
		v = w.c.Streams()
	case "free":
		v = w.c.FreeWindow()
	case "held":
		v = w.c.HeldBytes()
	case "dead":
		v = w.c.Dead()
	case "going":
		v = w.c.GoingAway()
	case "can-open":
		v = w.c.CanOpen()
	case "stop-reading":
		v = w.c.StopReading()
	case "unsent":
		v = w.c.Output().Len()
	case "next":
		if v = time.Duration(0); w.c.NextTick() != 0 {
			v = w.c.NextTick().Sub(w.now)
		}
	case "counters":
		v = w.counters()
	default:
		t.Fatalf("unknown question %q", cmd)
	}
	return fmt.Sprintf("%s = %v", what, v)
}

// counters lists those that are not zero.
func (w *world) counters() string {
	s := strings.Trim(fmt.Sprintf("%+v", w.ctr), "{}")
	var out []string
	for _, f := range strings.Fields(s) {
		if !strings.HasSuffix(f, ":0") {
			out = append(out, f)
		}
	}
	return strings.Join(out, " ")
}

func parseDuration(t *testing.T, s string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(strings.TrimPrefix(s, "+"))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func parseFields(args []string) (end bool, f []hpack.Field) {
	for _, a := range args {
		if a == "end" {
			end = true
			continue
		}
		if n, ok := strings.CutPrefix(a, "big:"); ok {
			k, _ := strconv.Atoi(n)
			f = append(f, hpack.NewField("big", strings.Repeat("b", k)))
			continue
		}
		i := strings.Index(a[1:], "=") + 1
		f = append(f, hpack.NewField(a[:i], a[i+1:]))
	}
	return end, f
}

func parseCode(t testing.TB, s string) ErrCode {
	t.Helper()
	for i, n := range errCodeNames {
		if n == s {
			return ErrCode(i)
		}
	}
	t.Fatalf("unknown error code %q", s)
	return 0
}

// The handler: every call becomes a line.

func (w *world) add(format string, args ...any) {
	w.log = append(w.log, "! "+fmt.Sprintf(format, args...))
}

func (w *world) NewStream(id uint32) *Stream {
	if w.refuse {
		return nil
	}
	s := &Stream{Owner: w, Head: w.head}
	w.streams[id] = s
	return s
}

func (w *world) OnHeaders(s *Stream, k Kind, b *hpack.Block, end bool) {
	var l strings.Builder
	fmt.Fprintf(&l, "%s %d", [...]string{"request", "informational", "response", "trailers"}[k], s.ID)
	if end {
		l.WriteString(" end")
	}
	for i := range b.Fields {
		if f := &b.Fields[i]; !isStandard(f.Name, f.Value) {
			v := f.Value
			if len(v) > 100 {
				v = fmt.Sprintf("(%d bytes)", len(v))
			}
			fmt.Fprintf(&l, " %s=%s", f.Name, v)
		}
	}
	w.add("%s", l.String())
}

func (w *world) OnData(s *Stream, p []byte, end bool) {
	e := ""
	if end {
		e = " end"
	}
	w.add("data %d %d%s", s.ID, len(p), e)
	if !w.hold {
		w.c.Credit(s, len(p))
	}
}

func (w *world) OnWritable(s *Stream) {
	if w.writable != nil {
		w.writable(s)
		return
	}
	w.add("writable %d", s.ID)
}

func (w *world) OnEnd(s *Stream, e StreamError) {
	w.ended[s.ID]++
	if e.Kind == EndClean {
		w.add("end %d clean", s.ID)
		return
	}
	l := fmt.Sprintf("end %d reset by %s %v", s.ID, [...]string{"us", "peer", "connection"}[e.Side], e.Code)
	if w.c.role == Client && !e.MaybeSeen {
		l += " unseen"
	}
	if e.Err != nil {
		l += ": " + strings.TrimPrefix(e.Err.Error(), "http2: ")
	}
	w.add("%s", l)
}

func (w *world) OnConn(ev ConnEvent) {
	switch ev.Kind {
	case EventSettings:
		w.add("settings")
	case EventGoAway:
		w.add("goaway %d %v", w.c.goAwayInLast, w.c.goAwayCode)
	case EventStalled:
		w.add("stalled %d", ev.Stream.ID)
	case EventClosed:
		if ev.Err == nil {
			w.add("closed")
		} else {
			w.add("closed: %s", strings.TrimPrefix(ev.Err.Error(), "http2: "))
		}
	}
}

func (w *world) Pending() { w.pendings++ }

func (w *world) Flush() {
	if !w.blocked {
		n := w.write()
		w.c.Wrote(w.now, n)
	}
}
