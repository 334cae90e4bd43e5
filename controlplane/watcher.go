package controlplane

import (
	"context"
	"errors"
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
)

// watcher notices changes below a directory.
type watcher struct {
	root string
	fs   *fsnotify.Watcher
}

func newWatcher(root string) (*watcher, error) {
	f, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	w := &watcher{root, f}
	if err := w.addAll(); err != nil {
		f.Close()
		return nil, err
	}
	return w, nil
}

// addAll watches every folder, following links to folders one level down as
// mounted config maps have them. Adding one twice is harmless.
func (w *watcher) addAll() error {
	if err := w.fs.Add(w.root); err != nil {
		return err
	}
	folders, err := filepath.Glob(filepath.Join(w.root, "*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, f := range folders {
		// A file, or a folder that went away meanwhile, is no fault.
		if err := w.addTree(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (w *watcher) addTree(root string) error {
	real, err := filepath.EvalSymlinks(root)
	if err != nil {
		return err
	}
	return filepath.WalkDir(real, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return w.fs.Add(p)
	})
}

// run calls changed after each change, and now and then without one, until ctx
// is done.
func (w *watcher) run(ctx context.Context, changed func(), log *slog.Logger) {
	defer w.fs.Close()
	poll := time.NewTicker(pollTime)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-poll.C:
		case <-w.fs.Events:
			w.settle(ctx)
		case err := <-w.fs.Errors:
			log.Warn("watching the configuration directory", "reason", err)
		}
		if ctx.Err() != nil {
			return
		}
		if err := w.addAll(); err != nil {
			log.Warn("watching the configuration directory", "reason", err)
		}
		changed()
	}
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
		case <-w.fs.Events:
			quiet.Reset(settleTime)
		}
	}
}
