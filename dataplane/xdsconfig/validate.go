package xdsconfig

import (
	"strings"
	"unicode"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// validator is what protoc-gen-validate generates.
type validator interface{ ValidateAll() error }

// violation is one of its errors. Field is a Go name, "VirtualHosts[0]".
type violation interface {
	Field() string
	Reason() string
	Cause() error
}

// validate runs the message's own generated validation and reports its errors
// by the fields' proto names. It does not look into Anys: unpack does.
func (a *at) validate(m proto.Message) {
	if v, ok := m.(validator); ok {
		if err := v.ValidateAll(); err != nil {
			a.violations(err)
		}
	}
}

// Validate runs only the generated validation of a message: of a resource that
// this package does not compile.
func Validate(m proto.Message, kind, name string, env *Env) error {
	r := &report{kind: kind, name: name, env: env}
	r.root().validate(m)
	return r.done()
}

func (a *at) violations(err error) {
	if all, ok := err.(interface{ AllErrors() []error }); ok {
		for _, e := range all.AllErrors() {
			a.violations(e)
		}
		return
	}
	v, ok := err.(violation)
	if !ok {
		a.checkf("%s", err)
		return
	}
	here := a.goField(v.Field())
	if v.Cause() != nil {
		here.violations(v.Cause())
		return
	}
	here.checkf("%s", v.Reason())
}

// goField returns the place of a field named as in Go: "LbEndpoints[2]" is
// lb_endpoints[2].
func (a *at) goField(name string) *at {
	name, index, _ := strings.Cut(name, "[")
	var b strings.Builder
	for i, c := range name {
		if unicode.IsUpper(c) {
			if i > 0 && name[i-1] != '_' {
				b.WriteByte('_')
			}
			c = unicode.ToLower(c)
		}
		b.WriteRune(c)
	}
	if index != "" {
		b.WriteByte('[')
		b.WriteString(index)
	}
	return a.field(b.String())
}

// known reports fields that this build's protobufs do not know.
func (a *at) known(m protoreflect.Message) {
	if len(m.GetUnknown()) > 0 {
		a.checkf("%s has unknown fields", m.Descriptor().FullName())
	}
	for i := range m.Descriptor().Fields().Len() { // in their order, which Message.Range does not keep
		fd := m.Descriptor().Fields().Get(i)
		if !m.Has(fd) {
			continue
		}
		name, v := string(fd.Name()), m.Get(fd)
		switch {
		case fd.IsMap():
			if fd.MapValue().Message() != nil {
				for _, k := range sortedKeys(v.Map()) {
					a.field(name + "[" + k.String() + "]").known(v.Map().Get(k).Message())
				}
			}
		case fd.Message() == nil:
		case fd.IsList():
			for i := range v.List().Len() {
				a.item(name, i).known(v.List().Get(i).Message())
			}
		default:
			a.field(name).known(v.Message())
		}
	}
}
