package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// direct in place of a proxy's command leaves the proxy out.
const direct = "none"

// proxyConfig says how a proxy is started. {CONFIG}, {LISTEN_PORT},
// {BACKEND_HOST} and {BACKEND_PORT} are replaced in the command and in the
// bootstrap.
type proxyConfig struct {
	command   string // split at blanks
	bootstrap string // path of the template
	logs      string // directory for logs and bootstraps
}

// proxy is a running proxy in front of one backend.
type proxy struct {
	host, port string
	process    *process // nil if left out
}

func (p *proxy) addr() string { return net.JoinHostPort(p.host, p.port) }

func (p *proxy) stop() {
	if p.process != nil {
		p.process.stop()
	}
}

// start returns when the proxy accepts connections. name is that of its log.
func (c proxyConfig) start(ctx context.Context, name, host, port string) (*proxy, error) {
	if c.command == direct {
		return &proxy{host: host, port: port}, nil
	}
	var errs []error
	for range 3 { // someone may take the port before the proxy does
		p, err := c.try(ctx, name, host, port)
		if err == nil {
			return p, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func (c proxyConfig) try(ctx context.Context, name, host, port string) (*proxy, error) {
	p := &proxy{host: "127.0.0.1", port: strconv.Itoa(freePort())}
	config := filepath.Join(c.logs, name+".yaml")
	fill := strings.NewReplacer("{CONFIG}", config,
		"{LISTEN_PORT}", p.port, "{BACKEND_HOST}", host, "{BACKEND_PORT}", port)
	text, err := os.ReadFile(c.bootstrap)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(config, []byte(fill.Replace(string(text))), 0o644); err != nil {
		return nil, err
	}
	argv := strings.Fields(c.command)
	for i := range argv {
		argv[i] = fill.Replace(argv[i])
	}
	if p.process, err = start(c.logs, name, argv); err != nil {
		return nil, err
	}
	if err := p.process.waitListening(ctx, p.addr()); err != nil {
		p.stop()
		return nil, fmt.Errorf("%s: %w\n%s", name, err, p.process.tail())
	}
	return p, nil
}

// waitListening returns when the process accepts connections at addr.
func (p *process) waitListening(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var d net.Dialer
	for {
		c, err := d.DialContext(ctx, "tcp", addr)
		if err == nil {
			return c.Close()
		}
		select {
		case <-tick.C:
		case <-p.done:
			return errors.New("ended before it listened")
		case <-ctx.Done():
			return fmt.Errorf("does not listen at %s: %w", addr, context.Cause(ctx))
		}
	}
}

// freePort is a port of the loopback interface that nobody listens on, below
// those that the kernel gives to outgoing connections.
func freePort() int {
	for {
		port := 20000 + rand.IntN(12000)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			l.Close()
			return port
		}
	}
}
