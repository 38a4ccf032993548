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
	"orderd/order/ordertest"
	"orderd/order/ordertest/gatetest"
	"orderd/payment"
	"orderd/stock"
)

// limitSale sets how many units of a sale one customer may have of this SKU.
func limitSale(t *testing.T, f *ordertest.Fixture, sku, sale string, perCustomer int64) {
	t.Helper()
	if _, err := f.Admin.SetGate(t.Context(), stock.GateChange{SkuID: sku, Sale: sale, Mode: stock.GateLocal,
		PerCustomer: perCustomer, Actor: "cli:test", Reason: "a test"}); err != nil {
		t.Fatal(err)
	}
}

// units is a placement of the customer "c" for lines of SKU and quantity.
func units(request string, lines ...stock.Line) order.Placement {
	return order.Placement{CustomerID: "c", RequestID: request, Lines: lines}
}

// limitMet places and reports that the limit refused it. Any other error ends the test.
func limitMet(t *testing.T, f *ordertest.Fixture, p order.Placement) bool {
	t.Helper()
	_, err := f.Place(t.Context(), p)
	if err != nil && !errors.As(err, new(*order.CustomerLimitError)) {
		t.Fatal(err)
	}
	return err != nil
}

// slotsAreUnits fails the test unless the rows of a sale say what its orders say: every unit of a live order has a
// row of its own, and no other order has one that is counted.
func slotsAreUnits(t *testing.T, db *sqldb.DB, sale string) {
	t.Helper()
	const live = `o.state NOT IN ('closed', 'late', 'refunded')`
	rows := gatetest.Count(t, db, `SELECT COUNT(*)
FROM sale_buyers b
JOIN orders o ON o.order_no = b.order_no AND o.customer_id = b.customer_id
WHERE b.sale = ?
  AND `+live, sale)
	units := gatetest.Count(t, db, `SELECT COALESCE(SUM(i.quantity), 0)
FROM order_items i
JOIN orders o ON o.order_no = i.order_no
JOIN stock_gates g ON g.sku_id = i.sku_id
WHERE g.sale = ?
  AND `+live, sale)
	if rows != units {
		t.Errorf("sale %s: %d rows of live orders, %d units", sale, rows, units)
	}
	if n := gatetest.Count(t, db, `SELECT COUNT(*)
FROM orders o
JOIN order_items i ON i.order_no = o.order_no
JOIN stock_gates g ON g.sku_id = i.sku_id
WHERE g.sale = ?
  AND `+live+`
  AND i.quantity > (
    SELECT COUNT(*)
    FROM sale_buyers b
    WHERE b.sale = g.sale
      AND b.order_no = o.order_no)`, sale); n != 0 {
		t.Errorf("sale %s: %d live orders have fewer rows than units", sale, n)
	}
}

// A limit that each process counts for itself is none: whoever presses the button on sixteen processes at once gets as
// many units as the sale allows, and is answered with those orders ever after.
func TestCustomerLimitIsExactOverProcesses(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		const processes, tries = 16, 4
		f := ordertest.New(t, db)
		services := make([]*ordertest.Fixture, processes)
		for i := range services {
			services[i] = f.Restarted(t, func(*order.Config) {})
		}
		for limit := int64(1); limit <= 3; limit++ {
			sku := fmt.Sprint("hot", limit)
			f.SKU(t, sku, 1000)
			limitSale(t, f, sku, "", limit)
			var placed, refused atomic.Int64
			keys := make([]sync.Map, processes)
			var all sync.WaitGroup
			for i, s := range services {
				all.Go(func() {
					for n := range tries {
						key := fmt.Sprint(sku, "-", i, "-", n)
						got, err := s.Place(t.Context(), units(key, stock.Line{SkuID: sku, Quantity: 1}))
						switch {
						case err == nil:
							placed.Add(1)
							keys[i].Store(key, got.Order.OrderNo)
						case errors.As(err, new(*order.CustomerLimitError)):
							refused.Add(1)
						case errors.Is(err, sqldb.ErrUnavailable): // nothing happened
						default:
							t.Error(err)
						}
					}
				})
			}
			all.Wait()
			if placed.Load() != limit || refused.Load() == 0 {
				t.Errorf("limit %d: %d units, %d refusals", limit, placed.Load(), refused.Load())
			}
			slotsAreUnits(t, db, sku)
			for i := range keys {
				keys[i].Range(func(key, no any) bool {
					got, err := services[(i+1)%processes].Place(t.Context(), units(key.(string),
						stock.Line{SkuID: sku, Quantity: 1}))
					if err != nil || !got.Replayed || got.Order.OrderNo != no {
						t.Errorf("the repeat of %v: %v %s, was %v", key, err, got.Order.OrderNo, no)
					}
					return true
				})
			}
		}
	})
}

