package controlplane

import (
	"context"
	"io/fs"
	"log/slog"
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
	fs   *fsnotify.Watcher
	real string // where root leads, or led when it was there
	said string // the fault that was logged last
}

func newWatcher(root string, log *slog.Logger) (*watcher, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	f, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	w := &watcher{root: root, log: log, fs: f}
	w.watch()
	return w, nil
}

// watch watches every folder below the root, and the root's parent, in which
// the root may be a link that is swapped. Links to folders are followed where
// they lead now; folders that are left behind are not watched any more. It
// reports whether the root is there.
func (w *watcher) watch() bool {
	want := map[string]bool{filepath.Dir(w.root): true}
	real, err := filepath.EvalSymlinks(w.root)
	if err == nil {
		w.real = real
		tree(real, want)
		// A match of Glob that is a link to a folder, or to a file elsewhere.
		links, _ := filepath.Glob(filepath.Join(real, "*")) // the pattern is good
		for _, l := range links {
			if target, err := filepath.EvalSymlinks(l); err == nil {
				tree(target, want)
			}
		}
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
	w.complain(err)
	return real != ""
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
	defer func() { _ = w.fs.Close() }() // nothing to do about it
	// What changed before the folders were watched.
	present := w.watch()
	changed()
	poll := time.NewTimer(pollTime)
	defer poll.Stop()
	for {
		if present {
			poll.Reset(pollTime)
		} else {
			poll.Reset(missingTime)
		}
		select {
		case <-ctx.Done():
			return
		case <-poll.C:
		case e := <-w.fs.Events:
			if !w.ours(e) {
				continue
			}
			w.settle(ctx)
		case err := <-w.fs.Errors:
			w.complain(err)
		}
		if ctx.Err() != nil {
			return
		}
		present = w.watch()
		changed()
	}
}

// ours reports whether an event is about the root or below: its parent may be
// as busy as /tmp.
func (w *watcher) ours(e fsnotify.Event) bool {
	return filepath.Dir(e.Name) != filepath.Dir(w.root) || e.Name == w.root || e.Name == w.real
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
