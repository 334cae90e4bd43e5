//go:build !linux

package proc

import "syscall"

// childAttr keeps the terminal's Ctrl-C for us alone.
func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
