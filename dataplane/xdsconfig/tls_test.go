package xdsconfig

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sluice-proxy/sluice/dataplane/listener"
	"github.com/sluice-proxy/sluice/dataplane/transport"
	"github.com/sluice-proxy/sluice/internal/tlstest"
	"github.com/sluice-proxy/sluice/xdsclient/bootstrap"
)

// tlsListener is a listener in YAML with one chain and that common TLS context.
func tlsListener(common string) string {
	return strings.NewReplacer("COMMON", common).Replace(`name: l
address: {socket_address: {address: 127.0.0.1, port_value: 1}}
filter_chains:
- transport_socket:
    name: tls
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
      common_tls_context: COMMON
  filters:
  - name: hcm
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: a
      stream_idle_timeout: 0s
      route_config: {name: inline}
      http_filters: [{name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]
`)
}

// listItem makes a YAML document the only item of a list.
func listItem(doc string) string {
	return "- " + strings.ReplaceAll(strings.TrimSpace(doc), "\n", "\n  ") + "\n"
}

func certYAML(p *tlstest.Pair) string {
	return fmt.Sprintf(`{certificate_chain: {inline_string: %q}, private_key: {inline_string: %q}}`, p.Chain, p.PEM)
}

func parseListener(t *testing.T, text string) *listenerv3.Listener {
	t.Helper()
	l := new(listenerv3.Listener)
	if err := bootstrap.Unmarshal([]byte(text), l, bootstrap.Options{}); err != nil {
		t.Fatal(err)
	}
	return l
}

// shown returns the common name of the certificate that the first chain shows.
func shown(l *listener.Listener) string {
	cfg, err := l.Chains.Chains()[0].TLS.(*transport.Server).Config()
	if err != nil {
		return err.Error()
	}
	c, err := cfg.GetCertificate(&tls.ClientHelloInfo{})
	if err != nil {
		return err.Error()
	}
	return c.Leaf.Subject.CommonName
}

// TestChainKey: what may change without a drain.
func TestChainKey(t *testing.T) {
	ca, other := tlstest.CA(t, "ca"), tlstest.CA(t, "other")
	a, b := certYAML(ca.Leaf(t, "a")), certYAML(ca.Leaf(t, "b"))
	trust := func(p *tlstest.Pair, more string) string {
		return fmt.Sprintf(`, validation_context: {trusted_ca: {inline_string: %q}%s}`, p.Chain, more)
	}
	key := func(common string) uint64 {
		ln, err := CompileListener(parseListener(t, tlsListener(common)), &Env{})
		if err != nil {
			t.Fatal(err)
		}
		return ln.Chains.Chains()[0].Key
	}
	base := key("{tls_certificates: [" + a + "]}")
	for name, tt := range map[string]struct {
		common string
		drains bool
	}{
		"another certificate":  {"{tls_certificates: [" + b + "]}", false},
		"one more certificate": {"{tls_certificates: [" + a + ", " + b + "]}", false},
		"validation":           {"{tls_certificates: [" + a + "]" + trust(ca, "") + "}", true},
		"ALPN":                 {"{tls_certificates: [" + a + "], alpn_protocols: [h2]}", true},
	} {
		if got := key(tt.common); (got != base) != tt.drains {
			t.Errorf("%s: drains %v, want %v", name, got != base, tt.drains)
		}
	}
	cert := "{tls_certificates: [" + a + "]"
	if key(cert+trust(ca, "")+"}") != key(cert+trust(other, "")+"}") {
		t.Error("another trusted CA drains")
	}
	if key(cert+trust(ca, "")+"}") == key(cert+trust(ca, ", verify_certificate_hash: ["+strings.Repeat("ab", 32)+"]")+"}") {
		t.Error("a hash that clients must have does not drain")
	}
}

// TestOtherName: a name of the type OTHER_NAME has an oid, and who has such a
// name gets in.
func TestOtherName(t *testing.T) {
	ca := tlstest.CA(t, "ca")
	upn := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3}
	compile := func(oid string) (*Listener, error) {
		return CompileListener(parseListener(t, tlsListener(fmt.Sprintf(`{tls_certificates: [%s], validation_context: {trusted_ca: {inline_string: %q},
			match_typed_subject_alt_names: [{san_type: OTHER_NAME, oid: %q, matcher: {suffix: "@corp"}}]}}`, certYAML(ca.Leaf(t, "server")), ca.Chain, oid))), &Env{})
	}
	for _, oid := range []string{"", "1.x"} {
		if _, err := compile(oid); err == nil || !strings.Contains(err.Error(), "match_typed_subject_alt_names[0].oid") {
			t.Errorf("oid %q: %v", oid, err)
		}
	}
	l, err := compile(upn.String())
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := l.Chains.Chains()[0].TLS.(*transport.Server).Config()
	if err != nil {
		t.Fatal(err)
	}
	for value, want := range map[string]bool{"me@corp": true, "me@home": false} {
		peer := ca.Leaf(t, "peer", tlstest.Other(upn, asn1.TagUTF8String, value)).Cert
		err := cfg.VerifyConnection(tls.ConnectionState{PeerCertificates: []*x509.Certificate{peer}})
		if (err == nil) != want {
			t.Errorf("%s: %v", value, err)
		}
	}
}

