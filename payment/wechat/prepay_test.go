package wechat

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"orderd/payment"
)

func prepayAnswer(r seen) reply {
	switch {
	case strings.HasSuffix(r.uri, "/native"):
		return reply{status: 200, body: `{"code_url":"weixin://wxpay/bizpayurl?pr=p4lpSuKzz"}`}
	case strings.HasSuffix(r.uri, "/h5"):
		const h5URL = "https://wx.tenpay.com/cgi-bin/mmpayweb-bin/checkmweb?prepay_id=wx1&package=2"
		return reply{status: 200, body: `{"h5_url":"` + h5URL + `"}`}
	case strings.HasSuffix(r.uri, "/jsapi"), strings.HasSuffix(r.uri, "/app"):
		return reply{status: 200, body: `{"prepay_id":"wx26112221580621e9b071c00d9e093b0000"}`}
	}
	return reply{status: 404, body: body("RESOURCE_NOT_EXISTS")}
}

// A request with a wrong target, body or signature would be refused by WeChat
// on the first day; a field from anywhere but the attempt would break repeats.
func TestPrepayRequests(t *testing.T) {
	s := newSham(t, prepayAnswer)
	c := testConfig()
	c.BaseURL = s.URL + "/"
	g := mustNew(t, c)
	common := `"amount":{"currency":"CNY","total":39800},"appid":"wxd678efh567hg6787","attach":"shop-7",` +
		`"description":"Blue mug ×2","mchid":"1900007291",` +
		`"notify_url":"https://pay.example.com/wechat/v3/notify/payment","out_trade_no":"` + testNo + `",`
	const expire = `"time_expire":"2026-11-20T22:12:05+08:00"}`
	for tt, want := range map[payment.TradeType]string{
		payment.Native: `{` + common + expire,
		payment.App:    `{` + common + expire,
		payment.JSAPI:  `{` + common + `"payer":{"openid":"oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"},` + expire,
		payment.H5: `{` + common + `"scene_info":{"h5_info":{"type":"Wap"},"payer_client_ip":"203.0.113.7"},` +
			expire,
	} {
		got, err := g.Prepay(t.Context(), testAttempt(tt))
		if err != nil {
			t.Fatalf("%s: %v", tt, err)
		}
		all := s.requests()
		r := all[len(all)-1]
		if r.method != http.MethodPost || r.uri != "/v3/pay/transactions/"+strings.ToLower(string(tt)) {
			t.Errorf("%s: %s %s", tt, r.method, r.uri)
		}
		if string(r.body) != want {
			t.Errorf("%s: sent\n%s\nwant\n%s", tt, r.body, want)
		}
		if r.header.Get(headerSerial) != testPubID {
			t.Errorf("%s: answer asked under %q", tt, r.header.Get(headerSerial))
		}
		checkAuthorization(t, r)
		checkPrepaid(t, tt, got)
	}
}

func checkAuthorization(t *testing.T, r seen) {
	t.Helper()
	auth, ok := strings.CutPrefix(r.header.Get("Authorization"), "WECHATPAY2-SHA256-RSA2048 ")
	f := map[string]string{}
	for _, m := range regexp.MustCompile(`(\w+)="([^"]*)"`).FindAllStringSubmatch(auth, -1) {
		f[m[1]] = m[2]
	}
	text := r.method + "\n" + r.uri + "\n" + f["timestamp"] + "\n" + f["nonce_str"] + "\n" + string(r.body) + "\n"
	if !ok || f["mchid"] != "1900007291" || f["serial_no"] != testConfig().SerialNo ||
		!rsaVerifies(&theWorld().merchant.PublicKey, text, f["signature"]) {
		t.Errorf("the request is not signed as WeChat demands: %s", auth)
	}
}

