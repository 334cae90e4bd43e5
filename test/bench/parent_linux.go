package main

import "syscall"

// childAttr makes the kernel kill the child when we die, however we die, and
// puts it into a group of its own.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
