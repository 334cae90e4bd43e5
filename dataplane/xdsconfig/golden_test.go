package xdsconfig

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/anypb"
	"sigs.k8s.io/yaml"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/cluster"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
	"github.com/sluice-proxy/sluice/dataplane/listener"
	"github.com/sluice-proxy/sluice/dataplane/route"
	"github.com/sluice-proxy/sluice/xdsclient/bootstrap"
)

var update = flag.Bool("update", false, "write the golden files")

// TestGolden compiles testdata/compile/*.yaml, each a resource with its @type,
// and compares what comes out with the file of the same name ending in .txt.
// A second YAML document lists calls; the output then has what becomes of them.
// With -update the .txt files are written.
func TestGolden(t *testing.T) {
	inputs, err := filepath.Glob("testdata/compile/*.yaml")
	if err != nil || len(inputs) == 0 {
		t.Fatal("no inputs", err)
	}
	want := make(map[string]bool)
	for _, in := range inputs {
		golden := strings.TrimSuffix(in, ".yaml") + ".txt"
		want[golden] = true
		t.Run(strings.TrimSuffix(filepath.Base(in), ".yaml"), func(t *testing.T) {
			got := compileFile(t, in)
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			text, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(text), got); diff != "" {
				t.Errorf("-want +got (go test -update if it is right):\n%s", diff)
			}
		})
	}
	goldens, _ := filepath.Glob("testdata/compile/*.txt")
	for _, g := range goldens {
		if !want[g] {
			t.Errorf("%s: its input is gone", g)
		}
	}
}

// testCall is a call of a golden file.
type testCall struct {
	Method  string            `json:"method"`
	Host    string            `json:"host"`
	Path    string            `json:"path"`
	Headers map[string]string `json:"headers"`
	Rand    uint64            `json:"rand"`
	Remote  string            `json:"remote"`
}

// namedSet is a cluster handle that tells its name.
type namedSet struct {
	noCluster
	name string
}

func (s namedSet) String() string { return s.name }

func compileFile(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	resource, calls, _ := bytes.Cut(data, []byte("\n---\n"))
	var x anypb.Any
	if err := bootstrap.Unmarshal(resource, &x, bootstrap.Options{}); err != nil {
		t.Fatal(err)
	}
	m, err := x.UnmarshalNew()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	env := goldenEnv(func(w Warning) { fmt.Fprintf(&out, "warning: %s\n", w) })
	result, err := compileAny(t, m, env)
	if err != nil {
		fmt.Fprintf(&out, "%s\n", strings.ReplaceAll(err.Error(), "\u00a0", " "))
		if !reflect.ValueOf(result).IsNil() {
			t.Error("both a result and an error")
		}
		return out.String()
	}
	if tbl, ok := result.(*route.Table); ok {
		var list []testCall
		if err := yaml.UnmarshalStrict(calls, &list); err != nil {
			t.Fatal(err)
		}
		for _, tc := range list {
			direct(t, &out, tbl, tc)
		}
		return out.String()
	}
	describe(&out, "", reflect.ValueOf(result))
	return out.String()
}

// goldenEnv is the surroundings of the golden inputs.
func goldenEnv(warn func(Warning)) *Env {
	return &Env{
		Warn:        warn,
		Node:        &corev3.Node{Id: "node-id", Cluster: "node-cluster"},
		Cluster:     func(name string) call.BackendSet { return namedSet{name: name} },
		FindCluster: func(name string) (call.BackendSet, bool) { return namedSet{name: name}, name != "unknown" },
		Routes:      func(name string) call.Director { return namedDirector(name) },
		LookupEnv:   func(name string) (string, bool) { return "<" + name + ">", name != "MISSING" },
		ReadFile: func(name string) ([]byte, error) {
			if name == "missing" {
				return nil, errors.New("open missing: no such file")
			}
			return []byte("content of " + name), nil
		},
	}
}

// namedDirector is the director of a RouteConfiguration by RDS.
type namedDirector string

func (namedDirector) Direct(*call.Call) (call.Decision, error) {
	return call.Decision{}, call.ReplyNoRoute
}

