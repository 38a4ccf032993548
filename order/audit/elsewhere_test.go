package audit_test

import (
	"fmt"
	"strings"
	"testing"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
)

// What went back elsewhere keeps the rest from going out by itself, and who asked may not approve: a hand that takes
// that away is found by the timeline.
func TestVerifyFindsHandsOnWhatWentBackElsewhere(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		w := newWorld(t, db)
		for i, key := range []string{"s1", "s2"} {
			o, err := w.Find(t.Context(), w.PaidOne(t, key, "mug", 2).OrderNo)
			if err != nil {
				t.Fatal(err)
			}
			r, err := w.WeChat.Refund(t.Context(), payment.RefundRequest{OutRefundNo: fmt.Sprint("PLATFORM", i+1),
				TransactionID: o.Payment.TransactionID, Amount: 100, Total: o.Payment.Total})
			if err != nil {
				t.Fatal(err)
			}
			r.MchID = ordertest.MchID
			if i == 0 {
				w.MustSettleRefund(t, r)
			} else if _, err := w.Sync(t.Context(), o.OrderNo, ordertest.Customer); err != nil {
				t.Fatal(err)
			}
		}
		ask := ordertest.Ask(w.PaidOne(t, "s3", "mug", 2).OrderNo, "two", 1)
		ask.CustomerID, ask.Cause = "", order.Cause{Actor: order.Actor{Type: order.ActorOperator, ID: "olga"},
			Type: "request", ID: "r"}
		w.MustAsk(t, ask)
		w.AssertVerified(t)
		for _, h := range []struct{ name, hand, check string }{
			{"called closed", "UPDATE refunds SET told = 'CLOSED' WHERE out_refund_no = 'PLATFORM1'", "refund.told"},
			{"lost", "DELETE FROM refunds WHERE out_refund_no = 'PLATFORM1'", "refund.told"},
			{"one fen", "UPDATE refunds SET amount_fen = 1 WHERE out_refund_no = 'PLATFORM1'", "refund.told"},
			{"another payment's", "UPDATE refunds SET transaction_id = 'x', order_no = '' WHERE out_refund_no = " +
				"'PLATFORM1'", "refund.told"},
			{"forgotten", "UPDATE payments SET refund_told = 0 WHERE refund_told > 0", "refund.told"},
			{"told in 2286", "UPDATE payments SET refund_told = " + never + " WHERE refund_told > 0", "money.when"},
			{"asked for by the customer", "UPDATE refunds SET requester_type = 'customer', requester_id = 'c' WHERE " +
				"requester_type = 'operator'", "refund.told"},
			{"calls that are no numbers", "UPDATE payment_attempts SET open_calls = '{\"a\":1}' WHERE out_trade_no " +
				"= '$pending-02'", "attempt.calls"},
		} {
			if n := w.broken(t, h.hand)[h.check]; n == 0 {
				t.Errorf("%s: %s finds nothing", h.name, h.check)
			}
		}
	})
}

// Of money that was held a part may have gone back elsewhere, so that its refund takes less than all. That must not
// hide a fen that nobody gives back, of that payment and of one that is owed whole.
func TestVerifyFindsHeldMoneyThatIsNotAllBack(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		w := newWorld(t, db)
		o := w.PlaceOne(t, "part", "mug", 3)
		trade, err := w.WeChat.Pay(w.Prepaid(t, o.OrderNo), false)
		if err != nil {
			t.Fatal(err)
		}
		trade.AppID = "wx_old"
		w.WeChat.Put(trade)
		if _, err := w.Settle(t.Context(), trade, ordertest.Notified); err != nil {
			t.Fatal(err)
		}
		if _, err := w.WeChat.Refund(t.Context(), payment.RefundRequest{OutRefundNo: "PLATFORM1",
			TransactionID: trade.TransactionID, Amount: 100, Total: trade.Total}); err != nil {
			t.Fatal(err)
		}
		w.MustSettleRefund(t, w.WeChat.EndRefund("PLATFORM1", payment.RefundSuccess))
		if err := w.RefundHeld(t.Context(), trade.TransactionID, ordertest.Finance); err != nil {
			t.Fatal(err)
		}
		w.AssertVerified(t)
		both := []string{"money.owed_back", "money.total"}
		fenLess := "UPDATE refunds SET amount_fen = amount_fen - 1 WHERE out_refund_no = 'R$'; " +
			"UPDATE payments SET refund_fen = refund_fen - 1 WHERE transaction_id = '$'"
		late := "SELECT transaction_id FROM payments WHERE order_no = '$late'"
		for _, h := range []struct {
			name, hand string
			checks     []string
		}{
			{"a fen less", strings.ReplaceAll(fenLess, "$", trade.TransactionID), both},
			{"the refund is gone", "DELETE FROM refunds WHERE out_refund_no = 'R" + trade.TransactionID + "'; " +
				"UPDATE payments SET refund_fen = 0 WHERE transaction_id = '" + trade.TransactionID + "'", both},
			{"what went elsewhere is gone", "DELETE FROM refunds WHERE out_refund_no = 'PLATFORM1'", both},
			{"it went nowhere", "UPDATE refunds SET told = 'CLOSED' WHERE out_refund_no = 'PLATFORM1'", both},
			{"late money, a part of it elsewhere", "UPDATE refunds SET amount_fen = amount_fen - 1 WHERE order_no = " +
				"'$late'; UPDATE payments SET refund_fen = refund_fen - 1 WHERE order_no = '$late'; " +
				"UPDATE refunds SET transaction_id = (" + late + ") WHERE out_refund_no = 'PLATFORM1'", both},
		} {
			found := w.broken(t, h.hand)
			for _, check := range h.checks {
				if found[check] == 0 {
					t.Errorf("%s: %s finds nothing", h.name, check)
				}
			}
		}
	})
}
