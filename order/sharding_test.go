package order_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/stock"
)

// What docs/decisions/0011-sharding-by-sku.md says, in small: the pool of a SKU is in one database, the orders of it in
// others, and no transaction sees two.

// apart gives databases that no transaction spans: of SQLite files of their own, on MariaDB schemas of their own, which
// orderd opens each by a connection of its own.
func apart(t *testing.T, n int, test func(t *testing.T, shards []*ordertest.Fixture)) {
	for name, open := range map[string]func(testing.TB) *sqldb.DB{"sqlite": sqldbtest.SQLite,
		"mariadb": sqldbtest.MariaDB} {
		t.Run(name, func(t *testing.T) {
			shards := make([]*ordertest.Fixture, n)
			for i := range shards {
				shards[i] = ordertest.New(t, open(t)) // each must verify by itself at the end
			}
			test(t, shards)
		})
	}
}

// carrier brings units of a SKU from one database to another, in two transactions: reserve, where they are taken away,
// then confirm, where they come in. Both are the flow of one key, so that each happens once however often it is tried.
type carrier struct {
	sku      string
	from, to *ordertest.Fixture
	last     atomic.Int64
}

// by is who moves units.
const by = "carrier"

// reserve takes up to so many units out of the giving database, and gives their number.
func (c *carrier) reserve(ctx context.Context, units int64) (int64, error) {
	key := fmt.Sprint("move-", c.last.Add(1))
	for {
		var below *stock.BelowZeroError
		_, err := c.from.Admin.Adjust(ctx, stock.Change{SkuID: c.sku, Delta: -units, Key: key, Actor: by, Reason: by})
		if !errors.As(err, &below) {
			return units, err
		}
		if units = below.Available; units == 0 {
			return 0, nil
		}
	}
}

// confirm brings in whatever was reserved and has not come in: it reads what the giving database has written, so that
// a carrier that died in between needs nobody who remembers.
func (c *carrier) confirm(ctx context.Context) error {
	moves := map[string]int64{}
	err := sqldb.Each(ctx, c.from.DB, `SELECT ref, delta
FROM stock_flows
WHERE order_no = ''
  AND kind = 'adjust'
  AND actor = ?
  AND sku_id = ?`, []any{by, c.sku}, func(rows *sql.Rows) error {
		var key string
		var delta int64
		err := rows.Scan(&key, &delta)
		moves[key] = -delta
		return err
	})
	for key, units := range moves {
		if err == nil {
			_, err = c.to.Admin.Replenish(ctx, stock.Change{SkuID: c.sku, Delta: units, Key: key, Actor: by,
				Reason: by})
		}
	}
	return err
}

// moved is the sum of all that went out of one database, or came into the other.
func moved(t *testing.T, f *ordertest.Fixture, kind stock.Kind) (units int64) {
	t.Helper()
	err := f.DB.QueryRowContext(t.Context(), `SELECT COALESCE(SUM(delta), 0)
FROM stock_flows
WHERE kind = ?
  AND actor = ?`, string(kind), by).Scan(&units)
	if err != nil {
		t.Fatal(err)
	}
	return units
}

// unitFor is a purchase of one unit.
func unitFor(request, sku string) order.Placement {
	return order.Placement{CustomerID: "c", RequestID: request, Lines: []stock.Line{{SkuID: sku, Quantity: 1}}}
}

