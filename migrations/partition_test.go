package migrations_test

import (
	"errors"
	"slices"
	"testing"

	"orderd/migrations"
	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
)

// On one server parts spread nothing, and cost a look into each.
func TestPartitionsAreForTiDBAlone(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		if db.TiDB() {
			return
		}
		if plan, err := migrations.PartitionPlan(t.Context(), db, 16); !errors.Is(err, migrations.ErrNoPartitions) {
			t.Errorf("%q, %v", plan, err)
		}
	})
}

// A unique key that the parts do not have in common would let the same request place two orders: TiDB refuses it.
func TestPartitionsKeepEveryUniqueKey(t *testing.T) {
	dsn, _ := sqldbtest.AsTiDB(t)
	db := sqldbtest.Open(t, dsn)
	plan, err := migrations.PartitionPlan(t.Context(), db, 16)
	want := []string{
		"ALTER TABLE order_events PARTITION BY KEY (order_no) PARTITIONS 16",
		"ALTER TABLE order_items PARTITION BY KEY (order_no) PARTITIONS 16",
		"ALTER TABLE orders PARTITION BY KEY (order_no) PARTITIONS 16 " +
			"UPDATE INDEXES (u_orders_reference GLOBAL, u_orders_request GLOBAL)",
		"ALTER TABLE payment_attempts PARTITION BY KEY (out_trade_no) PARTITIONS 16 " +
			"UPDATE INDEXES (u_attempts_order GLOBAL)",
		"ALTER TABLE stock_flows PARTITION BY KEY (order_no) PARTITIONS 16",
	}
	if err != nil || !slices.Equal(plan, want) {
		t.Fatalf("%q, %v", plan, err)
	}
	for _, n := range []int{-1, 0, 1, migrations.MaxPartitions + 1} {
		if _, err := migrations.PartitionPlan(t.Context(), db, n); !errors.Is(err, migrations.ErrPartitions) {
			t.Errorf("%d parts: %v", n, err)
		}
	}
	// MariaDB takes the statements without GLOBAL too: what was done is left out, and another number is refused.
	some := []string{plan[0], plan[1]}
	var done []string
	if err := migrations.Partition(t.Context(), db, some, func(s string) { done = append(done, s) }); err != nil ||
		!slices.Equal(done, some) {
		t.Fatalf("%q, %v", done, err)
	}
	if left, err := migrations.PartitionPlan(t.Context(), db, 16); err != nil || !slices.Equal(left, plan[2:]) {
		t.Errorf("%q, %v", left, err)
	}
	if _, err := migrations.PartitionPlan(t.Context(), db, 8); !errors.Is(err, migrations.ErrPartitions) {
		t.Errorf("other parts than there are: %v", err)
	}
}

// TiDB has words that the others have not, and migrations that are out are not changed: their columns are quoted for
// it, and the schema is the same.
func TestColumnsAreQuotedForTiDB(t *testing.T) {
	dsn, answer := sqldbtest.AsTiDB(t)
	answer(true, "`until`", "`quoted`")
	db := sqldbtest.Open(t, dsn)
	if err := db.QueryRowContext(t.Context(), "SELECT quoted FROM webhook_places").Scan(new(int64)); err != nil {
		t.Error(err)
	}
}
