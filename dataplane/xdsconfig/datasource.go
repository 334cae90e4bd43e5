package xdsconfig

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// data reads a DataSource.
func (a *at) data(d *corev3.DataSource) []byte {
	switch s := d.GetSpecifier().(type) {
	case *corev3.DataSource_InlineBytes:
		return s.InlineBytes
	case *corev3.DataSource_InlineString:
		return []byte(s.InlineString)
	case *corev3.DataSource_Filename:
		here := a.field("filename")
		if a.r.env.ReadFile == nil {
			here.warnf("%s: read by each node for itself", s.Filename)
			return nil
		}
		b, err := a.r.env.ReadFile(s.Filename)
		if err != nil {
			here.errorf("%s", err)
		}
		return b
	case *corev3.DataSource_EnvironmentVariable:
		v, ok := a.r.env.lookupEnv(s.EnvironmentVariable)
		here := a.field("environment_variable")
		switch {
		case ok:
		case a.r.env.LookupEnv == nil && a.r.env.ReadFile == nil:
			here.warnf("%s: read by each node for itself", s.EnvironmentVariable)
		default:
			here.errorf("%s is not set", s.EnvironmentVariable)
		}
		return []byte(v)
	}
	return nil
}
