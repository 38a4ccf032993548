//go:build !linux

package main

import "syscall"

// childAttr is of a process that this one ends; where the kernel has no word for it, one that is
// killed leaves it behind.
func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
