package wechatsim_test

import (
	"encoding/json"
	"strings"
	"testing"

	"orderd/payment/wechatsim"
)

// A client that shows or logs what was wrong reads detail: field, value, issue and location, as WeChat's rules of the
// API have them, and for a text with too many bytes what was captured (easywechat#2954).
func TestParamErrorHasWeChatsShape(t *testing.T) {
	b := start(t, wechatsim.Options{})
	long := strings.Repeat("长", 43)
	for name, c := range map[string]struct {
		got  reply
		want string
	}{
		"body": {b.prepay("SHAPE101",
			func(p map[string]any) { p["amount"] = map[string]any{"total": 1, "currency": "XYZ"} }),
			`{"code":"PARAM_ERROR","message":"参数错误","detail":{"field":"/amount/currency","value":"XYZ",` +
				`"issue":"币种只支持CNY","location":"body"}}`},
		"bytes": {b.prepay("SHAPE102", func(p map[string]any) { p["attach"] = long }),
			`{"code":"PARAM_ERROR","message":"输入源“/body/attach”映射到值字段“附加数据”字符串规则校验失败，字节数 129，` +
				`大于最大值 128","detail":{"value":129,"location":"body"}}`},
		"query": {b.do(request{method: "GET", target: "/v3/pay/transactions/out-trade-no/SHAPE103?mchid=1"}),
			`{"code":"PARAM_ERROR","message":"参数错误","detail":{"field":"mchid","value":"1",` +
				`"issue":"mchid与签名的商户号不一致","location":"query"}}`},
		"url": {b.close("a"), `{"code":"PARAM_ERROR","message":"参数错误","detail":{"field":"out_trade_no","value":"a",` +
			`"issue":"商户订单号须为6-32位数字、大小写字母或_-|*","location":"url"}}`},
	} {
		var got, want any
		must(t, json.Unmarshal([]byte(c.want), &want))
		must(t, json.Unmarshal(c.got.body, &got))
		g, err := json.Marshal(got)
		must(t, err)
		w, err := json.Marshal(want)
		must(t, err)
		if c.got.status != 400 || string(g) != string(w) {
			t.Errorf("%s: %d\n%s\nwant\n%s", name, c.got.status, g, w)
		}
	}
}

// Before the switch a merchant who has the public key alone believes nothing: without this mode nobody sees it before
// the first day of a shop.
func TestBeforeTheSwitchCertificatesSign(t *testing.T) {
	b, s := withShop(t, wechatsim.Options{BeforeSwitch: true, NoSignatureType: true}, false)
	b.open("SWITCH01", s)
	got := b.do(request{method: "GET", target: "/v3/pay/transactions/out-trade-no/SWITCH01?mchid=" + mchID,
		serialWanted: b.keys.PublicKeyID})
	if id := got.header.Get("Wechatpay-Serial"); got.status != 200 || id == b.keys.PublicKeyID || id == "" {
		t.Errorf("%d under %q", got.status, id)
	}
	must(t, b.sim.Pay("SWITCH01", wechatsim.PayOptions{}))
	must(t, b.sim.Notify("SWITCH01", wechatsim.NotifyOptions{}))
	all := s.notices()
	if len(all) != 1 || all[0].err != nil || all[0].serial == b.keys.PublicKeyID {
		t.Errorf("%+v", all)
	}
	if _, err := wechatsim.New(wechatsim.Options{Keys: b.keys, Now: b.now, BeforeSwitch: true,
		PublicKeyOnly: true}); err == nil {
		t.Error("certificates sign for a merchant who has none")
	}
}
