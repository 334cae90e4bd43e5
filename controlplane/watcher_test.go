package controlplane

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Each step changes a real directory, and must be noticed well before the
// poll; the root is a link, as deployments have it.
func TestWatcher(t *testing.T) {
	base := t.TempDir()
	at := func(p string) string { return filepath.Join(base, filepath.FromSlash(p)) }
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	files{"v1/edge/a.yaml": "1", "v2/edge/a.yaml": "2", "v2/..1/x.yaml": "1", "v2/..2/x.yaml": "2", "v2/mounted/..data": "-> ../..1", "root": "-> v1"}.write(t, base)

	w, err := newWatcher(at("root"), discardLogger())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done, changes := make(chan struct{}), make(chan struct{}, 100)
	go func() { defer close(done); w.run(ctx, func() { changes <- struct{}{} }) }()
	defer func() { cancel(); <-done }()
	noticed := func(step string) {
		t.Helper()
		limit := time.NewTimer(5 * time.Second) // less than pollTime, more than missingTime
		defer limit.Stop()
		select {
		case <-changes:
		case <-limit.C:
			t.Fatalf("%s: not noticed", step)
		}
		for quiet := time.NewTimer(2 * settleTime); ; { // one change may be several events
			select {
			case <-changes:
			case <-quiet.C:
				return
			}
		}
	}
	noticed("start")
	do(os.WriteFile(at("v1/edge/a.yaml"), []byte("3"), 0o600))
	noticed("a file")
	do(os.Mkdir(at("v1/new"), 0o700))
	noticed("a folder")
	do(os.WriteFile(at("v1/new/b.yaml"), []byte("1"), 0o600))
	noticed("a file in it")
	do(os.Symlink("v2", at("root.new")))
	do(os.Rename(at("root.new"), at("root")))
	noticed("the root is another folder")
	do(os.WriteFile(at("v2/edge/a.yaml"), []byte("4"), 0o600))
	noticed("a file there")
	do(os.Symlink("../..2", at("v2/mounted/..new")))
	do(os.Rename(at("v2/mounted/..new"), at("v2/mounted/..data")))
	noticed("a mounted config map")
	do(os.Rename(at("v2"), at("v3")))
	noticed("the root is gone")
	do(os.Rename(at("v3"), at("v2")))
	noticed("and back")
	do(os.WriteFile(at("v2/edge/a.yaml"), []byte("5"), 0o600))
	noticed("a file after that")
}
