package sqldb_test

import (
	"context"
	"fmt"
	"testing"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
)

// Without the care for statements that stay prepared, a bulk insert would lose
// the rows beyond a statement's size, keep what a failed transaction wrote, or
// fail for ever after a duplicate or a change of the table.
func TestBulkInsert(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		ctx := t.Context()
		if _, err := db.Pool().ExecContext(ctx, "CREATE TABLE many_rows (id BIGINT PRIMARY KEY, name VARCHAR(20) "+
			"NOT NULL)"); err != nil {
			t.Fatal(err)
		}
		next, want := 0, 0
		insert := func(from, n int) error {
			args := make([]any, 0, 2*n)
			for i := range n {
				args = append(args, int64(from+i), fmt.Sprint("it's ", from+i))
			}
			return db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
				return tx.InsertRows(ctx, "INSERT INTO many_rows (id, name) VALUES", 2, args)
			})
		}
		for _, n := range []int{1, 15, 16, 17, 255, 256, 600, 600, 16, 16} {
			if err := insert(next, n); err != nil {
				t.Fatalf("%d rows: %v", n, err)
			}
			next, want = next+n, want+n
			if err := insert(next-1, n); !sqldb.IsDuplicate(err) {
				t.Fatalf("%d rows, the first of them there already: %v", n, err)
			}
			if n == 600 {
				if _, err := db.Pool().ExecContext(ctx, fmt.Sprintf("ALTER TABLE many_rows ADD COLUMN c%d BIGINT",
					next)); err != nil {
					t.Fatal(err)
				}
			}
		}
		var count int
		const matching = "SELECT COUNT(*) FROM many_rows WHERE name LIKE 'it''s %'"
		if err := db.QueryRowContext(ctx, matching).Scan(&count); err != nil || count != want {
			t.Fatalf("%d rows, want %d: %v", count, want, err)
		}
	})
}
