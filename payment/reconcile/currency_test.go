package reconcile_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/payment/reconcile"
)

// A row in Hong Kong dollars is not the payment in yuan of the same number, and its dollars are in no sum of yuan.
func TestAnotherCurrencyInTheBill(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		paid, right := d.paid(t), d.paid(t)
		back := d.refunded(t, paid, 100, payment.RefundSuccess)
		_, missed := d.unheard(t)
		till := billRow{at: noon, transaction: "4266", trade: "TILL-1-20261120-7", amount: 1200, kind: "MICROPAY"}
		rows := []billRow{payRow(paid), refundRow(back, "SUCCESS"), payRow(missed), till}
		for i := range rows {
			rows[i].currency = "HKD"
		}
		d.bills.bills[day] = billOf(append(rows, payRow(right))...)
		d.Clock.Set(midnight.Add(11 * time.Hour))
		res, found := d.run(t, day), d.diffs(t, day)
		differs := "AMOUNT_MISMATCH " + paid.TransactionID
		for key, is := range map[string]payment.Fen{differs: paid.Total,
			"REFUND_AMOUNT_MISMATCH " + back.OutRefundNo: back.Amount,
			"BILL_ONLY " + missed.TransactionID:          missed.Total,
		} {
			x := found[key]
			if x.Status != reconcile.StatusOpen || x.BillFen != 0 || x.Facts.Currency != "HKD" ||
				x.Facts.Foreign != is {
				t.Errorf("%s: %+v", key, x)
			}
		}
		if len(found) != 3 || res.Totals.Payments != 4 || res.Totals.PaidFen != right.Total ||
			res.Totals.RefundFen != 0 || res.Payments.BillFen != right.Total ||
			res.Payments.Other != (reconcile.Sum{Count: 1}) || res.Healed != 0 {
			t.Errorf("%+v, %d differences", res, len(found))
		}
		var text bytes.Buffer
		if err := reconcile.WriteCSV(&text, []reconcile.Difference{found[differs]}); err != nil ||
			!strings.Contains(text.String(), ","+paid.Total.String()+" HKD\n") {
			t.Errorf("%s %v", &text, err)
		}
		if s := d.State(t, missed.OutTradeNo[:26]); s == order.StatePaid {
			t.Errorf("dollars are booked as yuan: %s", s)
		}
	})
}

// The same of a row that is ours of the next day.
func TestAnotherCurrencyAcrossDays(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		d.Clock.Set(midnight.Add(time.Second))
		paid := d.paid(t)
		row := payRow(paid)
		row.at, row.currency = midnight.Add(-time.Second), "HKD"
		d.bills.bills[day] = billOf(row)
		d.Clock.Set(midnight.Add(11 * time.Hour))
		d.run(t, day)
		if x := d.diffs(t, day)["AMOUNT_MISMATCH "+paid.TransactionID]; x.Status != reconcile.StatusOpen {
			t.Errorf("%+v", d.diffs(t, day))
		}
	})
}

// What is held because it came in another currency goes back by its state, as before: an amount that differs could
// only be written off.
func TestAHeldPaymentInAnotherCurrencyCanGoBack(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		_, trade := d.unheard(t)
		trade.Currency = "HKD"
		if _, err := d.Settle(t.Context(), trade, ordertest.Notified); err != nil {
			t.Fatal(err)
		}
		row := payRow(trade)
		row.currency = "HKD"
		d.bills.bills[day] = billOf(row)
		res := d.run(t, day)
		if x := d.diffs(t, day)["STATE_MISMATCH "+trade.TransactionID]; x.Status != reconcile.StatusOpen ||
			res.Payments.BillFen != 0 {
			t.Errorf("%+v, %+v", d.diffs(t, day), res)
		}
	})
}

// A refund that the merchant platform made of a payment of ours, without a number of the merchant's, is found by
// WeChat's and left to people: nothing could be recorded by it.
func TestARefundWithoutANumberIsFoundByWeChats(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		paid := d.paid(t)
		back := refundRow(payment.Refund{OutTradeNo: paid.OutTradeNo, TransactionID: paid.TransactionID, Amount: 100,
			CreateTime: noon, RefundID: "50377"}, "SUCCESS")
		back.refundNo = " " // a refund, and no number of it
		d.bills.bills[day] = billOf(payRow(paid), back)
		d.run(t, day)
		x := d.diffs(t, day)["REFUND_BILL_ONLY 50377"]
		if x.Status != reconcile.StatusOpen || x.Facts.OutRefundNo != "" || x.BillFen != 100 {
			t.Errorf("%+v", d.diffs(t, day))
		}
	})
}
