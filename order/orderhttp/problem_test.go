package orderhttp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/payment"
	"orderd/stock"
)

func gatewayError(k payment.Kind) error {
	return &payment.GatewayError{Op: "prepay", Kind: k, Status: 400, Code: "PARAM_ERROR", Message: "商户号有误",
		RequestID: "wx-1"}
}

// A wrong status makes a client repeat what can never succeed, or give up what would.
func TestEveryErrorHasItsAnswer(t *testing.T) {
	paid := pendingOrder()
	paid.State = order.StatePaid
	rows := []struct {
		name      string
		err       error
		status    int
		code      Code
		retryable bool
	}{
		{"validation", &order.ValidationError{Fields: []order.FieldError{{Pointer: "#/items/0/quantity", Code: "RANGE",
			Detail: "a quantity is 1 to 10000"}}}, 422, CodeValidation, false},
		{"sold out", &order.InsufficientError{Items: []stock.Short{{SkuID: "1001", Requested: 3, Available: 2}}}, 409,
			CodeStockInsufficient, false},
		{"too many unpaid", &order.TooManyOpenError{Open: 5}, 429, CodeRateLimited, true},
		{"too many units", &order.TooManyUnitsError{SkuID: "1001", Asked: 2, Held: 9, Limit: 10}, 409,
			CodeCustomerLimit, false},
		{"too many of a sale", &order.CustomerLimitError{Sale: "s", Asked: 2, Held: 1, Limit: 2}, 409,
			CodeCustomerLimit, false},
		{"not started", &order.NotStartedError{SkuID: "1001", Wait: time.Minute}, 503, CodeSaleNotStarted, true},
		{"unknown SKU", &order.UnknownSKUError{SkuID: "1001"}, 404, CodeSKUNotFound, false},
		{"price", &order.PriceChangedError{Expected: 1, Actual: 2}, 409, CodePriceChanged, false},
		{"key reused", order.ErrRequestReused, 422, CodeKeyReused, false},
		{"not found", order.ErrNotFound, 404, CodeOrderNotFound, false},
		{"version", order.ErrVersion, 412, CodeVersionMismatch, false},
		{"closing", &order.NotPayableError{State: order.StateClosing}, 409, CodeOrderNotPayable, false},
		{"expired", &order.NotPayableError{State: order.StatePending, Expired: true}, 409, CodeOrderNotPayable, false},
		{"paid", &order.RefusedError{Order: paid, Event: order.EventCancel,
			Why: "the order is paid; ask for a refund instead"}, 409, CodeOrderAlreadyPaid, false},
		{"refund of the unpaid", &order.RefusedError{Order: paid, Event: order.EventRefund, Why: "no"}, 409,
			CodeRefundNotPossible, false},
		{"refund too much", &order.RefundExceedsError{Asked: 2, Left: 1}, 409, CodeRefundExceeds, false},
		{"refund beside another", &order.RefundExceedsError{Asked: 2, Left: 1, InProgress: true}, 409,
			CodeRefundInProgress, false},
		{"too many goods", &order.ReturnExceedsError{SkuID: "1001", Asked: 2, Left: 1}, 409, CodeReturnExceeds, false},
		{"too old", order.ErrRefundTooOld, 409, CodeRefundNotPossible, false},
		{"fifty", order.ErrTooManyRefunds, 409, CodeRefundNotPossible, false},
		{"no refund", order.ErrRefundNotFound, 404, CodeRefundNotFound, false},
		{"decided", &order.RefundRefusedError{Why: "no"}, 409, CodeRefundNotPossible, false},
		{"own refund", order.ErrSelfApproval, 403, CodeForbidden, false},
		{"overloaded", sqldb.ErrOverloaded, 503, CodeOverloaded, true},
		{"too slow", context.DeadlineExceeded, 503, CodeOverloaded, true},
		{"database away", sqldb.ErrUnavailable, 503, CodeMaintenance, true},
		{"commit unknown", sqldb.ErrUnknown, 503, CodeMaintenance, true},
		{"database away by time-out", fmt.Errorf("%w: %w", sqldb.ErrUnavailable, context.DeadlineExceeded), 503,
			CodeMaintenance, true},
		{"stopping", sqldb.ErrGroupClosed, 503, CodeMaintenance, true},
		{"wechat says no", gatewayError(payment.KindRejected), 502, CodeWeChatRejected, false},
		{"wechat silent", gatewayError(payment.KindUnknown), 503, CodeWeChatUnavailable, true},
		{"wechat busy", gatewayError(payment.KindRateLimited), 503, CodeWeChatUnavailable, true},
		{"buyer at it", gatewayError(payment.KindUserPaying), 503, CodeWeChatUnavailable, true},
		{"our keys", gatewayError(payment.KindMisconfigured), 503, CodeWeChatUnavailable, true},
		{"no SKU", stock.ErrSKUNotFound, 404, CodeSKUNotFound, false},
		{"stock key reused", stock.ErrKeyReused, 422, CodeKeyReused, false},
		{"stock moved", &stock.ChangedError{Expected: 1, Available: 2}, 409, CodeStockChanged, false},
		{"stock below zero", &stock.BelowZeroError{Available: 1, Delta: -2}, 422, CodeValidation, false},
		{"stock in Redis", &stock.ElsewhereError{Pool: 1, Elsewhere: 3, Delta: -2}, 409, CodeStockChanged, false},
		{"stock invalid", &stock.InvalidError{Problems: []string{"no title"}}, 422, CodeValidation, false},
		{"SKU version", stock.ErrSKUVersion, 412, CodeVersionMismatch, false},
		{"unlimited", stock.ErrUnlimited, 422, CodeValidation, false},
		{"anything else", errors.New("Error 1146: Table 'orderd.secret' doesn't exist"), 500, CodeInternal, false},
	}
	for _, row := range rows {
		for _, err := range []error{row.err, fmt.Errorf("place: %w", row.err)} {
			w := newWorld(t)
			w.undescribed = true
			w.placed = func(order.Placement) (order.Placed, error) { return order.Placed{}, err }
			p := wantProblem(t, w.ask(t, "POST", "/v1/orders", goodBody), row.status, row.code)
			if p.Retryable != row.retryable {
				t.Errorf("%s: retryable is %v", row.name, p.Retryable)
			}
		}
	}
}

