package console

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/stock"
)

// Two operators would overwrite one another's sale, and a sale that nobody can read back cannot be checked before its
// start: what was set is shown, with who and why, and a change names what it changes.
func TestGateIsSetAndShown(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "hot", 600)
	const path = "/admin/v1/skus/hot/gate"
	want(t, d.ask(Viewer, "GET", "/admin/v1/skus/hot", ""), 200, `"gate":null`)
	opens := d.Clock.Now().Add(time.Hour).UTC().Truncate(time.Millisecond)
	body := `{"mode":"local","sale":"11-11","per_customer":2,"opens_at":"` + opens.Format(time.RFC3339Nano) +
		`","reason":"the eleventh"}`
	shown := `{"mode":"local","state":"open","sale":"11-11","epoch":0,"buckets":1,"rate":0,"per_customer":2,` +
		`"opens_at":"` + *stamp(opens) + `","closes_at":null,"origin":"hand","version":1,` +
		`"actor":"the-admin","reason":"the eleventh"}`
	w := d.ask(Admin, "POST", path, body)
	want(t, w, 200, shown)
	if w.Header().Get("ETag") != `"v1"` {
		t.Errorf("ETag %s", w.Header().Get("ETag"))
	}
	want(t, d.ask(Viewer, "GET", "/admin/v1/skus/hot", ""), 200, `"gate":`+shown)
	want(t, d.ask(Viewer, "GET", "/admin/v1/skus", ""), 200, `"opens_at":"`+*stamp(opens)+`","per_customer":2`)
	want(t, d.ask(Viewer, "GET", "/admin/v1/gates", ""), 200, `"pool":600,"allocated":0,"holders":0,"sold_out":false`)

	off := `{"mode":"off","reason":"rained off"}`
	want(t, d.ask(Admin, "POST", path, off), 428, "IF_MATCH_REQUIRED")
	want(t, d.ask(Admin, "POST", path, off, "If-Match", `"v2"`), 412, "VERSION_MISMATCH")
	want(t, d.ask(Operator, "POST", path, off, "If-Match", `"v1"`), 403, "FORBIDDEN")
	want(t, d.ask(Admin, "POST", path, off, "If-Match", `"v1"`), 200, `"mode":"off"`)
	want(t, d.ask(Viewer, "GET", "/admin/v1/gates", ""), 200, `{"data":[],"next_cursor":null}`)
	want(t, d.ask(Viewer, "GET", "/admin/v1/skus/hot", ""), 200, `"reason":"rained off"`)
}

// A gate that cannot work has to be refused when it is set, and not by buyers at midnight.
func TestGateThatCannotWorkIsRefused(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "hot", 600)
	minus := int64(-1)
	if _, _, err := d.Admin.Put(t.Context(), stock.Put{SkuID: "file", Title: "download", PriceFen: 1,
		Quantity: &minus}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		sku, body string
		status    int
		text      string
	}{
		{"hot", `{"mode":"","reason":"x"}`, 422, "mode must be"},
		{"hot", `{"mode":"local"}`, 422, "#/reason"},
		{"hot", `{"mode":"local","reason":"x","per_customer":-1}`, 422, "per_customer"},
		{"hot", `{"mode":"local","reason":"x","closes_at":"2001-01-01T00:00:00Z"}`, 422, "closes_at"},
		{"hot", `{"mode":"local","reason":"x","opens_at":"tomorrow"}`, 400, "MALFORMED_REQUEST"},
		{"hot", `{"mode":"local","reason":"x","opens":"2030-01-01T00:00:00Z"}`, 400, "MALFORMED_REQUEST"},
		{"hot", `{"mode":"off","reason":"x","per_customer":1}`, 422, "a gate that is off"},
		{"file", `{"mode":"local","reason":"x"}`, 422, "unlimited"},
		{"none", `{"mode":"local","reason":"x"}`, 404, "SKU_NOT_FOUND"},
	} {
		w := d.ask(Admin, "POST", "/admin/v1/skus/"+c.sku+"/gate", c.body, "Accept-Language", "en")
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.text) {
			t.Errorf("%s: %d %s", c.body, w.Code, w.Body)
		}
	}
	want(t, d.ask(Viewer, "GET", "/admin/v1/gates", ""), 200, `"data":[]`)
}

// Who looks at a sale under way wants to know where the units are and whether it is sold out; numbers of two moments
// would show units twice, or none.
func TestGatesShowWhereTheUnitsAre(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "hot", 600)
	d.SKU(t, "gone", 1)
	for _, id := range []string{"gone", "hot"} {
		if _, err := d.Admin.SetGate(t.Context(), stock.GateChange{SkuID: id, Mode: stock.GateLocal, Actor: "li<b>",
			Reason: "sale"}); err != nil {
			t.Fatal(err)
		}
	}
	err := d.DB.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		g := stock.Grant{Bucket: 7, SkuID: "hot", Home: "pod-1", Seq: 1, Want: 50, At: d.Clock.Now()}
		_, err := g.Move(ctx, tx)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, customer := range []string{"first", "second"} { // the second finds nothing, and marks it
		_, err = d.Place(t.Context(), order.Placement{CustomerID: customer, RequestID: "k",
			Lines: []stock.Line{{SkuID: "gone", Quantity: 1}}, Cause: "request"})
	}
	if err == nil {
		t.Fatal("sold twice")
	}
	var page struct{ Data []SaleView }
	w := d.ask(Viewer, "GET", "/admin/v1/gates", "")
	if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil || len(page.Data) != 2 {
		t.Fatal(w.Code, w.Body)
	}
	if g := page.Data[0]; g.SkuID != "gone" || g.Pool != 0 || !g.SoldOut || g.Holders != 0 {
		t.Errorf("%+v", g)
	}
	if g := page.Data[1]; g.SkuID != "hot" || g.Pool != 550 || g.Allocated != 50 || g.Holders != 1 || g.SoldOut {
		t.Errorf("%+v", g)
	}
	html := d.ask(Viewer, "GET", "/ui/gates", "", "Accept-Language", "en").Body.String()
	for _, text := range []string{"sold out", "pod-1", ">550<", ">50<", "li&lt;b&gt;", "hand"} {
		if !strings.Contains(html, text) {
			t.Errorf("the page has no %q: %s", text, html)
		}
	}
	text := d.ask("", "GET", "/metrics", "").Body.String()
	for _, series := range []string{`orderd_gates_open{origin="hand"} 2`, `orderd_gates_open{origin="auto"} 0`,
		"orderd_gates_sold_out 1",
		"orderd_gate_left 50", `orderd_metrics_source_up{source="gates"} 1`} {
		if !strings.Contains(text, series) {
			t.Errorf("no %s", series)
		}
	}
}
