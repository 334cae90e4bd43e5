package proc

import "syscall"

// childAttr makes the kernel kill the child when we die, however we die, and
// keeps the terminal's Ctrl-C for us alone.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
