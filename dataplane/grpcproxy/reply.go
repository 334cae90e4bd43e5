package grpcproxy

import (
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// replyStatus is the status of an error that is a *call.Reply, and other
// errors as they are.
func replyStatus(err error) error {
	var r *call.Reply
	if !errors.As(err, &r) {
		return err
	}
	return replyError(r)
}

// replyError is the status of an answer of our own; nil if it is OK.
func replyError(r *call.Reply) error {
	return status.Error(codes.Code(r.GRPC), r.Message)
}
