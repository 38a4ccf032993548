package wechatsim_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/wechatpay-apiv3/wechatpay-go/core"
	"github.com/wechatpay-apiv3/wechatpay-go/services/payments"
	"github.com/wechatpay-apiv3/wechatpay-go/services/payments/app"
	"github.com/wechatpay-apiv3/wechatpay-go/services/payments/h5"
	"github.com/wechatpay-apiv3/wechatpay-go/services/payments/jsapi"
	"github.com/wechatpay-apiv3/wechatpay-go/services/payments/native"

	"orderd/payment/wechatsim"
)

// eachKeyMode runs a test with Tencent's SDK in both of its key modes.
func eachKeyMode(t *testing.T, test func(t *testing.T, b *bench, c sdk)) {
	for name, publicKey := range map[string]bool{"public key": true, "certificates": false} {
		t.Run(name, func(t *testing.T) {
			b := start(t, wechatsim.Options{})
			test(t, b, b.officialClient(publicKey))
		})
	}
}

func str(s string) *string { return &s }

// Without a second client, simulator and gateway could share one mistake: here
// Tencent's own code prepays, and verifies our signed answers.
func TestOfficialSDKPrepaysAllFourKinds(t *testing.T) {
	eachKeyMode(t, func(t *testing.T, b *bench, c sdk) {
		ctx, total, url := context.Background(), int64(14900), "https://shop.example/notify"
		n, _, err := (&native.NativeApiService{Client: c.client}).Prepay(ctx, native.PrepayRequest{
			Appid: str(appID), Mchid: str(mchID), Description: str("苹果"), OutTradeNo: str("NATIVE-01"), NotifyUrl: &url,
			TimeExpire: core.Time(time.Now().Add(time.Hour)), Attach: str("shop-7"),
			Amount: &native.Amount{Total: &total, Currency: str("CNY")},
		})
		must(t, err)
		if !strings.HasPrefix(*n.CodeUrl, "weixin://wxpay/bizpayurl?pr=") {
			t.Errorf("code_url %q", *n.CodeUrl)
		}
		j, _, err := (&jsapi.JsapiApiService{Client: c.client}).Prepay(ctx, jsapi.PrepayRequest{
			Appid: str(appID), Mchid: str(mchID), Description: str("苹果"), OutTradeNo: str("JSAPI*01"), NotifyUrl: &url,
			Amount: &jsapi.Amount{Total: &total}, Payer: &jsapi.Payer{Openid: str("oBuyer")},
		})
		must(t, err)
		a, _, err := (&app.AppApiService{Client: c.client}).Prepay(ctx, app.PrepayRequest{
			Appid: str(appID), Mchid: str(mchID), Description: str("苹果"), OutTradeNo: str("APPAPP01"),
			NotifyUrl: &url, Amount: &app.Amount{Total: &total},
		})
		must(t, err)
		if len(*j.PrepayId) != 36 || len(*a.PrepayId) != 36 || *j.PrepayId == *a.PrepayId {
			t.Errorf("prepay ids %q and %q: 36 characters each and different are wanted", *j.PrepayId, *a.PrepayId)
		}
		h, _, err := (&h5.H5ApiService{Client: c.client}).Prepay(ctx, h5.PrepayRequest{
			Appid: str(appID), Mchid: str(mchID), Description: str("苹果"), OutTradeNo: str("H5H5H501"),
			NotifyUrl: &url, Amount: &h5.Amount{Total: &total},
			SceneInfo: &h5.SceneInfo{PayerClientIp: str("14.23.150.211"), H5Info: &h5.H5Info{Type: str("Wap")}},
		})
		must(t, err)
		if !strings.HasPrefix(*h.H5Url, "https://wx.tenpay.com/") {
			t.Errorf("h5_url %q", *h.H5Url)
		}
		for no, kind := range map[string]string{"NATIVE-01": "NATIVE", "JSAPI*01": "JSAPI", "APPAPP01": "APP",
			"H5H5H501": "MWEB"} {
			if got := b.trade(no); got.TradeType != kind || got.Total != total || got.State != wechatsim.StateNotPay {
				t.Errorf("%s: %+v", no, got)
			}
		}
	})
}

