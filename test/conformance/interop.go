package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// soak are flags of the cases that make many calls. One that takes longer than a
// second fails them unless told otherwise; on a busy machine one does.
var soak = []string{"-soak_num_threads=4", "-soak_overall_timeout_seconds=100", "-soak_per_iteration_max_acceptable_latency_ms=50000"}

// interopCases are the tests of grpc-go's interop client, with their flags. Not
// here are those that need credentials of a cloud, pick_first_unary, which
// wants a name that grpc-go's server does not give, and those of compression:
// see compressedCases.
var interopCases = []struct {
	name string
	args []string
}{
	{name: "empty_unary"},
	{name: "large_unary"},
	{name: "client_streaming"},
	{name: "server_streaming"},
	{name: "ping_pong"},
	{name: "empty_stream"},
	{name: "timeout_on_sleeping_server"},
	{name: "cancel_after_begin"},
	{name: "cancel_after_first_response"},
	{name: "status_code_and_message"},
	{name: "special_status_message"},
	{name: "custom_metadata"},
	{name: "unimplemented_method"},
	{name: "unimplemented_service"},
	{name: "rpc_soak", args: slices.Concat(soak, []string{"-soak_iterations=200"})},
	{name: "channel_soak", args: slices.Concat(soak, []string{"-soak_iterations=100"})},
	{name: "orca_per_rpc", args: []string{`-service_config_json={"loadBalancingConfig":[{"test_backend_metrics_load_balancer":{}}]}`}},
	{name: "orca_oob", args: []string{`-service_config_json={"loadBalancingConfig":[{"test_backend_metrics_load_balancer":{}}]}`}},
}

// runInterop runs the interop clients against grpc-go's server, and the cases of
// compression against one of our own.
func (h *harness) runInterop(ctx context.Context) []*result {
	srv, p, err := h.startInterop(ctx)
	if err != nil {
		return []*result{{suite: "interop", err: err}}
	}
	defer srv.stop()
	defer p.stop()
	var out []*result
	for _, r := range []*result{
		h.timed("interop/compressed", func(r *result) error { return h.interopCompressed(ctx, r) }),
		h.timed("interop/grpc-go", func(r *result) error { return h.interopGo(ctx, p, r) }),
		h.timed("interop/grpc-js", func(r *result) error { return h.interopJS(ctx, p, r) }),
	} {
		if r.err != nil || r.passed+r.skipped+len(r.failed) > 0 {
			out = append(out, r)
		}
	}
	if len(out) == 0 {
		out = append(out, &result{suite: "interop", err: errNoCase})
	}
	return out
}

func (h *harness) startInterop(ctx context.Context) (*process, *proxy, error) {
	port := strconv.Itoa(freePort())
	srv, err := start(h.proxy.logs, "interop-server", []string{filepath.Join(h.tools, "interop-server"), "-port", port})
	if err != nil {
		return nil, nil, err
	}
	if err := srv.waitListening(ctx, "127.0.0.1:"+port); err != nil {
		srv.stop()
		return nil, nil, fmt.Errorf("interop server: %w\n%s", err, srv.tail())
	}
	p, err := h.proxy.start(ctx, "interop-proxy", "127.0.0.1", port)
	if err != nil {
		srv.stop()
		return nil, nil, err
	}
	return srv, p, nil
}

func (h *harness) interopGo(ctx context.Context, p *proxy, r *result) error {
	for _, c := range interopCases {
		args := append([]string{"-server_host", p.host, "-server_port", p.port, "-test_case", c.name}, c.args...)
		h.interopCase(ctx, r, c.name, filepath.Join(h.tools, "interop-client"), args...)
	}
	return nil
}

// interopJS runs test/conformance/node/interop.js, if there is node.
func (h *harness) interopJS(ctx context.Context, p *proxy, r *result) error {
	node, err := installNode(ctx, filepath.Join(h.dir, "node"), filepath.Join(h.tools, "node"))
	if errors.Is(err, exec.ErrNotFound) {
		fmt.Fprintln(os.Stderr, "skipped: no node and npm on PATH")
		r.skipped++
		return nil
	}
	if err != nil {
		return err
	}
	names, err := h.output(ctx, node.bin, node.script, p.addr(), node.descriptors, "list")
	if err != nil {
		return fmt.Errorf("%w\n%s", err, names)
	}
	for _, name := range strings.Fields(names) {
		h.interopCase(ctx, r, name, node.bin, node.script, p.addr(), node.descriptors, name)
	}
	return nil
}

// interopCase runs a client for one case, unless -run is for others.
func (h *harness) interopCase(ctx context.Context, r *result, name, bin string, args ...string) {
	if !match(h.pattern, name) {
		return
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, errors.New("took longer than two minutes"))
	defer cancel()
	if out, err := h.output(ctx, bin, args...); err != nil {
		r.failed = append(r.failed, failure{name, fmt.Sprintf("%v\n%s", err, out)})
	} else {
		r.passed++
	}
}
