package xdsconfig

import (
	"os"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/telemetry"
)

// Env is what a compilation may ask of its surroundings. The zero Env compiles
// a resource by itself, as a control plane does before it publishes: nothing
// is counted, clusters are unknown, files are not read.
type Env struct {
	// Extensions are the extensions a configuration may name; nil: those of
	// this package.
	Extensions *Extensions
	// RefuseUnknownFields makes fields that this build's protobufs do not know
	// an error. Envoy refuses them in static resources and ignores them in
	// dynamic ones.
	RefuseUnknownFields bool
	// Warn takes what works but may not be meant. It is called during
	// compilation, on its goroutine; nil drops warnings.
	Warn func(Warning)
	// ReadFile reads node-local files that data sources name; nil: they are
	// taken as empty, with a warning.
	ReadFile func(name string) ([]byte, error)
	// LookupEnv reads environment variables; nil: os.LookupEnv if ReadFile is
	// set, otherwise all are empty.
	LookupEnv func(name string) (string, bool)
	// Registry hands out counter scopes; nil: nothing counts.
	Registry *telemetry.Registry
	// Cluster returns the handle of the cluster of that name, which need not
	// exist yet; nil: handles that stay empty.
	Cluster func(name string) call.BackendSet
	// FindCluster returns the handle of a cluster that exists; used per call by
	// cluster_header, so it must not block, and names come from clients. nil:
	// there are none.
	FindCluster func(name string) (call.BackendSet, bool)
	// Routes returns the director that follows the RouteConfiguration of that
	// name; nil: directors that answer "no route".
	Routes func(name string) call.Director
	// Node is who this proxy is to its control plane; nil: nobody.
	Node *corev3.Node
	// Secret returns the secret of that name among the bootstrap's, nil if there
	// is none; nil: they are not known here.
	Secret func(name string) *tlsv3.Secret
	// Runtime returns the present value of a runtime key as a fraction; used
	// per call by runtime_fraction. nil: the defaults hold.
	Runtime func(key string) (numerator, denominator uint32, ok bool)
}

func (e *Env) scope(k telemetry.Kind, name string) call.Scope {
	if e.Registry == nil {
		return call.Scope{}
	}
	return e.Registry.Scope(k, name)
}

func (e *Env) lookupEnv(name string) (string, bool) {
	switch {
	case e.LookupEnv != nil:
		return e.LookupEnv(name)
	case e.ReadFile != nil:
		return os.LookupEnv(name)
	}
	return "", false
}

func (e *Env) cluster(name string) call.BackendSet {
	if e.Cluster == nil {
		return noCluster{}
	}
	return e.Cluster(name)
}

func (e *Env) findCluster(name string) (call.BackendSet, bool) {
	if e.FindCluster == nil {
		return nil, false
	}
	return e.FindCluster(name)
}

func (e *Env) routes(name string) call.Director {
	if e.Routes == nil {
		return new(routeCell)
	}
	return e.Routes(name)
}

func (e *Env) extensions() *Extensions {
	if e.Extensions == nil {
		return builtin()
	}
	return e.Extensions
}

// noCluster is a cluster that never comes.
type noCluster struct{}

func (noCluster) Pick(*call.Call, int) (call.Host, error) { return nil, call.ReplyNoCluster }
func (noCluster) Done(call.Host, *call.Outcome)           {}
