package sqldb

import "syscall"

// tcpUserTimeout is TCP_USER_TIMEOUT of linux/tcp.h (tcp(7)), which package syscall
// does not name.
const tcpUserTimeout = 0x12

// endSilence has the kernel end a connection on which what was sent stays without an
// acknowledgement for silence. Without it, Linux goes on sending for some 15 minutes
// (tcp_retries2).
func endSilence(_, _ string, c syscall.RawConn) error {
	var option error
	err := c.Control(func(fd uintptr) {
		option = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(silence.Milliseconds()))
	})
	if err != nil {
		return err
	}
	return option
}
