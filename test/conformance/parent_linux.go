package main

import "syscall"

// childAttr makes the kernel kill the child when we die, however we die.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
