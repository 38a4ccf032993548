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
