package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// tools are built from the versions that go.mod pins.
var tools = map[string]string{
	"h2spec":             "github.com/summerwind/h2spec/cmd/h2spec",
	"interop-client":     "google.golang.org/grpc/interop/client",
	"interop-server":     "google.golang.org/grpc/interop/server",
	"connectconformance": "connectrpc.com/conformance/cmd/connectconformance",
	"grpcclient":         "connectrpc.com/conformance/cmd/grpcclient",
	"grpcserver":         "connectrpc.com/conformance/cmd/grpcserver",
	"referenceclient":    "connectrpc.com/conformance/cmd/referenceclient",
	"referenceserver":    "connectrpc.com/conformance/cmd/referenceserver",
}

// build makes the named tools in dir; go build leaves alone what is up to date.
func build(ctx context.Context, dir string, names []string) error {
	for _, name := range names {
		out := filepath.Join(dir, name)
		cmd := exec.CommandContext(ctx, "go", "build", "-o", out, tools[name])
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("build %s: %w", tools[name], err)
		}
	}
	return nil
}
