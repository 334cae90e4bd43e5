package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/sluice-proxy/sluice/test/rawh2"
)

// TestMessagesPass: what is in DATA is not the proxy's business, and where
// streams end is kept.
func TestMessagesPass(t *testing.T) {
	s := newScene(t, fixedConfig{})
	unary := func(body []byte) func(x *exchange) {
		return func(x *exchange) {
			x.open(false, request("grpc-encoding", "acme-zip"))
			x.must(x.cl.Send(true, body))
			x.must(x.sv.WaitEnd())
			x.sv.Headers(false, response("grpc-encoding", "acme-zip"))
			x.must(x.sv.Send(false, body))
			x.sv.Headers(true, trailers())
			x.must(x.cl.WaitEnd())
		}
	}
	for name, body := range map[string][]byte{
		"compressed":             message(1, "\x1f\x8b whatever"),
		"mixed flags":            append(append(message(1, "a"), message(0, "b")...), message(1, "")...),
		"unknown flags":          append(message(0x82, "a"), message(0xff, "b")...),
		"empty message":          message(0, ""),
		"no message":             {},
		"less than a prefix":     {0, 0, 0},
		"prefix without payload": {0, 0, 0, 0, 9},
		"1 MiB":                  message(0, strings.Repeat("0123456789abcdef", 1<<16)),
	} {
		t.Run(name, func(t *testing.T) { s.same(t, unary(body)) })
	}
	for name, script := range map[string]func(x *exchange){
		"zero-length DATA": func(x *exchange) {
			x.open(false, request())
			x.cl.Data(false, nil)
			x.cl.Data(false, message(0, "a"))
			x.cl.Data(false, nil)
			x.cl.Data(false, nil)
			x.cl.Data(true, nil)
			x.must(x.sv.WaitEnd())
			x.sv.Headers(false, response())
			x.sv.Data(false, nil)
			x.sv.Data(false, message(0, "b"))
			x.sv.Data(true, nil)
			x.must(x.cl.WaitEnd())
		},
		"only an empty DATA": func(x *exchange) {
			x.open(false, request())
			x.cl.Data(true, nil)
			x.must(x.sv.WaitEnd())
			x.sv.Headers(false, response())
			x.sv.Data(true, nil)
			x.must(x.cl.WaitEnd())
		},
		"padding": func(x *exchange) {
			x.open(false, request())
			x.cl.Padded(false, message(0, "a"), 0)
			x.cl.Padded(false, nil, 200)
			x.cl.Padded(true, message(0, "b"), 255)
			x.must(x.sv.WaitEnd())
			x.sv.Headers(false, response())
			x.sv.Padded(false, message(0, "c"), 100)
			x.sv.Padded(true, nil, 1)
			x.must(x.cl.WaitEnd())
		},
		"request trailers": func(x *exchange) {
			x.open(false, request())
			x.cl.Data(false, message(0, "a"))
			x.cl.Headers(true, rawh2.Fields("x-sum", "1", "x-sum", "", "x-bin", "AQI", "a", "2"))
			x.must(x.sv.WaitEnd())
			x.sv.Headers(true, response("grpc-status", "0"))
			x.must(x.cl.WaitEnd())
		},
		"request trailers alone": func(x *exchange) {
			x.open(false, request())
			x.cl.Headers(true, rawh2.Fields("x-sum", "1"))
			x.must(x.sv.WaitEnd())
			x.sv.Headers(true, response("grpc-status", "0"))
			x.must(x.cl.WaitEnd())
		},
		"empty request trailers": func(x *exchange) {
			x.open(false, request())
			x.cl.Data(false, message(0, "a"))
			x.cl.Headers(true, nil)
			x.must(x.sv.WaitEnd())
			x.sv.Headers(true, response("grpc-status", "0"))
			x.must(x.cl.WaitEnd())
		},
		"half-close, then a stream of answers": func(x *exchange) {
			x.open(false, request())
			x.cl.Data(true, message(0, "a"))
			x.must(x.sv.WaitEnd())
			x.sv.Headers(false, response())
			for i := range 10 {
				x.sv.Data(false, message(0, fmt.Sprint(i)))
				x.must(x.cl.WaitData(6 * (i + 1)))
			}
			x.sv.Headers(true, trailers("x-count", "10"))
			x.must(x.cl.WaitEnd())
		},
		"ping-pong": func(x *exchange) {
			x.open(false, request())
			x.sv.Headers(false, response())
			for i := range 10 {
				x.cl.Data(false, message(0, "ping"))
				x.must(x.sv.WaitData(9 * (i + 1)))
				x.sv.Data(false, message(1, "pong"))
				x.must(x.cl.WaitData(9 * (i + 1)))
			}
			x.cl.Data(true, nil)
			x.must(x.sv.WaitEnd())
			x.sv.Headers(true, trailers())
			x.must(x.cl.WaitEnd())
		},
		"answer before the request's end": func(x *exchange) {
			x.open(false, request())
			x.cl.Data(false, message(0, "a"))
			x.must(x.sv.WaitData(6))
			x.sv.Headers(false, response())
			x.sv.Data(false, message(0, "b"))
			x.must(x.cl.WaitData(6))
			x.cl.Data(true, message(0, "late"))
			x.must(x.sv.WaitEnd())
			x.sv.Headers(true, trailers())
			x.must(x.cl.WaitEnd())
		},
	} {
		t.Run(name, func(t *testing.T) { s.same(t, script) })
	}
}

