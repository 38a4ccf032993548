package gate_test

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
	"orderd/order/ordertest"
	"orderd/order/ordertest/gatetest"
	"orderd/stock"
	"orderd/stock/gate"
)

// one is a placement for one unit.
func one(customer, request, sku string) order.Placement {
	return order.Placement{CustomerID: customer, RequestID: request, Lines: []stock.Line{{SkuID: sku, Quantity: 1}}}
}

// byClock makes a pod whose gate and service tell the time of the fixture.
func byClock(f *ordertest.Fixture) gatetest.Shape {
	return func(cfg *gate.Config, c *order.Config) { cfg.Now, c.Now = f.Clock.Now, f.Clock.Now }
}

// A sale that begins a millisecond early is unfair to everybody who believed its hour, and one that begins late loses
// the crowd: by the database's clock nothing is sold a millisecond before, and the first order right then, by a
// process that refuses from memory and by one that asks the ledger.
func TestSaleBeginsToTheMillisecond(t *testing.T) {
	for name, remembers := range map[string]bool{"ledger": false, "memory": true} {
		t.Run(name, func(t *testing.T) {
			sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
				f := ordertest.New(t, db)
				p := gatetest.Beside(t, f, "pod", byClock(f))
				keeper := gate.NewKeeper(p.Gate, p.Service)
				p.SKU(t, "hot", 5)
				opens := f.Clock.Now().Add(time.Hour)
				if _, err := f.Admin.SetGate(t.Context(), stock.GateChange{SkuID: "hot",
					Mode: stock.GateLocal, OpensAt: opens,
					Actor: "cli:test", Reason: "a test"}); err != nil {
					t.Fatal(err)
				}
				for i, before := range []time.Duration{time.Hour, time.Second, time.Millisecond} {
					if remembers { // what was read a moment ago, an hour before the begin
						f.Clock.Set(opens.Add(-time.Hour))
						gatetest.Eventually(t, "refused from memory", func() bool {
							if err := keeper.Look(t.Context()); err != nil {
								t.Fatal(err)
							}
							return p.Asks("hot") != nil
						})
					}
					f.Clock.Set(opens.Add(-before))
					_, err := p.Place(t.Context(), one("c", fmt.Sprint("early", i), "hot"))
					var early *order.NotStartedError
					if !errors.As(err, &early) || early.Wait != before ||
						!early.OpensAt.Equal(opens) || early.SkuID != "hot" {
						t.Errorf("%s before it begins: %v, wait %+v", before, err, early)
					}
				}
				f.Clock.Set(opens)
				if _, err := p.Place(t.Context(), one("c", "first", "hot")); err != nil {
					t.Error("at the very millisecond: ", err)
				}
			})
		})
	}
}

// The begin of a sale is moved while its units are in the memory of a process: that process would go on selling them
// before the new begin.
func TestSaleMovedLater(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.New(t, db)
		var taken atomic.Int64
		p := gatetest.Beside(t, f, "pod", func(cfg *gate.Config, c *order.Config) {
			byClock(f)(cfg, c)
			cfg.Observe = watch{taken: &taken}
		})
		keeper := gate.NewKeeper(p.Gate, p.Service)
		p.SKU(t, "hot", 1000)
		set := func(opens time.Time) {
			if _, err := f.Admin.SetGate(t.Context(), stock.GateChange{SkuID: "hot",
				Mode: stock.GateLocal, OpensAt: opens,
				Actor: "cli:test", Reason: "a test"}); err != nil {
				t.Fatal(err)
			}
		}
		for round := 0; taken.Load() == 0; round++ { // until the process was quick enough to sell from its memory
			if round == 20 {
				t.Fatal("the process never sold from its memory: this test has tested nothing")
			}
			set(time.Time{})
			if _, err := f.Admin.Sell(t.Context(), "hot", closedUntil(t, db, "hot")); err != nil {
				t.Fatal(err)
			}
			for range 2 { // it knows of the gate, then it is asked and gets units
				if err := keeper.Look(t.Context()); err != nil {
					t.Fatal(err)
				}
				_ = p.Asks("hot")
			}
			if err := keeper.Look(t.Context()); err != nil {
				t.Fatal(err)
			}
			set(f.Clock.Now().Add(time.Hour))
			taken.Store(0)
			_, err := p.Place(t.Context(), one("c", fmt.Sprint("early", round), "hot"))
			if !errors.As(err, new(*order.NotStartedError)) {
				t.Fatal("an hour before the begin: ", err)
			}
		}
	})
}

// closedUntil reads until when a SKU is not sold.
func closedUntil(t *testing.T, db *sqldb.DB, sku string) int64 {
	t.Helper()
	return gatetest.Count(t, db, "SELECT closed_until FROM skus WHERE sku_id = ?", sku)
}

// watch counts what a gate does.
type watch struct{ taken, fenced *atomic.Int64 }

func (w watch) GateDecision(_, code string) {
	if w.taken != nil && code == "taken" {
		w.taken.Add(1)
	}
}

func (w watch) GateFenced() {
	if w.fenced != nil {
		w.fenced.Add(1)
	}
}

