package grpcproxy

import (
	"errors"
	"fmt"
	"runtime/debug"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// panicked is a panic on another goroutine than the handler's, where no
// interceptor recovers from it.
type panicked struct {
	value any
	stack []byte
}

// newPanicked is called where the panic was recovered from.
func newPanicked(value any) error { return &panicked{value: value, stack: debug.Stack()} }

// Error implements error, for whoever prints what was recovered.
func (p *panicked) Error() string { return fmt.Sprintf("%v\n\n%s", p.value, p.stack) }

// Unwrap supports errors.Is and errors.As.
func (p *panicked) Unwrap() error {
	err, _ := p.value.(error)
	return err
}

// errPanicked is what a client is told of a panic that nobody recovers from in
// time.
var errPanicked = status.Error(codes.Internal, "grpcproxy: internal error")

// rethrow panics again if err is a panic: on the handler's goroutine, for the
// interceptors around it.
func rethrow(err error) {
	if p := (*panicked)(nil); errors.As(err, &p) {
		panic(p) //nolint:forbidigo // it is one already
	}
}
