package h2

import (
	"fmt"
	"strings"
	"testing"
)

// stateRow is one state of docs/core.md, "Streams" with the commands that lead to it
// on stream 1; the last closed stream is 1 too.
type stateRow struct {
	name  string
	setup []string
}

// cell is what an event must cause: the lines of the handler and of the output,
// without the debug text of GOAWAY.
type cell struct {
	event string
	want  map[string]string // by state
}

const (
	none  = ""
	noMsg = "conn PROTOCOL_ERROR"
)

// TestStateTable goes through the table of docs/core.md, "Streams": every event in
// every state, both roles. The outcome is one of: "" (nothing to see), "conn
// CODE", "rst CODE", or the handler's calls.
func TestStateTable(t *testing.T) {
	server := []stateRow{
		{"idle", nil},
		{"open", []string{"> HEADERS 1 std"}},
		{"recv ended", []string{"> HEADERS 1 end std"}},
		{"send ended", []string{"> HEADERS 1 std", "headers 1 end :status=200"}},
		{"closed by both", []string{"> HEADERS 1 end std", "headers 1 end :status=200"}},
		{"reset by peer", []string{"> HEADERS 1 std", "> RST_STREAM 1 CANCEL"}},
		{"reset by us", []string{"> HEADERS 1 std", "reset 1 CANCEL"}},
		{"reset by us, long ago", []string{"> HEADERS 1 std", "reset 1 CANCEL", "time +6s"}},
		{"skipped", []string{"> HEADERS 3 end std"}},
	}
	serverCells := []cell{
		{"> HEADERS 1 std", map[string]string{
			"idle": "request 1", "open": "rst PROTOCOL_ERROR", "recv ended": "rst STREAM_CLOSED", "send ended": "rst PROTOCOL_ERROR",
			"closed by both": "conn STREAM_CLOSED", "reset by peer": "rst STREAM_CLOSED", "reset by us": none,
			"reset by us, long ago": "rst STREAM_CLOSED", "skipped": noMsg,
		}},
		{"> HEADERS 1 end x=y", map[string]string{ // trailers
			"idle": "rst PROTOCOL_ERROR", "open": "trailers 1 end x=y", "recv ended": "rst STREAM_CLOSED", "send ended": "trailers 1 end x=y, end 1 clean",
			"closed by both": "conn STREAM_CLOSED", "reset by peer": "rst STREAM_CLOSED", "reset by us": none,
			"reset by us, long ago": "rst STREAM_CLOSED", "skipped": noMsg,
		}},
		{"> DATA 1 3", map[string]string{
			"idle": noMsg, "open": "data 1 3", "recv ended": "rst STREAM_CLOSED", "send ended": "data 1 3",
			"closed by both": "conn STREAM_CLOSED", "reset by peer": "rst STREAM_CLOSED", "reset by us": none,
			"reset by us, long ago": "rst STREAM_CLOSED", "skipped": noMsg,
		}},
		{"> DATA 1 0 end", map[string]string{
			"idle": noMsg, "open": "data 1 0 end", "recv ended": "rst STREAM_CLOSED", "send ended": "data 1 0 end, end 1 clean",
			"closed by both": "conn STREAM_CLOSED", "reset by peer": "rst STREAM_CLOSED", "reset by us": none,
			"reset by us, long ago": "rst STREAM_CLOSED", "skipped": noMsg,
		}},
		{"> RST_STREAM 1 CANCEL", map[string]string{
			"idle": noMsg, "open": "end 1 reset by peer CANCEL", "recv ended": "end 1 reset by peer CANCEL", "send ended": "end 1 reset by peer CANCEL",
			"closed by both": none, "reset by peer": none, "reset by us": none, "reset by us, long ago": none, "skipped": none,
		}},
		{"> WINDOW_UPDATE 1 9", map[string]string{
			"idle": noMsg, "open": none, "recv ended": none, "send ended": none,
			"closed by both": none, "reset by peer": none, "reset by us": none, "reset by us, long ago": none, "skipped": none,
		}},
		{"> WINDOW_UPDATE 1 0", map[string]string{
			"idle": noMsg, "open": "rst PROTOCOL_ERROR", "recv ended": "rst PROTOCOL_ERROR", "send ended": "rst PROTOCOL_ERROR",
			"closed by both": none, "reset by peer": none, "reset by us": none, "reset by us, long ago": none, "skipped": none,
		}},
		{"> WINDOW_UPDATE 1 2147483647", map[string]string{
			"idle": noMsg, "open": "rst FLOW_CONTROL_ERROR", "recv ended": "rst FLOW_CONTROL_ERROR", "send ended": "rst FLOW_CONTROL_ERROR",
			"closed by both": none, "reset by peer": none, "reset by us": none, "reset by us, long ago": none, "skipped": none,
		}},
		{"> PRIORITY 1 0", map[string]string{
			"idle": none, "open": none, "recv ended": none, "send ended": none,
			"closed by both": none, "reset by peer": none, "reset by us": none, "reset by us, long ago": none, "skipped": none,
		}},
		{"> PRIORITY 1 1", map[string]string{
			"idle": "rst PROTOCOL_ERROR", "open": "rst PROTOCOL_ERROR", "recv ended": "rst PROTOCOL_ERROR", "send ended": "rst PROTOCOL_ERROR",
			"closed by both": "rst PROTOCOL_ERROR", "reset by peer": "rst PROTOCOL_ERROR", "reset by us": "rst PROTOCOL_ERROR",
			"reset by us, long ago": "rst PROTOCOL_ERROR", "skipped": "rst PROTOCOL_ERROR",
		}},
		{"> CONTINUATION 1 x=y", everywhere(server, noMsg)},
		{"> PUSH_PROMISE 1 2", everywhere(server, noMsg)},
		{"> FRAME 77 0 1 00", everywhere(server, none)},
		{"headers 1 end :status=200", map[string]string{
			"open": "HEADERS 1 end :status=200", "recv ended": "end 1 clean, HEADERS 1 end :status=200",
			"send ended": none, "closed by both": none, "reset by peer": none, "reset by us": none, "reset by us, long ago": none,
		}},
		{"data 1 0 end", map[string]string{
			"open": "DATA 1 0 end", "recv ended": "end 1 clean, DATA 1 0 end",
			"send ended": none, "closed by both": none, "reset by peer": none, "reset by us": none, "reset by us, long ago": none,
		}},
		{"reset 1 INTERNAL_ERROR", map[string]string{
			"open": "rst INTERNAL_ERROR", "recv ended": "rst INTERNAL_ERROR", "send ended": "rst INTERNAL_ERROR",
			"closed by both": none, "reset by peer": none, "reset by us": none, "reset by us, long ago": none,
		}},
	}
	checkStates(t, "server", server, serverCells)

	request := "headers 1 :method=POST :scheme=http :path=/p :authority=a"
	client := []stateRow{
		{"idle", nil},
		{"open", []string{"open 1", request}},
		{"send ended", []string{"open 1", request, "data 1 0 end"}},
		{"response", []string{"open 1", request, "> HEADERS 1 :status=200"}},
		{"recv ended", []string{"open 1", request, "> HEADERS 1 end :status=200"}},
		{"closed by both", []string{"open 1", request, "data 1 0 end", "> HEADERS 1 end :status=200"}},
		{"reset by peer", []string{"open 1", request, "> RST_STREAM 1 CANCEL"}},
		{"reset by us", []string{"open 1", request, "reset 1 CANCEL"}},
		{"reset by us, long ago", []string{"open 1", request, "reset 1 CANCEL", "time +6s"}},
	}
	checkStates(t, "client", client, []cell{
		{"> HEADERS 1 :status=200", map[string]string{
			"idle": noMsg, "open": "response 1 :status=200", "send ended": "response 1 :status=200", "response": "rst PROTOCOL_ERROR",
			"recv ended": "rst STREAM_CLOSED", "closed by both": "conn STREAM_CLOSED", "reset by peer": "rst STREAM_CLOSED",
			"reset by us": none, "reset by us, long ago": "rst STREAM_CLOSED",
		}},
		{"> HEADERS 1 end :status=200", map[string]string{
			"idle": noMsg, "open": "response 1 end :status=200", "send ended": "response 1 end :status=200, end 1 clean", "response": "rst PROTOCOL_ERROR",
			"recv ended": "rst STREAM_CLOSED", "closed by both": "conn STREAM_CLOSED", "reset by peer": "rst STREAM_CLOSED",
			"reset by us": none, "reset by us, long ago": "rst STREAM_CLOSED",
		}},
		{"> HEADERS 1 :status=103", map[string]string{
			"idle": noMsg, "open": "informational 1 :status=103", "send ended": "informational 1 :status=103", "response": "rst PROTOCOL_ERROR",
			"recv ended": "rst STREAM_CLOSED", "closed by both": "conn STREAM_CLOSED", "reset by peer": "rst STREAM_CLOSED",
			"reset by us": none, "reset by us, long ago": "rst STREAM_CLOSED",
		}},
		{"> HEADERS 1 end x=y", map[string]string{
			"idle": noMsg, "open": "rst PROTOCOL_ERROR", "send ended": "rst PROTOCOL_ERROR", "response": "trailers 1 end x=y",
			"recv ended": "rst STREAM_CLOSED", "closed by both": "conn STREAM_CLOSED", "reset by peer": "rst STREAM_CLOSED",
			"reset by us": none, "reset by us, long ago": "rst STREAM_CLOSED",
		}},
		{"> DATA 1 3", map[string]string{
			"idle": noMsg, "open": "rst PROTOCOL_ERROR", "send ended": "rst PROTOCOL_ERROR", "response": "data 1 3",
			"recv ended": "rst STREAM_CLOSED", "closed by both": "conn STREAM_CLOSED", "reset by peer": "rst STREAM_CLOSED",
			"reset by us": none, "reset by us, long ago": "rst STREAM_CLOSED",
		}},
		{"> RST_STREAM 1 NO_ERROR", map[string]string{
			"idle": noMsg, "open": "end 1 reset by peer NO_ERROR", "send ended": "end 1 reset by peer NO_ERROR", "response": "end 1 reset by peer NO_ERROR",
			"recv ended": "end 1 reset by peer NO_ERROR", "closed by both": none, "reset by peer": none, "reset by us": none, "reset by us, long ago": none,
		}},
		{"> WINDOW_UPDATE 1 9", map[string]string{
			"idle": noMsg, "open": none, "send ended": none, "response": none, "recv ended": none,
			"closed by both": none, "reset by peer": none, "reset by us": none, "reset by us, long ago": none,
		}},
		{"> WINDOW_UPDATE 1 0", map[string]string{
			"idle": noMsg, "open": "rst PROTOCOL_ERROR", "send ended": "rst PROTOCOL_ERROR", "response": "rst PROTOCOL_ERROR", "recv ended": "rst PROTOCOL_ERROR",
			"closed by both": none, "reset by peer": none, "reset by us": none, "reset by us, long ago": none,
		}},
		{"> PRIORITY 1 0", everywhere(client, none)},
		{"> CONTINUATION 1 x=y", everywhere(client, noMsg)},
		{"> PUSH_PROMISE 1 2", everywhere(client, noMsg)},
		{"data 1 5 end", map[string]string{
			"open": "DATA 1 5 end", "send ended": none, "response": "DATA 1 5 end", "recv ended": "end 1 clean, DATA 1 5 end",
			"closed by both": none, "reset by peer": none, "reset by us": none, "reset by us, long ago": none,
		}},
	})
}

