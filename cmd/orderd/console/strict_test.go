package console

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/payment/operators"
	"orderd/stock"
)

// A misspelt filter that is ignored shows all orders, and whoever acts on the list acts on all of them.
func TestFiltersThatAreNotThereAreRefused(t *testing.T) {
	d := newDesk(t)
	anna := d.browser(t, "anna", Admin)
	for _, r := range d.routes {
		method, path := r[0], r[1]
		if method != http.MethodGet || path == "/healthz" || path == "/readyz" || path == "/metrics" {
			continue
		}
		path = strings.NewReplacer(":no", "01JD4ZABCDEFGHJKMNPQRSTVWX", ":id", "x", ":name", "heap").Replace(path)
		w := d.ask(Admin, method, path+"?statee=paid", "")
		if forBrowsers(method, r[1]) {
			w = anna.send(method, path+"?statee=paid", nil)
		}
		if w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), "?statee") {
			t.Errorf("%s %s?statee=paid: %d %.200s", method, path, w.Code, w.Body)
		}
		for _, name := range parameters[r[1]] {
			if !strings.Contains(w.Body.String(), name) {
				t.Errorf("%s: the refusal does not name %s: %s", path, name, w.Body)
			}
		}
	}
	for _, query := range []string{
		"orders?trade_type=native", "orders?paid_from=2026-01-01", "orders?stuck=maybe", "orders?stat=paid",
		"orders?state=nonsense", "orders?state=PAID", "orders?state=paid&state=closed", "orders?limit=0",
		"orders?limit=x",
		"orders?amount_min=1.5", "orders?created_from=yesterday", "refunds?state=nonsense", "refunds?why=late",
		"differences?status=open", "differences?type=x", "differences?limit=201", "reconciliations?before=x",
		"tasks/dead?type=x", "tasks/dead?state=x", "skus?limit=201", "skus?sku_id=1", "payments/held?reason=x",
		"shipments?state=x",
	} {
		if w := d.ask(Admin, "GET", "/admin/v1/"+query, ""); w.Code != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %.200s", query, w.Code, w.Body)
		}
	}
	for _, name := range []string{"sku_id=x", "amount_min=1", "amount_max=1", "trade_type=NATIVE",
		"paid_from=2026-01-01T00:00:00Z", "paid_to=2026-01-01T00:00:00Z", "closed_from=2026-01-01T00:00:00Z",
		"closed_to=2026-01-01T00:00:00Z"} {
		want(t, d.ask(Viewer, "GET", "/admin/v1/orders?"+name, ""), 422, "NEEDS_RANGE")
		want(t, d.ask(Viewer, "GET", "/admin/v1/orders?"+name+"&customer_id=c", ""), 200, "[]")
		want(t, d.ask(Viewer, "GET", "/admin/v1/orders?"+name+
			"&created_from=2026-01-01T00:00:00Z&created_to=2026-02-01T00:00:00Z", ""), 200, "[]")
	}
	for _, query := range []string{"orders?stuck=true", "orders?stuck=1&state=paid&limit=1", "orders?stuck=false",
		"differences?status=OPEN", "skus?limit=1", "shipments", "shipments?state=DUE&limit=1",
		"tasks/dead?type=order:expire"} {
		want(t, d.ask(Admin, "GET", "/admin/v1/"+query, ""), 200, "[]")
	}
}

// The word that is ignored is the one that mattered: stuck=true showed everything.
func TestStuckMeansStuck(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 10)
	old := d.PlaceOne(t, "a", "mug", 1)
	d.Clock.Set(old.DueAt.Add(order.StuckAfter + 1e9))
	fresh := d.PlaceOne(t, "b", "mug", 1)
	w := d.ask(Viewer, "GET", "/admin/v1/orders?stuck=true", "")
	if !strings.Contains(w.Body.String(), old.OrderNo) || strings.Contains(w.Body.String(), fresh.OrderNo) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// A price in dollars that is stored as yuan sells at a seventh; a name given twice, or in another case, is a coin that
