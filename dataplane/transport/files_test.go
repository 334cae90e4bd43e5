package transport

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sluice-proxy/sluice/internal/tlstest"
)

// longest bounds what a test waits for on a loaded machine.
const longest = 30 * time.Second

// rotation is a directory with a certificate pair that a Secret follows.
type rotation struct {
	t    *testing.T
	dir  string
	cell *Secret[Certificate]

	mu     sync.Mutex
	loaded chan string // common names, as they were loaded
	failed int
}

func (r *rotation) load(contents [][]byte) error {
	c, err := ParseCertificate(contents[0], contents[1])
	if err != nil {
		r.mu.Lock()
		r.failed++
		r.mu.Unlock()
		return err
	}
	r.cell.Set(c)
	r.loaded <- c.Leaf().Subject.CommonName
	return nil
}

func (r *rotation) failures() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

func (r *rotation) expect(name string) {
	r.t.Helper()
	select {
	case got := <-r.loaded:
		if got != name {
			r.t.Fatalf("loaded %q, want %q", got, name)
		}
	case <-time.After(longest):
		r.t.Fatalf("%q was not loaded", name)
	}
}

func (r *rotation) write(path string, b []byte) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, path), b, 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// runFiles runs a Files until the test ends.
func runFiles(t *testing.T) *Files {
	f := NewFiles(nil)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { f.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return f
}

// start makes a Files follow cert and key in r.dir.
func (r *rotation) start(cert, key string) {
	r.t.Helper()
	stop, err := runFiles(r.t).Watch([]string{filepath.Join(r.dir, cert), filepath.Join(r.dir, key)}, "", r.load)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(stop)
}

func newRotation(t *testing.T) *rotation {
	return &rotation{t: t, dir: t.TempDir(), cell: NewSecret[Certificate](nil), loaded: make(chan string, 16)}
}

// TestFilesRewritten: certificate and key are written one after the other;
// what is in between is never used.
func TestFilesRewritten(t *testing.T) {
	ca := tlstest.CA(t, "ca")
	r := newRotation(t)
	old := ca.Leaf(t, "old")
	r.write("tls.crt", old.Chain)
	r.write("tls.key", old.PEM)
	r.start("tls.crt", "tls.key")
	r.expect("old")

	next := ca.Leaf(t, "new")
	r.write("tls.crt", next.Chain)
	for deadline := time.Now().Add(longest); r.failures() == 0; { // it was seen with the old key
		if time.Now().After(deadline) {
			t.Fatal("the new certificate was not looked at")
		}
		time.Sleep(time.Millisecond) // polling
	}
	if got := r.cell.Get().Leaf().Subject.CommonName; got != "old" {
		t.Errorf("a certificate without its key is in use: %q", got)
	}
	r.write("tls.key", next.PEM)
	r.expect("new")
}

// TestFilesChangeMeanwhile: a file that is replaced while it is read for the first
// time is read again, also in a directory that is watched already.
func TestFilesChangeMeanwhile(t *testing.T) {
	ca := tlstest.CA(t, "ca")
	r := newRotation(t)
	old, next := ca.Leaf(t, "old"), ca.Leaf(t, "new")
	r.write("tls.crt", old.Chain)
	r.write("tls.key", old.PEM)
	f := runFiles(t)
	seen := make(chan string, 16)
	paths := []string{filepath.Join(r.dir, "tls.crt"), filepath.Join(r.dir, "tls.key")}
	watch := func(load func(contents [][]byte) error) {
		t.Helper()
		stop, err := f.Watch(paths, "", load)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(stop)
	}
	watch(r.load)
	r.expect("old")
	first := true
	watch(func(contents [][]byte) error {
		c, err := ParseCertificate(contents[0], contents[1])
		if err != nil {
			return err
		}
		seen <- c.Leaf().Subject.CommonName
		if first {
			first = false
			r.write("tls.crt", next.Chain)
			r.write("tls.key", next.PEM)
			r.expect("new") // the events are over
		}
		return nil
	})
	for _, want := range []string{"old", "new"} {
		select {
		case got := <-seen:
			if got != want {
				t.Errorf("loaded %q, want %q", got, want)
			}
		case <-time.After(longest):
			t.Fatalf("%q was not loaded", want)
		}
	}
}

// TestFilesSwapped: Kubernetes mounts a secret as links through "..data", and
// replaces that link by renaming.
func TestFilesSwapped(t *testing.T) {
	ca := tlstest.CA(t, "ca")
	r := newRotation(t)
	publish := func(i int) string {
		name := fmt.Sprint("v", i)
		if err := os.Mkdir(filepath.Join(r.dir, ".."+name), 0o700); err != nil {
			t.Fatal(err)
		}
		p := ca.Leaf(t, name)
		r.write(".."+name+"/tls.crt", p.Chain)
		r.write(".."+name+"/tls.key", p.PEM)
		if err := os.Symlink(".."+name, filepath.Join(r.dir, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(r.dir, "..data_tmp"), filepath.Join(r.dir, "..data")); err != nil {
			t.Fatal(err)
		}
		return name
	}
	first := publish(0)
	for _, f := range []string{"tls.crt", "tls.key"} {
		if err := os.Symlink("..data/"+f, filepath.Join(r.dir, f)); err != nil {
			t.Fatal(err)
		}
	}
	r.start("tls.crt", "tls.key")
	r.expect(first)
	for i := 1; i < 5; i++ {
		r.expect(publish(i))
		if err := os.RemoveAll(filepath.Join(r.dir, fmt.Sprint("..v", i-1))); err != nil {
			t.Fatal(err)
		}
	}
	if n := r.failures(); n > 0 {
		t.Errorf("%d loads of mixed generations", n)
	}
}

// TestFilesBusy: others write into the directory all the time, such as a log.
func TestFilesBusy(t *testing.T) {
	ca := tlstest.CA(t, "ca")
	r := newRotation(t)
	write := func(name string) {
		p := ca.Leaf(t, name)
		r.write("tls.crt", p.Chain)
		r.write("tls.key", p.PEM)
	}
	write("old")
	r.start("tls.crt", "tls.key")
	r.expect("old")
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(settleTime / 10)
		defer tick.Stop()
		for ctx.Err() == nil {
			<-tick.C
			if err := os.WriteFile(filepath.Join(r.dir, "log"), []byte("x"), 0o600); err != nil {
				t.Error(err)
				return
			}
		}
	})
	defer wg.Wait()
	defer cancel()
	write("new")
	r.expect("new")
}

