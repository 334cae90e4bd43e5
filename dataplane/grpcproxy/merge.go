package grpcproxy

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// Response is what one backend answered to a unary One2Many call.
type Response struct {
	Backend Backend
	// Messages has one element, unless the method is streaming after all:
	// with AppendInfo's additions, or made of an error by BuildError. It has
	// none if the error was handled otherwise.
	Messages [][]byte
}

// Merger makes one message of the responses to a unary One2Many call, which
// are in the order of the backends. Safe for concurrent use.
type Merger func(fullMethodName string, responses []Response) ([]byte, error)

// Concatenate is the Merger that joins the bytes. To protobuf that is a merge:
// repeated fields become longer, messages are merged, and of other fields the
// last wins.
func Concatenate(_ string, responses []Response) ([]byte, error) {
	n := 0
	for _, r := range responses {
		for _, m := range r.Messages {
			n += len(m)
		}
	}
	out := make([]byte, 0, n)
	for _, r := range responses {
		for _, m := range r.Messages {
			out = append(out, m...)
		}
	}
	return out, nil
}

// MergeByDescriptor returns a Merger that knows the methods' response types:
// what is no such message is an error that names the backend, and the result
// has every field once. files is protoregistry.GlobalFiles, or has what
// reflection or a descriptor set told.
func MergeByDescriptor(files interface {
	FindDescriptorByName(protoreflect.FullName) (protoreflect.Descriptor, error)
}) Merger {
	return func(method string, responses []Response) ([]byte, error) {
		d, err := files.FindDescriptorByName(methodName(method))
		if err != nil {
			return nil, err
		}
		md, ok := d.(protoreflect.MethodDescriptor)
		if !ok {
			return nil, fmt.Errorf("%s is not a method", d.FullName())
		}
		merged := dynamicpb.NewMessage(md.Output())
		for _, r := range responses {
			for _, b := range r.Messages {
				if err := (proto.UnmarshalOptions{Merge: true}).Unmarshal(b, merged); err != nil {
					return nil, fmt.Errorf("%s: not a %s: %w", r.Backend, md.Output().FullName(), err)
				}
			}
		}
		return proto.Marshal(merged)
	}
}

// methodName makes pkg.Service.Method of /pkg.Service/Method.
func methodName(full string) protoreflect.FullName {
	b := []byte(full)
	if len(b) > 0 && b[0] == '/' {
		b = b[1:]
	}
	for i, c := range b {
		if c == '/' {
			b[i] = '.'
		}
	}
	return protoreflect.FullName(b)
}
