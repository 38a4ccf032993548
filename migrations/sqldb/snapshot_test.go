package sqldb_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
)

// What only reads is not told to the server, which would refuse a write: the transaction refuses it itself.
func TestWhatOnlyReadsWritesNothing(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		write := func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.ExecContext(ctx, insertSKU, "mug", 1)
			return err
		}
		lock := func(ctx context.Context, tx *sqldb.Tx) error {
			return sqldb.Each(ctx, tx, "SELECT sku_id FROM skus FOR UPDATE", nil, func(*sql.Rows) error { return nil })
		}
		lockOne := func(ctx context.Context, tx *sqldb.Tx) error {
			const count = "SELECT COUNT(*) FROM skus WHERE sku_id = ? FOR UPDATE"
			return tx.QueryRowContext(ctx, count, "mug").Scan(new(int))
		}
		for name, run := range map[string]func(context.Context, func(context.Context, *sqldb.Tx) error) error{
			"snapshot": db.Snapshot, "decide": db.Decide,
		} {
			if err := run(t.Context(), write); err == nil {
				t.Errorf("%s: written", name)
			}
			if err := run(t.Context(), lock); !errors.Is(err, sqldb.ErrReads) {
				t.Errorf("%s: locked: %v", name, err)
			}
			if err := run(t.Context(), lockOne); !errors.Is(err, sqldb.ErrReads) {
				t.Errorf("%s: locked one row: %v", name, err)
			}
		}
		var n int
		if err := db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM skus").Scan(&n); err != nil || n != 0 {
			t.Errorf("%d rows, %v", n, err)
		}
	})
}
