package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-proxy/sluice/test/proc"
)

// TestMemoryLimit runs the proxy in a memory cgroup of 256 MiB: the collector's
// limit is nine tenths of that, unless GOMEMLIMIT says otherwise. It needs to
// be allowed to make a cgroup.
func TestMemoryLimit(t *testing.T) {
	const limit = 256 << 20
	procs := memoryCgroup(t, limit)
	for _, tt := range []struct {
		env  string
		want string
	}{
		{"", fmt.Sprint(limit / 10 * 9)},
		{"GOMEMLIMIT=100MiB", fmt.Sprint(100 << 20)},
	} {
		p := &proxy{id: "memory", admin: freePort(t)}
		file := filepath.Join(t.TempDir(), "bootstrap.yaml")
		write(t, file, fmt.Sprintf("admin: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}\n", p.admin))
		var err error
		p.Process, err = proc.Start(p.id, "/bin/sh", "-c", `echo $$ > "$0" && exec env $1 "$2" -c "$3" -l debug`,
			procs, tt.env, filepath.Join(bins, "dataplane"), file)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Kill)
		p.waitAdmin(t)
		var got string
		eventually(t, "the limit is told", func() error { // what it says may come later than what it answers
			for line := range strings.Lines(p.Output()) {
				if strings.Contains(line, `msg="memory limit"`) && strings.HasSuffix(line, "\n") {
					_, got, _ = strings.Cut(strings.TrimSpace(line), "bytes=")
					return nil
				}
			}
			return errors.New("not yet")
		})
		if len(got) < 4 || got[:4] != tt.want[:4] { // rounded
			t.Errorf("with %q the limit is %q, want %s\n%s", tt.env, got, tt.want, p.Output())
		}
		p.Kill()
	}
}

// memoryCgroup makes a cgroup for the test, of either version, and returns the
// file that takes its processes.
func memoryCgroup(t *testing.T, limit int) (procs string) {
	t.Helper()
	name := fmt.Sprintf("sluice-test-%d", os.Getpid())
	for root, file := range map[string]string{"/sys/fs/cgroup/memory": "memory.limit_in_bytes", "/sys/fs/cgroup": "memory.max"} {
		dir := filepath.Join(root, name)
		if os.Mkdir(dir, 0o755) != nil {
			continue
		}
		f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0) // never make it: the folder may be just a folder
		if err == nil {
			_, err = fmt.Fprint(f, limit)
			_ = f.Close()
		}
		if err != nil {
			_ = os.Remove(dir)
			continue
		}
		t.Cleanup(func() {
			eventually(t, "the cgroup is empty", func() error { return os.Remove(dir) })
		})
		return filepath.Join(dir, "cgroup.procs")
	}
	t.Skip("no memory cgroup can be made here")
	return ""
}
