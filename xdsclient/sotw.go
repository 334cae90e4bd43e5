package xdsclient

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

const (
	adsSotW = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"

	wrapperType = "type.googleapis.com/envoy.service.discovery.v3.Resource"

	codeInternal = 13 // google.rpc.Code; what Envoy puts into a NACK

	// maxReason bounds a NACK's text, in bytes: servers limit the size of
	// requests (4 MiB in grpc-go).
	maxReason = 64 << 10

	// coalesce is how long a change of a subscription waits for further ones.
	coalesce = 2 * time.Millisecond
)

// sotw is the state-of-the-world variant: each request carries all names of its
// type, and the last accepted version.
type sotw struct {
	// Set at creation.

	node     *corev3.Node
	nodeOnce bool
	refuse   Backoff // wait before the same content is refused again
	log      *slog.Logger

	// Guarded by the client's mu.

	types    []*typeState // in the order of requests
	stream   uint64       // number of the current stream
	open     bool
	nodeSent bool   // on this stream
	seq      uint64 // responses received, over all streams
	serverID string
}

// typeState is what sotw knows of one type.
type typeState struct {
	url  string
	want Subscription // names sorted, each once
	st   TypeStatus   // counters, times and verdicts; the rest is filled in by status

	// Over all streams.

	version     string    // last accepted: version_info of the next request
	acceptedSeq uint64    // the response it came with
	refusals    int       // in a row, each soon after the last
	told        time.Time // when the last one was, or is, to be told

	// Of the current stream.

	asked    bool      // a request was sent
	changed  bool      // want is not what the last request said
	explicit bool      // a request named something: an empty list is no wildcard any more
	nonce    string    // of the newest response; empty before the first
	newest   uint64    // seq of the newest response
	inFlight bool      // the newest response has no answer yet
	refused  string    // error_detail of the next request, if not empty
	due      time.Time // when the next request is to be sent; zero: nothing to say
}

func newSotW(cfg *Config) *sotw {
	return &sotw{
		node:     cfg.Node,
		nodeOnce: cfg.SetNodeOnFirstMessageOnly,
		refuse:   cfg.Backoff,
		log:      cfg.Logger,
	}
}

func (s *sotw) method() string             { return adsSotW }
func (s *sotw) newResponse() proto.Message { return new(discoveryv3.DiscoveryResponse) }
func (s *sotw) server() string             { return s.serverID }

func (s *sotw) opened(now time.Time) {
	s.stream++
	s.open, s.nodeSent = true, false
	for _, t := range s.types {
		t.asked, t.explicit, t.inFlight = false, false, false
		t.nonce, t.newest, t.refused = "", 0, ""
		t.due = now
	}
}

func (s *sotw) closed() {
	s.open = false
	for _, t := range s.types {
		if t.wanted() {
			t.st.Failures++
		}
	}
}

func (s *sotw) subscribe(typeURL string, sub Subscription, now time.Time) {
	names := slices.Clone(sub.Names)
	slices.Sort(names)
	sub.Names = slices.Compact(names)
	t := s.typeState(typeURL)
	if t == nil {
		t = &typeState{url: typeURL}
		i, _ := slices.BinarySearchFunc(s.types, rank(typeURL)+1, func(t *typeState, r int) int { return rank(t.url) - r })
		s.types = slices.Insert(s.types, i, t)
	} else if t.want.Wildcard == sub.Wildcard && slices.Equal(t.want.Names, sub.Names) {
		return
	}
	t.want, t.changed = sub, true
	// A waiting refusal goes along with the names now: the server has something
	// new to act on.
	if at := now.Add(coalesce); t.due.IsZero() || t.due.After(at) {
		t.due = at
	}
}

func (s *sotw) typeState(typeURL string) *typeState {
	for _, t := range s.types {
		if t.url == typeURL {
			return t
		}
	}
	return nil
}

func (t *typeState) wanted() bool { return t.want.Wildcard || len(t.want.Names) > 0 }

