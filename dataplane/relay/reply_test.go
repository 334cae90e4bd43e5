package relay

import (
	"net/url"
	"testing"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/h2"
)

func TestEncodeMessage(t *testing.T) {
	tests := []struct{ in, want string }{
		{"", ""},
		{"plain ASCII ~ stays", "plain ASCII ~ stays"},
		{"100%", "100%25"},
		{"a\nb\tc", "a%0Ab%09c"},
		{"\x00\x1f\x7f", "%00%1F%7F"},
		{"größe ☃", "gr%C3%B6%C3%9Fe %E2%98%83"},
		{"\xff\xfe", "%FF%FE"},
	}
	for _, tt := range tests {
		got := encodeMessage(tt.in)
		if got != tt.want {
			t.Errorf("encodeMessage(%q) = %q, want %q", tt.in, got, tt.want)
		}
		if back, err := url.PathUnescape(got); err != nil || back != tt.in {
			t.Errorf("%q reads back as %q, %v", got, back, err)
		}
	}
}

// TestReplyForReset: the table of gRPC over HTTP/2, "HTTP2 Transport Mapping".
func TestReplyForReset(t *testing.T) {
	want := map[h2.ErrCode]call.Code{
		h2.ErrCodeNo: call.Internal, h2.ErrCodeProtocol: call.Internal, h2.ErrCodeInternal: call.Internal,
		h2.ErrCodeFlowControl: call.Internal, h2.ErrCodeFrameSize: call.Internal, h2.ErrCodeRefusedStream: call.Unavailable,
		h2.ErrCodeCancel: call.Canceled, h2.ErrCodeCompression: call.Internal, h2.ErrCodeConnect: call.Internal,
		h2.ErrCodeEnhanceYourCalm: call.ResourceExhausted, h2.ErrCodeInadequateSecurity: call.PermissionDenied,
		h2.ErrCode(0xdead): call.Internal,
	}
	for code, grpc := range want {
		if got := replyForReset(code).GRPC; got != grpc {
			t.Errorf("%v gives %d, want %d", code, got, grpc)
		}
	}
}

func TestIsGRPC(t *testing.T) {
	for s, want := range map[string]bool{
		"application/grpc": true, "application/grpc+proto": true, "application/grpc+": true,
		"application/grpc-web": false, "application/grpcx": false, "application/json": false, "": false, "application/grp": false,
	} {
		if got := isGRPC(s); got != want {
			t.Errorf("isGRPC(%q) = %v", s, got)
		}
	}
}
