package scheduler

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Bounds of a quietLog.
const (
	quietFor    = 10 * time.Second // a message is written once in so long
	quietPrefix = 24               // bytes that tell messages apart: numbers and addresses come later in them
	quietMax    = 1000             // messages remembered; past it, all are forgotten
)

// quietLog passes asynq's messages on, each at most once in quietFor: while Redis
// is away asynq repeats itself several times a second. What asynq calls an error
// is a warning here, since the sweep does the work then. It implements
// asynq.Logger.
type quietLog struct {
	log  *slog.Logger
	now  func() time.Time
	mu   sync.Mutex
	last map[string]time.Time // when a message was last written
}

func (q *quietLog) write(level slog.Level, args []any) {
	text := fmt.Sprint(args...)
	key := text[:min(len(text), quietPrefix)]
	q.mu.Lock()
	now := q.now()
	if q.last == nil || len(q.last) > quietMax {
		q.last = map[string]time.Time{}
	}
	quiet := now.Sub(q.last[key]) < quietFor
	if !quiet {
		q.last[key] = now
	}
	q.mu.Unlock()
	if !quiet {
		q.log.Log(context.Background(), level, "asynq: "+text)
	}
}

func (q *quietLog) Debug(args ...any) { q.write(slog.LevelDebug, args) }
func (q *quietLog) Info(args ...any)  { q.write(slog.LevelDebug, args) }
func (q *quietLog) Warn(args ...any)  { q.write(slog.LevelWarn, args) }
func (q *quietLog) Error(args ...any) { q.write(slog.LevelWarn, args) }
func (q *quietLog) Fatal(args ...any) { q.write(slog.LevelError, args) }
