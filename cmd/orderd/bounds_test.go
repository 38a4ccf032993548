package main

import (
	"strings"
	"testing"
	"time"
)

// A setting that WeChat Pay refuses, or ends by itself, must be named before the first order meets it.
func TestSettingsThatWeChatPayRefuses(t *testing.T) {
	day := 24 * time.Hour
	for _, tt := range []struct {
		name string
		set  func(*settings)
		says string // "" for a setting that may be
	}{
		{"seven days", func(s *settings) { s.PayWithin = 7*day - s.CloseGrace }, ""},
		{"a second less", func(s *settings) { s.PayWithin = 7*day - s.CloseGrace - time.Second }, ""},
		{"a second more", func(s *settings) { s.PayWithin = 7*day - s.CloseGrace + time.Second }, "ORDERD_PAY_WITHIN"},
		{"twenty days", func(s *settings) { s.PayWithin = 20 * day }, "ORDERD_PAY_WITHIN"},
		{"a shop's of a week", func(s *settings) { s.PayMost = 7*day - s.CloseGrace }, ""},
		{"a shop's of more", func(s *settings) { s.PayMost = 7 * day }, "ORDERD_PAY_WITHIN_MAX"},
		{"a shop's of nothing", func(s *settings) { s.PayLeast = 0 }, "ORDERD_PAY_WITHIN_MIN"},
		{"a shop's turned round", func(s *settings) { s.PayLeast = s.PayMost + time.Second }, "ORDERD_PAY_WITHIN_MIN"},
		{"a shop's of half a second", func(s *settings) { s.PayLeast += time.Second / 2 }, "ORDERD_PAY_WITHIN_MIN"},
		{"a name and a path", func(s *settings) { s.NotifyURL = "https://pay.example.com/wechat/v3/notify" }, ""},
		{"an address", func(s *settings) { s.NotifyURL = "https://203.0.113.7/n" }, "ORDERD_WECHAT_NOTIFY_URL"},
		{"no path", func(s *settings) { s.NotifyURL = "https://pay.example.com" }, "ORDERD_WECHAT_NOTIFY_URL"},
		{"a query", func(s *settings) { s.NotifyURL = "https://pay.example.com/n?a=1" }, "ORDERD_WECHAT_NOTIFY_URL"},
		{"http", func(s *settings) { s.RefundNotifyURL = "http://a.example/n" }, "ORDERD_WECHAT_REFUND_NOTIFY_URL"},
		{"http to a simulator here", func(s *settings) {
			s.NotifyURL, s.BaseURL = "http://127.0.0.1:8081/n", "http://127.0.0.1:7070"
		}, ""},
		{"the payments' address for refunds", func(s *settings) {
			s.RefundNotifyURL = "https://pay.example.com/shop/wechat/v3/notify/payment"
		}, "ORDERD_WECHAT_REFUND_NOTIFY_URL"},
		{"the refunds' address for payments", func(s *settings) {
			s.NotifyURL = "https://pay.example.com/wechat/v3/notify/refund/"
		}, "ORDERD_WECHAT_NOTIFY_URL"},
		{"one address for both", func(s *settings) {
			s.NotifyURL, s.RefundNotifyURL = "https://pay.example.com/n", "https://PAY.example.com:443/n/"
		}, "ORDERD_WECHAT_REFUND_NOTIFY_URL"},
		{"each its own", func(s *settings) {
			s.NotifyURL = "https://pay.example.com/wechat/v3/notify/payment"
			s.RefundNotifyURL = "https://pay.example.com/wechat/v3/notify/refund"
		}, ""},
		{"keys of WeChat Pay's without a merchant", func(s *settings) {
			s.MchID, s.VerifyKeys = "", "PUB_KEY_ID_01=k.pem"
		}, "ORDERD_WECHAT_VERIFY_KEYS"},
		{"an address without a merchant", func(s *settings) { s.MchID, s.NotifyURL = "", "https://a.example/n" },
			"ORDERD_WECHAT_NOTIFY_URL"},
		{"an address for refunds without one", func(s *settings) {
			s.MchID, s.RefundNotifyURL = "", "https://a.example/n"
		}, "ORDERD_WECHAT_REFUND_NOTIFY_URL"},
		{"a response key without one", func(s *settings) { s.MchID, s.ResponseKey = "", "PUB_KEY_ID_01" },
			"ORDERD_WECHAT_RESPONSE_KEY"},
		{"other app ids without one", func(s *settings) { s.MchID, s.OtherAppIDs = "", []string{"wx1"} },
			"ORDERD_WECHAT_OTHER_APPIDS"},
		{"WeChat Pay's address without one", func(s *settings) {
			s.MchID, s.BaseURL = "", "https://api2.mch.weixin.qq.com"
		}, "ORDERD_WECHAT_BASE_URL"},
		{"nothing of WeChat Pay's", func(s *settings) { s.MchID, s.OtherAppIDs = "", []string{} }, ""},
		{"a network", func(s *settings) { s.TrustedProxies = "10.0.0.0/8, 192.0.2.1" }, ""},
		{"everybody", func(s *settings) { s.TrustedProxies = "0.0.0.0/0" }, "ORDERD_TRUSTED_PROXIES"},
		{"a name", func(s *settings) { s.TrustedProxies = "proxy.example" }, "ORDERD_TRUSTED_PROXIES"},
		{"tokens of a minute", func(s *settings) {
			s.CustomerTokenLife, s.OperatorTokenLife = minTokenLife, minTokenLife
		}, ""},
		{"tokens of a year", func(s *settings) {
			s.CustomerTokenLife, s.OperatorTokenLife = maxTokenLife, maxTokenLife
		}, ""},
		{"longer", func(s *settings) { s.CustomerTokenLife = maxTokenLife + 1 }, "ORDERD_CUSTOMER_TOKEN_LIFE"},
		{"a short key of webhooks", func(s *settings) { s.WebhookKey = "short" }, "ORDERD_WEBHOOK_KEY"},
		{"a wrong network of webhooks", func(s *settings) { s.WebhookAllow = "shop" }, "ORDERD_WEBHOOK_ALLOW"},
		{"networks of webhooks", func(s *settings) { s.WebhookAllow = "10.1.0.0/16,fd12::/64" }, ""},
		{"events of a day", func(s *settings) { s.EventsKeep = minEventsKeep }, ""},
		{"of less", func(s *settings) { s.EventsKeep = minEventsKeep - 1 }, "ORDERD_EVENTS_KEEP"},
		{"ended before", func(s *settings) { s.OperatorTokenLife = -time.Hour }, "ORDERD_OPERATOR_TOKEN_LIFE"},
		{"no wrong token at all", func(s *settings) { s.WrongTokens = -1 }, "ORDERD_WRONG_TOKENS"},
		{"more than anybody sends", func(s *settings) { s.WrongTokens = maxWrongTokens + 1 }, "ORDERD_WRONG_TOKENS"},
		{"a replica that is never near enough", func(s *settings) { s.ReadLag = 0 }, "ORDERD_READ_LAG"},
	} {
		s := settings{MchID: "1900000001", PayWithin: 30 * time.Minute, PayLeast: time.Minute, PayMost: day,
			ReadLag:    time.Second,
			CloseGrace: 20 * time.Second, SweepEvery: time.Second, CloseRate: 1, AskEvery: time.Minute, Pace: 1,
			origins: map[string]string{}}
		tt.set(&s)
		if err := s.check(); (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}
