package grpcproxy_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/sluice-proxy/sluice/dataplane/grpcproxy"
)

// onWire is a message as it is in an HTTP body.
func onWire(compressed bool, payload string) []byte {
	b := bytes.NewBuffer(make([]byte, 5))
	if compressed {
		b.Bytes()[0] = 1
		z := gzip.NewWriter(b)
		_, _ = z.Write([]byte(payload)) // to memory
		_ = z.Close()
	} else {
		b.WriteString(payload)
	}
	binary.BigEndian.PutUint32(b.Bytes()[1:], uint32(b.Len()-5))
	return b.Bytes()
}

// 1.28, 1.30: peers made of an HTTP library say how long a body is, and compare.
// What they say of the body on one hop does not get to the other, where it is
// compressed otherwise; nor does what the backend can undo.
func TestLengthsStayOnTheirHop(t *testing.T) {
	var h2c http.Protocols
	h2c.SetUnencryptedHTTP2(true)
	long := strings.Repeat("y", 1000)
	seen := make(chan string, 1)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	backend := &http.Server{Protocols: &h2c, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		seen <- fmt.Sprint(len(b), err)
		w.Header().Set("content-type", "application/grpc")
		w.Header().Set("grpc-encoding", "gzip")
		w.Header().Set("grpc-accept-encoding", "br")
		w.Header().Set(http.TrailerPrefix+"grpc-status", "0")
		_, _ = w.Write(onWire(true, long))
	})}
	done := make(chan error, 1)
	go func() { done <- backend.Serve(ln) }()
	defer func() {
		_ = backend.Close()
		<-done
	}()
	conn := dial(t, ln.Addr().String())
	for name, out := range map[string]func(context.Context) context.Context{
		"forwarded": nil,
		"copied": func(ctx context.Context) context.Context {
			md, _ := metadata.FromIncomingContext(ctx)
			return metadata.NewOutgoingContext(ctx, md.Copy())
		},
	} {
		addr := serve(t, grpc.NewServer(grpc.UnknownServiceHandler(grpcproxy.TransparentHandler(
			directed(grpcproxy.One2One, &grpcproxy.ConnBackend{Conn: conn, Outgoing: out})))))
		client := &http.Transport{Protocols: &h2c, DisableCompression: true}
		for _, compressed := range []bool{true, false} {
			r, err := http.NewRequestWithContext(testContext(t), http.MethodPost, "http://"+addr+method, bytes.NewReader(onWire(compressed, long)))
			if err != nil {
				t.Fatal(err)
			}
			r.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "Grpc-Accept-Encoding": {"identity"}}
			if compressed {
				r.Header.Set("grpc-encoding", "gzip")
			}
			resp, err := client.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if !bytes.Equal(b, onWire(compressed, long)) || err != nil || resp.Trailer.Get("grpc-status") != "0" || resp.Header.Get("grpc-accept-encoding") != "" {
				t.Errorf("%s, compressed %v: %d bytes, %v, %v, %v", name, compressed, len(b), err, resp.Header, resp.Trailer)
			}
			if got := <-seen; got != "1005 <nil>" {
				t.Errorf("%s, compressed %v: the backend got %s", name, compressed, got)
			}
		}
		client.CloseIdleConnections()
	}
}
