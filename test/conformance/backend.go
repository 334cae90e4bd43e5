package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// backend is a server of HTTP/2 in this process.
type backend struct {
	srv        *http.Server
	host, port string
	done       chan struct{}
}

func startBackend(h http.Handler) (*backend, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b := &backend{done: make(chan struct{}), srv: &http.Server{
		Handler:           h,
		Protocols:         new(http.Protocols),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}}
	b.srv.Protocols.SetUnencryptedHTTP2(true)
	if b.host, b.port, err = net.SplitHostPort(l.Addr().String()); err != nil {
		return nil, err
	}
	go b.serve(l)
	return b, nil
}

func (b *backend) serve(l net.Listener) {
	defer close(b.done)
	_ = b.srv.Serve(l) // ends with stop
}

func (b *backend) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if b.srv.Shutdown(ctx) != nil {
		_ = b.srv.Close() // of connections that nobody uses any more
	}
	<-b.done
}

var page = bytes.Repeat([]byte("sluice\n"), 1024)

// answer answers every request, when it is complete, with a body that is larger
// than the windows that h2spec opens.
func answer(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return // the request was reset
	}
	w.Header().Set("Content-Type", "text/plain")
	if _, err := w.Write(page); err != nil {
		return // nobody reads it
	}
}
