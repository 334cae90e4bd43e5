//go:build unix

package dataplane_test

import (
	"bytes"
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-proxy/sluice/dataplane"
	"github.com/sluice-proxy/sluice/dataplane/call"
	"github.com/sluice-proxy/sluice/dataplane/h2/hpack"
	"github.com/sluice-proxy/sluice/dataplane/listener"
	"github.com/sluice-proxy/sluice/test/echo"
)

// authFilter lets calls with a good token pass, tells backends whose they are,
// and never shows them the token. It has no state of a call's own, so that all
// calls have the same one.
type authFilter map[string]string // user by token

// NewFilter implements call.FilterFactory.
func (f authFilter) NewFilter(*call.Call) call.Filter { return f }

// RequestHeaders implements call.Filter.
func (f authFilter) RequestHeaders(c *call.Call, _ bool) error {
	token, _ := c.Headers.GetName("token")
	user := f[token]
	if user == "" {
		return &call.Reply{HTTP: 401, GRPC: call.Unauthenticated, Message: "who are you?"}
	}
	kept := c.Headers.Fields[:0]
	for _, field := range c.Headers.Fields {
		if field.Name != "token" && field.Name != "user" {
			kept = append(kept, field)
		}
	}
	c.Headers.Fields = append(kept, hpack.NewField("user", user))
	return nil
}

// ResponseHeaders implements call.Filter.
func (authFilter) ResponseHeaders(_ *call.Call, h *hpack.Block, _ bool) error {
	h.Append(hpack.NewField("checked-by", "sluice"))
	return nil
}

// Done implements call.Filter.
func (authFilter) Done(*call.Call, *call.Outcome) {}

// redactor takes a word out of every message that goes up. To see messages, a
// filter has the methods of call.MessageFilter; payload then passes message by
// message.
type redactor struct{ word []byte }

// NewFilter implements call.FilterFactory.
func (r *redactor) NewFilter(*call.Call) call.Filter { return r }

// RequestHeaders implements call.Filter.
func (*redactor) RequestHeaders(*call.Call, bool) error { return nil }

// ResponseHeaders implements call.Filter.
func (*redactor) ResponseHeaders(*call.Call, *hpack.Block, bool) error { return nil }

// RequestMessage implements call.MessageFilter.
func (r *redactor) RequestMessage(_ *call.Call, m *call.Message) error {
	if m.Compressed {
		return &call.Reply{GRPC: call.Unimplemented, Message: "cannot look into compressed messages"}
	}
	var req echo.SayRequest
	if err := proto.Unmarshal(m.Data, &req); err != nil {
		return &call.Reply{GRPC: call.InvalidArgument, Message: err.Error()}
	}
	req.Text = string(bytes.ReplaceAll([]byte(req.GetText()), r.word, []byte("***")))
	data, err := proto.Marshal(&req)
	m.Data = data // this filter does not use it again
	return err
}

// ResponseMessage implements call.MessageFilter.
func (*redactor) ResponseMessage(*call.Call, *call.Message) error { return nil }

// Done implements call.Filter.
func (*redactor) Done(*call.Call, *call.Outcome) {}

// Filters in front of a Director: one that checks callers and edits headers,
// one that changes messages. Compiled listeners of xDS have theirs in the same
// place, and grpcproxy.XDSDirector runs them as well.
func ExampleServer_filters() {
	backend, stop := startBackend("backend")
	defer stop()
	chains, err := listener.NewTable(nil, &listener.Chain{Manager: &call.Manager{
		Filters:  []call.FilterFactory{authFilter{"t0k3n": "ann"}, &redactor{word: []byte("secret")}},
		Director: byTenant{"": backend},
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	srv, err := dataplane.New(dataplane.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := srv.Serve(&listener.Listener{Addresses: []listener.Address{{Network: "tcp", Address: "127.0.0.1:0"}}, Chains: chains}); err != nil {
		fmt.Println(err)
		return
	}
	cc, err := grpc.NewClient(srv.Listeners()[0].Addresses[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, token := range []string{"t0k3n", "stolen"} {
		ctx := metadata.AppendToOutgoingContext(context.Background(), "token", token)
		var head, trailer metadata.MD
		r, err := echo.NewEchoClient(cc).Say(ctx, &echo.SayRequest{Text: "a secret word"}, grpc.Header(&head), grpc.Trailer(&trailer))
		fmt.Println(r.GetText(), metadata.Join(head, trailer).Get("checked-by"), err)
	}
	_ = cc.Close()
	if err := srv.Shutdown(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// a *** word [sluice] <nil>
	//  [sluice] rpc error: code = Unauthenticated desc = who are you?
}
