package xdsclient

import (
	"context"

	"google.golang.org/protobuf/proto"
)

// Transport opens streams to the control plane. A Client opens one at a time.
type Transport interface {
	// Open makes one attempt to open a stream of the gRPC method (a full one:
	// "/service/method") and returns when the stream is usable or the attempt
	// has failed. The stream ends when ctx does.
	Open(ctx context.Context, method string) (Stream, error)
}

// Stream is one bidirectional stream. One Send may overlap one Recv.
type Stream interface {
	// Send writes one message. It may block for flow control. An io.EOF says
	// that the stream has ended and that Recv knows why.
	Send(m proto.Message) error
	// Recv reads the next message into m, which is empty. It returns io.EOF if
	// the server ended the stream without an error.
	Recv(m proto.Message) error
	// Close ends the stream, if it has not ended, and frees what belongs to it.
	// No Send or Recv is under way then, and none follows.
	Close()
}