// checkPrepaid verifies what the client would hand to WeChat, field by field
// and by the merchant's public key.
func checkPrepaid(t *testing.T, tt payment.TradeType, p payment.Prepaid) {
	t.Helper()
	const id = "wx26112221580621e9b071c00d9e093b0000"
	public := &theWorld().merchant.PublicKey
	switch tt {
	case payment.Native:
		if p.CodeURL != "weixin://wxpay/bizpayurl?pr=p4lpSuKzz" || p.H5URL != "" || p.JSAPI != nil || p.App != nil {
			t.Errorf("native: %+v", p)
		}
	case payment.H5:
		if !strings.HasPrefix(p.H5URL, "https://wx.tenpay.com/") || p.CodeURL != "" || p.JSAPI != nil || p.App != nil {
			t.Errorf("h5: %+v", p)
		}
	case payment.JSAPI:
		j := p.JSAPI
		if j == nil || p.PrepayID != id || p.App != nil || j.Package != "prepay_id="+id || j.SignType != "RSA" ||
			j.AppID != "wxd678efh567hg6787" {
			t.Fatalf("jsapi: %+v", p)
		}
		if !rsaVerifies(public, j.AppID+"\n"+j.TimeStamp+"\n"+j.NonceStr+"\nprepay_id="+id+"\n", j.PaySign) {
			t.Error("jsapi: paySign does not verify")
		}
	case payment.App:
		a := p.App
		if a == nil || p.PrepayID != id || p.JSAPI != nil || a.Package != "Sign=WXPay" ||
			a.PartnerID != "1900007291" || a.PrepayID != id {
			t.Fatalf("app: %+v", p)
		}
		if !rsaVerifies(public, a.AppID+"\n"+a.TimeStamp+"\n"+a.NonceStr+"\n"+id+"\n", a.Sign) {
			t.Error("app: sign does not verify")
		}
	}
}

// A prepay that is refused for good must be told apart from one that may have
// opened a trade, or the buyer gets no code, or two.
func TestPrepayAnswers(t *testing.T) {
	ok := `{"code_url":"weixin://wxpay/bizpayurl?pr=p"}`
	for _, tc := range []struct {
		name  string
		reply reply
		kind  payment.Kind // 0 = success
		code  string
	}{
		{"ok", reply{status: 200, body: ok}, 0, ""},
		{"ok unsigned", reply{status: 200, body: ok, unsigned: true}, payment.KindUnknown, ""},
		{"ok forged", reply{status: 200, body: ok, key: theWorld().stranger}, payment.KindUnknown, ""},
		{"204", reply{status: 204}, payment.KindUnknown, ""},
		{"no code_url", reply{status: 200, body: `{}`}, payment.KindUnknown, ""},
		{"null", reply{status: 200, body: `null`}, payment.KindUnknown, ""},
		{"other scheme", reply{status: 200, body: `{"code_url":"javascript:alert(1)"}`}, payment.KindUnknown, ""},
		{"not JSON", reply{status: 200, body: `canary-body {`}, payment.KindUnknown, ""},
		{"wrong type", reply{status: 200, body: `{"code_url":{"canary":1}}`}, payment.KindUnknown, ""},
		{"ORDERPAID", reply{status: 400, body: body("ORDERPAID")}, payment.KindRejected, "ORDERPAID"},
		{"ORDER_CLOSED", reply{status: 400, body: body("ORDER_CLOSED")}, payment.KindRejected, "ORDER_CLOSED"},
		{"re-entry", reply{status: 400, body: body("INVALID_REQUEST")}, payment.KindRejected, "INVALID_REQUEST"},
		{"number used", reply{status: 403, body: body("OUT_TRADE_NO_USED")}, payment.KindRejected, "OUT_TRADE_NO_USED"},
		{"re-entry forged", reply{status: 400, body: body("INVALID_REQUEST"), unsigned: true}, payment.KindUnknown, ""},
		{"openid mismatch", reply{status: 500, body: body("OPENID_MISMATCH")}, payment.KindRejected, "OPENID_MISMATCH"},
		{"app id not bound", reply{status: 400, body: body("APPID_MCHID_NOT_MATCH")}, payment.KindMisconfigured,
			"APPID_MCHID_NOT_MATCH"},
		{"system error", reply{status: 500, body: body("SYSTEM_ERROR")}, payment.KindUnknown, "SYSTEM_ERROR"},
		{"cut", reply{cut: true}, payment.KindUnknown, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			g, _ := against(t, tc.reply)
			got, err := g.Prepay(t.Context(), testAttempt(payment.Native))
			if tc.kind == 0 {
				if err != nil || got.CodeURL == "" {
					t.Fatalf("got %+v, %v", got, err)
				}
				return
			}
			var ge *payment.GatewayError
			if !errors.As(err, &ge) || ge.Kind != tc.kind || ge.Code != tc.code || got != (payment.Prepaid{}) {
				t.Fatalf("got %+v, %#v; want %s %s", got, err, tc.kind, tc.code)
			}
			noCanary(t, "error", everyText(err)+ge.Message)
		})
	}
}

