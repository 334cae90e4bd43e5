package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// node is an installed interop client of test/conformance/node.
type node struct {
	bin, script string
	descriptors string // path of the FileDescriptorSet of grpc.testing
}

// installNode copies the client from src to dst and installs the packages that
// its lock file pins, if that is not done already. The error is
// exec.ErrNotFound if there is no node or npm.
func installNode(ctx context.Context, src, dst string) (*node, error) {
	bin, err := exec.LookPath("node")
	if err != nil {
		return nil, err
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		return nil, err
	}
	installed, changed := filepath.Join(dst, "node_modules", ".package-lock.json"), false
	if err := os.MkdirAll(dst, 0o755); err != nil {
		return nil, err
	}
	for _, name := range []string{"package.json", "package-lock.json", "interop.js"} {
		b, err := os.ReadFile(filepath.Join(src, name))
		if err != nil {
			return nil, err
		}
		old, err := os.ReadFile(filepath.Join(dst, name))
		if err == nil && bytes.Equal(old, b) {
			continue
		}
		changed = changed || name != "interop.js"
		if err := os.WriteFile(filepath.Join(dst, name), b, 0o644); err != nil {
			return nil, err
		}
	}
	if _, err := os.Stat(installed); err != nil || changed {
		cmd := exec.CommandContext(ctx, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
		cmd.Dir = dst
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("npm ci: %w\n%s", err, out)
		}
	}
	n := &node{bin: bin, script: filepath.Join(dst, "interop.js"), descriptors: filepath.Join(dst, "testing.binpb")}
	set, err := proto.Marshal(descriptors(grpc_testing.File_grpc_testing_test_proto))
	if err != nil {
		return nil, err
	}
	return n, os.WriteFile(n.descriptors, set, 0o644)
}

// descriptors is file behind the files that it imports.
func descriptors(file protoreflect.FileDescriptor) *descriptorpb.FileDescriptorSet {
	set, seen := &descriptorpb.FileDescriptorSet{}, map[string]bool{}
	var add func(protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		if seen[f.Path()] {
			return
		}
		seen[f.Path()] = true
		imports := f.Imports()
		for i := range imports.Len() {
			add(imports.Get(i))
		}
		set.File = append(set.File, protodesc.ToFileDescriptorProto(f))
	}
	add(file)
	return set
}
