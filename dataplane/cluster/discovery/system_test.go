package discovery

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/miekg/dns"
)

// serve runs a name server on a loopback port, UDP and TCP, and returns the
// resolv.conf that names it.
func serve(t *testing.T, handler dns.HandlerFunc, more ...string) *dns.ClientConfig {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	pc, err := net.ListenPacket("udp", ln.Addr().String())
	for err != nil { // somebody's client may have the port for UDP
		_ = ln.Close()
		if ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		pc, err = net.ListenPacket("udp", ln.Addr().String())
	}
	for _, s := range []*dns.Server{{Listener: ln, Handler: handler}, {PacketConn: pc, Handler: handler}} {
		started, stopped := make(chan struct{}), make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() {
			defer close(stopped)
			_ = s.ActivateAndServe()
		}()
		<-started
		t.Cleanup(func() {
			_ = s.Shutdown()
			<-stopped
		})
	}
	conf := parseResolvConf("nameserver 127.0.0.1\n" + strings.Join(more, "\n") + "\n")
	_, conf.Port, _ = net.SplitHostPort(ln.Addr().String())
	return conf
}

// lookups returns a System with the given hosts file and name server.
func lookups(t *testing.T, hosts string, conf *dns.ClientConfig) *system {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "hosts"), []byte(hosts), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newSystem(filepath.Join(dir, "hosts"), filepath.Join(dir, "resolv.conf"))
	if conf != nil {
		s.conf.parse = func(string) *dns.ClientConfig { return conf }
	}
	return s
}

func record(t *testing.T, s string) dns.RR {
	t.Helper()
	rr, err := dns.NewRR(s)
	if err != nil {
		t.Fatal(err)
	}
	return rr
}

var compareAddrs = cmp.Options{cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()}

func TestSystemOffline(t *testing.T) {
	// Nobody answers at this server: what is asked for must not get there.
	conf := parseResolvConf("nameserver 127.0.0.1")
	conf.Port = "1"
	s := lookups(t, "127.0.0.1 localhost\n::1 localhost # both\n10.1.2.3\tDB.internal db\n\nnonsense x\n", conf)
	for _, test := range []struct {
		name string
		v6   bool
		want string
	}{
		{"localhost", false, "127.0.0.1"},
		{"localhost", true, "::1"},
		{"LOCALHOST.", true, "::1"},
		{"db.internal", false, "10.1.2.3"},
		{"db.internal", true, ""}, // known, and not by this family
		{"db.", false, "10.1.2.3"},
		{"a.localhost", false, "127.0.0.1"},
		{"a.localhost", true, "::1"},
	} {
		got, err := s.Lookup(t.Context(), test.name, test.v6)
		var want []netip.Addr
		if test.want != "" {
			want = append(want, netip.MustParseAddr(test.want))
		}
		if diff := cmp.Diff(want, got.Addrs, compareAddrs); diff != "" || err != nil {
			t.Errorf("%s, v6 %v: %v (-want +got):\n%s", test.name, test.v6, err, diff)
		}
	}
	if _, err := s.Lookup(t.Context(), "x", false); err == nil {
		t.Error("x: no error although no name server answers")
	}
	if _, err := s.Lookup(t.Context(), "a..b", false); err == nil {
		t.Error("a..b: no error although it is no name")
	}
}

func TestSystemReadsAgain(t *testing.T) {
	s := lookups(t, "10.0.0.1 a\n", nil)
	if got, err := s.Lookup(t.Context(), "a", false); err != nil || got.Addrs[0] != netip.MustParseAddr("10.0.0.1") {
		t.Fatal(got, err)
	}
	if err := os.WriteFile(s.hosts.path, []byte("10.0.0.20 a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Lookup(t.Context(), "a", false); err != nil || got.Addrs[0] != netip.MustParseAddr("10.0.0.20") {
		t.Error(got, err)
	}
}

func TestSystemQueries(t *testing.T) {
	var noEDNS, asked atomic.Int32
	conf := serve(t, func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		question := q.Question[0]
		_, tcp := w.RemoteAddr().(*net.TCPAddr)
		switch question.Name {
		case "two.test.":
			if question.Qtype == dns.TypeA {
				m.Answer = append(m.Answer,
					record(t, "two.test. 300 CNAME real.test."),
					record(t, "real.test. 200 A 10.0.0.2"),
					record(t, "real.test. 600 A 10.0.0.1"))
			}
		case "short.search.test.":
			m.Answer = append(m.Answer, record(t, question.Name+" 7 A 10.0.0.3"))
		case "big.test.":
			m.Truncated = !tcp
			if tcp {
				m.Answer = append(m.Answer, record(t, "big.test. 7 A 10.0.0.4"))
			}
		case "old.test.":
			if q.IsEdns0() != nil {
				noEDNS.Add(1)
				m.Rcode = dns.RcodeFormatError
			} else {
				m.Answer = append(m.Answer, record(t, "old.test. 7 A 10.0.0.5"))
			}
		case "flaky.test.":
			if asked.Add(1) == 1 {
				m.Rcode = dns.RcodeServerFailure
			} else {
				m.Answer = append(m.Answer, record(t, "flaky.test. 7 A 10.0.0.6"))
			}
		case "broken.test.", "broken.test.search.test.":
			m.Rcode = dns.RcodeServerFailure
		default:
			m.Rcode = dns.RcodeNameError
		}
		_ = w.WriteMsg(m)
	}, "search search.test")
	s := lookups(t, "", conf)
	for _, test := range []struct {
		name string
		v6   bool
		want Answer
		err  string
	}{
		{name: "two.test", want: answer(200*time.Second, "10.0.0.2", "10.0.0.1")}, // the smallest of three
		{name: "two.test", v6: true},
		{name: "short", want: answer(7*time.Second, "10.0.0.3")},
		{name: "big.test", want: answer(7*time.Second, "10.0.0.4")},
		{name: "old.test", want: answer(7*time.Second, "10.0.0.5")},
		{name: "flaky.test", want: answer(7*time.Second, "10.0.0.6")},
		{name: "missing.test"},
		{name: "broken.test", err: "SERVFAIL"},
	} {
		got, err := s.Lookup(t.Context(), test.name, test.v6)
		if (err != nil) != (test.err != "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: error %v, want %q", test.name, err, test.err)
		}
		if diff := cmp.Diff(test.want, got, compareAddrs); diff != "" {
			t.Errorf("%s, v6 %v (-want +got):\n%s", test.name, test.v6, diff)
		}
	}
	if noEDNS.Load() == 0 {
		t.Error("EDNS was never offered")
	}
}

func answer(ttl time.Duration, addrs ...string) Answer {
	a := Answer{TTL: ttl}
	for _, s := range addrs {
		a.Addrs = append(a.Addrs, netip.MustParseAddr(s))
	}
	return a
}

// A look-up that nobody answers ends when its context does, not later.
func TestSystemCancel(t *testing.T) {
	asked := make(chan struct{})
	conf := serve(t, func(dns.ResponseWriter, *dns.Msg) { asked <- struct{}{} }, "options timeout:60")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	start := time.Now()
	if _, err := lookups(t, "", conf).Lookup(ctx, "a.test.", false); err == nil {
		t.Fatal("no error")
	}
	// The client's own time-out is a minute.
	if d := time.Since(start); d > 30*time.Second {
		t.Errorf("ended after %v", d)
	}
}