// What WeChat refuses, or what would reach another URL, must not be sent: the
// order number goes into paths unescaped, and a missing deadline means seven days.
func TestPrepayRefusesBeforeSending(t *testing.T) {
	s := newSham(t, prepayAnswer)
	c := testConfig()
	c.BaseURL = s.URL
	local := mustNew(t, c)
	live := mustNew(t, testConfig())
	for name, change := range map[string]func(*payment.Attempt){
		"order number":       func(a *payment.Attempt) { a.OutTradeNo = "A/../B?x=1#" },
		"short number":       func(a *payment.Attempt) { a.OutTradeNo = "A-01" },
		"no amount":          func(a *payment.Attempt) { a.Amount = 0 },
		"negative amount":    func(a *payment.Attempt) { a.Amount = -1 },
		"huge amount":        func(a *payment.Attempt) { a.Amount = payment.MaxFen + 1 },
		"no description":     func(a *payment.Attempt) { a.Description = " " },
		"long description":   func(a *payment.Attempt) { a.Description = strings.Repeat("杯", 128) },
		"long attach":        func(a *payment.Attempt) { a.Attach = strings.Repeat("a", 129) },
		"emoji in attach":    func(a *payment.Attempt) { a.Attach = "🎁" },
		"bad UTF-8 attach":   func(a *payment.Attempt) { a.Attach = "\xff" },
		"line in attach":     func(a *payment.Attempt) { a.Attach = "a\nb" },
		"no deadline":        func(a *payment.Attempt) { a.TimeExpire = "" },
		"deadline no offset": func(a *payment.Attempt) { a.TimeExpire = "2026-11-20T22:12:05" },
		"query in URL":       func(a *payment.Attempt) { a.NotifyURL += "?a=1" },
		"empty query":        func(a *payment.Attempt) { a.NotifyURL += "?" },
		"relative URL":       func(a *payment.Attempt) { a.NotifyURL = "/wechat" },
		"ftp URL":            func(a *payment.Attempt) { a.NotifyURL = "ftp://pay.example.com/x" },
		"long URL":           func(a *payment.Attempt) { a.NotifyURL += "/" + strings.Repeat("x", 255) },
		"user in URL":        func(a *payment.Attempt) { a.NotifyURL = "https://u:canary@pay.example.com/" },
		"no openid":          func(a *payment.Attempt) { a.TradeType = payment.JSAPI },
		"odd openid":         func(a *payment.Attempt) { a.TradeType, a.OpenID = payment.JSAPI, "a b" },
		"H5 without address": func(a *payment.Attempt) { a.TradeType, a.H5Type = payment.H5, "Wap" },
		"H5 bad address": func(a *payment.Attempt) {
			a.TradeType, a.H5Type, a.ClientIP = payment.H5, "Wap",
				"canary"
		},
		"H5 without type": func(a *payment.Attempt) { a.TradeType, a.ClientIP = payment.H5, "203.0.113.7" },
		"trade type":      func(a *payment.Attempt) { a.TradeType = "MICROPAY" },
	} {
		a := testAttempt(payment.Native)
		change(&a)
		_, err := local.Prepay(t.Context(), a)
		var ge *payment.GatewayError
		if !errors.As(err, &ge) || ge.Kind != payment.KindRejected || ge.Status != 0 {
			t.Errorf("%s: %v", name, err)
		}
		noCanary(t, name, fmt.Sprint(err))
	}
	if n := len(s.requests()); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
	// Towards WeChat itself the callback must come back over https from outside.
	a := testAttempt(payment.Native)
	for url, want := range map[string]bool{
		"https://pay.example.com/n": true, "http://pay.example.com/n": false, "https://127.0.0.1/n": false,
		"https://localhost/n": false, "https://10.0.0.1/n": false, "https://192.168.1.1:8081/n": false,
		"https://203.0.113.7/n": false, "https://pay.example.com": false,
	} {
		if a.NotifyURL = url; (live.unsendable(&a) == "") != want {
			t.Errorf("notify_url %s towards WeChat: %t, want %t", url, !want, want)
		}
	}
	if a.NotifyURL = "http://127.0.0.1:8081/wechat/v3/notify/payment"; local.unsendable(&a) != "" {
		t.Error("a simulator cannot call back")
	}
}

