package main

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

func TestMatch(t *testing.T) {
	for _, tt := range []struct {
		pattern, name string
		want          bool
	}{
		{"", "a/b", true},
		{"a/b", "a/b", true},
		{"a/b", "a/b/c", false},
		{"a/b/c", "a/b", false},
		{"a/*", "a/b", true},
		{"*", "a/b", false},
		{"http2/6.5.*/*", "http2/6.5.3/2", true},
		{"http2/6.5/*", "http2/6.5.3/2", false},
		{"**", "a/b/c", true},
		{"**/c", "a/b/c", true},
		{"**/b", "a/b/c", false},
		{"a/**/c", "a/c", true},
		{"a/**/c/**", "a/b/c/d/c", true},
		{"[", "a", false},
	} {
		if got := match(tt.pattern, tt.name); got != tt.want {
			t.Errorf("match(%q, %q) = %t, want %t", tt.pattern, tt.name, got, tt.want)
		}
	}
}

func TestH2specReport(t *testing.T) {
	list := parseH2specList(`Generic tests for HTTP/2 server
  2. Streams
    1: Sends a frame
    2: Sends a frame

Hypertext Transfer Protocol Version 2 (HTTP/2)
  6. Frame Definitions
    6.5. SETTINGS
      6.5.2. Defined SETTINGS Parameters
        1: SETTINGS_ENABLE_PUSH (0x2): Sends the value
HPACK: Header Compression for HTTP/2
  2. Compression Process Overview
    2.3. Indexing Tables
      1: Sends a header
`)
	var ids []string
	for _, c := range list {
		ids = append(ids, c.id)
	}
	if want := []string{"generic/2/1", "generic/2/2", "http2/6.5.2/1", "hpack/2.3/1"}; !slices.Equal(ids, want) {
		t.Errorf("ids = %q, want %q", ids, want)
	}
	r := &result{}
	report := "<testsuites><testsuite package=\"generic/2\"><testcase classname=\"Sends a frame\"/>" +
		"<testcase classname=\"Sends a frame\"><error>a <b & \x00</error></testcase></testsuite>" +
		"<testsuite package=\"http2/6.5.2\"><testcase classname=\"SETTINGS_ENABLE_PUSH (0x2): Sends the value\"><skipped></skipped></testcase></testsuite>" +
		"<testsuite package=\"hpack/2.3\"><testcase classname=\"Sends a header\"><failure>f</failure></testcase></testsuite></testsuites>"
	if err := parseH2specReport([]byte(report), list, r); err != nil {
		t.Fatal(err)
	}
	if r.passed != 1 || r.skipped != 1 {
		t.Errorf("passed, skipped = %d, %d, want 1, 1", r.passed, r.skipped)
	}
	if want := []failure{
		{"generic/2/2", "Sends a frame\na <b & ."},
		{"hpack/2.3/1", "Sends a header\nf"},
	}; !slices.Equal(r.failed, want) {
		t.Errorf("failed = %q, want %q", r.failed, want)
	}
}

func TestConnectReport(t *testing.T) {
	const text = "FAILED: A/b:c/d:\n\tone\n\ttwo\nFAILED: A/e was expected to fail but did not\n" +
		"INFO: A/f failed (as expected):\n\tthree\n\nTotal cases: 10\n7 passed, 2 failed\n(Another 1 failed as expected due to being known failures/flakes.)\n"
	r := &result{}
	if err := parseConnect(text, io.EOF, r); err != nil {
		t.Fatal(err)
	}
	if r.passed != 7 || r.peers != 1 {
		t.Errorf("passed, peers = %d, %d, want 7, 1", r.passed, r.peers)
	}
	if want := []failure{{"A/b:c/d", "one\ntwo\n"}, {"A/e", "was expected to fail but did not"}}; !slices.Equal(r.failed, want) {
		t.Errorf("failed = %q, want %q", r.failed, want)
	}
	const cut = "Total cases: 10\n7 passed, 0 failed\nAnother 3 could not be run due to client timing out or exiting prematurely.\n"
	if err := parseConnect(cut, nil, &result{}); err == nil {
		t.Error("cases that were not run are no error")
	}
	if err := parseConnect("fatal", io.EOF, &result{}); err == nil {
		t.Error("no report is no error")
	}
}

func TestKnownFailures(t *testing.T) {
	entries, err := parseKnown("known", strings.NewReader("# why\nh2spec http2/*/1\nconnect/client/grpc-go a/**\n\n# why\nh2spec gone\ninterop/grpc-go x\n"))
	if err != nil {
		t.Fatal(err)
	}
	r := &result{suite: "h2spec", failed: []failure{{name: "http2/6/1"}, {name: "a/b"}}}
	r.forgive(entries)
	if r.known != 1 || len(r.failed) != 1 || r.failed[0].name != "a/b" {
		t.Errorf("known, failed = %d, %v, want 1, a/b", r.known, r.failed)
	}
	if got := stale([]*result{r}, entries); len(got) != 1 || got[0].pattern != "gone" {
		t.Errorf("stale = %v, want the entry \"gone\"", got)
	}
	var out bytes.Buffer
	if report(&out, []*result{r}, nil) {
		t.Error("a failure is reported as success")
	}
	r.failed = nil
	if !report(&out, []*result{r}, nil) {
		t.Error("a known failure is reported as failure")
	}
	if _, err := parseKnown("known", strings.NewReader("# why\n\nh2spec a\n")); err == nil {
		t.Error("an entry without a reason is no error")
	}
}

func TestAddressRewritten(t *testing.T) {
	msg := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "name")
	rest := len(msg)
	msg, err := addAddress(msg, requestHost, requestPort, "10.0.0.1", "4711")
	if err != nil {
		t.Fatal(err)
	}
	var wire bytes.Buffer
	if err := writeMessage(&wire, msg); err != nil {
		t.Fatal(err)
	}
	if msg, err = readMessage(&wire); err != nil {
		t.Fatal(err)
	}
	host, port, left, err := takeAddress(msg, requestHost, requestPort)
	if err != nil || host != "10.0.0.1" || port != "4711" || !bytes.Equal(left, msg[:rest]) {
		t.Errorf("takeAddress = %q, %q, %q, %v", host, port, left, err)
	}
	if _, _, _, err := takeAddress(left, requestHost, requestPort); err == nil {
		t.Error("no port is no error")
	}
	if _, _, _, err := takeAddress(msg[:len(msg)-1], requestHost, requestPort); err == nil {
		t.Error("a message cut off is no error")
	}
}
