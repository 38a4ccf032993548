package console

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/payment/shipping"
)

// newShippingDesk is a desk of a mini program's shop, and an order that was paid there.
func newShippingDesk(t *testing.T) (d *desk, no string) {
	t.Helper()
	db := sqldbtest.SQLite(t)
	f := ordertest.NewWith(t, db, func(c *order.Config) {
		ships, err := shipping.New(shipping.Config{DB: db, AppID: c.AppID, Now: c.Now})
		if err != nil {
			t.Fatal(err)
		}
		c.Shipments = ships
	})
	d = newDeskOf(t, f, nil)
	d.SKU(t, "mug", 100)
	o := d.PlaceOne(t, "a", "mug", 1)
	p, err := d.Prepay(t.Context(), order.PrepayRequest{OrderNo: o.OrderNo, CustomerID: "c", TradeType: payment.JSAPI,
		OpenID: "buyer", Cause: ordertest.Customer})
	if err != nil {
		t.Fatal(err)
	}
	trade, err := d.WeChat.Pay(p.OutTradeNo, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Settle(t.Context(), trade, ordertest.Notified); err != nil {
		t.Fatal(err)
	}
	return d, o.OrderNo
}

// A shipment that cannot be listed, or whose refusal does not say which field is wrong, is reported late: WeChat then
// keeps the shop's money.
func TestShipments(t *testing.T) {
	d, no := newShippingDesk(t)
	one, all := "/admin/v1/orders/"+no+"/shipment", "/admin/v1/shipments"
	want(t, d.ask(Viewer, "GET", all, ""), 200, no)
	want(t, d.ask(Viewer, "GET", all+"?state=OWED", ""), 200, no)
	want(t, d.ask(Viewer, "GET", all+"?state=DUE", ""), 200, "[]")
	want(t, d.ask(Viewer, "GET", all+"?state=LATE", ""), 422, `"?state"`)
	want(t, d.ask(Viewer, "GET", all+"?cursor=x", ""), 422, "cursor")
	want(t, d.ask(Viewer, "GET", "/admin/v1/orders/01NONE/shipment", ""), 404, "NOT_FOUND")
	want(t, d.ask(Viewer, "GET", one, ""), 200, `"state":"OWED"`)
	want(t, d.ask(Viewer, "GET", "/ui/shipments", ""), 200, no)

	good := `{"way":"express","parcels":[{"carrier":"YTO","number":"YT1","goods":"a mug"}]}`
	want(t, d.ask(Viewer, "POST", one, good), 403, "FORBIDDEN")
	want(t, d.ask(Operator, "POST", one, `{"way":"express","parcels":[{"carrier":"YTO","number":"YT1","goods":""}]}`),
		422, "#/parcels/0/goods")
	want(t, d.ask(Operator, "POST", one, `{"way":"pigeon","parcels":[]}`), 422, "#/way")
	want(t, d.ask(Operator, "POST", one, `{"weigh":"express"}`), 400, "weigh")
	want(t, d.ask(Operator, "POST", "/admin/v1/orders/01NONE/shipment", good), 409, "SHIPMENT_NOT_POSSIBLE")
	want(t, d.ask(Operator, "POST", one, good), 202, `"state":"DUE"`)
	want(t, d.ask(Operator, "POST", one, good), 202, `"version":1`) // the same again is the same
	want(t, d.ask(Viewer, "GET", all+"?state=DUE&limit=1", ""), 200, "YT1")
	want(t, d.ask(Viewer, "GET", all, ""), 200, "[]")
	want(t, d.ask(Viewer, "GET", "/ui/shipments", ""), 200, "待上报")
	want(t, d.ask(Viewer, "GET", "/", ""), 200, "/ui/shipments")
	if strings.Contains(d.ask(Viewer, "GET", "/ui/shipments", "").Body.String(), "<b>还有后续包裹") {
		t.Error("the page says of all that more is to come")
	}
	want(t, d.ask(Operator, "POST", one, strings.Replace(good, "{", `{"partial":true,`, 1)), 202, `"partial":true`)
	want(t, d.ask(Viewer, "GET", "/ui/shipments", ""), 200, "<b>还有后续包裹")
}

// An order goes out in several parcels, each with its number: whoever can say one of them only tells WeChat and the
// buyer of a part. What was said before is in the form, because a content replaces the one before it.
func TestSeveralParcelsAreSentByAForm(t *testing.T) {
	d, no := newShippingDesk(t)
	b := d.browser(t, "li", Operator)
	path := "/ui/orders/" + no + "/ship"
	send := func(more string) []string {
		sent, _, err := ships(t, d).Find(t.Context(), no)
		if err != nil {
			t.Fatal(err)
		}
		return []string{"version", fmt.Sprint(sent.Version), "way", "express", "carrier", "YTO", "number", "YT1",
			"goods", "杯子", "more", more}
	}
	want(t, b.post(path, send("YTO")...), 422, "每行为")
	want(t, b.post(path, send("YTO,YT2,a,189****1234,x")...), 422, "每行为")
	want(t, b.post(path, send("YTO,YT2\nSF,SF3,灯")...), 422, "#/parcels/2/contact")
	want(t, b.post(path, send("YTO\tYT2\r\nSF\t")...), 422, "YTO,YT2\nSF,</textarea>") // as it was typed
	want(t, b.post(path, send(strings.Repeat("YTO,YT2\n", 15))...), 422, "#/parcels")
	leads(t, b.post(path, send("YTO,YT2\r\n\r\nSF\tSF3\t灯\t189****1234\r\n，ZTO，Z4，")...), "/ui/shipments")
	sent, _, err := ships(t, d).Find(t.Context(), no)
	if got := fmt.Sprint(sent.Content.Parcels); err != nil ||
		got != "[{YTO YT1 杯子 } {YTO YT2 杯子 } {SF SF3 灯 189****1234} {ZTO Z4 杯子 }]" {
		t.Fatalf("%s %v", got, err)
	}
	page := b.get(path).Body.String()
	for _, text := range []string{`value="YT1"`, "YTO,YT2,杯子\nSF,SF3,灯,189****1234\nZTO,Z4,杯子"} {
		if !strings.Contains(page, text) {
			t.Errorf("the form does not have %q", text)
		}
	}
}

// Two people have the form open: the parcels of the one who was first are in nobody's hand if the other's replace them
// without a word. Who was second is told, sees both, and may send theirs once more.
func TestTheSecondOfTwoShippersIsTold(t *testing.T) {
	d, no := newShippingDesk(t)
	li, wang := d.browser(t, "li", Operator), d.browser(t, "wang", Operator)
	path := "/ui/orders/" + no + "/ship"
	version := hidden(t, wang.get(path).Body.String(), "version")
	send := func(goods string) []string {
		return []string{"version", version, "way", "express", "carrier", "YTO", "number", "YT1", "goods", goods, "more",
			"YTO\tYT2\tpots, blue"}
	}
	leads(t, li.post(path, send("a mug")...), "/ui/shipments")
	leads(t, li.post(path, send("a mug")...), "/ui/shipments") // pressed twice: it is the same
	w := wang.post(path, send("a lamp")...)
	want(t, w, 412, "发货信息已被他人修改")
	page := w.Body.String()
	if hidden(t, page, "goods") != "a mug" || !strings.Contains(page, "在您填写期间已有变化") ||
		!strings.Contains(page, "<samp>a lamp</samp>") {
		t.Errorf("%s", page)
	}
	if sent, _, err := ships(t, d).Find(t.Context(), no); err != nil || sent.Content.Parcels[0].Goods != "a mug" {
		t.Fatalf("%+v %v", sent, err)
	}
	version = hidden(t, page, "version")
	leads(t, wang.post(path, send("a lamp")...), "/ui/shipments")
	one := "/admin/v1/orders/" + no + "/shipment"
	body := `{"way":"express","parcels":[{"carrier":"YTO","number":"YT9","goods":"a pan"}]}`
	want(t, d.ask(Operator, "POST", one, body, "If-Match", `"v1"`), 412, "VERSION_MISMATCH")
	want(t, d.ask(Operator, "POST", one, body, "If-Match", "1"), 412, "VERSION_MISMATCH")
	w = d.ask(Operator, "POST", one, body, "If-Match", d.ask(Viewer, "GET", one, "").Header().Get("ETag"))
	if want(t, w, 202, "a pan"); w.Header().Get("ETag") != `"v3"` {
		t.Errorf("%v", w.Header())
	}
}

// What is in a parcel may have commas and quotation marks: a form that is opened and sent again must not make other
// parcels of them.
func TestParcelsWithCommasComeBackAsTheyWere(t *testing.T) {
	first := [4]string{"YTO", "YT1", "杯子", ""}
	for _, goods := range []string{"cups, blue", "杯，蓝", `5" pan`, `"a", "b"`, `"`, "x,", ",x", "“灯”", "plain", `a ""`} {
		c := shipping.Content{Way: shipping.Express, Parcels: []shipping.Parcel{{Carrier: "YTO", Number: "YT1",
			Goods: "杯子"}, {Carrier: "SF", Number: "SF2", Goods: goods, Contact: "189****1234"}, {Carrier: "ZTO",
			Number: "Z3", Goods: goods}}}
		more := shipValues(&c)["more"]
		for n, line := range strings.Split(strings.TrimSpace(string(input{Value: more}.Text())), "\n") {
			want := []string{"ZTO", "Z3", goods}
			if n == 0 {
				want = []string{"SF", "SF2", goods, "189****1234"}
			}
			if got := cells(line); !slices.Equal(got, want) {
				t.Errorf("%q is %q, want %q", line, got, want)
			}
		}
	}
	for line, want := range map[string]string{"SF\tSF3\tcups, blue\t189****1234": "SF|SF3|cups, blue|189****1234",
		"SF,SF3,,189****1234": "SF|SF3|杯子|189****1234"} {
		for _, line := range []string{line, string(input{Value: line}.Text())} {
			body, err := shipBody(nil, map[string]string{"carrier": first[0], "number": first[1], "goods": first[2],
				"more": line})
			if err != nil {
				t.Fatal(err)
			}
			p, _ := body["parcels"].([]any)[1].(map[string]any)
			if got := fmt.Sprintf("%v|%v|%v|%v", p["carrier"], p["number"], p["goods"], p["contact"]); got != want {
				t.Errorf("%q is %s", line, got)
			}
		}
	}
}

// ships reads what a desk's orders have sent.
func ships(t *testing.T, d *desk) *shipping.Service {
	t.Helper()
	s, err := shipping.New(shipping.Config{DB: d.DB, AppID: ordertest.AppID, Now: d.Clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	return s
}
