package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sluice-proxy/sluice/test/echo"
	"github.com/sluice-proxy/sluice/test/proc"
)

// world is everything the demo starts.
type world struct {
	o       options
	dir     string         // our own copy of the configuration
	ports   map[string]int // port in testdata -> port in use, where they differ
	stops   []func()
	procs   []*proc.Process
	died    chan error // a process ended on its own
	closing chan struct{}
}

var (
	proxies  = []string{"edge-a", "edge-b"}
	backends = []struct{ name, port string }{{"blue-1", "50051"}, {"blue-2", "50052"}, {"green-1", "50053"}}
	ports    = []string{"10000", "10001", "9901", "9902", "18000", "50051", "50052", "50053"}
)

// newWorld copies the configuration to a directory of its own, so that the
// tree stays as it is, and moves ports that are taken.
func newWorld(o options) (*world, error) {
	w := &world{o: o, died: make(chan error, 4), closing: make(chan struct{})}
	var err error
	if w.dir, err = os.MkdirTemp("", "sluice-demo-"); err != nil {
		return nil, err
	}
	repl, err := w.choosePorts()
	if err == nil {
		for _, d := range []string{"quickstart", "bootstrap"} {
			if err = copyTree(filepath.Join(o.testdata, d), filepath.Join(w.dir, d), repl); err != nil {
				break
			}
		}
	}
	if err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// choosePorts finds for each port of testdata one that is free, itself if
// possible.
func (w *world) choosePorts() (*strings.Replacer, error) {
	w.ports = map[string]int{}
	var pairs []string
	var held []net.Listener
	defer func() {
		for _, ln := range held {
			ln.Close()
		}
	}()
	for _, p := range ports {
		ln, err := net.Listen("tcp", "127.0.0.1:"+p)
		if err != nil {
			if ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
				return nil, err
			}
			fmt.Printf("port %s is taken; using %d instead\n", p, ln.Addr().(*net.TCPAddr).Port)
		}
		held = append(held, ln)
		got := ln.Addr().(*net.TCPAddr).Port
		w.ports[p] = got
		pairs = append(pairs, "port_value: "+p, fmt.Sprintf("port_value: %d", got))
	}
	return strings.NewReplacer(pairs...), nil
}

func (w *world) addr(port string) string { return fmt.Sprintf("127.0.0.1:%d", w.ports[port]) }

// routesFile is the file whose weights the demo rewrites.
func (w *world) routesFile() string {
	return filepath.Join(w.dir, "quickstart", "_shared", "routes.yaml")
}

// start brings up the backends, the control plane and the proxies, and waits
// until calls flow.
func (w *world) start(ctx context.Context) error {
	for _, b := range backends {
		ln, err := net.Listen("tcp", w.addr(b.port))
		if err != nil {
			return fmt.Errorf("backend %s: %w", b.name, err)
		}
		_, stop := echo.Start(ln, &echo.Server{Instance: b.name})
		w.stops = append(w.stops, stop)
	}
	if err := w.process("controlplane", filepath.Join(w.o.bin, "controlplane"),
		"serve", "--config", filepath.Join(w.dir, "quickstart"), "--listen", w.addr("18000")); err != nil {
		return err
	}
	for _, p := range proxies {
		if err := w.process(p, filepath.Join(w.o.bin, "dataplane"),
			"-c", filepath.Join(w.dir, "bootstrap", p+".yaml"), "-l", "warning"); err != nil {
			return err
		}
	}
	return w.waitReady(ctx)
}

// waitReady waits until a call through each proxy succeeds. A proxy that just
// started refuses connections; that is not a failed call.
func (w *world) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for i, p := range proxies {
		cc, err := w.dial(i)
		if err != nil {
			return err
		}
		_, err = echo.NewEchoClient(cc).Say(ctx, &echo.SayRequest{Text: "ready?"}, grpc.WaitForReady(true))
		cc.Close()
		select {
		case e := <-w.died:
			return e
		default:
		}
		if err != nil {
			return fmt.Errorf("%s does not serve: %w\n%s", p, err, w.output())
		}
	}
	return nil
}

// dial connects to proxy number i. Retries are off: every failure shows.
func (w *world) dial(i int) (*grpc.ClientConn, error) {
	return grpc.NewClient(w.addr([]string{"10000", "10001"}[i]), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry())
}

// process starts a program and stops it when the world closes.
func (w *world) process(name, bin string, args ...string) error {
	p, err := proc.Start(name, bin, args...)
	if err != nil {
		return err
	}
	w.procs = append(w.procs, p)
	w.stops = append(w.stops, p.Stop)
	go func() {
		<-p.Done()
		select {
		case <-w.closing:
		default:
			w.died <- fmt.Errorf("%s ended by itself: %s\n%s", name, p.Exit(), p.Report())
		}
	}()
	return nil
}

// close stops what was started, last first.
func (w *world) close() {
	close(w.closing)
	for i := len(w.stops) - 1; i >= 0; i-- {
		w.stops[i]()
	}
	os.RemoveAll(w.dir)
}

func (w *world) output() string {
	var b strings.Builder
	for _, p := range w.procs {
		b.WriteString(p.Report())
	}
	return b.String()
}

func (w *world) printAddresses() {
	fmt.Printf(`
control plane  %s   (xDS, health, reflection)
proxies        %s  %s
admin          http://%s  http://%s
backends       %s  %s  %s
configuration  %s
try            grpcurl -plaintext -d '{"text":"hello"}' %s sluice.echo.v1.Echo/Say
               edit %s and watch the shares

`, w.addr("18000"), w.addr("10000"), w.addr("10001"), w.addr("9901"), w.addr("9902"),
		w.addr("50051"), w.addr("50052"), w.addr("50053"), filepath.Join(w.dir, "quickstart"), w.addr("10000"), w.routesFile())
}

// copyTree copies the files below src to dst, replacing as repl says.
func copyTree(src, dst string, repl *strings.Replacer) error {
	return filepath.WalkDir(src, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, p)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(dst, rel), 0o755)
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dst, rel), []byte(repl.Replace(string(b))), 0o644)
	})
}

var errFailedCalls = errors.New("the demo did not go as it should")