// describe writes what is not zero of v, a field per line.
func describe(out *strings.Builder, path string, v reflect.Value) {
	if !v.IsValid() || v.IsZero() {
		return
	}
	switch x := v.Interface().(type) {
	case *listener.Table:
		for i, ch := range x.Chains() {
			describe(out, fmt.Sprintf("%s[%d]", path, i), reflect.ValueOf(ch))
		}
		return
	case fmt.Stringer:
		fmt.Fprintf(out, "%s: %s\n", path, x)
		return
	case namedDirector:
		fmt.Fprintf(out, "%s: rds %q\n", path, string(x))
		return
	case *route.Table:
		fmt.Fprintf(out, "%s: table %q\n", path, x.Name())
		return
	case hpack.Field:
		fmt.Fprintf(out, "%s: %s: %s\n", path, x.Name, x.Value)
		return
	case []byte:
		fmt.Fprintf(out, "%s: %s\n", path, x)
		return
	case cluster.Metadata:
		fmt.Fprintf(out, "%s: %v\n", path, x)
		return
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.Elem().Kind() != reflect.Struct && v.Elem().IsZero() {
			fmt.Fprintf(out, "%s: %v\n", path, v.Elem()) // a pointer to zero says zero
		}
		describe(out, path, v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			switch {
			case !f.IsExported(), f.Name == "Hash", f.Name == "Key": // hashes change with the protobuf library
			case f.Anonymous:
				describe(out, path, v.Field(i))
			default:
				describe(out, strings.TrimPrefix(path+"."+f.Name, "."), v.Field(i))
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			if e := v.Index(i); e.IsZero() {
				fmt.Fprintf(out, "%s[%d]: zero\n", path, i)
			} else {
				describe(out, fmt.Sprintf("%s[%d]", path, i), e)
			}
		}
	case reflect.Func:
		fmt.Fprintf(out, "%s: func\n", path)
	default:
		fmt.Fprintf(out, "%s: %v\n", path, v)
	}
}

// direct writes what becomes of a call.
func direct(t *testing.T, out *strings.Builder, d call.Director, tc testCall) {
	t.Helper()
	c := newCall(tc)
	fmt.Fprintf(out, "\n%s %s%s", c.Method, c.Host, c.Path)
	for _, k := range slices.Sorted(mapKeys(tc.Headers)) {
		fmt.Fprintf(out, " %s=%s", k, tc.Headers[k])
	}
	if tc.Rand != 0 {
		fmt.Fprintf(out, " rand=%d", tc.Rand)
	}
	out.WriteString("\n")
	dec, err := d.Direct(c)
	if err != nil {
		fmt.Fprintf(out, "  %v\n", err)
		return
	}
	if dec.Reply != nil {
		describe(out, "  reply", reflect.ValueOf(dec.Reply))
	} else {
		set := dec.Backends
		if o, ok := set.(*orReply); ok {
			_, err := o.Pick(c, 0)
			var reply *call.Reply
			if !errors.As(err, &reply) {
				t.Fatal(err)
			}
			fmt.Fprintf(out, "  if there is no cluster: %d, %v\n", reply.HTTP, reply)
			set = o.BackendSet
		}
		fmt.Fprintf(out, "  to %v\n", set)
	}
	rt := *dec.Route
	ops := func(kind string, list []call.HeaderOp) {
		for _, op := range list {
			value := op.Field.Value
			if op.Value != nil {
				value = op.Value(c, &call.Outcome{HTTP: 200})
			}
			keep := ""
			if op.KeepEmpty {
				keep = " (kept if empty)"
			}
			fmt.Fprintf(out, "  %s: %s %s: %s%s\n", kind, headerActionNames[op.Action], op.Field.Name, value, keep)
		}
	}
	ops("request", rt.RequestOps)
	ops("response", rt.ResponseOps)
	if rw := rt.Rewrite; rw != nil {
		if rw.Path != nil {
			fmt.Fprintf(out, "  path becomes %s\n", rw.Path(c))
		}
		if rw.Host != nil {
			fmt.Fprintf(out, "  host becomes %s\n", rw.Host(c, testHost{}))
		}
	}
	rt.RequestOps, rt.ResponseOps, rt.Rewrite = nil, nil, nil
	describe(out, "  route", reflect.ValueOf(rt))
}

var headerActionNames = map[call.HeaderAction]string{
	call.HeaderAppend: "append", call.HeaderAddIfAbsent: "add-if-absent", call.HeaderOverwrite: "overwrite",
	call.HeaderOverwriteIfExist: "overwrite-if-exists", call.HeaderRemove: "remove",
}

// testHost is an endpoint with a hostname.
type testHost struct{}

func (testHost) Target() *call.Target { return &call.Target{Network: "tcp", Address: "10.0.0.1:1"} }
func (testHost) Retired() bool        { return false }
func (testHost) Hostname() string     { return "endpoint.example" }
