package wechatsim_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/wechatpay-apiv3/wechatpay-go/services/payments/native"

	"orderd/payment/wechatsim"
)

// Thirteen probes of the real WeChat Pay, made on 2026-09-11 without credentials, found these bare answers. A client
// that believes an unsigned 404, or needs a Request-ID, would look right against a simulator that is more polite.
func TestBareAnswersOfTheProbes(t *testing.T) {
	b := start(t, wechatsim.Options{})
	c := b.officialClient(true)
	for target, want := range map[string]int{"/v3/pay/transactions/alipay": 404, "/v3/nothing": 404,
		"/v3/pay/transactions/native": 405, "/v3/refund/domestic/refunds": 405} {
		got := b.do(request{method: "GET", target: target}).want(t, want, "")
		if len(got.body) != 0 || got.header.Get("Wechatpay-Signature") != "" || got.header.Get("Request-Id") != "" ||
			c.verified(got) {
			t.Errorf("%s: %v %q", target, got.header, got.body)
		}
	}
	old := time.Now().Add(-time.Hour)
	stale := b.do(request{method: "POST", target: "/v3/pay/transactions/native", body: params("PROBE001", nil),
		at: old})
	if stale.want(t, 401, "SIGN_ERROR"); stale.header.Get("Request-Id") != "" {
		t.Error("a 401 of the payments has a Request-ID")
	}
	for _, header := range []string{"Accept", "User-Agent"} {
		got := b.do(request{method: "GET", target: "/v3/certificates", afterSigning: func(r *http.Request) {
			r.Header.Set(header, "")
		}}).want(t, 400, "PARAM_ERROR")
		if c.verified(got) {
			t.Errorf("without %s the answer is signed", header)
		}
	}
}

// A field that the documents do not have is refused (tail 270924358 in WeChat's guide to finding errors): a merchant
// who sends one learns it here.
func TestUnknownFieldIsRefused(t *testing.T) {
	b := start(t, wechatsim.Options{})
	got := b.prepay("EXTRA-01", func(p map[string]any) { p["sub_mch_id"] = "1" }).want(t, 400, "PARAM_ERROR")
	if !strings.HasSuffix(got.header.Get("Request-Id"), "-270924358") {
		t.Error(got.header)
	}
	b.prepay("EXTRA-01", func(p map[string]any) {
		p["goods_tag"], p["support_fapiao"], p["detail"] = "WXG", true, map[string]any{"cost_price": 1}
		p["settle_info"] = map[string]any{"profit_sharing": false}
	}).want(t, 200, "")
}

// WeChat has two words for a repeat with other parameters; Tencent's SDK is told the second.
func TestOfficialSDKIsToldThatANumberIsUsed(t *testing.T) {
	b := start(t, wechatsim.Options{OutTradeNoUsed: true})
	c := b.officialClient(true)
	b.prepay("USEDUSED", nil).want(t, 200, "")
	total := int64(1)
	_, _, err := (&native.NativeApiService{Client: c.client}).Prepay(t.Context(), native.PrepayRequest{
		Appid: str(appID), Mchid: str(mchID), Description: str("x"), OutTradeNo: str("USEDUSED"),
		NotifyUrl: str("https://shop.example/n"), Amount: &native.Amount{Total: &total}})
	wantAPIError(t, err, http.StatusForbidden, "OUT_TRADE_NO_USED")
}

// The codes of the FAQ of refunds (merchant/4013071200), which the table of its API does not have.
func TestRefundCodesOfTheFAQ(t *testing.T) {
	c := &clock{at: time.Now()}
	b := start(t, wechatsim.Options{Now: c.now, RefundCodes: true, NoSpacing: true, RefundDelay: time.Hour})
	tx := b.paid("FAQFAQ01")
	b.refund(tx, "R1", 100, nil).want(t, 200, "")
	b.refund(tx, "R1", 101, nil).want(t, 400, "REFUND_FEE_MISMATCH")
	c.forward(366 * 24 * time.Hour)
	b.refund(tx, "R2", 100, nil).want(t, 400, "TRADE_OVERDUE")
}

// Of a Native trade the time to pay is cut to seven days, of the others to fifteen.
func TestNativeIsPayableForSevenDays(t *testing.T) {
	b := start(t, wechatsim.Options{})
	far := func(p map[string]any) { p["time_expire"] = time.Now().Add(20 * 24 * time.Hour).Format(time.RFC3339) }
	b.prepay("SEVEN-01", far).want(t, 200, "")
	b.do(request{method: "POST", target: "/v3/pay/transactions/app", body: params("SEVEN-02", far)}).want(t, 200, "")
	for no, days := range map[string]int{"SEVEN-01": 7, "SEVEN-02": 15} {
		if left := time.Until(b.trade(no).TimeExpire); left > time.Duration(days)*24*time.Hour ||
			left < time.Duration(days)*24*time.Hour-time.Minute {
			t.Errorf("%s: %v", no, left)
		}
	}
}

// associated_data may be empty: the official handler, and ours, decrypt all the same.
func TestOfficialSDKReadsACallbackWithoutAssociatedData(t *testing.T) {
	b, s := withShop(t, wechatsim.Options{NoAssociatedData: true}, true)
	b.open("NODATA01", s)
	must(t, b.sim.Pay("NODATA01", wechatsim.PayOptions{Notify: true}))
	until(t, "the callback", func() bool { return b.trade("NODATA01").CallbacksAccepted == 1 })
	if n := s.notices()[0]; n.err != nil || *n.trade.OutTradeNo != "NODATA01" {
		t.Errorf("%+v", n)
	}
}
