package main

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"testing"
)

// The profile in the tree names no directory of the machine that recorded it.
func TestProfileWithoutPaths(t *testing.T) {
	b, err := os.ReadFile("../../cmd/dataplane/default.pgo")
	if err != nil {
		t.Fatal(err)
	}
	again, err := withoutPaths(b)
	if err != nil {
		t.Fatal(err)
	}
	if plain(t, b) != plain(t, again) {
		t.Error("cmd/dataplane/default.pgo has absolute paths")
	}
}

func plain(t *testing.T, gz []byte) string {
	t.Helper()
	zr, err := gzip.NewReader(bytes.NewReader(gz))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(zr)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
