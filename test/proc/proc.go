// Package proc runs the programs under test as child processes and keeps the
// end of their output for error messages. harness.go has what the tests that
// do so share: building, ports, waiting, asking the admin interface.
package proc

import (
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Process is a running child. Safe for concurrent use.
type Process struct {
	name string
	cmd  *exec.Cmd
	out  tail
	done chan struct{} // closed when it has ended
	err  error         // how; set before done is closed
}

// Start runs bin with args. The child dies with us.
func Start(name, bin string, args ...string) (*Process, error) {
	p := &Process{name: name, cmd: exec.Command(bin, args...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	p.cmd.SysProcAttr = childAttr()
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	go p.wait()
	return p, nil
}

func (p *Process) wait() {
	p.err = p.cmd.Wait()
	close(p.done)
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit says in words how the process ended. Valid after Done.
func (p *Process) Exit() string {
	if p.err != nil {
		return p.err.Error()
	}
	return "exit status 0"
}

// Pid is the process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Signal sends sig; the process may be gone already.
func (p *Process) Signal(sig os.Signal) { _ = p.cmd.Process.Signal(sig) }

// Stop ends the process: SIGTERM, and SIGKILL if that is not enough within
// five seconds. It returns when the process is gone.
func (p *Process) Stop() {
	p.Signal(syscall.SIGTERM)
	t := time.NewTimer(5 * time.Second)
	defer t.Stop()
	select {
	case <-p.done:
	case <-t.C:
		p.Kill()
	}
}

// Kill ends the process at once and returns when it is gone.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.done
}

// Output is the end of what the process printed.
func (p *Process) Output() string { return p.out.String() }

// Report is the output under a headline that names the process.
func (p *Process) Report() string {
	return fmt.Sprintf("--- output of %s\n%s", p.name, p.Output())
}

const tailSize = 64 << 10

// tail keeps the last tailSize bytes written to it.
type tail struct {
	mu  sync.Mutex // guards buf
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - tailSize; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}
