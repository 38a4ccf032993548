package reconcile_test

import (
	"testing"
	"time"

	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/payment/reconcile"
)

// whileStored runs a day, and does something once while its bill, which was read, is being stored.
func (d *desk) whileStored(t *testing.T, act func() error) reconcile.Result {
	t.Helper()
	acted := false
	res, err := d.Run(t.Context(), reconcile.RunRequest{Date: day, Progress: func(stage string, _, _ int64) {
		if stage != "storing" || acted {
			return
		}
		acted = true
		time.Sleep(200 * time.Millisecond) // a run that reads our side beside the bill has read it by now
		if err := act(); err != nil {
			t.Error(err)
		}
	}})
	if err != nil || !acted {
		t.Fatal(acted, err)
	}
	return res
}

// A bill of a million rows is read for seconds, in which notifications come and people act. What a run compares must be
// what is there afterwards: else it undoes what a person ended, and keeps differences that are none.
func TestWhatHappensWhileTheBillIsReadIsSeen(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		odd := d.PlaceOne(t, "odd", "mug", 1)
		wrong := payment.Trade{OutTradeNo: odd.OrderNo + "-01", State: payment.TradeSuccess, TransactionID: "4266",
			AppID: ordertest.AppID, MchID: ordertest.MchID, TradeType: "NATIVE", Total: 99,
			PayerTotal: payment.Said(99), Currency: payment.CNY, SuccessTime: noon}
		d.WeChat.Put(wrong)
		_, new := d.unheard(t)
		paid := d.paid(t)
		refund := d.refunded(t, paid, 50, payment.RefundProcessing)
		d.Clock.Set(midnight.Add(36 * time.Hour))

		d.bills.bills[day] = billOf(payRow(wrong))
		d.run(t, day)
		held := d.diffs(t, day)["STATE_MISMATCH 4266"]
		if held.Status != reconcile.StatusOpen {
			t.Fatalf("%+v", held)
		}
		d.whileStored(t, func() error { // a person ends it
			_, err := d.Resolve(t.Context(), reconcile.Resolve{ID: held.ID, Action: reconcile.RefundPayment,
				Reason: "seen", Cause: fin})
			return err
		})
		if x := d.diffs(t, day)["STATE_MISMATCH 4266"]; x.Status != reconcile.StatusResolved || x.ResolvedBy != "fin" ||
			x.ResolvedWhy != "seen" {
			t.Errorf("what a person ended: %s by %q: %q, ours %s", x.Status, x.ResolvedBy, x.ResolvedWhy, x.OursState)
		}

		d.bills.bills[day] = billOf(payRow(wrong), payRow(paid), payRow(new), refundRow(refund, "SUCCESS"))
		res := d.whileStored(t, func() error { // WeChat Pay tells of both
			_, err := d.SettleRefund(t.Context(), d.WeChat.EndRefund(refund.OutRefundNo, payment.RefundSuccess),
				ordertest.Notified)
			if err == nil {
				_, err = d.Settle(t.Context(), new, ordertest.Notified)
			}
			return err
		})
		if res.Open != 0 || res.Payments.Matched != 3 || res.Payments.AcrossBill.Count != 0 {
			t.Errorf("what was told meanwhile: %+v", res)
		}
	})
}
