package feed

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"orderd/migrations/sqldb"
)

// pruneEvery is how often a worker looks for old events, give or take half of it.
const pruneEvery = 10 * time.Minute

// Keep prunes what is older than keep until ctx ends; 0 keeps all. Every worker may run it.
func (f *Feed) Keep(ctx context.Context, keep time.Duration, now func() time.Time, log *slog.Logger) {
	if keep <= 0 {
		return
	}
	for sqldb.Sleep(ctx, pruneEvery/2+rand.N(pruneEvery)) { // replicas do not prune in step
		n, err := f.Prune(ctx, now().Add(-keep))
		if err != nil && ctx.Err() == nil {
			log.Warn("old events of the feed stay", "err", err)
		}
		if n > 0 {
			log.Info("old events of the feed are gone", "events", n, "older_than", keep)
		}
	}
}

// pruneRows is how many events one statement of Prune deletes: few enough that nobody
// waits for it.
const pruneRows = 1000

// Prune deletes the events of before, oldest first, and gives how many. It stops at the
// first that is younger, and leaves the newest of all, so that no id is given twice.
func (f *Feed) Prune(ctx context.Context, before time.Time) (pruned int64, err error) {
	newest, err := f.Newest(ctx)
	for after := int64(0); err == nil; {
		var events []Event
		events, err = f.read(ctx, "id > ? AND id < ?", []any{after, newest}, pruneRows)
		old := slices.IndexFunc(events, func(e Event) bool { return !e.At.Before(before) })
		if old < 0 {
			old = len(events)
		}
		if err != nil || old == 0 {
			break
		}
		after = events[old-1].ID
		err = f.db.InTxOfMany(ctx, false, func(ctx context.Context, tx *sqldb.Tx) error {
			n, err := tx.Update(ctx, `DELETE FROM events_out
WHERE id <= ?`, after)
			pruned += n
			return err
		})
		if old < pruneRows {
			break
		}
	}
	if err != nil {
		return pruned, fmt.Errorf("prune the feed: %w", err)
	}
	return pruned, nil
}
