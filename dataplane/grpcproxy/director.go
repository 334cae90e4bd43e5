package grpcproxy

import (
	"context"

	"google.golang.org/grpc"
)

// Mode is how a call is spread over its backends.
type Mode int

// Modes.
const (
	// One2One relays the call to its only backend, as it is.
	One2One Mode = iota
	// One2Many sends the call to all backends and gives the client one
	// response: of a unary method the responses merged, of a streaming method
	// all their messages. Errors of single backends become messages by
	// Backend.BuildError.
	One2Many
	// Replicated sends the call to all backends and gives the client the
	// response of the first, the primary. The responses of the others are
	// read and dropped; an error of any fails the call.
	Replicated
)

// StreamDirector chooses where a call goes: the mode and the backends. Its
// error is the call's: a status error as it is.
//
// ctx is the incoming call's: metadata.FromIncomingContext gives its metadata,
// peer.FromContext its client. The director runs after the server's stream
// interceptors; it may block, and ctx tells when the client has gone.
type StreamDirector func(ctx context.Context, fullMethodName string) (Mode, []Backend, error)

// Backend is one destination of a call.
//
// A Backend may also implement ErrorHandler, CallOptioner, Connector and
// Ender.
type Backend interface {
	// String returns the backend's name, for errors.
	String() string

	// GetConnection returns the connection for a call, and the context of the
	// call to the backend. That context should be derived from ctx, so that it
	// has its deadline, and carries the outgoing metadata: nothing of the
	// incoming is passed on by itself. The call ends with the client's at the
	// latest, derived or not.
	GetConnection(ctx context.Context, fullMethodName string) (context.Context, *grpc.ClientConn, error)

	// AppendInfo changes a response of a One2Many call, for example by
	// appending a field that names the backend: fields that follow a protobuf
	// message are merged into it.
	AppendInfo(streaming bool, resp []byte) ([]byte, error)

	// BuildError makes a response of an error of a One2Many call, so that the
	// others' responses are not lost: a call to N backends gives N1 responses
	// and N2 errors, N1 + N2 = N. If it returns nil the whole call fails with
	// the error. Errors in making connections are treated the same.
	BuildError(streaming bool, err error) ([]byte, error)
}

// ErrorHandler is a Backend that has a say in its errors: what HandleError
// returns takes the error's place, and nil makes it a success. The error is a
// status error. It is called once per call that failed, with what NewStream or
// the backend's status said; failures of the client's side are not its.
type ErrorHandler interface {
	HandleError(err error) error
}

// CallOptioner is a Backend with call options of its own.
type CallOptioner interface {
	CallOptions() []grpc.CallOption
}

// Connector is a Backend whose connections are not *grpc.ClientConn: a reverse
// tunnel, an in-process channel, a pool. It is asked instead of GetConnection.
type Connector interface {
	Connect(ctx context.Context, fullMethodName string) (context.Context, grpc.ClientConnInterface, error)
}

// Ender is a Backend that wants to know when a call to it has ended, and how:
// nil, or the status error that the backend gave, or that kept the call from
// it. Each successful GetConnection or Connect is followed by one End.
type Ender interface {
	End(ctx context.Context, err error)
}

// SingleBackend makes a Backend of a function, for One2One.
type SingleBackend struct {
	// GetConn is Backend.GetConnection.
	GetConn func(ctx context.Context) (context.Context, *grpc.ClientConn, error)
}

// String implements Backend.
func (*SingleBackend) String() string { return "backend" }

// GetConnection implements Backend.
func (b *SingleBackend) GetConnection(ctx context.Context, _ string) (context.Context, *grpc.ClientConn, error) {
	return b.GetConn(ctx)
}

// AppendInfo implements Backend: it changes nothing.
func (*SingleBackend) AppendInfo(_ bool, resp []byte) ([]byte, error) { return resp, nil }

// BuildError implements Backend: every error fails the call.
func (*SingleBackend) BuildError(bool, error) ([]byte, error) { return nil, nil }

// ConnBackend is SingleBackend over any kind of channel.
type ConnBackend struct {
	SingleBackend
	// Name is what String returns; "backend" if empty.
	Name string
	// Conn is the channel.
	Conn grpc.ClientConnInterface
	// Outgoing makes the context of the call to the backend; nil: Forwarded.
	Outgoing func(ctx context.Context) context.Context
	// OnError is ErrorHandler.HandleError; nil: errors stay as they are.
	OnError func(err error) error
	// Options are CallOptioner.CallOptions.
	Options []grpc.CallOption
}

// String implements Backend.
func (b *ConnBackend) String() string {
	if b.Name == "" {
		return "backend"
	}
	return b.Name
}

// Connect implements Connector.
func (b *ConnBackend) Connect(ctx context.Context, _ string) (context.Context, grpc.ClientConnInterface, error) {
	if b.Outgoing == nil {
		return Forwarded(ctx), b.Conn, nil
	}
	return b.Outgoing(ctx), b.Conn, nil
}

// HandleError implements ErrorHandler.
func (b *ConnBackend) HandleError(err error) error {
	if b.OnError == nil {
		return err
	}
	return b.OnError(err)
}

// CallOptions implements CallOptioner.
func (b *ConnBackend) CallOptions() []grpc.CallOption { return b.Options }
