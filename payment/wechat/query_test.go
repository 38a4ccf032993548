package wechat

import (
	"context"
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
		{"amount is text", reply{status: 200,
			body: tradeBody(map[string]any{"amount": map[string]any{"total": "canary"}})}, "", unknown},
		{"amount is a fraction", reply{status: 200,
			body: tradeBody(map[string]any{"amount": map[string]any{"total": 1.5}})}, "", unknown},
		{"paid without time", reply{status: 200, body: tradeBody(map[string]any{"success_time": nil})}, "", unknown},
		{"odd time", reply{status: 200, body: tradeBody(map[string]any{"success_time": "yesterday"})}, "", unknown},
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

// bothWays gives what a query and a callback say of a trade's body.
func bothWays(t *testing.T, body string) map[string]func() (payment.Trade, error) {
	t.Helper()
	g, _ := against(t, reply{status: 200, body: body})
	return map[string]func() (payment.Trade, error){
		"asked": func() (payment.Trade, error) { return g.Query(t.Context(), testNo) },
		"told": func() (payment.Trade, error) {
			n := notice(body, nil)
			got, err := g.ParseNotification(signedHeader(n), []byte(n))
			return got.Trade, err
		},
	}
}

// What explains a payment and decides nothing cannot make it disbelieved: a word of next year, one that is too long for
// its column, or of another type. Money that WeChat Pay signed for was never booked.
func TestWhatExplainsAPaymentDecidesNothing(t *testing.T) {
	amount := func(currency any) any {
		return map[string]any{"total": 39800, "payer_total": 39700, "currency": currency}
	}
	for _, tc := range []struct {
		field      string
		said       any
		kind, unit string // trade type and currency, as they are stored
	}{
		{"trade_type", "MINI PROGRAM", "MINI_PROGRAM", "CNY"},
		{"trade_type", strings.Repeat("A", 17), strings.Repeat("A", 16), "CNY"},
		{"trade_type", "小程序\n", "____", "CNY"},
		{"trade_type", 7, "7", "CNY"},
		{"trade_type", []any{}, "__", "CNY"},
		{"amount", amount("cny\n"), "JSAPI", "cny_"},
		{"amount", amount("RENMINBI"), "JSAPI", "RENMINBI"},
		{"amount", amount(strings.Repeat("CNY", 9)), "JSAPI", "CNYCNYCNYCNYCNYC"},
		{"amount", amount(156), "JSAPI", "156"}, // never none, which is yuan
		{"amount", amount(map[string]any{}), "JSAPI", "__"},
		{"amount", amount(nil), "JSAPI", ""},
	} {
		for way, get := range bothWays(t, tradeBody(map[string]any{tc.field: tc.said})) {
			got, err := get()
			if err != nil || !got.Paid() || got.Total != 39800 || got.TradeType != tc.kind ||
				got.Currency != tc.unit {
				t.Errorf("%s, %s %v: %+v %v", way, tc.field, tc.said, got, err)
			}
		}
	}
}

// payer_total is in payer_currency: 398 yuan are some 430 Hong Kong dollars, and 30,000 yen were shown as 300 yuan. It
// is told where it is in yuan and possible, and never a ground to disbelieve a payment.
func TestPayerTotalInAnotherCurrency(t *testing.T) {
	for _, tc := range []struct {
		total, currency any
		want            payment.MaybeFen
	}{
		{39700, "CNY", payment.Said(39700)}, {39700, nil, payment.Said(39700)},
		{43100, "HKD", payment.MaybeFen{}}, {30000, "JPY", payment.MaybeFen{}}, {100, 156, payment.MaybeFen{}},
		{39801, "CNY", payment.MaybeFen{}}, {-1, "CNY", payment.MaybeFen{}}, {"397.00", "CNY", payment.MaybeFen{}},
		{1e30, "CNY", payment.MaybeFen{}},
	} {
		for way, get := range bothWays(t, tradeBody(map[string]any{"amount": map[string]any{"total": 39800,
			"currency": "CNY", "payer_total": tc.total, "payer_currency": tc.currency}})) {
			if got, err := get(); err != nil || !got.Paid() || got.PayerTotal != tc.want {
				t.Errorf("%s, %v %v: %+v %v", way, tc.total, tc.currency, got, err)
			}
		}
	}
}

// A field that nobody here reads had a type in gopay, and another one there made a signed answer unusable.
func TestUnreadFieldsOfAnyType(t *testing.T) {
	odd := []map[string]any{
		{"scene_info": map[string]any{"device_id": 13467007045764}}, {"payer": []any{}}, {"attach": 5},
		{"promotion_detail": []any{map[string]any{"coupon_id": 109519, "amount": "1"}}},
		{"promotion_detail": map[string]any{}},
		{"bank_type": []any{"OTHERS"}}, {"trade_state_desc": 1}, {"channel": 1}, {"user_received_account": []any{}},
		{"funds_account": map[string]any{}}, {"summary": 1},
	}
	for _, change := range odd {
		for way, get := range bothWays(t, tradeBody(change)) {
			if got, err := get(); err != nil || !got.Paid() {
				t.Errorf("a trade, %s, with %v: %v", way, change, err)
			}
		}
		g, _ := against(t, reply{status: 200, body: refundBody(change)})
		_, asked := g.QueryRefund(t.Context(), testRefundNo)
		_, sent := g.Refund(t.Context(), testRefund())
		_, card := g.AbnormalRefund(t.Context(), payment.AbnormalRequest{OutRefundNo: testRefundNo,
			RefundID: "50000000382019052709732678859", TransactionID: testRefund().TransactionID, Amount: 100,
			Total: 39800, To: payment.CardOfMerchant})
		n := refundNotice(eventRefunded, change)
		_, told := g.ParseRefund(signedHeader(n), []byte(n))
		for way, err := range map[string]error{"asked": asked, "sent": sent, "to a card": card, "told": told} {
			if err != nil {
				t.Errorf("a refund, %s, with %v: %v", way, change, err)
			}
		}
	}
}

// The message of a refusal is for people: of another type, it took the code with it, which decides.
func TestMessageOfAnyType(t *testing.T) {
	for _, message := range []string{`{"text":"canary"}`, `null`, `5`, `["x"]`} {
		g, _ := against(t, reply{status: 404, body: `{"code":"ORDER_NOT_EXIST","message":` + message + `}`})
		if got, err := g.Query(t.Context(), testNo); err != nil || got.State != payment.TradeNotFound {
			t.Errorf("%s: %+v %v", message, got, err)
		}
	}
}

// Whoever looks for the call in what WeChat Pay's support was told finds the request that made it; a call of nobody's
// has none.
func TestTraceIsHandedOn(t *testing.T) {
	g, s := against(t, reply{status: 200, body: tradeBody(nil)})
	trace := payment.ParseTrace("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	for _, ctx := range []context.Context{payment.WithTrace(t.Context(), trace), t.Context()} {
		if _, err := g.Query(ctx, testNo); err != nil {
			t.Fatal(err)
		}
	}
	got := s.requests()
	if on := payment.ParseTrace(got[0].header.Get("Traceparent")); on != trace || got[1].header["Traceparent"] != nil {
		t.Errorf("%q, then %q", got[0].header["Traceparent"], got[1].header["Traceparent"])
	}
}
