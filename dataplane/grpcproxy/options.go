package grpcproxy

import (
	"runtime/debug"
	"sync"
)

// Option configures a handler.
type Option func(*options)

// StreamedDetectorFunc reports whether a method is streaming.
type StreamedDetectorFunc func(fullMethodName string) bool

type options struct {
	service  string
	methods  []string
	streamed StreamedDetectorFunc
	mode     *Mode
	merge    Merger
	queue    int
	reserve  []byte // never touched; nil: processReserve
}

// processReserve is the reserve of all handlers and servers of the process that
// ask for none of their own.
var processReserve = sync.OnceValue(func() []byte {
	return make([]byte, min(defaultReserve, debug.SetMemoryLimit(-1)/reserveShare))
})

const (
	defaultReserve = 32 << 20
	// reserveShare of GOMEMLIMIT, to which the reserve counts as if it were
	// used, is the most that it may be.
	reserveShare = 16
)

// defaultQueue is the number of messages that wait for one slow backend of
// several before the client has to wait with it.
const defaultQueue = 16

// WithMethodNames lists the methods that RegisterService relays.
func WithMethodNames(methodNames ...string) Option {
	return func(o *options) { o.methods = append([]string(nil), methodNames...) }
}

// WithStreamedMethodNames lists the methods whose One2Many responses are
// passed on message by message rather than merged. It is for RegisterService,
// which gives it the service's name.
func WithStreamedMethodNames(streamedMethodNames ...string) Option {
	return func(o *options) {
		streamed := make(map[string]bool, len(streamedMethodNames))
		for _, m := range streamedMethodNames {
			streamed["/"+o.service+"/"+m] = true
		}
		o.streamed = func(fullMethodName string) bool { return streamed[fullMethodName] }
	}
}

// WithStreamedDetector is WithStreamedMethodNames by a function.
func WithStreamedDetector(detector StreamedDetectorFunc) Option {
	return func(o *options) { o.streamed = detector }
}

// WithMode makes every call one of this mode, whatever the director says.
func WithMode(mode Mode) Option {
	return func(o *options) { o.mode = &mode }
}

// WithMerger makes merge join the responses of unary One2Many calls, instead
// of Concatenate.
func WithMerger(merge Merger) Option {
	return func(o *options) { o.merge = merge }
}

// WithQueue bounds the messages that wait for one slow backend of a One2Many
// or Replicated call; 16 if it is not given. When a queue is full the client
// is not read from until there is room.
func WithQueue(messages int) Option {
	return func(o *options) { o.queue = max(messages, 1) }
}

// WithHeapReserve is Config.HeapReserve for a handler: memory that it asks for
// and never touches, so that the garbage collector works less often in a
// program with a small heap. Without it all handlers of a process share 32 MiB,
// or a sixteenth of GOMEMLIMIT if that is less; 0 or less: none.
func WithHeapReserve(bytes int) Option {
	return func(o *options) { o.reserve = make([]byte, max(bytes, 0)) }
}
