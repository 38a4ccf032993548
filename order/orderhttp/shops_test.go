package orderhttp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"orderd/order"
	"orderd/order/shops"
	"orderd/payment/feed"
)

// keys are a shop's: the secret names the scopes.
type keys struct{}

func (keys) Who(_ context.Context, secret string) (*shops.Key, error) {
	scopes, ok := strings.CutPrefix(secret, "shk_of_")
	if !ok {
		return nil, nil
	}
	k := &shops.Key{Name: "web/1", Shop: "web"}
	for word := range strings.SplitSeq(scopes, "_") {
		k.Scopes = append(k.Scopes, shops.Scope(word))
	}
	return k, nil
}

// happened is a feed that grows when it is looked at: page by page.
type happened struct{ pages [][]feed.Event }

func (h *happened) Begin(context.Context) (int64, error) { return 41, nil }

func (h *happened) After(_ context.Context, after int64, _ int) ([]feed.Event, int64, error) {
	if len(h.pages) == 0 {
		return nil, after, nil
	}
	page := h.pages[0]
	h.pages = h.pages[1:]
	if len(page) > 0 {
		after = page[len(page)-1].ID
	}
	return page, after, nil
}

func withShops(events Events) func(*Options) {
	return func(o *Options) { o.Shops, o.Events = keys{}, events }
}

// A key does what its scopes say and nothing else, on every route.
func TestScopesOfShops(t *testing.T) {
	w := newWorld(t, withShops(&happened{}))
	w.placed = func(p order.Placement) (order.Placed, error) { return order.Placed{}, order.ErrNotFound }
	routes := map[string]shops.Scope{
		"POST /v1/orders": shops.Place, "GET /v1/orders": shops.Read,
		"GET /v1/orders/" + someOrder: shops.Read, "POST /v1/orders/" + someOrder + "/prepay": shops.Place,
		"POST /v1/orders/" + someOrder + "/payment-query": shops.Place,
		"POST /v1/orders/" + someOrder + "/cancel":        shops.Place,
		"GET /v1/orders/" + someOrder + "/qrcode.svg":     shops.Read,
		"POST /v1/orders/" + someOrder + "/refunds":       shops.Refund,
		"GET /v1/orders/" + someOrder + "/refunds":        shops.Read,
		"GET /v1/orders/" + someOrder + "/refunds/R":      shops.Read,
		"GET /v1/refunds/R":                               shops.Read, "GET /v1/skus/1001/stock": shops.Stock,
		"GET /v1/stock": shops.Stock, "GET /v1/skus": shops.Stock, "GET /v1/events": shops.Read,
	}
	if had := len(w.echo.Routes()) - 3; had != len(routes) { // three need no token
		t.Errorf("%d routes, %d here", had, len(routes))
	}
	for route, needs := range routes {
		method, path, _ := strings.Cut(route, " ")
		for _, scope := range shops.Scopes() {
			if scope == needs {
				continue // what is in is in the tests below, and in the table of every route and principal
			}
			rec := w.ask(t, method, path, "", "Authorization", "Bearer shk_of_"+string(scope), headerCustomer, "c1")
			if rec.Code != http.StatusForbidden || !strings.Contains(rec.Body.String(), string(needs)) {
				t.Errorf("%s with %s: %d %s", route, scope, rec.Code, rec.Body)
			}
		}
		rec := w.ask(t, method, path, "", "Authorization", "Bearer shk_nobodys", headerCustomer, "c1")
		if rec.Code != http.StatusUnauthorized {
			t.Errorf("%s with nobody's key: %d", route, rec.Code)
		}
	}
}

