package grpcproxy

import (
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// ServerStreamWrapper is a stream that several goroutines may send on: handlers
// and interceptors that join responses of their own. The zero value with a
// ServerStream is usable. RecvMsg keeps its one caller.
type ServerStreamWrapper struct {
	grpc.ServerStream

	sending sync.Mutex // held to write to the stream; guards sent
	sent    bool       // headers have gone
}

// SetHeader adds headers. Those that come too late, because headers have gone,
// are dropped without an error: of several senders one is always the last.
func (w *ServerStreamWrapper) SetHeader(md metadata.MD) error {
	w.sending.Lock()
	defer w.sending.Unlock()
	if w.sent {
		return nil
	}
	return w.ServerStream.SetHeader(md)
}

// SendHeader sends the headers, with those of SetHeader; a second time it does
// nothing.
func (w *ServerStreamWrapper) SendHeader(md metadata.MD) error {
	w.sending.Lock()
	defer w.sending.Unlock()
	if w.sent {
		return nil
	}
	w.sent = true
	return w.ServerStream.SendHeader(md)
}

// SetTrailer adds trailers.
func (w *ServerStreamWrapper) SetTrailer(md metadata.MD) {
	w.sending.Lock()
	defer w.sending.Unlock()
	w.ServerStream.SetTrailer(md)
}

// SendMsg sends a message, and the headers if they have not gone.
func (w *ServerStreamWrapper) SendMsg(m any) error {
	w.sending.Lock()
	defer w.sending.Unlock()
	w.sent = true
	return w.ServerStream.SendMsg(m)
}
