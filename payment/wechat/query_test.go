package wechat

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"orderd/payment"
)

// A state that is misread gives stock back for a paid order, or keeps an
// order open that is closed.
func TestQueryAnswers(t *testing.T) {
	paid := time.Date(2026, 11, 20, 14, 1, 5, 0, time.UTC)
	unpaid := map[string]any{"transaction_id": nil, "success_time": nil, "payer": nil, "trade_type": nil,
		"amount": map[string]any{"total": 39800, "payer_currency": "CNY"}}
	state := func(s string, more map[string]any) string {
		m := map[string]any{"trade_state": s}
		for k, v := range more {
			m[k] = v
		}
		return tradeBody(m)
	}
	for _, tc := range []struct {
		name  string
		reply reply
		want  payment.TradeState // "" = error of this kind
		kind  payment.Kind
	}{
		{"SUCCESS", reply{status: 200, body: tradeBody(nil)}, payment.TradeSuccess, 0},
		{"REFUND", reply{status: 200, body: state("REFUND", nil)}, payment.TradeRefund, 0},
		{"NOTPAY", reply{status: 200, body: state("NOTPAY", unpaid)}, payment.TradeNotPay, 0},
		{"CLOSED", reply{status: 200, body: state("CLOSED", unpaid)}, payment.TradeClosed, 0},
		{"USERPAYING", reply{status: 200, body: state("USERPAYING", unpaid)}, payment.TradeUserPaying, 0},
		{"REVOKED", reply{status: 200, body: state("REVOKED", unpaid)}, payment.TradeRevoked, 0},
		{"PAYERROR", reply{status: 200, body: state("PAYERROR", unpaid)}, payment.TradePayError, 0},
		{"without amount", reply{status: 200, body: state("CLOSED", map[string]any{"amount": nil})},
			payment.TradeClosed, 0},
		{"404", reply{status: 404, body: body("ORDER_NOT_EXIST")}, payment.TradeNotFound, 0},
		{"404 old spelling", reply{status: 404, body: body("ORDERNOTEXIST")}, payment.TradeNotFound, 0},
		{"404 forged", reply{status: 404, body: body("ORDER_NOT_EXIST"), unsigned: true}, "", unknown},
		{"404 other code", reply{status: 404, body: body("MCH_NOT_EXISTS")}, "", payment.KindMisconfigured},
		{"400 not exist", reply{status: 400, body: body("ORDER_NOT_EXIST")}, "", unknown},
		{"PARAM_ERROR", reply{status: 400, body: body("PARAM_ERROR")}, "", payment.KindRejected},
		{"unsigned", reply{status: 200, body: tradeBody(nil), unsigned: true}, "", unknown},
		{"old", reply{status: 200, body: tradeBody(nil), age: time.Hour}, "", unknown},
		{"202", reply{status: 202, body: tradeBody(nil)}, "", payment.KindUserPaying},
		{"another order", reply{status: 200, body: tradeBody(map[string]any{"out_trade_no": "ANOTHER-01"})}, "",
			unknown},
		{"unknown state", reply{status: 200, body: state("PAID", nil)}, "", unknown},
		{"our own word", reply{status: 200, body: state("NOTFOUND", nil)}, "", unknown},
		{"no state", reply{status: 200, body: `{"out_trade_no":"` + testNo + `"}`}, "", unknown},
		{"paid without id", reply{status: 200, body: tradeBody(map[string]any{"transaction_id": nil})}, "", unknown},
		{"paid without amount", reply{status: 200, body: tradeBody(map[string]any{"amount": nil})}, "", unknown},
		{"paid negative", reply{status: 200, body: tradeBody(map[string]any{"amount": map[string]any{"total": -1}})},
			"", unknown},
		{"paid more than asked", reply{status: 200,
			body: tradeBody(map[string]any{"amount": map[string]any{"total": 1, "payer_total": 2}})}, "",
			unknown},
		{"amount is text", reply{status: 200,
			body: tradeBody(map[string]any{"amount": map[string]any{"total": "canary"}})}, "", unknown},
		{"amount is a fraction", reply{status: 200,
			body: tradeBody(map[string]any{"amount": map[string]any{"total": 1.5}})}, "", unknown},
		{"paid without time", reply{status: 200, body: tradeBody(map[string]any{"success_time": nil})}, "", unknown},
		{"odd time", reply{status: 200, body: tradeBody(map[string]any{"success_time": "yesterday"})}, "", unknown},
		{"odd currency", reply{status: 200,
			body: tradeBody(map[string]any{"amount": map[string]any{"total": 1, "currency": "cny\n"}})}, "",
			unknown},
		{"odd transaction", reply{status: 200, body: tradeBody(map[string]any{"transaction_id": "4200\ncanary"})}, "",
			unknown},
		{"truncated", reply{status: 200, body: tradeBody(nil)[:100]}, "", unknown},
		{"too long", reply{status: 200, body: tradeBody(map[string]any{"attach": strings.Repeat("x", maxAnswer)})},
			"", unknown},
		{"cut", reply{cut: true}, "", unknown},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			g, s := against(t, tc.reply)
			got, err := g.Query(t.Context(), testNo)
			if r := s.requests()[0]; r.method != http.MethodGet ||
				r.uri != "/v3/pay/transactions/out-trade-no/"+testNo+"?mchid=1900007291" {
				t.Errorf("asked %s %s", r.method, r.uri)
			} else {
				checkAuthorization(t, r)
			}
			if tc.want == "" {
				var ge *payment.GatewayError
				if !errors.As(err, &ge) || ge.Kind != tc.kind || got != (payment.Trade{}) {
					t.Fatalf("got %+v, %v; want %s", got, err, tc.kind)
				}
				noCanary(t, "error", everyText(err)+ge.Message)
				return
			}
			if err != nil || got.State != tc.want || got.OutTradeNo != testNo || got.RequestID == "" {
				t.Fatalf("got %+v, %v; want %s", got, err, tc.want)
			}
			if got.State == payment.TradeSuccess && (got.TransactionID != "4200001234202611201234567890" ||
				got.Total != 39800 || got.PayerTotal != payment.Said(39700) ||
				got.Currency != "CNY" || got.MchID != "1900007291" || got.AppID != "wxd678efh567hg6787" ||
				got.TradeType != "JSAPI" || !got.SuccessTime.Equal(paid)) {
				t.Errorf("misread: %+v", got)
			}
		})
	}
}

