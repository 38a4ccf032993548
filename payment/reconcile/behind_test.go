package reconcile_test

import (
	"testing"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/payment/reconcile"
)

// A day that is compared with a copy of our books that lags behind misses payments that are there: they are healed
// again, or alarm as money that nobody knows, and what a person resolves is not found. A day is held against the side
// that writes.
func TestBooksAreThoseThatAreWritten(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		empty := sqldbtest.SQLite
		if db.Engine() == sqldb.MySQL {
			empty = sqldbtest.MariaDB
		}
		d := newDesk(t, db.ShowingFrom(empty(t)))
		known := d.paid(t)
		o, missed := d.unheard(t)
		off := payRow(d.paid(t))
		off.amount++
		d.bills.bills[day] = billOf(payRow(known), payRow(missed), off)
		for i := range 2 {
			res := d.run(t, day)
			if res.Open != 1 || res.Healed != 1 || d.State(t, o.OrderNo) != order.StatePaid {
				t.Errorf("run %d: %+v, order %s", i+1, res, d.State(t, o.OrderNo))
			}
		}
		for _, x := range d.diffs(t, day) {
			if x.Status != reconcile.StatusOpen {
				continue
			}
			if _, err := d.Resolve(t.Context(), reconcile.Resolve{ID: x.ID, Action: reconcile.WriteOff,
				Reason: "rounding", Cause: fin}); err != nil {
				t.Error(err)
			}
		}
	})
}