// TestHeadersComeFirst: the response's headers reach the client at once, long
// before the first message, whether the request has ended or not.
func TestHeadersComeFirst(t *testing.T) {
	s := newScene(t, fixedConfig{})
	for _, end := range []bool{false, true} {
		t.Run(fmt.Sprint("request ended ", end), func(t *testing.T) {
			s.run(t, s.p.port, func(x *exchange) {
				x.open(end, request())
				before := time.Now()
				x.sv.Headers(false, response("x-early", "1"))
				x.must(x.cl.WaitHeaders(1))
				if d := time.Since(before); d > longest {
					t.Errorf("headers took %v", d)
				}
				if got := x.cl.Log(); len(got) != 1 || got[0].Get("x-early") != "1" {
					t.Errorf("the client has %q", x.cl.Text())
				}
				if !end {
					x.cl.Data(true, nil)
				}
				x.sv.Data(false, message(0, "m"))
				x.sv.Headers(true, trailers())
				x.must(x.cl.WaitEnd())
			})
		})
	}
}

// TestEarlyResponse: a whole response before the client half-closes. It arrives
// whole; then the client learns that the rest of its request is not wanted, by
// RST_STREAM(NO_ERROR) (RFC 9113 §8.1), and the backend is not left with an
// open stream.
func TestEarlyResponse(t *testing.T) {
	s := newScene(t, fixedConfig{})
	early := func(x *exchange, reset bool) {
		x.open(false, request())
		x.cl.Data(false, message(0, "a"))
		x.must(x.sv.WaitData(6))
		x.sv.Headers(false, response())
		x.sv.Data(false, message(0, "enough"))
		x.sv.Headers(true, trailers("x-why", "enough"))
		if reset {
			x.sv.Reset(http2.ErrCodeNo)
		}
		x.must(x.cl.WaitReset())
	}
	want := []string{
		`HEADERS :status="200" content-type="application/grpc"`, "DATA 11 bytes, sum", `HEADERS grpc-status="0" x-why="enough"`, "END", "RESET NO_ERROR",
	}
	t.Run("the backend resets", func(t *testing.T) {
		client, _ := s.run(t, s.p.port, func(x *exchange) { early(x, true) })
		wantBegin(t, client, want)
	})
	t.Run("the backend goes on reading", func(t *testing.T) {
		client, server := s.run(t, s.p.port, func(x *exchange) {
			early(x, false)
			x.must(x.sv.WaitOver())
		})
		wantBegin(t, client, want)
		if server[len(server)-1] != "RESET CANCEL" {
			t.Errorf("the backend sees %q", server)
		}
	})
	t.Run("while the client sends", func(t *testing.T) {
		// The client has much more to send than any window allows.
		client, _ := s.run(t, s.p.port, func(x *exchange) {
			x.open(false, request())
			x.sv.Headers(true, response("grpc-status", "3"))
			x.sv.Reset(http2.ErrCodeNo)
			_ = x.cl.Send(true, make([]byte, 4<<20)) // ends with the reset
			x.must(x.cl.WaitReset())
		})
		want := []string{`HEADERS :status="200" content-type="application/grpc" grpc-status="3"`, "END", "RESET NO_ERROR"}
		if strings.Join(client, "\n") != strings.Join(want, "\n") {
			t.Errorf("the client sees %q, want %q", client, want)
		}
	})
}

// wantBegin checks that the client's log has as many lines as want, and that
// each begins as there.
func wantBegin(t *testing.T, got, want []string) {
	t.Helper()
	if !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("the client sees\n%s", strings.Join(got, "\n"))
	}
}

// TestShortRequest: a client that stops sending because it is answered, and ends
// its request short of the content-length it has announced, gets the answer to
// its end, as connect-go's clients need it. The backend never takes the request
// for a whole one.
func TestShortRequest(t *testing.T) {
	s := newScene(t, fixedConfig{})
	client, server := s.run(t, s.p.port, func(x *exchange) {
		x.open(false, request("content-length", "1000"))
		x.cl.Data(false, message(0, "a"))
		x.must(x.sv.WaitData(6))
		x.sv.Headers(false, response())
		x.must(x.cl.WaitHeaders(1))
		x.cl.Data(true, nil)
		x.must(x.conn.Sync()) // the proxy has read it
		x.sv.Data(false, message(0, "too much"))
		x.sv.Headers(true, trailers("x-why", "size"))
		x.must(x.cl.WaitEnd())
		x.must(x.sv.WaitOver())
	})
	want := []string{
		`HEADERS :status="200" content-type="application/grpc"`, "DATA 13 bytes, sum", `HEADERS grpc-status="0" x-why="size"`, "END",
	}
	wantBegin(t, client, want)
	if server[len(server)-1] != "RESET CANCEL" || slices.Contains(server, "END") {
		t.Errorf("the backend sees %q", server)
	}
}

