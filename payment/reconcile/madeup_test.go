package reconcile_test

import (
	"testing"
	"time"

	"orderd/order"
	"orderd/payment"
	"orderd/payment/reconcile"
)

// One person gives a made-up file in which a refund that is under way has SUCCESS. WeChat Pay, asked, says PROCESSING:
// nothing is healed. Then WeChat Pay's own bill says FAIL, and the made-up word is what is recorded.
func TestAMadeUpFileSpeaksForTheSignedBillOfARefund(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		p := d.paid(t)
		r := d.refunded(t, p, 100, payment.RefundProcessing)
		d.Clock.Set(noon.Add(24 * time.Hour))
		d.give(t, fin, billOf(payRow(p), refundRow(r, "SUCCESS")))
		if s := d.RefundState(t, r.OutRefundNo); s != order.RefundStateProcessing {
			t.Fatal(s)
		}
		d.WeChat.EndRefund(r.OutRefundNo, payment.RefundClosed)
		d.bills.bills[day] = billOf(payRow(p), refundRow(r, "FAIL"))
		d.run(t, day)
		if s := d.RefundState(t, r.OutRefundNo); s == order.RefundStateSucceeded {
			t.Errorf("WeChat Pay has closed it and the buyer has nothing: %s", s)
		}
	})
}

// One person gives a file with a payment that nobody has heard of, under the number of another order. WeChat Pay, asked
// about that one, says no. Then the signed bill has the payment, and it is booked to the order of the file.
func TestAMadeUpFileGivesAPaymentToAnotherOrder(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		_, trade := d.unheard(t)
		thief := d.PlaceOne(t, "thief", "mug", 1)
		out := d.Prepaid(t, thief.OrderNo)
		row := payRow(trade)
		row.trade = out
		d.Clock.Advance(time.Minute)
		d.give(t, fin, billOf(row)) // of today
		if s := d.State(t, thief.OrderNo); s == order.StatePaid {
			t.Fatal(s)
		}
		d.bills.bills[day] = billOf(payRow(trade))
		d.Clock.Advance(time.Minute)
		d.run(t, day)
		if s := d.State(t, thief.OrderNo); s == order.StatePaid {
			t.Errorf("paid with another's money: %s", s)
		}
		if s := d.State(t, trade.OutTradeNo[:26]); s != order.StatePaid {
			t.Errorf("who paid has nothing: %s", s)
		}
	})
}

// One person gives a file in which a refund that was made elsewhere is of another payment. The signed bill has it
// right, and it counts against the payment of the file.
func TestAMadeUpFileMovesARefundElsewhereToAnotherPayment(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		a, b := d.paid(t), d.paid(t)
		w, err := d.WeChat.Refund(t.Context(), payment.RefundRequest{OutRefundNo: "PLATFORM1",
			TransactionID: a.TransactionID, Amount: 100, Total: a.Total})
		if err != nil {
			t.Fatal(err)
		}
		if w.CreateTime.IsZero() {
			w.CreateTime = noon
		}
		w.OutTradeNo = a.OutTradeNo
		right := refundRow(w, "SUCCESS")
		wrong := right
		wrong.transaction, wrong.trade = b.TransactionID, b.OutTradeNo
		d.Clock.Set(noon.Add(24 * time.Hour))
		d.give(t, fin, billOf(payRow(a), payRow(b), wrong))
		d.bills.bills[day] = billOf(payRow(a), payRow(b), right)
		d.run(t, day)
		held, err := d.FindRefund(t.Context(), "PLATFORM1")
		if err != nil || held.TransactionID != a.TransactionID {
			t.Errorf("it counts against %s, and is of %s: %v", held.TransactionID, a.TransactionID, err)
		}
	})
}

// A difference of a made-up file is written off by two people, who believe the file. The signed bill has the same
// number and amount, of an order of ours: it is never recorded.
func TestAMadeUpFileHidesAPaymentFromTheSignedBill(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		_, trade := d.unheard(t)
		row := payRow(trade)
		row.trade = nobodys
		d.Clock.Set(noon.Add(24 * time.Hour))
		d.give(t, fin, billOf(row))
		id := d.diffs(t, day)["BILL_ONLY "+trade.TransactionID].ID
		for _, who := range []reconcile.Cause{fin, fin2} {
			if _, err := d.Resolve(t.Context(), reconcile.Resolve{ID: id, Action: reconcile.WriteOff,
				Reason: "not ours", Cause: who}); err != nil {
				t.Fatal(err)
			}
		}
		d.bills.bills[day] = billOf(payRow(trade))
		res := d.run(t, day)
		if s := d.State(t, trade.OutTradeNo[:26]); s != order.StatePaid && res.Open == 0 {
			t.Errorf("who paid has nothing, and nobody is told: %s, %+v", s, res)
		}
	})
}
