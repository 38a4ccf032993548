package bench

import (
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/stock"
)

// A way that sells a unit twice is fast for nothing, and one that writes other rows is no peer.
func TestNaiveWaysSellWhatIsThere(t *testing.T) {
	server := ServerOn(sqldbtest.MariaDBServer(t), t.TempDir())
	shop, err := server.NewShop(t.Context(), ShopOptions{SKUs: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer shop.Close()
	for _, way := range []Way{WayConditional, WayPessimistic, WayOptimistic} {
		const units, buyers = 10, 16
		few, sku := int64(units), fmt.Sprintf("few%d", len(way))
		put := stock.Put{SkuID: sku, Title: "few", PriceFen: Fen, Quantity: &few}
		if _, _, err := stock.NewAdmin(shop.DB.DB, time.Now).Put(t.Context(), put); err != nil {
			t.Fatal(err)
		}
		var sold atomic.Int64
		var wg sync.WaitGroup
		for b := range buyers {
			wg.Go(func() {
				for n := 0; ; n++ {
					err := shop.Naive.PlaceBy(t.Context(), way, NewNaivePlacement("c", fmt.Sprint(sku, b, "-", n), sku))
					switch {
					case err == nil:
						sold.Add(1)
					case errors.Is(err, sqldb.ErrLostRace) && way == WayOptimistic: // its buyer comes again
					case errors.Is(err, errSoldOut):
						return
					default:
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		if n := sold.Load(); n != units {
			t.Errorf("%s: %d of %d units were sold", way, n, units)
		}
	}
	if err := shop.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

// An optimistic placement that overwrites what changed since it read sells twice; one that tries for ever, or whose
// tries are not counted, is shown better than it is.
func TestOptimisticGivesUp(t *testing.T) {
	server := ServerOn(sqldbtest.MariaDBServer(t), t.TempDir())
	shop, err := server.NewShop(t.Context(), ShopOptions{SKUs: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer shop.Close()
	tries := 0
	err = shop.Naive.tryFor(t.Context(), optimisticTries, func(tx *sql.Tx) error {
		tries++
		return WayOptimistic.take(t.Context(), tx, SKU(0), 7) // of which there are more
	})
	if !errors.Is(err, sqldb.ErrLostRace) || tries != optimisticTries || shop.Naive.Retried() != optimisticTries-1 {
		t.Errorf("%v after %d tries, %d of them counted", err, tries, shop.Naive.Retried())
	}
	if err := shop.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

// A peer that leaves rows out is faster than what it stands for, and what orderd writes of its orders does not add up.
func TestNaiveWritesTheRowsOfOrderd(t *testing.T) {
	server := ServerOn(sqldbtest.MariaDBServer(t), t.TempDir())
	shop, err := server.NewShop(t.Context(), ShopOptions{SKUs: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer shop.Close()
	ours, err := shop.PlaceMany(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	var naive []string
	for i := range 2 {
		p := NewNaivePlacement("c", fmt.Sprint("naive", i), SKU(0))
		naive = append(naive, p.OrderNo)
		if err := shop.Naive.Place(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	_, cancelErr := shop.Orders.Cancel(t.Context(), order.CancelRequest{OrderNo: ours[1],
		Cause: order.Cause{Actor: order.Actor{Type: order.ActorCustomer, ID: "c"}, Type: "request"}})
	for _, err := range []error{Settle(t.Context(), shop.Orders, ours[0]), shop.Naive.Pay(t.Context(), naive[0]),
		cancelErr, shop.Naive.closeOrder(t.Context(), NewGateway(GatewayOptions{}), naive[1])} {
		if err != nil {
			t.Fatal(err)
		}
	}
	tables := []string{"orders", "order_items", "stock_flows", "payments", "order_events", "events_out"}
	for i := range ours {
		for _, table := range tables {
			var n [2]int
			for side, no := range []string{ours[i], naive[i]} {
				err := shop.DB.QueryRowContext(t.Context(), `SELECT COUNT(*)
FROM `+table+`
WHERE order_no = ?`, no).Scan(&n[side])
				if err != nil {
					t.Fatal(err)
				}
			}
			if n[0] != n[1] {
				t.Errorf("order %d: %d rows of %s, the peer writes %d", i, n[0], table, n[1])
			}
		}
	}
	if err := shop.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}
