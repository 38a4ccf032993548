package orderhttp

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
)

// shop is both listeners on a real service with a scripted WeChat Pay. Its
// notifications are the trade as JSON: signatures are payment/wechat's.
type shop struct {
	*ordertest.Fixture
	api, notify *echo.Echo
}

func newShop(t *testing.T, db *sqldb.DB) *shop {
	t.Helper()
	return newShopWith(t, db, func(*order.Config) {})
}

func newShopWith(t *testing.T, db *sqldb.DB, shape func(*order.Config)) *shop {
	t.Helper()
	s := &shop{Fixture: ordertest.NewWith(t, db, shape)}
	v, err := NewSecretVerifier(secret, s.Clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	if s.api, err = New(Options{Orders: s.Service, SKUs: s.Admin, Tokens: v, Now: s.Clock.Now}); err != nil {
		t.Fatal(err)
	}
	parse := func(_ http.Header, body []byte) (n payment.Notification, err error) {
		n.ID = "n"
		if err := json.Unmarshal(body, &n.Trade); err != nil {
			return n, payment.ErrMalformed
		}
		return n, nil
	}
	parseRefund := func(body []byte) (n payment.RefundNotification, err error) {
		n.ID = "n"
		if err := json.Unmarshal(body, &n.Refund); err != nil {
			return n, payment.ErrMalformed
		}
		return n, nil
	}
	if s.notify, err = NewNotify(NotifyOptions{Notifications: &till{parse: parse, refund: parseRefund},
		Settler: s.Service, Echoes: &till{}, Now: s.Clock.Now}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *shop) ask(t *testing.T, customer, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+token(t, customer, s.Clock.Now()))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	described(t, s.api).ServeHTTP(rec, r)
	return rec
}

func (s *shop) notified(t *testing.T, trade payment.Trade) int {
	t.Helper()
	body, err := json.Marshal(trade)
	if err != nil {
		t.Fatal(err)
	}
	return post(s.notify, string(body)).Code
}

func (s *shop) refundNotified(t *testing.T, r payment.Refund) int {
	t.Helper()
	body, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return postTo(s.notify, PathNotifyRefund, string(body)).Code
}

func (s *shop) place(t *testing.T, customer, key, body string) OrderView {
	t.Helper()
	return orderOf(t, s.ask(t, customer, "POST", "/v1/orders", body, headerKey, key), 201)
}

func orderOf(t *testing.T, rec *httptest.ResponseRecorder, status int) OrderView {
	t.Helper()
	var o OrderView
	if err := json.Unmarshal(rec.Body.Bytes(), &o); err != nil || rec.Code != status {
		t.Fatalf("%d, want %d: %s", rec.Code, status, rec.Body)
	}
	return o
}

func eachShop(t *testing.T, test func(t *testing.T, s *shop)) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		s := newShop(t, db)
		s.SKU(t, "1001", 10)
		test(t, s)
	})
}

// The whole way of a good order, as a front end walks it.
func TestOrderIsPlacedPaidAndRead(t *testing.T) {
	eachShop(t, func(t *testing.T, s *shop) {
		body := `{"items":[{"sku_id":"1001","quantity":2}],"expected_total":{"total":200,"currency":"CNY"},` +
			`"remark":"请","attach":"shop-7"}`
		first := s.ask(t, "c", "POST", "/v1/orders", body, headerKey, "k")
		o := orderOf(t, first, 201)
		path := "/v1/orders/" + o.OrderNo
		pre := s.ask(t, "c", "POST", path+"/prepay", `{"trade_type":"NATIVE"}`)
		again := s.ask(t, "c", "POST", path+"/prepay", `{"trade_type":"NATIVE"}`)
		if pre.Code != 200 || pre.Body.String() != again.Body.String() {
			t.Fatalf("%d %s\n%s", pre.Code, pre.Body, again.Body)
		}
		if rec := s.ask(t, "c", "GET", path+"/qrcode.svg", ""); rec.Code != 200 {
			t.Errorf("qrcode: %d %s", rec.Code, rec.Body)
		}
		trade, err := s.WeChat.Pay(o.OrderNo+"-01", false)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // WeChat sends it twice
			if code := s.notified(t, trade); code != 204 {
				t.Fatalf("notification: %d", code)
			}
		}
		s.Clock.Advance(time.Minute)
		paid := orderOf(t, s.ask(t, "c", "GET", path+"?wait=20&since=1", ""), 200)
		if paid.State != order.StatePaid || paid.Payment == nil || paid.Payment.TransactionID != trade.TransactionID ||
			paid.Payment.Amount.Total != 200 {
			t.Errorf("%+v", paid)
		}
		// A replay is the placement as it was, although the order is paid now.
		replay := s.ask(t, "c", "POST", "/v1/orders", body, headerKey, `"k"`)
		if replay.Code != 201 || replay.Header().Get(headerReplayed) != "true" ||
			replay.Body.String() != first.Body.String() {
			t.Errorf("%d %s\n%s", replay.Code, replay.Body, first.Body)
		}
		p := wantProblem(t, s.ask(t, "c", "POST", path+"/cancel", ""), 409, CodeOrderAlreadyPaid)
		if p.Order == nil || p.Order.Payment == nil {
			t.Errorf("the paid order is not shown: %+v", p)
		}
		p = wantProblem(t, s.ask(t, "c", "POST", path+"/prepay", `{"trade_type":"NATIVE"}`), 409, CodeOrderAlreadyPaid)
		if p.Order == nil || len(p.Order.Items) != 1 {
			t.Errorf("the paid order is not shown whole: %+v", p)
		}
		if got := s.Available(t, "1001"); got != 8 {
			t.Errorf("%d left", got)
		}
	})
}

