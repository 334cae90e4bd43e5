package xdsclient

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// Handler takes what the control plane sends. Its calls never overlap. While
// one is under way nothing more is received, but requests go on being sent; a
// handler that needs time for a response keeps it, returns, and calls Done
// later.
type Handler interface {
	// Response takes in a response; Done must be called on it once.
	Response(r *Response)
	// Malformed says that a response came of which nothing can be taken in, and
	// was refused: not all in it is of the type that it claims.
	Malformed(typeURL, version string, err error)
	// StreamUp says that a stream was opened.
	StreamUp()
	// StreamDown says that the stream ended, or that an attempt to open one
	// failed; then no StreamUp came before. The client tries again. What was
	// received stays valid.
	StreamDown(err error)
}

// Config configures a Client.
type Config struct {
	Transport Transport
	Handler   Handler
	// Node says who we are. It must not change any more.
	Node *corev3.Node
	// SetNodeOnFirstMessageOnly leaves the node out of all but the first
	// request of each stream (ApiConfigSource.set_node_on_first_message_only).
	SetNodeOnFirstMessageOnly bool
	// Backoff is the wait before another stream is opened, and before the same
	// content is refused again.
	Backoff Backoff
	Logger  *slog.Logger // nil: no logs
}

// Client is a client of one xDS stream. Its methods are safe for concurrent
// use.
type Client struct {
	// Set at creation.

	cfg  Config
	log  *slog.Logger
	wake chan struct{} // holds one token when the sender has something to look at

	// mu guards the fields below. It is not held during I/O or callbacks.
	mu    sync.Mutex
	proto protocol
	conn  Status // without Types
}

// New returns a client that does nothing until Run.
func New(cfg Config) *Client {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Backoff = cfg.Backoff.withDefaults()
	return &Client{
		cfg:   cfg,
		log:   cfg.Logger,
		wake:  make(chan struct{}, 1),
		proto: newSotW(&cfg),
	}
}

// Subscribe replaces what is wanted of a type. Changes that follow one another
// closely go out in one request. It does not block.
func (c *Client) Subscribe(typeURL string, s Subscription) {
	c.mu.Lock()
	c.proto.subscribe(typeURL, s, time.Now())
	c.mu.Unlock()
	c.poke()
}

// Status describes the client now.
func (c *Client) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.conn
	s.ControlPlane = c.proto.server()
	s.Types = c.proto.status()
	return s
}

// answer is the end of a Response.
func (c *Client) answer(r *Response, err error) {
	if err != nil {
		c.log.Warn("configuration refused", "type", r.TypeURL, "version", r.Version, "nonce", r.Nonce, "reason", err)
	}
	c.mu.Lock()
	c.proto.answered(r, err, time.Now())
	c.mu.Unlock()
	c.poke()
}

// poke makes the sender look for requests that are due.
func (c *Client) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Run keeps a stream open until ctx ends, and returns ctx's error. Call it once.
func (c *Client) Run(ctx context.Context) error {
	failed := 0 // attempts in a row without a response
	for {
		healthy, err := c.runStream(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if healthy {
			failed = 0
		}
		wait := c.cfg.Backoff.delay(failed)
		failed++
		c.log.Warn("xDS stream down", "reason", err, "retry_in", wait)
		if !sleep(ctx, wait) {
			return ctx.Err()
		}
	}
}

// runStream opens one stream and serves it until it ends. healthy says that at
// least one response came.
func (c *Client) runStream(ctx context.Context) (healthy bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	st, err := c.cfg.Transport.Open(ctx, c.proto.method())
	if err != nil {
		c.streamDown(err)
		return false, err
	}
	defer st.Close()
	c.streamUp()

	rcv := &receiver{client: c, stream: st, ended: make(chan struct{})}
	go rcv.run()
	err = c.sendDue(ctx, st, rcv.ended)
	cancel()
	<-rcv.ended
	if err == nil || errors.Is(err, io.EOF) {
		err = rcv.err // the receiver knows why the stream ended
	}
	c.streamDown(err)
	return rcv.responses > 0, err
}

func (c *Client) streamUp() {
	now := time.Now()
	c.mu.Lock()
	c.conn.Connected, c.conn.Since, c.conn.LastError = true, now, ""
	c.conn.Attempts++
	c.proto.opened(now)
	c.mu.Unlock()
	c.log.Info("xDS stream open")
	c.cfg.Handler.StreamUp()
}

func (c *Client) streamDown(err error) {
	c.mu.Lock()
	if c.conn.Connected {
		c.conn.Connected, c.conn.Since = false, time.Now()
	} else {
		c.conn.Attempts++
	}
	c.conn.Failures++
	c.conn.LastError = err.Error()
	c.proto.closed()
	c.mu.Unlock()
	c.cfg.Handler.StreamDown(err)
}

// sendDue sends requests as they become due, until the stream ends. It returns
// nil if the receiver was the first to know.
func (c *Client) sendDue(ctx context.Context, st Stream, ended <-chan struct{}) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		c.mu.Lock()
		req, wait := c.proto.next(time.Now())
		c.mu.Unlock()
		if req != nil {
			if err := st.Send(req); err != nil {
				return err
			}
			continue
		}
		var due <-chan time.Time
		if wait >= 0 {
			timer.Reset(wait)
			due = timer.C
		}
		select {
		case <-c.wake:
		case <-due:
		case <-ended:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// receiver reads one stream on its own goroutine.
type receiver struct {
	client *Client
	stream Stream
	ended  chan struct{} // closed when run returns

	// Owned by run until ended is closed.

	responses int
	err       error // why the stream ended
}

func (r *receiver) run() {
	defer close(r.ended)
	c := r.client
	for {
		m := c.proto.newResponse()
		if r.err = r.stream.Recv(m); r.err != nil {
			return
		}
		r.responses++
		c.mu.Lock()
		resp, err := c.proto.received(m, time.Now())
		c.mu.Unlock()
		c.poke() // a response that was refused at once
		switch {
		case err != nil:
			c.cfg.Handler.Malformed(resp.TypeURL, resp.Version, err)
		case resp != nil:
			resp.done = c.answer
			c.cfg.Handler.Response(resp)
		}
	}
}

// sleep waits for d, or until ctx ends, and then returns false.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