// TestSecretsOverADS: a listener warms for its secrets; a new version reaches
// it without an update of the listener; a bad one changes nothing.
func TestSecretsOverADS(t *testing.T) {
	ca := tlstest.CA(t, "ca")
	one, two, me := ca.Leaf(t, "one"), ca.Leaf(t, "two"), ca.Leaf(t, "me")
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		step := func(body string, args ...string) string {
			w.command(args, body)
			return w.take()
		}
		expect := func(got string, words ...string) {
			t.Helper()
			for _, word := range words {
				if !strings.Contains(got, word) {
					t.Errorf("no %q in\n%s", word, got)
				}
			}
		}
		step(`node: {id: node, cluster: edge}
dynamic_resources:
  ads_config: {api_type: GRPC, transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: xds}}]}
  cds_config: {ads: {}}
  lds_config: {ads: {}}
static_resources:
  clusters:
  - {name: xds, type: STATIC, http2_protocol_options: {}, load_assignment: {cluster_name: xds}}
  secrets:
  - {name: fixed, tls_certificate: `+certYAML(me)+`}
`, "bootstrap")
		cluster := `- name: up
  type: STATIC
  http2_protocol_options: {}
  load_assignment: {cluster_name: up}
  transport_socket:
    name: tls
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
      common_tls_context:
        tls_certificate_sds_secret_configs: [{name: fixed}]
        combined_validation_context:
          default_validation_context: {match_typed_subject_alt_names: [{san_type: DNS, matcher: {exact: up.org}}]}
          validation_context_sds_secret_config: {name: ca, sds_config: {ads: {}}}
`
		step(cluster, "cds", "1")
		expect(step("", "status"), `cluster up "1"; warming: secrets "ca"`)
		// Without a CA the names of the default context would verify nothing.
		expect(step("- {name: ca, validation_context: {}}", "sds", "1"), "insecure")
		expect(step(fmt.Sprintf("- {name: ca, validation_context: {trusted_ca: {inline_string: %q}}}", ca.Chain), "sds", "2"), "ACK")
		expect(step("", "status"), `cluster up "1" serving`)

		step(listItem(tlsListener(`{tls_certificate_sds_secret_configs: [{name: cert, sds_config: {ads: {}}}]}`)), "lds", "1")
		expect(step("", "status"), `listener l "1"; warming: secrets "cert"`)
		step("- {name: cert, tls_certificate: "+certYAML(one)+"}", "sds", "3")
		expect(step("", "status"), `listener l "1" serving`)
		l := w.served["l"]
		if got := shown(l); got != "one" {
			t.Errorf("certificate %q, want one", got)
		}
		step("- {name: cert, tls_certificate: "+certYAML(two)+"}", "sds", "4")
		if got := shown(l); got != "two" {
			t.Errorf("after the rotation: certificate %q, want two", got)
		}
		mixed := fmt.Sprintf("- {name: cert, tls_certificate: {certificate_chain: {inline_string: %q}, private_key: {inline_string: %q}}}", one.Chain, two.PEM)
		expect(step(mixed, "sds", "5"), "does not match")
		if got := shown(l); got != "two" {
			t.Errorf("after a bad version: certificate %q, want two", got)
		}
		// No private key leaves through the dump.
		d := w.m.Dump()
		for _, x := range []any{d.Bootstrap, d.Listeners, d.Clusters, d.Secrets} {
			text := fmt.Sprint(x)
			if strings.Contains(text, "PRIVATE KEY") {
				t.Errorf("a dump shows a private key:\n%s", text)
			}
		}
		if len(d.Secrets.GetDynamicActiveSecrets()) != 2 || len(d.Secrets.GetStaticSecrets()) != 1 {
			t.Errorf("dump of secrets: %v", d.Secrets)
		}

		// A listener whose secret does not come serves after the fetch timeout;
		// handshakes fail.
		step(listItem(tlsListener(`{tls_certificate_sds_secret_configs: [{name: never, sds_config: {ads: {}, initial_fetch_timeout: 2s}}]}`)), "lds", "2")
		step("", "wait", "3s")
		if got := shown(w.served["l"]); got != transport.ErrNotReady.Error() {
			t.Errorf("without its secret: %q", got)
		}
	})
}

