package transport

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// settleTime lets a writer finish: an update is read when nothing has
	// happened for so long.
	settleTime = 50 * time.Millisecond
	// settleMax bounds that: others may write into the directory all the time.
	settleMax = 10 * settleTime
	// Retries of an update that cannot be used, such as a certificate whose
	// key is not written yet. They double; the next event starts anew.
	retryMin = 100 * time.Millisecond
	retryMax = 10 * time.Second
	// patience is the retry from which on it is worth a log line.
	patience = 8 * retryMin
	// pollTime is how often files are looked at without an event: directories
	// are replaced, queues overflow, and not every file system tells.
	pollTime = time.Minute
)

// Files keeps what was read from files current. It watches their directories,
// not the files, so that it sees them replaced by renaming, and Kubernetes'
// swap of the "..data" link. Run must run for anything to happen; the other
// methods are safe for concurrent use.
type Files struct {
	// Set at creation.

	log  *slog.Logger
	kick chan struct{} // something to look at, of capacity 1

	mu    sync.Mutex // guards all below
	files map[*file]bool
}

// file is a set of files that make one value.
type file struct {
	fs    *Files
	paths []string
	dirs  []string // watched besides the paths' own
	load  func(contents [][]byte) error

	mu   sync.Mutex // held while it is read and loaded
	seen [sha256.Size]byte
	dead bool

	// Owned by Run.

	retry time.Duration
	due   time.Time // when to look at it; zero: no need
	since time.Time // the first event of those that it settles after
	at    []string  // its directories when it was last looked where they are
}

// NewFiles returns a Files without any file.
func NewFiles(log *slog.Logger) *Files {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Files{log: log, kick: make(chan struct{}, 1), files: make(map[*file]bool)}
}

// Watch reads paths, in order, calls load with what they contain, and calls it
// again whenever that has changed. If load fails the last good value stays,
// and is retried: the files may not all have been written yet. What load gets
// was read twice and the same both times. watched, if not empty, is a
// directory whose changes make it look (watched_directory). The first load
// is done before Watch returns; its error, if any, is Watch's, and the files
// are watched all the same. stop ends it; load is not called any more then.
func (f *Files) Watch(paths []string, watched string, load func(contents [][]byte) error) (stop func(), err error) {
	// Due at once: events were not for it yet while it was read for the first
	// time.
	now := time.Now()
	w := &file{fs: f, paths: paths, load: load, due: now, since: now}
	if watched != "" {
		w.dirs = []string{watched}
	}
	err = w.update()
	f.mu.Lock()
	f.files[w] = true
	f.mu.Unlock()
	select {
	case f.kick <- struct{}{}:
	default:
	}
	return func() {
		f.mu.Lock()
		delete(f.files, w)
		f.mu.Unlock()
		w.mu.Lock()
		w.dead = true
		w.mu.Unlock()
	}, err
}

// errUnstable is a file that changed between two looks.
var errUnstable = errors.New("files change while they are read")

// update reads and loads if something is new.
func (w *file) update() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead {
		return nil
	}
	contents, sum, err := readAll(w.paths)
	if err != nil {
		return err
	}
	if _, again, err := readAll(w.paths); err != nil {
		return err
	} else if again != sum {
		return errUnstable
	}
	if sum == w.seen {
		return nil
	}
	if err := w.load(contents); err != nil {
		return err
	}
	w.seen = sum
	return nil
}

func readAll(paths []string) (contents [][]byte, sum [sha256.Size]byte, err error) {
	h := sha256.New()
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			return nil, sum, err
		}
		one := sha256.Sum256(b)
		h.Write(one[:])
		contents = append(contents, b)
	}
	h.Sum(sum[:0])
	return contents, sum, nil
}

// Run watches until ctx is done.
func (f *Files) Run(ctx context.Context) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		f.log.Warn("files are only looked at once a minute", "reason", err)
		f.poll(ctx)
		return
	}
	defer func() { _ = watcher.Close() }()
	watched := make(map[string]bool)
	poll := time.NewTicker(pollTime)
	defer poll.Stop()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case ev, ok := <-watcher.Events:
			if !ok {
				return
			}
			if ev.Op == fsnotify.Chmod {
				continue
			}
			ours := ev.Op.Has(fsnotify.Remove|fsnotify.Rename) && watched[ev.Name] // a directory
			if ours {
				delete(watched, ev.Name)
			}
			if !f.soon(filepath.Dir(ev.Name), ev.Name) && !ours {
				continue // the timer runs already; directories may be busy, and rearm looks at all of them
			}
		case err := <-watcher.Errors:
			f.log.Warn("watching files", "reason", err)
			f.all()
		case <-f.kick:
		case <-poll.C:
			f.all()
		case <-timer.C:
		}
		f.rearm(watcher, watched)
		timer.Reset(f.work(ctx))
	}
}

