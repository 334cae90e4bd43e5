package rawh2

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"

	"github.com/sluice-proxy/sluice/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// TestBothEnds has a client and a server of this package talk to each other:
// every kind of entry arrives as it was sent.
func TestBothEnds(t *testing.T) {
	srv, err := Listen(Options{Settings: []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 7}}})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	c, err := Dial(srv.Addr(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	must(t, c.WaitSettings())
	if v, _ := c.PeerSetting(http2.SettingMaxConcurrentStreams); v != 7 {
		t.Errorf("MAX_CONCURRENT_STREAMS = %d, want 7", v)
	}

	cl := c.Open(false, append(Fields(":method", "POST", "b", "", "a", "1", "b", "2"), Field{Name: "k", Value: "v", Sensitive: true}))
	sv, err := srv.AcceptStream()
	must(t, err)
	must(t, cl.Send(false, make([]byte, 100_000)))
	cl.Data(false, nil)
	cl.Headers(true, Fields("t", "1"))
	must(t, sv.WaitEnd())
	sv.Headers(false, Fields(":status", "103"))
	sv.Headers(false, Fields(":status", "200"))
	sv.Padded(false, []byte("hello"), 3)
	sv.Reset(http2.ErrCodeCancel)
	must(t, cl.WaitReset())
	must(t, c.Sync())

	want := []string{
		`HEADERS :method="POST" b="" a="1" b="2" k="v"(never indexed)`, "DATA 100000 bytes, sum " + zeros(100_000),
		`HEADERS t="1"`, "END",
	}
	if d := cmp.Diff(want, sv.Text()); d != "" {
		t.Errorf("the server got (-want +got):\n%s", d)
	}
	want = []string{`HEADERS :status="103"`, `HEADERS :status="200"`, "DATA 5 bytes, sum 9a71bb4c", "RESET CANCEL"}
	if d := cmp.Diff(want, cl.Text()); d != "" {
		t.Errorf("the client got (-want +got):\n%s", d)
	}

	second := c.Open(true, Fields(":method", "GET"))
	must(t, c.Sync())
	c.Close()
	if got := second.Text(); !cmp.Equal(got, []string{"LOST"}) {
		t.Errorf("a stream of a closed connection has %q", got)
	}
	if n := srv.Conns()[0].OpenStreams(); n != 1 {
		t.Errorf("%d streams open, want 1", n)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// zeros is the sum of n zero bytes.
func zeros(n int) string {
	e := dataEntry(make([]byte, n), false)
	return fmt.Sprintf("%08x", e.Sum)
}
