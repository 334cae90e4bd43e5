package grpcproxy

import (
	"runtime"

	"google.golang.org/grpc"
)

// Windows of flow control. Fixed ones spare the pings by which grpc-go
// measures the connection. A stream's is the most that one stalled call can
// hold here; a connection's lets others go on meanwhile.
const (
	streamWindow = 1 << 20
	connWindow   = 4 << 20
)

// ServerOptions returns what makes a grpc.Server cheaper as a proxy, and its
// codec the proxy's: for grpc.NewServer, before one's own options. Messages
// have no size limit; the backend's holds.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ForceServerCodecV2(Codec()),
		grpc.NumStreamWorkers(uint32(residents())),
		grpc.InitialWindowSize(streamWindow),
		grpc.InitialConnWindowSize(connWindow),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxSendMsgSize(maxMessage),
	}
}

// DialOptions returns what makes a connection to a backend cheaper, and does
// for it what ServerOptions does for the server.
func DialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		grpc.WithInitialWindowSize(streamWindow),
		grpc.WithInitialConnWindowSize(connWindow),
		// A proxy does not repeat calls by itself. Those that the backend
		// certainly has not seen are repeated all the same.
		grpc.WithDisableRetry(),
	}
}

// maxMessage is no limit.
const maxMessage = 1<<31 - 1

// residents is the number of goroutines that wait for calls with their stacks
// grown; more calls at once have goroutines of their own.
func residents() int { return 32 * runtime.GOMAXPROCS(0) }