// is thrown.
func TestBodiesOfOperatorsAreReadStrictly(t *testing.T) {
	d := newDesk(t)
	for _, body := range []string{
		`{"title":"Mug","price":{"total":100,"currency":"USD"},"quantity":1}`,
		`{"title":"Mug","price":{"total":100,"currency":"cny"},"quantity":1}`,
		`{"title":"Mug","Price":{"total":100},"quantity":1}`,
		`{"title":"Mug","price":{"total":100,"total":1},"quantity":1}`,
		`{"title":"Mug","title":"Cup","price":{"total":100},"quantity":1}`,
		`{"title":"Mug","price":{"total":100,"x":1},"quantity":1}`,
		`{"title":"Mug","price":{"total":100},"quantity":1} {}`,
	} {
		if w := d.ask(Operator, "PUT", "/admin/v1/skus/x", body); w.Code != 400 && w.Code != 422 {
			t.Errorf("%s: %d %s", body, w.Code, w.Body)
		}
	}
	good := `{"title":"Mug","price":{"total":100},"quantity":1}`
	want(t, d.ask(Operator, "PUT", "/admin/v1/skus/x", good), 201, "CNY")
	for _, low := range []struct {
		at     string
		status int
		says   string
	}{{"3", 200, `"low_at":3`}, {"0", 200, `"low_at":null`}, {"-1", 422, "low_at"}} {
		version := d.ask(Operator, "GET", "/admin/v1/skus/x", "").Header().Get("ETag")
		want(t, d.ask(Operator, "PUT", "/admin/v1/skus/x", `{"title":"Mug","price":{"total":100},"low_at":`+low.at+`}`,
			"If-Match", version), low.status, low.says)
	}
	want(t, d.ask(Operator, "POST", "/admin/v1/tasks/dead/run", `{"type":"order:expir"}`), 422, "order:expire")
}

// Two people who number their deliveries alike have two deliveries: one that is swallowed is on the shelf and cannot be
// sold.
func TestTwoPeopleWithOneKeyAreTwoDeliveries(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 10)
	secrets := map[string]string{}
	for _, name := range []string{"li", "wang"} {
		s, err := d.tokens.Create(t.Context(), name, operators.Operator, operators.Bootstrap)
		if err != nil {
			t.Fatal(err)
		}
		secrets[name] = s
	}
	deliver := func(name, body string, status int, replayed string) {
		t.Helper()
		w := d.ask("", "POST", "/admin/v1/skus/mug/replenish", body, "Idempotency-Key", "delivery-1", "Authorization",
			"Bearer "+secrets[name])
		if w.Code != status || w.Header().Get("Idempotent-Replayed") != replayed {
			t.Errorf("%s: %d %q %s", name, w.Code, w.Header().Get("Idempotent-Replayed"), w.Body)
		}
	}
	const five = `{"quantity":5,"reason":"truck"}`
	for range 2 { // and both click twice
		replayed := map[bool]string{true: "true"}[d.Available(t, "mug") > 10]
		deliver("li", five, 200, replayed)
		deliver("wang", five, 200, replayed)
	}
	if n := d.Available(t, "mug"); n != 20 {
		t.Errorf("%d on the shelf, 20 came", n)
	}
	// Another body is another request.
	deliver("li", `{"quantity":6,"reason":"truck"}`, 422, "")
	deliver("wang", `{"quantity":5,"reason":"another truck"}`, 422, "")
	d.AssertVerified(t)
}

