package orderhttp

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment/wechat"
	"orderd/payment/wechatsim"
	"orderd/stock"
)

var simKeys = sync.OnceValues(func() (*wechatsim.Keys, error) {
	return wechatsim.GenerateKeys(ordertest.MchID, ordertest.AppID)
})

// newRealShop is a shop that pays at the simulator, by the gateway.
func newRealShop(t *testing.T, db *sqldb.DB) *shop {
	t.Helper()
	keys, err := simKeys()
	if err != nil {
		t.Fatal(err)
	}
	sim, err := wechatsim.New(wechatsim.Options{Keys: keys, Now: time.Now, StrictClientIP: true})
	if err != nil {
		t.Fatal(err)
	}
	api := httptest.NewServer(sim.Handler())
	k := keys.Client()
	gateway, err := wechat.New(wechat.Config{MchID: k.MchID, AppID: k.AppID, SerialNo: k.SerialNo,
		PrivateKeyPEM: k.PrivateKeyPEM, APIv3Key: k.APIv3Key, VerifyKeys: k.VerifyKeys,
		BaseURL: api.URL, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sim.Close(); api.Close() })
	s := newShopWith(t, db, func(c *order.Config) { c.Gateway = gateway })
	s.Clock.Set(time.Now())
	s.SKU(t, "1001", 1_000_000)
	return s
}

// pointersOf gives what a 422 points at.
func pointersOf(t *testing.T, rec *httptest.ResponseRecorder) string {
	t.Helper()
	var p struct {
		Errors []struct{ Pointer, Detail string }
	}
	if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	var all []string
	for _, e := range p.Errors {
		all = append(all, e.Pointer)
	}
	return strings.Join(all, " ")
}

