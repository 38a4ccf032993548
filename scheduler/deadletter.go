package scheduler

import (
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"orderd/order"
)

// The states of a failed task, as the column failed_tasks.state, the API and the
// metrics have them.
const (
	// StateFailing: the task is tried again by itself, at NextAt.
	StateFailing = "failing"
	// StateDead: the task waits for a person, who runs it again or discards it.
	StateDead = "dead"
)

// When failed tasks are tried again.
const (
	// maxFailures is how many runs may fail before a task is dead: with the pauses
	// between them, 40 take two to three hours, time enough for a bad release to
	// be taken back.
	maxFailures = 40
	// longestPause is the longest wait between two runs. After a mistake has been
	// mended, its tasks end within so much by themselves.
	longestPause = 5 * time.Minute
	// pauseDoublings is how often the first pause, a second, is doubled at most. It
	// only keeps the shift from running over: 2¹⁰ s is above longestPause.
	pauseDoublings = 10
	// rememberUnreadable is how long a dead task that this program cannot read is kept: a
	// month is time to look. It did nothing that the database does not know of.
	rememberUnreadable = 30 * 24 * time.Hour
	// memoryOfFailures is how long a look at whether anything has failed is
	// believed. The table is mostly empty, and this keeps a storm of timeouts from
	// asking it about every page.
	memoryOfFailures = time.Second
)

// never is when a dead task is tried again.
var never = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// Errors of requests about failed tasks.
var (
	// ErrNoFailedTask: there is no failed task of this id.
	ErrNoFailedTask = errors.New("no such failed task")
)

// Failure is one run of a task that failed by the task's own fault, while
// everything around it worked. The text of Cause is kept and shown to operators,
// so it must not hold secrets.
type Failure struct {
	Type string // TypeExpire or TypeRefund; with a Payload, whatever the task had
	Key  string // the number of the order or refund; with a Payload, the task's id
	// Cause is why it failed.
	Cause error
	// Payload is the content of a task that cannot be read; nil otherwise.
	Payload []byte
	// Poison: no retry can cure it. The task is dead at once.
	Poison bool
}

// FailedTask is a task that failed and has not ended well since, as the API and
// the command line show it.
type FailedTask struct {
	ID   string `json:"id"` // safe in the path of a URL; ParseFailedID reads it
	Type string `json:"type"`
	Key  string `json:"key"`
	// OrderNo is set for a task of an order, OutRefundNo for one of a refund.
	OrderNo     string `json:"order_no"`
	OutRefundNo string `json:"out_refund_no,omitempty"`
	State       string `json:"state"` // StateFailing or StateDead
	Error       string `json:"error"` // of the last run
	// Tried is how many runs failed, since the first or since a person had it run
	// again.
	Tried int64 `json:"tried"`
	// Payload is quoted as in Go, whatever bytes it has, and cut at 1000
	// characters.
	Payload string     `json:"payload,omitempty"`
	FirstAt time.Time  `json:"first_at"`          // when it failed first
	LastAt  time.Time  `json:"last_at"`           // when it failed last
	NextAt  *time.Time `json:"next_at,omitempty"` // when a failing one is tried again
	DiedAt  *time.Time `json:"died_at,omitempty"` // of a dead one
}

// Filter says which failed tasks are meant; empty fields mean any.
type Filter struct {
	Type  string
	State string // StateFailing or StateDead
	// The last failure was at FailedAfter or later, and before FailedBefore.
	FailedAfter, FailedBefore time.Time
	// Cause is a part of the last error, letter by letter.
	Cause string
	// Error is the whole of it.
	Error string
	Keys  []string
}

// Empty reports that every failed task is meant.
func (f *Filter) Empty() bool {
	return f.Type == "" && f.State == "" && f.FailedAfter.IsZero() && f.FailedBefore.IsZero() && f.Cause == "" &&
		f.Error == "" && f.Keys == nil
}

// pauseAfter is how long to wait after so many failed runs: a second, doubled each
// time up to longestPause, and then a random time between half of that and the
// whole, so that tasks that failed together do not come back together.
func pauseAfter(tries int64) time.Duration {
	d := min(time.Second<<min(max(tries-1, 0), pauseDoublings), longestPause)
	return d/2 + rand.N(d/2+1)
}