// A body has one reading: what is given twice, in another case or without effect is refused, in a list too.
func TestBodiesAreReadStrictly(t *testing.T) {
	d, no := newShippingDesk(t)
	o := "/admin/v1/orders/" + no
	for _, parcel := range []string{`{"carrier":"YTO","number":"YT1","number":"YT2","goods":"a mug"}`,
		`{"Carrier":"YTO","NUMBER":"YT3","goods":"a mug"}`} {
		want(t, d.ask(Operator, "POST", o+"/shipment", `{"way":"express","parcels":[`+parcel+`]}`), 400,
			"MALFORMED_REQUEST")
	}
	for _, r := range []struct {
		role       Role
		path, body string
	}{
		{Operator, "/admin/v1/tasks/dead/run?type=order:expire&dry_run=true", `{"all":true,"dry_run":false}`},
		{Operator, o + "/payment-query?dry_run=1", ""},
		{Finance, "/admin/v1/reconciliations?bill_date=2020-01-01", `{"bill_date":"2020-01-02"}`},
	} {
		want(t, d.ask(r.role, "POST", r.path, r.body), 422, "UNKNOWN_FIELD")
	}
	for _, body := range []string{`{"dry_run":true}`, `x`} {
		want(t, d.ask(Operator, "POST", o+"/payment-query", body), 400, "MALFORMED_REQUEST")
	}
}

// A cursor that no page ended with shows the first page again, and who goes by it reads that for ever.
func TestCursorsAreOfTheirList(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 10)
	d.PlaceOne(t, "a", "mug", 1)
	for _, list := range []string{"orders", "skus", "refunds", "payments/held", "held", "differences",
		"reconciliations",
		"shipments", "tasks/dead"} {
		for _, cursor := range []string{"%F0%9F%8E%81", "a%20b", "%0A", "2026-13-01-ALL", "2026-01-01-SOME",
			"2026-01-01"} {
			if list == "skus" && strings.HasPrefix(cursor, "2026") || list == "refunds" && cursor[0] == '2' ||
				(list == "payments/held" || list == "held") && cursor[0] == '2' {
				continue // may be the id of one
			}
			want(t, d.ask(Admin, "GET", "/admin/v1/"+list+"?cursor="+cursor, ""), 422, `"?cursor"`)
		}
		want(t, d.ask(Admin, "GET", "/admin/v1/"+list+"?limit=1&cursor=", ""), 200, "next_cursor")
	}
	for _, q := range []string{"orders?stuck=", "orders?state=", "orders?limit=", "differences?status="} {
		want(t, d.ask(Admin, "GET", "/admin/v1/"+q, ""), 422, "REQUIRED")
	}
}

// Two values of one header are two readers' two requests.
func TestHeadersThatDecideAreGivenOnce(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 1)
	o := d.PlaceOne(t, "a", "mug", 1)
	for _, r := range []struct {
		path, body, name string
		values           []string
		status           int
	}{
		{"/admin/v1/skus/mug/replenish", `{"quantity":1,"reason":"truck"}`, "Idempotency-Key",
			[]string{"one", "two"}, 400},
		{"/admin/v1/orders/" + o.OrderNo + "/close", `{"reason":"x"}`, "If-Match", []string{`"v1"`, `"v9"`}, 412},
	} {
		req := httptest.NewRequest(http.MethodPost, r.path, strings.NewReader(r.body))
		req.Header = http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer " + secret(Operator)},
			r.name: r.values}
		w := httptest.NewRecorder()
		d.ServeHTTP(w, req)
		if w.Code != r.status {
			t.Errorf("two %s: %d %s", r.name, w.Code, w.Body)
		}
	}
}

// Of two fields of a form nobody knows which counts, and one that is cut is another.
func TestFormFieldsAreGivenOnce(t *testing.T) {
	d := newDesk(t)
	for _, fields := range [][][2]string{
		{{"bill_date", "2027-01-14"}, {"bill_date", "2027-01-15"}},
		{{"bill_date", "2027-01-15"}, {"reason", strings.Repeat("a", 5000)}},
		{{"bill_date", "2027-01-15"}, {"reason", strings.Repeat("a", 201)}},
	} {
		body, media := billForm(t, fields...)
		if w := d.ask(Finance, "POST", "/admin/v1/reconciliations", string(body), "Content-Type",
			media); w.Code != 400 && w.Code != 422 {
			t.Errorf("%.40v: %d %s", fields, w.Code, w.Body)
		}
	}
}

