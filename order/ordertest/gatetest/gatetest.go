// Package gatetest runs several processes of a flash sale in a test: each an order service
// with a gate of its own, on the database that all share.
package gatetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/stock"
	"orderd/stock/gate"
)

// Pod is one process of a sale.
type Pod struct {
	*ordertest.Fixture
	Gate *gate.Gate
	// Stop ends the gate's loop as a process that ends in order does, and waits for it.
	Stop func()
}

// Shape changes what a process is made of; nil is none. The gate is made of cfg after it.
type Shape func(cfg *gate.Config, c *order.Config)

// Pods starts n processes of a sale on the real clock.
func Pods(t testing.TB, db *sqldb.DB, n int, shape Shape) []*Pod {
	t.Helper()
	first := ordertest.NewWith(t, db, func(c *order.Config) { c.Now = time.Now })
	all := make([]*Pod, n)
	for i := range all {
		all[i] = Beside(t, first, fmt.Sprint("pod", i), shape)
		all[i].Keep(t)
	}
	return all
}

// Beside makes a process beside a service, whose gate nobody keeps yet.
func Beside(t testing.TB, f *ordertest.Fixture, home string, shape Shape) *Pod {
	t.Helper()
	p := &Pod{Stop: func() {}}
	p.Fixture = f.Restarted(t, func(c *order.Config) {
		c.Now = time.Now
		cfg := gate.Config{DB: f.DB, Now: time.Now, Home: home, NoAuto: true}
		if shape != nil {
			shape(&cfg, c)
		}
		p.Gate = gate.New(cfg)
		c.Gate, c.Queue = p.Gate, p.Gate.Queue()
	})
	return p
}

// Keep runs the gate's loop until the test ends, or Stop.
func (p *Pod) Keep(t testing.TB) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.Gate.Run(ctx, p.Service)
	}()
	p.Stop = func() { cancel(); <-done }
	t.Cleanup(p.Stop)
}

// Buy places an order for one unit of a SKU and reports whether it was sold; false is sold
// out. Any other answer ends the test.
func (p *Pod) Buy(t testing.TB, customer, request, sku string) bool {
	t.Helper()
	_, err := p.Place(t.Context(), order.Placement{CustomerID: customer, RequestID: request,
		Lines: []stock.Line{{SkuID: sku, Quantity: 1}}})
	if err != nil && !errors.As(err, new(*order.InsufficientError)) {
		t.Fatal(err)
	}
	return err == nil
}

// Asks asks the gate alone for one unit, as somebody who has no order, and gives it back. It
// gives the refusal, nil for none.
func (p *Pod) Asks(sku string) *gate.Refusal {
	if r := p.Gate.Refuse(stranger(sku)); r != nil {
		return r
	}
	p.Gate.Settle(p.Gate.Take(stranger(sku)), gate.Unused)
	return nil
}

// stranger is the claim of one unit by somebody who has no order.
func stranger(sku string) *gate.Claim {
	return &gate.Claim{CustomerID: "nobody", RequestID: "x", Lines: []stock.Line{{SkuID: sku, Quantity: 1}}}
}

// Set gives a SKU a gate, or takes it, and waits until every process knows.
func Set(t testing.TB, db *sqldb.DB, pods []*Pod, c stock.GateChange) {
	t.Helper()
	c.Actor, c.Reason = "cli:test", "a test"
	if _, err := stock.NewAdmin(db, time.Now).SetGate(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	for _, p := range pods {
		Eventually(t, "the gate is known", func() bool { return p.Gate.Knows(c.SkuID) == (c.Mode != stock.GateOff) })
	}
}

// Held waits until a process has units of a SKU in its memory: until one that is asked for
// is set aside.
func (p *Pod) Held(t testing.TB, sku string) {
	t.Helper()
	Eventually(t, "units of "+sku+" are held", func() bool {
		ticket := p.Gate.Take(stranger(sku))
		p.Gate.Settle(ticket, gate.Unused)
		return ticket.Buckets != nil
	})
}

// within bounds the waiting for a condition.
const within = 2 * time.Minute

// Eventually waits for a condition.
func Eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	end := time.Now().Add(within)
	for !is() {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", within, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Count runs a query for one number.
func Count(t testing.TB, db *sqldb.DB, query string, args ...any) (n int64) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// NothingAllocated fails the test when a bucket still holds something.
func NothingAllocated(t testing.TB, db *sqldb.DB) {
	t.Helper()
	if n := Count(t, db, "SELECT COUNT(*) FROM stock_buckets WHERE state <> 'closed'"); n != 0 {
		t.Errorf("%d buckets are not closed", n)
	}
}
