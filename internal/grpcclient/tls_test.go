package grpcclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/internal/tlstest"
)

// clusterTLS is the TLS context of a cluster.
type clusterTLS struct{ roots *x509.CertPool }

func (c clusterTLS) Config(string) (*tls.Config, error) {
	return &tls.Config{RootCAs: c.roots, ServerName: "up.org", NextProtos: []string{"h2"}}, nil
}

// TestClusterTLS: connections use the cluster's TLS context, and what it
// refuses is a failure of the host.
func TestClusterTLS(t *testing.T) {
	ca, other := tlstest.CA(t, "ca"), tlstest.CA(t, "other")
	leaf := ca.Leaf(t, "up", tlstest.DNS("up.org"))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Cert.Raw}, PrivateKey: leaf.Key}},
	})))
	healthpb.RegisterHealthServer(srv, health.NewServer())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(ln)
	}()
	t.Cleanup(func() {
		srv.Stop()
		<-done
	})
	for _, tt := range []struct {
		name string
		ca   *tlstest.Pair
		want codes.Code
	}{{"trusted", ca, codes.OK}, {"not trusted", other, codes.Unavailable}} {
		t.Run(tt.name, func(t *testing.T) {
			roots := x509.NewCertPool()
			roots.AddCert(tt.ca.Cert)
			b := newBackends(call.Target{Network: "tcp", Address: ln.Addr().String(), Options: &call.UpstreamOptions{TLS: clusterTLS{roots}}})
			cc, err := Dial("c", b, Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = cc.Close() }()
			ctx, cancel := context.WithTimeout(t.Context(), longest)
			defer cancel()
			if _, err := healthpb.NewHealthClient(cc).Check(ctx, &healthpb.HealthCheckRequest{}); status.Code(err) != tt.want {
				t.Errorf("%v, want %s", err, tt.want)
			}
			if tt.want != codes.OK && b.outcome(t).Code != call.Unavailable {
				t.Error("a failed handshake was not reported")
			}
		})
	}
}