// TestSecretsInFiles: files that a certificate stands in, and a file that a
// Secret stands in, are followed.
func TestSecretsInFiles(t *testing.T) {
	ca := tlstest.CA(t, "ca")
	dir := t.TempDir()
	write := func(name string, b []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name+".tmp"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, name+".tmp"), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	pair := func(name string) {
		p := ca.Leaf(t, name)
		write("tls.crt", p.Chain)
		write("tls.key", p.PEM)
	}
	pair("first")
	write("sds.yaml", []byte(fmt.Sprintf(`resources:
- "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret
  name: cert
  tls_certificate: {certificate_chain: {filename: %[1]s/tls.crt}, private_key: {filename: %[1]s/tls.key}}
`, dir)))
	for name, common := range map[string]string{
		"files":  fmt.Sprintf(`{tls_certificates: [{certificate_chain: {filename: %[1]s/tls.crt}, private_key: {filename: %[1]s/tls.key}}]}`, dir),
		"secret": fmt.Sprintf(`{tls_certificate_sds_secret_configs: [{name: cert, sds_config: {path_config_source: {path: %s/sds.yaml}}}]}`, dir),
	} {
		t.Run(name, func(t *testing.T) {
			pair("first")
			w := newWorld(t)
			bs, err := bootstrap.Parse([]byte("static_resources:\n  listeners:\n"+indent(listItem(tlsListener(common)))), bootstrap.Options{})
			if err != nil {
				t.Fatal(err)
			}
			m, err := Attach(context.Background(), w, bs, Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			<-m.Ready()
			l := w.served["l"]
			if got := shown(l); got != "first" {
				t.Fatalf("certificate %q, want first", got)
			}
			pair("second")
			for deadline := time.Now().Add(30 * time.Second); shown(l) != "second"; {
				if time.Now().After(deadline) {
					t.Fatalf("certificate %q, want second", shown(l))
				}
				time.Sleep(time.Millisecond) // polling
			}
		})
	}
}

func indent(s string) string { return "  " + strings.ReplaceAll(s, "\n", "\n  ") }

// TestRedacted: keys, passwords and tickets are hidden, the rest is not.
func TestRedacted(t *testing.T) {
	l := parseListener(t, tlsListener(`{tls_certificates: [
  {certificate_chain: {inline_string: public}, private_key: {inline_string: hidden1}, password: {inline_bytes: aGlkZGVuMg==}},
  {certificate_chain: {filename: c}, private_key: {filename: /path/of/key}}]}`))
	x, err := anypb.New(l)
	if err != nil {
		t.Fatal(err)
	}
	text := protojson.Format(redacted(x))
	for _, word := range []string{"hidden1", "aGlkZGVuMg=="} {
		if strings.Contains(text, word) {
			t.Errorf("%q is shown in\n%s", word, text)
		}
	}
	for _, word := range []string{"public", "/path/of/key", redactedText} {
		if !strings.Contains(text, word) {
			t.Errorf("%q is not shown in\n%s", word, text)
		}
	}
	if !strings.Contains(protojson.Format(x), "hidden1") {
		t.Error("the resource itself was changed")
	}
}

// A TLS context may also come as a TypedStruct, whose fields are not those of a
// message: its private keys are hidden all the same, and nothing else changes.
func TestDumpHidesKeysInTypedStructs(t *testing.T) {
	const key = "SECRET"
	for _, wrapper := range []string{"udpa.type.v1.TypedStruct", "xds.type.v3.TypedStruct"} {
		for name, value := range map[string]string{
			"snake case": `{common_tls_context: {tls_certificates: [{certificate_chain: {inline_string: chain}, private_key: {inline_string: ` + key + `}}]}, nope: 1}`,
			"camel case": `{commonTlsContext: {tlsCertificates: [{certificateChain: {inlineString: chain}, privateKey: {inlineString: ` + key + `}}]}}`,
			"unreadable": `{common_tls_context: [` + key + `]}`,
		} {
			var ln listenerv3.Listener
			text := `{name: l, filter_chains: [{transport_socket: {name: tls, typed_config: {"@type": type.googleapis.com/` + wrapper +
				`, type_url: type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, value: ` + value + `}}}]}`
			if err := bootstrap.Unmarshal([]byte(text), &ln, bootstrap.Options{}); err != nil {
				t.Fatal(err)
			}
			x, err := anypb.New(&ln)
			if err != nil {
				t.Fatal(err)
			}
			got := protojson.Format(redacted(x))
			if strings.Contains(got, key) || name != "unreadable" && !(strings.Contains(got, redactedText) && strings.Contains(got, "chain")) {
				t.Errorf("%s, %s:\n%s", wrapper, name, got)
			}
		}
	}
	// What has no secrets stays as it is written.
	var ln listenerv3.Listener
	text := `{name: l, filter_chains: [{transport_socket: {name: tls, typed_config: {"@type": type.googleapis.com/xds.type.v3.TypedStruct,
		type_url: type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, value: {requireSni: true, nope: 1}}}}]}`
	if err := bootstrap.Unmarshal([]byte(text), &ln, bootstrap.Options{}); err != nil {
		t.Fatal(err)
	}
	x, _ := anypb.New(&ln)
	if got := protojson.Format(redacted(x)); !strings.Contains(got, "requireSni") || !strings.Contains(got, "nope") {
		t.Errorf("without secrets:\n%s", got)
	}
}

// A secret of another kind than a context needs is refused; of it nothing would
// be left but a context that verifies nobody.
func TestSecretOfAnotherKind(t *testing.T) {
	ca := tlstest.CA(t, "ca")
	secret := new(tlsv3.Secret)
	if err := bootstrap.Unmarshal([]byte("name: s\ntls_certificate: "+certYAML(ca.Leaf(t, "leaf"))), secret, bootstrap.Options{}); err != nil {
		t.Fatal(err)
	}
	const source = "{name: s, sds_config: {ads: {}}}"
	for _, context := range []string{
		"validation_context_sds_secret_config: " + source,
		"combined_validation_context: {default_validation_context: {}, validation_context_sds_secret_config: " + source + "}",
	} {
		cl := new(clusterv3.Cluster)
		text := `{name: c, http2_protocol_options: {}, load_assignment: {cluster_name: c}, transport_socket: {name: tls, typed_config: {` +
			`"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, common_tls_context: {` + context + `}}}}`
		if err := bootstrap.Unmarshal([]byte(text), cl, bootstrap.Options{}); err != nil {
			t.Fatal(err)
		}
		c, err := CompileCluster(cl, &Env{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Secrets.SDS[0].take(secret, &Env{}); err == nil || !strings.Contains(err.Error(), "validation_context: value is required") {
			t.Errorf("%s: error %v", context, err)
		}
	}
}

// A file of authorities, or of revoked certificates, in which nothing stands is
// being written: it is no reason to verify less. (Nothing inline is, as in Envoy.)
func TestEmptyFilesOfAuthorities(t *testing.T) {
	ca := tlstest.CA(t, "ca")
	compile := func(authorities string, read func(string) ([]byte, error)) (*Cluster, error) {
		t.Helper()
		cl := new(clusterv3.Cluster)
		text := `{name: c, http2_protocol_options: {}, load_assignment: {cluster_name: c}, transport_socket: {name: tls, typed_config: {` +
			`"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, common_tls_context: {validation_context: ` + authorities + `}}}}`
		if err := bootstrap.Unmarshal([]byte(text), cl, bootstrap.Options{}); err != nil {
			t.Fatal(err)
		}
		return CompileCluster(cl, &Env{ReadFile: read})
	}
	good := func(name string) ([]byte, error) {
		if name == "crl" {
			return ca.CRL(t), nil
		}
		return ca.Chain, nil
	}
	const both = "{trusted_ca: {filename: ca}, crl: {filename: crl}}"
	c, err := compile(both, good)
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"trusted_ca", "crl"} {
		contents := [][]byte{ca.Chain, ca.CRL(t)}
		contents[i] = []byte(" \n")
		if i == 1 {
			contents[i] = nil
		}
		want := name + ": the file is empty"
		if err := c.Secrets.Files[0].load(contents); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s becomes empty: error %v", name, err)
		}
		_, err := compile(both, func(file string) ([]byte, error) {
			if file == map[string]string{"trusted_ca": "ca", "crl": "crl"}[name] {
				return nil, nil
			}
			return good(file)
		})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is empty: error %v", name, err)
		}
	}
	if _, err := compile(`{trusted_ca: {inline_string: ""}}`, good); err != nil {
		t.Error(err)
	}
}
