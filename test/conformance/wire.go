package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of connectconformance's messages, whose Go types are internal
// to it: connectrpc/conformance/v1/server_compat.proto, client_compat.proto.
const (
	responseHost, responsePort = 1, 2 // ServerCompatResponse
	requestHost, requestPort   = 6, 7 // ClientCompatRequest
)

const maxMessage = 64 << 20

// readMessage reads one message behind its length, 32 bits big-endian.
func readMessage(r io.Reader) ([]byte, error) {
	var n [4]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(n[:])
	if size > maxMessage {
		return nil, fmt.Errorf("message of %d bytes", size)
	}
	msg := make([]byte, size)
	if _, err := io.ReadFull(r, msg); err != nil {
		return nil, fmt.Errorf("message cut off: %w", err)
	}
	return msg, nil
}

func writeMessage(w io.Writer, msg []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(msg))), msg...))
	return err
}

// takeAddress returns the host and port in msg, and msg without them.
func takeAddress(msg []byte, hostField, portField protowire.Number) (host, port string, rest []byte, err error) {
	host = "127.0.0.1"
	for len(msg) > 0 {
		num, typ, n := protowire.ConsumeTag(msg)
		if n < 0 {
			return "", "", nil, protowire.ParseError(n)
		}
		size := protowire.ConsumeFieldValue(num, typ, msg[n:])
		if size < 0 {
			return "", "", nil, protowire.ParseError(size)
		}
		value, field := msg[n:n+size], msg[:n+size]
		switch {
		case num == hostField && typ == protowire.BytesType:
			v, _ := protowire.ConsumeBytes(value)
			host = string(v)
		case num == portField && typ == protowire.VarintType:
			v, _ := protowire.ConsumeVarint(value)
			port = strconv.FormatUint(v, 10)
		default:
			rest = append(rest, field...)
		}
		msg = msg[n+size:]
	}
	if port == "" {
		return "", "", nil, errors.New("message without a port")
	}
	return host, port, rest, nil
}

// addAddress appends host and port to msg.
func addAddress(msg []byte, hostField, portField protowire.Number, host, port string) ([]byte, error) {
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, err
	}
	msg = protowire.AppendTag(msg, hostField, protowire.BytesType)
	msg = protowire.AppendString(msg, host)
	msg = protowire.AppendTag(msg, portField, protowire.VarintType)
	return protowire.AppendVarint(msg, p), nil
}
