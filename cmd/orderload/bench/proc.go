package bench

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cpuTick is the unit of the times in /proc/PID/stat: USER_HZ is 100 on every
// Linux that Go runs on (proc(5)).
const cpuTick = 10 * time.Millisecond

// CPUOf is the time that a process has spent on CPUs, user and system, exact to
// 10 ms; 0 when the process is gone.
func CPUOf(pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	return parseCPU(text)
}

// parseCPU reads utime and stime, the 14th and 15th field (proc(5)). The second
// field is the program's name in parentheses and may hold anything.
func parseCPU(stat []byte) time.Duration {
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:]) // from the third on
	if len(fields) < 13 {
		return 0
	}
	user, userErr := strconv.ParseInt(string(fields[11]), 10, 64)
	system, systemErr := strconv.ParseInt(string(fields[12]), 10, 64)
	if userErr != nil || systemErr != nil {
		return 0
	}
	return time.Duration(user+system) * cpuTick
}

// CPUNow is the CPU time of this process, to the microsecond: finer than CPUOf.
func CPUNow() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Load is how many processes run or wait for a processor, over the last minute, as the kernel
// counts them (/proc/loadavg): what else a measurement has met. "?" where it does not say.
func Load() string {
	text, _ := os.ReadFile("/proc/loadavg")
	minute, _, _ := strings.Cut(string(text), " ")
	return cmp.Or(minute, "?")
}

// MemoryOf is the resident memory (VmRSS) of a process in bytes, 0 when it is gone.
func MemoryOf(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	return Field(string(text), "VmRSS:") << 10
}

// ResetPeakMemory lets PeakMemory count from here: what was used before is given
// back to the kernel, and "5" into clear_refs resets VmHWM (proc(5)).
func ResetPeakMemory() error {
	debug.FreeOSMemory()
	return os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)
}

// PeakMemory is the highest resident memory (VmHWM) of this process in bytes.
func PeakMemory() (int64, error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	if kb := Field(string(text), "VmHWM:"); kb > 0 {
		return kb << 10, nil
	}
	return 0, errors.New("no VmHWM in /proc/self/status")
}

// Field gives the whole number that stands after a name at the start of a line,
// as in /proc/PID/status or in Redis' INFO; 0 without such a line.
func Field(text, name string) int64 {
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(line, name); ok {
			v, _, _ = strings.Cut(strings.TrimSpace(v), " ")
			n, _ := strconv.ParseInt(v, 10, 64)
			return n
		}
	}
	return 0
}
