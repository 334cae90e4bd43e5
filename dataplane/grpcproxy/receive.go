package grpcproxy

import (
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// collect receives all messages of one destination. An error becomes a message
// if the backend can make it one.
func (f *fan) collect(d *destination) ([][]byte, error) {
	var out [][]byte
	if d.err == nil {
		md, _ := d.cs.Header()
		f.addHeader(d, md)
		for {
			b, err := f.receive(d)
			if errors.Is(err, io.EOF) {
				f.addTrailer(d)
				return out, nil
			}
			if err != nil {
				d.err = err
				break
			}
			out = append(out, b)
		}
	}
	b, err := f.toMessage(d)
	if b != nil {
		out = append(out, b)
	}
	return out, err
}

// passOn hands the client each message of one destination as it comes.
func (f *fan) passOn(d *destination) error {
	if d.err == nil {
		md, _ := d.cs.Header()
		f.addHeader(d, md)
		for {
			m, err := f.receiveFrame(d)
			if errors.Is(err, io.EOF) {
				f.addTrailer(d)
				return nil
			}
			if err != nil {
				d.err = err
				break
			}
			if err := f.write(m); err != nil {
				return err
			}
		}
	}
	b, err := f.toMessage(d)
	if err != nil || b == nil {
		return err
	}
	return f.write(FrameOf(b))
}

// receive returns the next response, with what AppendInfo adds.
func (f *fan) receive(d *destination) ([]byte, error) {
	var m Frame
	if err := recvMsg(d.cs, &m); err != nil {
		return nil, err
	}
	b := m.Data()
	m.Free()
	b, err := d.backend.AppendInfo(f.streaming, b)
	if err != nil {
		return nil, &infoError{fmt.Errorf("grpcproxy: appending the info of %s: %w", d.backend, err)}
	}
	return b, nil
}

// receiveFrame is receive, without a copy if AppendInfo would change nothing.
func (f *fan) receiveFrame(d *destination) (*Frame, error) {
	if plain(d.backend) {
		m := new(Frame)
		return m, recvMsg(d.cs, m)
	}
	b, err := f.receive(d)
	if err != nil {
		return nil, err
	}
	return FrameOf(b), nil
}

// plain reports that AppendInfo is that of this package, which does nothing.
func plain(b Backend) bool {
	switch b.(type) {
	case *SingleBackend, *ConnBackend:
		return true
	}
	return false
}

// infoError is an error of AppendInfo: it fails the call and is no response.
type infoError struct{ error }

// Unwrap supports errors.Is and errors.As.
func (e *infoError) Unwrap() error { return e.error }

// toMessage makes d.err a response, or fails the call with it. It says nothing
// of errors that only follow from the call's failure.
func (f *fan) toMessage(d *destination) ([]byte, error) {
	f.addHeader(d, nil)
	err := d.err
	var info *infoError
	ours := errors.As(err, &info) // the backend's call goes on, and has no trailers yet
	if d.cs != nil && !ours {
		f.addTrailer(d)
		d.sending.settle(d.cs)
	}
	if ours {
		return nil, f.cause(err)
	}
	if f.failed() || ended(f.ss.Context()) != nil {
		return nil, err // which may follow from it
	}
	if err = handled(d.backend, err); err == nil {
		return nil, nil
	}
	b, buildErr := d.backend.BuildError(f.streaming, err)
	if buildErr != nil {
		return nil, f.cause(fmt.Errorf("grpcproxy: building the error of %s: %w", d.backend, buildErr))
	}
	if b == nil {
		return nil, f.cause(err)
	}
	return b, nil
}

// addHeader merges the headers of one destination. They go to the client when
// those of all have come, or the first message does.
func (f *fan) addHeader(d *destination, md metadata.MD) {
	f.mu.Lock()
	if d.answers {
		f.mu.Unlock()
		return
	}
	d.answers = true
	f.awaited--
	f.answered = f.answered || md != nil // none at all: a response of trailers only
	if !f.headers {
		f.head = metadata.Join(f.head, headerOf(md))
	}
	last := f.awaited == 0 && f.answered && !f.headers
	f.mu.Unlock()
	if last {
		f.sending.Lock()
		defer f.sending.Unlock()
		_ = f.sendHeaders(f.ss.SendHeader) // the call has failed then
	}
}

// sendHeaders hands over the headers once. f.sending is held. The call fails if
// they are none that can be sent; that the stream has ended, or somebody else has
// sent headers, is not theirs.
func (f *fan) sendHeaders(send func(metadata.MD) error) error {
	f.mu.Lock()
	done, head := f.headers, f.head
	f.headers = true
	f.mu.Unlock()
	if done {
		return nil
	}
	err := send(head)
	if err == nil || follows(err) {
		return nil
	}
	f.fail(err)
	return err
}

// addTrailer merges the trailers of one destination, but for its status: that
// is not the call's.
func (f *fan) addTrailer(d *destination) {
	md := without(without(d.cs.Trailer(), statusDetails), contentLength)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.trailer = metadata.Join(f.trailer, md)
}

// errOver is the error of those that find the call failed by another.
var errOver = status.Error(codes.Canceled, "grpcproxy: the call has failed")

// write sends a message to the client and frees it.
func (f *fan) write(m *Frame) error {
	defer m.Free()
	f.sending.Lock()
	defer f.sending.Unlock()
	if f.failed() {
		return errOver
	}
	if err := f.sendHeaders(f.ss.SetHeader); err != nil {
		return err
	}
	err := f.ss.SendMsg(m)
	if err != nil {
		f.fail(err)
	}
	return err
}