// TestResetsPass: RST_STREAM keeps its code in both directions.
func TestResetsPass(t *testing.T) {
	s := newScene(t, fixedConfig{})
	for code := http2.ErrCodeProtocol; code <= http2.ErrCodeHTTP11Required; code++ {
		t.Run("backend, "+code.String(), func(t *testing.T) {
			s.same(t, func(x *exchange) {
				x.open(true, request())
				x.sv.Headers(false, response())
				x.sv.Data(false, message(0, "a"))
				x.sv.Reset(code)
				x.must(x.cl.WaitReset())
			})
		})
	}
	for _, code := range []http2.ErrCode{
		http2.ErrCodeCancel, http2.ErrCodeInternal, http2.ErrCodeProtocol, http2.ErrCodeRefusedStream, http2.ErrCodeEnhanceYourCalm,
	} {
		t.Run("client, "+code.String(), func(t *testing.T) {
			s.same(t, func(x *exchange) {
				x.open(false, request())
				x.cl.Data(false, message(0, "a"))
				x.must(x.sv.WaitData(6))
				x.sv.Headers(false, response())
				x.must(x.cl.WaitHeaders(1))
				x.cl.Reset(code)
				x.must(x.sv.WaitReset())
			})
		})
	}
	t.Run("before any answer, CANCEL", func(t *testing.T) {
		s.same(t, func(x *exchange) {
			x.open(true, request())
			x.cl.Reset(http2.ErrCodeCancel)
			x.must(x.sv.WaitReset())
		})
	})
	t.Run("NO_ERROR after a complete response", func(t *testing.T) {
		s.same(t, func(x *exchange) {
			x.open(true, request())
			x.sv.Headers(false, response())
			x.sv.Data(false, message(0, "a"))
			x.sv.Headers(true, trailers())
			x.must(x.cl.WaitEnd())
		})
	})
}

// TestFramesBetween: PING, PRIORITY, unknown frames, flags nobody defined and
// settings nobody knows do nothing to the calls around them.
func TestFramesBetween(t *testing.T) {
	s := newScene(t, fixedConfig{})
	s.same(t, func(x *exchange) {
		noise := func(c *rawh2.Conn, id uint32) {
			c.Frame(0xfe, 0xff, 0, []byte("unknown"))
			c.Frame(0xfe, 0, id, make([]byte, 1000))
			c.Frame(http2.FramePriority, 0, id, []byte{0, 0, 0, 0, 7})
			c.Frame(http2.FrameSettings, 0, 0, []byte{0xab, 0xcd, 1, 2, 3, 4})
			c.Ping([8]byte{1})
		}
		x.open(false, request())
		noise(x.conn, x.cl.ID)
		x.cl.Data(false, message(0, "a"))
		noise(x.conn, x.cl.ID)
		x.cl.Data(true, message(0, "b"))
		x.must(x.sv.WaitEnd())
		noise(x.sv.Conn(), x.sv.ID)
		x.sv.Headers(false, response())
		noise(x.sv.Conn(), x.sv.ID)
		x.sv.Headers(true, trailers())
		x.must(x.cl.WaitEnd())
	})
}

// TestBigMessages: 32 MiB both ways, byte for byte, while the proxy's memory
// stays what its windows make of it.
func TestBigMessages(t *testing.T) {
	s := newScene(t, fixedConfig{})
	const size = 32 << 20
	body := make([]byte, size)
	rnd := rand.NewChaCha8([32]byte{1})
	_, _ = rnd.Read(body)
	copy(body, message(0, "")[:1])
	before := s.p.resident(t)
	s.same(t, func(x *exchange) {
		x.open(false, request())
		x.must(x.cl.Send(true, body))
		x.must(x.sv.WaitEnd())
		x.sv.Headers(false, response())
		x.must(x.sv.Send(false, body))
		x.sv.Headers(true, trailers())
		x.must(x.cl.WaitEnd())
	})
	if grown := s.p.peak(t) - before; grown > 16<<20 {
		t.Errorf("the proxy grew by %d KiB", grown>>10)
	} else {
		t.Logf("the proxy grew by %d KiB", grown>>10)
	}
}

// resident and peak are the bytes of memory that the proxy has, or had at most.
func (p *proxy) resident(t *testing.T) int { return p.memory(t, "VmRSS:") }
func (p *proxy) peak(t *testing.T) int     { return p.memory(t, "VmHWM:") }

func (p *proxy) memory(t *testing.T, field string) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid()))
	if err != nil {
		t.Skip("needs Linux's /proc")
	}
	for line := range bytes.Lines(b) {
		if f := strings.Fields(string(line)); len(f) > 1 && f[0] == field {
			n, err := strconv.Atoi(f[1])
			must(t, err)
			return n << 10
		}
	}
	t.Fatalf("no %s in /proc", field)
	return 0
}
