package console

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/bulk"
	"orderd/order/ordertest"
)

// startBulk asks for a run as a role.
func (d *desk) startBulk(role Role, kind bulk.Kind, id, body string) *httptest.ResponseRecorder {
	return d.ask(role, "POST", bulkAPI+"/"+string(kind), body, "Idempotency-Key", id)
}

// bulkOf reads a run that was answered, and does it.
func (d *desk) bulkOf(w *httptest.ResponseRecorder) BulkView {
	d.t.Helper()
	var v BulkView
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil || w.Code != 202 {
		d.t.Fatalf("%d %s, %v", w.Code, w.Body, err)
	}
	if _, err := d.runs.Work(d.t.Context(), v.ID, func(bulk.Run) {}); err != nil {
		d.t.Fatal(err)
	}
	if err := json.Unmarshal(d.ask(Viewer, "GET", bulkAPI+"/"+v.ID, "").Body.Bytes(), &v); err != nil {
		d.t.Fatal(err)
	}
	return v
}

// What a person closes by a filter is what was counted, once, and by who may close one of them.
func TestBulkByTheAPI(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		d := newDeskOf(t, ordertest.New(t, db), nil)
		d.SKU(t, "mug", 100)
		for i := range 6 {
			d.PlaceOne(t, fmt.Sprint("r", i), "mug", 1)
		}
		d.PaidOne(t, "paid", "mug", 1)
		id := bulk.NewID(time.Now())
		dry := `{"filter":{"customer_id":"c"}}`
		want(t, d.startBulk(Operator, bulk.KindClose, "", dry), 200, `"count":6,"sum":600,"first":[{"seq":1,`)
		do := func(count int, filter, reason string) string {
			return fmt.Sprintf(`{"filter":{%s},"count":%d,"dry_run":false,"reason":%q}`, filter, count, reason)
		}
		const mine = `"customer_id":"c"`
		for _, role := range []Role{Viewer, Finance} {
			want(t, d.startBulk(role, bulk.KindClose, id, do(6, mine, "x")), 403, "FORBIDDEN")
			want(t, d.startBulk(role, bulk.KindAsk, id, do(6, mine, "x")), 403, "FORBIDDEN")
		}
		want(t, d.startBulk(Operator, bulk.KindApprove, id, do(1, "", "x")), 403, "FORBIDDEN")
		want(t, d.startBulk(Operator, bulk.KindClose, id, do(5, mine, "x")), 412, "现有 6 笔")
		want(t, d.ask(Viewer, "GET", bulkAPI+"/"+id, ""), 404, "没有这个批量任务")
		want(t, d.startBulk(Operator, bulk.KindClose, id, do(6, mine, "")), 422, "#/reason")
		want(t, d.startBulk(Operator, bulk.KindClose, "", do(6, mine, "x")), 400, "ULID")
		want(t, d.startBulk(Operator, bulk.KindClose, id, do(6, `"limit":"5"`, "x")), 422, "#/filter/limit")
		want(t, d.startBulk(Operator, bulk.KindClose, id, do(6, `"state":"none"`, "x")), 422, "#/filter/state")
		want(t, d.startBulk(Operator, bulk.KindClose, id, do(6, `"sku_id":"mug"`, "x")), 422, "#/filter/sku_id")
		want(t, d.startBulk(Operator, bulk.KindClose, id, do(0, `"state":"paid"`, "x")), 422, "没有可处理的")
		want(t, d.startBulk(Operator, bulk.KindClose, id, do(6, mine+","+mine, "x")), 400, "MALFORMED")
		v := d.bulkOf(d.startBulk(Operator, bulk.KindClose, id, do(6, mine, "sold out")))
		if v.Actor != "the-operator" || v.State != bulk.StateDone || v.Done != 6 || v.Filter["customer_id"] != "c" {
			t.Errorf("%+v", v)
		}
		want(t, d.startBulk(Operator, bulk.KindClose, id, do(6, mine, "sold out")), 200, `"state":"done"`)
		want(t, d.startBulk(Operator, bulk.KindClose, id, do(6, "", "sold out")), 422, "IDEMPOTENCY_KEY_REUSED")
		want(t, d.startBulk(Admin, bulk.KindClose, id, do(6, mine, "sold out")), 422, "IDEMPOTENCY_KEY_REUSED")
		want(t, d.ask(Viewer, "GET", bulkAPI, ""), 200, `"id":"`+id+`"`)
		want(t, d.ask(Viewer, "GET", bulkAPI+"/"+id+"/rows?state=done&limit=2", ""), 200, `"next_cursor":"2"`)
		want(t, d.ask(Viewer, "GET", bulkAPI+"/"+id+"/rows?state=done&limit=4&cursor=2", ""), 200, `"seq":6`)
		want(t, d.ask(Viewer, "GET", bulkAPI+"/"+id+"/rows?state=no&cursor=x", ""), 422, "?cursor")
		csv := d.ask(Viewer, "GET", bulkAPI+"/"+id+"/rows", "", "Accept", "text/csv")
		if want(t, csv, 200, "1.00,done"); strings.Count(csv.Body.String(), "\n") != 7 {
			t.Errorf("%s", csv.Body)
		}
		entries := d.ask(Admin, "GET", "/admin/v1/audit?action=bulk.close&limit=200", "").Body.String()
		if !strings.Contains(entries, `\"count\":6`) || !strings.Contains(entries, `\"customer_id\":\"c\"`) {
			t.Error(entries)
		}
	})
}

