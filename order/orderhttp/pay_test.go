package orderhttp

import (
	"encoding/json"
	"encoding/xml"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/payment"
)

// Each trade type has its own parameters, under the names that WeChat's clients read.
func TestPrepayOfEveryTradeType(t *testing.T) {
	expire := epoch.Truncate(time.Second)
	head := `{"order_no":"` + someOrder + `","out_trade_no":"` + someOrder + `-01","trade_type":"`
	tail := `","prepay_id":"wx1","time_expire":"2026-11-20T13:42:05Z",`
	for _, row := range []struct {
		body    string
		want    order.PrepayRequest
		prepaid payment.Prepaid
		answer  string
	}{
		{`{"trade_type":"NATIVE"}`, order.PrepayRequest{TradeType: payment.Native},
			payment.Prepaid{PrepayID: "wx1", CodeURL: "weixin://wxpay/1"}, `"code_url":"weixin://wxpay/1"}`},
		{`{"trade_type":"JSAPI","payer":{"openid":"o6"}}`, order.PrepayRequest{TradeType: payment.JSAPI, OpenID: "o6"},
			payment.Prepaid{PrepayID: "wx1", JSAPI: &payment.JSAPIParams{AppID: "wx", TimeStamp: "1", NonceStr: "n",
				Package: "prepay_id=wx1", SignType: "RSA", PaySign: "s"}},
			`"jsapi":{"appId":"wx","timeStamp":"1","nonceStr":"n","package":"prepay_id=wx1","signType":"RSA",` +
				`"paySign":"s"}}`},
		{`{"trade_type":"H5","scene_info":{"payer_client_ip":"203.0.113.7","h5_info":{"type":"Wap"}}}`,
			order.PrepayRequest{TradeType: payment.H5, ClientIP: "203.0.113.7", H5Type: "Wap"},
			payment.Prepaid{PrepayID: "wx1", H5URL: "https://wx.tenpay.com/x?a=1"},
			`"h5_url":"https://wx.tenpay.com/x?a=1"}`},
		{`{"trade_type":"APP"}`, order.PrepayRequest{TradeType: payment.App},
			payment.Prepaid{PrepayID: "wx1", App: &payment.AppParams{AppID: "wx", PartnerID: "19", PrepayID: "wx1",
				Package: "Sign=WXPay", NonceStr: "n", TimeStamp: "1", Sign: "s"}},
			`"app":{"appid":"wx","partnerid":"19","prepayid":"wx1","package":"Sign=WXPay","noncestr":"n",` +
				`"timestamp":"1","sign":"s"}}`},
	} {
		w := newWorld(t)
		var got order.PrepayRequest
		w.prepaid = func(r order.PrepayRequest) (order.Prepayment, error) {
			got = r
			return order.Prepayment{OrderNo: someOrder, OutTradeNo: someOrder + "-01", TradeType: r.TradeType,
				TimeExpire: expire, Prepaid: row.prepaid}, nil
		}
		rec := w.ask(t, "POST", "/v1/orders/"+someOrder+"/prepay", row.body, headerRequestID, "r1")
		row.want.OrderNo, row.want.CustomerID = someOrder, "c1"
		row.want.Cause = order.Cause{Actor: order.Actor{Type: order.ActorCustomer, ID: "c1"}, Type: "request", ID: "r1"}
		if got != row.want {
			t.Errorf("asked for %+v", got)
		}
		if want := head + string(row.want.TradeType) + tail + row.answer; rec.Code != 200 ||
			strings.TrimSpace(rec.Body.String()) != want {
			t.Errorf("%d %s\nwant %s", rec.Code, rec.Body, want)
		}
	}
	w := newWorld(t)
	for _, body := range []string{`{"trade_type":"NATIVE","amount":{"total":1}}`,
		`{"trade_type":"JSAPI","payer":{"openid":"o","x":1}}`, `{"trade_type":7}`, ``} {
		wantProblem(t, w.ask(t, "POST", "/v1/orders/"+someOrder+"/prepay", body), 400, CodeMalformed)
	}
	wantProblem(t, w.ask(t, "POST", "/v1/orders/"+someOrder+"/prepay",
		`{"trade_type":"JSAPI","payer":{"openid":"a\u0001"}}`), 422, CodeValidation)
	if w.count() > 0 {
		t.Errorf("called %v", w.calls)
	}
}

