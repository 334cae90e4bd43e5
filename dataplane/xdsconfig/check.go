package xdsconfig

import (
	"errors"
	"os"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/sluice-proxy/sluice/xdsclient/bootstrap"
)

// Check compiles what the bootstrap has and returns all that Attach would find
// wrong with it, but for addresses that cannot be bound. It starts nothing
// (--mode validate).
func Check(bs *bootstrapv3.Bootstrap, allowUnknownFields bool) error {
	_, sourceErr := dynamicSources(bs)
	src, adsErr := bootstrap.ADS(bs)
	if adsErr == nil {
		adsErr = usable(src)
	}
	_, _, err := compileStatic(bs, &Env{RefuseUnknownFields: !allowUnknownFields, ReadFile: os.ReadFile,
		Secret: func(name string) *tlsv3.Secret { return bootstrap.Secret(bs, name) }})
	return errors.Join(sourceErr, adsErr, err)
}

// usable says what of a source this version cannot do; nil is no source.
func usable(src *bootstrap.Source) error {
	if src != nil && src.Cluster == "" {
		return errors.New("dynamic_resources.ads_config: google_grpc: not supported by this version")
	}
	return nil
}
