package hpack

import "github.com/sluice-proxy/sluice/dataplane/h2/hdr"

// Field is one header field.
type Field struct {
	Name, Value    string
	hash, nameHash uint32
	ID             hdr.ID
	flag           uint8
}

// NewField returns a field with its hashes computed.
func NewField(name, value string) Field { return Field{Name: name, Value: value} }

// Block is a list of fields and the memory their strings live in.
type Block struct {
	Fields []Field
}