// Without the captured forms of query answers a client would be judged by
// bodies that WeChat never sends.
func TestOfficialSDKQueries(t *testing.T) {
	eachKeyMode(t, func(t *testing.T, b *bench, c sdk) {
		ctx, svc := context.Background(), &native.NativeApiService{Client: c.client}
		_, _, err := svc.QueryOrderByOutTradeNo(ctx, native.QueryOrderByOutTradeNoRequest{OutTradeNo: str("QUERY|01"),
			Mchid: str(mchID)})
		wantAPIError(t, err, http.StatusNotFound, "ORDER_NOT_EXIST")
		b.prepay("QUERY|01", func(p map[string]any) { p["attach"] = "shop-7" }).want(t, 200, "")
		open, _, err := svc.QueryOrderByOutTradeNo(ctx,
			native.QueryOrderByOutTradeNoRequest{OutTradeNo: str("QUERY|01"), Mchid: str(mchID)})
		must(t, err)
		if *open.TradeState != "NOTPAY" || open.TransactionId != nil || open.Payer != nil || open.TradeType != nil ||
			*open.Amount.Total != 14900 || open.Amount.Currency != nil {
			t.Errorf("unpaid: %v", open)
		}
		must(t, b.sim.Pay("QUERY|01", wechatsim.PayOptions{PayerTotal: 14000}))
		paid, _, err := svc.QueryOrderByOutTradeNo(ctx,
			native.QueryOrderByOutTradeNoRequest{OutTradeNo: str("QUERY|01"), Mchid: str(mchID)})
		must(t, err)
		if *paid.TradeState != "SUCCESS" || len(*paid.TransactionId) != 28 || *paid.Amount.Total != 14900 ||
			*paid.Amount.PayerTotal != 14000 ||
			*paid.Amount.Currency != "CNY" || *paid.TradeType != "NATIVE" || *paid.Attach != "shop-7" ||
			*paid.Payer.Openid == "" || !strings.HasSuffix(*paid.SuccessTime, "+08:00") {
			t.Errorf("paid: %v", paid)
		}
		byID, _, err := svc.QueryOrderById(ctx, native.QueryOrderByIdRequest{TransactionId: paid.TransactionId,
			Mchid: str(mchID)})
		must(t, err)
		if *byID.OutTradeNo != "QUERY|01" {
			t.Errorf("by transaction id: %v", byID)
		}
		_, _, err = svc.QueryOrderByOutTradeNo(ctx, native.QueryOrderByOutTradeNoRequest{OutTradeNo: str("QUERY|01"),
			Mchid: str("1999999999")})
		wantAPIError(t, err, http.StatusBadRequest, "PARAM_ERROR")
	})
}

// Without close's real manners (204 without a body, repeatable, ORDERPAID) the
// merchant's cancel would be tested against a fiction.
func TestOfficialSDKCloses(t *testing.T) {
	eachKeyMode(t, func(t *testing.T, b *bench, c sdk) {
		ctx, svc := context.Background(), &native.NativeApiService{Client: c.client}
		closeTrade := func(no string) (int, error) {
			r, err := svc.CloseOrder(ctx, native.CloseOrderRequest{OutTradeNo: &no, Mchid: str(mchID)})
			if err != nil {
				return 0, err
			}
			return r.Response.StatusCode, nil
		}
		b.prepay("CLOSE-01", nil).want(t, 200, "")
		for range 2 {
			if status, err := closeTrade("CLOSE-01"); err != nil || status != http.StatusNoContent {
				t.Errorf("close: %d %v", status, err)
			}
		}
		b.prepay("CLOSE-02", nil).want(t, 200, "")
		must(t, b.sim.Pay("CLOSE-02", wechatsim.PayOptions{}))
		_, err := closeTrade("CLOSE-02")
		wantAPIError(t, err, http.StatusBadRequest, "ORDERPAID")
		closed, _, err := svc.QueryOrderByOutTradeNo(ctx,
			native.QueryOrderByOutTradeNoRequest{OutTradeNo: str("CLOSE-01"), Mchid: str(mchID)})
		must(t, err)
		if *closed.TradeState != "CLOSED" {
			t.Errorf("closed: %v", closed)
		}
	})
}

// Without signed error answers a client that verifies them (as it should) could
// not be tested; a 401 in turn must come unsigned.
func TestErrorAnswersAreSignedByTheKeyAskedFor(t *testing.T) {
	b := start(t, wechatsim.Options{})
	for name, mode := range map[string]bool{"public key": true, "certificates": false} {
		c := b.officialClient(mode)
		serial, err := c.responses.GetAcceptSerial(context.Background())
		must(t, err)
		missing := b.do(request{method: "GET", target: "/v3/pay/transactions/out-trade-no/NOSUCH01?mchid=" + mchID,
			serialWanted: serial}).want(t, 404, "ORDER_NOT_EXIST")
		if got := missing.header.Get("Wechatpay-Serial"); got != serial || !c.verified(missing) {
			t.Errorf("%s: 404 signed by %q, asked for %q, verified %v", name, got, serial, c.verified(missing))
		}
		if !strings.HasSuffix(missing.header.Get("Request-Id"), "-268512771") {
			t.Errorf("Request-ID %q has not the tail of an unknown order", missing.header.Get("Request-Id"))
		}
		wrong := b.do(request{method: "GET", target: "/v3/certificates", serialWanted: serial,
			at: time.Now().Add(-time.Hour)}).want(t, 401, "SIGN_ERROR")
		if wrong.header.Get("Wechatpay-Signature") != "" || c.verified(wrong) {
			t.Errorf("%s: a 401 must not be signed", name)
		}
	}
}

