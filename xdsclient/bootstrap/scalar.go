package bootstrap

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// want names the JSON form of a field, for errors.
func want(fd protoreflect.FieldDescriptor) string {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return "true or false"
	case protoreflect.StringKind:
		return "a string"
	case protoreflect.BytesKind:
		return "a base64 string"
	case protoreflect.EnumKind:
		return "a value of " + string(fd.Enum().FullName())
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return "a number"
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return "an object"
	default:
		return "an integer (" + fd.Kind().String() + ")"
	}
}

// scalar converts one JSON value to a field that is no message.
func (d *decoder) scalar(v any, fd protoreflect.FieldDescriptor, path string) (protoreflect.Value, bool) {
	x, ok := convert(v, fd)
	if !ok {
		d.fail(path, "want %s, have %s", want(fd), kindOf(v))
	}
	return x, ok
}

func convert(v any, fd protoreflect.FieldDescriptor) (protoreflect.Value, bool) {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		b, ok := v.(bool)
		return protoreflect.ValueOfBool(b), ok
	case protoreflect.StringKind:
		s, ok := v.(string)
		return protoreflect.ValueOfString(s), ok && utf8.ValidString(s)
	case protoreflect.BytesKind:
		s, ok := v.(string)
		b, err := decodeBase64(s)
		return protoreflect.ValueOfBytes(b), ok && err == nil
	case protoreflect.EnumKind:
		n, ok := enumNumber(v, fd.Enum())
		return protoreflect.ValueOfEnum(n), ok
	case protoreflect.FloatKind:
		f, ok := number(v, 32)
		return protoreflect.ValueOfFloat32(float32(f)), ok
	case protoreflect.DoubleKind:
		f, ok := number(v, 64)
		return protoreflect.ValueOfFloat64(f), ok
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		n, ok := integer(v, 32)
		return protoreflect.ValueOfInt32(int32(n)), ok
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		n, ok := integer(v, 64)
		return protoreflect.ValueOfInt64(n), ok
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		n, ok := unsigned(v, 32)
		return protoreflect.ValueOfUint32(uint32(n)), ok
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		n, ok := unsigned(v, 64)
		return protoreflect.ValueOfUint64(n), ok
	}
	return protoreflect.Value{}, false
}

func (d *decoder) mapKey(key string, fd protoreflect.FieldDescriptor, path string) (protoreflect.MapKey, bool) {
	var v any = key
	if fd.Kind() == protoreflect.BoolKind {
		b, err := strconv.ParseBool(key)
		if err != nil {
			d.fail(path, "the key is no bool")
			return protoreflect.MapKey{}, false
		}
		v = b
	}
	x, ok := convert(v, fd)
	if !ok {
		d.fail(path, "the key is not %s", want(fd))
		return protoreflect.MapKey{}, false
	}
	return x.MapKey(), true
}

// digits is the text of a number, which may be quoted.
func digits(v any) (string, bool) {
	switch v := v.(type) {
	case json.Number:
		return v.String(), true
	case string:
		return v, v != "" && v == strings.TrimSpace(v) && !strings.ContainsAny(v, "_xX")
	}
	return "", false
}

func integer(v any, bits int) (int64, bool) {
	s, ok := digits(v)
	if !ok {
		return 0, false
	}
	if n, err := strconv.ParseInt(s, 10, bits); err == nil {
		return n, true
	}
	f, ok := whole(s)
	lim := math.Ldexp(1, bits-1)
	if !ok || f < -lim || f >= lim {
		return 0, false
	}
	return int64(f), true
}

func unsigned(v any, bits int) (uint64, bool) {
	s, ok := digits(v)
	if !ok {
		return 0, false
	}
	if n, err := strconv.ParseUint(s, 10, bits); err == nil {
		return n, true
	}
	f, ok := whole(s)
	if !ok || f < 0 || f >= math.Ldexp(1, bits) {
		return 0, false
	}
	return uint64(f), true
}

// whole reads an integer that is written as a fraction or with an exponent:
// 1e3, 100.0.
func whole(s string) (float64, bool) {
	if !strings.ContainsAny(s, ".eE") {
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil && f == math.Trunc(f)
}

func number(v any, bits int) (float64, bool) {
	s, ok := digits(v)
	if !ok {
		return 0, false
	}
	switch s {
	case "NaN":
		return math.NaN(), true
	case "Infinity":
		return math.Inf(1), true
	case "-Infinity":
		return math.Inf(-1), true
	}
	f, err := strconv.ParseFloat(s, bits)
	return f, err == nil && !math.IsNaN(f) && !math.IsInf(f, 0)
}

// enumNumber finds a value by number or by name, in any case and with dashes
// for underscores, as Envoy does.
func enumNumber(v any, ed protoreflect.EnumDescriptor) (protoreflect.EnumNumber, bool) {
	name, ok := v.(string)
	if !ok {
		n, ok := integer(v, 32)
		return protoreflect.EnumNumber(n), ok
	}
	if e := ed.Values().ByName(protoreflect.Name(name)); e != nil {
		return e.Number(), true
	}
	name = strings.ReplaceAll(name, "-", "_")
	for i := range ed.Values().Len() {
		if e := ed.Values().Get(i); strings.EqualFold(string(e.Name()), name) {
			return e.Number(), true
		}
	}
	return 0, false
}

// decodeBase64 takes both alphabets, with padding or without.
func decodeBase64(s string) ([]byte, error) {
	enc := base64.RawStdEncoding
	if strings.ContainsAny(s, "-_") {
		enc = base64.RawURLEncoding
	}
	return enc.DecodeString(strings.TrimRight(s, "="))
}
