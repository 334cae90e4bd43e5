package xdsconfig

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const supportDoc = "../../docs/xds-support.md"

const supportIntro = `# xDS support, field by field

Generated from the protobuf descriptors and the verdicts in ` + "`dataplane/xdsconfig/support_table.go`" + `, which the compiler obeys;
` + "`go test ./dataplane/xdsconfig -run Docs -update`" + ` rewrites this page.

| word | what happens to a resource that sets the field |
|---|---|
| honoured | it does what Envoy's documentation says |
| inert | accepted: there is nothing for it to do in this proxy |
| ignored | accepted with a warning: calls flow as if it were not set |
| refused | the resource is refused by name, field and reason: without the field calls would go elsewhere, or unprotected |

Messages that are not listed are honoured as a whole where a listed field leads to them. Extensions are known by type URL;
those that are not linked in are refused, unless the field that names them is optional and says so.
`

// TestDocsSupport holds the page to the code.
func TestDocsSupport(t *testing.T) {
	var b strings.Builder
	b.WriteString(supportIntro)
	for _, j := range judgements {
		d := j.message.ProtoReflect().Descriptor()
		fmt.Fprintf(&b, "\n## %s\n\n| field | |\n|---|---|\n", d.FullName())
		words := map[string]string{}
		for word, names := range map[string]string{"honoured": j.fields.honoured, "inert": j.fields.inert, "ignored": j.fields.ignored, "refused": j.fields.refused} {
			for _, n := range strings.Fields(names) {
				words[n] = word
			}
		}
		for i := range d.Fields().Len() {
			n := string(d.Fields().Get(i).Name())
			word := words[n]
			if note := j.fields.notes[n]; note != "" {
				word += "; " + note
			}
			fmt.Fprintf(&b, "| `%s` | %s |\n", n, word)
		}
	}
	if *update {
		if err := os.WriteFile(supportDoc, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	page, err := os.ReadFile(supportDoc)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(page), b.String()); diff != "" {
		t.Errorf("docs/xds-support.md is out of date; run with -update (-page +generated):\n%s", diff)
	}
}
