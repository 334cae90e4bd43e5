package cluster

import (
	"maps"
	"reflect"
)

// Assignment is the endpoints of a cluster, compiled from a
// ClusterLoadAssignment or made by discovery. It is read only by Update and
// must not be changed afterwards.
type Assignment struct {
	Localities []Locality
	// DropOverloads is policy.drop_overloads: shares of calls to refuse, each
	// drawn independently, in order.
	DropOverloads []DropOverload
	// Overprovisioning is policy.overprovisioning_factor in percent; 0 means
	// Config.Overprovisioning.
	Overprovisioning uint32
	// WeightedPriorityHealth is policy.weighted_priority_health: a level's
	// health is computed from the weights of its hosts, not from their number.
	WeightedPriorityHealth bool
}

// Locality is a group of endpoints (LocalityLbEndpoints).
type Locality struct {
	Region, Zone, SubZone string
	Priority              uint32 // 0 is the highest
	Weight                uint32 // for locality-weighted load balancing only; 0: no traffic there
	Endpoints             []Endpoint
}

// Endpoint is one host (LbEndpoint).
type Endpoint struct {
	Network  string // "tcp" (also if empty) or "unix"
	Address  string // "10.0.0.1:50051", "[::1]:50051" or a socket's path; for discovery also "name:port"
	Hostname string // Endpoint.hostname; for host rewriting and health checks
	Health   Health
	Weight   uint32   // load_balancing_weight; 0 means 1
	Metadata Metadata // nil: none
}

// Metadata is filter_metadata by namespace, with the values of
// structpb.Struct.AsMap. Immutable.
type Metadata map[string]map[string]any

// DropOverload refuses a share of the calls (DropOverload).
type DropOverload struct {
	Category   string
	PerMillion uint32 // numerator over 1,000,000
}

// Health is an endpoint's health as the control plane sees it. The numbers are
// those of envoy.config.core.v3.HealthStatus.
type Health uint8

// Health statuses. Unknown and Healthy hosts get traffic, Degraded ones only
// what the healthy cannot carry, the others none unless their level panics.
const (
	HealthUnknown Health = iota
	HealthHealthy
	HealthUnhealthy
	HealthDraining
	HealthTimeout
	HealthDegraded
)

var healthNames = [...]string{"UNKNOWN", "HEALTHY", "UNHEALTHY", "DRAINING", "TIMEOUT", "DEGRADED"}

// String returns Envoy's name of the status.
func (h Health) String() string {
	if int(h) < len(healthNames) {
		return healthNames[h]
	}
	return "UNHEALTHY"
}

func (h Health) healthy() bool  { return h == HealthUnknown || h == HealthHealthy }
func (h Health) degraded() bool { return h == HealthDegraded }

// hostKey is what makes an endpoint the same host over updates.
type hostKey struct{ network, address string }

func (e *Endpoint) key() hostKey {
	if e.Network == "" {
		return hostKey{"tcp", e.Address}
	}
	return hostKey{e.Network, e.Address}
}

// equal reports whether m and n mean the same. Maps are compared by content;
// the same map is equal to itself without looking.
func (m Metadata) equal(n Metadata) bool {
	if len(m) != len(n) {
		return false
	}
	if len(m) == 0 || reflect.ValueOf(m).UnsafePointer() == reflect.ValueOf(n).UnsafePointer() {
		return true
	}
	return maps.EqualFunc(m, n, func(a, b map[string]any) bool { return reflect.DeepEqual(a, b) })
}
