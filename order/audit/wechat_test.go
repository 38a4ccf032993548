package audit_test

import (
	"database/sql"
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
		explain := "EXPLAIN "
		if db.Engine() == sqldb.SQLite {
			explain = "EXPLAIN QUERY PLAN "
		}
		rows, err := db.QueryContext(t.Context(), explain+audit.AttemptQuery, last)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		names, err := rows.Columns()
		if err != nil {
			t.Fatal(err)
		}
		steps := 0
		for ; rows.Next(); steps++ {
			values, into := make([]sql.NullString, len(names)), make([]any, len(names))
			for i := range values {
				into[i] = &values[i]
			}
			if err := rows.Scan(into...); err != nil {
				t.Fatal(err)
			}
			for i, n := range names {
				v := values[i].String
				if (n == "type" && (v == "ALL" || v == "index")) || (n == "detail" && strings.HasPrefix(v, "SCAN")) {
					t.Errorf("the whole of a table is read: %v", values)
				}
			}
		}
		if steps < 3 || rows.Err() != nil {
			t.Error(steps, rows.Err())
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
