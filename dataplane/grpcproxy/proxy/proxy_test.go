package proxy

import (
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/sluice-proxy/sluice/dataplane/grpcproxy"
	"github.com/sluice-proxy/sluice/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// 1.7, 1.27: a director may be a StreamDirector by name, return any channel, or
// forget the connection.
func TestDirectors(t *testing.T) {
	var named StreamDirector = DefaultDirector((*grpc.ClientConn)(nil))
	var none grpc.ClientConnInterface
	for name, h := range map[string]grpc.StreamHandler{
		"*grpc.ClientConn":         TransparentHandler(named),
		"grpc.ClientConnInterface": TransparentHandler(DefaultDirector(none)),
	} {
		cc, stop := serve(t, grpc.NewServer(grpc.UnknownServiceHandler(h)))
		_, err := healthpb.NewHealthClient(cc).Check(t.Context(), &healthpb.HealthCheckRequest{})
		if status.Code(err) != codes.Unavailable {
			t.Errorf("no %s: %v", name, err)
		}
		stop()
	}
}

// serve runs s, and returns a connection to it.
func serve(t *testing.T, s *grpc.Server) (cc *grpc.ClientConn, stop func()) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(ln)
	}()
	if cc, err = grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		t.Fatal(err)
	}
	return cc, func() {
		_ = cc.Close()
		s.Stop()
		<-done
	}
}

// 1.16: the codec passes frames through, leaves messages to its parent, and
// refuses what is neither.
func TestCodec(t *testing.T) {
	c := Codec()
	var f grpcproxy.Frame
	if err := c.Unmarshal([]byte{1, 2, 3}, &f); err != nil {
		t.Fatal(err)
	}
	if b, err := c.Marshal(&f); err != nil || string(b) != "\x01\x02\x03" {
		t.Errorf("%x, %v", b, err)
	}
	b, err := c.Marshal(&healthpb.HealthCheckRequest{Service: "s"})
	if err != nil {
		t.Fatal(err)
	}
	var m healthpb.HealthCheckRequest
	if err := c.Unmarshal(b, &m); err != nil || m.GetService() != "s" {
		t.Errorf("%v, %v", &m, err)
	}
	if _, err := c.Marshal("text"); err == nil {
		t.Error("a string is no message")
	}
	if err := c.Unmarshal(b, "text"); err == nil {
		t.Error("a string is no message")
	}
	if c.String() != "proto" {
		t.Errorf("the content-subtype would be %q", c.String())
	}
}
