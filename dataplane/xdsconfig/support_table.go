package xdsconfig

import (
	"slices"
	"strings"
	"sync"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	dnsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dns/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	lbcommonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/common/v3"
	leastv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/least_request/v3"
	randomv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/random/v3"
	roundv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/round_robin/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	upstreamsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// judgement is the verdicts on one message.
type judgement struct {
	message proto.Message
	fields  fields
}

// judgements is what this version does with each field of the messages it
// compiles.
var judgements = slices.Concat(bootstrapJudgements, []judgement{
	{&listenerv3.Listener{}, fields{
		honoured: "name address additional_addresses filter_chains default_filter_chain listener_filters listener_filters_timeout continue_on_listener_filters_timeout enable_reuse_port tcp_backlog_size bind_to_port traffic_direction",
		inert:    "metadata per_connection_buffer_limit_bytes drain_type reuse_port max_connections_to_accept_per_socket_event connection_balance_config per_connection_buffer_high_watermark_timeout ignore_global_conn_limit bypass_overload_manager tcp_fast_open_queue_length stats_matcher stat_prefix",
		ignored:  "access_log socket_options tcp_keepalive enable_mptcp freebind",
		refused:  "fcds_config filter_chain_matcher use_original_dst deprecated_v1 transparent udp_listener_config api_listener internal_listener",
		notes: map[string]string{
			"bind_to_port":                      "false is refused",
			"reuse_port":                        "enable_reuse_port decides",
			"per_connection_buffer_limit_bytes": "the proxy's own bounds hold",
			"drain_type":                        "/healthcheck/fail drains no listener, whatever its type",
		},
	}},
	{&listenerv3.AdditionalAddress{}, fields{honoured: "address", ignored: "socket_options tcp_keepalive"}},
	{&listenerv3.FilterChain{}, fields{
		honoured: "filter_chain_match filters transport_socket transport_socket_connect_timeout name",
		inert:    "metadata",
		refused:  "use_proxy_proto",
	}},
	{&listenerv3.FilterChainMatch{}, fields{
		honoured: "destination_port prefix_ranges direct_source_prefix_ranges source_type source_prefix_ranges source_ports server_names transport_protocol application_protocols",
		refused:  "address_suffix suffix_len",
	}},
	{&hcmv3.HttpConnectionManager{}, fields{
		honoured: "codec_type stat_prefix rds route_config http_filters common_http_protocol_options http2_protocol_options server_name server_header_transformation max_request_headers_kb stream_idle_timeout request_timeout request_headers_timeout drain_timeout use_remote_address xff_num_trusted_hops skip_xff_append via generate_request_id preserve_external_request_id always_set_request_id_in_response add_user_agent internal_address_config forward_client_cert_details set_current_client_cert_details normalize_path merge_slashes path_with_escaped_slashes_action append_x_forwarded_port strip_matching_host_port strip_any_host_port strip_trailing_host_dot proxy_100_continue",
		inert:    "http1_safe_max_connection_duration http_protocol_options http3_protocol_options stream_flush_timeout delayed_close_timeout access_log_flush_interval flush_access_log_on_new_request access_log_options typed_header_validation_config record_route_resolution_stats stream_error_on_invalid_http_message",
		ignored:  "tracing access_log scheme_header_transformation drain_timeout_jitter represent_ipv4_remote_address_as_ipv4_mapped_ipv6 upgrade_configs request_id_extension local_reply_config path_normalization_options proxy_status_config append_local_overload add_proxy_protocol_connection_state forward_proto_config",
		refused:  "forward_client_cert_matcher scoped_routes original_ip_detection_extensions early_header_mutation_extensions",
	}},
	{&hcmv3.HttpConnectionManager_SetCurrentClientCertDetails{}, fields{honoured: "subject cert chain dns uri", ignored: "issuer format"}},
	{&hcmv3.HttpFilter{}, fields{honoured: "name typed_config is_optional disabled", refused: "config_discovery"}},
	{&routerv3.Router{}, fields{
		honoured: "suppress_envoy_headers",
		inert:    "dynamic_stats start_child_span suppress_grpc_request_failure_code_stats reject_connect_request_early_data upstream_log_options",
		ignored:  "upstream_log strict_check_headers respect_expected_rq_timeout",
		refused:  "upstream_http_filters",
	}},
	{&routev3.RouteConfiguration{}, fields{
		honoured: "name virtual_hosts validate_clusters response_headers_to_add response_headers_to_remove request_headers_to_add request_headers_to_remove most_specific_header_mutations_wins max_direct_response_body_size_bytes ignore_port_in_host_matching ignore_path_parameters_in_path_matching typed_per_filter_config",
		inert:    "metadata",
		ignored:  "request_mirror_policies",
		refused:  "internal_only_headers vhds cluster_specifier_plugins vhost_header route_specifiers",
	}},
	{&routev3.VirtualHost{}, fields{
		honoured: "name domains routes require_tls request_headers_to_add request_headers_to_remove response_headers_to_add response_headers_to_remove typed_per_filter_config retry_policy per_request_buffer_limit_bytes request_body_buffer_limit",
		inert:    "metadata virtual_clusters rate_limits",
		ignored:  "cors include_request_attempt_count include_attempt_count_in_response hedge_policy include_is_timeout_retry_header request_mirror_policies",
		refused:  "matcher retry_policy_typed_config route_specifiers",
	}},
	{&routev3.Route{}, fields{
		honoured: "name match route redirect direct_response typed_per_filter_config request_headers_to_add request_headers_to_remove response_headers_to_add response_headers_to_remove per_request_buffer_limit_bytes request_body_buffer_limit",
		inert:    "metadata decorator stat_prefix tracing",
		refused:  "filter_action non_forwarding_action route_specifiers",
	}},
	{&routev3.RouteMatch{}, fields{
		honoured: "prefix path safe_regex path_separated_prefix case_sensitive runtime_fraction headers query_parameters cookies grpc",
		ignored:  "connect_matcher",
		refused:  "path_match_policy tls_context dynamic_metadata filter_state",
		notes:    map[string]string{"connect_matcher": "CONNECT is refused before any route is tried"},
	}},
	{&routev3.HeaderMatcher{}, fields{honoured: "name exact_match safe_regex_match range_match present_match prefix_match suffix_match contains_match string_match invert_match treat_missing_header_as_empty"}},
	{&routev3.RouteAction{}, fields{
		honoured: "cluster cluster_header weighted_clusters cluster_not_found_response_code prefix_rewrite regex_rewrite host_rewrite_literal auto_host_rewrite host_rewrite_header host_rewrite_path_regex append_x_forwarded_host timeout idle_timeout retry_policy max_grpc_timeout grpc_timeout_offset max_stream_duration",
		inert:    "rate_limits include_vh_rate_limits early_data_policy flush_timeout max_internal_redirects",
		ignored:  "request_mirror_policies hash_policy cors upgrade_configs hedge_policy priority internal_redirect_policy internal_redirect_action",
		refused:  "cluster_specifier_plugin inline_cluster_specifier_plugin metadata_match path_rewrite_policy path_rewrite retry_policy_typed_config host_rewrite",
	}},
	{&routev3.RouteAction_MaxStreamDuration{}, fields{honoured: "max_stream_duration grpc_timeout_header_max grpc_timeout_header_offset"}},
	{&routev3.WeightedCluster{}, fields{honoured: "clusters", inert: "total_weight runtime_key_prefix", ignored: "header_name use_hash_policy"}},
	{&routev3.WeightedCluster_ClusterWeight{}, fields{
		honoured: "name cluster_header weight request_headers_to_add request_headers_to_remove response_headers_to_add response_headers_to_remove typed_per_filter_config host_rewrite_literal",
		refused:  "metadata_match",
	}},
	{&routev3.RetryPolicy{}, fields{
		honoured: "retry_on num_retries per_try_timeout retriable_status_codes retry_back_off",
		ignored:  "per_try_idle_timeout retry_priority retry_host_predicate retry_options_predicates host_selection_retry_max_attempts rate_limited_retry_back_off retriable_headers retriable_request_headers refresh_cluster_on_retry",
	}},
	{&routev3.DirectResponseAction{}, fields{honoured: "status body", refused: "body_format"}},
	{&corev3.HeaderValueOption{}, fields{
		honoured: "header append append_action keep_empty_value",
		notes:    map[string]string{"header": "all of Envoy's command operators; those that this proxy cannot answer are empty, with a warning"},
	}},
	{&corev3.ConfigSource{}, fields{
		honoured: "ads path path_config_source initial_fetch_timeout resource_api_version self",
		refused:  "api_config_source authorities",
		notes:    map[string]string{"path": "of secrets; refused elsewhere", "path_config_source": "of secrets; refused elsewhere"},
	}},
	{&corev3.SocketAddress{}, fields{
		honoured: "protocol address port_value",
		ignored:  "ipv4_compat",
		refused:  "named_port resolver_name network_namespace_filepath",
	}},
	{&clusterv3.Cluster{}, fields{
		honoured: "type cluster_type name alt_stat_name eds_cluster_config connect_timeout lb_policy load_assignment max_requests_per_connection circuit_breakers common_http_protocol_options http2_protocol_options typed_extension_protocol_options dns_refresh_rate dns_jitter dns_failure_refresh_rate respect_dns_ttl dns_lookup_family common_lb_config least_request_lb_config round_robin_lb_config load_balancing_policy transport_socket",
		inert:    "per_connection_buffer_limit_bytes per_connection_buffer_high_watermark_timeout http_protocol_options wait_for_warm_on_init cleanup_interval metadata stats_matcher use_tcp_for_dns_lookups protocol_selection lrs_report_endpoint_metrics track_timeout_budgets track_cluster_stats preconnect_policy ring_hash_lb_config maglev_lb_config original_dst_lb_config ignore_health_on_host_removal",
		ignored:  "health_checks outlier_detection upstream_http_protocol_options typed_dns_resolver_config dns_resolution_config dns_resolvers upstream_bind_config upstream_connection_options close_connections_on_host_health_failure lrs_server connection_pool_per_downstream_connection queuing_policies",
		refused:  "transport_socket_matches transport_socket_matcher lb_subset_config filters upstream_config",
	}},
	{&clusterv3.Cluster_EdsClusterConfig{}, fields{honoured: "eds_config service_name"}},
	{&clusterv3.Cluster_CommonLbConfig{}, fields{
		honoured: "healthy_panic_threshold locality_weighted_lb_config zone_aware_lb_config",
		inert:    "update_merge_window consistent_hashing_lb_config close_connections_on_host_set_change ignore_new_hosts_until_first_hc",
		ignored:  "override_host_status",
	}},
	{&clusterv3.Cluster_CommonLbConfig_ZoneAwareLbConfig{}, fields{honoured: "fail_traffic_on_panic", ignored: "routing_enabled min_cluster_size"}},
	{&clusterv3.Cluster_LeastRequestLbConfig{}, fields{honoured: "choice_count active_request_bias", ignored: "slow_start_config"}},
	{&clusterv3.Cluster_RoundRobinLbConfig{}, fields{ignored: "slow_start_config"}},
	{&clusterv3.CircuitBreakers{}, fields{honoured: "thresholds", ignored: "per_host_thresholds"}},
	{&clusterv3.CircuitBreakers_Thresholds{}, fields{
		honoured: "priority max_connections max_pending_requests max_requests max_retries",
		inert:    "track_remaining max_connection_pools",
		ignored:  "retry_budget",
		notes:    map[string]string{"priority": "the thresholds of HIGH are shown, but no call has that priority: RouteAction.priority is ignored"},
	}},
	{&roundv3.RoundRobin{}, fields{honoured: "locality_lb_config", ignored: "slow_start_config"}},
	{&leastv3.LeastRequest{}, fields{
		honoured: "choice_count active_request_bias locality_lb_config",
		inert:    "enable_full_scan",
		ignored:  "slow_start_config selection_method",
	}},
	{&randomv3.Random{}, fields{honoured: "locality_lb_config"}},
	{&lbcommonv3.LocalityLbConfig{}, fields{honoured: "locality_weighted_lb_config zone_aware_lb_config"}},
	{&lbcommonv3.LocalityLbConfig_ZoneAwareLbConfig{}, fields{
		honoured: "fail_traffic_on_panic",
		ignored:  "routing_enabled min_cluster_size force_locality_direct_routing force_local_zone locality_basis",
	}},
	{&dnsv3.DnsCluster{}, fields{
		honoured: "dns_refresh_rate dns_failure_refresh_rate respect_dns_ttl dns_jitter dns_lookup_family all_addresses_in_single_endpoint dns_min_refresh_rate",
		ignored:  "typed_dns_resolver_config",
	}},
	{&upstreamsv3.HttpProtocolOptions{}, fields{
		honoured: "common_http_protocol_options explicit_http_config use_downstream_protocol_config auto_config",
		inert:    "header_validation_config",
		ignored:  "upstream_http_protocol_options outlier_detection request_mirror_policies hash_policy retry_policy",
		refused:  "http_filters",
	}},
	{&corev3.HttpProtocolOptions{}, fields{
		honoured: "idle_timeout max_connection_duration max_connection_duration_jitter max_headers_count max_stream_duration max_requests_per_connection headers_with_underscores_action",
		inert:    "max_response_headers_kb",
		notes: map[string]string{
			"max_stream_duration":             "of a connection manager; ignored in a cluster",
			"headers_with_underscores_action": "of a connection manager; ignored in a cluster",
		},
	}},
	{&corev3.Http2ProtocolOptions{}, fields{
		honoured: "hpack_table_size max_concurrent_streams initial_stream_window_size initial_connection_window_size connection_keepalive",
		inert:    "max_outbound_frames max_outbound_control_frames max_consecutive_inbound_frames_with_empty_payload max_inbound_priority_frames_per_stream max_inbound_window_update_frames_per_data_frame_sent stream_error_on_invalid_http_messaging override_stream_error_on_invalid_http_message use_oghttp2_codec enable_huffman_encoding stream_reset_burst stream_reset_rate disallow_obs_text max_metadata_size max_header_field_size_kb",
		ignored:  "allow_connect allow_metadata custom_settings_parameters",
		notes:    map[string]string{"initial_stream_window_size": "to an eighth of what a worker may hold (`--held-memory-mb`), or 64 KiB; windows grow beyond it"},
	}},
	{&corev3.KeepaliveSettings{}, fields{honoured: "interval timeout interval_jitter connection_idle_interval"}},
	{&tlsv3.DownstreamTlsContext{}, fields{
		honoured: "common_tls_context require_client_certificate require_sni session_ticket_keys session_ticket_keys_sds_secret_config disable_stateless_session_resumption session_timeout ocsp_staple_policy full_scan_certs_on_sni_mismatch",
		inert:    "disable_stateful_session_resumption prefer_client_ciphers",
		notes:    map[string]string{"ocsp_staple_policy": "other policies than LENIENT_STAPLING are refused"},
	}},
	{&tlsv3.UpstreamTlsContext{}, fields{
		honoured: "common_tls_context sni auto_host_sni auto_sni_san_validation max_session_keys",
		inert:    "enforce_rsa_key_usage",
		ignored:  "allow_renegotiation",
	}},
	{&tlsv3.CommonTlsContext{}, fields{
		honoured: "tls_params tls_certificates tls_certificate_sds_secret_configs validation_context validation_context_sds_secret_config combined_validation_context alpn_protocols",
		ignored:  "key_log",
		refused:  "tls_certificate_provider_instance custom_tls_certificate_selector tls_certificate_certificate_provider tls_certificate_certificate_provider_instance validation_context_certificate_provider validation_context_certificate_provider_instance custom_handshaker",
	}},
	{&tlsv3.CommonTlsContext_CombinedCertificateValidationContext{}, fields{
		honoured: "default_validation_context validation_context_sds_secret_config",
		refused:  "validation_context_certificate_provider validation_context_certificate_provider_instance",
	}},
	{&tlsv3.TlsParameters{}, fields{
		honoured: "tls_minimum_protocol_version tls_maximum_protocol_version cipher_suites ecdh_curves",
		refused:  "signature_algorithms compliance_policies",
	}},
	{&tlsv3.TlsCertificate{}, fields{
		honoured: "certificate_chain private_key watched_directory",
		ignored:  "ocsp_staple signed_certificate_timestamp",
		refused:  "pkcs12 private_key_provider password tls_params",
	}},
	{&tlsv3.CertificateValidationContext{}, fields{
		honoured: "trusted_ca system_root_certs watched_directory verify_certificate_spki verify_certificate_hash match_typed_subject_alt_names match_subject_alt_names crl allow_expired_certificate trust_chain_verification custom_validator_config only_verify_leaf_cert_crl max_verify_depth suppress_client_ca_list",
		refused:  "ca_certificate_provider_instance require_signed_certificate_timestamp",
	}},
	{&tlsv3.SPIFFECertValidatorConfig{}, fields{honoured: "trust_domains", refused: "trust_bundles"}},
	{&tlsv3.SPIFFECertValidatorConfig_TrustDomain{}, fields{honoured: "name trust_bundle", refused: "workload_trust_domain"}},
	{&tlsv3.SdsSecretConfig{}, fields{honoured: "name sds_config"}},
	{&tlsv3.Secret{}, fields{honoured: "name tls_certificate session_ticket_keys validation_context", inert: "generic_secret"}},
	{&endpointv3.ClusterLoadAssignment{}, fields{honoured: "cluster_name endpoints policy", refused: "named_endpoints"}},
	{&endpointv3.ClusterLoadAssignment_Policy{}, fields{
		honoured: "drop_overloads overprovisioning_factor weighted_priority_health",
		ignored:  "endpoint_stale_after",
	}},
	{&endpointv3.LocalityLbEndpoints{}, fields{
		honoured: "locality lb_endpoints load_balancer_endpoints load_balancing_weight priority",
		inert:    "metadata proximity",
		refused:  "leds_cluster_locality_config",
	}},
	{&endpointv3.LbEndpoint{}, fields{honoured: "endpoint health_status metadata load_balancing_weight", refused: "endpoint_name"}},
	{&endpointv3.Endpoint{}, fields{
		honoured: "address hostname",
		inert:    "observability_name health_check_config",
		ignored:  "additional_addresses",
	}},
})

// fieldSupport is a field that is worth looking at when a message is walked:
// it is ignored, refused or a duration, or has such fields below it.
type fieldSupport struct {
	field   protoreflect.FieldDescriptor
	verdict verdict
	// duration: it is honoured, and a Duration, which must not be negative in
	// any field that Envoy reads.
	duration bool
}

// supportTable has the fields worth looking at by message.
var supportTable = sync.OnceValue(func() map[protoreflect.FullName][]fieldSupport {
	b := supportBuilder{
		verdicts: make(map[protoreflect.FullName]map[protoreflect.Name]verdict),
		table:    make(map[protoreflect.FullName][]fieldSupport),
	}
	for _, j := range judgements {
		vs := make(map[protoreflect.Name]verdict)
		for v, names := range map[verdict]string{honoured: j.fields.honoured, inert: j.fields.inert, ignored: j.fields.ignored, refused: j.fields.refused} {
			for name := range strings.FieldsSeq(names) {
				vs[protoreflect.Name(name)] = v
			}
		}
		b.verdicts[j.message.ProtoReflect().Descriptor().FullName()] = vs
	}
	for _, j := range judgements {
		b.visit(j.message.ProtoReflect().Descriptor())
	}
	return b.table
})

type supportBuilder struct {
	verdicts map[protoreflect.FullName]map[protoreflect.Name]verdict
	table    map[protoreflect.FullName][]fieldSupport // nil while a message is being visited
}

// visit fills in the table for md and what it contains, and reports whether
// there is anything to look at.
func (b *supportBuilder) visit(md protoreflect.MessageDescriptor) bool {
	name := md.FullName()
	if list, ok := b.table[name]; ok {
		return len(list) > 0
	}
	b.table[name] = nil
	var list []fieldSupport
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		v := b.verdicts[name][fd.Name()]
		isDuration := v == honoured && fd.Message() != nil && !fd.IsList() && fd.Message().FullName() == "google.protobuf.Duration"
		if v == honoured && !isDuration {
			sub := fd.Message()
			if fd.IsMap() {
				sub = fd.MapValue().Message()
			}
			if sub == nil || !b.visit(sub) {
				continue
			}
		}
		if v != inert {
			list = append(list, fieldSupport{fd, v, isDuration})
		}
	}
	b.table[name] = list
	return len(list) > 0
}