// An order number from anywhere must reach exactly its own URL or none:
// unescaped, "A/../B?x=1#" would close another order.
func TestOrderNumbersReachOnlyTheirOwnURL(t *testing.T) {
	s := newSham(t, func(seen) reply { return reply{status: 204} })
	c := testConfig()
	c.BaseURL = s.URL
	g := mustNew(t, c)
	any1 := rapid.OneOf(rapid.String(), rapid.StringMatching(`[0-9A-Za-z_-]{5,33}`),
		rapid.StringMatching(`[0-9A-Z/?#%.&=|*@ ]{6,32}`))
	rapid.Check(t, func(rt *rapid.T) {
		no := any1.Draw(rt, "number")
		before := len(s.requests())
		_, err := g.Close(t.Context(), no)
		all := s.requests()
		if !payment.ValidOutTradeNo(no) {
			if len(all) != before || payment.KindOf(err) != payment.KindRejected {
				rt.Fatalf("%q: %d requests, %v", no, len(all)-before, err)
			}
			return
		}
		if err != nil || len(all) != before+1 || all[before].uri != "/v3/pay/transactions/out-trade-no/"+no+"/close" {
			rt.Fatalf("%q: %v", no, err)
		}
	})
	if _, err := g.Query(t.Context(), "A/../B?x=1#"); payment.KindOf(err) != payment.KindRejected {
		t.Errorf("query: %v", err)
	}
}

// A pool that opens a connection per call would add two round trips to each
// and run out of ports in a storm of time-outs.
func TestConnectionsAreReused(t *testing.T) {
	s := newSham(t, func(seen) reply { return reply{status: 204} })
	c := testConfig()
	c.BaseURL = s.URL
	g := mustNew(t, c)
	for range 10 {
		if _, err := g.Close(t.Context(), testNo); err != nil {
			t.Fatal(err)
		}
	}
	from := map[string]bool{}
	for _, r := range s.requests() {
		from[r.from] = true
	}
	if len(from) != 1 {
		t.Errorf("10 calls one after the other used %d connections", len(from))
	}
}

// payer_total need not be there: absent, it was read as 0, and the buyer was shown to have paid nothing.
func TestPayerTotalThatIsNotSaid(t *testing.T) {
	for name, c := range map[string]struct {
		amount map[string]any
		want   payment.MaybeFen
	}{
		"absent": {map[string]any{"total": 39800, "currency": "CNY"}, payment.MaybeFen{}},
		"null":   {map[string]any{"total": 39800, "currency": "CNY", "payer_total": nil}, payment.MaybeFen{}},
		"0":      {map[string]any{"total": 39800, "currency": "CNY", "payer_total": 0}, payment.Said(0)},
		"all":    {map[string]any{"total": 39800, "currency": "CNY", "payer_total": 39800}, payment.Said(39800)},
	} {
		body := tradeBody(map[string]any{"amount": c.amount})
		g, _ := against(t, reply{status: 200, body: body})
		if got, err := g.Query(t.Context(), testNo); err != nil || got.PayerTotal != c.want || got.Total != 39800 {
			t.Errorf("%s, asked: %+v %v", name, got, err)
		}
		n := notice(body, nil)
		if got, err := g.ParseNotification(signedHeader(n), []byte(n)); err != nil || got.Trade.PayerTotal != c.want {
			t.Errorf("%s, told: %+v %v", name, got, err)
		}
	}
}
