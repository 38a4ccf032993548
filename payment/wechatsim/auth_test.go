package wechatsim_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"orderd/payment/wechatsim"
)

// Without the signature check a gateway that signs wrongly would pass every
// test here and nothing would work in life.
func TestRequestsAreAuthenticated(t *testing.T) {
	set := func(name, value string) func(map[string]string) { return func(p map[string]string) { p[name] = value } }
	tests := map[string]func(*request){
		"no header":    func(r *request) { r.authorization = func(string) string { return "" } },
		"other scheme": func(r *request) { r.authorization = func(h string) string { return "Bearer" + h[25:] } },
		"nonsense": func(r *request) {
			r.authorization = func(h string) string {
				return h[:26] +
					"nonsense"
			}
		},
		"missing part":       func(r *request) { r.parts = func(p map[string]string) { delete(p, "nonce_str") } },
		"other merchant":     func(r *request) { r.parts = set("mchid", "1900000002") },
		"other serial":       func(r *request) { r.parts = set("serial_no", strings.Repeat("A", 40)) },
		"not base64":         func(r *request) { r.parts = set("signature", "???") },
		"other nonce":        func(r *request) { r.parts = set("nonce_str", "another") },
		"timestamp no digit": func(r *request) { r.parts = set("timestamp", "now") },
		"too old":            func(r *request) { r.at = time.Now().Add(-5*time.Minute - 2*time.Second) },
		"from the future":    func(r *request) { r.at = time.Now().Add(5*time.Minute + 2*time.Second) },
		"other target": func(r *request) {
			r.afterSigning = func(q *http.Request) { q.URL.RawQuery = "" }
		},
		"other body": func(r *request) {
			r.method, r.body = "POST", params("FORGED01", nil)
			r.afterSigning = func(q *http.Request) { q.Body = http.NoBody; q.ContentLength = 0 }
		},
	}
	b := start(t, wechatsim.Options{})
	for name, tamper := range tests {
		t.Run(name, func(t *testing.T) {
			r := request{method: "GET", target: "/v3/pay/transactions/out-trade-no/NOSUCH01?mchid=" + mchID}
			if tamper(&r); r.method == "POST" {
				r.target = "/v3/pay/transactions/native"
			}
			got := b.do(r).want(t, 401, "SIGN_ERROR")
			if got.header.Get("Wechatpay-Signature") != "" || got.header.Get("Request-Id") != "" {
				t.Errorf("headers of a 401: %v", got.header)
			}
		})
	}
	b.do(request{method: "GET", target: "/v3/pay/transactions/out-trade-no/NOSUCH01?mchid=" + mchID,
		at: time.Now().Add(-4 * time.Minute)}).want(t, 404, "ORDER_NOT_EXIST")
}

// Without the limit a client that posts without end would fill the memory.
func TestLongBodyIsRefused(t *testing.T) {
	b := start(t, wechatsim.Options{})
	r := b.prepay("TOOLONG1", func(p map[string]any) { p["goods_tag"] = strings.Repeat("x", 70_000) })
	if r.err == nil {
		r.want(t, 400, "PARAM_ERROR")
	}
	if _, found := b.sim.Trade("TOOLONG1"); found {
		t.Error("it was taken")
	}
}

// Without the option a client that re-sends a signed request byte by byte could
// not be caught; without the default it could not be served.
func TestNonceReplay(t *testing.T) {
	target := "/v3/pay/transactions/out-trade-no/NOSUCH01?mchid=" + mchID
	strict, usual := start(t, wechatsim.Options{RefuseReplay: true}), start(t, wechatsim.Options{})
	for i, want := range []int{404, 401} {
		got := strict.do(request{method: "GET", target: target, nonce: "abc"})
		if got.status != want {
			t.Errorf("call %d: %d, want %d", i, got.status, want)
		}
		usual.do(request{method: "GET", target: target, nonce: "abc"}).want(t, 404, "ORDER_NOT_EXIST")
	}
	for i := range 3 {
		strict.do(request{method: "GET", target: target, nonce: fmt.Sprint("n", i)}).want(t, 404, "ORDER_NOT_EXIST")
	}
}
