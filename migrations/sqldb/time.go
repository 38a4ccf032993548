package sqldb

import (
	"context"
	"time"
)

// Times are stored as BIGINT milliseconds since 1970, UTC: a unit that every
// engine keeps exactly and compares as a number. 0 stands for "not yet" or
// "never", where a column cannot be NULL.

// FromMillis gives the time of a column, in UTC: the zero time for 0.
func FromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// Millis gives the column of a time: 0 for the zero time. What is below a
// millisecond is cut off.
func Millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// Sleep waits for d, and reports false when ctx ended first. It stands here because
// this package is below all others that wait.
func Sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
