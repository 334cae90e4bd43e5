package xdsconfig

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// TestSupportTable: every field of a judged message has exactly one verdict,
// and every verdict is about a field. A new version of the protobufs with more
// fields fails here, and asks for a decision.
func TestSupportTable(t *testing.T) {
	seen := make(map[protoreflect.FullName]bool)
	for _, j := range judgements {
		md := j.message.ProtoReflect().Descriptor()
		if seen[md.FullName()] {
			t.Errorf("%s: judged twice", md.FullName())
		}
		seen[md.FullName()] = true
		verdicts := make(map[string]int)
		for _, names := range []string{j.fields.honoured, j.fields.inert, j.fields.ignored, j.fields.refused} {
			for name := range strings.FieldsSeq(names) {
				verdicts[name]++
			}
		}
		for i := range md.Fields().Len() {
			name := string(md.Fields().Get(i).Name())
			if n := verdicts[name]; n != 1 {
				t.Errorf("%s.%s: %s", md.FullName(), name, fmt.Sprintf("%d verdicts, want 1", n))
			}
			delete(verdicts, name)
		}
		for name := range j.fields.notes {
			if md.Fields().ByName(protoreflect.Name(name)) == nil {
				t.Errorf("%s: a note on %s, which is no field", md.FullName(), name)
			}
		}
		for name := range verdicts {
			t.Errorf("%s has no field %s", md.FullName(), name)
		}
	}
}
