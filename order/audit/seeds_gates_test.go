package audit_test

import (
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order/audit"
	"orderd/order/ordertest"
)

// saleRows are a sale in order: of 15 units of a SKU that a process got an order has two and a slot for each, and what
// another had is back.
const saleRows = gateInto + "('mug', 's', 'local', 'open', 'hand', 1, 'adam', 'x', 1800000000000, 1800000000000);" +
	"UPDATE skus SET available = available - 13, per_customer = 2 WHERE sku_id = 'mug';" +
	"UPDATE stock_flows SET bucket_id = 1 WHERE order_no = '$asked' AND kind = 'deduct';" +
	bucketInto + "(1, 'mug', 0, 0, 'p1', 'open', 13, 1, 1800000000000);" +
	moveInto + "(1, 1, 'mug', 15, 'grant', 1800000000000);" +
	bucketInto + "(2, 'mug', 0, 0, 'p2', 'closed', 0, 3, 1800000000000);" +
	moveInto + "(2, 1, 'mug', 5, 'grant', 1800000000000), (2, 2, 'mug', -1, 'back', 1800000000000), " +
	"(2, 3, 'mug', -4, 'close', 1800000000000);" +
	slotInto + "('s', 'c', 1, '$asked'), ('s', 'c', 2, '$asked')"

const (
	gateInto = "INSERT INTO stock_gates (sku_id, sale, mode, state, origin, version, actor, reason, created_at, " +
		"updated_at) VALUES "
	bucketInto = "INSERT INTO stock_buckets (bucket_id, sku_id, epoch, no, home, state, remaining, seq, seen_at) " +
		"VALUES "
	moveInto = "INSERT INTO stock_moves (bucket_id, seq, sku_id, delta, cause, at) VALUES "
	slotInto = "INSERT INTO sale_buyers (sale, customer_id, slot, order_no) VALUES "
	soldOut  = "UPDATE skus SET closed_until = 9223372036854775807 WHERE sku_id = "
)