// The state in which a cancel leaves an order decides what the client tells the buyer.
func TestCancel(t *testing.T) {
	path := "/v1/orders/" + someOrder + "/cancel"
	for state, status := range map[order.State]int{order.StateClosed: 200, order.StateLate: 200,
		order.StateClosing: 202, order.StatePending: 500} {
		w := newWorld(t)
		w.canceled = func(r order.CancelRequest) (order.Order, error) {
			if r.OrderNo != someOrder || r.CustomerID != "c1" || r.Reason != "too dear" ||
				r.Cause.Actor.Type != order.ActorCustomer {
				t.Errorf("asked %+v", r)
			}
			o := pendingOrder()
			o.State, o.Version = state, 3
			return o, nil
		}
		rec := w.ask(t, "POST", path, `{"reason":"too dear"}`)
		if rec.Code != status || (status < 300 && rec.Header().Get("ETag") != `"v3"`) {
			t.Errorf("%s: %d %s", state, rec.Code, rec.Body)
		}
	}
	w := newWorld(t)
	w.canceled = func(r order.CancelRequest) (order.Order, error) {
		o := pendingOrder()
		o.State = order.StateClosed
		return o, nil
	}
	for body, status := range map[string]int{"": 200, "{}": 200, `{"reason":""}`: 200, `{"reason":7}`: 400,
		`{"state":"closed"}`:                            400,
		`{"reason":"` + strings.Repeat("请", 201) + `"}`: 422, `{"reason":"a\r\nb"}`: 422, "x": 400} {
		if rec := w.ask(t, "POST", path, body); rec.Code != status {
			t.Errorf("%s: %d %s", body, rec.Code, rec.Body)
		}
	}
}

// A client that may not cancel needs the paid order, to offer a refund.
func TestCancelOfAPaidOrderShowsIt(t *testing.T) {
	w := newWorld(t)
	o := pendingOrder()
	o.State, o.Version = order.StatePaid, 4
	w.canceled = func(order.CancelRequest) (order.Order, error) {
		return o, &order.RefusedError{Order: o, Event: order.EventCancel,
			Why: "the order is paid; ask for a refund instead"}
	}
	w.found = func(customer, _ string) (order.Order, error) {
		if customer != "c1" {
			t.Errorf("reads as %q", customer)
		}
		return o, nil
	}
	p := wantProblem(t, w.ask(t, "POST", "/v1/orders/"+someOrder+"/cancel", ""), 409, CodeOrderAlreadyPaid)
	if p.Order == nil || p.Order.State != order.StatePaid || p.Order.Version != 4 || len(p.Order.Items) != 1 ||
		p.Retryable {
		t.Errorf("%+v", p)
	}
	w.found = func(string, string) (order.Order, error) { return order.Order{}, order.ErrNotFound }
	if p := wantProblem(t, w.ask(t, "POST", "/v1/orders/"+someOrder+"/cancel", ""), 409,
		CodeOrderAlreadyPaid); p.Order != nil {
		t.Errorf("%+v", p)
	}
}