// The same click many times is one order, for everybody who clicked.
func TestSameKeyAtOnceIsOneOrder(t *testing.T) {
	eachShop(t, func(t *testing.T, s *shop) {
		const clicks = 32
		bodies := make([]string, clicks)
		var all sync.WaitGroup
		for i := range clicks {
			all.Go(func() {
				rec := s.ask(t, "c", "POST", "/v1/orders", `{"items":[{"sku_id":"1001","quantity":10}]}`, headerKey,
					"k")
				bodies[i] = fmt.Sprint(rec.Code, rec.Body)
			})
		}
		all.Wait()
		if slices.Sort(bodies); bodies[0] != bodies[clicks-1] || !strings.HasPrefix(bodies[0], "201") {
			t.Errorf("%s\n%s", bodies[0], bodies[clicks-1])
		}
		if got := s.Available(t, "1001"); got != 0 {
			t.Errorf("%d left", got)
		}
		wantProblem(t, s.ask(t, "c", "POST", "/v1/orders", `{"items":[{"sku_id":"1001","quantity":9}]}`, headerKey,
			"k"), 422, CodeKeyReused)
		// Another customer's key is another key, and tells nothing.
		wantProblem(t, s.ask(t, "d", "POST", "/v1/orders", `{"items":[{"sku_id":"1001","quantity":10}]}`, headerKey,
			"k"), 409, CodeStockInsufficient)
	})
}

// What is refused must leave no order and take no unit.
func TestRefusedPlacementsChangeNothing(t *testing.T) {
	eachShop(t, func(t *testing.T, s *shop) {
		s.SKU(t, "1002", 0)
		for body, want := range map[string]Code{
			`{"items":[{"sku_id":"1001","quantity":1},{"sku_id":"1001","quantity":1},{"sku_id":"1002",` +
				`"quantity":1}]}`: CodeStockInsufficient,
			`{"items":[{"sku_id":"1001","quantity":1},{"sku_id":"none",` +
				`"quantity":1}]}`: CodeSKUNotFound,
			`{"items":[{"sku_id":"1001","quantity":1}],` +
				`"expected_total":{"total":99}}`: CodePriceChanged,
			`{"items":[{"sku_id":"1001","quantity":10000},{"sku_id":"1002",` +
				`"quantity":1}]}`: CodeValidation,
			`{"items":[{"sku_id":"1001","quantity":1}],` +
				`"unit_price":1}`: CodeMalformed,
		} {
			p := problemOf(t, s.ask(t, "c", "POST", "/v1/orders", body, headerKey, "k"))
			if p.Code != want {
				t.Errorf("%s: %+v", body, p)
			}
			if want == CodeStockInsufficient && (len(p.Items) != 1 || p.Items[0].Pointer != "#/items/2/quantity") {
				t.Errorf("points at %+v", p.Items)
			}
		}
		var page Page[OrderSummary]
		rec := s.ask(t, "c", "GET", "/v1/orders", "")
		if err := json.Unmarshal(rec.Body.Bytes(), &page); err != nil || len(page.Data) > 0 ||
			s.Available(t, "1001") != 10 {
			t.Errorf("%v %s, %d left", err, rec.Body, s.Available(t, "1001"))
		}
	})
}

