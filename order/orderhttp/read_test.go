package orderhttp

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"orderd/order"
	"orderd/payment"
	"orderd/stock"
)

// An answer that shows an openid or a trade number of ours gives it to whoever reads over a shoulder.
func TestOrderAnswer(t *testing.T) {
	o := pendingOrder()
	o.State, o.Version, o.CloseReason = order.StateLate, 6, order.CloseReasonTimeout
	o.Payment = &order.Payment{TransactionID: "4200", OutTradeNo: someOrder + "-01", TradeType: "JSAPI", Total: 29800,
		PayerTotal: payment.Said(29700),
		Currency:   "CNY", SuccessTime: epoch, ReceivedAt: epoch, Outcome: order.SettledOwed, Reason: "late"}
	o.Refunds = []order.Refund{{OutRefundNo: "R1", OrderNo: someOrder, TransactionID: "4200", Amount: 29800,
		PaymentTotal: 29800, State: order.RefundStateOwed, Reason: "late",
		Note: "late", CreatedAt: epoch, Problem: "canary", DecidedBy: "canary", Requester: order.Actor{ID: "canary"}}}
	o.Attempts = []order.Attempt{{Attempt: payment.Attempt{OutTradeNo: someOrder + "-01", OpenID: "o6_canary"}}}
	w := newWorld(t)
	w.found = func(string, string) (order.Order, error) { return o, nil }
	rec := w.ask(t, "GET", "/v1/orders/"+someOrder, "")
	want := `{"order_no":"01JD4ZABCDEFGHJKMNPQRSTVWX","state":"late","version":6,"amount":{"total":29800,` +
		`"currency":"CNY"},` +
		`"items":[{"sku_id":"1001","quantity":2,"unit_price":14900}],"created_at":"2026-11-20T13:42:05.120Z",` +
		`"time_expire":"2026-11-20T14:12:06Z",` +
		`"expires_in_seconds":0,"payment":{"out_trade_no":"01JD4ZABCDEFGHJKMNPQRSTVWX-01","transaction_id":"4200",` +
		`"trade_type":"JSAPI",` +
		`"trade_state":"SUCCESS","amount":{"total":29800,"payer_total":29700,"currency":"CNY"},` +
		`"success_time":"2026-11-20T13:42:05.120Z"},` +
		`"refunds":[{"out_refund_no":"R1","order_no":"01JD4ZABCDEFGHJKMNPQRSTVWX","refund_status":"OWED",` +
		`"kind":"late",` +
		`"amount":{"refund":29800,"total":29800,"currency":"CNY"},"items":[],"restock":false,"reason":"late",` +
		`"created_at":"2026-11-20T13:42:05.120Z"}],` +
		`"close_reason":"timeout"}`
	if rec.Code != 200 || strings.TrimSpace(rec.Body.String()) != want || rec.Header().Get("ETag") != `"v6"` {
		t.Errorf("%d %s\n%s\nwant\n%s", rec.Code, rec.Header(), rec.Body, want)
	}
}

// A front end that asks every second must not load what it has.
func TestETag(t *testing.T) {
	w := newWorld(t)
	w.found = func(string, string) (order.Order, error) { o := pendingOrder(); o.Version = 7; return o, nil }
	for header, want := range map[string]int{`"v7"`: 304, `W/"v7"`: 304, `"v6", "v7"`: 304, "*": 304, `"v6"`: 200,
		`v7`: 200, `"v77"`: 200, "": 200} {
		rec := w.ask(t, "GET", "/v1/orders/"+someOrder, "", "If-None-Match", header)
		if rec.Code != want || rec.Header().Get("ETag") != `"v7"` || (want == 304) != (rec.Body.Len() == 0) {
			t.Errorf("%s: %d, %q", header, rec.Code, rec.Body)
		}
	}
}

