package relay

import (
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/h2"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
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

// TestReplyMutations: what a route does to the headers of local replies. It may
// set the type of the body, and grpc-status; not what follows from the body, nor
// anything twice.
func TestReplyMutations(t *testing.T) {
	op := func(action call.HeaderAction, name, value string) call.HeaderOp {
		return call.HeaderOp{Action: action, Field: hpack.NewField(name, value)}
	}
	rt := &call.Route{ResponseOps: []call.HeaderOp{
		op(call.HeaderRemove, "x-theirs", ""), op(call.HeaderAddIfAbsent, "content-type", "text/x"), op(call.HeaderOverwriteIfExist, "content-length", "98"),
		op(call.HeaderAppend, "content-length", "99"), op(call.HeaderAppend, "grpc-status", "7"), op(call.HeaderAppend, "grpc-message", "no"),
	}}
	rp := &call.Reply{HTTP: 503, GRPC: call.Unavailable, Message: "why", Headers: []hpack.Field{hpack.NewField("x-theirs", "1")}}
	exchange := func() *Exchange { return headerExchange(&call.Manager{}, rt, &call.Conn{}) }

	x := exchange()
	want := []string{":status", "200", "content-type", "application/grpc", "grpc-status", "7", "grpc-message", "why"}
	if diff := cmp.Diff(want, fieldsOf(x.replyHeaders(rp))); diff != "" || x.rec.Code != call.PermissionDenied {
		t.Errorf("gRPC, noted as %d: -want +got:\n%s", x.rec.Code, diff)
	}
	rest := []string{"grpc-status", "7", "grpc-message", "no"}
	want = append([]string{":status", "503", "content-type", "text/x"}, append(rest, "content-length", "3")...)
	if diff := cmp.Diff(want, fieldsOf(exchange().replyHTTPHeaders(rp, 503, []byte("why")).Fields)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	want = append([]string{":status", "503"}, rest...)
	if diff := cmp.Diff(want, fieldsOf(exchange().replyHTTPHeaders(rp, 503, nil).Fields)); diff != "" {
		t.Errorf("without a body: -want +got:\n%s", diff)
	}
	rt.ResponseOps = nil
	want = []string{":status", "503", "x-theirs", "1", "content-type", "text/plain", "content-length", "3"}
	if diff := cmp.Diff(want, fieldsOf(exchange().replyHTTPHeaders(rp, 503, []byte("why")).Fields)); diff != "" {
		t.Errorf("without mutations: -want +got:\n%s", diff)
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

// TestRefusedByCluster: replies for a cluster that takes no more calls say so
// in Envoy's headers, unless these are suppressed.
func TestRefusedByCluster(t *testing.T) {
	for _, tt := range []struct {
		rp   *call.Reply
		want string
	}{
		{call.ReplyOverflow, "x-envoy-overloaded"},
		{call.ReplyDropOverload, "x-envoy-drop-overload"},
		{call.ReplyDropAll, "x-envoy-unconditional-drop-overload"},
		{call.ReplyNoHealthy, ""},
	} {
		for _, told := range []bool{true, false} {
			want := []string{":status", "503"}
			if told && tt.want != "" {
				want = append(want, tt.want, "true")
			}
			x := headerExchange(&call.Manager{EnvoyHeaders: told}, &call.Route{}, &call.Conn{})
			if diff := cmp.Diff(want, fieldsOf(x.replyHTTPHeaders(tt.rp, 503, nil).Fields)); diff != "" {
				t.Errorf("%s, told %v, not gRPC (-want +got):\n%s", tt.rp.Detail, told, diff)
			}
			want = append([]string{":status", "200"}, want[2:]...)
			want = append(want, "content-type", "application/grpc", "grpc-status", "14", "grpc-message", tt.rp.Message)
			if diff := cmp.Diff(want, fieldsOf(x.replyHeaders(tt.rp))); diff != "" {
				t.Errorf("%s, told %v, gRPC (-want +got):\n%s", tt.rp.Detail, told, diff)
			}
		}
	}
}
