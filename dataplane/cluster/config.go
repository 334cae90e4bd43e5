package cluster

import "github.com/sluice-proxy/sluice/dataplane/call"

// Config is what a cluster is made with. A cluster whose Config changes is
// replaced by one that adopts its hosts; only its endpoints change in place.
type Config struct {
	Name    string
	Policy  Policy
	Options *call.UpstreamOptions // of the hosts' targets; nil means all defaults

	// Breakers are the limits of Cluster.circuit_breakers.
	Breakers Breakers

	// PanicThreshold is common_lb_config.healthy_panic_threshold in percent.
	// nil means Envoy's default of 50; 0 disables panic.
	PanicThreshold *uint32
	// Overprovisioning in percent is used where the assignment has none; 0
	// means Envoy's default of 140.
	Overprovisioning uint32
	// LocalityWeighted is common_lb_config.locality_weighted_lb_config: choose
	// a locality by its weight first. Otherwise all hosts of a priority level
	// share by their own weights.
	LocalityWeighted bool
	// FailTrafficOnPanic answers "no healthy upstream" instead of using
	// unhealthy hosts (zone_aware_lb_config.fail_traffic_on_panic).
	FailTrafficOnPanic bool

	Scope call.Scope // cluster.<name> counters
}

// Policy is how a host is chosen among the eligible ones.
type Policy struct {
	Kind PolicyKind
	// ChoiceCount is least_request's choice_count: hosts to compare; 0 means
	// Envoy's default of 2. At most 16 are compared.
	ChoiceCount uint32
	// Bias is least_request's active_request_bias, used when weights differ:
	// a host counts as weight/(active requests+1)^Bias. nil means Envoy's
	// default of 1.
	Bias *float64
}

// PolicyKind is Cluster.lb_policy or the equivalent typed extension.
type PolicyKind uint8

// Policies.
const (
	RoundRobin PolicyKind = iota
	LeastRequest
	Random
)

var policyNames = [...]string{"ROUND_ROBIN", "LEAST_REQUEST", "RANDOM"}

// String returns Envoy's name of the policy.
func (k PolicyKind) String() string {
	if int(k) < len(policyNames) {
		return policyNames[k]
	}
	return "UNKNOWN"
}

// Breakers are a cluster's circuit breakers per routing priority; nil means
// DefaultThresholds. Calls have the priority DEFAULT unless a later version
// of call.Call says otherwise.
type Breakers struct {
	Default *Thresholds
	High    *Thresholds
}

// Thresholds are CircuitBreakers.Thresholds: most at one time in the whole
// process. 0 allows none; but a worker without a usable connection to a host
// may always make one, as in Envoy.
type Thresholds struct {
	MaxConnections uint32
	MaxPending     uint32
	MaxRequests    uint32
	MaxRetries     uint32
}

// DefaultThresholds are Envoy's defaults.
func DefaultThresholds() Thresholds {
	return Thresholds{MaxConnections: 1024, MaxPending: 1024, MaxRequests: 1024, MaxRetries: 3}
}

const (
	defaultPanicThreshold   = 50
	defaultOverprovisioning = 140
	defaultChoiceCount      = 2
	maxChoiceCount          = 16
)