// An order of somebody else must answer like one that never was, on every route, and stay as it is.
func TestForeignOrderOnTheService(t *testing.T) {
	eachShop(t, func(t *testing.T, s *shop) {
		o := s.place(t, "c", "k", goodBody)
		for name, row := range access {
			if !row.owned {
				continue
			}
			method, pattern, _ := strings.Cut(name, " ")
			var bodies []string
			for _, no := range []string{o.OrderNo, someOrder} {
				rec := s.ask(t, "mallory", method, strings.NewReplacer(":order_no", no, ":out_refund_no",
					no+"-R01").Replace(pattern), row.body, headerRequestID, "r", headerKey, "k")
				wantProblem(t, rec, 404, missing(pattern))
				bodies = append(bodies, strings.ReplaceAll(rec.Body.String(), no, ""))
			}
			if bodies[0] != bodies[1] {
				t.Errorf("%s: %s\n%s", name, bodies[0], bodies[1])
			}
		}
		if rec := s.ask(t, "mallory", "GET", "/v1/orders", ""); strings.Contains(rec.Body.String(), o.OrderNo) {
			t.Errorf("listed to a stranger: %s", rec.Body)
		}
		if got := orderOf(t, s.ask(t, "c", "GET", "/v1/orders/"+o.OrderNo, ""), 200); got.Version != 1 ||
			s.WeChat.Closes+s.WeChat.Queries+s.WeChat.Prepays > 0 {
			t.Errorf("a stranger moved it: %+v", got)
		}
	})
}

// Stock must come back with a proven close and not before; money that arrives later is owed back.
func TestCancelOnTheService(t *testing.T) {
	eachShop(t, func(t *testing.T, s *shop) {
		o := s.place(t, "c", "k1", goodBody)
		path := "/v1/orders/" + o.OrderNo
		for range 2 { // and a second click
			got := orderOf(t, s.ask(t, "c", "POST", path+"/cancel", `{"reason":"too dear"}`), 200)
			if got.State != order.StateClosed || got.CloseReason == nil ||
				*got.CloseReason != order.CloseReasonCancel || s.Available(t, "1001") != 10 {
				t.Errorf("%+v, %d left", got, s.Available(t, "1001"))
			}
		}
		wantProblem(t, s.ask(t, "c", "POST", path+"/prepay", `{"trade_type":"NATIVE"}`), 409, CodeOrderNotPayable)

		// WeChat is away: 202, the stock stays reserved, and the payment that comes is taken.
		o = s.place(t, "c", "k2", goodBody)
		path = "/v1/orders/" + o.OrderNo
		if rec := s.ask(t, "c", "POST", path+"/prepay", `{"trade_type":"NATIVE"}`); rec.Code != 200 {
			t.Fatal(rec.Code, rec.Body)
		}
		s.WeChat.Before = func(op, _ string) error { return ordertest.ErrLost(op) }
		if got := orderOf(t, s.ask(t, "c", "POST", path+"/cancel", ""), 202); got.State != order.StateClosing ||
			s.Available(t, "1001") != 8 {
			t.Errorf("%+v, %d left", got, s.Available(t, "1001"))
		}
		wantProblem(t, s.ask(t, "c", "POST", path+"/payment-query", ""), 503, CodeWeChatUnavailable)
		wantProblem(t, s.ask(t, "c", "POST", path+"/prepay", `{"trade_type":"NATIVE"}`), 409, CodeOrderNotPayable)
		s.WeChat.Before = nil
		if _, err := s.WeChat.Pay(o.OrderNo+"-01", false); err != nil {
			t.Fatal(err)
		}
		s.Clock.Advance(3 * time.Second)
		if got := orderOf(t, s.ask(t, "c", "POST", path+"/payment-query", ""), 200); got.State != order.StatePaid {
			t.Errorf("%+v", got)
		}
	})
}

