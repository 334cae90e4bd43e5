package controlplane

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sluice-proxy/sluice/internal/tlstest"
)

// checked returns the faults and warnings of group "edge", without its name.
func checked(t *testing.T, f files) (faults, warnings []string) {
	t.Helper()
	cfg, err := LoadDir(f.dir(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range cfg.Check() {
		warnings = append(warnings, strings.TrimPrefix(w, `group "edge": `))
	}
	for _, f := range Faults(cfg.Errors["edge"]) {
		faults = append(faults, f.Error())
	}
	return faults, warnings
}

// Secrets are compiled: each case is a secret's type and its one fault, or the
// warnings about it.
func TestCheckSecrets(t *testing.T) {
	ca := tlstest.CA(t, "ca")
	pair, other := ca.Leaf(t, "a", tlstest.DNS("a.example")), ca.Leaf(t, "b", tlstest.DNS("b.example"))
	inline := func(b []byte) string { return fmt.Sprintf("{inline_string: %q}", b) }
	for _, tt := range []struct{ name, secret, fault, warning string }{
		{"good", "tls_certificate: {certificate_chain: " + inline(pair.Chain) + ", private_key: " + inline(pair.PEM) + "}", "", ""},
		{"good authority", "validation_context: {trusted_ca: " + inline(pair.Chain) + "}", "", ""},
		{"only names, for a default context to complete", `validation_context: {match_typed_subject_alt_names: [{san_type: DNS, matcher: {exact: a}}]}`, "", ""},
		{"no type", "{}", "a secret of no type", ""},
		{"password", "tls_certificate: {certificate_chain: " + inline(pair.Chain) + ", private_key: " + inline(pair.PEM) + ", password: {inline_string: x}}", "tls_certificate.password: not supported by this version", ""},
		{"garbage chain", "tls_certificate: {certificate_chain: {inline_string: x}, private_key: " + inline(pair.PEM) + "}", "tls_certificate.certificate_chain: no certificate found in the PEM", ""},
		{"garbage chain, key in a file", "tls_certificate: {certificate_chain: {inline_string: x}, private_key: {filename: /k}}", "tls_certificate.certificate_chain: no certificate found in the PEM", ""},
		{"garbage key", "tls_certificate: {certificate_chain: " + inline(pair.Chain) + ", private_key: {inline_string: x}}", "tls_certificate: failed to find any PEM data in key input", ""},
		{"no key", "tls_certificate: {certificate_chain: " + inline(pair.Chain) + "}", "tls_certificate.private_key: value is required", ""},
		{"another key", "tls_certificate: {certificate_chain: " + inline(pair.Chain) + ", private_key: " + inline(other.PEM) + "}", "tls_certificate: private key does not match public key", ""},
		{"garbage authority", "validation_context: {trusted_ca: {inline_string: x}}", "validation_context.trusted_ca: no certificate found in the PEM", ""},
		{"garbage CRL", "validation_context: {crl: {inline_string: x}}", "validation_context.crl: no CRL found in the PEM", ""},
		{"short ticket key", "session_ticket_keys: {keys: [{inline_string: x}]}", "session_ticket_keys: ", ""},
		{"files", "tls_certificate: {certificate_chain: {filename: /c}, private_key: {filename: /k}}", "", "tls_certificate.certificate_chain.filename: /c: read by each node for itself"},
		{"generic", "generic_secret: {secret: {inline_string: x}}", "", "generic_secret: nothing in this version uses it"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			body := tt.secret
			if body == "{}" {
				body = "name: s"
			} else {
				body = "name: s\n  " + body
			}
			faults, warnings := checked(t, files{"edge/a.yaml": resourcesYAML("- \"@type\": " + resourcev3.SecretType + "\n  " + body + "\n")})
			switch want := `Secret "s": ` + tt.fault; {
			case tt.fault == "" && len(faults) > 0:
				t.Errorf("faults %q", faults)
			case tt.fault != "" && (len(faults) != 1 || !strings.Contains(faults[0], want)):
				t.Errorf("faults %q, want one with %s", faults, want)
			}
			if tt.warning != "" && !slices.ContainsFunc(warnings, func(w string) bool { return strings.Contains(w, tt.warning) }) {
				t.Errorf("warnings %q, want %s", warnings, tt.warning)
			}
			if tt.warning == "" && len(warnings) > 0 {
				t.Errorf("warnings %q", warnings)
			}
		})
	}
}

// A resource that the data plane never compiles is published with a warning.
func TestCheckWarnsOfTypesNotCompiled(t *testing.T) {
	faults, warnings := checked(t, files{"edge/a.yaml": resourcesYAML("- \"@type\": " + resourcev3.RuntimeType + "\n  name: rt\n  layer: {a: 1}\n")})
	want := []string{`edge/a.yaml:2: resources[0]: Runtime "rt": only its form is checked: this version's data plane does not take resources of this type`}
	if diff := cmp.Diff(want, warnings); diff != "" || len(faults) > 0 {
		t.Errorf("faults %q, warnings (-want +got):\n%s", faults, diff)
	}
}

// What only the group as a whole shows: a fault or a warning for each case.
func TestCheckGroup(t *testing.T) {
	listener := func(name, address, hcm string) string {
		return "- \"@type\": " + resourcev3.ListenerType + "\n  name: " + name + "\n  address: " + address + `
  filter_chains:
  - filters:
    - name: hcm
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
        stat_prefix: s
        stream_idle_timeout: 0s
        http_filters: [{name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]
        ` + hcm + "\n"
	}
	inline := func(cluster string) string {
		return `route_config: {name: i, virtual_hosts: [{name: v, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: ` + cluster + `, timeout: 0s}}]}]}`
	}
	const one, same, other = "{socket_address: {address: '::1', port_value: 80}}", "{socket_address: {address: '0:0:0:0:0:0:0:1', port_value: 80}}", "{socket_address: {address: 127.0.0.1, port_value: 80}}"
	const any = "{socket_address: {address: 127.0.0.1, port_value: 0}}"
	blue := clusterYAML("blue") + endpointsYAML("blue", 1)
	tlsCluster := "- \"@type\": " + resourcev3.ClusterType + `
  name: t
  http2_protocol_options: {}
  load_assignment: {cluster_name: t}
  transport_socket:
    name: tls
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
      common_tls_context:
        validation_context_sds_secret_config: {name: nosuch, sds_config: {ads: {}}}
`
	for _, tt := range []struct {
		name, yaml      string
		faults, warning []string
	}{
		{"good", resourcesYAML(listener("a", one, inline("blue")), listener("b", other, inline("blue")), blue), nil, nil},
		{"chosen ports", resourcesYAML(listener("a", any, inline("blue")), listener("b", any, inline("blue")), blue), nil, nil},
		{
			"one address", resourcesYAML(listener("a", one, inline("blue")), listener("b", same, inline("blue")), blue),
			[]string{`edge/a.yaml:16: resources[1]: Listener "b": address: [::1]:80 is the address of Listener "a", too (edge/a.yaml:4: resources[0])`}, nil,
		},
		{
			"one address twice", resourcesYAML(listener("a", one+"\n  additional_addresses: [{address: "+one+"}]", inline("blue")), blue),
			[]string{`edge/a.yaml:5: resources[0]: Listener "a": additional_addresses[0].address: [::1]:80 is address, too`}, nil,
		},
		{
			"inline routes", resourcesYAML(listener("a", one, inline("zz")), blue),
			nil, []string{`CDS "zz" is referred to by Listener "a" and not defined`},
		},
		{"secret", resourcesYAML(tlsCluster), nil, []string{`SDS "nosuch" is referred to by Cluster "t" and not defined`}},
		{
			"routes", resourcesYAML(listener("a", one, "rds: {route_config_name: r, config_source: {ads: {}}}")),
			nil, []string{`RDS "r" is referred to by Listener "a" and not defined`},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			faults, warnings := checked(t, files{"edge/a.yaml": tt.yaml})
			warnings = slices.DeleteFunc(warnings, func(w string) bool { return !strings.Contains(w, "is referred to") })
			if diff := cmp.Diff(tt.faults, faults); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.warning, warnings, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}
