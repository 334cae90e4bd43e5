package bootstrap

import (
	"errors"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// validate checks the rules that the API's own definition states
// (protoc-gen-validate). What is inside an Any is checked by who compiles it.
func validate(m proto.Message) error {
	v, ok := m.(interface{ ValidateAll() error })
	if !ok {
		return nil
	}
	err := v.ValidateAll()
	if err == nil {
		return nil
	}
	return errors.Join(flatten(err, m.ProtoReflect().Descriptor(), "")...)
}

// What the generated errors have in common.
type (
	ruleError interface {
		Field() string // Go's name with an index or key: "Clusters[0]"
		Reason() string
		Cause() error
	}
	ruleErrors interface{ AllErrors() []error }
)

// flatten turns a tree of generated errors into one error per field.
func flatten(err error, md protoreflect.MessageDescriptor, path string) []error {
	switch e := err.(type) { //nolint:errorlint // the tree is taken apart
	case ruleErrors:
		var out []error
		for _, sub := range e.AllErrors() {
			out = append(out, flatten(sub, md, path)...)
		}
		return out
	case ruleError:
		name, index, _ := strings.Cut(e.Field(), "[")
		var next protoreflect.MessageDescriptor
		switch d := byGoName(md, name).(type) {
		case protoreflect.FieldDescriptor:
			name, next = d.TextName(), d.Message()
			if d.IsMap() {
				next = d.MapValue().Message()
			}
		case protoreflect.OneofDescriptor:
			name = string(d.Name())
		}
		if index != "" {
			name += "[" + index
		}
		path = join(path, name)
		if cause := e.Cause(); cause != nil {
			return flatten(cause, next, path)
		}
		return []error{&FieldError{Path: path, Problem: e.Reason()}}
	}
	return []error{&FieldError{Path: path, Problem: err.Error()}}
}

// byGoName finds a field or oneof by its name in generated code.
func byGoName(md protoreflect.MessageDescriptor, name string) protoreflect.Descriptor {
	if md == nil {
		return nil
	}
	plain := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, "_", "")) }
	for i := range md.Fields().Len() {
		if fd := md.Fields().Get(i); plain(string(fd.Name())) == plain(name) {
			return fd
		}
	}
	for i := range md.Oneofs().Len() {
		if od := md.Oneofs().Get(i); plain(string(od.Name())) == plain(name) {
			return od
		}
	}
	return nil
}
