//go:build unix

package dataplane

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/test/echo"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// A function that waits decides by what it was told, while the workers serve
// others; its errors are the calls'.
func TestBlockingDirector(t *testing.T) {
	h, _ := backend(t, &echo.Server{Instance: "one"})
	release := make(chan struct{})
	var log bytes.Buffer // read when the director is closed
	d := NewBlockingDirector(func(ctx context.Context, r *Request) (call.Decision, error) {
		who, _ := r.Headers.GetName("who")
		switch who {
		case "patient":
			<-release
		case "refused":
			return call.Decision{}, &call.Reply{HTTP: 403, GRPC: call.PermissionDenied, Message: "not you"}
		case "broken":
			return call.Decision{}, errors.New("the database is gone")
		case "mad":
			panic("a bug")
		case "late":
			<-ctx.Done()
			return call.Decision{}, ctx.Err()
		}
		if r.Path == "" || r.Host == "" || !r.GRPC || !r.Conn.Remote.IsValid() {
			t.Errorf("request %+v", r)
		}
		return call.Decision{Backends: h}, nil
	}, BlockingOptions{Timeout: 2 * time.Second, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	defer d.Close()
	s := newServer(t)
	mustServe(t, s, version(t, 1, d))
	c := client(t, s)
	as := func(who string) context.Context {
		return metadata.AppendToOutgoingContext(testContext(t), "who", who)
	}
	patient := make(chan error, 1)
	go func() {
		_, err := c.Say(as("patient"), &echo.SayRequest{})
		patient <- err
	}()
	for who, want := range map[string]codes.Code{
		"quick": codes.OK, "mad": codes.Internal, "refused": codes.PermissionDenied, "broken": codes.Unavailable, "late": codes.DeadlineExceeded,
	} {
		if _, err := c.Say(as(who), &echo.SayRequest{}); status.Code(err) != want {
			t.Errorf("%s: %v, want %v", who, err, want)
		}
	}
	close(release)
	if err := <-patient; err != nil {
		t.Error(err)
	}
	d.Close()
	if s := log.String(); !strings.Contains(s, "a bug") {
		t.Errorf("logged: %s", s)
	}
}

// So many are decided at once, so many wait, and the rest is refused; a call
// whose client has gone leaves nothing behind once its slot is used again.
func TestBlockingDirectorBounds(t *testing.T) {
	h, _ := backend(t, &echo.Server{})
	release := make(chan struct{})
	entered := make(chan struct{}, 10)
	d := NewBlockingDirector(func(context.Context, *Request) (call.Decision, error) {
		entered <- struct{}{}
		<-release
		return call.Decision{Backends: h}, nil
	}, BlockingOptions{Concurrency: 1, Pending: 1})
	s := newServer(t)
	mustServe(t, s, version(t, 1, d))
	c := client(t, s)
	ctx, cancel := context.WithCancel(testContext(t))
	var all sync.WaitGroup
	all.Go(func() { _, _ = c.Say(ctx, &echo.SayRequest{}) })
	<-entered
	all.Go(func() {
		if _, err := c.Say(testContext(t), &echo.SayRequest{}); err != nil {
			t.Errorf("the one that waits: %v", err)
		}
	})
	waits := func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return len(d.waiting) == 1
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !waits() {
		<-tick.C // there is no event for it
	}
	if _, err := c.Say(testContext(t), &echo.SayRequest{}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one more: %v", err)
	}
	cancel()
	close(release)
	all.Wait()
	d.Close()
	if _, err := c.Say(testContext(t), &echo.SayRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("closed: %v", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.busy != 0 || len(d.waiting) != 0 || len(d.asked) > 3 {
		t.Errorf("%d busy, %d waiting, %d asked", d.busy, len(d.waiting), len(d.asked))
	}
}