// poll is Run without a watcher.
func (f *Files) poll(ctx context.Context) {
	t := time.NewTicker(pollTime)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.kick:
		case <-t.C:
			f.all()
		}
		f.work(ctx)
	}
}

// snapshot returns the files that are watched now.
func (f *Files) snapshot() []*file {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make([]*file, 0, len(f.files))
	for w := range f.files {
		all = append(all, w)
	}
	return all
}

// soon makes the files that an event in dir may concern due. It reports whether
// one of them was not before.
func (f *Files) soon(dir, name string) (news bool) {
	for _, w := range f.snapshot() {
		for _, d := range w.at {
			if d == dir || d == name {
				news = news || w.due.IsZero()
				w.settle(time.Now())
				break
			}
		}
	}
	return news
}

// settle makes w due when nothing more happens, but not too late.
func (w *file) settle(now time.Time) {
	if w.due.IsZero() || w.retry > 0 {
		w.since = now
	}
	w.due, w.retry = now.Add(settleTime), 0
	if last := w.since.Add(settleMax); last.Before(w.due) {
		w.due = last
	}
}

func (f *Files) all() {
	for _, w := range f.snapshot() {
		if w.due.IsZero() {
			w.due = time.Now()
		}
	}
}

// work looks at the files that are due and returns when the next one is.
func (f *Files) work(ctx context.Context) time.Duration {
	next := time.Hour
	for _, w := range f.snapshot() {
		if ctx.Err() != nil {
			return next
		}
		if !w.due.IsZero() && !time.Now().Before(w.due) {
			w.look()
		}
		if !w.due.IsZero() {
			next = min(next, max(time.Until(w.due), time.Millisecond))
		}
	}
	return next
}

// look updates w and, if that fails, sets when to try again.
func (w *file) look() {
	before := w.state()
	err := w.update()
	if err == nil {
		if w.state() != before {
			w.fs.log.Info("files reloaded", "files", w.paths)
		}
		w.due, w.retry = time.Time{}, 0
		return
	}
	w.retry = max(2*w.retry, retryMin)
	w.due = time.Now().Add(w.retry)
	if w.retry > retryMax {
		w.due = time.Time{} // an event or the poll will tell
	}
	if w.retry == patience { // it is no writer who will be done in a moment
		w.fs.log.Warn("files cannot be used, the last good version stays", "files", w.paths, "reason", err)
	}
}

func (w *file) state() [sha256.Size]byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen
}

// directories returns what must be watched for w: the directory of each path, of
// each link on the way to it, and of the file that they lead to.
func (w *file) directories() []string {
	var dirs []string
	for _, d := range w.dirs {
		dirs = append(dirs, realDir(d))
		dirs = append(dirs, linkDirs(d, 0)...)
	}
	for _, p := range w.paths {
		dirs = append(dirs, realDir(filepath.Dir(p)))
		dirs = append(dirs, linkDirs(p, 0)...)
		if target, err := filepath.EvalSymlinks(p); err == nil {
			dirs = append(dirs, realDir(filepath.Dir(target)))
		}
	}
	return dirs
}

// realDir is a directory's name without links, or as it stands if it is not
// there. The system has one watch for a directory, and that one name: of two it
// would tell but the later.
func realDir(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		return real
	}
	return dir
}

// linkDirs returns the directories of the symbolic links that path goes
// through.
func linkDirs(path string, depth int) (dirs []string) {
	const deepest = 16
	for p := filepath.Clean(path); depth < deepest; p = filepath.Dir(p) {
		if target, err := os.Readlink(p); err == nil {
			dir := realDir(filepath.Dir(p))
			if !filepath.IsAbs(target) {
				target = filepath.Join(dir, target)
			}
			dirs = append(dirs, dir)
			dirs = append(dirs, linkDirs(target, depth+1)...)
		}
		if parent := filepath.Dir(p); parent == p {
			break
		}
	}
	return dirs
}

// rearm makes the watcher watch what the files need now.
func (f *Files) rearm(watcher *fsnotify.Watcher, watched map[string]bool) {
	need := make(map[string]bool)
	for _, w := range f.snapshot() {
		w.at = w.directories()
		for _, d := range w.at {
			need[d] = true
		}
	}
	for d := range watched {
		if !need[d] {
			_ = watcher.Remove(d) // it may be gone
			delete(watched, d)
		}
	}
	for d := range need {
		if !watched[d] && watcher.Add(d) == nil {
			watched[d] = true
			f.soon(d, d) // what happened before it was watched
		}
	}
}
