package order_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
)

// What a single order may not do, an order of a page may not do either: an order whose last event says "paid" while
// its row says "pending" was once refused alone, yet closed by a page, its stock returned, without an alarm. The others
// of its page must not wait for it.
func TestPageAsserts(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		g := newGuarded(t, db)
		nos := placeMany(t, g.Fixture, 40)
		broken := []string{nos[3], nos[17], nos[39]}
		for _, no := range nos {
			g.Prepaid(t, no)
		}
		spoilLastEvents(t, db, broken)

		_, err := g.Cancel(t.Context(), cancel(nos[3]))
		g.fired["events.last_is_state"]++
		g.wantBroken(t, err, "events.last_is_state", nos[3])
		g.log.Reset()

		g.Clock.Advance(time.Hour)
		page := due(t, g.Fixture, order.StatePending)
		if len(page) != len(nos) {
			t.Fatalf("%d orders are due, %d were placed", len(page), len(nos))
		}
		errs := g.ExpireAll(t.Context(), page, swept, nil)
		for i, d := range page {
			state := g.State(t, d.Key)
			if !slices.Contains(broken, d.Key) {
				if errs[i] != nil || state != order.StateClosed {
					t.Errorf("%s is sound: %s, %v", d.Key, state, errs[i])
				}
				continue
			}
			var b *order.BrokenError
			if !errors.As(errs[i], &b) || b.OrderNo != d.Key || b.Invariant != "events.last_is_state" ||
				state != order.StatePending {
				t.Errorf("%s is broken: %s, %v", d.Key, state, errs[i])
			}
			g.wantAlarm(t, "events.last_is_state", d.Key)
		}
		g.wantCounted(t, "events.last_is_state")
		if got := g.Available(t, "mug"); got != 1000-int64(len(broken)) {
			t.Errorf("%d on the shelf, %d are held by broken orders", got, len(broken))
		}
	})
}

// The same where a page ends: what WeChat Pay has proven closed is asserted before its stock comes back.
func TestPageAssertsTheEnd(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		g := newGuarded(t, db)
		nos := placeMany(t, g.Fixture, 40)
		g.Clock.Advance(time.Hour)
		claims, errs := g.ClaimDue(t.Context(), due(t, g.Fixture, order.StatePending), swept)
		if err := errors.Join(errs...); err != nil || len(claims) != len(nos) {
			t.Fatal(len(claims), err)
		}
		wrongEvent, wrongStock := nos[1], nos[30]
		spoilLastEvents(t, db, []string{wrongEvent})
		exec(t, db, "UPDATE stock_flows SET delta = -2 WHERE order_no = '"+wrongStock+"'")
		want := map[string]string{wrongEvent: "events.last_is_state", wrongStock: "stock.deducted_once"}
		for i, err := range g.CloseClaimed(t.Context(), claims, swept) {
			no, state := claims[i].Key, g.State(t, claims[i].Key)
			if want[no] == "" {
				if err != nil || state != order.StateClosed {
					t.Errorf("%s is sound: %s, %v", no, state, err)
				}
				continue
			}
			var b *order.BrokenError
			if !errors.As(err, &b) || b.OrderNo != no || b.Invariant != want[no] || state != order.StateClosing {
				t.Errorf("%s breaks %s: %s, %v", no, want[no], state, err)
			}
			g.wantAlarm(t, want[no], no)
		}
		g.wantCounted(t, "events.last_is_state", "stock.deducted_once")
		if got := g.Available(t, "mug"); got != 998 {
			t.Errorf("%d on the shelf", got)
		}
	})
}

// A mistake in the writer itself, made for one order of a page, must not be written for any, nor stop the others.
func TestPageIsSpoiled(t *testing.T) {
	for _, how := range []string{"a gap between events", "a move that nobody allows", "a state without an event",
		"stock of a sold order"} {
		t.Run(how, func(t *testing.T) {
			sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
				g := newGuarded(t, db)
				nos := placeMany(t, g.Fixture, 20)
				g.Clock.Advance(time.Hour)
				page := due(t, g.Fixture, order.StatePending)
				together := 0
				g.Spoil(nos[7], how, func(orders int) { together = max(together, orders) })
				_, errs := g.ClaimDue(t.Context(), page, swept)
				for i, d := range page {
					spoiled := d.Key == nos[7]
					if errors.As(errs[i], new(*order.BrokenError)) != spoiled ||
						(g.State(t, d.Key) == order.StatePending) != spoiled {
						t.Errorf("%s, spoiled %v: %s, %v", d.Key, spoiled, g.State(t, d.Key), errs[i])
					}
				}
				if together != len(page) {
					t.Errorf("a page of %d was decided %d at a time", len(page), together)
				}
			})
		})
	}
}

