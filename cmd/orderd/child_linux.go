package main

import "syscall"

// childAttr is of a process that must not outlive this one, however that ends. An interrupt of
// the terminal is for this one, which ends the others.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
