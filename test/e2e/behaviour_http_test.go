package e2e

import (
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/sluice-proxy/sluice/test/rawh2"
)

// TestUpstreamHTTPErrors: a backend, or something in front of it, answers a
// gRPC call with a plain HTTP error: the client gets gRPC's status for it
// (http-grpc-status-mapping). A status that is there already is kept.
func TestUpstreamHTTPErrors(t *testing.T) {
	s := newScene(t, fixedConfig{})
	for httpStatus, want := range map[string]codes.Code{
		"400": codes.Internal, "401": codes.Unauthenticated, "403": codes.PermissionDenied, "404": codes.Unimplemented,
		"429": codes.Unavailable, "502": codes.Unavailable, "503": codes.Unavailable, "504": codes.Unavailable,
		"500": codes.Unknown, "302": codes.Unknown, "418": codes.Unknown,
	} {
		t.Run(httpStatus, func(t *testing.T) {
			for _, body := range []string{"", "no healthy host, says the box in front"} {
				client, _ := s.run(t, s.p.port, func(x *exchange) {
					x.open(true, request())
					x.sv.Headers(body == "", rawh2.Fields(":status", httpStatus, "content-type", "text/html", "x-box", "1"))
					if body != "" {
						x.sv.Data(true, []byte(body))
					}
					x.must(x.cl.WaitOver())
				})
				wantStatus(t, client, fmt.Sprint(int(want)))
			}
		})
	}
	t.Run("with a status of its own", func(t *testing.T) {
		client, _ := s.run(t, s.p.port, func(x *exchange) {
			x.open(true, request())
			x.sv.Headers(true, rawh2.Fields(":status", "503", "content-type", "application/grpc", "grpc-status", "7", "grpc-message", "mine"))
			x.must(x.cl.WaitEnd())
		})
		wantStatus(t, client, "7")
	})
}