// The buyer's page waits for the payment; a poll that misses it makes the buyer pay again.
func TestLongPollSeesTheChange(t *testing.T) {
	w := newWorld(t)
	var version atomic.Int64
	version.Store(7)
	w.found = func(string, string) (order.Order, error) {
		o := pendingOrder()
		if o.Version = version.Load(); o.Version > 7 {
			o.State = order.StatePaid
		}
		return o, nil
	}
	answer := make(chan *httptest.ResponseRecorder)
	go func() { answer <- w.ask(t, "GET", "/v1/orders/"+someOrder+"?wait=20&since=7", "") }()
	waitFor(t, "the poll to look twice", func() bool { return w.count() >= 2 })
	version.Store(8)
	select {
	case rec := <-answer:
		if rec.Code != 200 || !strings.Contains(rec.Body.String(), `"state":"paid"`) ||
			rec.Header().Get("ETag") != `"v8"` {
			t.Errorf("%d %s", rec.Code, rec.Body)
		}
	case <-time.After(15 * time.Second): // the poll itself ends after 20
		t.Fatal("the change was not seen")
	}
	// An order that is newer already is not waited for.
	if rec := w.ask(t, "GET", "/v1/orders/"+someOrder+"?wait=20&since=7", ""); rec.Code != 200 {
		t.Error(rec.Code)
	}
}

func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited too long for " + what)
		}
	}
}

// A poll that outlives its time, its client or the service holds up the shutdown.
func TestLongPollEnds(t *testing.T) {
	stopping := make(chan struct{})
	w := newWorld(t, func(o *Options) { o.Stopping = stopping })
	w.found = func(string, string) (order.Order, error) { return pendingOrder(), nil }
	start := time.Now()
	if rec := w.ask(t, "GET", "/v1/orders/"+someOrder+"?wait=1&since=1", "", "If-None-Match", `"v1"`); rec.Code != 304 {
		t.Errorf("the wait is over: %d", rec.Code)
	}
	if took := time.Since(start); took < time.Second || took > 15*time.Second {
		t.Errorf("wait=1 took %s", took)
	}
	poll := func(ctx context.Context) chan int {
		before, done := w.count(), make(chan int, 1)
		r := httptest.NewRequest("GET", "/v1/orders/"+someOrder+"?wait=30&since=1", nil).WithContext(ctx)
		r.Header.Set("Authorization", "Bearer "+token(t, "c1", epoch))
		go func() {
			rec := httptest.NewRecorder()
			w.echo.ServeHTTP(rec, r)
			done <- rec.Code
		}()
		waitFor(t, "the poll to begin", func() bool { return w.count() > before })
		return done
	}
	ctx, hangUp := context.WithCancel(context.Background())
	gone, stopped := poll(ctx), poll(context.Background())
	hangUp()
	expectEnd(t, gone, 0)
	close(stopping)
	expectEnd(t, stopped, 200)
}

func expectEnd(t testing.TB, done chan int, want int) {
	t.Helper()
	select {
	case code := <-done:
		if want != 0 && code != want {
			t.Errorf("ended with %d, want %d", code, want)
		}
	case <-time.After(25 * time.Second): // the longest poll ends after 30 by itself
		t.Fatal("the poll did not end")
	}
}

// Beyond the bound a poll must be an ordinary answer, not an error and not one more goroutine.
func TestLongPollsAreBounded(t *testing.T) {
	a := &api{polls: make(chan struct{})} // room for none
	o, err := a.poll(nil, pendingOrder(), time.Hour, 1)
	if err != nil || o.OrderNo != someOrder {
		t.Errorf("%v %v", o, err)
	}
}

// A filter that is silently ignored shows orders that were not asked for.
func TestList(t *testing.T) {
	w := newWorld(t)
	var got order.Filter
	w.listed = func(f order.Filter) ([]order.Order, string, error) {
		got = f
		return []order.Order{pendingOrder()}, someOrder, nil
	}
	rec := w.ask(t, "GET",
		"/v1/orders?state=paid&created_from=2026-11-01T00:00:00Z&created_to=2026-12-01T08:00:00%2B08:00"+
			"&limit=10&cursor="+someOrder, "")
	from, to := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	if !got.CreatedFrom.Equal(from) || !got.CreatedTo.Equal(to) {
		t.Errorf("from %s to %s", got.CreatedFrom, got.CreatedTo)
	}
	got.CreatedFrom, got.CreatedTo = time.Time{}, time.Time{}
	if want := (order.Filter{CustomerID: "c1", State: order.StatePaid, Limit: 10, Cursor: someOrder}); got != want {
		t.Errorf("asked for %+v", got)
	}
	var page Page[map[string]any]
	if err := json.Unmarshal(rec.Body.Bytes(), &page); err != nil || len(page.Data) != 1 || page.NextCursor == nil ||
		*page.NextCursor != someOrder {
		t.Fatalf("%v: %s", err, rec.Body)
	}
	if _, there := page.Data[0]["payment"]; there {
		t.Error("a list says payment: null of an order whose payment it did not read")
	}
	w.listed = func(f order.Filter) ([]order.Order, string, error) { got = f; return nil, "", nil }
	if rec := w.ask(t, "GET", "/v1/orders",
		""); strings.TrimSpace(rec.Body.String()) != `{"data":[],"next_cursor":null}` || got.Limit != 50 {
		t.Errorf("%+v: %s", got, rec.Body)
	}
}

