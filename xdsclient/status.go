package xdsclient

import "time"

// Status is a client's state, for people and for statistics.
type Status struct {
	Connected    bool      // a stream is open (control_plane.connected_state)
	Since        time.Time // when Connected last changed; zero before the first stream
	LastError    string    // why the last stream ended or could not be opened; empty if a stream is open
	Attempts     uint64    // streams opened or tried
	Failures     uint64    // of these, how many could not be opened or ended
	ControlPlane string    // what the server said of itself, empty if nothing
	Types        []TypeStatus
}

// TypeStatus is the state of one resource type that is or was subscribed.
type TypeStatus struct {
	TypeURL      string
	Subscription Subscription
	Waiting      bool // asked for; no response yet on this stream
	InFlight     bool // a response is with the handler

	Accepted     string    // version_info of the last ACK
	AcceptedAt   time.Time // zero: never
	Rejected     string    // version_info of the last NACK
	RejectedAt   time.Time // zero: never
	RejectReason string    // its error; empty if a response was accepted since

	// Counters, with Envoy's meaning.
	Attempts   uint64 // update_attempt: one more than the outcomes below, for the one awaited
	Successes  uint64 // update_success
	Rejections uint64 // update_rejected
	Failures   uint64 // update_failure: streams that ended or could not be opened
}