// Without the 404 of merchants who have only the public key, a client that
// downloads certificates at start would look healthy here and fail in life.
func TestPublicKeyOnlyMerchantHasNoCertificates(t *testing.T) {
	b := start(t, wechatsim.Options{PublicKeyOnly: true})
	b.do(request{method: "GET", target: "/v3/certificates"}).want(t, 404, "RESOURCE_NOT_EXISTS")
	certSerial := ""
	for id := range b.keys.Client().VerifyKeys {
		if !strings.HasPrefix(id, "PUB_KEY_ID_") {
			certSerial = id
		}
	}
	r := b.do(request{method: "GET", target: "/v3/certificates", serialWanted: certSerial})
	if got := r.header.Get("Wechatpay-Serial"); got != b.keys.PublicKeyID {
		t.Errorf("signed by %q, there is only the public key", got)
	}
}

// Without the callback in WeChat's exact form the official handler would refuse
// it, and so should ours.
func TestOfficialSDKAcceptsCallbacks(t *testing.T) {
	for name, publicKey := range map[string]bool{"public key": true, "certificates": false} {
		t.Run(name, func(t *testing.T) {
			b, s := withShop(t, wechatsim.Options{}, publicKey)
			b.open("NOTIFY01", s)
			must(t, b.sim.Pay("NOTIFY01", wechatsim.PayOptions{Notify: true}))
			until(t, "the callback", func() bool { return b.trade("NOTIFY01").CallbacksAccepted == 1 })
			n := s.notices()[0]
			v := b.trade("NOTIFY01")
			if n.err != nil || len(n.id) != 36 || *n.trade.OutTradeNo != "NOTIFY01" ||
				*n.trade.TransactionId != v.TransactionID ||
				*n.trade.Amount.Total != 14900 || *n.trade.TradeState != "SUCCESS" || *n.trade.Mchid != mchID ||
				*n.trade.Appid != appID {
				t.Errorf("%+v", n)
			}
		})
	}
}

// Without rotation in the simulator a merchant who knows one key looks correct:
// here callbacks come signed by all three, and the official handler takes each.
func TestGreyCallbacksUseAllKeysAndVerify(t *testing.T) {
	b, s := withShop(t, wechatsim.Options{GreyRatio: 0.6, Seed: 3}, false)
	b.open("GREYGREY", s)
	must(t, b.sim.Pay("GREYGREY", wechatsim.PayOptions{}))
	must(t, b.sim.Notify("GREYGREY", wechatsim.NotifyOptions{Count: 40}))
	serials := map[string]bool{}
	for _, n := range s.notices() {
		if n.err != nil {
			t.Fatalf("signed by %s: %v", n.serial, n.err)
		}
		serials[n.serial] = true
	}
	if len(serials) != 3 {
		t.Errorf("signed by %d keys, all three are wanted", len(serials))
	}
}

func wantAPIError(t *testing.T, err error, status int, code string) {
	t.Helper()
	e, isAPI := err.(*core.APIError)
	if !isAPI || e.StatusCode != status || !core.IsAPIError(err, code) {
		t.Errorf("want %d %s, got %v", status, code, err)
	}
}

// Without the lies (probe, stale, forged, strange key, cut body) there is
// nothing to show that a merchant refuses them; the official handler does.
func TestOfficialSDKRefusesLies(t *testing.T) {
	b, s := withShop(t, wechatsim.Options{}, false)
	b.open("LIES-001", s)
	must(t, b.sim.Pay("LIES-001", wechatsim.PayOptions{}))
	for _, mode := range []string{"signtest", "old_timestamp", "forged", "unknown_serial", "no_signature",
		"truncated"} {
		before := len(s.notices())
		must(t, b.sim.Notify("LIES-001", wechatsim.NotifyOptions{Mode: mode}))
		got := s.notices()[before:]
		if len(got) != 1 || got[0].err == nil {
			t.Errorf("%s: the SDK believed it", mode)
		}
	}
	if v := b.trade("LIES-001"); v.CallbacksAccepted != 0 || v.CallbacksSent != 6 {
		t.Errorf("%d sent, %d accepted", v.CallbacksSent, v.CallbacksAccepted)
	}
}

// Without rightly signed callbacks that tell of another order's facts, nothing
// would show that a merchant compares them with his own.
func TestWrongFactsAreRightlySigned(t *testing.T) {
	b, s := withShop(t, wechatsim.Options{}, true)
	b.open("FACTS-01", s) // unpaid: these lies need no payment
	wrong := map[string]func(payments.Transaction) bool{
		"wrong_amount": func(x payments.Transaction) bool { return *x.Amount.Total == 14901 },
		"wrong_mchid":  func(x payments.Transaction) bool { return *x.Mchid != mchID },
		"wrong_appid":  func(x payments.Transaction) bool { return *x.Appid != appID },
	}
	for mode, isWrong := range wrong {
		before := len(s.notices())
		must(t, b.sim.Notify("FACTS-01", wechatsim.NotifyOptions{Mode: mode}))
		if got := s.notices()[before]; got.err != nil || !isWrong(got.trade) || *got.trade.TradeState != "SUCCESS" {
			t.Errorf("%s: %+v", mode, got)
		}
	}
	if v := b.trade("FACTS-01"); v.State != wechatsim.StateNotPay {
		t.Errorf("a lie paid the trade: %+v", v)
	}
}