// A payment of a wrong amount is kept for a person and must not pay the order; a repeat cannot help, so 204.
func TestWrongAmountIsHeld(t *testing.T) {
	eachShop(t, func(t *testing.T, s *shop) {
		o := s.place(t, "c", "k", goodBody)
		if rec := s.ask(t, "c", "POST", "/v1/orders/"+o.OrderNo+"/prepay", `{"trade_type":"NATIVE"}`); rec.Code != 200 {
			t.Fatal(rec.Code, rec.Body)
		}
		trade, err := s.WeChat.Pay(o.OrderNo+"-01", false)
		if err != nil {
			t.Fatal(err)
		}
		for name, change := range map[string]func(*payment.Trade){
			"amount":   func(p *payment.Trade) { p.Total = 1 },
			"merchant": func(p *payment.Trade) { p.MchID = "1900000009" },
			"app":      func(p *payment.Trade) { p.AppID = "wxother" },
			"currency": func(p *payment.Trade) { p.Currency = "USD" },
			"order":    func(p *payment.Trade) { p.OutTradeNo = someOrder + "-01" },
		} {
			wrong := trade
			wrong.TransactionID = "held-" + name
			change(&wrong)
			if code := s.notified(t, wrong); code != 204 {
				t.Errorf("%s: %d", name, code)
			}
		}
		if got := orderOf(t, s.ask(t, "c", "GET", "/v1/orders/"+o.OrderNo, ""), 200); got.State != order.StatePending ||
			got.Payment != nil {
			t.Errorf("%+v", got)
		}
		bad := trade
		bad.TransactionID = "../../x"
		if code := s.notified(t, bad); code != 400 {
			t.Errorf("a transaction id out of bounds: %d", code)
		}
		if code := post(s.notify, "not JSON").Code; code != 400 {
			t.Errorf("not JSON: %d", code)
		}
		r, err := s.Audit.Verify(t.Context(), nil)
		if err != nil || r.Held != 5 {
			t.Errorf("%d held, %v", r.Held, err)
		}
	})
}

// A database that stands still must be a 503 within three seconds, and the same key must find out afterwards.
func TestDatabaseAway(t *testing.T) {
	m := sqldbtest.MariaDBServer(t)
	if err := m.Create(t.Context(), "away"); err != nil {
		t.Fatal(err)
	}
	s := newShop(t, sqldbtest.Open(t, m.DSN("away")))
	s.SKU(t, "1001", 10)
	before := s.place(t, "c", "k0", goodBody)
	m.Pause()
	t.Cleanup(m.Resume)
	var all sync.WaitGroup
	for _, c := range []struct{ method, path, body string }{
		{"POST", "/v1/orders", goodBody}, {"GET", "/v1/orders/" + before.OrderNo, ""}, {"GET", "/v1/orders", ""},
		{"GET", "/v1/skus/1001/stock", ""},
	} {
		all.Go(func() {
			start := time.Now()
			p := problemOf(t, s.ask(t, "c", c.method, c.path, c.body, headerKey, "k1"))
			if took := time.Since(start); p.Status != 503 || !p.Retryable || took > placeLimit+patience {
				t.Errorf("%s %s: %d %s after %s", c.method, c.path, p.Status, p.Code, took)
			}
		})
	}
	all.Wait()
	m.Resume()
	var rec *httptest.ResponseRecorder
	waitFor(t, "the database to be back", func() bool {
		rec = s.ask(t, "c", "POST", "/v1/orders", goodBody, headerKey, "k1")
		return rec.Code == 201
	})
	var page Page[OrderSummary]
	if err := json.Unmarshal(s.ask(t, "c", "GET", "/v1/orders", "").Body.Bytes(), &page); err != nil ||
		len(page.Data) != 2 || s.Available(t, "1001") != 6 {
		t.Errorf("%v: %d orders, %d left", err, len(page.Data), s.Available(t, "1001"))
	}
}

