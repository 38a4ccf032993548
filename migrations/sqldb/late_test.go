package sqldb_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
)

// overdue is a context whose time is up and whose timer has not fired: what a process finds that stood still.
type overdue struct{ context.Context }

func (overdue) Deadline() (time.Time, bool) { return time.Now().Add(-time.Second), true }

// A process that stood still in a transaction goes on seconds later, when its caller has asked again and was told no
// by another process. What it had begun must not be committed then.
func TestNoCommitAfterItsTime(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		err := db.InTx(overdue{t.Context()}, func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.ExecContext(context.WithoutCancel(ctx), insertSKU, "mug", 1)
			return err
		})
		if !errors.Is(err, sqldb.ErrUnavailable) || errors.Is(err, sqldb.ErrUnknown) {
			t.Error(err)
		}
		var n int
		if err := db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM skus").Scan(&n); err != nil || n != 0 {
			t.Errorf("%d rows, %v", n, err)
		}
	})
}
