package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// tick is the unit of the times in /proc/PID/stat: USER_HZ is 100 on every
// Linux that Go runs on.
const tick = 10 * time.Millisecond

// cpuOf is the time that a process has spent on CPUs, 0 when it is gone.
func cpuOf(pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	return parseCPU(text)
}

// parseCPU reads utime and stime, the 14th and 15th field; the second is a name
// in parentheses that may hold anything.
func parseCPU(stat []byte) time.Duration {
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0
	}
	user, userErr := strconv.ParseInt(string(fields[11]), 10, 64)
	system, systemErr := strconv.ParseInt(string(fields[12]), 10, 64)
	if userErr != nil || systemErr != nil {
		return 0
	}
	return time.Duration(user+system) * tick
}

// memoryOf is the resident memory of a process in bytes, 0 when it is gone.
func memoryOf(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	return field(string(text), "VmRSS:") << 10
}

// field gives the number that stands after a name at the start of a line, 0
// without.
func field(text, name string) int64 {
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(line, name); ok {
			v, _, _ = strings.Cut(strings.TrimSpace(v), " ")
			n, _ := strconv.ParseInt(v, 10, 64)
			return n
		}
	}
	return 0
}

func pidIn(file string) (int, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

func redisPID(ctx context.Context, client redis.UniversalClient) (int, error) {
	text, err := client.Info(ctx, "server").Result()
	if err != nil {
		return 0, err
	}
	if pid := field(text, "process_id:"); pid > 0 {
		return int(pid), nil
	}
	return 0, errors.New("redis does not tell its process id")
}

// redisMemory is used_memory in bytes, 0 while Redis does not answer.
func redisMemory(ctx context.Context, client redis.UniversalClient) int64 {
	text, err := client.Info(ctx, "memory").Result()
	if err != nil {
		return 0
	}
	return field(text, "used_memory:")
}

// cpuNow is the CPU time of this process, finer than cpuOf.
func cpuNow() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