// What a person writes into a book has its bound at every door, and the refusal names the field.
func TestReasonsAndReferencesAreWithinTheirBounds(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 1)
	n := 0
	for _, tt := range []struct {
		ref, reason int
		wrong       string // the field, "" for none
	}{{63, 100, ""}, {64, 100, ""}, {65, 100, "#/reference_no"}, {64, 134, ""}, {64, 135, "#/reason"}, {0, 200, ""},
		{0, 201, "#/reason"}, {1, 0, "#/reason"}} {
		for _, r := range []string{"a", "é", "字", "🎁"} {
			n++
			w := d.ask(Operator, "POST", "/admin/v1/skus/mug/replenish", `{"quantity":1,"reference_no":"`+
				strings.Repeat(r, tt.ref)+`","reason":"`+strings.Repeat(r, tt.reason)+`"}`, "Idempotency-Key",
				fmt.Sprint(n))
			if (w.Code == 200) != (tt.wrong == "") || !strings.Contains(w.Body.String(), tt.wrong) {
				t.Errorf("reference_no of %d, reason of %d of %q: %d %s", tt.ref, tt.reason, r, w.Code, w.Body)
			}
		}
	}
	want(t, d.ask(Operator, "POST", "/admin/v1/skus/mug/replenish",
		`{"quantity":1,"reference_no":"  ","reason":"truck"}`, "Idempotency-Key", "blank"), 422, "#/reference_no")
	for _, reason := range []string{strings.Repeat("a", 201), `\u202eevil`, `a\nlevel=ERROR`} {
		want(t, d.ask(Operator, "PUT", "/admin/v1/skus/new",
			`{"title":"Mug","price":{"total":100},"quantity":1,"reason":"`+reason+`"}`), 422, "#/reason")
	}
}

// A list that shows "payment":null of a paid order says that it is not paid; and an attempt that is live on a closed
// order reads as one that can still be paid.
func TestWhatIsShownOfAnOrderIsTrue(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 10)
	paid, open := d.PaidOne(t, "paid", "mug", 1), d.PlaceOne(t, "open", "mug", 1)
	d.Prepaid(t, open.OrderNo)
	w := d.ask(Viewer, "GET", "/admin/v1/orders", "")
	want(t, w, 200, paid.OrderNo)
	for _, word := range []string{"payment", "refunds", "attempts"} {
		if strings.Contains(w.Body.String(), word) {
			t.Errorf("a list, which does not read it, shows %s: %s", word, w.Body)
		}
	}
	want(t, w, 200, `"customer_id":"`)
	attempts := func(no, payable string) {
		t.Helper()
		want(t, d.ask(Viewer, "GET", "/admin/v1/orders/"+no, ""), 200, `"state":"live","payable":`+payable)
	}
	attempts(open.OrderNo, "true")
	attempts(paid.OrderNo, "false")
	d.Clock.Set(open.ExpireAt)
	attempts(open.OrderNo, "false")
}