// The way back as a front end walks it: asked once whatever is repeated, seen by its owner alone, refused with a
// reason.
func TestRefundOnTheService(t *testing.T) {
	eachShop(t, func(t *testing.T, s *shop) {
		o := s.place(t, "c", "k", `{"items":[{"sku_id":"1001","quantity":3}]}`)
		path := "/v1/orders/" + o.OrderNo
		one := `{"items":[{"sku_id":"1001","quantity":1}],"reason":"尺码不合"}`
		wantProblem(t, s.ask(t, "c", "POST", path+"/refunds", one, headerKey, "r0"), 409, CodeRefundNotPossible)
		s.ask(t, "c", "POST", path+"/prepay", `{"trade_type":"NATIVE"}`)
		trade, err := s.WeChat.Pay(o.OrderNo+"-01", false)
		if err != nil {
			t.Fatal(err)
		}
		s.notified(t, trade)

		wantProblem(t, s.ask(t, "c", "POST", path+"/refunds", one), 400, CodeKeyRequired)
		for body, code := range map[string]Code{
			// no reason
			`{"items":[{"sku_id":"1001","quantity":1}]}`:                                      CodeValidation,
			`{"items":[{"sku_id":"1001","quantity":0}],"reason":"x"}`:                         CodeValidation,
			`{"amount":{"refund":0},"reason":"x"}`:                                            CodeValidation,
			`{"amount":{"refund":1,"currency":"USD"},"reason":"x"}`:                           CodeValidation,
			`{"restock":false,"reason":"x"}`:                                                  CodeMalformed,
			`{"restock":true,"reason":"x"}`:                                                   CodeMalformed,
			`{"reason":"x","approve":true}`:                                                   CodeMalformed,
			`{"items":[{"sku_id":"1001","quantity":4}],"reason":"x"}`:                         CodeReturnExceeds,
			`{"items":[{"sku_id":"other","quantity":1}],"reason":"x"}`:                        CodeReturnExceeds,
			`{"amount":{"refund":301},"reason":"x"}`:                                          CodeRefundExceeds,
			`{"items":[{"sku_id":"1001","quantity":1}],"amount":{"refund":101},"reason":"x"}`: CodeValidation,
		} {
			rec := s.ask(t, "c", "POST", path+"/refunds", body, headerKey, "bad")
			var p Problem
			if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil || p.Code != code {
				t.Errorf("%s: %s, want %s", body, rec.Body, code)
			}
		}
		first := s.ask(t, "c", "POST", path+"/refunds", one, headerKey, "r1")
		var v RefundView
		if err := json.Unmarshal(first.Body.Bytes(), &v); err != nil || first.Code != 201 ||
			v.RefundStatus != "PENDING_APPROVAL" || v.Amount.Refund != 100 ||
			first.Header().Get("Location") != "/v1/refunds/"+v.OutRefundNo {
			t.Fatalf("%d %v %s", first.Code, first.Header(), first.Body)
		}
		if _, err := s.DecideRefund(t.Context(), order.RefundDecision{OutRefundNo: v.OutRefundNo,
			Event: order.RefundEventApprove, Reason: "ok", Cause: ordertest.Finance}); err != nil {
			t.Fatal(err)
		}
		replay := s.ask(t, "c", "POST", path+"/refunds", one, headerKey, `"r1"`)
		if replay.Code != 201 || replay.Header().Get(headerReplayed) != "true" ||
			replay.Body.String() != first.Body.String() {
			t.Errorf("replay %d %s\n%s", replay.Code, replay.Body, first.Body)
		}
		wantProblem(t, s.ask(t, "c", "POST", path+"/refunds", `{"reason":"all"}`, headerKey, "r1"), 422, CodeKeyReused)
		wantProblem(t, s.ask(t, "c", "POST", path+"/refunds", `{"amount":{"refund":201},"reason":"x"}`, headerKey,
			"r2"), 409, CodeRefundInProgress)

		for _, at := range []string{"/v1/refunds/" + v.OutRefundNo, path + "/refunds/" + v.OutRefundNo} {
			wantProblem(t, s.ask(t, "mallory", "GET", at, ""), 404, CodeRefundNotFound)
			if rec := s.ask(t, "c", "GET", at, ""); rec.Code != 200 || !strings.Contains(rec.Body.String(), `"OWED"`) ||
				strings.Contains(rec.Body.String(), "fin") {
				t.Errorf("%s: %d %s", at, rec.Code, rec.Body)
			}
		}
		wantProblem(t, s.ask(t, "mallory", "GET", path+"/refunds", ""), 404, CodeOrderNotFound)
		mine := s.place(t, "c", "k2", `{"items":[{"sku_id":"1001","quantity":1}]}`)
		wantProblem(t, s.ask(t, "c", "GET", "/v1/orders/"+mine.OrderNo+"/refunds/"+v.OutRefundNo, ""), 404,
			CodeRefundNotFound)
		if rec := s.ask(t, "c", "GET", "/v1/orders/"+mine.OrderNo+"/refunds", ""); rec.Code != 200 ||
			rec.Body.String() != `{"data":[],"next_cursor":null}`+"\n" {
			t.Errorf("no refunds: %d %s", rec.Code, rec.Body)
		}
		wantProblem(t, s.ask(t, "mallory", "POST", path+"/refunds", one, headerKey, "m"), 404, CodeOrderNotFound)
		if rec := s.ask(t, "c", "GET", path+"/refunds", ""); rec.Code != 200 ||
			strings.Count(rec.Body.String(), "out_refund_no") != 1 {
			t.Errorf("%d %s", rec.Code, rec.Body)
		}
	})
}

