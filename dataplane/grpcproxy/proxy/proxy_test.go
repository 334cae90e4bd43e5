package proxy

import (
	"testing"

	"go.uber.org/goleak"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/sluice-proxy/sluice/dataplane/grpcproxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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
