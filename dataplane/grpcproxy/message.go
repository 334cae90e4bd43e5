package grpcproxy

import (
	"errors"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/runtime/protoiface"
	"google.golang.org/protobuf/types/known/emptypb"
)

var errNotFrame = errors.New("grpcproxy: the proxy's calls carry frames only")

// ProtoReflect makes a Frame a protobuf message whose encoding is its payload,
// whatever that is: with a server or connection that was not given this
// package's codec, grpc-go's protobuf codec then passes the bytes through. It
// copies them, but neither parses them nor needs them to be protobuf.
func (f *Frame) ProtoReflect() protoreflect.Message {
	return frameMessage{Message: new(emptypb.Empty).ProtoReflect(), frame: f}
}

// frameMessage looks like google.protobuf.Empty and encodes itself.
type frameMessage struct {
	protoreflect.Message
	frame *Frame
}

// Interface implements protoreflect.Message.
func (m frameMessage) Interface() protoreflect.ProtoMessage { return m.frame }

// New implements protoreflect.Message.
func (m frameMessage) New() protoreflect.Message { return new(Frame).ProtoReflect() }

// IsValid implements protoreflect.Message.
func (m frameMessage) IsValid() bool { return m.frame != nil }

// GetUnknown implements protoreflect.Message.
func (m frameMessage) GetUnknown() protoreflect.RawFields { return m.frame.Data() }

// SetUnknown implements protoreflect.Message.
func (m frameMessage) SetUnknown(b protoreflect.RawFields) { m.frame.Set(append([]byte(nil), b...)) }

// ProtoMethods implements protoreflect.Message.
func (m frameMessage) ProtoMethods() *protoiface.Methods { return &frameMethods }

// frameMethods is read-only.
var frameMethods = protoiface.Methods{
	Size: func(in protoiface.SizeInput) protoiface.SizeOutput {
		return protoiface.SizeOutput{Size: in.Message.(frameMessage).frame.Len()}
	},
	Marshal: func(in protoiface.MarshalInput) (protoiface.MarshalOutput, error) {
		buf := in.Buf
		for _, b := range in.Message.(frameMessage).frame.data {
			buf = append(buf, b.ReadOnlyData()...)
		}
		return protoiface.MarshalOutput{Buf: buf}, nil
	},
	Unmarshal: func(in protoiface.UnmarshalInput) (protoiface.UnmarshalOutput, error) {
		in.Message.(frameMessage).frame.Set(append([]byte(nil), in.Buf...)) // in.Buf goes back to a pool
		return protoiface.UnmarshalOutput{Flags: protoiface.UnmarshalInitialized}, nil
	},
	CheckInitialized: func(protoiface.CheckInitializedInput) (protoiface.CheckInitializedOutput, error) {
		return protoiface.CheckInitializedOutput{}, nil
	},
	Merge: func(in protoiface.MergeInput) protoiface.MergeOutput {
		src, ok := in.Source.(frameMessage)
		dst, ok2 := in.Destination.(frameMessage)
		if !ok || !ok2 {
			return protoiface.MergeOutput{}
		}
		dst.frame.Set(append(dst.frame.Data(), src.frame.Data()...)) // as protobuf: concatenation merges
		return protoiface.MergeOutput{Flags: protoiface.MergeComplete}
	},
}