// A refund of the person's own fails alone; who may not approve one may not stop the approval of many.
func TestBulkApprovalByTheAPI(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 100)
	for i := range 3 {
		o := d.PaidOne(t, fmt.Sprint("r", i), "mug", 1)
		ask := ordertest.Ask(o.OrderNo, fmt.Sprint("k", i), 0)
		if i == 1 {
			ask.CustomerID, ask.Cause.Actor = "", order.Actor{Type: order.ActorOperator, ID: "the-finance"}
		}
		d.MustAsk(t, ask)
	}
	want(t, d.startBulk(Operator, bulk.KindAsk, "", `{"filter":{"state":"refunding"}}`), 200, `"count":3,"sum":300`)
	asked := d.bulkOf(d.startBulk(Operator, bulk.KindAsk, `"`+bulk.NewID(time.Now())+`"`,
		`{"filter":{"state":"refunding"},"count":3,"dry_run":false,"reason":"is it paid?"}`))
	if asked.Done != 3 {
		t.Errorf("%+v", asked)
	}
	want(t, d.startBulk(Finance, bulk.KindApprove, "", `{}`), 200, `"count":3,"sum":300`)
	want(t, d.startBulk(Finance, bulk.KindApprove, "", `{"filter":{"reason":"none"}}`), 422, "#/filter/reason")
	want(t, d.startBulk(Finance, bulk.KindApprove, "", `{"filter":{"reason":"late"}}`), 200,
		`"count":0,"sum":0,"first":[]`)
	id := bulk.NewID(time.Now())
	body := `{"count":3,"dry_run":false,"reason":"as agreed"}`
	want(t, d.startBulk(Finance, bulk.KindApprove, id, body), 202, `"state":"running"`)
	want(t, d.ask(Operator, "POST", bulkAPI+"/"+id+"/stop", `{"reason":"x"}`), 403, "FORBIDDEN")
	want(t, d.ask(Finance, "POST", bulkAPI+"/"+id+"/stop", `{}`), 422, "#/reason")
	want(t, d.ask(Finance, "POST", bulkAPI+"/"+id+"/stop", `{"reason":"wait"}`), 200, "the-finance: wait")
	want(t, d.ask(Finance, "POST", bulkAPI+"/none/stop", `{"reason":"wait"}`), 404, "NOT_FOUND")
	v := d.bulkOf(d.startBulk(Finance, bulk.KindApprove, id, body))
	if v.Done != 2 || v.Failed != 1 || v.Waiting != 0 {
		t.Errorf("%+v", v)
	}
	want(t, d.ask(Viewer, "GET", bulkAPI+"/"+id+"/rows?state=failed", ""), 200, order.ErrSelfApproval.Error())
}
