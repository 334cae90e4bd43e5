package call

import (
	"net/netip"

	"github.com/sluice-proxy/sluice/dataplane/clock"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
)

// Call is one RPC (or plain HTTP/2 request) as directors, backend sets and
// filters see it. It belongs to its exchange and is valid only during the
// method call it is passed to; a Director that answers later keeps the Handle,
// not the Call.
type Call struct {
	// Set once when the request's headers arrived.

	Conn    *Conn        // the downstream connection; shared by all its calls
	Headers *hpack.Block // request headers as received, pseudo-headers first
	Path    string       // :path, query included
	Host    string       // :authority, or host if there is none
	Method  string       // :method
	GRPC    bool         // content-type is application/grpc or application/grpc+…
	Arrived clock.Nanos  // when the headers were complete
	Rand    uint64       // one random draw per request: runtime fractions, weighted clusters
	Handle  Handle       // for answering later
	Client  netip.Addr   // whom trusted x-forwarded-for names; zero: the connection's peer

	// Kept by the relay.

	Now   clock.Nanos // the instant of the current batch
	Tried []Host      // hosts of earlier attempts, oldest first
	Draw  uint64      // a fresh random number for the Pick in progress
	Peek  Peek        // the first message, for Directors that asked for it with ErrPeek
}

// Conn is what is known of a downstream connection. Immutable.
type Conn struct {
	ID       uint64
	Listener string
	Remote   netip.AddrPort // zero for a Unix socket
	Local    netip.AddrPort
	TLS      *TLSInfo // nil for plaintext
}

// TLSInfo is what a TLS handshake told. Immutable.
type TLSInfo struct {
	ServerName string // SNI
	Protocol   string // negotiated ALPN protocol, empty if none
	Version    uint16 // crypto/tls version number
	Cipher     uint16 // crypto/tls cipher suite id
	Resumed    bool
	PeerURIs   []string // URI SANs of the verified client certificate
	PeerDNS    []string // DNS SANs of the verified client certificate
	LocalURIs  []string // URI SANs of the certificate we presented
	Subject    string   // RFC 2253 subject of the client certificate
	PeerSHA256 string   // hex SHA-256 of the client certificate's DER
	Verified   bool     // the client certificate's chain was verified
	PeerDER    [][]byte // the client's certificate chain as presented
}

// Handle names an exchange to code on other goroutines. The zero Handle names
// none. A handle whose exchange has ended is stale, and using it does nothing.
type Handle struct {
	Owner     Resumer
	Slot, Gen uint32
}

// Resumer continues paused exchanges: a worker. Safe for concurrent use.
type Resumer interface {
	// Resume makes the worker call Direct again for the exchange of h, or, if
	// err is not nil, answers it with err as Direct's error would.
	Resume(h Handle, err error)
}

// Resume continues a call whose Director or Filter returned ErrPending: it is
// asked again or, if err is not nil, the call ends with it. Any goroutine may
// call it; only the first call for one pause has an effect.
func (h Handle) Resume(err error) {
	if h.Owner != nil {
		h.Owner.Resume(h, err)
	}
}

// Director chooses where a call goes. It runs on the call's worker, under its
// lock: it must not block, and is called by many workers at once. ErrPending
// lets it answer later through c.Handle (it may also be asked again because a
// Filter of the call was resumed), ErrPeek when the first message is there.
// Another error ends the call: a *Reply as it says, anything else as UNAVAILABLE,
// with the ResponseOps of the Decision's Route if there is one.
type Director interface {
	Direct(c *Call) (Decision, error)
}

// BackendSet chooses one host for one attempt of a call. Safe for concurrent
// use by all workers; it must not block.
type BackendSet interface {
	// Pick chooses the host of attempt number attempt (0 is the first). Each
	// Pick that returns a host is followed by exactly one Done with it.
	// An error that is a *Reply ends the call as it says; no host and no error
	// is ReplyNoHealthy.
	Pick(c *Call, attempt int) (Host, error)
	// Done reports how the attempt on h ended. o is valid during the call.
	Done(h Host, o *Outcome)
}

// Host is one upstream endpoint. Its dynamic type is a pointer, so hosts are
// comparable; a host that stays in its cluster over an update stays the same
// value and keeps its connections.
type Host interface {
	// Target says how to connect. The same pointer for the host's whole life.
	Target() *Target
	// Retired reports that no backend set picks this host any more. Workers
	// then let its connections finish their streams and close them.
	Retired() bool
}

// Decision is what a Director decided. It holds what binds for an RPC's life
// and nothing that would keep an old route table alive.
type Decision struct {
	Backends BackendSet // where the call goes
	Route    *Route     // its policy; nil means all defaults
	Reply    *Reply     // a direct response; Backends is then ignored
}