// WeChat bans merchants that query without end; a stranger must not use up the owner's turn.
func TestPaymentQueryIsRare(t *testing.T) {
	w := newWorld(t)
	w.found = func(customer, _ string) (order.Order, error) {
		if customer != "c1" {
			return order.Order{}, order.ErrNotFound
		}
		return pendingOrder(), nil
	}
	syncs := 0
	w.synced = func(no string, cause order.Cause) (order.Order, error) {
		syncs++
		o := pendingOrder()
		o.State, o.Version = order.StatePaid, 3
		return o, nil
	}
	path := "/v1/orders/" + someOrder + "/payment-query"
	wantProblem(t, w.ask(t, "POST", path, "", "Authorization", "Bearer "+token(t, "c2", epoch)), 404, CodeOrderNotFound)
	if rec := w.ask(t, "POST", path, ""); rec.Code != 200 || !strings.Contains(rec.Body.String(), `"state":"paid"`) {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	rec := w.ask(t, "POST", path, "{}")
	wantProblem(t, rec, 429, CodeRateLimited)
	if rec.Header().Get("Retry-After") != "3" || syncs != 1 {
		t.Errorf("Retry-After %q, %d queries", rec.Header().Get("Retry-After"), syncs)
	}
	w.clock.advance(3 * time.Second)
	if rec := w.ask(t, "POST", path, "{}"); rec.Code != 200 || syncs != 2 {
		t.Errorf("%d, %d queries", rec.Code, syncs)
	}
	w.clock.advance(3 * time.Second)
	w.synced = func(string, order.Cause) (order.Order, error) {
		return order.Order{}, &payment.GatewayError{Op: "query", Kind: payment.KindUnknown}
	}
	wantProblem(t, w.ask(t, "POST", path, ""), 503, CodeWeChatUnavailable)
	wantProblem(t, w.ask(t, "POST", path, `{"x":1}`), 400, CodeMalformed)
}

// A code of a dead payment sends the buyer into an error; reading must not open one. One that is two hours old is dead
// at WeChat Pay, whatever is stored of it.
func TestQRCode(t *testing.T) {
	s := newShopWith(t, sqldbtest.SQLite(t), func(c *order.Config) { c.PayWithin = 3 * time.Hour })
	s.SKU(t, "1001", 10)
	path, n := "", 0
	fresh := func(prepay string) {
		t.Helper()
		n++
		path = "/v1/orders/" + s.place(t, "c", strconv.Itoa(n), goodBody).OrderNo
		if prepay == "none" {
			return
		}
		if rec := s.ask(t, "c", "POST", path+"/prepay", prepay); rec.Code != 200 {
			t.Fatalf("%d %s", rec.Code, rec.Body)
		}
	}
	draw := func() *httptest.ResponseRecorder { return s.ask(t, "c", "GET", path+"/qrcode.svg", "") }
	fresh("none")
	wantProblem(t, draw(), 409, CodeOrderNotPayable)
	fresh(`{"trade_type":"NATIVE"}`)
	rec := draw()
	if rec.Code != 200 || rec.Header().Get("Content-Type") != "image/svg+xml" {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	var drawn struct {
		ViewBox string `xml:"viewBox,attr"`
		Path    struct {
			D string `xml:"d,attr"`
		} `xml:"path"`
	}
	if err := xml.Unmarshal(rec.Body.Bytes(), &drawn); err != nil || drawn.ViewBox == "" ||
		!strings.HasPrefix(drawn.Path.D, "M4 4h7v1h-7z") {
		t.Errorf("not a QR code (its corner is seven dark modules): %v %.200s", err, rec.Body)
	}
	s.Clock.Advance(2 * time.Hour)
	if rec := draw(); rec.Code != 409 || !json.Valid(rec.Body.Bytes()) {
		t.Errorf("a code of two hours: %d", rec.Code)
	}
	if rec := s.ask(t, "c", "POST", path+"/prepay", `{"trade_type":"NATIVE"}`); rec.Code != 200 || draw().Code != 200 {
		t.Errorf("a new code: %d, %d", rec.Code, draw().Code)
	}
	s.Clock.Advance(time.Hour)
	if rec := draw(); rec.Code != 409 {
		t.Errorf("after the order's time: %d", rec.Code)
	}
	fresh(`{"trade_type":"APP"}`)
	if rec := draw(); rec.Code != 409 {
		t.Errorf("of an APP payment: %d", rec.Code)
	}
	fresh(`{"trade_type":"NATIVE"}`)
	if rec := s.ask(t, "c", "POST", path+"/cancel", ""); rec.Code != 200 || draw().Code != 409 {
		t.Errorf("of a closed order: %d, %d", rec.Code, draw().Code)
	}
}
