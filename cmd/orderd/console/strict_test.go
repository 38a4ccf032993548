package console

import (
	"net/http"
	"strings"
	"testing"

	"orderd/order"
	"orderd/payment/operators"
)

// A misspelt filter that is ignored shows all orders, and whoever acts on the list acts on all of them.
func TestFiltersThatAreNotThereAreRefused(t *testing.T) {
	d := newDesk(t)
	for _, r := range d.routes {
		method, path := r[0], r[1]
		if method != http.MethodGet || path == "/healthz" || path == "/readyz" || path == "/metrics" {
			continue
		}
		path = strings.NewReplacer(":no", "01JD4ZABCDEFGHJKMNPQRSTVWX", ":id", "x", ":name", "heap").Replace(path)
		w := d.ask(Admin, method, path+"?statee=paid", "")
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
		"orders?trade_type=NATIVE", "orders?paid_from=2026-01-01T00:00:00Z", "orders?stuck=maybe", "orders?stat=paid",
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