// A shop acts for the customer that it names, the order is the customer's, and the timeline says which shop did.
func TestShopActsForACustomer(t *testing.T) {
	w := newWorld(t, withShops(&happened{}))
	var got order.Placement
	w.placed = func(p order.Placement) (order.Placed, error) {
		got = p
		return order.Placed{Order: order.Order{OrderNo: someOrder, State: order.StatePending, Version: 1, Total: 1,
			CreatedAt: epoch, ExpireAt: epoch}}, nil
	}
	var cancelled order.CancelRequest
	w.canceled = func(r order.CancelRequest) (order.Order, error) {
		cancelled = r
		return order.Order{}, order.ErrNotFound
	}
	const key = "Bearer shk_of_place"
	rec := w.ask(t, "POST", "/v1/orders", goodBody, "Authorization", key, headerCustomer, "c1", "X-Request-Id", "r7",
		headerKey, "k")
	if rec.Code != http.StatusCreated || got.CustomerID != "c1" || got.Cause != "r7" || got.Shop != "web" {
		t.Errorf("%d %s: %+v", rec.Code, rec.Body, got)
	}
	w.ask(t, "POST", "/v1/orders/"+someOrder+"/cancel", "", "Authorization", key, headerCustomer, "c1",
		"X-Request-Id", strings.Repeat("x", 64))
	want := order.Cause{Actor: order.Actor{Type: order.ActorShop, ID: "web"}, Type: "request",
		ID: strings.Repeat("x", 64)}
	if cancelled.Cause != want || cancelled.CustomerID != "c1" {
		t.Errorf("%+v", cancelled)
	}
	for _, who := range []string{"", "a b", strings.Repeat("c", 65)} {
		rec := w.ask(t, "POST", "/v1/orders", goodBody, "Authorization", key, headerCustomer, who, headerKey, "k")
		if rec.Code != http.StatusUnprocessableEntity || !strings.Contains(rec.Body.String(), headerCustomer) {
			t.Errorf("for %q: %d %s", who, rec.Code, rec.Body)
		}
	}
}

// What a shop says of its own order gets there as it was said, and is shown; what cannot be is refused with its place,
// in both languages. A customer's word is passed on without a shop, for order.Place to refuse.
func TestReferenceAndTimeOfAShop(t *testing.T) {
	w := newWorld(t, withShops(&happened{}))
	var got order.Placement
	w.placed = func(p order.Placement) (order.Placed, error) {
		got = p
		if p.Reference == "taken" {
			return order.Placed{}, &order.ReferenceTakenError{OrderNo: someOrder}
		}
		return order.Placed{Order: order.Order{OrderNo: someOrder, State: order.StatePending, Version: 1, Total: 1,
			CreatedAt: epoch, ExpireAt: epoch, Reference: p.Reference, Shop: p.Shop}}, nil
	}
	ask := func(fields, lang string) (int, string) {
		t.Helper()
		body := strings.TrimSuffix(goodBody, "}") + "," + fields + "}"
		rec := w.ask(t, "POST", "/v1/orders", body, "Authorization", "Bearer shk_of_place", headerCustomer, "c1",
			headerKey, "k", "Accept-Language", lang)
		return rec.Code, rec.Body.String()
	}
	code, body := ask(`"reference":"A-1","expires_in":600`, "en")
	if code != http.StatusCreated || got.Reference != "A-1" || got.ExpiresIn != 10*time.Minute ||
		!strings.Contains(body, `"reference":"A-1"`) {
		t.Errorf("%d %s: %+v", code, body, got)
	}
	for fields, want := range map[string][2]string{
		`"reference":"a b"`: {"#/reference", "可见"}, `"reference":""`: {"#/reference", "必填"},
		`"reference":"` + strings.Repeat("x", 65) + `"`: {"#/reference", "64"},
		`"expires_in":0`:             {"#/expires_in", "604800 秒"},
		`"expires_in":9999999999999`: {"#/expires_in", "604800 秒"},
	} {
		if code, body := ask(fields, "zh-CN"); code != http.StatusUnprocessableEntity ||
			!strings.Contains(body, `"pointer":"`+want[0]+`"`) || !strings.Contains(body, want[1]) {
			t.Errorf("%s: %d %s", fields, code, body)
		}
	}
	if code, body := ask(`"reference":"taken"`, "zh-CN"); code != http.StatusConflict ||
		!strings.Contains(body, `"REFERENCE_TAKEN"`) || !strings.Contains(body, "订单 "+someOrder) {
		t.Errorf("%d %s", code, body)
	}
	for _, said := range []string{"only a shop's key gives a reference", "only a shop's key gives a time to pay",
		"expires_in is 60 to 86400 seconds"} {
		if zh, known := inChinese(said); !known {
			t.Errorf("%q in Chinese is %q", said, zh)
		}
	}
}

// A shop finds its order by its own number, and not another shop's of the same number; a customer has no such filter.
func TestListByReference(t *testing.T) {
	w := newWorld(t, withShops(&happened{}))
	var got order.Filter
	w.listed = func(f order.Filter) ([]order.Order, string, error) { got = f; return nil, "", nil }
	rec := w.ask(t, "GET", "/v1/orders?reference=A-1", "", "Authorization", "Bearer shk_of_read", headerCustomer, "c1")
	if rec.Code != http.StatusOK || got.Reference != "A-1" || got.Shop != "web" || got.CustomerID != "c1" {
		t.Errorf("%d %s: %+v", rec.Code, rec.Body, got)
	}
	if rec := w.ask(t, "GET", "/v1/orders?reference=A-1", ""); rec.Code != http.StatusUnprocessableEntity {
		t.Errorf("a customer: %d %s", rec.Code, rec.Body)
	}
}

