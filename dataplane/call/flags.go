package call

import "strings"

// Flags are Envoy's response flags: why a call ended as it did
// (%RESPONSE_FLAGS%).
type Flags uint32

// Response flags, with Envoy's short words.
const (
	NoHealthyUpstream      Flags = 1 << iota // UH
	UpstreamConnFailure                      // UF
	UpstreamOverflow                         // UO
	NoRoute                                  // NR
	UpstreamRetryExceeded                    // URX
	NoCluster                                // NC
	DurationTimeout                          // DT: max_stream_duration or grpc-timeout
	DownstreamConnTerm                       // DC
	DownstreamRemoteReset                    // DR
	LocalReset                               // LR
	UpstreamRequestTimeout                   // UT
	UpstreamConnTerm                         // UC
	UpstreamRemoteReset                      // UR
	FaultDelay                               // DI
	FaultAbort                               // FI
	RateLimited                              // RL
	UnauthorizedExternal                     // UAEX
	StreamIdleTimeout                        // SI
	DownstreamProtocolErr                    // DPE
	UpstreamProtocolErr                      // UPE
	OverloadManager                          // OM
	DropOverload                             // DO
	NoFilterConfig                           // NFCF
	UnconditionalDrop                        // UDO
)

var flagWords = [...]string{"UH", "UF", "UO", "NR", "URX", "NC", "DT", "DC", "DR", "LR", "UT", "UC", "UR", "DI", "FI", "RL", "UAEX", "SI", "DPE", "UPE", "OM", "DO", "NFCF", "UDO"}

// String returns the flags' words joined by commas, "-" if there is none.
func (f Flags) String() string {
	if f == 0 {
		return "-"
	}
	var w []string
	for i, s := range flagWords {
		if f&(1<<i) != 0 {
			w = append(w, s)
		}
	}
	return strings.Join(w, ",")
}
