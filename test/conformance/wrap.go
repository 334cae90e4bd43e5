package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
)

// wrap is the command that connectconformance runs in place of the peer.
// args: flags, then the peer's command.
func wrap(mode string, args []string) error {
	f := flag.NewFlagSet("wrap-"+mode, flag.ContinueOnError)
	var c proxyConfig
	f.StringVar(&c.command, "proxy-cmd", "", "the proxy's command")
	f.StringVar(&c.bootstrap, "bootstrap", "", "the proxy's bootstrap")
	f.StringVar(&c.logs, "logs", "", "directory for logs")
	name := f.String("name", "", "prefix of the logs")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() == 0 {
		return errors.New("no command to wrap")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	peer := &wrapped{proxy: c, name: *name, done: make(chan struct{}), cmd: exec.Command(f.Arg(0), f.Args()[1:]...)}
	peer.cmd.Stderr = os.Stderr
	peer.cmd.SysProcAttr = childAttr()
	if mode == "server" {
		return peer.server(ctx, os.Stdin, os.Stdout)
	}
	return peer.client(ctx, os.Stdin, os.Stdout)
}

// wrapped is a peer of connectconformance with proxies on its way.
type wrapped struct {
	proxy proxyConfig
	name  string
	cmd   *exec.Cmd
	done  chan struct{} // closed when the peer has ended
	err   error         // how; set before done is closed
}

func (w *wrapped) run() {
	w.err = w.cmd.Wait()
	close(w.done)
}

// server starts the server, a proxy in front of it, and answers with the
// proxy's address. It runs until ctx ends.
func (w *wrapped) server(ctx context.Context, in io.Reader, out io.Writer) error {
	w.cmd.Stdin = in
	pipe, err := w.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := w.cmd.Start(); err != nil {
		return err
	}
	msg, err := readMessage(pipe)
	go w.run() // the pipe is not read again
	defer stopProcess(w.cmd.Process, w.done)
	if err != nil {
		return fmt.Errorf("the server's response: %w", err)
	}
	host, port, rest, err := takeAddress(msg, responseHost, responsePort)
	if err != nil {
		return fmt.Errorf("the server's response: %w", err)
	}
	p, err := w.proxy.start(ctx, w.name+"-"+port, host, port)
	if err != nil {
		return err
	}
	defer p.stop()
	if msg, err = addAddress(rest, responseHost, responsePort, p.host, p.port); err != nil {
		return err
	}
	if err := writeMessage(out, msg); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case <-w.done:
		return fmt.Errorf("the server ended: %w", w.err)
	}
}

// client hands each request on with the address of a proxy in front of the
// server that the request names, until there are no more.
func (w *wrapped) client(ctx context.Context, in io.Reader, out io.Writer) error {
	w.cmd.Stdout = out
	pipe, err := w.cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := w.cmd.Start(); err != nil {
		return err
	}
	go w.run()
	requests := make(chan error, 1)
	proxies := map[string]*proxy{} // by the server's address; the goroutine's until it ends
	go func() {
		defer pipe.Close()
		requests <- w.forward(ctx, in, pipe, proxies)
	}()
	defer func() {
		for _, p := range proxies {
			p.stop()
		}
	}()
	select {
	case err = <-requests:
	case <-ctx.Done():
		stopProcess(w.cmd.Process, w.done)
		return ctx.Err() // the proxies die with us
	}
	select {
	case <-w.done:
	case <-ctx.Done():
		stopProcess(w.cmd.Process, w.done)
	}
	return errors.Join(err, w.err)
}

func (w *wrapped) forward(ctx context.Context, in io.Reader, out io.Writer, proxies map[string]*proxy) error {
	for {
		msg, err := readMessage(in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		host, port, rest, err := takeAddress(msg, requestHost, requestPort)
		if err != nil {
			return err
		}
		addr := strings.Join([]string{host, port}, " ")
		p := proxies[addr]
		if p == nil {
			if p, err = w.proxy.start(ctx, w.name+"-"+port, host, port); err != nil {
				return err
			}
			proxies[addr] = p
		}
		if msg, err = addAddress(rest, requestHost, requestPort, p.host, p.port); err != nil {
			return err
		}
		if err := writeMessage(out, msg); err != nil {
			return err
		}
	}
}
