package controlplane

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
	"sigs.k8s.io/yaml"

	"github.com/sluice-proxy/sluice/xdsclient/bootstrap"
)

// parsedFile is what a file holds, and all that is wrong with it. Immutable.
type parsedFile struct {
	sum       [sha256.Size]byte
	resources []*Resource
	errs      []error
}

func (f *parsedFile) is(content []byte) bool { return f.sum == sha256.Sum256(content) }

func parseFile(file string, b []byte) *parsedFile {
	f := &parsedFile{sum: sha256.Sum256(b)}
	docs := splitDocuments(b)
	filled := 0
	for i, doc := range docs {
		name := ""
		if len(docs) > 1 {
			name = fmt.Sprintf("document %d: ", i+1)
		}
		if f.document(newDocument(file, name, doc)) {
			filled++
		}
	}
	if filled == 0 {
		f.errs = append(f.errs, at(file, errEmpty)...)
	}
	return f
}

// errEmpty is the fault of a file in which nothing stands, or only comments.
// Perhaps it is just being written. Taken for "no resources", it would withdraw
// all that it had.
var errEmpty = errors.New("the file is empty")

// isEmpty reports that a document, as JSON, has nothing in it.
func isEmpty(doc []byte) bool { return string(doc) == "null" }

// document adds a document's resources and faults. It returns false if nothing
// is in it.
func (f *parsedFile) document(d *document) bool {
	whole := place{d, -1}
	j, err := yaml.YAMLToJSONStrict(d.text)
	if err != nil && isOnlyJSON(d.text) {
		j, err = d.text, nil
	}
	if err != nil {
		f.errs = append(f.errs, at(whole.String(), err)...) // it has the line
		return true
	}
	if isEmpty(j) {
		return false // only comments
	}
	list, single, err := resourceList(j)
	if err != nil {
		f.errs = append(f.errs, whole.faults(err)...)
		return true
	}
	for k, raw := range list {
		where := whole
		if !single {
			where.item = k
		}
		r, err := parseResource(where, raw)
		if err != nil {
			f.errs = append(f.errs, where.faults(err)...)
			continue
		}
		f.resources = append(f.resources, r)
	}
	return true
}

// isOnlyJSON reports that a text is JSON, but no YAML, whose strings have fewer
// escapes: "\/" and surrogate pairs.
func isOnlyJSON(text []byte) bool {
	if !json.Valid(text) {
		return false
	}
	_, err := yaml.YAMLToJSON(text) // what it refuses is not a key that is there twice
	return err != nil
}

// documentMark begins a document, or ends one.
var documentMark = regexp.MustCompile(`(?m)^(---|\.\.\.)([ \t].*)?\r?$`)

// splitDocuments returns the documents of a file. Each begins with as many empty
// lines as there are lines before it, so that YAML errors name lines of the
// file. What stands on the line of a mark belongs to the document behind it.
func splitDocuments(b []byte) [][]byte {
	var out [][]byte
	add := func(from, to int) {
		if d := b[from:to]; len(bytes.TrimSpace(d)) > 0 {
			out = append(out, append(bytes.Repeat([]byte("\n"), bytes.Count(b[:from], []byte("\n"))), d...))
		}
	}
	from := 0
	for _, mark := range documentMark.FindAllIndex(b, -1) {
		add(from, mark[0])
		from = mark[0] + len("---")
	}
	add(from, len(b))
	return out
}

// resourceList returns the resources of a document: the list under
// "resources", or the document itself.
func resourceList(doc []byte) (list []json.RawMessage, single bool, err error) {
	var top map[string]json.RawMessage
	if err := json.Unmarshal(doc, &top); err != nil {
		return nil, false, errors.New(`want a mapping with "resources" or "@type"`)
	}
	if _, ok := top["@type"]; ok {
		return []json.RawMessage{doc}, true, nil
	}
	for _, k := range sortedKeys(top) {
		// version_info and the like belong to a DiscoveryResponse on disk.
		if !slices.Contains([]string{"resources", "version_info", "type_url", "nonce"}, k) {
			return nil, false, &bootstrap.FieldError{Path: k, Problem: `unknown field: want "resources" or "@type"`}
		}
	}
	raw, ok := top["resources"]
	if !ok {
		return nil, false, errors.New(`no "resources"`)
	}
	if err := json.Unmarshal(raw, &list); err != nil || isEmpty(raw) {
		return nil, false, &bootstrap.FieldError{Path: "resources", Problem: "want a list"}
	}
	return list, false, nil
}

// parseResource reads one resource. The errors have neither origin nor more
// than one line each.
func parseResource(where place, raw json.RawMessage) (*Resource, error) {
	var head struct {
		Type        string `json:"@type"`
		Name        string `json:"name"`
		ClusterName string `json:"cluster_name"`
		Camel       string `json:"clusterName"`
	}
	// Fields of other types than these show in what follows.
	_ = json.Unmarshal(raw, &head)
	switch {
	case head.Type == "":
		return nil, errors.New(`no "@type"`)
	case !slices.Contains(typeURLs, head.Type):
		if _, err := protoregistry.GlobalTypes.FindMessageByURL(head.Type); err != nil {
			return nil, fmt.Errorf("@type %q: unknown type", head.Type)
		}
		return nil, fmt.Errorf("@type %q: not a resource that is published", head.Type)
	}
	kind := head.Type[strings.LastIndexByte(head.Type, '.')+1:]
	name := cmp.Or(head.Name, head.ClusterName, head.Camel)
	what := fmt.Sprintf("%s %q", kind, name)

	a := new(anypb.Any)
	if err := bootstrap.Unmarshal(raw, a, bootstrap.Options{}); err != nil {
		return nil, errors.Join(at(what, err)...)
	}
	m, err := a.UnmarshalNew()
	if err != nil {
		return nil, errors.Join(at(what, err)...)
	}
	if cachev3.GetResourceName(m) == "" {
		return nil, fmt.Errorf("%s without a name", kind)
	}
	return newResource(head.Type, where, m)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