// paidRefund gives a paid order of c and what asking for a refund of it answered.
func (s *shop) paidRefund(t *testing.T, key, body string) (OrderView, RefundView) {
	t.Helper()
	o := s.place(t, "c", key, `{"items":[{"sku_id":"1001","quantity":3}]}`)
	trade, err := s.WeChat.Pay(s.Prepaid(t, o.OrderNo), false)
	if err != nil || s.notified(t, trade) != 204 {
		t.Fatal("not paid", err)
	}
	rec := s.ask(t, "c", "POST", "/v1/orders/"+o.OrderNo+"/refunds", body, headerKey, key)
	var v RefundView
	if err := json.Unmarshal(rec.Body.Bytes(), &v); err != nil || rec.Code != 201 {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	return o, v
}

// A refund's word comes twice, late, and with sums that are not ours: its money is counted once, and what does not fit
// is kept.
func TestRefundNotificationsOnTheService(t *testing.T) {
	eachShop(t, func(t *testing.T, s *shop) {
		o, v := s.paidRefund(t, "k", `{"reason":"broken"}`)
		if _, err := s.DecideRefund(t.Context(), order.RefundDecision{OutRefundNo: v.OutRefundNo,
			Event: order.RefundEventApprove, Reason: "ok", Cause: ordertest.Finance}); err != nil {
			t.Fatal(err)
		}
		if err := s.Refund(t.Context(), v.OutRefundNo, ordertest.Finance); err != nil {
			t.Fatal(err)
		}
		under := s.WeChat.Refunds()[v.OutRefundNo]
		done := s.WeChat.EndRefund(v.OutRefundNo, payment.RefundSuccess)
		before := s.Available(t, "1001")
		for _, word := range []payment.Refund{done, done, under} { // repeated, and one that was overtaken
			if code := s.refundNotified(t, word); code != 204 {
				t.Errorf("%s: %d", word.Status, code)
			}
		}
		if got := s.Available(t, "1001"); got != before+3 {
			t.Errorf("%d on the shelf, %d before", got, before)
		}
		odd := done
		odd.Status = "HALF"
		if code := s.refundNotified(t, odd); code != 400 {
			t.Errorf("a status that says nothing: %d", code)
		}
		rec := s.ask(t, "c", "GET", "/v1/orders/"+o.OrderNo, "")
		got := orderOf(t, rec, 200)
		if got.State != order.StateRefunded || len(got.Refunds) != 1 || got.Refunds[0].RefundStatus != "SUCCESS" ||
			got.Refunds[0].SuccessTime == "" || got.Refunds[0].RefundID == "" {
			t.Errorf("%s", rec.Body)
		}
		p := wantProblem(t, s.ask(t, "c", "POST", "/v1/orders/"+o.OrderNo+"/refunds", `{"reason":"again"}`, headerKey,
			"k2"), 409, CodeRefundNotPossible)
		if p.Detail != "该订单的款项已全部退回" {
			t.Errorf("detail %q", p.Detail)
		}
	})
}

// A customer must read why the answer was no, and never who said it.
func TestRejectedRefundSaysWhy(t *testing.T) {
	eachShop(t, func(t *testing.T, s *shop) {
		_, v := s.paidRefund(t, "k", `{"reason":"broken"}`)
		if _, err := s.DecideRefund(t.Context(), order.RefundDecision{OutRefundNo: v.OutRefundNo,
			Event: order.RefundEventReject, Reason: "worn", Cause: ordertest.Finance}); err != nil {
			t.Fatal(err)
		}
		rec := s.ask(t, "c", "GET", "/v1/refunds/"+v.OutRefundNo, "")
		if rec.Code != 200 || !strings.Contains(rec.Body.String(), `"decided_why":"worn"`) ||
			strings.Contains(rec.Body.String(), ordertest.Finance.Actor.ID) {
			t.Errorf("%d %s", rec.Code, rec.Body)
		}
	})
}