// TestFilesElsewhere: links lead to files in another directory, whose writers know
// nothing of them; and one directory has several names.
func TestFilesElsewhere(t *testing.T) {
	ca := tlstest.CA(t, "ca")
	base := newRotation(t)
	pair := func(name string) {
		p := ca.Leaf(t, name)
		for f, b := range map[string][]byte{"tls.crt": p.Chain, "tls.key": p.PEM} {
			base.write("shared/certs/"+f+".new", b)
			if err := os.Rename(filepath.Join(base.dir, "shared/certs", f+".new"), filepath.Join(base.dir, "shared/certs", f)); err != nil {
				t.Fatal(err)
			}
		}
	}
	err := errors.Join(
		os.MkdirAll(filepath.Join(base.dir, "shared/certs"), 0o700), os.MkdirAll(filepath.Join(base.dir, "shared/app"), 0o700),
		os.Symlink("shared/app", filepath.Join(base.dir, "app")), os.Symlink("shared/certs", filepath.Join(base.dir, "alias")),
		os.Symlink("../certs/tls.crt", filepath.Join(base.dir, "shared/app/tls.crt")), os.Symlink("../certs/tls.key", filepath.Join(base.dir, "shared/app/tls.key")),
	)
	if err != nil {
		t.Fatal(err)
	}
	pair("old")
	f := runFiles(t)
	var all []*rotation
	for _, dir := range []string{"shared/certs", "alias", "app"} { // by itself first: watched by the names of others later
		r := &rotation{t: t, dir: filepath.Join(base.dir, dir), cell: NewSecret[Certificate](nil), loaded: make(chan string, 16)}
		stop, err := f.Watch([]string{filepath.Join(r.dir, "tls.crt"), filepath.Join(r.dir, "tls.key")}, "", r.load)
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
		all = append(all, r)
	}
	for _, want := range []string{"old", "new", "newer"} {
		if want != "old" {
			pair(want)
		}
		for _, r := range all {
			r.expect(want)
		}
	}
}

// TestFilesMissing: files that are not there at first.
func TestFilesMissing(t *testing.T) {
	r := newRotation(t)
	f := runFiles(t)
	stop, err := f.Watch([]string{filepath.Join(r.dir, "c"), filepath.Join(r.dir, "k")}, "", r.load)
	defer stop()
	if !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("missing files: %v", err)
	}
	p := tlstest.CA(t, "ca").Leaf(t, "late")
	r.write("c", p.Chain)
	r.write("k", p.PEM)
	r.expect("late")
}

// TestPEMCut: a bundle that is not written to its end has fewer authorities than
// it should.
func TestPEMCut(t *testing.T) {
	whole := append(append([]byte("# one\n"), tlstest.CA(t, "one").Chain...), tlstest.CA(t, "two").Chain...)
	for _, cut := range []int{1, 10, 40, 200} {
		n, _, err := CountPEM(whole[:len(whole)-cut])
		if end := cut == 1; (err == nil) != end || end && n != 2 { // the last line may lack its end
			t.Errorf("without its last %d bytes: %d certificates, error %v", cut, n, err)
		}
	}
	leaf := tlstest.CA(t, "root").Intermediate(t, "between").Leaf(t, "leaf")
	if _, err := ParseCertificate(leaf.Chain, leaf.PEM); err != nil {
		t.Error(err)
	}
	if _, err := ParseCertificate(leaf.Chain[:len(leaf.Chain)-40], leaf.PEM); err == nil {
		t.Error("a chain without its end is taken")
	}
	if n, _, err := CountPEM(append(whole, "# that is all\n"...)); n != 2 || err != nil {
		t.Errorf("with a comment behind: %d certificates, error %v", n, err)
	}
}
