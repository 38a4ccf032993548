package order_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest/gatetest"
	"orderd/stock"
	"orderd/stock/gate"
)

// A process that sells from its own memory would oversell or strand units when its neighbours do so too: every unit
// of a SKU is sold once, by whichever process its buyers come to, and the last one as well.
func TestLocalGateSellsEveryUnitOnce(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		const processes, callers, stocked = 4, 16, 3000
		ps := gatetest.Pods(t, db, processes, nil)
		ps[0].SKU(t, "hot", stocked)
		gatetest.Set(t, db, ps, stock.GateChange{SkuID: "hot", Mode: stock.GateLocal})
		var sold, refused, other atomic.Int64
		var all sync.WaitGroup
		for i := range processes * callers {
			p := ps[i%processes]
			all.Go(func() {
				for n := 0; other.Load() == 0; n++ {
					_, err := p.Place(t.Context(), one(fmt.Sprint("c", i), fmt.Sprint(i, "-", n), "hot"))
					switch {
					case err == nil:
						sold.Add(1)
					case errors.As(err, new(*order.InsufficientError)):
						refused.Add(1)
						return
					case errors.Is(err, sqldb.ErrUnavailable): // nothing happened
					default:
						other.Add(1)
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		if sold.Load() != stocked || refused.Load() != processes*callers {
			t.Errorf("%d of %d sold, %d of %d told that it is sold out", sold.Load(), stocked, refused.Load(),
				processes*callers)
		}
		if taken := gatetest.Count(t, db, "SELECT COUNT(*) FROM stock_flows WHERE bucket_id <> 0"); taken == 0 {
			t.Error("nothing was sold from a bucket: this test has tested nothing")
		}
		if n := gatetest.Count(t, db, "SELECT COUNT(*) FROM skus WHERE available = 0 AND closed_until > 0"); n != 1 {
			t.Error("the SKU is not marked as sold out")
		}
	})
}

// A sold-out mark that is believed by one who holds an order would tell him so: his repeat is answered with his order
// at every moment, from whichever process, while all others are refused from memory.
func TestRepeatOfAnOrderIsNeverSoldOut(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		const stocked = 40
		ps := gatetest.Pods(t, db, 2, nil)
		ps[0].SKU(t, "hot", stocked)
		gatetest.Set(t, db, ps, stock.GateChange{SkuID: "hot", Mode: stock.GateLocal})
		for i := range stocked {
			if _, err := ps[i%2].Place(t.Context(), one(fmt.Sprint("c", i), "key", "hot")); err != nil {
				t.Fatal(err)
			}
		}
		for _, p := range ps {
			fromMemory := func() bool {
				if p.Asks("hot") == nil {
					_, err := p.Place(t.Context(), one("nobody", "x", "hot"))
					if !errors.As(err, new(*order.InsufficientError)) {
						t.Fatal("sold too many, or ", err)
					}
					return false
				}
				return true
			}
			gatetest.Eventually(t, "refused from memory", fromMemory)
			for i := range stocked {
				got, err := p.Place(t.Context(), one(fmt.Sprint("c", i), "key", "hot"))
				if err != nil || !got.Replayed {
					t.Fatalf("the repeat of c%d: %v, replayed %t", i, err, got.Replayed)
				}
			}
		}
	})
}

// The unit of an order that was cancelled would never be sold again once the SKU is marked: it is, and nobody who has
// an order is told sold out meanwhile.
func TestReturnedUnitIsSoldAgain(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		ps := gatetest.Pods(t, db, 2, nil)
		ps[0].SKU(t, "hot", 1)
		gatetest.Set(t, db, ps, stock.GateChange{SkuID: "hot", Mode: stock.GateLocal})
		placed, err := ps[0].Place(t.Context(), one("first", "key", "hot"))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range ps {
			_, err := p.Place(t.Context(), one("second", "key", "hot"))
			if !errors.As(err, new(*order.InsufficientError)) {
				t.Fatal(err)
			}
		}
		if _, err := ps[0].Cancel(t.Context(), order.CancelRequest{OrderNo: placed.Order.OrderNo, CustomerID: "first",
			Cause: order.Cause{Actor: order.Actor{Type: order.ActorCustomer, ID: "first"}}}); err != nil {
			t.Fatal(err)
		}
		gatetest.Eventually(t, "the unit is sold again", func() bool {
			_, err := ps[1].Place(t.Context(), one("second", "key", "hot"))
			if err != nil && !errors.As(err, new(*order.InsufficientError)) {
				t.Fatal(err)
			}
			return err == nil
		})
	})
}

// A process whose bucket was called back while it stood still goes on giving out what its memory believes: each of its
// buyers is decided on the pool in the same call, and none is told that all is gone while something is there (L4).
func TestHolderOfARecalledBucket(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		const stocked, rest = 1000, 10
		fenced := &fences{}
		ps := gatetest.Pods(t, db, 2, func(cfg *gate.Config, _ *order.Config) { cfg.Observe = fenced })
		ps[0].SKU(t, "hot", stocked)
		gatetest.Set(t, db, ps, stock.GateChange{SkuID: "hot", Mode: stock.GateLocal})
		ps[0].Held(t, "hot")
		most := one("other", "key", "hot")
		most.Lines[0].Quantity = stocked - rest
		if _, err := ps[1].Place(t.Context(), most); err != nil {
			t.Fatal(err)
		}
		if fenced.recalled.Load() == 0 {
			t.Error("nobody was told of the recall")
		}
		for i := range rest {
			if !ps[0].Buy(t, "c", fmt.Sprint(i), "hot") {
				t.Errorf("refused with %d unsold", rest-i)
			}
		}
		if ps[0].Buy(t, "c", "more", "hot") {
			t.Error("one too many was sold")
		}
		if n := gatetest.Count(t, db, "SELECT COUNT(*) FROM stock_flows WHERE bucket_id <> 0"); n != 0 {
			t.Errorf("%d were sold from a bucket that is closed", n)
		}
		if fenced.n.Load() == 0 {
			t.Error("the process never found its bucket closed: this test has tested nothing")
		}
	})
}

// fences counts the buckets that processes found closed, and those that they called back.
type fences struct{ n, recalled atomic.Int64 }

func (f *fences) GateFenced()                    { f.n.Add(1) }
func (*fences) GateDecision(string, string)      {}
func (f *fences) GateRecalled(n int)             { f.recalled.Add(int64(n)) }
func (*fences) GateGranted(int64, time.Duration) {}