func everywhere(rows []stateRow, want string) map[string]string {
	m := map[string]string{}
	for _, r := range rows {
		m[r.name] = want
	}
	return m
}

func checkStates(t *testing.T, role string, rows []stateRow, cells []cell) {
	for _, c := range cells {
		for _, r := range rows {
			want, ok := c.want[r.name]
			local := !strings.HasPrefix(c.event, ">")
			if !ok {
				if local {
					continue // nobody sends on a stream that never was
				}
				t.Errorf("%s: no expectation for %q in state %q", role, c.event, r.name)
				continue
			}
			t.Run(fmt.Sprintf("%s/%s/%s", role, r.name, strings.TrimPrefix(c.event, "> ")), func(t *testing.T) {
				w := newWorld(t, role)
				for _, cmd := range r.setup {
					w.run(t, cmd)
				}
				w.log = w.log[:0]
				w.run(t, c.event)
				if got := outcome(w.log); got != want {
					t.Errorf("got %q, want %q (log %q)", got, want, w.log)
				}
				if wantDead := strings.HasPrefix(want, "conn"); w.c.Dead() != wantDead {
					t.Errorf("dead = %v", w.c.Dead())
				}
				w.done(t)
			})
		}
	}
}

// outcome shortens a log to the words of the table.
func outcome(log []string) string {
	var out []string
	for _, l := range log {
		f := strings.Fields(l)
		switch {
		case f[1] == "GOAWAY":
			return "conn " + f[3]
		case f[1] == "RST_STREAM":
			return "rst " + f[3]
		case strings.HasPrefix(l, "! closed"):
		default:
			out = append(out, strings.Join(f[1:], " "))
		}
	}
	return strings.Join(out, ", ")
}