// failedID names a failed task in one segment of a URL's path: TYPE~KEY, or, when
// one of them has characters that are not safe there, "~" and both in base64.
func failedID(typ, key string) string {
	if plain(typ) && plain(key) {
		return typ + "~" + key
	}
	return "~" + base64.RawURLEncoding.EncodeToString([]byte(typ+"\x00"+key))
}

// plain reports that s may stand in an id as it is.
func plain(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '-' && c != '_' && c != ':' {
			return false
		}
	}
	return s != ""
}

// ParseFailedID returns the type and the key of a failed task by its id, or
// ErrNoFailedTask. It does not look whether there is such a task.
func ParseFailedID(id string) (typ, key string, err error) {
	ok := false
	if coded, is := strings.CutPrefix(id, "~"); is {
		b, err := base64.RawURLEncoding.DecodeString(coded)
		if typ, key, ok = strings.Cut(string(b), "\x00"); err != nil {
			ok = false
		}
	} else {
		typ, key, ok = strings.Cut(id, "~")
	}
	if !ok || failedID(typ, key) != id { // one task has one id
		return "", "", ErrNoFailedTask
	}
	return typ, key, nil
}

// trackerParams is what a failureTracker needs.
type trackerParams struct {
	DeadLetters *DeadLetters // nil: nothing is kept, and nothing counts as failed
	Observe     Observer
	Log         *slog.Logger
}

// failureTracker keeps failed tasks apart from the others: whatever runs orders
// and refunds records here what failed, and asks here what to leave out. It
// remembers for a moment whether there are failed tasks at all, so that the
// ordinary case, none, costs next to nothing.
type failureTracker struct {
	trackerParams
	failing atomic.Bool  // something has failed: pages are compared with the table
	looked  atomic.Int64 // when the table was last asked whether it is empty, Unix time in nanoseconds
}

// deadLetter records failures in the database. Nil means that they are kept there,
// and that nobody but the sweep has to try them again.
func (f *failureTracker) deadLetter(ctx context.Context, failed ...Failure) error {
	if len(failed) == 0 {
		return nil
	}
	first := failed[0]
	if f.DeadLetters == nil {
		return first.Cause
	}
	died, err := f.DeadLetters.Record(ctx, failed)
	f.failing.Store(true)
	for range died {
		f.Observe.Died()
	}
	f.Log.Warn("tasks failed", "failed", len(failed), "dead", died, "type", first.Type, "first", first.Key,
		"err", first.Cause)
	return err
}

// withoutFailed leaves out the orders that failed before: the sweep tries them
// again at a time of their own, or they wait for a person.
func (f *failureTracker) withoutFailed(ctx context.Context, due []order.Due) ([]order.Due, error) {
	if f.DeadLetters == nil || len(due) == 0 {
		return due, nil
	}
	if any, err := f.anyFailed(ctx); err != nil || !any {
		return due, err
	}
	keys := make([]string, len(due))
	for i, d := range due {
		keys[i] = d.Key
	}
	known, err := f.DeadLetters.Known(ctx, TypeExpire, keys)
	if err != nil || len(known) == 0 {
		return due, err
	}
	good := make([]order.Due, 0, len(due))
	for _, d := range due {
		if _, failed := known[d.Key]; !failed {
			good = append(good, d)
		}
	}
	return good, nil
}

// hasFailed reports that an order or a refund failed before.
func (f *failureTracker) hasFailed(ctx context.Context, typ, key string) (bool, error) {
	if f.DeadLetters == nil {
		return false, nil
	}
	if any, err := f.anyFailed(ctx); err != nil || !any {
		return false, err
	}
	known, err := f.DeadLetters.Known(ctx, typ, []string{key})
	return len(known) > 0, err
}

// anyFailed reports that something has failed, as it was at most
// memoryOfFailures ago. What this process records itself counts at once.
func (f *failureTracker) anyFailed(ctx context.Context) (bool, error) {
	now, looked := time.Now().UnixNano(), f.looked.Load()
	if now-looked > int64(memoryOfFailures) && f.looked.CompareAndSwap(looked, now) {
		empty, err := f.DeadLetters.Empty(ctx)
		if err != nil {
			f.looked.Store(0)
			return false, err
		}
		f.failing.Store(!empty)
	}
	return f.failing.Load(), nil
}