// spoilLastEvents makes the last event of orders say "paid".
func spoilLastEvents(t *testing.T, db *sqldb.DB, orderNos []string) {
	t.Helper()
	for _, no := range orderNos {
		exec(t, db, "UPDATE order_events SET to_state = 'paid' WHERE order_no = '"+no+"' AND seq = 2")
	}
}

// wantAlarm checks that an operator was told of the order, once, and the metric.
func (g *guarded) wantAlarm(t *testing.T, invariant, orderNo string) {
	t.Helper()
	g.fired[invariant]++
	told := 0
	for line := range strings.Lines(g.log.String()) {
		if strings.Contains(line, "invariant would be broken: "+invariant) && strings.Contains(line, orderNo) {
			told++
		}
	}
	if told != 1 {
		t.Errorf("an operator was told %d times of %s", told, orderNo)
	}
}

func (g *guarded) wantCounted(t *testing.T, invariants ...string) {
	t.Helper()
	for _, i := range invariants {
		if !g.metric(t, fmt.Sprintf("orderd_invariant_violations_total{invariant=%q} %d", i, g.fired[i])) {
			t.Errorf("the metric of %s is not %d", i, g.fired[i])
		}
	}
}

// A transaction whose time is up in the middle of a read gets rows that cannot be scanned. What such a row says, an
// order without a number, must not reach the assertions: they would end the process.
func TestReadsEndWithTheirContext(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.New(t, db)
		f.SKU(t, "mug", 1000)
		nos := placeMany(t, f, 200)
		for _, no := range nos {
			f.Prepaid(t, no)
		}
		rows := 0
		read := func(ctx context.Context) error {
			return db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
				return order.EachRow(ctx, tx, nos, func(no string) {
					if rows++; no == "" {
						t.Error("a row that could not be read was handed on")
					}
				})
			})
		}
		begin := time.Now()
		if err := read(t.Context()); err != nil || rows != 2*len(nos) {
			t.Fatalf("%d rows of %d orders: %v", rows, len(nos), err)
		}
		whole, cut := time.Since(begin), 0 // however slow the machine is
		for i := range 400 {
			ctx, cancel := context.WithTimeout(t.Context(), whole*time.Duration(i)/300)
			if err := read(ctx); err != nil {
				cut++
			}
			cancel()
		}
		if cut == 0 {
			t.Error("no read was cut off: nothing was tried")
		}
	})
}

// What nobody read is not believed: a page that somebody makes up, or that lacks what the rows are held against, must
// take nothing that is not due, and close nothing that is not closing.
func TestMadeUpPagesTakeNothing(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.New(t, db)
		f.SKU(t, "mug", 10)
		no := f.PlaceOne(t, "r1", "mug", 1).OrderNo
		f.Prepaid(t, no)
		for _, d := range []order.Due{
			{Key: no, State: order.StatePending},
			{Key: no, State: order.StatePending, Version: 1, At: f.Clock.Now()},
			{Key: no, State: order.StatePending, Version: 2, At: f.Clock.Now()},
			{Key: no, State: order.StateClosing, Version: 2, Tries: 1, At: f.Clock.Now()},
			{Key: no, State: order.StateClosing},
			{Key: "01JE4Z6F3V8Q2N5S7T9W1X3Y5Z", State: order.StatePending, Version: 1, At: f.Clock.Now()},
		} {
			claims, errs := f.ClaimDue(t.Context(), []order.Due{d}, swept)
			if len(claims) != 0 || errs[0] != nil || f.State(t, no) != order.StatePending {
				t.Errorf("%+v took %v, %v: %s", d, claims, errs, f.State(t, no))
			}
		}
		f.Clock.Advance(time.Hour)
		claims, _ := f.ClaimDue(t.Context(), []order.Due{{Key: no, State: order.StatePending}}, swept)
		if len(claims) != 1 {
			t.Errorf("the order is due, and %d turns were taken", len(claims))
		}
	})
}
