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
	"orderd/stock"
	"orderd/stock/gate"
)

// pod is one process of a sale: a service and its gate on the database that all share.
type pod struct {
	*ordertest.Fixture
	gate *gate.Gate
	stop func() // ends the gate's loop, and waits for it
}

// pods starts n processes of a sale on the real clock.
func pods(t *testing.T, db *sqldb.DB, n int, shape func(*order.Config)) []*pod {
	t.Helper()
	first := ordertest.NewWith(t, db, func(c *order.Config) { c.Now = time.Now })
	all := make([]*pod, n)
	for i := range all {
		p := &pod{gate: gate.New(gate.Config{DB: db, Now: time.Now, Home: fmt.Sprint("pod", i)})}
		p.Fixture = first.Restarted(t, func(c *order.Config) {
			c.Now, c.Gate = time.Now, p.gate
			if shape != nil {
				shape(c)
			}
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			p.gate.Run(ctx, p.Service)
		}()
		p.stop = func() { cancel(); <-done }
		t.Cleanup(p.stop)
		all[i] = p
	}
	return all
}

// openGate gives a SKU a gate and waits until every process knows it.
func openGate(t *testing.T, db *sqldb.DB, ps []*pod, c stock.GateChange) {
	t.Helper()
	c.Actor, c.Reason = "cli:test", "a test"
	if _, err := stock.NewAdmin(db, time.Now).SetGate(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	for _, p := range ps {
		eventually(t, "the gate is known", func() bool { return p.gate.Knows(c.SkuID) == (c.Mode != stock.GateOff) })
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	end := time.Now().Add(20 * time.Second)
	for !is() {
		if time.Now().After(end) {
			t.Fatal("not within 20 s: ", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// A process that sells from its own memory would oversell or strand units when its neighbours do so too: every unit
// of a SKU is sold once, by whichever process its buyers come to, and the last one as well.
func TestLocalGateSellsEveryUnitOnce(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		const processes, callers, stocked = 4, 16, 3000
		ps := pods(t, db, processes, nil)
		ps[0].SKU(t, "hot", stocked)
		openGate(t, db, ps, stock.GateChange{SkuID: "hot", Mode: stock.GateLocal})
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
		if taken := count(t, db, "SELECT COUNT(*) FROM stock_flows WHERE bucket_id <> 0"); taken == 0 {
			t.Error("nothing was sold from a bucket: this test has tested nothing")
		}
		if n := count(t, db, "SELECT COUNT(*) FROM skus WHERE available = 0 AND closed_until > 0"); n != 1 {
			t.Error("the SKU is not marked as sold out")
		}
	})
}

// count runs a query for one number.
func count(t *testing.T, db *sqldb.DB, query string, args ...any) (n int64) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// A sold-out mark that is believed by one who holds an order would tell him so: his repeat is answered with his order
// at every moment, from whichever process, while all others are refused from memory.
func TestRepeatOfAnOrderIsNeverSoldOut(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		const stocked = 40
		ps := pods(t, db, 2, nil)
		ps[0].SKU(t, "hot", stocked)
		openGate(t, db, ps, stock.GateChange{SkuID: "hot", Mode: stock.GateLocal})
		for i := range stocked {
			if _, err := ps[i%2].Place(t.Context(), one(fmt.Sprint("c", i), "key", "hot")); err != nil {
				t.Fatal(err)
			}
		}
		for _, p := range ps {
			fromMemory := func() bool {
				_, err := p.gate.Take(&gate.Claim{CustomerID: "nobody", RequestID: "x",
					Lines: []stock.Line{{SkuID: "hot", Quantity: 1}}})
				if err == nil {
					_, err = p.Place(t.Context(), one("nobody", "x", "hot"))
					if !errors.As(err, new(*order.InsufficientError)) {
						t.Fatal("sold too many, or ", err)
					}
					return false
				}
				return true
			}
			eventually(t, "refused from memory", fromMemory)
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
		ps := pods(t, db, 2, nil)
		ps[0].SKU(t, "hot", 1)
		openGate(t, db, ps, stock.GateChange{SkuID: "hot", Mode: stock.GateLocal})
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
		eventually(t, "the unit is sold again", func() bool {
			_, err := ps[1].Place(t.Context(), one("second", "key", "hot"))
			if err != nil && !errors.As(err, new(*order.InsufficientError)) {
				t.Fatal(err)
			}
			return err == nil
		})
	})
}