// A person who pastes a number is shown what has it, and where to go from there.
func TestSearch(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 10)
	o := d.PaidOne(t, "r", "mug", 1)
	w := d.ask(Viewer, "GET", "/admin/v1/search?q="+o.OrderNo+"-01", "")
	want(t, w, 200, `"only":{"kind":"attempt","id":"`+o.OrderNo+`-01","order_no":"`+o.OrderNo+
		`","path":"/admin/v1/orders/`+o.OrderNo+`"}`)
	d.SKU(t, o.CustomerID, 1)
	w = d.ask(Viewer, "GET", "/admin/v1/search?q="+o.CustomerID, "")
	want(t, w, 200, `"only":null,"data":[{"kind":"customer",`)
	want(t, w, 200, `"path":"/admin/v1/skus/`+o.CustomerID)
	want(t, d.ask(Viewer, "GET", "/admin/v1/search?q=nothing", ""), 200, `"only":null,"data":[]`)
	for id, path := range map[string]string{"H": "/admin/v1/held", "B": "/admin/v1/refunds?transaction_id=B"} {
		trade := payment.Trade{OutTradeNo: "nobodys-" + id, State: payment.TradeSuccess, TransactionID: id,
			AppID: ordertest.AppID, MchID: ordertest.MchID, TradeType: "NATIVE", Total: 100,
			PayerTotal: payment.Said(100), Currency: payment.CNY, SuccessTime: d.Clock.Now()}
		d.WeChat.Put(trade)
		if s, err := d.Settle(t.Context(), trade, ordertest.Notified); err != nil || s.Settled != order.SettledHeld {
			t.Fatal(s, err)
		}
		if id == "B" {
			want(t, d.ask(Finance, "POST", "/admin/v1/held/B", `{"action":"REFUND","reason":"r"}`), 200, `"owed"`)
		}
		want(t, d.ask(Viewer, "GET", "/admin/v1/search?q="+id, ""), 200,
			`"only":{"kind":"payment","id":"`+id+`","path":"`+path+`"}`)
	}
	want(t, d.ask(Viewer, "GET", "/admin/v1/refunds?transaction_id=B", ""), 200, `"transaction_id":"B"`)
	for _, q := range []string{"", "?q=", "?q=a%00b", "?q=" + strings.Repeat("a", 129), "?q=a&q=b", "?x=a"} {
		want(t, d.ask(Viewer, "GET", "/admin/v1/search"+q, ""), 422, "VALIDATION_FAILED")
	}
}

// The list of flows is of one SKU, in a range that can be read.
func TestFlowsAreListed(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 10)
	o := d.PlaceOne(t, "r", "mug", 3)
	const path = "/admin/v1/skus/mug/flows"
	w := d.ask(Viewer, "GET", path+"?limit=1", "")
	want(t, w, 200, `{"data":[{"flow_no":"deduct:","type":"deduct","quantity":-3,"order_no":"`+o.OrderNo+`","at":`)
	want(t, w, 200, `"next_cursor":"`)
	want(t, d.ask(Viewer, "GET", path+"?from=2026-01-01T00:00:00Z&to=2026-02-02T00:00:00Z", ""), 422, "NEEDS_RANGE")
	want(t, d.ask(Viewer, "GET", path+"?cursor=x", ""), 422, "?cursor")
	want(t, d.ask(Viewer, "GET", "/admin/v1/skus/none/flows", ""), 404, "SKU_NOT_FOUND")
	// A flow of a sale names its bucket as the sale does, by a number that JavaScript cannot hold.
	text, err := json.Marshal(ViewFlow(&order.Flow{Kind: stock.KindDeduct, Bucket: 1<<62 + 1}))
	if err != nil || !strings.Contains(string(text), `"bucket":"4611686018427387905"`) {
		t.Errorf("%s, %v", text, err)
	}
}

