package controlplane

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
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

	noticed := watching(t, at("root"))
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
	files{"else/1/x.yaml": "1", "else/2/x.yaml": "2", "else/now": "-> 1"}.write(t, base)
	do(os.Symlink("../../else/now/x.yaml", at("v2/edge/x.yaml")))
	noticed("a link to a file elsewhere")
	do(os.WriteFile(at("else/1/x.yaml"), []byte("3"), 0o600))
	noticed("that file")
	do(os.Symlink("2", at("else/new")))
	do(os.Rename(at("else/new"), at("else/now")))
	noticed("a link on the way to it")
}

// watching runs a watcher of root and returns what waits for it to notice a
// change.
func watching(t *testing.T, root string) (noticed func(step string)) {
	t.Helper()
	w, err := newWatcher(root, discardLogger())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done, changes := make(chan struct{}), make(chan struct{}, 100)
	go func() { defer close(done); w.run(ctx, func() { changes <- struct{}{} }) }()
	t.Cleanup(func() { cancel(); <-done })
	return func(step string) {
		t.Helper()
		limit := time.NewTimer(pollTime * 4 / 5) // more than missingTime
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
}

// The root may be a folder in what a link leads to, and that may be gone for a
// moment.
func TestWatcherBelowLink(t *testing.T) {
	base := t.TempDir()
	at := func(p string) string { return filepath.Join(base, filepath.FromSlash(p)) }
	files{"v1/conf/edge/a.yaml": "1", "v2/conf/edge/a.yaml": "2", "current": "-> v1"}.write(t, base)
	notices := watching(t, at("current/conf"))
	notices("start")
	relink := func(to string) {
		t.Helper()
		if err := errors.Join(os.Symlink(to, at("new")), os.Rename(at("new"), at("current"))); err != nil {
			t.Fatal(err)
		}
	}
	relink("v2")
	notices("the link is swapped")
	relink("nowhere")
	notices("it leads nowhere")
	relink("v1")
	notices("and back")
	if err := os.WriteFile(at("v1/conf/edge/a.yaml"), []byte("3"), 0o600); err != nil {
		t.Fatal(err)
	}
	notices("a file")
}

// What the kernel does not report is found by polling, however much happens in
// the folders that are watched for a link alone.
func TestWatcherPollsBesideOthers(t *testing.T) {
	base := t.TempDir()
	at := func(p string) string { return filepath.Join(base, filepath.FromSlash(p)) }
	files{"aside/conf/edge/a.yaml": "1", "current": "-> later"}.write(t, base)
	notices := watching(t, at("current/conf"))
	notices("start")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(missingTime / 20)
		defer tick.Stop()
		for ctx.Err() == nil {
			<-tick.C
			if err := os.WriteFile(at("log"), []byte("x"), 0o600); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	defer func() { cancel(); <-done }()
	if err := os.Rename(at("aside"), at("later")); err != nil { // the link has not changed
		t.Fatal(err)
	}
	notices("where the link leads is there")
}

// Without the kernel's help changes are found by polling.
func TestWatcherPolls(t *testing.T) {
	root := files{"edge/a.yaml": "1"}.dir(t)
	synctest.Test(t, func(t *testing.T) {
		w := &watcher{root: root, log: discardLogger()}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var loads atomic.Int32
		go w.run(ctx, func() { loads.Add(1) })
		at := func(d time.Duration, want int32) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if got := loads.Load(); got != want {
				t.Errorf("it was loaded %d times, want %d", got, want)
			}
		}
		at(0, 1)
		at(pollTime, 2)
		if err := os.RemoveAll(root); err != nil {
			t.Fatal(err)
		}
		at(pollTime, 3)
		at(missingTime, 4) // it is gone
	})
}

// The directory's name may be what is a glob elsewhere.
func TestLinksIn(t *testing.T) {
	root := filepath.Join(t.TempDir(), "v[1]*")
	files{"..v/a.yaml": "1", "edge": "-> ..v", "core/a.yaml": "-> ../..v/a.yaml"}.write(t, root)
	want := []string{filepath.Join(root, "edge"), filepath.Join(root, "core", "a.yaml")}
	if got := linksIn(root); !slices.Equal(got, want) {
		t.Errorf("links %q, want %q", got, want)
	}
}
