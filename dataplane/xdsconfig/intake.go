package xdsconfig

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sluice-proxy/sluice/xdsclient"
)

// resource is one resource as it was received, compiled to a C. Immutable but
// for raw.
type resource[C any] struct {
	name    string
	content *anypb.Any // as received: for config dumps
	print   fingerprint
	value   C
	err     error // why there is no value

	raw fingerprint // of the last encoding; owned by the intake's goroutine
}

// batch is a response whose resources are compiled.
type batch[C any] struct {
	response  *xdsclient.Response
	resources []*resource[C] // each name once
	// nameless are faults of resources whose name is not known: what is
	// missing in the response may be them.
	nameless []error
	skipped  []skipped // what nobody wanted when the response was compiled
}

// skipped is a resource that was not looked at.
type skipped struct {
	name    string
	content *anypb.Any
}

// fault joins what is wrong with the response; nil if all of it is good. more
// are faults found when resources were applied.
func (b *batch[C]) fault(more ...error) error {
	errs := b.nameless
	for _, r := range b.resources {
		if r.err != nil {
			errs = append(errs, r.err)
		}
	}
	return errors.Join(append(errs, more...)...)
}

// intake compiles the responses of one type, in order, on a goroutine of its
// own: a route table that takes a second to compile holds up nobody else.
type intake[C any] struct {
	// Set at creation.

	env     *Env
	message func() proto.Message
	name    func(proto.Message) string
	compile func(proto.Message, *Env) (C, error)
	apply   func(*batch[C]) // posts to the configuration goroutine
	in      chan *xdsclient.Response

	// wanted are the names subscribed to; nil: all. What else a server sends is
	// not looked at. Stored by the configuration goroutine.
	wanted atomic.Pointer[map[string]bool]

	// Owned by run.

	seen  map[string]*resource[C]      // last good versions, by name
	byRaw map[fingerprint]*resource[C] // the same, by their encodings
}

// queued is how many responses of a type may wait. A server sends the next one
// when it has the answer to the last, so more is a fault of its own, and makes
// the client stop reading.
const queued = 16

func newIntake[P proto.Message, C any](env *Env, message func() P, name func(P) string, compile func(P, *Env) (C, error), apply func(*batch[C])) *intake[C] {
	return &intake[C]{
		env:     env,
		message: func() proto.Message { return message() },
		name:    func(m proto.Message) string { return name(m.(P)) },
		compile: func(m proto.Message, e *Env) (C, error) { return compile(m.(P), e) },
		apply:   apply,
		in:      make(chan *xdsclient.Response, queued),
		seen:    make(map[string]*resource[C]),
		byRaw:   make(map[fingerprint]*resource[C]),
	}
}

// run compiles what comes until ctx ends.
func (in *intake[C]) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-in.in:
			in.apply(in.take(r))
		}
	}
}

// take compiles a response. A resource that is encoded as before is not even
// parsed, and one that means the same is not compiled.
func (in *intake[C]) take(r *xdsclient.Response) *batch[C] {
	b := &batch[C]{response: r, resources: make([]*resource[C], 0, len(r.Resources))}
	wanted := in.wanted.Load()
	inBatch := make(map[string]bool, len(r.Resources))
	for i, x := range r.Resources {
		raw := fingerprint(sha256.Sum256(x.GetValue()))
		res := in.byRaw[raw]
		if res == nil {
			m := in.message()
			if err := proto.Unmarshal(x.GetValue(), m); err != nil {
				b.nameless = append(b.nameless, fmt.Errorf("resources[%d]: %s", i, plainText(err)))
				continue
			}
			name := in.name(m)
			if name == "" {
				b.nameless = append(b.nameless, fmt.Errorf("resources[%d]: the resource has no name", i))
				continue
			}
			if wanted != nil && !(*wanted)[name] {
				b.skipped = append(b.skipped, skipped{name, x})
				continue
			}
			res = in.one(name, m, x, raw)
		} else if wanted != nil && !(*wanted)[res.name] {
			b.skipped = append(b.skipped, skipped{res.name, x})
			continue
		}
		if inBatch[res.name] {
			b.nameless = append(b.nameless, fmt.Errorf("resources[%d]: %q is there twice; the first counts", i, res.name))
			continue
		}
		inBatch[res.name] = true
		b.resources = append(b.resources, res)
	}
	in.forget(inBatch, wanted)
	return b
}

// one returns the resource of a message that is encoded in a new way.
func (in *intake[C]) one(name string, m proto.Message, x *anypb.Any, raw fingerprint) *resource[C] {
	print := fingerprintOf(m)
	old := in.seen[name]
	if old != nil && old.print == print {
		delete(in.byRaw, old.raw)
		old.raw = raw
		in.byRaw[raw] = old
		return old
	}
	res := &resource[C]{name: name, content: x, print: print, raw: raw}
	if res.value, res.err = in.compile(m, in.env); res.err != nil {
		return res // not kept: a file it needs may be there the next time
	}
	if old != nil {
		delete(in.byRaw, old.raw)
	}
	in.seen[name], in.byRaw[raw] = res, res
	return res
}

// recheck compiles what b skipped and is wanted by the time it is applied, or is
// news of what is kept although nobody uses it: the response will be
// acknowledged, so the server will not send it again. It runs on the
// configuration goroutine and leaves the intake's own state alone. That the two
// overlap is rare enough to compile there. state tells whether a name is wanted,
// and its last good version, nil if there is none.
func (in *intake[C]) recheck(b *batch[C], state func(name string) (wanted bool, last *resource[C])) {
	for _, s := range b.skipped {
		wanted, last := state(s.name)
		news := last != nil && !bytes.Equal(last.content.GetValue(), s.content.GetValue())
		if !wanted && !news || slices.ContainsFunc(b.resources, func(r *resource[C]) bool { return r.name == s.name }) {
			continue
		}
		m := in.message()
		if proto.Unmarshal(s.content.GetValue(), m) != nil {
			continue // it was read before
		}
		res := &resource[C]{name: s.name, content: s.content, print: fingerprintOf(m)}
		if res.value, res.err = in.compile(m, in.env); res.err != nil && !wanted {
			continue // it was not asked for
		}
		b.resources = append(b.resources, res)
	}
	b.skipped = nil
}

// forget drops what is neither in the newest response of a type with all its
// resources, nor subscribed to of any other type.
func (in *intake[C]) forget(inBatch map[string]bool, wanted *map[string]bool) {
	for name, res := range in.seen {
		if wanted == nil && !inBatch[name] || wanted != nil && !(*wanted)[name] {
			delete(in.seen, name)
			delete(in.byRaw, res.raw)
		}
	}
}
