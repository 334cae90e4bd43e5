package grpcproxy_test

import (
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-proxy/sluice/dataplane/grpcproxy"
)

// detailed fails with a status that has details, or with one that has none and
// is in the details' trailer all the same, as servers in Java send it.
func detailed(details bool) func(grpc.ServerStream) error {
	return func(ss grpc.ServerStream) error {
		st := status.New(codes.FailedPrecondition, "no")
		if details {
			var err error
			if st, err = st.WithDetails(&errdetails.ErrorInfo{Reason: "R", Domain: "d"}); err != nil {
				return err
			}
		}
		raw, err := proto.Marshal(st.Proto())
		if err != nil {
			return err
		}
		ss.SetTrailer(metadata.Pairs("grpc-status-details-bin", string(raw), "t", "1"))
		return st.Err()
	}
}

// 1.22, 1.36, 1.43: whoever puts another status in the place of a backend's, or
// makes it a success, leaves nothing of its details: a client that finds two
// statuses takes the call for broken. Other trailers stay.
func TestDetailsGoWithTheirStatus(t *testing.T) {
	replaced := status.Error(codes.NotFound, "other")
	masking := grpc.StreamInterceptor(func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
		if next(srv, ss) == nil {
			return nil
		}
		return replaced
	})
	for _, details := range []bool{true, false} {
		conn := dial(t, startBackend(t, detailed(details)))
		one := func(on func(error) error) grpc.StreamHandler {
			return grpcproxy.TransparentHandler(directed(grpcproxy.One2One, &grpcproxy.ConnBackend{Conn: conn, OnError: on}))
		}
		replicated := &grpcproxy.ConnBackend{Conn: conn, OnError: func(error) error { return nil }}
		for name, tt := range map[string]struct {
			cc   *grpc.ClientConn
			want error
		}{
			"swallowed":   {startProxy(t, one(func(error) error { return nil })), nil},
			"replaced":    {startProxy(t, one(func(error) error { return replaced })), replaced},
			"interceptor": {startProxy(t, one(nil), masking), replaced},
			"many":        {startProxy(t, grpcproxy.TransparentHandler(directed(grpcproxy.One2Many, &shard{ConnBackend: grpcproxy.ConnBackend{Conn: conn}}))), nil},
			"replicated":  {startProxy(t, grpcproxy.TransparentHandler(directed(grpcproxy.Replicated, replicated))), nil},
		} {
			cs := stream(t, testContext(t), tt.cc)
			_ = cs.CloseSend()
			var err error
			for err == nil { // of many there is a message
				_, err = recv(cs)
			}
			if errors.Is(err, io.EOF) {
				err = nil
			}
			if !errors.Is(err, tt.want) {
				t.Errorf("%s, details %v: %v, want %v", name, details, err, tt.want)
			}
			if diff := cmp.Diff([]string{"1"}, cs.Trailer()["t"]); diff != "" {
				t.Errorf("%s, details %v: trailers (-want +got):\n%s", name, details, diff)
			}
		}
	}
}

// 1.22: what is no status is the backend's own business, and passes.
func TestUnknownDetailsPass(t *testing.T) {
	for _, want := range []error{nil, status.Error(codes.Aborted, "no")} {
		raw := "\xff"
		if want == nil { // details of OK are nobody else's to tell
			b, err := proto.Marshal(&spb.Status{Message: "fine"})
			if err != nil {
				t.Fatal(err)
			}
			raw = string(b)
		}
		cs := stream(t, testContext(t), proxied(t, func(ss grpc.ServerStream) error {
			ss.SetTrailer(metadata.Pairs("grpc-status-details-bin", raw))
			return want
		}))
		if _, err := recv(cs); status.Code(err) != status.Code(want) && !errors.Is(err, io.EOF) {
			t.Errorf("got %v, want %v", err, want)
		}
		if diff := cmp.Diff([]string{raw}, cs.Trailer()["grpc-status-details-bin"]); diff != "" {
			t.Errorf("%v (-want +got):\n%s", want, diff)
		}
	}
}
