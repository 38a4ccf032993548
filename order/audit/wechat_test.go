package audit_test

import (
	"fmt"
	"strings"
	"testing"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order/audit"
	"orderd/order/ordertest"
	"orderd/payment"
)

// Verifying with WeChat Pay read the whole table of payments for every attempt: with a million orders it never ended.
func TestVerifyWeChatReadsByIndex(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.New(t, db)
		f.SKU(t, "mug", 100)
		last := ""
		for i := range 20 {
			last = f.PaidOne(t, fmt.Sprint("r", i), "mug", 1).OrderNo + "-01"
		}
		if steps := sqldbtest.ReadsByIndex(t, db, audit.AttemptQuery, last); steps < 3 {
			t.Error(steps, "steps")
		}
	})
}

// An attempt that is closed here and open there is a second trade that can be paid, also while its order is open.
func TestVerifyWeChatFindsAnOpenTradeOfAClosedAttempt(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		w := newWorld(t, db)
		trade, _ := w.WeChat.Trade(w.pending + "-01")
		trade.State = payment.TradeNotPay
		w.WeChat.Put(trade)
		r, err := w.Audit.VerifyWeChat(t.Context(), ordertest.Began(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if b := r.Broken(); len(b) != 1 || b[0].ID != "wechat.closed_takes_nothing" || b[0].Count != 1 ||
			!strings.Contains(b[0].Violations[0], w.pending+"-01") {
			t.Errorf("%+v", b)
		}
	})
}
