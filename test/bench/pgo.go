package main

import (
	"bytes"
	"compress/gzip"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// pgoMain records the CPU profile that the compiler optimises the proxy with:
// the workloads of this harness, on full.yaml, through the admin's
// /cpuprofiler.
func pgoMain(args []string) {
	fs := flag.NewFlagSet("pgo", flag.ExitOnError)
	dp := fs.String("dataplane", "bin/dataplane", "the proxy")
	conf := fs.String("conf", "test/bench/conf/full.yaml", "its configuration")
	out := fs.String("out", "cmd/dataplane/default.pgo", "the profile to write")
	listen := fs.String("listen", "127.0.0.1:19000", "address the proxy is told to listen on")
	backend := fs.String("backend", "127.0.0.1:19001", "address of the echo backend")
	admin := fs.String("admin", "127.0.0.1:19002", "address of the proxy's admin")
	fs.Parse(args)
	if err := recordPGO(*dp, *conf, *out, *listen, *backend, *admin); err != nil {
		fatal(err)
	}
}

func recordPGO(dp, conf, out, listen, backend, admin string) error {
	dir, err := os.MkdirTemp("", "pgo")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	text, err := os.ReadFile(conf)
	if err != nil {
		return err
	}
	profile := filepath.Join(dir, "cpu.prof")
	ah, ap, err := net.SplitHostPort(admin)
	if err != nil {
		return err
	}
	text = append([]byte(replacer(target{}, listen, backend, dir, "").Replace(string(text))),
		fmt.Sprintf("\nadmin: {profile_path: %q, address: {socket_address: {address: %s, port_value: %s}}}\n", profile, ah, ap)...)
	file := filepath.Join(dir, "proxy.yaml")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	be := exec.Command(self, "backend", "-addr", backend)
	proxy := exec.Command(dp, "-c", file, "-l", "error")
	for _, cmd := range []*exec.Cmd{be, proxy} {
		cmd.Stderr = os.Stderr
		if err := start(cmd); err != nil {
			return err
		}
		defer stop(cmd, syscall.SIGTERM)
	}
	if !waitTCP(backend, 5*time.Second) || !waitTCP(listen, 10*time.Second) {
		return fmt.Errorf("the backend or the proxy does not listen")
	}
	post := func(path string) error {
		resp, err := http.Post("http://"+admin+path, "", nil)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s: %s", path, resp.Status, bytes.TrimSpace(b))
		}
		return err
	}
	if err := post("/cpuprofiler?enable=y"); err != nil {
		return err
	}
	for _, args := range []string{
		"-mode unary -size 100 -conns 4 -streams 16 -dur 6s",
		"-mode unary -size 100 -conns 4 -streams 16 -dur 4s -vary=true",
		"-mode unary -size 65536 -conns 4 -streams 4 -dur 3s",
		"-mode bidi -size 100 -conns 4 -streams 8 -dur 3s",
		"-mode unary -size 100 -conns 64 -streams 1 -dur 4s",
	} {
		cmd := exec.Command(self, append([]string{"load", "-addr", listen}, strings.Fields(args)...)...)
		cmd.Stderr = os.Stderr
		if err := cmd.Run(); err != nil {
			return err
		}
	}
	if err := post("/cpuprofiler?enable=n"); err != nil {
		return err
	}
	b, err := os.ReadFile(profile)
	if err != nil {
		return err
	}
	if b, err = withoutPaths(b); err != nil {
		return err
	}
	return os.WriteFile(out, b, 0o644)
}

// withoutPaths takes from a profile (profile.proto of pprof, gzipped) the
// directories that the programs of its mappings were run from: the compiler
// does not need them, and they are this machine's. Sources have none because
// of -trimpath.
func withoutPaths(gz []byte) ([]byte, error) {
	const stringTable = 6
	zr, err := gzip.NewReader(bytes.NewReader(gz))
	if err != nil {
		return nil, err
	}
	in, err := io.ReadAll(zr)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	zw := gzip.NewWriter(&out)
	for len(in) > 0 {
		num, _, n := protowire.ConsumeField(in)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		field := in[:n]
		in = in[n:]
		if num == stringTable {
			_, _, k := protowire.ConsumeTag(field)
			v, _ := protowire.ConsumeBytes(field[k:])
			if bytes.HasPrefix(v, []byte("/")) {
				field = protowire.AppendTag(nil, stringTable, protowire.BytesType)
				field = protowire.AppendString(field, filepath.Base(string(v)))
			}
		}
		if _, err := zw.Write(field); err != nil {
			return nil, err
		}
	}
	if err := zw.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
