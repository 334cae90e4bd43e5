// Command family runs the test suites of the projects whose shape
// dataplane/grpcproxy has, unchanged but for an import path, against our
// packages. The suites come out of the module cache at run time; none of them
// is in this tree.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

const ours = "github.com/sluice-proxy/sluice/dataplane/grpcproxy"

// suite is the tests of one original.
type suite struct {
	name    string
	module  string // of the original
	version string
	imports string // what its tests import
	becomes string // the import that takes its place
	pkg     string // where they run: ours, if they are tests of that package itself
	dir     string // of pkg, below the root
}

var suites = []suite{
	{
		name: "mwitkow 2018", module: "github.com/mwitkow/grpc-proxy", version: "v0.0.0-20181017164139-0f1106ef9c76",
		imports: `"github.com/mwitkow/grpc-proxy/proxy"`, becomes: `"` + ours + `/proxy"`,
		pkg: ours + "/proxy", dir: "dataplane/grpcproxy/proxy",
	},
	{
		name: "mwitkow 2023", module: "github.com/mwitkow/grpc-proxy", version: "v0.0.0-20230212185441-f345521cb9c9",
		imports: `"github.com/mwitkow/grpc-proxy/proxy"`, becomes: `"` + ours + `/proxy"`,
		pkg: ours + "/proxy", dir: "dataplane/grpcproxy/proxy",
	},
	{
		name: "siderolabs v0.5.1", module: "github.com/siderolabs/grpc-proxy", version: "v0.5.1",
		imports: `"github.com/siderolabs/grpc-proxy/proxy"`, becomes: `"` + ours + `/sidero/proxy"`,
		pkg: ours + "/sidero/proxy", dir: "dataplane/grpcproxy/sidero/proxy",
	},
}

func main() {
	root := flag.String("root", "../..", "the tree's root")
	race := flag.Bool("race", false, "run under the race detector")
	verbose := flag.Bool("v", false, "show the suites' own output")
	flag.Parse()
	failed := false
	for _, s := range suites {
		n, err := s.run(*root, *race, *verbose)
		if err != nil {
			failed = true
			fmt.Printf("FAIL %s: %v\n", s.name, err)
			continue
		}
		fmt.Printf("ok   %s: %d tests\n", s.name, n)
	}
	if failed {
		os.Exit(1)
	}
}

// run returns how many tests passed.
func (s *suite) run(root string, race, verbose bool) (int, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return 0, err
	}
	tmp, err := os.MkdirTemp("", "family")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(tmp)
	mod, err := s.modfile(root, tmp)
	if err != nil {
		return 0, err
	}
	src, err := s.fetch(root, mod)
	if err != nil {
		return 0, err
	}
	overlay, err := s.overlay(root, src, tmp)
	if err != nil {
		return 0, err
	}
	args := []string{"test", "-modfile", mod, "-mod=mod", "-overlay", overlay, "-count=1", "-json", "-timeout=5m"}
	if race {
		args = append(args, "-race")
	}
	return s.test(root, append(args, s.pkg), verbose)
}

// modfile writes a copy of this module's go.mod that asks for the suite's
// version of the original.
func (s *suite) modfile(root, tmp string) (string, error) {
	here := filepath.Join(root, "test", "family")
	mod := filepath.Join(tmp, "family.mod")
	for _, f := range [][2]string{{"go.mod", mod}, {"go.sum", filepath.Join(tmp, "family.sum")}} {
		b, err := os.ReadFile(filepath.Join(here, f[0]))
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(f[1], b, 0o644); err != nil {
			return "", err
		}
	}
	// Relative to the main module, which stays where it is.
	_, err := goCommand(here, "mod", "edit", "-require="+s.module+"@"+s.version, mod)
	return mod, err
}

// fetch returns where the original is.
func (s *suite) fetch(root, mod string) (string, error) {
	out, err := goCommand(filepath.Join(root, "test", "family"), "mod", "download", "-modfile", mod, "-json", s.module+"@"+s.version)
	if err != nil {
		return "", err
	}
	var m struct{ Dir string }
	if err := json.Unmarshal(out, &m); err != nil {
		return "", err
	}
	return m.Dir, nil
}

// overlay writes the suite's tests with the import changed, and a file that
// makes the go command see them in the package's folder instead of the tests
// that are there.
func (s *suite) overlay(root, src, tmp string) (string, error) {
	replace := make(map[string]string)
	folder := filepath.Join(root, s.dir)
	present, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil {
		return "", err
	}
	for _, f := range present {
		replace[f] = "" // as if it were not there
	}
	tests, err := filepath.Glob(filepath.Join(src, "proxy", "*_test.go"))
	if err != nil || len(tests) == 0 {
		return "", fmt.Errorf("no tests in %s: %w", src, err)
	}
	for _, f := range tests {
		b, err := os.ReadFile(f)
		if err != nil {
			return "", err
		}
		changed := filepath.Join(tmp, filepath.Base(f))
		if err := os.WriteFile(changed, bytes.ReplaceAll(b, []byte(s.imports), []byte(s.becomes)), 0o644); err != nil {
			return "", err
		}
		replace[filepath.Join(folder, filepath.Base(f))] = changed
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	name := filepath.Join(tmp, "overlay.json")
	return name, os.WriteFile(name, b, 0o644)
}

// test runs go test and counts the tests that have none below them.
func (s *suite) test(root string, args []string, verbose bool) (int, error) {
	out, runErr := goCommand(filepath.Join(root, "test", "family"), args...)
	passed := make(map[string]bool)
	var text strings.Builder
	for line := range bytes.Lines(out) {
		var e struct{ Action, Test, Output string }
		if json.Unmarshal(line, &e) != nil {
			text.Write(line)
			continue
		}
		text.WriteString(e.Output)
		if e.Action == "pass" && e.Test != "" {
			passed[e.Test] = true
		}
	}
	if verbose || runErr != nil {
		fmt.Print(text.String())
	}
	if runErr != nil {
		return 0, runErr
	}
	n := 0
	for _, t := range slices.Sorted(maps.Keys(passed)) {
		leaf := true
		for other := range passed {
			leaf = leaf && !strings.HasPrefix(other, t+"/")
		}
		if leaf {
			n++
		}
	}
	if n == 0 {
		return 0, fmt.Errorf("no test ran")
	}
	return n, nil
}

// goCommand runs the go command in dir and returns what it says.
func goCommand(dir string, args ...string) ([]byte, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return append(out, stderr.Bytes()...), fmt.Errorf("go %s: %w\n%s", strings.Join(args[:2], " "), err, stderr.Bytes())
	}
	return out, nil
}
