//go:build unix

package worker

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// TestKeyUpdates: a client changes its keys between and within writes and asks
// for the proxy's to be changed (RFC 8446 §4.6.3). Each PING is answered, and
// each request by an update.
//
// crypto/tls has no call that does it, so the client makes its records itself
// once the handshake is over.
func TestKeyUpdates(t *testing.T) {
	const rounds = 5
	r := newRig(t, 1, true)
	nc, err := net.Dial("tcp", r.ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	_ = nc.SetDeadline(time.Now().Add(patience))
	cfg, _ := trusting{}.Config("")
	var secrets bytes.Buffer
	cfg.KeyLogWriter, cfg.MinVersion = &secrets, tls.VersionTLS13
	tc := tls.Client(&byRecord{Conn: nc}, cfg)
	if err := tc.Handshake(); err != nil {
		t.Fatal(err)
	}
	if tc.ConnectionState().CipherSuite != tls.TLS_AES_128_GCM_SHA256 {
		t.Skip("the records of this test are AES-128-GCM only")
	}
	out := newTrafficKeys(t, secrets.String(), "CLIENT_TRAFFIC_SECRET_0")
	in := newTrafficKeys(t, secrets.String(), "SERVER_TRAFFIC_SECRET_0")

	var frames bytes.Buffer
	fw := http2.NewFramer(&frames, nil)
	frames.WriteString(http2.ClientPreface)
	_ = fw.WriteSettings()
	_ = fw.WriteSettingsAck()
	var sent []byte
	for i := range rounds {
		_ = fw.WritePing(false, [8]byte{byte(2 * i)})
		sent = append(sent, out.seal(23, frames.Bytes())...)
		frames.Reset()
		sent = append(sent, keyUpdate(out)...)
		_ = fw.WritePing(false, [8]byte{byte(2*i + 1)})
		sent = append(sent, out.seal(23, frames.Bytes())...)
		frames.Reset()
	}
	for cut := 0; len(sent) > 0; cut++ { // in pieces that know nothing of records
		n := min(len(sent), 20+cut%30)
		if _, err := nc.Write(sent[:n]); err != nil {
			t.Fatal(err)
		}
		sent = sent[n:]
	}

	var got bytes.Buffer
	updates, answers := 0, map[byte]bool{}
	fr := http2.NewFramer(nil, &got)
	next := func() {
		kind, data := in.open(nc)
		switch {
		case kind == 23:
			got.Write(data)
		case kind != 22:
			t.Fatalf("a record of type %d: %x", kind, data)
		case data[0] == 24: // else it is a ticket
			updates++
			in.update()
		}
		for got.Len() >= 9 && got.Len() >= 9+int(binary.BigEndian.Uint32(got.Bytes())>>8) {
			f, err := fr.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			if p, ok := f.(*http2.PingFrame); ok && p.IsAck() {
				answers[p.Data[0]] = true
			}
		}
	}
	for updates < rounds || len(answers) < 2*rounds {
		next()
	}
	if _, err := nc.Write(keyUpdate(out)); err != nil { // the only cause to write
		t.Fatal(err)
	}
	for updates < rounds+1 {
		next()
	}
}

// keyUpdate is a KeyUpdate with update_requested.
func keyUpdate(k *trafficKeys) []byte {
	k.t.Helper()
	record := k.seal(22, []byte{24, 0, 0, 1, 1})
	k.update()
	return record
}

// byRecord returns no byte beyond the record at hand.
type byRecord struct {
	net.Conn
	s recordScanner
}

func (c *byRecord) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p[:min(len(p), c.s.want())])
	c.s.scan(p[:n])
	return n, err
}

// trafficKeys are those of one direction of TLS_AES_128_GCM_SHA256.
type trafficKeys struct {
	t      *testing.T
	secret []byte
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
}

// newTrafficKeys finds the secret in a key log.
func newTrafficKeys(t *testing.T, log, label string) *trafficKeys {
	t.Helper()
	for line := range strings.Lines(log) {
		var name, random, secret string
		if n, _ := fmt.Sscan(line, &name, &random, &secret); n == 3 && name == label {
			k := &trafficKeys{t: t}
			k.secret, _ = hex.DecodeString(secret)
			k.derive()
			return k
		}
	}
	t.Fatalf("no %s in the key log", label)
	return nil
}

// expand is HKDF-Expand-Label without a context (RFC 8446 §7.1).
func (k *trafficKeys) expand(label string, n int) []byte {
	k.t.Helper()
	label = "tls13 " + label
	info := string([]byte{byte(n >> 8), byte(n), byte(len(label))}) + label + "\x00"
	out, err := hkdf.Expand(sha256.New, k.secret, info, n)
	if err != nil {
		k.t.Fatal(err)
	}
	return out
}

func (k *trafficKeys) derive() {
	k.t.Helper()
	block, err := aes.NewCipher(k.expand("key", 16))
	if err == nil {
		k.aead, err = cipher.NewGCM(block)
	}
	if err != nil {
		k.t.Fatal(err)
	}
	k.iv, k.seq = k.expand("iv", 12), 0
}

func (k *trafficKeys) update() {
	k.t.Helper()
	k.secret = k.expand("traffic upd", sha256.Size)
	k.derive()
}

// nonce is that of the next record.
func (k *trafficKeys) nonce() []byte {
	n := bytes.Clone(k.iv)
	binary.BigEndian.PutUint64(n[4:], binary.BigEndian.Uint64(n[4:])^k.seq)
	k.seq++
	return n
}

func (k *trafficKeys) seal(kind byte, data []byte) []byte {
	inner := append(bytes.Clone(data), kind)
	n := len(inner) + k.aead.Overhead()
	head := []byte{23, 3, 3, byte(n >> 8), byte(n)}
	return append(head, k.aead.Seal(nil, k.nonce(), inner, head)...)
}

// open reads a record.
func (k *trafficKeys) open(r io.Reader) (kind byte, data []byte) {
	k.t.Helper()
	head := make([]byte, recordHeader)
	if _, err := io.ReadFull(r, head); err != nil {
		k.t.Fatal(err)
	}
	body := make([]byte, int(head[3])<<8|int(head[4]))
	if _, err := io.ReadFull(r, body); err != nil {
		k.t.Fatal(err)
	}
	inner, err := k.aead.Open(nil, k.nonce(), body, head)
	if err != nil {
		k.t.Fatalf("a record that the keys do not open: %v", err)
	}
	return inner[len(inner)-1], inner[:len(inner)-1]
}
