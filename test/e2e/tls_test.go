package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/sluice-proxy/sluice/internal/tlstest"
	"github.com/sluice-proxy/sluice/test/echo"
	"github.com/sluice-proxy/sluice/test/proc"
)

// tlsWorld is a proxy whose one port takes plaintext, TLS by the name a.org and
// mutual TLS by the name m.org; behind it is a backend with mutual TLS. All
// certificates of the proxy are files.
type tlsWorld struct {
	*proxy
	t   *testing.T
	ca  *tlstest.Pair
	dir string
}

// put makes p the certificate called name in the proxy's directory.
func (w *tlsWorld) put(name string, p *tlstest.Pair) {
	w.t.Helper()
	write(w.t, filepath.Join(w.dir, name+".crt"), string(p.Chain))
	write(w.t, filepath.Join(w.dir, name+".key"), string(p.PEM))
}

func pool(ca *tlstest.Pair) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(ca.Cert)
	return p
}

func keyPair(p *tlstest.Pair) []tls.Certificate {
	return []tls.Certificate{{Certificate: [][]byte{p.Cert.Raw}, PrivateKey: p.Key}}
}

func newTLSWorld(t *testing.T) *tlsWorld {
	t.Helper()
	w := &tlsWorld{t: t, ca: tlstest.CA(t, "ca"), dir: t.TempDir()}
	be := startBackend(t, "up", grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: keyPair(w.ca.Leaf(t, "up", tlstest.DNS("up.org"))),
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: pool(w.ca),
	})))
	w.put("server", w.ca.Leaf(t, "server", tlstest.DNS("a.org", "m.org")))
	w.put("client", w.ca.Leaf(t, "client"))
	write(t, filepath.Join(w.dir, "ca.crt"), string(w.ca.Chain))
	// One certificate is a secret in a file, the other stands in the context.
	write(t, filepath.Join(w.dir, "sds.yaml"), fmt.Sprintf(`resources:
- "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret
  name: server
  tls_certificate: {certificate_chain: {filename: %[1]s/server.crt}, private_key: {filename: %[1]s/server.key}}
`, w.dir))
	chain := func(match, socket string) string {
		return fmt.Sprintf(`
    - filter_chain_match: %s
      %s
      filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          stream_idle_timeout: 0s
          http_filters:
          - {name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
          route_config:
            name: r
            virtual_hosts: [{name: v, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: up, timeout: 0s}}]}]`, match, socket)
	}
	socket := func(more string) string {
		return fmt.Sprintf(`transport_socket: {name: tls, typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, %s
        common_tls_context: {alpn_protocols: [h2], tls_certificate_sds_secret_configs: [{name: server, sds_config: {path_config_source: {path: %s/sds.yaml}}}], validation_context: {trusted_ca: {filename: %s/ca.crt}}}}}`, more, w.dir, w.dir)
	}
	w.proxy = &proxy{id: "proxy", port: freePort(t), admin: freePort(t)}
	file := filepath.Join(w.dir, "bootstrap.yaml")
	write(t, file, fmt.Sprintf(`
node: {id: tls, cluster: tls}
admin: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}
static_resources:
  listeners:
  - name: in
    address: {socket_address: {address: 127.0.0.1, port_value: %d}}
    filter_chains:%s%s%s
  clusters:
  - name: up
    type: STATIC
    connect_timeout: 20s
    max_requests_per_connection: 200
    http2_protocol_options: {}
    transport_socket:
      name: tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        sni: up.org
        auto_sni_san_validation: true
        common_tls_context:
          tls_certificates: [{certificate_chain: {filename: %[6]s/client.crt}, private_key: {filename: %[6]s/client.key}}]
          validation_context: {trusted_ca: {filename: %[6]s/ca.crt}}
    load_assignment: {cluster_name: up, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %[7]d}}}}]}]}
`, w.admin, w.port,
		chain("{transport_protocol: raw_buffer}", ""),
		chain("{server_names: [a.org]}", socket("")),
		chain("{server_names: [m.org]}", socket("require_client_certificate: true,")),
		w.dir, be.port))
	w.Process = start(t, w.id, "dataplane", "-c", file)
	t.Cleanup(w.Kill)
	w.waitReady(t)
	return w
}

