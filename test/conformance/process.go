package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// process is a running child whose output goes to a file.
type process struct {
	cmd  *exec.Cmd
	log  string        // path of the file
	done chan struct{} // closed when it has ended
}

// start runs argv and logs to dir/name.log. The child dies with us.
func start(dir, name string, argv []string) (*process, error) {
	p := &process{
		cmd:  exec.Command(argv[0], argv[1:]...),
		log:  filepath.Join(dir, name+".log"),
		done: make(chan struct{}),
	}
	f, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p.cmd.Stdout, p.cmd.Stderr = f, f
	p.cmd.SysProcAttr = childAttr()
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	go p.wait()
	return p, nil
}

func (p *process) wait() {
	_ = p.cmd.Wait() // whoever cares reads the log
	close(p.done)
}

// stop ends the process, and returns when it is gone.
func (p *process) stop() { stopProcess(p.cmd.Process, p.done) }

func stopProcess(p *os.Process, done <-chan struct{}) {
	_ = p.Signal(syscall.SIGTERM)
	t := time.NewTimer(3 * time.Second)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
		_ = p.Kill()
		<-done
	}
}

// tail is the end of what the process printed.
func (p *process) tail() string { return tail(p.log) }

const tailSize = 4 << 10

func tail(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if fi, err := f.Stat(); err == nil && fi.Size() > tailSize {
		if _, err := f.Seek(-tailSize, io.SeekEnd); err != nil {
			return err.Error()
		}
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
