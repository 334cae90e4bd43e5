// Package bootstrap reads Envoy v3 bootstraps: the static configuration with
// which a proxy starts.
//
// It reads what Envoy reads: YAML or JSON, field names in either case, one
// object where a list is expected, enum names in any case. Errors name the
// source and the path of the field. It does not judge what the configuration
// means: listeners and clusters are compiled elsewhere.
package bootstrap
