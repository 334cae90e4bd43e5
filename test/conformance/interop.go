package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"
)

// interopCases are the tests of grpc-go's interop client, with their flags. Not
// here are those that need credentials of a cloud, and pick_first_unary, which
// wants a name that grpc-go's server does not give.
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
	{name: "rpc_soak", args: []string{"-soak_iterations=200", "-soak_num_threads=4", "-soak_overall_timeout_seconds=30"}},
	{name: "channel_soak", args: []string{"-soak_iterations=100", "-soak_num_threads=4", "-soak_overall_timeout_seconds=30"}},
	{name: "orca_per_rpc", args: []string{`-service_config_json={"loadBalancingConfig":[{"test_backend_metrics_load_balancer":{}}]}`}},
	{name: "orca_oob", args: []string{`-service_config_json={"loadBalancingConfig":[{"test_backend_metrics_load_balancer":{}}]}`}},
}

// runInterop runs grpc-go's interop client against its server.
func (h *harness) runInterop(ctx context.Context) []*result {
	return []*result{h.timed("interop/grpc-go", func(r *result) error {
		port := strconv.Itoa(freePort())
		srv, err := start(h.proxy.logs, "interop-server", []string{filepath.Join(h.tools, "interop-server"), "-port", port})
		if err != nil {
			return err
		}
		defer srv.stop()
		if err := srv.waitListening(ctx, "127.0.0.1:"+port); err != nil {
			return fmt.Errorf("interop server: %w\n%s", err, srv.tail())
		}
		p, err := h.proxy.start(ctx, "interop-proxy", "127.0.0.1", port)
		if err != nil {
			return err
		}
		defer p.stop()
		for _, c := range interopCases {
			if !match(h.pattern, c.name) {
				continue
			}
			if out, err := h.interopCase(ctx, p, c.name, c.args); err != nil {
				r.failed = append(r.failed, failure{c.name, fmt.Sprintf("%v\n%s", err, out)})
			} else {
				r.passed++
			}
		}
		if r.passed+len(r.failed) == 0 {
			return errNoCase
		}
		return nil
	})}
}

func (h *harness) interopCase(ctx context.Context, p *proxy, name string, args []string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("took longer than a minute"))
	defer cancel()
	args = append([]string{"-server_host", p.host, "-server_port", p.port, "-test_case", name}, args...)
	return h.output(ctx, "interop-client", args...)
}