// What WeChat Pay or a column refuses must be refused where it was sent, by the name of its field: a placed order that
// can never be prepaid holds stock, and a 500 tells nobody what to mend. The bounds are written here once more.
func TestBoundsOfWhatCustomersSend(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		s := newRealShop(t, db)
		n := 0
		ask := func(t *testing.T, path string, body any) *httptest.ResponseRecorder {
			t.Helper()
			n++
			var b bytes.Buffer
			to := json.NewEncoder(&b)
			to.SetEscapeHTML(false)
			if err := to.Encode(body); err != nil {
				t.Fatal(err)
			}
			return s.ask(t, fmt.Sprintf("c%d", n), "POST", path, b.String(), headerKey, fmt.Sprintf("k%d", n))
		}
		type object = map[string]any
		type answer = *httptest.ResponseRecorder
		placed := func(t *testing.T, with object) *httptest.ResponseRecorder {
			with["items"] = []object{{"sku_id": "1001", "quantity": 1}}
			return ask(t, "/v1/orders", with)
		}
		prepaid := func(t *testing.T, with object) *httptest.ResponseRecorder {
			t.Helper()
			o := orderOf(t, placed(t, object{}), 201)
			b, err := json.Marshal(with)
			if err != nil {
				t.Fatal(err)
			}
			return s.ask(t, fmt.Sprintf("c%d", n), "POST", "/v1/orders/"+o.OrderNo+"/prepay", string(b))
		}
		jsapi := func(openid string) object {
			return object{"trade_type": "JSAPI", "payer": object{"openid": openid}}
		}
		h5 := func(trade, ip, kind string) object {
			return object{"trade_type": trade,
				"scene_info": object{"payer_client_ip": ip, "h5_info": object{"type": kind}}}
		}
		for _, f := range []struct {
			name, pointer string
			most          int
			inBytes       bool
			allowed       string // of the runes below, which may be sent at all
			send          func(t *testing.T, s string) answer
		}{
			{"attach", "#/attach", 128, true, "aé字", func(t *testing.T, v string) answer {
				rec := placed(t, object{"attach": v})
				if rec.Code != 201 {
					return rec
				}
				o := orderOf(t, rec, 201)
				if o.Attach != v {
					t.Errorf("attach came back as %q", o.Attach)
				}
				return s.ask(t, fmt.Sprintf("c%d", n), "POST", "/v1/orders/"+o.OrderNo+"/prepay",
					`{"trade_type":"NATIVE"}`)
			}},
			{"remark", "#/remark", 200, false, "aé字🎁", func(t *testing.T, v string) answer {
				return placed(t, object{"remark": v})
			}},
			{"openid", "#/payer/openid", 128, true, "a", func(t *testing.T, v string) answer {
				return prepaid(t, jsapi(v))
			}},
			{"openid of another trade type", "#/payer/openid", 128, true, "a", func(t *testing.T, v string) answer {
				return prepaid(t, object{"trade_type": "NATIVE", "payer": object{"openid": v}})
			}},
			{"payer_client_ip", "#/scene_info/payer_client_ip", 45, true, "", func(t *testing.T, v string) answer {
				return prepaid(t, h5("NATIVE", v, "Wap"))
			}},
			{"payer_client_ip, H5", "#/scene_info/payer_client_ip", 45, true, "", func(t *testing.T, v string) answer {
				return prepaid(t, h5("H5", v, "Wap"))
			}},
			{"h5_info.type", "#/scene_info/h5_info/type", 10, true, "", func(t *testing.T, v string) answer {
				return prepaid(t, h5("NATIVE", "203.0.113.7", v))
			}},
			{"reason", "#/reason", 200, false, "aé字🎁", func(t *testing.T, v string) answer {
				o := orderOf(t, placed(t, object{}), 201)
				b, err := json.Marshal(object{"reason": v})
				if err != nil {
					t.Fatal(err)
				}
				return s.ask(t, fmt.Sprintf("c%d", n), "POST", "/v1/orders/"+o.OrderNo+"/cancel", string(b))
			}},
		} {
			for _, r := range []string{"a", "é", "字", "🎁"} {
				size := 1
				if f.inBytes {
					size = len(r)
				}
				for _, length := range []int{f.most/size - 1, f.most / size, f.most/size + 1} {
					fits := length*size <= f.most && strings.Contains(f.allowed, r)
					rec := f.send(t, strings.Repeat(r, length))
					if fits && rec.Code >= 300 {
						t.Errorf("%s of %d × %q: %d %s", f.name, length, r, rec.Code, rec.Body)
					}
					if !fits && (rec.Code != 422 || pointersOf(t, rec) != f.pointer) {
						t.Errorf("%s of %d × %q: %d %s, want 422 at %s", f.name, length, r, rec.Code, rec.Body,
							f.pointer)
					}
				}
			}
		}
		for _, ok := range []object{h5("H5", "2001:0db8:0000:0000:0000:ffff:203.113.100.200", "iOS"), jsapi("o_-.9"),
			h5("NATIVE", "203.0.113.7", "Android")} {
			if rec := prepaid(t, ok); rec.Code != 200 {
				t.Errorf("%v: %d %s", ok, rec.Code, rec.Body)
			}
		}
		for _, ip := range []string{"192.168.1.7", "0.0.0.0", "fe80::1", "100.64.0.9", "::ffff:10.0.0.1"} {
			rec := prepaid(t, h5("H5", ip, "Wap"))
			if rec.Code != 422 || pointersOf(t, rec) != "#/scene_info/payer_client_ip" {
				t.Errorf("a payer at %s: %d %s", ip, rec.Code, rec.Body)
			}
		}
		for pointer, wrong := range map[string]object{
			"#/payer/openid":               jsapi(""),
			"#/scene_info/payer_client_ip": h5("H5", "127.0.0.1", "Wap"),
			"#/scene_info/h5_info/type":    h5("H5", "203.0.113.7", ""),
			"#/trade_type":                 {"trade_type": "MICROPAY"},
		} {
			if rec := prepaid(t, wrong); rec.Code != 422 || pointersOf(t, rec) != pointer {
				t.Errorf("%v: %d %s", wrong, rec.Code, rec.Body)
			}
		}
	})
}

// The same value must not be told two things: here, and by the service that stores it.
func TestOneMessageEverywhere(t *testing.T) {
	eachShop(t, func(t *testing.T, s *shop) {
		long := strings.Repeat("字", 43)
		rec := s.ask(t, "c", "POST", "/v1/orders", `{"items":[{"sku_id":"1001","quantity":1}],"attach":"`+long+`"}`,
			headerKey, "k", "Accept-Language", "en")
		var p Problem
		if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil || len(p.Errors) != 1 {
			t.Fatalf("%d %s", rec.Code, rec.Body)
		}
		const want = "attach has 129 bytes: at most 128 bytes"
		_, err := s.Place(t.Context(), order.Placement{CustomerID: "c", RequestID: "k",
			Lines: []stock.Line{{SkuID: "1001", Quantity: 1}}, Attach: long})
		if p.Errors[0].Detail != want || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("over HTTP %q, from the service %v, want %q", p.Errors[0].Detail, err, want)
		}
	})
}
