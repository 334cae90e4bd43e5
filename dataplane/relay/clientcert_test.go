package relay

import (
	"strings"
	"testing"

	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/h2/hdr"
)

func TestClientCert(t *testing.T) {
	with := &call.Conn{TLS: &call.TLSInfo{
		PeerDER: [][]byte{{0xfb, 0xff}, {2}}, PeerSHA256: "c0ffee", Subject: `CN=a,O=\"b\"`,
		PeerURIs: []string{"spiffe://td/a", "spiffe://td/b"}, PeerDNS: []string{"a.example", "b.example"}, LocalURIs: []string{"spiffe://td/us"},
	}}
	without := &call.Conn{TLS: &call.TLSInfo{}}
	const us = "By=spiffe://td/us;Hash=c0ffee"
	all := call.CertPEM | call.CertChain | call.CertSubject | call.CertURI | call.CertDNS
	const leaf = "-----BEGIN%20CERTIFICATE-----%0A%2B%2F8%3D%0A-----END%20CERTIFICATE-----%0A"
	tests := []struct {
		name    string
		mode    call.ClientCert
		details call.CertDetails
		conn    *call.Conn
		in      string // "": no header
		want    string
	}{
		{"sanitize", call.CertSanitize, 0, with, "By=evil", ""},
		{"forward", call.CertForward, 0, with, "By=proxy", "By=proxy"},
		{"forward, no certificate", call.CertForward, 0, without, "By=evil", ""},
		{"forward, plaintext", call.CertForward, 0, &call.Conn{}, "By=evil", ""},
		{"append", call.CertAppend, 0, with, "By=proxy", "By=proxy," + us},
		{"append to nothing", call.CertAppend, 0, with, "", us},
		{"append, no certificate", call.CertAppend, 0, without, "By=evil", ""},
		{"set", call.CertSet, call.CertURI, with, "By=evil", us + ";URI=spiffe://td/a;URI=spiffe://td/b"},
		{"set all", call.CertSet, all, with, "", us + `;Cert="` + leaf + `";Chain="` + leaf + strings.Replace(leaf, "%2B%2F8%3D", "Ag%3D%3D", 1) +
			`";Subject="CN=a,O=\"b\"";URI=spiffe://td/a;URI=spiffe://td/b;DNS=a.example;DNS=b.example`},
		{"set, no names", call.CertSet, call.CertURI | call.CertDNS | call.CertSubject, &call.Conn{TLS: &call.TLSInfo{PeerDER: [][]byte{{1}}, PeerSHA256: "00"}}, "", `Hash=00;Subject="";URI=`},
		{"always", call.CertAlwaysForward, 0, &call.Conn{}, "By=anyone", "By=anyone"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			kv := []string{":authority", "a", ":path", "/"}
			if tt.in != "" {
				kv = append(kv, "x-forwarded-client-cert", tt.in)
			}
			x := headerExchange(&call.Manager{Sanitize: true, ClientCert: tt.mode, ClientCertDetails: tt.details}, nil, tt.conn, kv...)
			for range 2 { // the second call finds the element made
				b := x.head
				b.Fields = append(b.Fields[:0:0], x.head.Fields...)
				if rp := x.receivedPolicy(&b, notesIn(&b)); rp != nil {
					t.Fatal(rp)
				}
				if got, _ := b.Get(hdr.XForwardedClientCert); got != tt.want {
					t.Errorf("%q, want %q", got, tt.want)
				}
			}
		})
	}
}
