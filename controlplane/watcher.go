package controlplane

import (
	"context"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// settleTime joins the events of one deployment: files written one after
	// the other, or a link swapped, are one change.
	settleTime = 20 * time.Millisecond
	// settleMax bounds the wait when events never stop.
	settleMax = 200 * time.Millisecond
	// pollTime finds changes that the kernel does not report: network file
	// systems, or more folders than there are watches.
	pollTime = 30 * time.Second
	// missingTime is the same while the directory is not there.
	missingTime = time.Second
)

// watcher notices changes below a directory, and that the directory itself
// goes and comes.
type watcher struct {
	root string
	log  *slog.Logger
	fs   *fsnotify.Watcher // nil: the kernel has none left, and polling finds what changes
	real string            // where root leads, or led when it was there

	inside map[string]bool // folders of which everything counts
	points map[string]bool // files and links elsewhere that count

	said string // the fault that was logged last
}

func newWatcher(root string, log *slog.Logger) (*watcher, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	f, err := fsnotify.NewWatcher()
	if err != nil { // Linux has 128 for a user, and a machine many programs
		log.Warn("the kernel does not report changes of files: they are found by polling", "interval", pollTime, "reason", err)
		f = nil
	}
	w := &watcher{root: root, log: log, fs: f}
	w.watch()
	return w, nil
}

// watch watches every folder below the root, and what leads there: the root
// itself, and each link on the way to it or to a file of a group, which may be
// swapped. Links to folders are followed where they lead now; folders that are
// left behind are not watched any more. It reports whether the root is there.
func (w *watcher) watch() bool {
	inside, points, seen := map[string]bool{}, map[string]bool{}, map[string]bool{}
	follow(w.root, points, seen)
	if dir, err := filepath.EvalSymlinks(filepath.Dir(w.root)); err == nil {
		points[filepath.Join(dir, filepath.Base(w.root))] = true
	}
	real, err := filepath.EvalSymlinks(w.root)
	if err == nil {
		w.real = real
		tree(real, inside)
		for _, l := range linksIn(real) {
			follow(l, points, seen)
			if target, err := filepath.EvalSymlinks(l); err == nil {
				points[target] = true
				if filepath.Dir(l) == real { // a folder of a group has no folders that count
					tree(target, inside)
				}
			}
		}
	}
	if w.real != "" {
		points[w.real] = true
	}
	want := maps.Clone(inside)
	for p := range points {
		want[filepath.Dir(p)] = true
	}
	w.inside, w.points = inside, points
	if e := w.subscribe(want); err == nil {
		err = e
	}
	w.complain(err)
	return real != ""
}

// subscribe makes the kernel report what happens in the folders given, and in no
// others.
func (w *watcher) subscribe(want map[string]bool) (err error) {
	if w.fs == nil {
		return nil
	}
	for _, dir := range w.fs.WatchList() {
		if !want[dir] {
			_ = w.fs.Remove(dir) // it may be gone
		}
	}
	for dir := range want {
		// Adding one twice is harmless, and needed if it has been replaced.
		if e := w.fs.Add(dir); e != nil && err == nil {
			err = e
		}
	}
	return err
}

// linksIn returns the links among the groups' folders and their files.
func linksIn(root string) (links []string) {
	for _, pattern := range []string{"*", "*/*"} {
		found, _ := fs.Glob(os.DirFS(root), pattern) // the pattern is good
		for _, f := range found {
			f = filepath.Join(root, filepath.FromSlash(f))
			if st, err := os.Lstat(f); err == nil && st.Mode()&fs.ModeSymlink != 0 {
				links = append(links, f)
			}
		}
	}
	return links
}

// follow adds every link on the way to what path names. The folder of each is
// named without links: a watch has one name.
func follow(path string, links, seen map[string]bool) {
	parent := filepath.Dir(path)
	if seen[path] || parent == path {
		return
	}
	seen[path] = true
	follow(parent, links, seen)
	target, err := os.Readlink(path)
	if err != nil {
		return
	}
	dir, err := filepath.EvalSymlinks(parent)
	if err != nil {
		return
	}
	links[filepath.Join(dir, filepath.Base(path))] = true
	if !filepath.IsAbs(target) {
		target = filepath.Join(dir, target)
	}
	follow(target, links, seen)
}

// tree adds root, if it is a folder, and all folders below.
func tree(root string, to map[string]bool) {
	// What cannot be read is reported by the loader.
	_ = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			to[p] = true
		}
		return nil
	})
}

func (w *watcher) complain(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != w.said {
		w.log.Warn("watching the configuration directory", "reason", err)
	}
	w.said = text
}

// run calls changed after each change, and now and then without one, until ctx
// is done.
func (w *watcher) run(ctx context.Context, changed func()) {
	var events <-chan fsnotify.Event
	var faults <-chan error
	if w.fs != nil {
		defer func() { _ = w.fs.Close() }() // nothing to do about it
		events, faults = w.fs.Events, w.fs.Errors
	}
	// What changed before the folders were watched.
	present := w.watch()
	changed()
	poll := time.NewTimer(0)
	defer poll.Stop()
	again := func() {
		if present {
			poll.Reset(pollTime)
		} else {
			poll.Reset(missingTime)
		}
	}
	again()
	for {
		select {
		case <-ctx.Done():
			return
		case <-poll.C:
		case e := <-events:
			if !w.ours(e) {
				continue // and the poll comes when it would have
			}
			w.settle(ctx)
		case err := <-faults:
			w.complain(err)
		}
		if ctx.Err() != nil {
			return
		}
		present = w.watch()
		changed()
		again()
	}
}

// ours reports whether an event is about what is below the root or leads there:
// a folder in which a link stands may be as busy as /tmp.
func (w *watcher) ours(e fsnotify.Event) bool {
	return w.inside[filepath.Dir(e.Name)] || w.points[e.Name]
}

// settle waits until no event has come for settleTime.
func (w *watcher) settle(ctx context.Context) {
	end := time.NewTimer(settleMax)
	defer end.Stop()
	quiet := time.NewTimer(settleTime)
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-end.C:
			return
		case <-quiet.C:
			return
		case e := <-w.fs.Events:
			if w.ours(e) {
				quiet.Reset(settleTime)
			}
		}
	}
}
