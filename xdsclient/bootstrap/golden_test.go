package bootstrap

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func inputs(t testing.TB) []string {
	var in []string
	for _, ext := range []string{"yaml", "json"} {
		m, err := filepath.Glob("testdata/*." + ext)
		if err != nil {
			t.Fatal(err)
		}
		in = append(in, m...)
	}
	if len(in) == 0 {
		t.Fatal("no inputs in testdata")
	}
	return in
}

// TestGolden loads each bootstrap of testdata and compares what came out, or the
// errors, with the golden file of the same name. A file whose first line has
// --allow-unknown-static-fields is read with that option.
func TestGolden(t *testing.T) {
	golden := map[string]bool{}
	for _, in := range inputs(t) {
		out := strings.TrimSuffix(in, filepath.Ext(in)) + ".golden"
		golden[out] = true
		t.Run(filepath.Base(in), func(t *testing.T) {
			data, err := os.ReadFile(in)
			if err != nil {
				t.Fatal(err)
			}
			first, _, _ := strings.Cut(string(data), "\n")
			var warnings strings.Builder
			b, err := Load(Sources{ConfigPath: in, Options: Options{
				AllowUnknownStaticFields: strings.Contains(first, "--allow-unknown-static-fields"),
				Warn: func(path, problem string) {
					fmt.Fprintf(&warnings, "warning: %s: %s\n", path, problem)
				},
			}})
			got := warnings.String()
			if err != nil {
				got += "error: " + err.Error() + "\n"
			} else {
				got += text(t, b)
			}
			if *update {
				if err := os.WriteFile(out, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("(-want +got, rewrite with -update):\n%s", diff)
			}
		})
	}
	all, err := filepath.Glob("testdata/*.golden")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		switch {
		case golden[f]:
		case *update:
			os.Remove(f)
		default:
			t.Errorf("%s has no input", f)
		}
	}
}

// text renders a message stably: protojson varies its white space on purpose.
func text(t *testing.T, m proto.Message) string {
	t.Helper()
	js, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, js, "", "  "); err != nil {
		t.Fatal(err)
	}
	return out.String() + "\n"
}

// What Parse read, written as JSON in either naming and read again, is the same.
func TestRoundTrip(t *testing.T) {
	for _, in := range inputs(t) {
		data, err := os.ReadFile(in)
		if err != nil {
			t.Fatal(err)
		}
		b, err := Parse(data, Options{AllowUnknownStaticFields: true})
		if err != nil {
			continue // its golden file has the error
		}
		for _, protoNames := range []bool{false, true} {
			roundTrip(t, b, protoNames)
		}
	}
}

func roundTrip(t *testing.T, b *bootstrapv3.Bootstrap, protoNames bool) {
	t.Helper()
	js, err := protojson.MarshalOptions{UseProtoNames: protoNames}.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse(js, Options{})
	if err != nil {
		t.Fatalf("%s: %v", js, err)
	}
	if !proto.Equal(b, again) {
		t.Errorf("not the same after a round trip: %s", js)
	}
}

// FuzzParse checks that no input panics, that what is read can be written and
// read again, and that what protojson takes is taken with the same meaning.
func FuzzParse(f *testing.F) {
	for _, in := range inputs(f) {
		data, err := os.ReadFile(in)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"node":{"metadata":{"a":[null,1e400,-0,"\ud800"]}},"stats_flush_interval":"-1.000000001s"}`))
	f.Add([]byte(`{"node":{"extensions":[{"version":{"metadata":{}}}]},"static_resources":{"clusters":[{"lb_policy":-1,"max_requests_per_connection":"0x1"}]}}`))
	f.Add([]byte("node: &a {metadata: {b: *a}}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := Parse(data, Options{})
		var want bootstrapv3.Bootstrap
		if protojson.Unmarshal(data, &want) == nil {
			if err != nil {
				t.Fatalf("protojson takes what Parse refuses: %v", err)
			}
			if !proto.Equal(&want, b) {
				t.Fatalf("protojson reads\n%v\nParse reads\n%v", &want, b)
			}
		}
		if err != nil {
			return
		}
		if js, err := protojson.Marshal(b); err == nil && len(js) > 0 {
			roundTrip(t, b, true)
		}
	})
}
