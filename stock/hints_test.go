package stock_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/migrations/sqldb/sqldbtest/alisql"
	"orderd/stock"
)

// A server with inventory hints commits by the statement that has them: where anything follows it, or goes on being
// written by the caller, half a batch would be committed.
func TestOnlyTheOneLastDecrementCommits(t *testing.T) {
	var many []string
	for i := range 70 { // more than one UPDATE holds
		many = append(many, fmt.Sprintf("many%02d", i))
	}
	const hinted = "UPDATE /*+ ccl_queue_field(sku_id) TARGET_AFFECT_ROW(1) ROLLBACK_ON_FAIL COMMIT_ON_SUCCESS */ skus"
	const plain, bucket = "UPDATE skus", "UPDATE stock_buckets"
	for _, c := range []struct {
		name   string
		skus   []string
		orders int   // of one unit of each
		from   int64 // the bucket of the first line of the second order; 0: the pool
		notEnd bool  // the caller goes on writing
		want   []string
	}{
		{"one", []string{"mug"}, 1, 0, false, []string{hinted}},
		{"the caller goes on", []string{"mug"}, 1, 0, true, []string{plain}},
		{"two UPDATEs of SKUs", many, 1, 0, false, []string{plain, plain}},
		{"pool and bucket", []string{"mug"}, 2, 7, false, []string{plain, bucket}},
		{"sold out for the second", []string{"last"}, 2, 0, false, []string{plain, plain}},
	} {
		t.Run(c.name, func(t *testing.T) {
			db, server := sqldbtest.AliSQL(t, alisql.Obey)
			for _, sku := range append([]string{"mug"}, many...) {
				put(t, db, sku, 100)
			}
			put(t, db, "last", 1)
			exec(t, db, `INSERT INTO stock_buckets
  (bucket_id, sku_id, epoch, no, home, state, remaining, seq, seen_at)
VALUES (7, 'mug', 1, 1, 'p', 'open', 10, 1, 0)`)
			exec(t, db, `INSERT INTO stock_gates
  (sku_id, sale, mode, state, origin, version, actor, reason, created_at, updated_at)
VALUES ('last', '', 'local', 'open', 'person', 1, '', '', 0, 0)`)
			server.Heard()
			if err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
				return takeAll(ctx, tx, c.skus, c.orders, c.from, c.notEnd)
			}); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range server.Heard() {
				if head, _, _ := strings.Cut(s.Text, "\n"); strings.HasPrefix(head, "UPDATE") || head == "COMMIT" {
					got = append(got, head)
				}
			}
			if want := append(c.want, "COMMIT"); !slices.Equal(got, want) {
				t.Errorf("said %q, want %q", got, want)
			}
		})
	}
}

// takeAll takes a unit of each SKU for each order, as long as there are any.
func takeAll(ctx context.Context, tx *sqldb.Tx, skus []string, orders int, from int64, notEnd bool) error {
	now := time.UnixMilli(1_800_000_000_000)
	want := stock.Want{Units: map[string]int64{}, At: now}
	var lines []stock.Line
	for _, sku := range skus {
		want.Units[sku] = int64(orders)
		lines = append(lines, stock.Line{SkuID: sku, Quantity: 1})
	}
	if from != 0 {
		want.Buckets = []int64{from}
	}
	shelf, err := stock.Open(ctx, tx, want)
	if err != nil {
		return err
	}
	for n := range orders {
		buckets := make([]int64, len(lines))
		if n == 1 {
			buckets[0] = from
		}
		shelf.Take(fmt.Sprint("order", n), lines, buckets)
	}
	if notEnd {
		return shelf.Commit(ctx, tx, now)
	}
	return shelf.CommitLast(ctx, tx, now)
}

// exec writes by hand.
func exec(t *testing.T, db *sqldb.DB, query string) {
	t.Helper()
	if err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.ExecContext(ctx, query)
		return err
	}); err != nil {
		t.Fatal(err)
	}
}