// An emoji in a product title would make WeChat refuse the whole prepay.
func TestPrepayReplacesEmojiInDescription(t *testing.T) {
	s := newSham(t, prepayAnswer)
	c := testConfig()
	c.BaseURL = s.URL
	g := mustNew(t, c)
	a := testAttempt(payment.Native)
	a.Description = "杯子🎁\n\xffA&B"
	for range 2 { // a repeat must send the same
		if _, err := g.Prepay(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range s.requests() {
		var sent struct{ Description string }
		if err := json.Unmarshal(r.body, &sent); err != nil || sent.Description != "杯子□ □A&B" {
			t.Errorf("sent %q, %v", sent.Description, err)
		}
	}
}

// Shared state between calls (gopay writes into maps and fields) would show
// as a race, or as one order's number in another order's request.
func TestConcurrentCalls(t *testing.T) {
	s := newSham(t, func(r seen) reply {
		switch {
		case strings.HasSuffix(r.uri, "/close"):
			return reply{status: 204}
		case r.method == http.MethodGet:
			no, _, _ := strings.Cut(strings.TrimPrefix(r.uri, "/v3/pay/transactions/out-trade-no/"), "?")
			return reply{status: 200, body: tradeBody(map[string]any{"out_trade_no": no})}
		}
		return prepayAnswer(r)
	})
	c := testConfig()
	c.BaseURL = s.URL
	var mu sync.Mutex
	outcomes := map[string]int{}
	c.Observe = func(op, outcome string, _ time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		outcomes[op+" "+outcome]++
	}
	g := mustNew(t, c)
	notification := notice(tradeBody(nil), nil)
	header := signedHeader(notification)
	var wg sync.WaitGroup
	const callers = 24
	for i := range callers {
		wg.Go(func() {
			no := fmt.Sprintf("ORDER-%04d-01", i)
			for _, tt := range []payment.TradeType{payment.Native, payment.JSAPI, payment.H5, payment.App} {
				a := testAttempt(tt)
				a.OutTradeNo = no
				if _, err := g.Prepay(t.Context(), a); err != nil {
					t.Error(err)
				}
			}
			if tr, err := g.Query(t.Context(), no); err != nil || tr.OutTradeNo != no {
				t.Error(tr.OutTradeNo, err)
			}
			if r, err := g.Close(t.Context(), no); err != nil || r.Answer != payment.CloseAccepted {
				t.Error(r, err)
			}
			if _, err := g.ParseNotification(header, []byte(notification)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if outcomes["prepay ok"] != 4*callers || outcomes["query ok"] != callers ||
		outcomes["close accepted"] != callers || len(outcomes) != 3 {
		t.Errorf("observed %v", outcomes)
	}
}
