package xdsconfig

import (
	"github.com/sluice-proxy/sluice/dataplane/telemetry"
	"github.com/sluice-proxy/sluice/xdsclient"
)

// stats are the manager's counters, under Envoy's names.
type stats struct {
	clusterAdded, clusterModified, clusterRemoved    *telemetry.Counter
	clustersActive, clustersWarming                  *telemetry.Counter
	listenerAdded, listenerModified, listenerRemoved *telemetry.Counter
	listenersWarming                                 *telemetry.Counter
	fetchTimeout, connected                          *telemetry.Counter
	success, rejected                                map[string]*telemetry.Counter // by type URL
}

// updateNames are the prefixes of the counters of a type's updates. Envoy
// counts EDS per cluster and RDS per route; here each type has one.
var updateNames = map[string]string{
	xdsclient.ClusterType:  "cluster_manager.cds.",
	xdsclient.EndpointType: "cluster_manager.eds.",
	xdsclient.ListenerType: "listener_manager.lds.",
	xdsclient.RouteType:    "listener_manager.rds.",
	xdsclient.SecretType:   "sds.",
}

func newStats(r *telemetry.Registry) stats {
	if r == nil {
		r = telemetry.NewRegistry()
	}
	s := stats{
		clusterAdded:     r.Counter("cluster_manager.cluster_added"),
		clusterModified:  r.Counter("cluster_manager.cluster_modified"),
		clusterRemoved:   r.Counter("cluster_manager.cluster_removed"),
		clustersActive:   r.Gauge("cluster_manager.active_clusters"),
		clustersWarming:  r.Gauge("cluster_manager.warming_clusters"),
		listenerAdded:    r.Counter("listener_manager.listener_added"),
		listenerModified: r.Counter("listener_manager.listener_modified"),
		listenerRemoved:  r.Counter("listener_manager.listener_removed"),
		listenersWarming: r.Gauge("listener_manager.total_listeners_warming"),
		fetchTimeout:     r.Counter("cluster_manager.init_fetch_timeout"),
		connected:        r.Gauge("control_plane.connected_state"),
		success:          map[string]*telemetry.Counter{},
		rejected:         map[string]*telemetry.Counter{},
	}
	for url, prefix := range updateNames {
		s.success[url] = r.Counter(prefix + "update_success")
		s.rejected[url] = r.Counter(prefix + "update_rejected")
	}
	return s
}

func (s *stats) update(typeURL string, err error) {
	if err != nil {
		s.rejected[typeURL].Add(1)
		return
	}
	s.success[typeURL].Add(1)
}

func (s *stats) clusters(all map[string]*clusterState) {
	var active, warming uint64
	for _, cs := range all {
		if cs.active != nil {
			active++
		}
		if cs.warming != nil {
			warming++
		}
	}
	s.clustersActive.Set(active)
	s.clustersWarming.Set(warming)
}

func (s *stats) listeners(all map[string]*listenerState) {
	var warming uint64
	for _, ls := range all {
		if ls.warming != nil {
			warming++
		}
	}
	s.listenersWarming.Set(warming)
}
