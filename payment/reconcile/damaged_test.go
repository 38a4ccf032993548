package reconcile_test

import (
	"context"
	"strings"
	"testing"

	"orderd/migrations/sqldb"
	"orderd/payment"
	"orderd/payment/reconcile"
)

// hand is what somebody with the database's prompt does.
func (d *desk) hand(t *testing.T, statement string, args ...any) {
	t.Helper()
	if err := d.DB.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		n, err := tx.Update(ctx, statement, args...)
		if err == nil && n != 1 {
			t.Errorf("%s: %d rows", statement, n)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// One difference whose facts nobody can read hid all others, and verify saw nothing. It is shown as such, the day is
// reconciled, and the row is written anew from the bill when the bill still has it.
func TestOneDamagedDifferenceHidesNoOther(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		short := d.paid(t)
		d.bills.bills[day] = billOf(revoked("4277", 5))
		d.run(t, day)
		id := d.diffs(t, day)["LOCAL_ONLY "+short.TransactionID].ID
		d.hand(t, `UPDATE differences SET facts = '{' WHERE id = ?`, id)
		if r, err := d.Audit.Verify(t.Context(), nil); err != nil || len(r.Broken()) != 1 ||
			r.Broken()[0].ID != "books.differences" {
			t.Errorf("verify: %v, %v", r.Broken(), err)
		}
		all, err := d.Differences(t.Context(), reconcile.DifferenceFilter{Limit: 100})
		if err != nil || len(all) != 2 {
			t.Fatalf("the list: %d, %v", len(all), err)
		}
		for _, x := range all {
			if (x.FactsProblem != "") != (x.ID == id) {
				t.Errorf("%s %s: %q", x.Kind, x.Ref, x.FactsProblem)
			}
		}
		other, trade := d.unheard(t)
		d.bills.bills[day] = billOf(payRow(trade), revoked("4277", 5))
		d.run(t, day)
		if s := d.State(t, other.OrderNo); s != "paid" {
			t.Errorf("the payment of another order: it is %s", s)
		}
		if x, err := d.Difference(t.Context(), id); err != nil || x.FactsProblem != "" {
			t.Errorf("after the run: %q, %v", x.FactsProblem, err)
		}
		d.AssertVerified(t)
	})
}

// One that can be healed ended every run of its day, before the others were healed.
func TestOneDamagedDifferenceEndsNoDay(t *testing.T) {
	for name, facts := range map[string]string{"no JSON": "{", "of other types": `{"currency":1}`} {
		t.Run(name, func(t *testing.T) {
			eachDesk(t, func(t *testing.T, d *desk) {
				first, trade := d.unheard(t)
				d.bills.bills[day] = billOf(payRow(trade))
				// The database is away for a while.
				d.shop.before = func(string) error { return context.DeadlineExceeded }
				d.run(t, day)
				d.shop.before = nil
				d.hand(t, `UPDATE differences SET facts = ? WHERE ref = ?`, facts, trade.TransactionID)
				other, second := d.unheard(t)
				file := billOf(payRow(trade), payRow(second))
				d.give(t, fin, file)
				if a, b := d.State(t, first.OrderNo), d.State(t, other.OrderNo); a != "pending" || b != "paid" {
					t.Errorf("by a file that writes nothing anew: %s and %s", a, b)
				}
				d.bills.bills[day] = file
				d.run(t, day)
				if a := d.State(t, first.OrderNo); a != "paid" {
					t.Errorf("by the bill of WeChat Pay: %s", a)
				}
			})
		})
	}
}

// A day whose result nobody can read is shown as such, beside the others.
func TestOneDamagedDayHidesNoOther(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		d.paid(t)
		d.bills.bills[day] = billOf()
		d.run(t, day)
		d.hand(t, `UPDATE reconciliations SET result = '{'`)
		all, err := d.List(t.Context(), "", 10)
		if err != nil || len(all) != 1 || all[0].Result != nil || !strings.Contains(all[0].Problem, "cannot be read") {
			t.Errorf("%+v, %v", all, err)
		}
		if _, err := d.Show(t.Context(), reconcile.ID(day, payment.BillAll)); err != nil {
			t.Error(err)
		}
		d.run(t, day)
		if s := d.shown(t); s.Result == nil || s.Problem != "" {
			t.Errorf("run again: %+v", s)
		}
	})
}

// What the bill says of a difference is what a run heals by. A hand on the row made a refund that WeChat Pay has closed
// one that has paid, in the name of the signed bill, which says FAIL.
func TestAHandOnADifferenceHealsNothing(t *testing.T) {
	for name, hand := range map[string]string{
		"the state":  `UPDATE differences SET bill_state = 'SUCCESS' WHERE kind = 'REFUND_STATE_MISMATCH'`,
		"the refund": `UPDATE differences SET bill_state = 'SUCCESS', ref = 'x' WHERE kind = 'REFUND_STATE_MISMATCH'`,
		"the time": `UPDATE differences SET bill_state = 'SUCCESS', facts = '{"at":"2020-01-01T00:00:00+08:00"}' ` +
			`WHERE kind = 'REFUND_STATE_MISMATCH'`,
	} {
		t.Run(name, func(t *testing.T) {
			eachDesk(t, func(t *testing.T, d *desk) {
				trade := d.paid(t)
				r := d.refunded(t, trade, 50, payment.RefundProcessing)
				d.bills.bills[day] = billOf(payRow(trade), refundRow(r, "FAIL"))
				d.WeChat.Before = func(op, _ string) error {
					if op == "refund_query" {
						return context.DeadlineExceeded
					}
					return nil
				}
				d.run(t, day)
				before := d.diffs(t, day)
				d.hand(t, hand)
				d.run(t, day)
				if s := d.RefundState(t, r.OutRefundNo); s != "processing" {
					t.Errorf("the signed bill says FAIL, WeChat Pay was not asked, and it is %s", s)
				}
				after := d.diffs(t, day)
				for key, was := range before {
					if is := after[key]; is != was {
						t.Errorf("%+v\nbecame\n%+v", was, is)
					}
				}
				d.WeChat.Before = nil
				d.WeChat.EndRefund(r.OutRefundNo, payment.RefundClosed)
				d.run(t, day)
				if s := d.RefundState(t, r.OutRefundNo); s != "closed" {
					t.Errorf("asked, it is %s", s)
				}
			})
		})
	}
}