// client dials the proxy with TLS; show, if not nil, is its certificate.
func (w *tlsWorld) client(sni string, show *tlstest.Pair) echo.EchoClient {
	w.t.Helper()
	cfg := &tls.Config{ServerName: sni, RootCAs: pool(w.ca)}
	if show != nil {
		// Also to a server that names other authorities.
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &keyPair(show)[0], nil }
	}
	cc, err := grpc.NewClient(fmt.Sprintf("127.0.0.1:%d", w.port), grpc.WithTransportCredentials(credentials.NewTLS(cfg)), grpc.WithDisableRetry())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = cc.Close() })
	return echo.NewEchoClient(cc)
}

func (w *tlsWorld) say(c echo.EchoClient) error {
	ctx, cancel := context.WithTimeout(context.Background(), longest)
	defer cancel()
	_, err := c.Say(ctx, &echo.SayRequest{Text: strings.Repeat("x", 3000)})
	return err
}

// presented returns the certificate that the proxy shows now.
func (w *tlsWorld) presented() (string, error) {
	c, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", w.port), &tls.Config{ServerName: "a.org", RootCAs: pool(w.ca), NextProtos: []string{"h2"}})
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	return c.ConnectionState().PeerCertificates[0].Subject.CommonName, nil
}

// TestTLS: who may call, on one port, with mutual TLS to the backend.
func TestTLS(t *testing.T) {
	w := newTLSWorld(t)
	good, bad := w.ca.Leaf(t, "good"), tlstest.CA(t, "other").Leaf(t, "bad")
	for _, tt := range []struct {
		name string
		c    echo.EchoClient
		code codes.Code
	}{
		{"plaintext", echo.NewEchoClient(dial(t, w.port)), codes.OK},
		{"TLS", w.client("a.org", nil), codes.OK},
		{"mutual TLS", w.client("m.org", good), codes.OK},
		{"an optional certificate that is wrong", w.client("a.org", bad), codes.Unavailable},
		{"no certificate where one is required", w.client("m.org", nil), codes.Unavailable},
		{"a wrong certificate", w.client("m.org", bad), codes.Unavailable},
		{"a name that no chain has", w.client("z.org", nil), codes.Unavailable},
	} {
		if err := w.say(tt.c); status.Code(err) != tt.code {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.code)
		}
	}
	if dump, err := w.get("/config_dump"); err != nil || !json.Valid([]byte(dump)) || strings.Contains(dump, "PRIVATE KEY") {
		t.Errorf("/config_dump shows a private key, or fails: %v", err)
	}
}