// A limit that counts orders which hold nothing any more refuses an honest buyer for ever: what is cancelled, timed out
// or paid back is his to buy again, and what he has paid for is not.
func TestUnitIsFreeAgain(t *testing.T) {
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		for name, c := range map[string]struct {
			end  func(sku string)
			free bool
		}{
			"kept": {func(sku string) { f.PlaceOne(t, sku, sku, 1) }, false},
			"paid": {func(sku string) { f.PaidOne(t, sku, sku, 1) }, false},
			"cancelled": {func(sku string) {
				if _, err := f.Cancel(t.Context(), cancel(f.PlaceOne(t, sku, sku, 1).OrderNo)); err != nil {
					t.Fatal(err)
				}
			}, true},
			"timed out": {func(sku string) {
				o := f.PlaceOne(t, sku, sku, 1)
				f.Clock.Advance(31 * time.Minute)
				if err := f.Expire(t.Context(), o.OrderNo, ordertest.Scheduler); err != nil {
					t.Fatal(err)
				}
			}, true},
			"paid back": {func(sku string) {
				r := f.MustAsk(t, ordertest.Ask(f.PaidOne(t, sku, sku, 1).OrderNo, "back", 0))
				f.MustLookAtRefund(t, r.OutRefundNo)
				f.MustSettleRefund(t, f.WeChat.EndRefund(r.OutRefundNo, payment.RefundSuccess))
			}, true},
		} {
			sku := "sku-" + fmt.Sprintf("%x", name)
			f.SKU(t, sku, 10)
			limitSale(t, f, sku, "", 1)
			c.end(sku)
			if met := limitMet(t, f, units(sku+"-again", stock.Line{SkuID: sku, Quantity: 1})); met == c.free {
				t.Errorf("%s: the limit is met: %t", name, met)
			}
			slotsAreUnits(t, f.DB, sku)
			if !limitMet(t, f, units(sku+"-more", stock.Line{SkuID: sku, Quantity: 1})) {
				t.Errorf("%s: two units, and one is allowed", name)
			}
			slotsAreUnits(t, f.DB, sku)
		}
	})
}

// Money that comes late revives its order, and whoever has bought another unit meanwhile would have one too many.
func TestLateMoneyKeepsTheLimit(t *testing.T) {
	for name, c := range map[string]struct {
		bought bool // another unit, before the money
		want   order.State
	}{"bought again": {true, order.StateLate}, "nothing else": {false, order.StatePaid}} {
		t.Run(name, func(t *testing.T) {
			eachWith(t, reviving, func(t *testing.T, f *ordertest.Fixture) {
				f.SKU(t, "hot", 10)
				limitSale(t, f, "hot", "", 1)
				o := f.PlaceOne(t, "first", "hot", 1)
				out := f.Prepaid(t, o.OrderNo)
				f.Clock.Advance(31 * time.Minute)
				if err := f.Expire(t.Context(), o.OrderNo, ordertest.Scheduler); err != nil {
					t.Fatal(err)
				}
				if c.bought {
					f.PlaceOne(t, "second", "hot", 1)
				}
				trade, err := f.WeChat.Pay(out, true)
				if err != nil {
					t.Fatal(err)
				}
				settled(t, f, trade)
				if s := f.State(t, o.OrderNo); s != c.want {
					t.Errorf("%s, want %s", s, c.want)
				}
				if !limitMet(t, f, units("third", stock.Line{SkuID: "hot", Quantity: 1})) {
					t.Error("one unit is allowed, and there is a second one")
				}
				slotsAreUnits(t, f.DB, "hot")
				if c.want == order.StateLate {
					no := "R" + trade.TransactionID
					f.MustLookAtRefund(t, no)
					f.MustSettleRefund(t, f.WeChat.EndRefund(no, payment.RefundSuccess))
				}
			})
		})
	}
}