// SQL, stacks and WeChat's words about our merchant must not reach a customer;
// an operator needs WeChat's words.
func TestProblemsKeepSecrets(t *testing.T) {
	for _, err := range []error{
		errors.New("Error 1146: Table 'orderd.secret' doesn't exist"), gatewayError(payment.KindRejected),
		gatewayError(payment.KindMisconfigured),
	} {
		w := newWorld(t)
		w.prepaid = func(order.PrepayRequest) (order.Prepayment, error) { return order.Prepayment{}, err }
		body := w.ask(t, "POST", "/v1/orders/"+someOrder+"/prepay", `{"trade_type":"NATIVE"}`).Body.String()
		for _, secret := range []string{"orderd.secret", "商户号", "Error 1146"} {
			if strings.Contains(body, secret) {
				t.Errorf("a customer reads %q: %s", secret, body)
			}
		}
		if strings.Contains(body, "PARAM_ERROR") != (payment.KindOf(err) == payment.KindRejected) {
			t.Errorf("WeChat's code: %s", body)
		}
	}
	rec := httptest.NewRecorder()
	e := newEcho(EdgeOptions{Now: time.Now, WriteError: WriteOperatorProblem})
	e.GET("/x", func(c echoContext) error { return gatewayError(payment.KindMisconfigured) })
	e.ServeHTTP(rec, httptest.NewRequest("GET", "/x", nil))
	if p := wantProblem(t, rec, 503, CodeWeChatUnavailable); p.WeChat == nil || p.WeChat.Message != "商户号有误" ||
		p.WeChat.RequestID != "wx-1" {
		t.Errorf("an operator does not see WeChat's words: %s", rec.Body)
	}
}

// A short line must point at the line that the client wrote, not at a merged one.
func TestShortLinesPointIntoTheRequest(t *testing.T) {
	w := newWorld(t)
	w.placed = func(p order.Placement) (order.Placed, error) {
		return order.Placed{}, &order.InsufficientError{Items: []stock.Short{{Index: 1, SkuID: "B", Requested: 3,
			Available: 0}}}
	}
	body := `{"items":[{"sku_id":"A","quantity":1},{"sku_id":"A","quantity":1},{"sku_id":"B","quantity":3}]}`
	p := wantProblem(t, w.ask(t, "POST", "/v1/orders", body), 409, CodeStockInsufficient)
	if len(p.Items) != 1 || p.Items[0].Pointer != "#/items/2/quantity" || p.Items[0].Available == nil ||
		*p.Items[0].Available != 0 || p.Items[0].Requested != 3 {
		t.Errorf("items: %+v", p.Items)
	}
	w.placed = func(order.Placement) (order.Placed, error) {
		return order.Placed{}, &order.UnknownSKUError{SkuID: "B", Index: 1}
	}
	p = wantProblem(t, w.ask(t, "POST", "/v1/orders", body), 404, CodeSKUNotFound)
	if len(p.Items) != 1 || p.Items[0].Pointer != "#/items/2/sku_id" {
		t.Errorf("items: %+v", p.Items)
	}
}