func (watch) GateRecalled(int)                 {}
func (watch) GateGranted(int64, time.Duration) {}

// A sale that is begun before its hour is sold by a process that has heard of it, while another one still refuses from
// memory: whoever has an order by then is told there that it has not begun.
func TestSaleMovedEarlier(t *testing.T) {
	for name, mode := range map[string]stock.GateMode{"at once": stock.GateLocal, "off": stock.GateOff} {
		t.Run(name, func(t *testing.T) {
			sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
				pods := gatetest.Pods(t, db, 1, nil)
				young := pods[0].Restarted(t, func(c *order.Config) { c.Now = time.Now }) // has read nothing yet
				young.SKU(t, "hot", 1000)
				gatetest.Set(t, db, pods, stock.GateChange{SkuID: "hot", Mode: stock.GateLocal,
					OpensAt: time.Now().Add(time.Hour)})
				gatetest.Eventually(t, "refused from memory", func() bool { return pods[0].Asks("hot") != nil })
				gatetest.Set(t, db, nil, stock.GateChange{SkuID: "hot", Mode: mode})
				gatetest.Eventually(t, "the first order", func() bool {
					_, err := young.Place(t.Context(), one("c", "k", "hot"))
					if err != nil && !errors.As(err, new(*order.NotStartedError)) &&
						!errors.As(err, new(*order.InsufficientError)) {
						t.Fatal(err)
					}
					return err == nil
				})
				if got, err := pods[0].Place(t.Context(), one("c", "k", "hot")); err != nil || !got.Replayed {
					t.Errorf("the order of a buyer at the other process: %v", err)
				}
			})
		})
	}
}

// A sale whose time is over would go on in the memory of its processes: a second later nothing is sold by any of them,
// every unit is in the pool, and who has bought is answered with his order.
func TestSaleEnds(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		const processes = 3
		pods := gatetest.Pods(t, db, processes, nil)
		pods[0].SKU(t, "hot", 1_000_000)
		closes := time.Now().Add(3 * time.Second).Truncate(time.Millisecond)
		gatetest.Set(t, db, pods, stock.GateChange{SkuID: "hot", Mode: stock.GateLocal, ClosesAt: closes})
		var sold atomic.Int64
		var all sync.WaitGroup
		for i, p := range pods {
			all.Go(func() {
				for n := 0; p.Buy(t, fmt.Sprint("c", i), fmt.Sprint(n), "hot"); n++ {
					sold.Add(1)
				}
			})
		}
		all.Wait()
		last := gatetest.Count(t, db, `SELECT MAX(created_at)
FROM orders`)
		if after := sqldb.FromMillis(last).Sub(closes); after > time.Second || sold.Load() == 0 {
			t.Errorf("%d sold, the last one %s after the end", sold.Load(), after)
		}
		if n := gatetest.Count(t, db, "SELECT COUNT(*) FROM stock_flows WHERE bucket_id <> 0"); n == 0 {
			t.Error("nothing was sold from memory: this test has tested nothing")
		}
		gatetest.NothingAllocated(t, db)
		for _, p := range pods {
			gatetest.Eventually(t, "refused from memory", func() bool { return p.Asks("hot") != nil })
			if got, err := p.Place(t.Context(), one("c0", "0", "hot")); err != nil || !got.Replayed {
				t.Errorf("the first order, asked for after the end: %v", err)
			}
			if p.Buy(t, "late", "x", "hot") {
				t.Error("sold after the end")
			}
		}
		if left := pods[0].Available(t, "hot"); left != 1_000_000-sold.Load() {
			t.Errorf("%d in the pool, %d sold", left, sold.Load())
		}
	})
}

// A gate that is taken away while it sells leaves an ordinary SKU: its units come back from every process, and it is
// sold to the last one.
func TestGateTakenAwayWhileSelling(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		const processes, callers, stocked = 3, 4, 3000
		pods := gatetest.Pods(t, db, processes, nil)
		pods[0].SKU(t, "hot", stocked)
		gatetest.Set(t, db, pods, stock.GateChange{SkuID: "hot", Mode: stock.GateLocal})
		var sold atomic.Int64
		var all sync.WaitGroup
		for i := range processes * callers {
			p := pods[i%processes]
			all.Go(func() {
				for n := 0; p.Buy(t, fmt.Sprint("c", i), fmt.Sprint(n), "hot"); n++ {
					sold.Add(1)
				}
			})
		}
		for _, p := range pods {
			p.Held(t, "hot")
		}
		gatetest.Set(t, db, pods, stock.GateChange{SkuID: "hot", Mode: stock.GateOff})
		gatetest.NothingAllocated(t, db)
		all.Wait()
		if sold.Load() != stocked {
			t.Errorf("%d of %d sold", sold.Load(), stocked)
		}
		if n := gatetest.Count(t, db, "SELECT COUNT(*) FROM skus WHERE closed_until <> 0"); n != 0 {
			t.Error("a SKU without a gate is marked as sold out: nobody would open it again")
		}
	})
}
