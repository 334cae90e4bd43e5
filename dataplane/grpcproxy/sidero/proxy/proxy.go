// Package proxy is package grpcproxy under the name that siderolabs/grpc-proxy
// has: a program written for that changes its import path and nothing else. All
// is aliases, so that the two may be mixed; see docs/migration/siderolabs.md.
package proxy

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"

	"github.com/sluice-proxy/sluice/dataplane/grpcproxy"
)

// The types are those of package grpcproxy.

type (
	// Mode is grpcproxy.Mode.
	Mode = grpcproxy.Mode
	// Backend is grpcproxy.Backend.
	Backend = grpcproxy.Backend
	// SingleBackend is grpcproxy.SingleBackend.
	SingleBackend = grpcproxy.SingleBackend
	// StreamDirector is grpcproxy.StreamDirector.
	StreamDirector = grpcproxy.StreamDirector
	// Option is grpcproxy.Option.
	Option = grpcproxy.Option
	// StreamedDetectorFunc is grpcproxy.StreamedDetectorFunc.
	StreamedDetectorFunc = grpcproxy.StreamedDetectorFunc
	// ServerStreamWrapper is grpcproxy.ServerStreamWrapper.
	ServerStreamWrapper = grpcproxy.ServerStreamWrapper
)

// Modes.
const (
	One2One  = grpcproxy.One2One
	One2Many = grpcproxy.One2Many
)

// TransparentHandler is grpcproxy.TransparentHandler.
func TransparentHandler(director StreamDirector, options ...Option) grpc.StreamHandler {
	return grpcproxy.TransparentHandler(director, options...)
}

// RegisterService is grpcproxy.RegisterService.
func RegisterService(server grpc.ServiceRegistrar, director StreamDirector, serviceName string, options ...Option) {
	grpcproxy.RegisterService(server, director, serviceName, options...)
}

// WithMethodNames is grpcproxy.WithMethodNames.
func WithMethodNames(methodNames ...string) Option { return grpcproxy.WithMethodNames(methodNames...) }

// WithStreamedMethodNames is grpcproxy.WithStreamedMethodNames.
func WithStreamedMethodNames(streamedMethodNames ...string) Option {
	return grpcproxy.WithStreamedMethodNames(streamedMethodNames...)
}

// WithStreamedDetector is grpcproxy.WithStreamedDetector.
func WithStreamedDetector(detector StreamedDetectorFunc) Option {
	return grpcproxy.WithStreamedDetector(detector)
}

// WithMode is grpcproxy.WithMode, which the original's README promises.
func WithMode(mode Mode) Option { return grpcproxy.WithMode(mode) }

// Codec is grpcproxy.Codec.
func Codec() encoding.CodecV2 { return grpcproxy.Codec() }

// CodecWithParent is grpcproxy.CodecWithParent.
func CodecWithParent(fallback encoding.CodecV2) encoding.CodecV2 {
	return grpcproxy.CodecWithParent(fallback)
}

// NewFrame is grpcproxy.NewFrame.
func NewFrame(payload []byte) any { return grpcproxy.NewFrame(payload) }
