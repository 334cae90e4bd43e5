//go:build unix

package controlplane

import (
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What is no regular file is a fault: reading a pipe would wait for ever.
func TestLoadDirPipe(t *testing.T) {
	dir := files{"edge/a.yaml": "resources: []\n", "other/a.yaml": "resources: []\n", "other/b.yaml": "-> /dev/zero"}.dir(t)
	for _, name := range []string{"edge/group.yaml", "edge/pipe.yaml"} {
		if err := syscall.Mkfifo(filepath.Join(dir, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := LoadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range Faults(cfg.Err()) {
		got = append(got, f.Error())
	}
	want := []string{
		`group "edge": edge/group.yaml: not a regular file`,
		`group "edge": edge/pipe.yaml: not a regular file`,
		`group "other": other/b.yaml: not a regular file`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
}
