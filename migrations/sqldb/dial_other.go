//go:build !linux

package sqldb

import "syscall"

// endSilence does nothing where TCP_USER_TIMEOUT is not known: keep-alive alone ends
// the connection.
func endSilence(_, _ string, _ syscall.RawConn) error { return nil }