// A wrong parameter must be named, and must not reach the database.
func TestParametersThatAreNotAllowed(t *testing.T) {
	for path, pointers := range map[string][]string{
		"/v1/orders?customer_id=c2":                    {"?customer_id"},
		"/v1/orders?state=lost":                        {"?state"},
		"/v1/orders?limit=0":                           {"?limit"},
		"/v1/orders?limit=201":                         {"?limit"},
		"/v1/orders?limit=x&cursor=%27OR":              {"?limit", "?cursor"},
		"/v1/orders?created_from=yesterday":            {"?created_from"},
		"/v1/orders?state=paid&state=closed":           {"?state"},
		"/v1/orders/" + someOrder + "?wait=31":         {"?wait"},
		"/v1/orders/" + someOrder + "?wait=-1&since=x": {"?wait", "?since"},
		"/v1/stock":              {"?sku_ids"},
		"/v1/skus":               {"?ids"},
		"/v1/skus?sku_ids=1001":  {"?sku_ids"},
		"/v1/stock?sku_ids=1,,2": {"?sku_ids"},
		"/v1/stock?sku_ids=" + strings.Repeat("1,", 50) + "1": {"?sku_ids"},
	} {
		w := newWorld(t)
		p := wantProblem(t, w.ask(t, "GET", path, ""), 422, CodeValidation)
		var got []string
		for _, e := range p.Errors {
			got = append(got, e.Pointer)
		}
		if !reflect.DeepEqual(got, pointers) || w.count() > 0 {
			t.Errorf("%s: %v, called %v", path, got, w.calls)
		}
	}
	w := newWorld(t)
	wantProblem(t, w.ask(t, "GET", "/v1/orders?limit=%zz", ""), 400, CodeMalformed)
}

// "0 left" of a thing that never ends turns buyers away.
func TestStock(t *testing.T) {
	w := newWorld(t)
	w.skus = []stock.SKU{{SkuID: "1001", Available: 37, PriceFen: 1, Title: "t"}, {SkuID: "1002", Unlimited: true},
		{SkuID: "1003"}, {SkuID: "1004", Available: 30, Allocated: 7}, {SkuID: "1005", Available: 3, SoldOut: true}}
	rec := w.ask(t, "GET", "/v1/skus/1001/stock", "")
	if want := `{"sku_id":"1001","available":37,"unlimited":false,` +
		`"as_of":"2026-11-20T13:42:05.120Z"}`; strings.TrimSpace(rec.Body.String()) != want {
		t.Errorf("%s", rec.Body)
	}
	if got := rec.Header().Get("Cache-Control"); got != "max-age=1" {
		t.Errorf("Cache-Control %q", got)
	}
	rec = w.ask(t, "GET", "/v1/stock?sku_ids=1003,no,1002", "")
	if want := `{"data":[{"sku_id":"1003","available":0,"unlimited":false,"as_of":"2026-11-20T13:42:05.120Z"},` +
		`{"sku_id":"1002","available":null,"unlimited":true,"as_of":"2026-11-20T13:42:05.120Z"}],` +
		`"next_cursor":null}`; strings.TrimSpace(rec.Body.String()) != want {
		t.Errorf("%s", rec.Body)
	}
	wantProblem(t, w.ask(t, "GET", "/v1/skus/none/stock", ""), 404, CodeSKUNotFound)
	rec = w.ask(t, "GET", "/v1/skus?ids=no,1001", "")
	if body := strings.TrimSpace(rec.Body.String()); !strings.Contains(body, `"sku_id":"1001","available":37,`) ||
		!strings.Contains(body, `"title":"t","price":{"total":1,"currency":"CNY"}}],"next_cursor":null}`) {
		t.Errorf("a page of goods: %s", body)
	}
	rec = w.ask(t, "GET", "/v1/stock?sku_ids=1004,1005", "")
	if body := rec.Body.String(); !strings.Contains(body, `"1004","available":37,`) ||
		!strings.Contains(body, `"1005","available":0,`) {
		t.Errorf("units in buckets are free, and those of a SKU that is marked as sold out are not: %s", body)
	}
}
