package xdsconfig

import (
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// bootstrapJudgements are the verdicts on a bootstrap's own messages.
var bootstrapJudgements = []judgement{
	{&bootstrapv3.Bootstrap{}, fields{
		honoured: "node static_resources dynamic_resources cluster_manager layered_runtime admin",
		inert:    "flags_path deferred_stat_options stats_flush_interval stats_flush_on_admin stats_eviction_interval watchdog watchdogs enable_dispatcher_stats stats_server_version_override use_tcp_for_dns_lookups inline_headers perf_tracing_file_path grpc_async_client_manager_config memory_allocator_manager enable_worker_cpu_affinity listener_manager",
		ignored:  "node_context_params hds_config stats_sinks stats_config tracing overload_manager header_prefix dns_resolution_config typed_dns_resolver_config bootstrap_extensions fatal_actions config_sources default_config_source default_socket_interface certificate_provider_instances default_regex_engine xds_delegate_extension xds_config_tracker_extension application_log_config",
	}},
	{&bootstrapv3.Bootstrap_StaticResources{}, fields{honoured: "listeners clusters secrets"}},
	{&bootstrapv3.Bootstrap_DynamicResources{}, fields{
		honoured: "lds_config cds_config ads_config",
		refused:  "lds_resources_locator cds_resources_locator",
	}},
	{&corev3.ApiConfigSource{}, fields{
		honoured: "api_type transport_api_version grpc_services set_node_on_first_message_only",
		inert:    "cluster_names refresh_delay request_timeout",
		ignored:  "rate_limit_settings config_validators",
	}},
	{&bootstrapv3.ClusterManager{}, fields{
		inert:   "enable_deferred_cluster_creation",
		ignored: "local_cluster_name outlier_detection upstream_bind_config load_stats_config",
	}},
	{&bootstrapv3.LayeredRuntime{}, fields{honoured: "layers"}},
	{&bootstrapv3.RuntimeLayer{}, fields{honoured: "name static_layer", ignored: "disk_layer admin_layer rtds_layer"}},
	{&bootstrapv3.Admin{}, fields{
		honoured: "profile_path address",
		inert:    "ignore_global_conn_limit",
		ignored:  "access_log access_log_path socket_options",
		refused:  "allow_paths",
	}},
}

// bootstrapFields reports what of the bootstrap's own fields this version does
// not do. Its static resources are compiled, and judged, one by one.
func (a *at) bootstrapFields(bs *bootstrapv3.Bootstrap) {
	own := new(bootstrapv3.Bootstrap).ProtoReflect()
	bs.ProtoReflect().Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if fd.Name() != "static_resources" {
			own.Set(fd, v)
		}
		return true
	})
	a.supported(own)
}
