package bootstrap

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"google.golang.org/protobuf/proto"
)

// FieldError is a problem with one field.
type FieldError struct {
	Path    string // e.g. static_resources.clusters[0].connect_timeout; empty: the whole
	Problem string
}

func (e *FieldError) Error() string {
	if e.Path == "" {
		return e.Problem
	}
	return e.Path + ": " + e.Problem
}

// Parse reads one bootstrap, in YAML or JSON. The error joins a *FieldError for
// every field that is wrong. Nothing is filled in and nothing validated beyond
// the types of fields: Load does that.
func Parse(data []byte, o Options) (*bootstrapv3.Bootstrap, error) {
	b := &bootstrapv3.Bootstrap{}
	if err := Unmarshal(data, b, o); err != nil {
		return nil, err
	}
	return b, nil
}

// Unmarshal reads YAML or JSON into m as Parse does. An Any of a type that is
// not linked in becomes an Any of xds.type.v3.TypedStruct that names the type
// and holds its fields, so that whoever needs it can say what is missing.
func Unmarshal(data []byte, m proto.Message, o Options) error {
	v, err := tree(data)
	if err != nil {
		return err
	}
	d := decoder{opts: o}
	if v != nil {
		d.message(v, m.ProtoReflect(), "")
	}
	return errors.Join(d.errs...)
}

// tree reads YAML or JSON into maps, slices, strings, bools and json.Numbers.
// What looks like JSON is tried as such first: YAML does not have all of it
// (tabs), and its reader is slower.
func tree(data []byte) (any, error) {
	if t := bytes.TrimLeft(data, " \t\r\n"); len(t) > 0 && t[0] == '{' {
		if v, err := jsonTree(data); err == nil {
			return v, nil
		}
	}
	return yamlTree(data)
}

func jsonTree(data []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, fmt.Errorf("json: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("json: more than one value")
	}
	return v, nil
}
