package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/protobuf/proto"
)

// rawMessage is a length-prefixed message of gRPC with its flag.
type rawMessage struct {
	compressed bool
	m          proto.Message // to be sent
	data       []byte        // received, without compression
}

// append appends the message's bytes on the wire.
func (m rawMessage) append(b []byte) ([]byte, error) {
	data, err := proto.Marshal(m.m)
	if err != nil {
		return nil, err
	}
	flag := byte(0)
	if m.compressed {
		var z bytes.Buffer
		zw := gzip.NewWriter(&z)
		if _, err := zw.Write(data); err != nil {
			return nil, err
		}
		if err := zw.Close(); err != nil {
			return nil, err
		}
		data, flag = z.Bytes(), 1
	}
	b = binary.BigEndian.AppendUint32(append(b, flag), uint32(len(data)))
	return append(b, data...), nil
}

// readRaw reads a message. A compressed one must come with encoding gzip.
func readRaw(r io.Reader, encoding string) (rawMessage, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return rawMessage{}, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if head[0] > 1 || n > maxMessage {
		return rawMessage{}, fmt.Errorf("message with flag %d and %d bytes", head[0], n)
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(r, data); err != nil {
		return rawMessage{}, fmt.Errorf("message cut off: %w", err)
	}
	if head[0] == 0 {
		return rawMessage{data: data}, nil
	}
	if encoding != "gzip" {
		return rawMessage{}, fmt.Errorf("compressed message with grpc-encoding %q", encoding)
	}
	zr, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return rawMessage{}, err
	}
	data, err = io.ReadAll(io.LimitReader(zr, maxMessage))
	return rawMessage{compressed: true, data: data}, err
}

// rawClient makes calls over one connection.
type rawClient struct {
	base string
	tr   *http.Transport
}

func newRawClient(base string) *rawClient {
	c := &rawClient{base: base, tr: &http.Transport{Protocols: new(http.Protocols)}}
	c.tr.Protocols.SetUnencryptedHTTP2(true)
	return c
}

func (c *rawClient) close() { c.tr.CloseIdleConnections() }

// rawReply is what a call brought.
type rawReply struct {
	messages []rawMessage
	code     codes.Code
}

// call sends messages, ends the request and reads the answer.
func (c *rawClient) call(ctx context.Context, method string, messages ...rawMessage) (*rawReply, error) {
	var body []byte
	for _, m := range messages {
		var err error
		if body, err = m.append(body); err != nil {
			return nil, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+method, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for k, v := range map[string]string{
		"Content-Type": "application/grpc", "TE": "trailers", "Grpc-Encoding": "gzip", "Grpc-Accept-Encoding": "identity,gzip",
	} {
		req.Header.Set(k, v)
	}
	resp, err := c.tr.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	r := &rawReply{}
	for {
		m, err := readRaw(resp.Body, resp.Header.Get("Grpc-Encoding"))
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		r.messages = append(r.messages, m)
	}
	text := resp.Trailer.Get("Grpc-Status")
	if text == "" {
		text = resp.Header.Get("Grpc-Status") // trailers only
	}
	code, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("HTTP status %s, grpc-status %q", resp.Status, text)
	}
	r.code = codes.Code(code)
	return r, nil
}

// serveCompressed is the TestService as far as the cases need it.
func serveCompressed(w http.ResponseWriter, req *http.Request) {
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Grpc-Encoding", "gzip")
	code := codes.Unimplemented
	switch req.URL.Path {
	case unaryMethod:
		code = serveUnary(w, req)
	case streamingInputMethod:
		code = serveStreamingInput(w, req)
	case streamingOutputMethod:
		code = serveStreamingOutput(w, req)
	}
	w.Header().Set(http.TrailerPrefix+"Grpc-Status", strconv.Itoa(int(code)))
}

// receive reads a request into m and checks the flag against what it says.
func receive(req *http.Request, m interface {
	proto.Message
	GetExpectCompressed() *testpb.BoolValue
}) (codes.Code, error) {
	in, err := readRaw(req.Body, req.Header.Get("Grpc-Encoding"))
	if err != nil {
		return codes.Internal, err
	}
	if err := proto.Unmarshal(in.data, m); err != nil {
		return codes.Internal, err
	}
	if e := m.GetExpectCompressed(); e != nil && e.GetValue() != in.compressed {
		return codes.InvalidArgument, errors.New("the flag is not what the message says")
	}
	return codes.OK, nil
}

func reply(w http.ResponseWriter, m proto.Message, compressed bool) codes.Code {
	b, err := rawMessage{m: m, compressed: compressed}.append(nil)
	if err != nil {
		return codes.Internal
	}
	if _, err := w.Write(b); err != nil {
		return codes.Unavailable // nobody reads it
	}
	return codes.OK
}

func serveUnary(w http.ResponseWriter, req *http.Request) codes.Code {
	var in testpb.SimpleRequest
	if code, err := receive(req, &in); err != nil {
		return code
	}
	return reply(w, &testpb.SimpleResponse{Payload: zeros(int(in.GetResponseSize()))}, in.GetResponseCompressed().GetValue())
}

func serveStreamingInput(w http.ResponseWriter, req *http.Request) codes.Code {
	sum := 0
	for {
		var in testpb.StreamingInputCallRequest
		code, err := receive(req, &in)
		if errors.Is(err, io.EOF) {
			return reply(w, &testpb.StreamingInputCallResponse{AggregatedPayloadSize: int32(sum)}, false)
		}
		if err != nil {
			return code
		}
		sum += len(in.GetPayload().GetBody())
	}
}

func serveStreamingOutput(w http.ResponseWriter, req *http.Request) codes.Code {
	in, err := readRaw(req.Body, req.Header.Get("Grpc-Encoding"))
	if err != nil {
		return codes.Internal
	}
	var m testpb.StreamingOutputCallRequest
	if err := proto.Unmarshal(in.data, &m); err != nil {
		return codes.Internal
	}
	for _, p := range m.GetResponseParameters() {
		if code := reply(w, &testpb.StreamingOutputCallResponse{Payload: zeros(int(p.GetSize()))}, p.GetCompressed().GetValue()); code != codes.OK {
			return code
		}
	}
	return codes.OK
}
