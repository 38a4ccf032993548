package orderhttp

import (
	"net/http/httptest"
	"strings"
	"testing"

	"orderd/order"
	"orderd/payment"
)

// The payer's address decides whether WeChat Pay lets an H5 buyer pay. A client that could write it into
// X-Forwarded-For would choose it, and a gateway's own address is nobody's.
func TestPayerAddressFromTrustedProxiesOnly(t *testing.T) {
	const proxies = "10.0.0.0/8, 2001:db8::1"
	for _, tt := range []struct {
		proxies, peer string
		forwarded     []string
		want          string
	}{
		{"", "10.0.0.1:5", []string{"203.0.113.7"}, ""},
		{proxies, "10.0.0.1:5", []string{"203.0.113.7"}, "203.0.113.7"},
		{proxies, "[2001:db8::1]:5", []string{"203.0.113.7"}, "203.0.113.7"},
		{proxies, "10.0.0.1:5", []string{"203.0.113.7, 10.0.0.2"}, "203.0.113.7"},
		{proxies, "10.0.0.1:5", []string{"198.51.100.1, 203.0.113.7"}, "203.0.113.7"},
		{proxies, "10.0.0.1:5", []string{"198.51.100.1", "203.0.113.7"}, "203.0.113.7"},
		{proxies, "10.0.0.1:5", []string{"198.51.100.1, nonsense"}, ""},
		{proxies, "10.0.0.1:5", []string{"10.0.0.3"}, ""},
		{proxies, "10.0.0.1:5", nil, ""},
		{proxies, "198.51.100.9:5", []string{"203.0.113.7"}, "198.51.100.9"},
		{proxies, "10.0.0.1:5", []string{"::ffff:203.0.113.7"}, "203.0.113.7"},
		{proxies, "10.0.0.1:5", []string{"2001:db8::7"}, "2001:db8::7"},
		{proxies, "[::ffff:10.0.0.1]:5", []string{"203.0.113.7"}, "203.0.113.7"},
		{"::ffff:10.0.0.0/104", "10.0.0.1:5", []string{"203.0.113.7"}, "203.0.113.7"},
		{"::ffff:10.0.0.1", "10.0.0.1:5", []string{"203.0.113.7"}, "203.0.113.7"},
		{proxies, "10.0.0.1:5", []string{"203.0.113.7:4711"}, "203.0.113.7"},
		{proxies, "10.0.0.1:5", []string{"[2001:db8::7]:4711"}, "2001:db8::7"},
		{proxies, "10.0.0.1:5", []string{"[2001:db8::7]"}, "2001:db8::7"},
		{proxies, "10.0.0.1:5", []string{"203.0.113.7, "}, "203.0.113.7"},
		{proxies, "10.0.0.1:5", []string{"203.0.113.7", ""}, "203.0.113.7"},
		{proxies, "10.0.0.1:5", []string{"198.51.100.1, 192.168.1.7"}, ""}, // not WeChat Pay's view of anybody
		{proxies, "192.168.1.9:5", nil, ""},
	} {
		w := newWorld(t, func(o *Options) {
			var err error
			if o.TrustedProxies, err = ParseProxies(tt.proxies); err != nil {
				t.Fatal(err)
			}
		})
		got := "not asked"
		w.prepaid = func(r order.PrepayRequest) (order.Prepayment, error) {
			got = r.ClientIP
			return order.Prepayment{TradeType: payment.H5}, nil
		}
		send := func(body string) {
			r := httptest.NewRequest("POST", "/v1/orders/"+someOrder+"/prepay", strings.NewReader(body))
			r.RemoteAddr = tt.peer
			for _, v := range tt.forwarded {
				r.Header.Add("X-Forwarded-For", v)
			}
			r.Header.Set("Authorization", "Bearer "+token(t, "c1", epoch))
			w.echo.ServeHTTP(httptest.NewRecorder(), r)
		}
		if send(`{"trade_type":"H5","scene_info":{"h5_info":{"type":"Wap"}}}`); got != tt.want {
			t.Errorf("%q, %s, %v: %q, want %q", tt.proxies, tt.peer, tt.forwarded, got, tt.want)
		}
		send(`{"trade_type":"H5","scene_info":{"payer_client_ip":"192.0.2.1","h5_info":{"type":"Wap"}}}`)
		if got != "192.0.2.1" {
			t.Errorf("what the shop says is replaced by %q", got)
		}
		if send(`{"trade_type":"NATIVE"}`); got != "" {
			t.Errorf("a Native payment has the address %q", got)
		}
	}
}

// A list that trusts everybody, or nobody by a slip, is not a list.
func TestParseProxies(t *testing.T) {
	for list, n := range map[string]int{"": 0, "10.0.0.0/8": 1, "10.0.0.1,::1": 2, "fc00::/7": 1,
		"::ffff:10.0.0.0/104": 1, " 10.0.0.1 , 10.0.0.2 ": 2} {
		if got, err := ParseProxies(list); err != nil || len(got) != n {
			t.Errorf("%q: %v %v", list, got, err)
		}
	}
	for _, list := range []string{"0.0.0.0/0", "::/0", "0.0.0.0/1,128.0.0.0/1", "::ffff:0.0.0.0/96", "2000::/3",
		"10.0.0.0/33", "proxy.example", "10.0.0", "fe80::1%eth0"} {
		if got, err := ParseProxies(list); err == nil {
			t.Errorf("%q: %v", list, got)
		}
	}
}
