package order_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
)

// One refund whose row somebody else holds kept the refunds of all other orders waiting for it, as long as the table
// was small enough for the database to read it whole: every round of them took a second more.
func TestNeighboursOfALockedRefund(t *testing.T) {
	f := ordertest.NewUnverified(t, sqldbtest.MariaDB(t), func(c *order.Config) { byItself(c); c.Lanes = 1 })
	f.SKU(t, "mug", 1000)
	var nos []string
	for i := range 21 {
		no := f.PaidOne(t, fmt.Sprint("o", i), "mug", 1).OrderNo
		asked, err := f.AskRefund(t.Context(), ordertest.Ask(no, fmt.Sprint("r", i), 1))
		if err != nil {
			t.Fatal(err)
		}
		nos = append(nos, asked.Refund.OutRefundNo)
	}
	hold(t, f.DB, "UPDATE refunds SET problem = 'x' WHERE out_refund_no = '"+nos[0]+"'")
	for r, within := range []time.Duration{3 * time.Second, 900 * time.Millisecond, 900 * time.Millisecond} {
		errs, slowest := together(len(nos), func(i int) bool { return i > 0 }, func(i int) error {
			return f.Refund(t.Context(), nos[i], ordertest.Scheduler)
		})
		for i, err := range errs {
			if errors.Is(err, sqldb.ErrLocked) != (i == 0) || i > 0 && err != nil {
				t.Errorf("round %d, refund %d of 21: %v", r, i, err)
			}
		}
		t.Logf("round %d: the slowest neighbour took %s", r, slowest.Round(time.Millisecond))
		if slowest > within {
			t.Errorf("round %d: a neighbour waited %s for the refund of another", r, slowest)
		}
		f.Clock.Advance(time.Hour)
	}
}
