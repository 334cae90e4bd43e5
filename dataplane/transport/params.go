package transport

import (
	"crypto/tls"
	"fmt"
	"strings"
)

// Params are TlsParameters. The zero value is Envoy's defaults, but for TLS
// 1.3, which clients may use as well.
type Params struct {
	MinVersion   uint16 // crypto/tls version number; 0: TLS 1.2
	MaxVersion   uint16 // 0: TLS 1.3
	CipherSuites []uint16
	Curves       []tls.CurveID // 0: X25519, P-256
}

// apply puts p into c.
func (p *Params) apply(c *tls.Config) {
	c.MinVersion, c.MaxVersion = p.MinVersion, p.MaxVersion
	if c.MinVersion == 0 {
		c.MinVersion = tls.VersionTLS12
	}
	if c.MaxVersion == 0 {
		c.MaxVersion = tls.VersionTLS13
	}
	c.CipherSuites = p.CipherSuites
	if len(c.CipherSuites) == 0 {
		c.CipherSuites = defaultCiphers
	}
	c.CurvePreferences = p.Curves
	if len(c.CurvePreferences) == 0 {
		c.CurvePreferences = defaultCurves
	}
}

func (p *Params) check() error {
	if p.MinVersion != 0 && p.MaxVersion != 0 && p.MinVersion > p.MaxVersion {
		return fmt.Errorf("the minimum version %s is above the maximum %s", tls.VersionName(p.MinVersion), tls.VersionName(p.MaxVersion))
	}
	return nil
}

var (
	defaultCurves  = []tls.CurveID{tls.X25519, tls.CurveP256}
	defaultCiphers = []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	}
)

// cipherNames are BoringSSL's names of what crypto/tls can do below TLS 1.3.
var cipherNames = map[string]uint16{
	"ECDHE-ECDSA-AES128-GCM-SHA256": tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
	"ECDHE-ECDSA-AES256-GCM-SHA384": tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	"ECDHE-ECDSA-CHACHA20-POLY1305": tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	"ECDHE-RSA-AES128-GCM-SHA256":   tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	"ECDHE-RSA-AES256-GCM-SHA384":   tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	"ECDHE-RSA-CHACHA20-POLY1305":   tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	"ECDHE-ECDSA-AES128-SHA":        tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA,
	"ECDHE-ECDSA-AES256-SHA":        tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,
	"ECDHE-ECDSA-AES128-SHA256":     tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256,
	"ECDHE-RSA-AES128-SHA":          tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
	"ECDHE-RSA-AES256-SHA":          tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
	"ECDHE-RSA-AES128-SHA256":       tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256,
	"AES128-GCM-SHA256":             tls.TLS_RSA_WITH_AES_128_GCM_SHA256,
	"AES256-GCM-SHA384":             tls.TLS_RSA_WITH_AES_256_GCM_SHA384,
	"AES128-SHA":                    tls.TLS_RSA_WITH_AES_128_CBC_SHA,
	"AES256-SHA":                    tls.TLS_RSA_WITH_AES_256_CBC_SHA,
	"AES128-SHA256":                 tls.TLS_RSA_WITH_AES_128_CBC_SHA256,
	"DES-CBC3-SHA":                  tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA,
}

// standard13 are names that change nothing: TLS 1.3's are not configurable.
var standard13 = map[string]bool{
	"TLS_AES_128_GCM_SHA256": true, "TLS_AES_256_GCM_SHA384": true, "TLS_CHACHA20_POLY1305_SHA256": true,
}

// CipherName returns BoringSSL's name of a suite.
func CipherName(id uint16) string {
	for name, have := range cipherNames {
		if have == id {
			return name
		}
	}
	return tls.CipherSuiteName(id)
}

// ParseCipher returns the suites of one element of TlsParameters.cipher_suites:
// a BoringSSL or IANA name, or several of equal preference as "[A|B]". (The
// order of preference is crypto/tls's own in any case.)
func ParseCipher(s string) ([]uint16, error) {
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		s = s[1 : len(s)-1]
	}
	var out []uint16
	for name := range strings.SplitSeq(s, "|") {
		switch id, ok := cipherNames[name]; {
		case ok:
			out = append(out, id)
		case standard13[name]:
		default:
			id := ianaCipher(name)
			if id == 0 {
				return nil, fmt.Errorf("unknown cipher suite %q", name)
			}
			out = append(out, id)
		}
	}
	return out, nil
}

func ianaCipher(name string) uint16 {
	for _, list := range [][]*tls.CipherSuite{tls.CipherSuites(), tls.InsecureCipherSuites()} {
		for _, c := range list {
			if c.Name == name {
				return c.ID
			}
		}
	}
	return 0
}

// ParseCurve returns the curve of one element of TlsParameters.ecdh_curves.
func ParseCurve(s string) (tls.CurveID, error) {
	switch s {
	case "X25519", "x25519":
		return tls.X25519, nil
	case "P-256", "prime256v1":
		return tls.CurveP256, nil
	case "P-384", "secp384r1":
		return tls.CurveP384, nil
	case "P-521", "secp521r1":
		return tls.CurveP521, nil
	case "X25519MLKEM768":
		return tls.X25519MLKEM768, nil
	}
	return 0, fmt.Errorf("unknown curve %q", s)
}