// names is the resource_names of the next request; ok is false if there is
// nothing to ask. The rules are those of "How the client specifies what
// resources to return": an empty list in the first request is a wildcard, and
// stays one until names were sent; after that only "*" is.
func (t *typeState) names() (names []string, ok bool) {
	switch {
	case !t.wanted():
		// Nothing was asked, or the list before was not a wildcard: the empty
		// list ends the subscription. A wildcard by the empty list can only be
		// ended by ending the stream; its responses are ignored until then.
		return nil, t.asked && t.explicit
	case t.want.Wildcard && len(t.want.Names) == 0 && !t.explicit:
		return nil, true
	case t.want.Wildcard:
		return append([]string{"*"}, t.want.Names...), true
	}
	return t.want.Names, true
}

func (s *sotw) next(now time.Time) (proto.Message, time.Duration) {
	if !s.open {
		return nil, -1
	}
	wait := time.Duration(-1)
	for _, t := range s.types {
		if t.due.IsZero() || t.inFlight {
			continue // the answer to the response in flight will tell the names
		}
		if left := t.due.Sub(now); left > 0 {
			if wait < 0 || left < wait {
				wait = left
			}
			continue
		}
		t.due = time.Time{}
		if names, ok := t.names(); ok {
			return s.request(t, names), 0
		}
	}
	return nil, wait
}

func (s *sotw) request(t *typeState, names []string) *discoveryv3.DiscoveryRequest {
	req := &discoveryv3.DiscoveryRequest{
		TypeUrl:       t.url,
		VersionInfo:   t.version,
		ResponseNonce: t.nonce,
		ResourceNames: names,
	}
	if !s.nodeSent || !s.nodeOnce {
		req.Node = s.node
		s.nodeSent = true
	}
	if t.refused != "" {
		req.ErrorDetail = &rpcstatus.Status{Code: codeInternal, Message: t.refused}
		t.refused = ""
	}
	t.asked, t.changed = true, false
	t.explicit = t.explicit || len(names) > 0
	return req
}

func (s *sotw) received(m proto.Message, now time.Time) (*Response, error) {
	msg := m.(*discoveryv3.DiscoveryResponse)
	if id := msg.GetControlPlane().GetIdentifier(); id != "" {
		s.serverID = id
	}
	t := s.typeState(msg.TypeUrl)
	if t == nil {
		s.log.Warn("response of a type that was not asked for", "type", msg.TypeUrl, "nonce", msg.Nonce)
		return nil, nil
	}
	s.seq++
	// Whatever was to be said of an earlier response is out of date now: the
	// server ignores requests whose nonce is not its newest.
	t.nonce, t.newest, t.refused = msg.Nonce, s.seq, ""
	t.inFlight = t.wanted()
	if !t.wanted() {
		return nil, nil // as Envoy: no interest, no answer
	}
	r := &Response{
		TypeURL: msg.TypeUrl,
		Version: msg.VersionInfo,
		Nonce:   msg.Nonce,
		stream:  s.stream,
		seq:     s.seq,
	}
	var err error
	if r.Resources, err = unwrap(msg); err != nil {
		s.log.Warn("malformed response", "type", r.TypeURL, "version", r.Version, "nonce", r.Nonce, "reason", err)
		s.answered(r, err, now)
		return r, err
	}
	if len(r.Resources) == 0 && len(msg.Resources) > 0 {
		s.answered(r, nil, now) // heartbeats only
		return nil, nil
	}
	return r, nil
}

