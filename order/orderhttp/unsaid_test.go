package orderhttp

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/payment"
)

// What WeChat Pay did not say is not 0: a buyer was shown to have paid nothing, and a refund that was made elsewhere to
// be of a payment of nothing.
func TestWhatIsNotSaidIsAbsent(t *testing.T) {
	eachShop(t, func(t *testing.T, s *shop) {
		shown := func(no string) string {
			t.Helper()
			rec := s.ask(t, "c", "GET", "/v1/orders/"+no, "")
			if rec.Code != 200 || !strings.Contains(rec.Body.String(), `"transaction_id"`) {
				t.Fatalf("%d %s", rec.Code, rec.Body)
			}
			return rec.Body.String()
		}
		for _, c := range []struct {
			name string
			said any // payer_total in the notification; nil: absent
			want string
		}{
			{"absent", nil, `"SUCCESS","amount":{"total":100,"currency":"CNY"}`},
			{"nothing", 0, `"SUCCESS","amount":{"total":100,"payer_total":0,"currency":"CNY"}`},
			{"less", 99, `"SUCCESS","amount":{"total":100,"payer_total":99,"currency":"CNY"}`},
		} {
			o := s.place(t, "c", c.name, `{"items":[{"sku_id":"1001","quantity":1}]}`)
			trade, err := s.WeChat.Pay(s.Prepaid(t, o.OrderNo), false)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := json.Marshal(trade)
			if err != nil {
				t.Fatal(err)
			}
			var fields map[string]any
			if err := json.Unmarshal(raw, &fields); err != nil {
				t.Fatal(err)
			}
			fields["PayerTotal"] = c.said
			if raw, err = json.Marshal(fields); err != nil {
				t.Fatal(err)
			}
			if rec := post(s.notify, string(raw)); rec.Code != 204 {
				t.Fatalf("%s: %d %s", c.name, rec.Code, rec.Body)
			}
			if got := shown(o.OrderNo); !strings.Contains(got, c.want) {
				t.Errorf("%s: %s is not in %s", c.name, c.want, got)
			}
			if c.said != nil {
				continue
			}
			elsewhere := payment.Refund{OutRefundNo: "byhand1", RefundID: "5077", TransactionID: trade.TransactionID,
				OutTradeNo: trade.OutTradeNo, Status: payment.RefundSuccess, Amount: 5, MchID: trade.MchID,
				SuccessTime: s.Clock.Now()}
			if code := s.refundNotified(t, elsewhere); code != 204 {
				t.Fatalf("refund: %d", code)
			}
			if got := shown(o.OrderNo); !strings.Contains(got, `"amount":{"refund":5,"currency":"CNY"}`) {
				t.Errorf("a refund of an unknown total: %s", got)
			}
		}
	})
}

// The programs before this one wrote 0 for what they did not know: their rows must not be read as said.
func TestRowsOfTheProgramBefore(t *testing.T) {
	eachShop(t, func(t *testing.T, s *shop) {
		o := s.place(t, "c", "k", `{"items":[{"sku_id":"1001","quantity":1}]}`)
		trade, err := s.WeChat.Pay(s.Prepaid(t, o.OrderNo), false)
		if err != nil {
			t.Fatal(err)
		}
		s.Clock.Advance(time.Minute)
		if code := s.notified(t, trade); code != 204 {
			t.Fatal(code)
		}
		received := s.Clock.Now()
		for _, c := range []struct{ set, want string }{
			{"payer_fen = 99", `"payer_total":99`},
			{"payer_fen = 0", `"SUCCESS","amount":{"total":100,"currency":"CNY"}`},
			{"paid_at = 0", `"success_time":"` + rfc3339(received) + `"`},
			{"paid_at = received_at", `"success_time":"` + rfc3339(received) + `"`}, // as verify wants it
		} {
			err := s.DB.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
				_, err := tx.Update(ctx, "UPDATE payments SET payer_said = 0, "+c.set)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if got := s.ask(t, "c", "GET", "/v1/orders/"+o.OrderNo, "").Body.String(); !strings.Contains(got, c.want) {
				t.Errorf("%s: %s is not in %s", c.set, c.want, got)
			}
		}
	})
}
