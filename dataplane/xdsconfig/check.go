package xdsconfig

import (
	"errors"
	"os"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
)

// Check compiles the static resources of a bootstrap without starting anything
// (--mode validate). The error joins all that is wrong with them.
func Check(bs *bootstrapv3.Bootstrap, allowUnknownStaticFields bool) error {
	env := &Env{RefuseUnknownFields: !allowUnknownStaticFields, ReadFile: os.ReadFile}
	var errs []error
	for _, c := range bs.GetStaticResources().GetClusters() {
		_, err := CompileCluster(c, env)
		errs = append(errs, err)
	}
	for _, l := range bs.GetStaticResources().GetListeners() {
		_, err := CompileListener(l, env)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