// Moves between two databases, of which the giving one is always first, lose and double no unit, whatever dies between
// the two transactions and however many carriers finish it: each database holds its own invariants, and what is
// between them is what was reserved and not confirmed.
func TestPoolAndOrdersInTwoDatabases(t *testing.T) {
	apart(t, 2, func(t *testing.T, shards []*ordertest.Fixture) {
		const stocked, share = 90, 8
		pool, shop := shards[0], shards[1]
		pool.SKU(t, "hot", stocked)
		shop.SKU(t, "hot", 0)
		out, back := &carrier{sku: "hot", from: pool, to: shop}, &carrier{sku: "hot", from: shop, to: pool}
		var sold, died atomic.Int64
		var all sync.WaitGroup
		for b := range 4 {
			all.Go(func() {
				for i := 0; sold.Load() <= stocked && !t.Failed(); i++ { // more than there were: it ends at once
					placed, err := shop.Place(t.Context(), unitFor(fmt.Sprint(b, "-", i), "hot"))
					switch {
					case errors.As(err, new(*order.InsufficientError)):
						n, err := out.reserve(t.Context(), share)
						if err != nil {
							t.Error(err)
						}
						if n > 0 && (died.Load() == 0 || i%2 == 0) {
							died.Add(1) // in between: somebody else finishes it
							continue
						}
						if err := errors.Join(out.confirm(t.Context()), back.confirm(t.Context())); err != nil {
							t.Error(err)
						}
						if n == 0 {
							return // the pool is empty; what others have under way is sold below
						}
					case err != nil:
						t.Error(err)
					case i%5 == 4: // comes back to the shelf of the orders' database
						if _, err := shop.Cancel(t.Context(), cancel(placed.Order.OrderNo)); err != nil {
							t.Error(err)
						}
						if _, err := back.reserve(t.Context(), 1); err != nil { // and home
							t.Error(err)
						}
					default:
						sold.Add(1)
					}
				}
			})
		}
		all.Wait()
		between := -moved(t, pool, stock.KindAdjust) - moved(t, shop, stock.KindReplenish) -
			moved(t, shop, stock.KindAdjust) - moved(t, pool, stock.KindReplenish)
		if got := pool.Available(t, "hot") + shop.Available(t, "hot") + between + sold.Load(); got != stocked {
			t.Errorf("%d units of %d, %d of them between the databases", got, stocked, between)
		}
		for i := 0; sold.Load() <= stocked; i++ { // the rest, exactly
			err := back.confirm(t.Context())
			if err == nil {
				_, err = out.reserve(t.Context(), stocked)
			}
			if err := errors.Join(err, out.confirm(t.Context())); err != nil {
				t.Fatal(err)
			}
			_, err = shop.Place(t.Context(), unitFor(fmt.Sprint("rest-", i), "hot"))
			if errors.As(err, new(*order.InsufficientError)) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			sold.Add(1)
		}
		if sold.Load() != stocked || pool.Available(t, "hot")+shop.Available(t, "hot") != 0 || died.Load() == 0 {
			t.Errorf("%d of %d sold, %d carriers died", sold.Load(), stocked, died.Load())
		}
	})
}

// The recall of a bucket is no such move: closing its row gives the units to the pool and fences whoever sold from it,
// in one transaction, because placements take from that row. Where orders are in another database they do not, and the
// same units are sold twice, with every invariant of each database true. This is why a bucket cannot be recalled from
// another database, and has to be given back by the one that has the orders.
func TestBucketClosedFromAnotherDatabaseSellsTwice(t *testing.T) {
	apart(t, 2, func(t *testing.T, shards []*ordertest.Fixture) {
		const stocked, lent = 200, 50
		pool, shop := shards[0], shards[1]
		pool.SKU(t, "hot", stocked)
		shop.SKU(t, "hot", 0)
		gate := stock.GateChange{SkuID: "hot", Mode: stock.GateLocal, Actor: by, Reason: by}
		if _, err := pool.Admin.SetGate(t.Context(), gate); err != nil {
			t.Fatal(err)
		}
		grant := stock.Grant{Bucket: 1, SkuID: "hot", Home: "shop", Seq: 1, Want: lent, At: pool.Clock.Now()}
		err := pool.DB.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := grant.Move(ctx, tx)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = shop.Admin.Replenish(t.Context(), stock.Change{SkuID: "hot", Delta: lent, Key: "1-1", Actor: by,
			Reason: by})
		if err != nil {
			t.Fatal(err)
		}
		if err := pool.Admin.CloseBuckets(t.Context(), []int64{1}, pool.Clock.Now()); err != nil {
			t.Fatal(err)
		}
		shop.PlaceOne(t, "of-the-bucket", "hot", lent) // nobody has told it
		pool.PlaceOne(t, "of-the-pool", "hot", stocked)
		if left := pool.Available(t, "hot") + shop.Available(t, "hot"); left != 0 {
			t.Errorf("%d are left: a close fences a bucket of another database now, and the decision can be revised",
				left)
		}
	})
}

// Two databases with orders cannot both be exact about the last unit: one refuses while the other has some, and while
// some are on their way both do. In one database the placement calls all buckets back and decides on the sum.
func TestLastUnitsOfAnotherDatabaseAreRefused(t *testing.T) {
	apart(t, 2, func(t *testing.T, shards []*ordertest.Fixture) {
		here, there := shards[0], shards[1]
		here.SKU(t, "hot", 0)
		there.SKU(t, "hot", 3)
		var none *order.InsufficientError
		refused := func(f *ordertest.Fixture, request string) {
			t.Helper()
			if _, err := f.Place(t.Context(), unitFor(request, "hot")); !errors.As(err, &none) {
				t.Errorf("%s: %v", request, err)
			}
		}
		refused(here, "first")
		c := &carrier{sku: "hot", from: there, to: here}
		if n, err := c.reserve(t.Context(), 9); n != 3 || err != nil {
			t.Fatal(n, err)
		}
		refused(here, "second")
		refused(there, "third")
		if err := c.confirm(t.Context()); err != nil {
			t.Fatal(err)
		}
		here.PlaceOne(t, "fourth", "hot", 3)
	})
}
