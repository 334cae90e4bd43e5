//go:build tools

package main

// What the suites need is named here, so that go.mod has it.
import (
	_ "github.com/mwitkow/grpc-proxy/proxy"
	_ "github.com/mwitkow/grpc-proxy/testservice"
	_ "github.com/siderolabs/grpc-proxy/proxy"
	_ "github.com/siderolabs/grpc-proxy/testservice"
	_ "github.com/sluice-proxy/sluice/dataplane/grpcproxy/proxy"
	_ "github.com/stretchr/testify/assert"
	_ "github.com/stretchr/testify/require"
	_ "github.com/stretchr/testify/suite"
	_ "golang.org/x/net/context"
	_ "google.golang.org/grpc/test/bufconn"
)
