package wechatsim_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"orderd/payment/wechatsim"
)

// The bodies in testdata are answers of the real WeChat Pay that others have published, with what names their merchants
// taken out. A simulator that answers in another shape would have clients tested against a fiction.
//
//   - notpay.json, order_not_exist.json: of a query, seen in public issues of client libraries (2021)
//   - sign_error.json: a 401, likewise
//   - orderpaid.json: of a close, developers.weixin.qq.com/community/pay/doc/0002e4a890cf…
func TestAnswersHaveTheShapeOfCapturedOnes(t *testing.T) {
	b := start(t, wechatsim.Options{})
	b.prepay("SHAPE001", nil).want(t, 200, "")
	b.prepay("SHAPE002", nil).want(t, 200, "")
	must(t, b.sim.Pay("SHAPE002", wechatsim.PayOptions{}))
	forged := request{method: "POST", target: "/v3/pay/transactions/native", body: params("SHAPE003", nil),
		parts: func(p map[string]string) { p["signature"] = "AAAA" }}
	for file, got := range map[string]reply{"notpay": b.query("SHAPE001"), "order_not_exist": b.query("SHAPE003"),
		"orderpaid": b.close("SHAPE002"), "sign_error": b.do(forged)} {
		captured, err := os.ReadFile(filepath.Join("testdata", file+".json"))
		must(t, err)
		want, have := shape(t, captured), shape(t, got.body)
		if !slices.Equal(want, have) {
			t.Errorf("%s: captured\n%s\nhere\n%s", file, strings.Join(want, "\n"), strings.Join(have, "\n"))
		}
	}
}

// shape lists the fields of a body with the kind of each, and the texts that are the same for every merchant.
func shape(t *testing.T, body []byte) []string {
	t.Helper()
	var v any
	must(t, json.Unmarshal(body, &v))
	var all []string
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, inner := range v {
				walk(path+"/"+k, inner)
			}
		case []any:
			all = append(all, path+" list")
		case string:
			if slices.Contains([]string{"/code", "/message", "/trade_state", "/trade_state_desc"}, path) {
				path += " " + v
			}
			all = append(all, path+" text")
		default:
			all = append(all, path+" number")
		}
	}
	walk("", v)
	slices.Sort(all)
	return all
}