// The feed goes on from where a request ended, also past what was of another type, and waits when it is asked to.
func TestEventsOfAShop(t *testing.T) {
	event := func(id int64, kind feed.Type) feed.Event {
		return feed.Event{ID: id, At: epoch, Type: kind, OrderNo: someOrder, Version: 2, State: "paid", Ref: "42"}
	}
	ask := func(pages [][]feed.Event, query string) (int, string) {
		w := newWorld(t, withShops(&happened{pages}))
		rec := w.ask(t, "GET", "/v1/events"+query, "", "Authorization", "Bearer shk_of_read")
		return rec.Code, rec.Body.String()
	}
	paid := fmt.Sprintf(`{"id":7,"type":"order.paid","timestamp":"%s","data":{"order_no":"%s","version":2,`+
		`"state":"paid","transaction_id":"42"}}`, epoch.Format(time.RFC3339Nano), someOrder)
	both := []feed.Event{event(7, feed.OrderPaid), event(9, feed.OrderClosed)}
	for _, tt := range []struct {
		query string
		pages [][]feed.Event
		body  string
	}{
		{"", nil, `{"data":[],"next_after":0}`},
		{"?after=now", [][]feed.Event{both}, `{"data":[],"next_after":41}`},
		{"?after=6&types=order.paid", [][]feed.Event{both}, `{"data":[` + paid + `],"next_after":9}`},
		{"?after=6&types=order.late", [][]feed.Event{both}, `{"data":[],"next_after":9}`},
		{"?after=6&types=order.paid,order.late&limit=2", [][]feed.Event{{event(1, feed.OrderClosed),
			event(2, feed.OrderClosed)}, {event(7, feed.OrderPaid)}}, `{"data":[],"next_after":2}`},
		{"?after=6&wait=20", [][]feed.Event{nil, {event(7, feed.OrderPaid)}}, `{"data":[` + paid + `],"next_after":7}`},
	} {
		if code, body := ask(tt.pages, tt.query); code != http.StatusOK || strings.TrimSpace(body) != tt.body {
			t.Errorf("%s: %d %s", tt.query, code, body)
		}
	}
	for _, query := range []string{"?after=x", "?after=-1", "?types=order.eaten", "?types=", "?wait=21", "?limit=0",
		"?limit=501", "?since=1"} {
		if code, body := ask(nil, query); code != http.StatusUnprocessableEntity && query != "?types=" {
			t.Errorf("%s: %d %s", query, code, body)
		}
	}
}

// busy is a feed in which other things happen without an end.
type busy struct {
	Events
	pages int // that were read
	stop  chan struct{}
}

func (b *busy) After(_ context.Context, after int64, _ int) ([]feed.Event, int64, error) {
	b.pages++
	switch b.pages {
	case 3:
		close(b.stop)
	case 100:
		return nil, after, errors.New("nobody hears that the service stops")
	}
	return []feed.Event{{ID: after + 1, At: epoch, Type: feed.OrderClosed}}, after + 1, nil
}

// A poll ends also where there is always more of what it did not ask for, and says how far it came.
func TestEventsEndInABusyFeed(t *testing.T) {
	b := &busy{stop: make(chan struct{})}
	w := newWorld(t, withShops(b), func(o *Options) { o.Stopping = b.stop })
	const query = "?after=0&types=order.late&wait=20&limit=1"
	rec := w.ask(t, "GET", "/v1/events"+query, "", "Authorization", "Bearer shk_of_read")
	if body := strings.TrimSpace(rec.Body.String()); rec.Code != http.StatusOK || body != `{"data":[],"next_after":3}` {
		t.Errorf("%d %s", rec.Code, body)
	}
}

// A stop ends the polls, and a customer's token is not enough.
func TestEventsEndWithTheService(t *testing.T) {
	stopping := make(chan struct{})
	close(stopping)
	w := newWorld(t, withShops(&happened{}), func(o *Options) { o.Stopping = stopping })
	rec := w.ask(t, "GET", "/v1/events?wait=20", "", "Authorization", "Bearer shk_of_read")
	if rec.Code != http.StatusOK {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	if rec := w.ask(t, "GET", "/v1/events", ""); rec.Code != http.StatusForbidden {
		t.Errorf("a customer: %d", rec.Code)
	}
}