// The SKUs of a sale are limited together, in one cart or in several; where they have limits of their own, the smallest
// of the cart counts, or a buyer would name the generous one first.
func TestSKUsOfASaleCountTogether(t *testing.T) {
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		line := func(sku string, n int64) stock.Line { return stock.Line{SkuID: sku, Quantity: n} }
		for _, sku := range []string{"a-two", "b-two", "c-five", "d-one", "z-free"} {
			f.SKU(t, sku, 100)
		}
		limitSale(t, f, "a-two", "sale", 2)
		limitSale(t, f, "b-two", "sale", 2)
		limitSale(t, f, "c-five", "mixed", 5)
		limitSale(t, f, "d-one", "mixed", 1)
		for i, c := range []struct {
			lines []stock.Line
			met   bool
		}{
			{[]stock.Line{line("a-two", 2), line("b-two", 1)}, true},
			{[]stock.Line{line("a-two", 1), line("z-free", 9)}, false},
			{[]stock.Line{line("b-two", 2)}, true},
			{[]stock.Line{line("b-two", 1)}, false},
			{[]stock.Line{line("z-free", 1), line("a-two", 1)}, true},
			{[]stock.Line{line("z-free", 90)}, false},

			{[]stock.Line{line("c-five", 1), line("d-one", 1)}, true},
			{[]stock.Line{line("d-one", 1), line("c-five", 1)}, true},
			{[]stock.Line{line("c-five", 1)}, false},
			{[]stock.Line{line("d-one", 1)}, true},
			{[]stock.Line{line("c-five", 5)}, true},
			{[]stock.Line{line("c-five", 4)}, false},
		} {
			if met := limitMet(t, f, units(fmt.Sprint("k", i), c.lines...)); met != c.met {
				t.Errorf("%d: %v: the limit is met: %t", i, c.lines, met)
			}
		}
		slotsAreUnits(t, f.DB, "sale")
		slotsAreUnits(t, f.DB, "mixed")
	})
}

// A limit that was lowered would count only the first units of those who have more, and sell them one again for each
// that they give back.
func TestLoweredLimitCountsWhatIsHeld(t *testing.T) {
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "hot", 100)
		limitSale(t, f, "hot", "", 3)
		var nos []string
		for i := range 3 {
			nos = append(nos, f.PlaceOne(t, fmt.Sprint("k", i), "hot", 1).OrderNo)
		}
		limitSale(t, f, "hot", "", 2)
		again := 0
		next := func() bool {
			again++
			return limitMet(t, f, units(fmt.Sprint("again", again), stock.Line{SkuID: "hot", Quantity: 1}))
		}
		for i, free := range []bool{false, true} { // three held, then two, then one
			if !next() {
				t.Errorf("after %d came back: one above the limit", i)
			}
			if _, err := f.Cancel(t.Context(), cancel(nos[i])); err != nil {
				t.Fatal(err)
			}
			if met := next(); met == free {
				t.Errorf("%d came back of three, two are allowed: the limit is met: %t", i+1, met)
			}
			slotsAreUnits(t, f.DB, "hot")
		}
	})
}
