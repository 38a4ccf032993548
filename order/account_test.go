package order_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/order/ordertest/gatetest"
	"orderd/stock"
)

// The shelf and the flows of a SKU were read one after the other: what was sold in between was missing from one of
// them, and the page of a SKU that sells did not add up. Nobody pays: whatever is counted as sold was missed elsewhere.
func TestAccountIsOfOneMoment(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.New(t, db)
		f.SKU(t, "mug", 1_000_000)
		done := make(chan struct{})
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-done:
						return
					default:
					}
					if _, err := f.Place(t.Context(), order.Placement{CustomerID: fmt.Sprint("c", i),
						RequestID: fmt.Sprint("n", n), Lines: []stock.Line{{SkuID: "mug", Quantity: 1}}}); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wrong, sold := 0, int64(0)
		for n := 0; n < 100 || (sold == 0 && n < 10_000); n++ {
			a, err := f.StockAccount(t.Context(), "mug")
			if err != nil {
				t.Error(err)
				break
			}
			if sold = a.Reserved; a.Sold != 0 {
				wrong++
			}
		}
		close(done)
		wg.Wait()
		if wrong > 0 || sold == 0 {
			t.Errorf("%d of 100 accounts do not add up, %d units were reserved", wrong, sold)
		}
	})
}

// callBack takes what processes hold of a SKU back, as whoever finds the pool short does, and gives how many buckets
// there were.
func callBack(ctx context.Context, db *sqldb.DB, sku string) (n int, err error) {
	err = db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if err := tx.QueryRowContext(ctx, `SELECT sku_id
FROM skus
WHERE sku_id = ?
FOR UPDATE`, sku).Scan(&sku); err != nil {
			return err
		}
		buckets, err := stock.Recall(ctx, tx, []string{sku}, time.Now())
		n = len(buckets)
		return err
	})
	return n, err
}

// Read at two moments the pool and the buckets would miss the units that a grant, a recall or an order moves between
// them, or count them twice: while all of these go on, every account adds up and no check finds anything.
func TestBooksAddUpWhileUnitsMove(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		ps := gatetest.Pods(t, db, 2, nil)
		ps[0].SKU(t, "hot", 1_000_000)
		gatetest.Set(t, db, ps, stock.GateChange{SkuID: "hot", Mode: stock.GateLocal})
		done := make(chan struct{})
		var all sync.WaitGroup
		var recalled atomic.Int64
		loop := func(step func(n int) error) {
			all.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-done:
						return
					default:
					}
					if err := step(n); err != nil && !errors.Is(err, sqldb.ErrUnavailable) {
						t.Error(err)
						return
					}
				}
			})
		}
		for i := range 4 {
			loop(func(n int) error {
				_, err := ps[i%2].Place(t.Context(), one(fmt.Sprint("c", i), fmt.Sprint("n", n), "hot"))
				return err
			})
		}
		loop(func(int) error {
			s, err := ps[0].Admin.Find(t.Context(), "hot")
			if err != nil || s.Allocated == 0 {
				time.Sleep(5 * time.Millisecond) // polling for the next grant
				return err
			}
			n, err := callBack(t.Context(), db, "hot")
			recalled.Add(int64(n))
			return err
		})
		lent := readBooks(t, ps[0].Fixture, &recalled)
		close(done)
		all.Wait()
		if lent == 0 || recalled.Load() == 0 {
			t.Errorf("%d accounts had units in buckets, %d buckets were called back", lent, recalled.Load())
		}
		ps[0].AssertVerified(t)
	})
}

// readBooks reads the account and the checks of a SKU while its units move, and gives how many accounts had something
// in buckets.
func readBooks(t *testing.T, f *ordertest.Fixture, recalled *atomic.Int64) (lent int) {
	t.Helper()
	const accounts, recalls = 200, 3
	for n := 0; n < accounts || ((lent == 0 || recalled.Load() < recalls) && n < 20_000); n++ {
		a, err := f.StockAccount(t.Context(), "hot")
		if err != nil || a.Sold != 0 { // nobody pays
			t.Errorf("%+v, %v", a, err)
			return lent
		}
		if a.Allocated > 0 {
			lent++
		}
		if n%20 == 0 {
			f.AssertVerified(t)
		}
	}
	return lent
}

// The row of an order and what belongs to it were read one after the other: who looked while the money came was shown
// an unpaid order with its payment.
func TestOrderIsOfOneMoment(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.New(t, db)
		f.SKU(t, "mug", 1000)
		for i := range 60 {
			o := f.PlaceOne(t, fmt.Sprint("k", i), "mug", 1)
			trade, err := f.WeChat.Pay(f.Prepaid(t, o.OrderNo), false)
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			wg.Go(func() {
				if _, err := f.Settle(t.Context(), trade, ordertest.Notified); err != nil {
					t.Error(err)
				}
			})
			for range 3 {
				wg.Go(func() {
					for n := 0; n < 10_000; n++ {
						o, err := f.Find(t.Context(), o.OrderNo)
						if err != nil || (o.State == order.StatePaid) != (o.Payment != nil) {
							t.Errorf("%s with the payment %+v: %v", o.State, o.Payment, err)
							return
						}
						if o.State == order.StatePaid {
							return
						}
					}
					t.Error("it is never paid")
				})
			}
			wg.Wait()
		}
	})
}
