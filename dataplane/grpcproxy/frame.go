package grpcproxy

import (
	"fmt"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// Frame is one message as it was on the wire, without gRPC's five-byte prefix
// and decompressed. It is what the proxy receives and sends; handlers and
// interceptors may do the same with the codec of this package.
//
// # Ownership
//
// A Frame owns one reference to each of its buffers. Receiving into a Frame
// takes a reference of its own and gives up those of what the Frame held
// before. Sending a Frame takes further references for the transport, so the
// Frame may be freed, or received into again, as soon as SendMsg has returned.
// Whoever made the Frame calls Free when done with it; a Frame that is dropped
// instead is left to the garbage collector, and its buffers do not go back to
// their pool.
//
// The zero value is an empty message. A Frame is not safe for concurrent use;
// Clone gives another goroutine its own.
type Frame struct {
	// data's elements are never changed in place: a transport may hold the
	// same array.
	data mem.BufferSlice
}

// NewFrame returns a *Frame with the given payload, for use with SendMsg. The
// payload is not copied: it belongs to the frame and must not change.
func NewFrame(payload []byte) any { return FrameOf(payload) }

// FrameOf is NewFrame with its type.
func FrameOf(payload []byte) *Frame {
	f := new(Frame)
	f.Set(payload)
	return f
}

// Len returns the number of bytes.
func (f *Frame) Len() int { return f.data.Len() }

// Data returns a copy of the payload, which the caller owns.
func (f *Frame) Data() []byte { return f.data.Materialize() }

// Set makes payload the content of the frame. It is not copied: it belongs to
// the frame and must not change.
func (f *Frame) Set(payload []byte) {
	f.Free()
	if len(payload) > 0 {
		f.data = mem.BufferSlice{mem.SliceBuffer(payload)}
	}
}

// ParseAs decodes the payload into m.
func (f *Frame) ParseAs(m proto.Message) error {
	b := f.data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer b.Free()
	if err := proto.Unmarshal(b.ReadOnlyData(), m); err != nil {
		return fmt.Errorf("grpcproxy: frame as %s: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	return nil
}

// Clone returns a frame with the same content and references of its own.
func (f *Frame) Clone() *Frame {
	f.data.Ref()
	return &Frame{data: f.data}
}

// Free gives up the frame's buffers and leaves it empty. It may be called
// again, and the frame may be used again.
func (f *Frame) Free() {
	f.data.Free()
	f.data = nil
}

// Reset is Free; it makes a Frame a message.
func (f *Frame) Reset() { f.Free() }

// String tells the length, never the content: frames end up in logs.
func (f *Frame) String() string { return fmt.Sprintf("frame of %d bytes", f.Len()) }

// receive takes over what a codec was given to decode.
func (f *Frame) receive(data mem.BufferSlice) {
	data.Ref() // before the old content goes: it may be the same
	f.data.Free()
	f.data = data
}

// share returns the content for a transport to send and free.
func (f *Frame) share() mem.BufferSlice {
	f.data.Ref()
	return f.data
}