// gateSeeds are what can go wrong with the units of a flash sale.
var gateSeeds = []seed{
	{"more in a bucket than was moved there", saleRows + ";UPDATE stock_buckets SET remaining = remaining + 1 WHERE " +
		"bucket_id = 1", "bucket.conserved stock.conserved"},
	{"sold from a bucket, and no flow says so", saleRows + ";UPDATE stock_flows SET bucket_id = 0 WHERE bucket_id = 1",
		"bucket.conserved"},
	{"units of a bucket that are in the pool too", saleRows + ";UPDATE skus SET available = available + 13 WHERE " +
		"sku_id = 'mug'", "stock.conserved"},
	{"a bucket below zero", saleRows + ";UPDATE stock_buckets SET remaining = -1 WHERE bucket_id = 1",
		"bucket.not_negative bucket.conserved"},
	{"a move lost", saleRows + ";DELETE FROM stock_moves WHERE bucket_id = 2 AND seq = 2",
		"bucket.moves_dense bucket.conserved"},
	{"all moves of a bucket lost", saleRows + ";DELETE FROM stock_moves WHERE bucket_id = 1", "bucket.moves_dense"},
	{"a move of another SKU", saleRows + ";UPDATE stock_moves SET sku_id = 'cup' WHERE bucket_id = 1",
		"bucket.moves_dense"},
	{"a bucket lost", saleRows + ";DELETE FROM stock_buckets WHERE bucket_id = 1",
		"bucket.moves_dense bucket.flow_of_its_sku stock.conserved"},
	{"closed, and no move says so", saleRows + ";UPDATE stock_moves SET cause = 'back' WHERE bucket_id = 2 AND seq = 3",
		"bucket.moves_dense"},
	{"closed in the middle", saleRows + ";UPDATE stock_moves SET cause = 'close' WHERE bucket_id = 2 AND seq = 2",
		"bucket.moves_dense"},
	{"opened again", saleRows + ";UPDATE stock_buckets SET state = 'open' WHERE bucket_id = 2", "bucket.moves_dense"},
	{"closed, and not empty", saleRows + ";UPDATE stock_buckets SET remaining = 3 WHERE bucket_id = 2",
		"bucket.closed_is_empty bucket.conserved"},
	{"a bucket in a state that is none", saleRows + ";UPDATE stock_buckets SET state = 'lost' WHERE bucket_id = 1",
		"bucket.closed_is_empty stock.conserved"},
	{"sold from another SKU's bucket", saleRows + ";UPDATE stock_flows SET bucket_id = 1 WHERE order_no = '$pending' " +
		"AND sku_id = 'cup'", "bucket.flow_of_its_sku bucket.conserved"},
	{"given back to a bucket", saleRows + ";UPDATE stock_flows SET bucket_id = 1 WHERE order_no = '$closed' AND " +
		"kind = 'return'", "bucket.flow_of_its_sku"},
	{"a bucket without a gate", saleRows + ";DELETE FROM stock_gates", "bucket.gated"},
	{"a bucket of a gate that is off", saleRows + ";UPDATE stock_gates SET mode = 'off'", "bucket.gated quiet.buckets"},
	{"a unit above the limit", saleRows + ";" + slotInto + "('s', 'c', 3, '$partly')", "gate.limit"},
	{"a unit above every limit", saleRows + ";" + slotInto + "('s', 'c', 101, '$partly')", "gate.limit"},
	{"a unit before the first", saleRows + ";" + slotInto + "('s', 'c', 0, '$partly')", "gate.limit"},
	{"a unit for another's order", saleRows + ";UPDATE sale_buyers SET customer_id = 'eve'", "gate.limit"},
	{"a unit for no order", saleRows + ";UPDATE sale_buyers SET order_no = 'ghost' WHERE slot = 1", "gate.limit"},
	{"more slots than the order has units", saleRows + ";" + slotInto + "('t', 'c', 1, '$asked'), ('t', 'c', 2, " +
		"'$asked'), ('t', 'c', 3, '$asked')", "gate.limit"},
	{"sold out with units in a bucket", saleRows + ";" + soldOut + "'mug'", "gate.sold_out_has_no_bucket"},
	{"over with units in a bucket", saleRows + ";UPDATE stock_gates SET state = 'ended'", "quiet.buckets"},
	{"sold out with units in the pool", gateInto + "('cup', 's', 'local', 'open', 'hand', 1, 'adam', 'x', " +
		"1800000000000, 1800000000000);" + soldOut + "'cup'", "quiet.sold_out"},
	{"about to be sold for ever", gateInto + "('cup', 's', 'local', 'open', 'hand', 1, 'adam', 'x', " +
		"1800000000000, 1800000000000);UPDATE skus SET closed_until = 4611686018427387905 WHERE sku_id = 'cup'",
		"quiet.sold_out"},
	{"about to be sold since 2286", "UPDATE skus SET closed_until = 4611686018427387904 + " + never +
		" WHERE sku_id = 'mug'", "stock.sku_facts"},
	{"not sold until 2286", "UPDATE skus SET closed_until = " + never + " WHERE sku_id = 'mug'", "stock.sku_facts"},
	{"sold since before all time", "UPDATE skus SET opens_at = -1 WHERE sku_id = 'mug'", "stock.sku_facts"},
	{"a limit above what can be counted", "UPDATE skus SET per_customer = 101 WHERE sku_id = 'mug'", "stock.sku_facts"},
}

// A mark of a SKU to which a unit has just come back is right for as long as its keeper needs to look: named at once it
// would be a false alarm, and never named nobody would sell the unit.
func TestMarkIsGivenTimeToBeLifted(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		w := &world{Fixture: ordertest.New(t, db)}
		w.SKU(t, "mug", 1) // comes in now
		w.seed(t, gateInto+"('mug', 's', 'local', 'open', 'hand', 1, 'adam', 'x', 1, 1);"+soldOut+"'mug'")
		for _, want := range []int{0, 1} {
			r, err := w.Audit.VerifyWith(t.Context(), audit.VerifyOptions{Quiescent: true})
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range r.Checks {
				if c.ID == "quiet.sold_out" && c.Count != want {
					t.Errorf("%d found, want %d: %v", c.Count, want, c.Violations)
				}
			}
			w.Clock.Advance(6 * time.Second)
		}
		w.seed(t, "UPDATE skus SET closed_until = 0 WHERE sku_id = 'mug'") // the fixture verifies at its end
	})
}
