package call

import (
	"crypto/tls"
	"encoding/pem"
	"strings"
)

// ClientTLS is how connections to the hosts of a cluster are secured. Safe for
// concurrent use.
type ClientTLS interface {
	// Config returns what a handshake that begins now needs, with a host of
	// that name ("" if it has none). The result is shared: not to be changed.
	Config(hostname string) (*tls.Config, error)
}

var urlEscaper = strings.NewReplacer("\n", "%0A", " ", "%20", "+", "%2B", "/", "%2F", "=", "%3D")

// URLPEM returns certificates as URL encoded PEM, as headers carry them.
func URLPEM(ders [][]byte) string {
	var out strings.Builder
	for _, der := range ders {
		out.WriteString(urlEscaper.Replace(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))))
	}
	return out.String()
}