// Held money was found and could not be decided about but by the bill of a day.
func TestHeldMoneyIsDecidedByRoute(t *testing.T) {
	limited := func(c *order.Config) { c.RefundTwoPersons = 501 }
	d := newDeskOf(t, ordertest.NewWith(t, sqldbtest.SQLite(t), limited), nil)
	trade := payment.Trade{OutTradeNo: "01JD4Z0000000000000000000X-01", State: payment.TradeSuccess,
		TransactionID: "4291", AppID: ordertest.AppID, MchID: ordertest.MchID, TradeType: "NATIVE", Total: 500,
		Currency: payment.CNY, SuccessTime: d.Clock.Now()}
	if s, err := d.Settle(t.Context(), trade, ordertest.Notified); err != nil || s.Settled != order.SettledHeld {
		t.Fatal(s, err)
	}
	want(t, d.ask(Viewer, "GET", "/admin/v1/held", ""), 200, `"transaction_id":"4291"`)
	const path = "/admin/v1/held/4291"
	want(t, d.ask(Finance, "POST", path, `{"action":"REFUND"}`), 422, "#/reason")
	want(t, d.ask(Finance, "POST", path, `{"action":"KEEP","reason":"r"}`), 422, "#/action")
	want(t, d.ask(Finance, "POST", path, `{"action":"APPLY","reason":"r"}`), 409, "ORDER_NOT_PAYABLE")
	want(t, d.ask(Finance, "POST", path, `{"action":"REFUND","reason":"r"}`), 200, `"outcome":"owed"`)
	want(t, d.ask(Viewer, "GET", "/admin/v1/held", ""), 200, `"data":[]`)
	trade.TransactionID, trade.Total = "4292", 502 // above the limit, for two
	if s, err := d.Settle(t.Context(), trade, ordertest.Notified); err != nil || s.Settled != order.SettledHeld {
		t.Fatal(s, err)
	}
	want(t, d.ask(Finance, "POST", "/admin/v1/held/4292", `{"action":"REFUND","reason":"r"}`), 202, `"outcome":"waits"`)
	want(t, d.ask(Finance, "POST", "/admin/v1/held/none", `{"action":"REFUND","reason":"r"}`), 404, "NOT_FOUND")
}

// Money that nobody claims could only be sent back, which WeChat Pay refuses after a year: two people write it off.
func TestHeldMoneyIsWrittenOffByRoute(t *testing.T) {
	d := newDesk(t)
	trade := payment.Trade{OutTradeNo: "01JD4Z0000000000000000000X-01", State: payment.TradeSuccess,
		TransactionID: "4291", AppID: ordertest.AppID, MchID: ordertest.MchID, TradeType: "NATIVE", Total: 500,
		Currency: payment.CNY, SuccessTime: d.Clock.Now()}
	if s, err := d.Settle(t.Context(), trade, ordertest.Notified); err != nil || s.Settled != order.SettledHeld {
		t.Fatal(s, err)
	}
	li, wang, zhao := d.hire(t, "li", Finance), d.hire(t, "wang", Finance), d.hire(t, "zhao", Operator)
	const list, path, body = "/admin/v1/held", "/admin/v1/held/4291", `{"action":"WRITE_OFF","reason":"nobody's"}`
	want(t, zhao("POST", path, body), 403, "FORBIDDEN")
	want(t, li("POST", path, `{"action":"WRITE_OFF"}`), 422, "#/reason")
	for range 2 {
		want(t, li("POST", path, body), 202, `{"transaction_id":"4291","order_no":"","outcome":"waits"}`)
	}
	want(t, li("POST", path, `{"action":"WRITE_OFF","reason":"other"}`), 409, "ORDER_NOT_PAYABLE")
	want(t, d.ask(Viewer, "GET", list, ""), 200, `"write_off":{"amount_fen":500,"proposed_by":"li","proposed_why":`+
		`"nobody's","proposed_at":`)
	want(t, d.ask(Viewer, "GET", list+"?written_off=true", ""), 200, `"data":[]`)
	for range 2 {
		want(t, wang("POST", path, body), 200, `"outcome":"written_off"`)
	}
	want(t, li("POST", path, body), 200, `"outcome":"written_off"`)
	want(t, d.ask(Finance, "POST", path, body), 409, "已由 li 和 wang 核销")
	want(t, li("POST", path, `{"action":"REFUND","reason":"r"}`), 409, "REFUND_NOT_POSSIBLE")
	for _, list := range []string{list, "/admin/v1/payments/held"} {
		want(t, d.ask(Viewer, "GET", list, ""), 200, `"data":[]`)
		want(t, d.ask(Viewer, "GET", list+"?written_off=1", ""), 200, `"written_off_by":"wang"`)
		want(t, d.ask(Viewer, "GET", list+"?written_off=maybe", ""), 422, "?written_off")
	}
	want(t, d.ask(Viewer, "GET", "/admin/v1/search?q=4291", ""), 200, `"path":"/admin/v1/held?written_off=true"`)
}
