package reconcile_test

import (
	"bytes"
	"strings"
	"testing"

	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/payment/reconcile"
)

// Money of another business under the same merchant number is no alarm and no 长款: a payment code that was reversed,
// another shop's app, a partner's trade, a number that is not made here. It is counted and summed, and hides nothing
// of ours.
func TestOtherBusinessOfTheMerchantIsNoDifference(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		paid := d.paid(t)
		_, misplaced := d.unheard(t) // under an app id that is not configured, and a number that was sent from here
		_, missed := d.unheard(t)
		till := billRow{at: noon, transaction: "4266", trade: "TILL-1-20261120-7", amount: 1200, kind: "MICROPAY"}
		reversed, shop, partner, back, lost := till, till, till, till, payRow(misplaced)
		reversed.state = "REVOKED"
		shop.transaction, shop.trade, shop.app, shop.kind = "4267", nobodys, "wxother", ""
		partner.transaction, partner.trade, partner.mchID, partner.sub = "4268", "P1", "1700000001", ordertest.MchID
		back.refundID, back.refundNo, back.status, back.amount = "50377", "BACK1", "SUCCESS", 300
		lost.app = "wxother"
		d.bills.bills[day] = billOf(till, payRow(paid), reversed, shop, partner, back, lost, payRow(missed))
		res := d.run(t, day)
		if res.Payments.Other != (reconcile.Sum{Count: 4, Fen: 4800}) ||
			res.Refunds.Other != (reconcile.Sum{Count: 1, Fen: 300}) || res.Healed != 2 {
			t.Errorf("%+v %+v, healed %d", res.Payments, res.Refunds, res.Healed)
		}
		for key, x := range d.diffs(t, day) {
			if x.OrderNo == "" || strings.HasPrefix(key, "DUPLICATE") {
				t.Errorf("other business alarms: %s", key)
			}
		}
		var text bytes.Buffer
		if err := reconcile.WriteText(&text, res); err != nil || !strings.Contains(text.String(), "其他业务") {
			t.Errorf("%s %v", &text, err)
		}
	})
}

// What is ours by our own rows is ours, whatever the bill says of app id and number: a payment that is held, a second
// row of it, and its refund on the merchant platform.
func TestAHeldPaymentOfAnotherAppIsOurs(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		held := payment.Trade{OutTradeNo: "TILL-9", TransactionID: "4299", State: payment.TradeSuccess, Total: 500,
			PayerTotal: payment.Said(500), Currency: payment.CNY, AppID: "wxother", MchID: ordertest.MchID,
			TradeType: "NATIVE", SuccessTime: noon}
		if _, err := d.Settle(t.Context(), held, ordertest.Notified); err != nil {
			t.Fatal(err)
		}
		one := payRow(held)
		one.app = "wxother"
		back := one
		back.refundID, back.refundNo, back.status, back.amount = "50399", "BYHAND9", "SUCCESS", 500
		d.bills.bills[day] = billOf(one, one, back)
		d.run(t, day)
		found := d.diffs(t, day)
		for _, want := range []string{"STATE_MISMATCH 4299", "DUPLICATE_PAYMENT 4299", "REFUND_BILL_ONLY BYHAND9"} {
			if found[want].Status != reconcile.StatusOpen {
				t.Errorf("%s is hidden: %v", want, found)
			}
		}
	})
}
