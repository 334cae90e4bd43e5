package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/protobuf/proto"
)

// compressedCases are the interop tests of per-message compression. grpc-go's
// and grpc-js's programs lack them, because their APIs neither choose nor show
// the flag of a message: so both ends are here, on net/http, and what is
// asserted is what stands on the wire.
// https://github.com/grpc/grpc/blob/master/doc/interop-test-descriptions.md
var compressedCases = []struct {
	name string
	run  func(context.Context, *rawClient) error
}{
	{"client_compressed_unary", clientCompressedUnary},
	{"server_compressed_unary", serverCompressedUnary},
	{"client_compressed_streaming", clientCompressedStreaming},
	{"server_compressed_streaming", serverCompressedStreaming},
}

func (h *harness) interopCompressed(ctx context.Context, r *result) error {
	b, err := startBackend(http.HandlerFunc(serveCompressed))
	if err != nil {
		return err
	}
	defer b.stop()
	p, err := h.proxy.start(ctx, "interop-compressed", b.host, b.port)
	if err != nil {
		return err
	}
	defer p.stop()
	c := newRawClient("http://" + p.addr())
	defer c.close()
	for _, tt := range compressedCases {
		if !match(h.pattern, tt.name) {
			continue
		}
		ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("took longer than a minute"))
		err := tt.run(ctx, c)
		cancel()
		if err != nil {
			r.failed = append(r.failed, failure{tt.name, err.Error()})
		} else {
			r.passed++
		}
	}
	return nil
}

const (
	unaryMethod           = "/grpc.testing.TestService/UnaryCall"
	streamingInputMethod  = "/grpc.testing.TestService/StreamingInputCall"
	streamingOutputMethod = "/grpc.testing.TestService/StreamingOutputCall"
)

func zeros(n int) *testpb.Payload { return &testpb.Payload{Body: make([]byte, n)} }

func yes(v bool) *testpb.BoolValue { return &testpb.BoolValue{Value: v} }

// clientCompressedUnary: a probe that says it is compressed and is not is an
// invalid argument; then one that is, and one that says it is not.
func clientCompressedUnary(ctx context.Context, c *rawClient) error {
	ask := func(says, is bool) (*rawReply, error) {
		return c.call(ctx, unaryMethod, rawMessage{compressed: is, m: &testpb.SimpleRequest{
			ExpectCompressed: yes(says), ResponseSize: 314159, Payload: zeros(271828)}})
	}
	probe, err := ask(true, false)
	if err != nil {
		return err
	}
	if probe.code != codes.InvalidArgument {
		return fmt.Errorf("the probe: %s, want InvalidArgument", probe.code)
	}
	for _, compressed := range []bool{true, false} {
		r, err := ask(compressed, compressed)
		if err != nil {
			return err
		}
		if err := r.unary(314159); err != nil {
			return fmt.Errorf("compressed %v: %w", compressed, err)
		}
	}
	return nil
}

// serverCompressedUnary: the response is compressed if the request asks for it.
func serverCompressedUnary(ctx context.Context, c *rawClient) error {
	for _, compressed := range []bool{true, false} {
		r, err := c.call(ctx, unaryMethod, rawMessage{m: &testpb.SimpleRequest{
			ResponseCompressed: yes(compressed), ResponseSize: 314159, Payload: zeros(271828)}})
		if err != nil {
			return err
		}
		if err := r.unary(314159); err != nil {
			return fmt.Errorf("compressed %v: %w", compressed, err)
		}
		if got := r.messages[0].compressed; got != compressed {
			return fmt.Errorf("the response's flag is %v, want %v", got, compressed)
		}
	}
	return nil
}

// clientCompressedStreaming: a stream of a compressed message and one that is
// not, after a probe as in clientCompressedUnary.
func clientCompressedStreaming(ctx context.Context, c *rawClient) error {
	message := func(size int, says, is bool) rawMessage {
		return rawMessage{compressed: is, m: &testpb.StreamingInputCallRequest{ExpectCompressed: yes(says), Payload: zeros(size)}}
	}
	probe, err := c.call(ctx, streamingInputMethod, message(27182, true, false))
	if err != nil {
		return err
	}
	if probe.code != codes.InvalidArgument {
		return fmt.Errorf("the probe: %s, want InvalidArgument", probe.code)
	}
	r, err := c.call(ctx, streamingInputMethod, message(27182, true, true), message(45904, false, false))
	if err != nil {
		return err
	}
	if r.code != codes.OK || len(r.messages) != 1 {
		return fmt.Errorf("%s with %d messages", r.code, len(r.messages))
	}
	var resp testpb.StreamingInputCallResponse
	if err := proto.Unmarshal(r.messages[0].data, &resp); err != nil {
		return err
	}
	if got := resp.GetAggregatedPayloadSize(); got != 73086 {
		return fmt.Errorf("aggregated payload size %d, want 73086", got)
	}
	return nil
}

// serverCompressedStreaming: of two responses the first is compressed.
func serverCompressedStreaming(ctx context.Context, c *rawClient) error {
	r, err := c.call(ctx, streamingOutputMethod, rawMessage{m: &testpb.StreamingOutputCallRequest{
		ResponseParameters: []*testpb.ResponseParameters{
			{Compressed: yes(true), Size: 31415}, {Compressed: yes(false), Size: 92653},
		}}})
	if err != nil {
		return err
	}
	if r.code != codes.OK || len(r.messages) != 2 {
		return fmt.Errorf("%s with %d messages", r.code, len(r.messages))
	}
	for i, size := range []int{31415, 92653} {
		if got, want := r.messages[i].compressed, i == 0; got != want {
			return fmt.Errorf("the flag of response %d is %v, want %v", i+1, got, want)
		}
		var resp testpb.StreamingOutputCallResponse
		if err := proto.Unmarshal(r.messages[i].data, &resp); err != nil {
			return err
		}
		if !bytes.Equal(resp.GetPayload().GetBody(), make([]byte, size)) {
			return fmt.Errorf("response %d has %d bytes, or others than zeros; want %d", i+1, len(resp.GetPayload().GetBody()), size)
		}
	}
	return nil
}

// unary checks a response to UnaryCall.
func (r *rawReply) unary(size int) error {
	if r.code != codes.OK || len(r.messages) != 1 {
		return fmt.Errorf("%s with %d messages", r.code, len(r.messages))
	}
	var resp testpb.SimpleResponse
	if err := proto.Unmarshal(r.messages[0].data, &resp); err != nil {
		return err
	}
	if !bytes.Equal(resp.GetPayload().GetBody(), make([]byte, size)) {
		return fmt.Errorf("%d bytes, or others than zeros; want %d", len(resp.GetPayload().GetBody()), size)
	}
	return nil
}
