package call

import "crypto/tls"

// ClientTLS is how connections to the hosts of a cluster are secured. Safe for
// concurrent use.
type ClientTLS interface {
	// Config returns what a handshake that begins now needs, with a host of
	// that name ("" if it has none). The result is shared: not to be changed.
	Config(hostname string) (*tls.Config, error)
}
