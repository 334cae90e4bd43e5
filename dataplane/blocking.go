package dataplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

// Request is what a BlockingFunc sees of a call: a copy, which it may keep.
type Request struct {
	Conn    *call.Conn    // the client's connection: addresses, certificate
	Headers *hpack.Block  // request headers as received, pseudo-headers first
	Path    string        // :path, query included
	Host    string        // :authority
	Method  string        // :method
	GRPC    bool          // it is a gRPC request
	Timeout time.Duration // how long the function has; 0: no limit
	// Message is the first message of a gRPC request, or as much of it as
	// BlockingOptions.Peek allows, if that asked for it.
	Message call.Message
	Whole   bool // Message is all of it
}

// BlockingFunc decides about one call, and may wait for whatever it needs: a
// database, a token's check, a connection. ctx ends with its time or with the
// director. Its error ends the call: a *call.Reply as it says, anything else
// as UNAVAILABLE. A panic ends it with INTERNAL.
type BlockingFunc func(ctx context.Context, r *Request) (call.Decision, error)

// BlockingOptions bound a BlockingDirector. The zero value is usable.
type BlockingOptions struct {
	Concurrency int           // calls decided at once; 0: 64
	Pending     int           // calls that wait to be; 0: 1,024. More fail at once
	Timeout     time.Duration // for one decision; 0: no limit
	// Peek makes gRPC calls wait for their first message, of which the
	// function then sees up to call.Manager.MaxPeekBytes. A client that sends
	// no message before it has heard from the server waits for ever.
	Peek bool
	// Logger gets panics of the function, which cost their call only. nil:
	// nothing is logged.
	Logger *slog.Logger
}

const (
	defaultConcurrency = 64
	defaultPending     = 1024
)

// BlockingDirector is a call.Director that asks a function on goroutines of its
// own, of which there are so many only, and pauses the call meanwhile: no
// worker ever waits. A call whose client goes while it is paused is forgotten;
// its decision is made all the same.
type BlockingDirector struct {
	// Set at creation.

	decide  BlockingFunc
	limit   int
	pending int
	timeout time.Duration
	peek    bool
	log     *slog.Logger
	ctx     context.Context //nolint:containedctx // of all decisions; ended by Close
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex // guards all below; held for moments, also by workers
	closed  bool
	busy    int // goroutines
	waiting []*question
	// asked has the paused calls by their slot. A slot has one call at a time:
	// one that is asked anew takes the place of one that ended unanswered.
	asked map[slot]*question
}

type slot struct {
	owner call.Resumer
	index uint32
}

// question is one call's.
type question struct {
	request Request
	block   hpack.Block
	handle  call.Handle

	// Guarded by BlockingDirector.mu.

	answered bool
	decision call.Decision
	err      error
}

// errDirectorClosed is what a closed BlockingDirector says.
var errDirectorClosed = &call.Reply{
	HTTP: 503, GRPC: call.Unavailable, Message: "the director is closed", Detail: "director_closed",
}

// errDirectorPanic is the answer when the function has panicked.
var errDirectorPanic = &call.Reply{HTTP: 500, GRPC: call.Internal, Message: "internal error", Detail: "internal_error"}

// errDirectorBusy is the answer when too many calls wait.
var errDirectorBusy = &call.Reply{
	HTTP: 503, GRPC: call.ResourceExhausted, Flag: call.OverloadManager, Message: "too many calls wait for a decision", Detail: "director_busy",
}

// NewBlockingDirector returns a director that asks decide. It must be closed.
func NewBlockingDirector(decide BlockingFunc, o BlockingOptions) *BlockingDirector {
	if o.Concurrency <= 0 {
		o.Concurrency = defaultConcurrency
	}
	if o.Pending <= 0 {
		o.Pending = defaultPending
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	d := &BlockingDirector{
		decide: decide, limit: o.Concurrency, pending: o.Pending, timeout: o.Timeout, peek: o.Peek, log: o.Logger,
		asked: make(map[slot]*question),
	}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return d
}

// Direct implements call.Director.
func (d *BlockingDirector) Direct(c *call.Call) (call.Decision, error) {
	if d.peek && c.GRPC && !c.Peek.Done {
		return call.Decision{}, call.ErrPeek
	}
	key := slot{c.Handle.Owner, c.Handle.Slot}
	d.mu.Lock()
	defer d.mu.Unlock()
	if q := d.asked[key]; q != nil && q.handle == c.Handle {
		if !q.answered {
			return call.Decision{}, call.ErrPending // resumed by somebody else
		}
		delete(d.asked, key)
		return q.decision, q.err
	}
	switch {
	case d.closed:
		return call.Decision{}, errDirectorClosed
	case d.busy >= d.limit && len(d.waiting) >= d.pending:
		return call.Decision{}, errDirectorBusy
	}
	q := newQuestion(c, d.timeout)
	d.asked[key] = q
	if d.busy < d.limit {
		d.busy++
		d.running.Go(func() { d.work(q) })
	} else {
		d.waiting = append(d.waiting, q)
	}
	return call.Decision{}, call.ErrPending
}

func newQuestion(c *call.Call, timeout time.Duration) *question {
	q := &question{handle: c.Handle, request: Request{
		Conn: c.Conn, Path: strings.Clone(c.Path), Host: strings.Clone(c.Host), Method: strings.Clone(c.Method),
		GRPC: c.GRPC, Timeout: timeout,
	}}
	q.block.CopyFrom(c.Headers)
	q.request.Headers = &q.block
	q.request.Message, q.request.Whole = c.Peek.Message, c.Peek.Whole
	q.request.Message.Data = slices.Clone(c.Peek.Message.Data)
	return q
}

// work answers questions until none waits.
func (d *BlockingDirector) work(q *question) {
	for q != nil {
		decision, err := d.ask(q)
		d.mu.Lock()
		q.decision, q.err, q.answered = decision, err, true
		handle := q.handle
		q = nil
		if len(d.waiting) > 0 {
			q = d.waiting[0]
			d.waiting[0] = nil
			d.waiting = d.waiting[1:]
		} else {
			d.busy--
		}
		d.mu.Unlock()
		handle.Resume(nil)
	}
}

// ask calls the function with its time.
func (d *BlockingDirector) ask(q *question) (decision call.Decision, err error) {
	defer func() {
		if r := recover(); r != nil {
			d.log.Error("panic in a blocking director's function", "reason", fmt.Sprint(r), "path", q.request.Path, "stack", string(debug.Stack()))
			decision, err = call.Decision{}, errDirectorPanic
		}
	}()
	ctx := d.ctx
	if d.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.timeout)
		defer cancel()
	}
	decision, err = d.decide(ctx, &q.request)
	if err != nil && errors.Is(err, context.DeadlineExceeded) {
		err = &call.Reply{HTTP: 504, GRPC: call.DeadlineExceeded, Message: "no decision in time", Detail: "director_timeout"}
	}
	return decision, err
}

// Close ends the context of all decisions and returns when they have ended.
// Calls that come later fail with UNAVAILABLE.
func (d *BlockingDirector) Close() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.cancel()
	d.running.Wait()
}
