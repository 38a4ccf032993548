package console

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/stock"
	"orderd/stock/gate"
)

// home is a Redis that says what a test says.
type home struct {
	gate.Inspector
	buckets []gate.HomeBucket
	depths  []gate.Depth
	err     error
}

// Depths implements Queues.
func (h *home) Depths(context.Context) ([]gate.Depth, error) { return h.depths, h.err }

// Look implements gate.Inspector.
func (h *home) Look(context.Context, []stock.Gate) ([]gate.HomeBucket, error) {
	return h.buckets, h.err
}

// inRedis is a sale of one SKU with 600 units, of which 50 are in a bucket in Redis.
func inRedis(t *testing.T, d *desk) (epoch int64) {
	t.Helper()
	return inRedisAt(t, d, 0)
}

// inRedisAt is inRedis with a rate.
func inRedisAt(t *testing.T, d *desk, rate int64) (epoch int64) {
	t.Helper()
	d.SKU(t, "hot", 600)
	if _, err := d.Admin.SetGate(t.Context(), stock.GateChange{SkuID: "hot", Mode: stock.GateRedis, Sale: "11-11",
		Buckets: 2, PerCustomer: 3, Rate: rate, Actor: "li<b>", Reason: "sale"}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Admin.NewEpoch(t.Context(), "11-11", map[string]int64{"hot": 0}, 0, false); err != nil {
		t.Fatal(err)
	}
	err := d.DB.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		g := stock.Grant{Bucket: stock.SharedBucket("hot", 1, 0), SkuID: "hot", Home: stock.HomeRedis, Epoch: 1, Seq: 1,
			Want: 50, At: d.Clock.Now()}
		_, err := g.Move(ctx, tx)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return 1
}

// Two operators would scale one sale against one another, and one who only wants to know what would happen must not
// have it happen: both act on what they have read, and who and why stands at the gate.
func TestBucketsAreScaledAndRebuilt(t *testing.T) {
	d := newDesk(t)
	inRedis(t, d)
	const path = "/admin/v1/skus/hot/"
	more := `{"count":4,"reason":"more buyers than we thought"}`
	want(t, d.ask(Admin, "POST", path+"buckets", more), 428, "IF_MATCH_REQUIRED")
	want(t, d.ask(Admin, "POST", path+"buckets", more, "If-Match", `"v2"`), 412, "VERSION_MISMATCH")
	want(t, d.ask(Operator, "POST", path+"buckets", more, "If-Match", `"v1"`), 403, "FORBIDDEN")
	want(t, d.ask(Admin, "POST", path+"buckets", `{"reason":"x"}`, "If-Match", `"v1"`), 422, "#/count")
	want(t, d.ask(Admin, "POST", path+"buckets", `{"count":65,"reason":"x"}`, "If-Match", `"v1"`), 422, "buckets")
	want(t, d.ask(Admin, "POST", path+"rebuild-cache", `{}`, "If-Match", `"v1"`), 422, "#/reason")
	want(t, d.ask(Admin, "POST", "/admin/v1/skus/none/rebuild-cache", `{"reason":"x"}`, "If-Match", `"v1"`), 404,
		"SKU_NOT_FOUND")

	would := `"epoch":2,"skus":[{"sku_id":"hot","mode":"redis","version":2,"buckets":4,"closed":1,"back":50,"pool":600}`
	w := d.ask(Admin, "POST", path+"buckets", strings.Replace(more, "{", `{"dry_run":true,`, 1))
	want(t, w, 200, `{"sale":"11-11","dry_run":true,`+would)
	want(t, d.ask(Viewer, "GET", "/admin/v1/gates", ""), 200, `"pool":550,"allocated":50,"holders":1`)
	if w.Header().Get("ETag") != `"v1"` {
		t.Errorf("the guard after a dry run is %s", w.Header().Get("ETag"))
	}
	w = d.ask(Admin, "POST", path+"buckets", more, "If-Match", w.Header().Get("ETag"))
	want(t, w, 200, `{"sale":"11-11","dry_run":false,`+would)
	want(t, d.ask(Viewer, "GET", "/admin/v1/gates", ""), 200, `"buckets":4`)
	want(t, d.ask(Viewer, "GET", "/admin/v1/skus/hot", ""), 200, `"version":2,"actor":"the-admin","reason":"more`)
	w = d.ask(Admin, "POST", path+"rebuild-cache", `{"reason":"doubt"}`, "If-Match", w.Header().Get("ETag"))
	want(t, w, 200, `"epoch":3`)
	if w.Header().Get("ETag") != `"v3"` {
		t.Errorf("ETag %s", w.Header().Get("ETag"))
	}
	text := d.ask("", "GET", "/metrics", "").Body.String()
	for _, series := range []string{`orderd_stock_operations_total{op="buckets",result="ok"} 1`,
		`orderd_stock_operations_total{op="rebuild",result="ok"} 1`} {
		if !strings.Contains(text, series) {
			t.Errorf("no %s", series)
		}
	}
}

// Who looks at a sale at midnight must see at one glance what buyers are told, where the units are, and whether Redis
// and the database agree; a page that shows what it could not ask as "all right" hides the fault.
func TestSaleIsShown(t *testing.T) {
	d := newDesk(t)
	epoch := inRedis(t, d)
	want(t, d.ask(Viewer, "GET", "/ui/gates/none", "", "Accept-Language", "en"), 404, "SKU_NOT_FOUND")
	want(t, d.ask(Viewer, "GET", "/admin/v1/gates/none", ""), 404, "SKU_NOT_FOUND")
	d.SKU(t, "usual", 5)
	want(t, d.ask(Viewer, "GET", "/ui/gates/usual", "", "Accept-Language", "en"), 200, "No sale is under way")
	gates, err := d.Admin.SaleStocks(t.Context(), "11-11")
	if err != nil || len(gates) != 1 {
		t.Fatal(gates, err)
	}
	alone := ViewSaleDetail(t.Context(), gates, nil, whyNoHome, d.Clock.Now())
	if alone.Redis != whyNoHome || len(alone.Buckets) != 1 {
		t.Errorf("%+v", alone)
	}

	bucket := func(no, epoch, left int64) gate.HomeBucket {
		units := gate.HomeUnits{Bucket: stock.SharedBucket("hot", 1, no), Seq: 1 - no, Left: left}
		return gate.HomeBucket{No: no, Epoch: epoch, Open: true, Tickets: 2, Waiting: 3,
			Units: map[string]gate.HomeUnits{"hot": units}}
	}
	h := d.home
	h.depths = []gate.Depth{{Sale: "another", Oldest: time.Hour}, {Sale: "11-11", Waiting: 6, Oldest: 7 * time.Second}}
	see := func(buckets ...gate.HomeBucket) (v SaleDetail, page string) {
		t.Helper()
		h.buckets = buckets
		w := d.ask(Viewer, "GET", "/admin/v1/gates/hot", "")
		if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil || w.Code != 200 {
			t.Fatal(w.Code, w.Body)
		}
		return v, d.ask(Viewer, "GET", "/ui/gates/hot", "", "Accept-Language", "en").Body.String()
	}
	v, page := see(bucket(0, epoch, 41), bucket(1, epoch, 0))
	if len(v.Buckets) != 2 || v.Buckets[0].Remaining != 50 || *v.Buckets[0].Redis != (RedisView{Known: true, Left: 41,
		Seq: 1, Tickets: 2, Waiting: 3}) || v.Buckets[1].State != "" || v.Drift+v.Waiting != 6 || v.Redis != "" {
		t.Errorf("%+v", v)
	}
	for _, text := range []string{"201 while there are units", "409 CUSTOMER_LIMIT", "550 in the pool, 50 in 1 buckets",
		"41 at 1", "waits for units", "li&lt;b&gt;",
		`In line <b>6</b>, the first for 7 s`} {
		if !strings.Contains(page, text) {
			t.Errorf("the page has no %q: %s", text, page)
		}
	}
	if v, page = see(bucket(0, epoch, 57)); v.Drift != 7 || !strings.Contains(page, `Drift <b class="bad">7</b>`) {
		t.Errorf("%+v", v)
	}
	if v, page = see(bucket(0, epoch+1, 41)); v.Buckets[0].Redis.Known || !strings.Contains(page, "not of this epoch") {
		t.Errorf("%+v", v)
	}
	h.err = errors.New("no answer")
	if v, page = see(); v.Redis != "no answer" || v.Buckets[0].Redis != nil || !strings.Contains(page, "no answer") {
		t.Errorf("%+v", v)
	}
}

// A word of the page that is wrong sends whoever answers the shop's phone to tell buyers the wrong thing.
func TestWhatBuyersAreTold(t *testing.T) {
	now := time.Date(2026, 11, 11, 0, 0, 0, 0, time.UTC)
	const local = stock.GateLocal
	for text, g := range map[string]stock.Gate{
		"201 while there are units, then 409 STOCK_INSUFFICIENT": {Mode: stock.GateOff},

		"its time is over": {Mode: local, Ended: true, ClosedUntil: stock.SoldOut},
		"503 SALE_NOT_STARTED until 2026-11-11T00:00:01.000Z": {Mode: local, OpensAt: now.Add(time.Second)},
		"409 STOCK_INSUFFICIENT, from memory":                 {Mode: local, ClosedUntil: stock.SoldOut},
		"409 STOCK_INSUFFICIENT for a second":                 {Mode: local, ClosedUntil: 1<<62 + now.UnixMilli()},
		"201, above 50 orders a second 202":                   {Mode: stock.GateRedis, Rate: 50},
		"; 409 CUSTOMER_LIMIT to who would have more than 2":  {Mode: local, PerCustomer: 2, OpensAt: now},
	} {
		if got := Told(&g, now); !strings.Contains(got, text) {
			t.Errorf("%+v: %q, want %q", g, got, text)
		}
	}
}

// An alarm on a sale that nobody ends, or opens again, can only ring when it is counted.
func TestNeglectedSalesAreCounted(t *testing.T) {
	d := newDesk(t)
	for _, id := range []string{"over", "back", "usual"} {
		d.SKU(t, id, 600)
		if _, err := d.Admin.SetGate(t.Context(), stock.GateChange{SkuID: id, Mode: stock.GateLocal, Actor: "li",
			Reason: "sale", ClosesAt: d.Clock.Now().Add(time.Minute)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.DB.Pool().ExecContext(t.Context(), `UPDATE skus
SET closed_until = 9223372036854775807
WHERE sku_id = 'back'`); err != nil {
		t.Fatal(err)
	}
	scrape := func() string { return d.ask("", "GET", "/metrics", "").Body.String() }
	text := scrape()
	if !strings.Contains(text, "\norderd_gates_reopening 1\n") || !strings.Contains(text, "\norderd_gates_over 0\n") {
		t.Error(text)
	}
	d.Clock.Set(d.Clock.Now().Add(2 * time.Minute))
	if text = scrape(); !strings.Contains(text, "\norderd_gates_over 3\n") {
		t.Error(text)
	}
	if _, err := d.Admin.EndGate(t.Context(), "over", d.Clock.Now()); err != nil {
		t.Fatal(err)
	}
	d.Clock.Set(d.Clock.Now().Add(time.Minute))
	if text = scrape(); !strings.Contains(text, "\norderd_gates_over 2\n") {
		t.Error(text)
	}
}

// A SKU that is about to be sold again is closed until a number that is no time: the list showed a year of nine digits.
func TestReopeningIsNoTime(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "hot", 600)
	if _, err := d.Admin.SetGate(t.Context(), stock.GateChange{SkuID: "hot", Mode: stock.GateLocal, Actor: "li",
		Reason: "sale"}); err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{"UPDATE skus SET closed_until = 9223372036854775807"} {
		if _, err := d.DB.Pool().ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	if until, err := d.Admin.Reopen(t.Context(), "hot"); err != nil || until == 0 {
		t.Fatal(until, err)
	}
	want(t, d.ask(Viewer, "GET", "/admin/v1/gates", ""), 200, `"sold_out":false,"reopening":true,"closed_until":null`)
	want(t, d.ask(Viewer, "GET", "/ui/gates", "", "Accept-Language", "en"), 200, "in a second or so")
	want(t, d.ask("", "GET", "/metrics", ""), 200, "\norderd_gates_reopening 1\n")
	want(t, d.ask(Viewer, "GET", "/ui/gates/hot", "", "Accept-Language", "en"), 200, "for a second or so")
}

// An operator sees that units are in buckets, and not that all of them are promised to those who wait: he would sell
// them elsewhere. What Redis cannot say is not shown as none.
func TestUnitsOfThoseWhoWaitAreShown(t *testing.T) {
	d := newDesk(t)
	epoch := inRedisAt(t, d, 5)
	d.SKU(t, "usual", 5)
	sku := func(id, says string) {
		t.Helper()
		want(t, d.ask(Viewer, "GET", "/admin/v1/skus/"+id, ""), 200, `"queued":`+says+`,`)
		want(t, d.ask(Viewer, "GET", "/admin/v1/skus", ""), 200, `"queued":`+says+`}`)
	}
	sku("usual", "0")
	sku("hot", "null") // Redis does not know the bucket
	units := gate.HomeUnits{Bucket: stock.SharedBucket("hot", 1, 0), Seq: 1, Left: 41}
	d.home.buckets = []gate.HomeBucket{{Epoch: epoch, Waiting: 3, Units: map[string]gate.HomeUnits{"hot": units}}}
	sku("hot", "9")
	want(t, d.ask(Viewer, "GET", "/admin/v1/gates/hot", ""), 200, `"queued":9`)
	english := []string{"Accept-Language", "en"}
	want(t, d.ask(Viewer, "GET", "/ui/gates/hot", "", english...), 200,
		"50 in 1 buckets, 9 of them for those who wait")
	d.home.err = errors.New("away")
	sku("hot", "null")
	want(t, d.ask(Viewer, "GET", "/ui/gates/hot", "", english...), 200,
		"nobody knows how many of them for those who wait")
}