// A buyer in China must be able to read what is wrong, and an engineer elsewhere too.
func TestLanguageOfDetails(t *testing.T) {
	for header, chineseWanted := range map[string]bool{
		"": true, "zh-CN,zh;q=0.9,en;q=0.8": true, "en-GB,en;q=0.9": false, "en;q=0.2, zh;q=0.1": false,
		"en;q=0": true, "de,fr;q=0.5": true, "de, en;q=0.1": false, "en;q=abc": true, ";;,,;": true,
	} {
		w := newWorld(t)
		rec := w.ask(t, "POST", "/v1/orders", `{"items":[{"sku_id":"1001","quantity":0}]}`, "Accept-Language", header)
		p := problemOf(t, rec)
		han := regexp.MustCompile(`\p{Han}`)
		if han.MatchString(p.Detail) != chineseWanted || han.MatchString(p.Errors[0].Detail) != chineseWanted {
			t.Errorf("%q: %s", header, rec.Body)
		}
		if lang := rec.Header().Get("Content-Language"); (lang == "zh-CN") != chineseWanted {
			t.Errorf("%q: Content-Language %s", header, lang)
		}
	}
}

// A buyer who may not have his money back must read why in his own language, with the numbers, and programs must find
// them.
func TestRefundProblemsSpeakBothLanguages(t *testing.T) {
	state := func(s order.State) order.Order {
		o := pendingOrder()
		o.State = s
		return o
	}
	rows := map[string]error{
		"可退 0.01 元": &order.RefundExceedsError{Asked: 2, Left: 1},
		"可退 1 件":    &order.ReturnExceedsError{SkuID: "1001", Asked: 2, Left: 1},
		"未支付":       &order.RefusedError{Order: state(order.StatePending), Event: order.EventRefund, Why: "not paid"},
		"原路退回":      &order.RefusedError{Order: state(order.StateLate), Event: order.EventRefund, Why: "late"},
		"已全部退回":     &order.RefusedError{Order: state(order.StateRefunded), Event: order.EventRefund, Why: "all"},
		"超过一年":      order.ErrRefundTooOld,
		"50 次":      order.ErrTooManyRefunds,
		"退款单不存在":    order.ErrRefundNotFound,
		"所退商品的价格": &order.ValidationError{Fields: []order.FieldError{{Pointer: "#/amount/refund", Code: "TOO_MUCH",
			Detail: "these lines cost 100 fen"}}},
	}
	for zh, err := range rows {
		for lang, want := range map[string]string{"zh-CN": zh, "en": ""} {
			w := newWorld(t)
			w.asked = func(order.AskRefund) (order.AskedRefund, error) { return order.AskedRefund{}, err }
			rec := w.ask(t, "POST", "/v1/orders/"+someOrder+"/refunds", `{"reason":"x"}`, headerKey, "k",
				"Accept-Language", lang)
			problemOf(t, rec)
			if han := regexp.MustCompile(`\p{Han}`).MatchString(rec.Body.String()); han != (lang == "zh-CN") ||
				!strings.Contains(rec.Body.String(), want) {
				t.Errorf("%v in %s: %s", err, lang, rec.Body)
			}
		}
	}
	w := newWorld(t)
	w.asked = func(order.AskRefund) (order.AskedRefund, error) {
		return order.AskedRefund{}, &order.ReturnExceedsError{SkuID: "1001", Asked: 2, Left: 0}
	}
	p := wantProblem(t, w.ask(t, "POST", "/v1/orders/"+someOrder+"/refunds", `{"reason":"x"}`, headerKey, "k"), 409,
		CodeReturnExceeds)
	if len(p.Items) != 1 || p.Items[0].SkuID != "1001" || p.Items[0].Requested != 2 || p.Items[0].Available == nil ||
		*p.Items[0].Available != 0 {
		t.Errorf("items: %+v", p.Items)
	}
}

// Every type in a problem is an address; a dead one helps nobody.
func TestEveryProblemHasItsPage(t *testing.T) {
	w := newWorld(t)
	for _, k := range kinds {
		rec := w.ask(t, "GET", problemPath+k.slug(), "", "Authorization", "")
		if rec.Code != http.StatusOK || !strings.Contains(rec.Body.String(), string(k.code)) || k.detail.Zh == "" ||
			k.todo.Zh == "" {
			t.Errorf("%s: %d %s", k.code, rec.Code, rec.Body)
		}
	}
	wantProblem(t, w.ask(t, "GET", problemPath+"no-such", ""), 404, CodeNotFound)
}

// One panic must not end the requests of others, must not show a stack, and must be found in the log once.
func TestPanicIsAnAnswer(t *testing.T) {
	var log bytes.Buffer
	w := newWorld(t, func(o *Options) { o.Log = slog.New(slog.NewJSONHandler(&log, nil)) })
	w.placed = func(order.Placement) (order.Placed, error) { panic("openid o6_canary") }
	rec := w.ask(t, "POST", "/v1/orders", goodBody)
	p := wantProblem(t, rec, 500, CodeInternal)
	if strings.Contains(rec.Body.String(), "canary") || strings.Contains(rec.Body.String(), "goroutine") {
		t.Errorf("the customer reads the panic: %s", rec.Body)
	}
	if n := strings.Count(log.String(), p.RequestID); n != 1 || !strings.Contains(log.String(), "place.go") {
		t.Errorf("logged %d times: %s", n, &log)
	}
}
