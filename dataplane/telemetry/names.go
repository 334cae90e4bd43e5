package telemetry

import (
	"strings"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// httpNames are Envoy's names of a connection manager's counters, below
// http.<stat_prefix>.
var httpNames = [call.DownstreamCounters]string{
	call.DownstreamCxTotal:         "downstream_cx_total",
	call.DownstreamCxActive:        "downstream_cx_active",
	call.DownstreamCxDestroy:       "downstream_cx_destroy",
	call.DownstreamCxProtocolError: "downstream_cx_protocol_error",
	call.DownstreamCxDrainClose:    "downstream_cx_drain_close",
	call.DownstreamCxIdleTimeout:   "downstream_cx_idle_timeout",
	call.DownstreamCxMaxDuration:   "downstream_cx_max_duration_reached",
	call.DownstreamCxRxBytes:       "downstream_cx_rx_bytes_total",
	call.DownstreamCxTxBytes:       "downstream_cx_tx_bytes_total",
	call.DownstreamRqTotal:         "downstream_rq_total",
	call.DownstreamRqActive:        "downstream_rq_active",
	call.DownstreamRqCompleted:     "downstream_rq_completed",
	call.DownstreamRq1xx:           "downstream_rq_1xx",
	call.DownstreamRq2xx:           "downstream_rq_2xx",
	call.DownstreamRq3xx:           "downstream_rq_3xx",
	call.DownstreamRq4xx:           "downstream_rq_4xx",
	call.DownstreamRq5xx:           "downstream_rq_5xx",
	call.DownstreamRqRxReset:       "downstream_rq_rx_reset",
	call.DownstreamRqTxReset:       "downstream_rq_tx_reset",
	call.DownstreamRqTimeout:       "downstream_rq_timeout",
	call.DownstreamRqIdleTimeout:   "downstream_rq_idle_timeout",
	call.DownstreamRqMaxDuration:   "downstream_rq_max_duration_reached",
	call.DownstreamRqDrainDeadline: "downstream_rq_drain_deadline",
	call.NoRouteTotal:              "no_route",
	call.NoClusterTotal:            "no_cluster",
	call.RqDirectResponse:          "rq_direct_response",
	call.RqTotal:                   "rq_total",
}

// clusterNames are Envoy's names of a cluster's counters, below
// cluster.<name>.
var clusterNames = [call.UpstreamCounters]string{
	call.UpstreamCxTotal:               "upstream_cx_total",
	call.UpstreamCxActive:              "upstream_cx_active",
	call.UpstreamCxConnectFail:         "upstream_cx_connect_fail",
	call.UpstreamCxConnectTimeout:      "upstream_cx_connect_timeout",
	call.UpstreamCxDestroy:             "upstream_cx_destroy",
	call.UpstreamCxDestroyLocal:        "upstream_cx_destroy_local",
	call.UpstreamCxDestroyRemote:       "upstream_cx_destroy_remote",
	call.UpstreamCxIdleTimeout:         "upstream_cx_idle_timeout",
	call.UpstreamCxMaxRequests:         "upstream_cx_max_requests",
	call.UpstreamCxProtocolError:       "upstream_cx_protocol_error",
	call.UpstreamCxRxBytes:             "upstream_cx_rx_bytes_total",
	call.UpstreamCxTxBytes:             "upstream_cx_tx_bytes_total",
	call.UpstreamCxCloseNotify:         "upstream_cx_close_notify",
	call.UpstreamRqTotal:               "upstream_rq_total",
	call.UpstreamRqActive:              "upstream_rq_active",
	call.UpstreamRqCompleted:           "upstream_rq_completed",
	call.UpstreamRq1xx:                 "upstream_rq_1xx",
	call.UpstreamRq2xx:                 "upstream_rq_2xx",
	call.UpstreamRq3xx:                 "upstream_rq_3xx",
	call.UpstreamRq4xx:                 "upstream_rq_4xx",
	call.UpstreamRq5xx:                 "upstream_rq_5xx",
	call.UpstreamRqPendingTotal:        "upstream_rq_pending_total",
	call.UpstreamRqPendingActive:       "upstream_rq_pending_active",
	call.UpstreamRqPendingOverflow:     "upstream_rq_pending_overflow",
	call.UpstreamRqPendingFailureEject: "upstream_rq_pending_failure_eject",
	call.UpstreamRqCancelled:           "upstream_rq_cancelled",
	call.UpstreamRqTimeout:             "upstream_rq_timeout",
	call.UpstreamRqDropOverload:        "upstream_rq_drop_overload",
	call.UpstreamRqPerTryTimeout:       "upstream_rq_per_try_timeout",
	call.UpstreamRqRxReset:             "upstream_rq_rx_reset",
	call.UpstreamRqTxReset:             "upstream_rq_tx_reset",
	call.UpstreamRqRetry:               "upstream_rq_retry",
	call.UpstreamRqRetrySuccess:        "upstream_rq_retry_success",
	call.UpstreamRqRetryOverflow:       "upstream_rq_retry_overflow",
	call.UpstreamCxNoneHealthy:         "upstream_cx_none_healthy",
	call.UpstreamCxOverflow:            "upstream_cx_overflow",
	call.UpstreamCxMaxDuration:         "upstream_cx_max_duration_reached",
}

// layout says how the scopes of one kind are named.
type layout struct {
	prefix  string // before the scope's name in /stats
	label   string // Prometheus label that carries the scope's name
	columns []Column
}

// layouts follow Envoy's tag extraction: a stat http.in.rq_total is
// envoy_http_rq_total{envoy_http_conn_manager_prefix="in"}.
var layouts = map[Kind]layout{
	KindHTTP:    newLayout("http", "envoy_http_conn_manager_prefix", httpNames[:]),
	KindCluster: newLayout("cluster", "envoy_cluster_name", clusterNames[:]),
	// Of a listener only connections are counted.
	KindListener: newLayout("listener", "envoy_listener_address", httpNames[call.DownstreamCxTotal:call.DownstreamCxDestroy+1]),
}

func newLayout(prefix, label string, names []string) layout {
	l := layout{prefix: prefix, label: label}
	for _, n := range names {
		l.columns = append(l.columns, Column{Name: n, Gauge: isGauge(n)})
	}
	return l
}

// stat is the stat of a column in any scope.
func (l *layout) stat(c Column) Stat {
	s := Stat{Name: c.Name, Gauge: c.Gauge, Base: l.prefix + "." + c.Name, Label: l.label}
	if rest, ok := strings.CutSuffix(s.Base, "xx"); ok { // rq_5xx is rq_xx of class 5
		class := len(rest) - 1
		s.Base, s.Label2, s.Label2Value = rest[:class]+"xx", "envoy_response_code_class", rest[class:]
	}
	return s
}

// isGauge reports whether a stat goes down as well as up.
func isGauge(name string) bool { return strings.HasSuffix(name, "_active") }
