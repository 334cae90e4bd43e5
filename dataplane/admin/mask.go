package admin

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// mask is a FieldMask as /config_dump takes it: names of fields, of nested
// ones behind a dot. Where a field is an Any, the path goes on in the message
// inside, as in Envoy.
type mask map[string]mask

// parseMask parses comma-separated paths. A path without a tail keeps the
// whole field.
func parseMask(s string) mask {
	m := mask{}
	for path := range strings.SplitSeq(s, ",") {
		at := m
		for name := range strings.SplitSeq(path, ".") {
			if at[name] == nil {
				at[name] = mask{}
			}
			at = at[name]
		}
	}
	return m
}

// trim clears the fields of m that are not in the mask. It fails, with m half
// trimmed, if a path does not lead to a field.
func (k mask) trim(m protoreflect.Message) error {
	for name := range k {
		if m.Descriptor().Fields().ByName(protoreflect.Name(name)) == nil {
			return fmt.Errorf("%q is no field of %s", name, m.Descriptor().FullName())
		}
	}
	var err error
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		sub, ok := k[string(fd.Name())]
		switch {
		case !ok:
			m.Clear(fd)
		case len(sub) == 0: // all of it
		case fd.Message() == nil || fd.IsList() || fd.IsMap():
			err = fmt.Errorf("%q has no fields to choose from", fd.Name())
		default:
			err = sub.trimBelow(v.Message())
		}
		return err == nil
	})
	return err
}

func (k mask) trimBelow(m protoreflect.Message) error {
	x, ok := m.Interface().(*anypb.Any)
	if !ok {
		return k.trim(m)
	}
	inner, err := x.UnmarshalNew()
	if err != nil {
		return err
	}
	if err := k.trim(inner.ProtoReflect()); err != nil {
		return err
	}
	return x.MarshalFrom(inner)
}

// elements returns the messages of the repeated field of that name in the
// first part that has it; found is false if there is none.
func elements(parts []proto.Message, name string) (out []proto.Message, found bool, err error) {
	for _, p := range parts {
		m := p.ProtoReflect()
		fd := m.Descriptor().Fields().ByName(protoreflect.Name(name))
		switch {
		case fd == nil:
			continue
		case !fd.IsList() || fd.Message() == nil:
			return nil, true, fmt.Errorf("%s is not a repeated field. Use ?mask=%s to get only this field", name, name)
		}
		list := m.Get(fd).List()
		for i := range list.Len() {
			out = append(out, list.Get(i).Message().Interface())
		}
		return out, true, nil
	}
	return nil, false, nil
}