// TestTLSRotation replaces the certificates of both sides under load: no call
// fails, streams stay, new connections get the new certificate, and a pair that
// does not match is never used.
func TestTLSRotation(t *testing.T) {
	w := newTLSWorld(t)
	good := w.ca.Leaf(t, "good")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	stream, err := w.client("m.org", good).Chat(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ping := func() {
		t.Helper()
		if err := stream.Send(&echo.SayRequest{}); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	ping()
	var wg sync.WaitGroup
	var calls atomic.Int64
	done := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for {
				c := w.client("m.org", good) // new connections all the time
				for range 20 {
					if err := w.say(c); err != nil {
						t.Error(err)
						return
					}
					calls.Add(1)
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for i := range 5 {
		name := fmt.Sprint("server-", i)
		w.put("server", w.ca.Leaf(t, name, tlstest.DNS("a.org", "m.org")))
		w.put("client", w.ca.Leaf(t, fmt.Sprint("client-", i)))
		eventually(t, name+" is shown", func() error {
			got, err := w.presented()
			if err == nil && got != name {
				err = fmt.Errorf("%q is shown", got)
			}
			return err
		})
		ping()
	}
	// A certificate whose key does not come.
	write(t, filepath.Join(w.dir, "server.crt"), string(w.ca.Leaf(t, "torn", tlstest.DNS("a.org", "m.org")).Chain))
	for range 20 {
		if got, err := w.presented(); err != nil || got != "server-4" {
			t.Fatalf("with a torn pair: %q, %v", got, err)
		}
		ping()
	}
	eventually(t, "100 calls", func() error {
		if n := calls.Load(); n < 100 {
			return fmt.Errorf("%d calls", n)
		}
		return nil
	})
	close(done)
	wg.Wait()
}

// The storm of TestTLSHandshakeStorm.
const (
	stormRate    = 1000 // handshakes a second: what the proxy lets begin on two processors
	stormClients = 16
	stormCalls   = 1000
	stormTime    = 5 * time.Second // enough where the machine has nothing else to do
	stormRounds  = 3
	stormShift   = 5 * time.Millisecond // what the storm may add to the p99
)

// TestTLSHandshakeStorm: 1,000 full handshakes a second, and 100 clients that
// stopped in a ClientHello, do not move the p99 of an established connection's
// calls by more than 5 ms. They cost processor time, wherever they go: so the
// p99 is compared with that beside the same storm on another proxy process. The
// medians of some rounds are, and up to three times: the machine may be busy.
func TestTLSHandshakeStorm(t *testing.T) {
	w, other := newTLSWorld(t), newTLSWorld(t)
	c := w.client("a.org", nil)
	if err := w.say(c); err != nil {
		t.Fatal(err)
	}
	for _, at := range []*tlsWorld{w, other} {
		for range 100 {
			nc, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", at.port))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = nc.Close() }()
			if _, err := nc.Write([]byte{22, 3, 1, 2, 0, 1}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if raced() { // times say nothing, and the handshakes take all there is
		w.storm(c, w, stormCalls/20)
		return
	}
	want := float64(stormRate) * 0.9 // one has begun and not ended, a tick is late
	judged, busy := 0, 0
	for {
		share := proc.Share()
		var here, beside, rates []time.Duration
		for range stormRounds {
			p99, rate := w.storm(c, w, stormCalls)
			here, rates = append(here, p99), append(rates, time.Duration(rate))
			p99, _ = w.storm(c, other, stormCalls)
			beside = append(beside, p99)
		}
		p99, control, rate := median(here), median(beside), float64(median(rates))
		t.Logf("p99 of calls: %v with %.0f handshakes/s, %v with the same at another proxy (%v, %v)", p99, rate, control, here, beside)
		if p99 <= control+stormShift && rate >= want {
			return
		}
		if share = min(share, proc.Share()); share >= 0.5 {
			judged++
		} else {
			busy++
		}
		switch {
		case busy == 3:
			t.Skipf("the machine has other things to do: this gets %.0f %% of its processors", share*100)
		case judged == 3:
			t.Fatalf("p99 of calls %v beside %.0f handshakes/s, want at most %v more than %v beside %.0f", p99, rate, stormShift, control, want)
		}
	}
}

// raced reports that times say nothing.
func raced() bool { return raceEnabled || os.Getenv("SLUICE_E2E_RACE") != "" }

func median(ds []time.Duration) time.Duration {
	slices.Sort(ds)
	return ds[len(ds)/2]
}

// storm lets clients shake hands with at, stormRate a second in all, while c
// makes so many calls, or as many as it can in stormTime; it returns their p99
// and how many handshakes a second there were.
func (w *tlsWorld) storm(c echo.EchoClient, at *tlsWorld, calls int) (p99 time.Duration, rate float64) {
	w.t.Helper()
	var wg sync.WaitGroup
	var handshakes atomic.Int64
	done := make(chan struct{})
	begin := time.Now()
	for i := range stormClients {
		wg.Go(func() {
			for n := i; ; n += stormClients {
				wait := time.NewTimer(time.Until(begin.Add(time.Duration(n) * time.Second / stormRate)))
				select {
				case <-done:
					wait.Stop()
					return
				case <-wait.C:
				}
				if _, err := at.presented(); err != nil {
					if !errors.Is(err, net.ErrClosed) {
						w.t.Error(err)
					}
					return
				}
				handshakes.Add(1)
			}
		})
	}
	took := make([]time.Duration, 0, calls)
	for range calls {
		start := time.Now()
		err := w.say(c)
		took = append(took, time.Since(start))
		if err != nil {
			w.t.Error(err)
			break
		}
		if time.Since(begin) > stormTime {
			break
		}
		time.Sleep(500 * time.Microsecond) // a client that takes its time between calls
	}
	rate = float64(handshakes.Load()) / time.Since(begin).Seconds()
	close(done)
	wg.Wait()
	slices.Sort(took)
	return took[len(took)*99/100], rate
}
