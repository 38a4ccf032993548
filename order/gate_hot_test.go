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

// A SKU that everybody suddenly wants would wait for somebody who knows what a gate is: it gets one while two processes
// are asked for it, keeps it as long as one of them is, is sold from their memory meanwhile, and loses it, with all
// units in the pool, when nobody asks any more. The minute of that passes on the clock of the gates alone.
func TestHotSKUHasAGateForAsLongAsItIsHot(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		var ahead atomic.Int64 // of the gates' clock, in nanoseconds
		now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		ps := gatetest.Pods(t, db, 2, func(cfg *gate.Config, _ *order.Config) { cfg.NoAuto, cfg.Now = false, now })
		ps[0].SKU(t, "hot", 1_000_000_000)
		ps[0].SKU(t, "cold", 1_000_000_000)
		gates := func() []stock.Gate {
			all, err := stock.NewAdmin(db, now).Gates(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return all
		}
		stops := make([]func(), len(ps))
		for i, p := range ps {
			stops[i] = asked(t, p, fmt.Sprint("c", i))
		}
		gatetest.Eventually(t, "the SKU has a gate by itself", func() bool {
			all := gates()
			return len(all) == 1 && all[0].SkuID == "hot" && all[0].Auto && all[0].Mode == stock.GateLocal
		})
		gatetest.Eventually(t, "both processes sell from their memory", func() bool {
			return gatetest.Count(t, db, `SELECT COUNT(DISTINCT b.home)
FROM stock_buckets b
WHERE b.remaining < (SELECT SUM(m.delta) FROM stock_moves m WHERE m.bucket_id = b.bucket_id)`) == int64(len(ps))
		})

		stops[1]()
		for range 4 { // more than the minute in which it would end
			ahead.Add(int64(20 * time.Second))
			begun := gates()[0].HotAt
			gatetest.Eventually(t, "it is found hot again", func() bool {
				all := gates()
				return len(all) == 1 && all[0].HotAt.After(begun)
			})
		}

		stops[0]()
		gatetest.Eventually(t, "it has none any more", func() bool {
			ahead.Add(int64(time.Second))
			return len(gates()) == 0
		})
		gatetest.NothingAllocated(t, db)
	})
}

// asked places orders of many units of "hot" at a process, and of one of "cold" beside them, until it is stopped.
func asked(t *testing.T, p *gatetest.Pod, customer string) (stop func()) {
	t.Helper()
	var end atomic.Bool
	var done sync.WaitGroup
	done.Go(func() {
		for n := 0; !end.Load(); n++ {
			units := map[string]int64{"hot": 500}
			if n%100 == 0 { // however fast the machine is: a thousand a second are hot
				units["cold"] = 1
			}
			for sku, units := range units {
				_, err := p.Place(t.Context(), order.Placement{CustomerID: customer, RequestID: fmt.Sprint(sku, n),
					Lines: []stock.Line{{SkuID: sku, Quantity: units}}})
				if err != nil && !errors.Is(err, sqldb.ErrUnavailable) {
					t.Error(err)
					return
				}
			}
		}
	})
	stop = func() { end.Store(true); done.Wait() }
	t.Cleanup(stop)
	return stop
}
