package bootstrap

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"go.yaml.in/yaml/v2"
)

// yamlTree reads the first YAML document. It is YAML 1.1, as Envoy's: y, yes
// and on are true, 0600 is octal.
func yamlTree(data []byte) (any, error) {
	var n yamlNode
	if err := yaml.Unmarshal(data, &n); err != nil {
		return nil, err
	}
	return n.v, nil
}

// yamlNode is a node of any kind. Reading into any would take keys for what
// they look like (the key y becomes true); a key is its text.
type yamlNode struct{ v any }

// UnmarshalYAML implements yaml.Unmarshaler.
func (n *yamlNode) UnmarshalYAML(unmarshal func(any) error) error {
	var m map[string]yamlNode
	if unmarshal(&m) == nil {
		if m != nil {
			obj := make(map[string]any, len(m))
			for k, e := range m {
				obj[k] = e.v
			}
			n.v = obj
		}
		return nil
	}
	var l []yamlNode
	if unmarshal(&l) == nil {
		items := make([]any, len(l))
		for i, e := range l {
			items[i] = e.v
		}
		n.v = items
		return nil
	}
	var s any
	if err := unmarshal(&s); err != nil {
		return err
	}
	switch s := s.(type) {
	case nil, bool, string:
		n.v = s
	case int, int64, uint64:
		n.v = json.Number(fmt.Sprint(s))
	case float64:
		n.v = floatNode(s)
	default:
		return fmt.Errorf("yaml: a key is no plain text, or a value of type %T", s)
	}
	return nil
}

func floatNode(f float64) any {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	return json.Number(strconv.FormatFloat(f, 'g', -1, 64))
}