// unwrap takes resources out of their wrappers, which servers use for resources
// with a time to live, and checks that each is of the response's type. A
// wrapper without a body is a heartbeat and left out.
func unwrap(msg *discoveryv3.DiscoveryResponse) ([]*anypb.Any, error) {
	out := make([]*anypb.Any, 0, len(msg.Resources))
	var errs []error
	for i, a := range msg.Resources {
		if a.GetTypeUrl() == wrapperType && msg.TypeUrl != wrapperType {
			var w discoveryv3.Resource
			if err := proto.Unmarshal(a.Value, &w); err != nil {
				errs = append(errs, fmt.Errorf("resources[%d]: %w", i, err))
				continue
			}
			if w.Resource == nil {
				continue
			}
			a = w.Resource
		}
		if a.GetTypeUrl() != msg.TypeUrl {
			errs = append(errs, fmt.Errorf("resources[%d]: type %q in a response of type %q", i, a.GetTypeUrl(), msg.TypeUrl))
			continue
		}
		out = append(out, a)
	}
	return out, errors.Join(errs...)
}

func (s *sotw) answered(r *Response, err error, now time.Time) {
	t := s.typeState(r.TypeURL)
	var wait time.Duration
	if err == nil {
		t.st.Successes++
		if r.seq > t.acceptedSeq {
			t.acceptedSeq, t.version = r.seq, r.Version
			t.st.Accepted, t.st.AcceptedAt, t.st.RejectReason = r.Version, now, ""
			t.refusals = 0
		}
	} else {
		text := reason(err)
		t.st.Rejections++
		wait = s.refusalWait(t, r.Version, text, now)
		t.st.Rejected, t.st.RejectedAt, t.st.RejectReason = r.Version, now, text
	}
	if r.stream != s.stream || r.seq != t.newest || !s.open {
		return // out of date: nothing to tell the server
	}
	t.inFlight = false
	if t.changed {
		wait = 0 // the server has something new to act on
	}
	t.due = now.Add(wait)
	if err != nil {
		t.refused, t.told = t.st.RejectReason, t.due
	}
}

// sameVersion bounds the exponent of the wait before a version is refused again,
// to 4 s with the default. Servers like go-control-plane's, which send what was
// refused again at once, send the mended version only after the next answer.
const sameVersion = 3

// newVersions bounds the exponent of the wait before a new version is refused
// for the same reason as the last one: somebody may be trying to mend it.
const newVersions = 2

// newReasons is the part of Backoff.Base that lies between refusals of new
// versions for new reasons: 50 ms with the default. A person does not notice it,
// and a server that makes a version of each resend, whose faults come in an order
// of their own, is not told so thousands of times a second.
const newReasons = 10

// refusalWait is how long a refusal waits before it is told. A server that
// resends at once what was refused would be told so thousands of times a second;
// one that takes its time is answered at once, and one that does not wait for
// the answer does not put it off.
func (s *sotw) refusalWait(t *typeState, version, reason string, now time.Time) time.Duration {
	n := t.refusals
	switch {
	case t.st.RejectReason == "":
		return 0
	case t.st.Rejected == version:
		n = min(n, sameVersion)
	case t.st.RejectReason == reason:
		n = min(n, newVersions)
	default:
		t.refusals = 0
		gap := s.refuse.Base / newReasons
		return max(0, min(t.told.Add(gap).Sub(now), gap))
	}
	if left := t.told.Sub(now); left > 0 {
		return left
	}
	wait := s.refuse.delay(n)
	if now.Sub(t.told) >= wait {
		t.refusals = 0
		return 0
	}
	t.refusals++
	return wait
}

// reason is an error's text as it may stand in a request: not empty, valid
// UTF-8 and not too long.
func reason(err error) string {
	text := err.Error()
	if len(text) > maxReason {
		text = text[:maxReason] + " ..."
	}
	if text == "" {
		text = "refused"
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

func (s *sotw) status() []TypeStatus {
	out := make([]TypeStatus, 0, len(s.types))
	for _, t := range s.types {
		st := t.st
		st.TypeURL = t.url
		st.Attempts = 1 + st.Successes + st.Rejections + st.Failures
		st.Subscription = Subscription{Wildcard: t.want.Wildcard, Names: slices.Clone(t.want.Names)}
		st.Waiting = s.open && t.asked && t.wanted() && t.nonce == ""
		st.InFlight = s.open && t.inFlight
		out = append(out, st)
	}
	return out
}
