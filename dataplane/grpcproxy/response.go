package grpcproxy

import (
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// statusDetails is the trailer that has a status with its details.
const statusDetails = "grpc-status-details-bin"

// trailerOf returns the trailers of cs, which has ended with err, for the
// client. If err tells a status with all it has, that stays out: grpc-go writes
// it from the error that the handler returns, which need not be err. Of two that
// contradict each other a client makes INTERNAL.
func trailerOf(cs grpc.ClientStream, err error) metadata.MD {
	md := without(cs.Trailer(), contentLength)
	if isEOF(err) {
		return md // no error has details of OK
	}
	if v := md[statusDetails]; len(v) == 1 && proto.Unmarshal([]byte(v[0]), new(spb.Status)) == nil {
		return without(md, statusDetails)
	}
	return md
}

// without returns md without a key. md may be the channel's own.
func without(md metadata.MD, key string) metadata.MD {
	if _, there := md[key]; there {
		md = md.Copy()
		delete(md, key)
	}
	return md
}
