package console

import (
	"encoding/json"
	"fmt"
	"html"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/bulk"
	"orderd/order/ordertest"
	"orderd/payment/operators"
)

// startBulk asks for a run as a role.
func (d *desk) startBulk(role Role, kind bulk.Kind, id, body string) *httptest.ResponseRecorder {
	return d.ask(role, "POST", bulkAPI+"/"+string(kind), body, "Idempotency-Key", id)
}

// seenBulk is what a dry run of a filter says that there is now.
func (d *desk) seenBulk(role Role, kind bulk.Kind, filter string) string {
	d.t.Helper()
	var v BulkPreview
	w := d.startBulk(role, kind, "", `{"filter":{`+filter+`}}`)
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil || w.Code != 200 || v.Seen == "" {
		d.t.Fatalf("%d %s, %v", w.Code, w.Body, err)
	}
	return v.Seen
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
		want(t, d.startBulk(Operator, bulk.KindClose, "", dry), 200, `"count":6,"sum":600,"seen":"`)
		const mine = `"customer_id":"c"`
		seen := d.seenBulk(Operator, bulk.KindClose, mine)
		do := func(count int, filter, reason string) string {
			return fmt.Sprintf(`{"filter":{%s},"count":%d,"seen":%q,"dry_run":false,"reason":%q}`, filter, count, seen,
				reason)
		}
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
		want(t, d.startBulk(Operator, bulk.KindClose, id, strings.Replace(do(6, mine, "x"), seen, "", 1)), 422,
			"#/seen")
		want(t, d.startBulk(Operator, bulk.KindClose, id, strings.Replace(do(6, mine, "x"), seen, "other", 1)), 412,
			"笔数相同，但内容已变化")
		want(t, d.ask(Viewer, "GET", bulkAPI+"/"+id, ""), 404, "没有这个批量任务")
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
		`{"filter":{"state":"refunding"},"count":3,"seen":"`+d.seenBulk(Operator, bulk.KindAsk, `"state":"refunding"`)+
			`","dry_run":false,"reason":"is it paid?"}`))
	if asked.Done != 3 {
		t.Errorf("%+v", asked)
	}
	want(t, d.startBulk(Finance, bulk.KindApprove, "", `{}`), 200, `"count":3,"sum":300`)
	want(t, d.startBulk(Finance, bulk.KindApprove, "", `{"filter":{"reason":"none"}}`), 422, "#/filter/reason")
	want(t, d.startBulk(Finance, bulk.KindApprove, "", `{"filter":{"reason":"late"}}`), 200,
		`"first":[]`)
	id := bulk.NewID(time.Now())
	body := `{"count":3,"seen":"` + d.seenBulk(Finance, bulk.KindApprove, "") +
		`","dry_run":false,"reason":"as agreed"}`
	want(t, d.startBulk(Finance, bulk.KindApprove, id, body), 202, `"state":"running"`)
	want(t, d.ask(Operator, "POST", bulkAPI+"/"+id+"/stop", `{"reason":"x"}`), 403, "FORBIDDEN")
	want(t, d.ask(Finance, "POST", bulkAPI+"/"+id+"/stop", `{}`), 422, "#/reason")
	want(t, d.ask(Finance, "POST", bulkAPI+"/"+id+"/stop", `{"reason":"wait"}`), 200, "the-finance: wait")
	want(t, d.ask(Finance, "POST", bulkAPI+"/none/stop", `{"reason":"wait"}`), 404, "NOT_FOUND")
	want(t, d.startBulk(Finance, bulk.KindApprove, id, body), 200, `"state":"stopped","note":"the-finance: wait"`)
	want(t, d.ask(Operator, "POST", bulkAPI+"/"+id+"/resume", `{"reason":"x"}`), 403, "FORBIDDEN")
	want(t, d.ask(Finance, "POST", bulkAPI+"/"+id+"/resume", `{}`), 422, "#/reason")
	want(t, d.ask(Finance, "POST", bulkAPI+"/none/resume", `{"reason":"x"}`), 404, "NOT_FOUND")
	want(t, d.ask(Admin, "POST", bulkAPI+"/"+id+"/resume", `{"reason":"go"}`), 200,
		`"state":"running","note":"the-admin: go"`)
	v := d.bulkOf(d.startBulk(Finance, bulk.KindApprove, id, body))
	if v.Done != 2 || v.Failed != 1 || v.Waiting != 0 {
		t.Errorf("%+v", v)
	}
	want(t, d.ask(Viewer, "GET", bulkAPI+"/"+id+"/rows?state=failed", ""), 200, order.ErrSelfApproval.Error())
}

// By the page of the list a person does to all of it what the list shows, sees how many they are, types the number, and
// sees what came of each; by a second click nothing more.
func TestBulkByThePages(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 100)
	for i := range 6 {
		d.PlaceOne(t, fmt.Sprint("r", i), "mug", 1)
	}
	other := d.PaidOne(t, "paid", "mug", 1)
	b := d.browser(t, "li", Operator)
	list := b.get("/ui/orders?limit=2&customer_id=c&yuan_max=5&created_from=2027-01-01&created_to=2027-01-31").Body.
		String()
	if v := d.browser(t, "vi", Viewer).get("/ui/orders").Body.String(); strings.Contains(v, `data-act="bulk.`) {
		t.Error("a viewer is offered bulk acts")
	}
	if f := d.browser(t, "fi", Finance); strings.Contains(f.get("/ui/orders").Body.String(), `data-act="bulk.`) {
		t.Error("finance is offered to close orders")
	} else {
		want(t, f.get("/ui/bulk/close"), 403, "无此权限")
	}
	path := offeredPath(t, list, "bulk.close")
	form := b.get(path).Body.String()
	for _, text := range []string{"<dt>数量</dt><dd>6</dd>", "¥6.00", "2027-01-01 00:00:00", "¥5.00", "输入数量以确认"} {
		if !strings.Contains(form, text) {
			t.Errorf("the form does not say %q", text)
		}
	}
	if n := strings.Count(form, "<dt>其中</dt>"); n != 5 {
		t.Errorf("%d of them are shown", n)
	}
	send := []string{"filter", html.UnescapeString(hidden(t, form, "filter")), "idempotency-key-of-the-form", ""}[:2]
	send = append(send, fieldKey, hidden(t, form, fieldKey), "reason", "售罄", fieldSeen, hidden(t, form, fieldSeen))
	want(t, b.post("/ui/bulk/close", append(send, "matched", "5")...), 422, "请输入 6")
	page := "/ui/bulk/" + hidden(t, form, fieldKey)
	for range 2 {
		leads(t, b.post("/ui/bulk/close", append(send, "matched", "6")...), page)
	}
	under := b.get(page).Body.String()
	for _, text := range []string{"执行中", "已处理 0 / 6", `http-equiv="refresh"`, "data-every", `data-act="bulk.stop"`,
		"已开始，逐笔关闭。"} {
		if !strings.Contains(under, text) {
			t.Errorf("the page of the run does not say %q", text)
		}
	}
	if _, err := d.runs.Work(t.Context(), hidden(t, form, fieldKey), func(bulk.Run) {}); err != nil {
		t.Fatal(err)
	}
	ended := b.get(page).Body.String()
	if strings.Contains(ended, "refresh") || strings.Contains(ended, `data-act="bulk.stop"`) ||
		!strings.Contains(ended, "已处理 6 / 6") || strings.Contains(ended, other.OrderNo) {
		t.Error(ended)
	}
	leads(t, b.post("/ui/bulk/close", append(send, "matched", "6")...), page) // the answer was lost, and none is left
	want(t, b.post("/ui/bulk/close", append(send[:2:2], fieldKey, bulk.NewID(time.Now()), "reason", "售罄", fieldSeen,
		hidden(t, form, fieldSeen), "matched", "6")...), 412, "现有 0 笔")
	want(t, d.browser(t, "zh", Operator).post("/ui/bulk/close", append(send, "matched", "6")...), 422, "已用于")
	want(t, b.get(page+"?state=failed"), 200, `class="none"`)
	want(t, b.get(page+"/rows.csv"), 200, "done")
	want(t, b.get(page+"/stop"), 200, "任务已结束")
	want(t, b.get("/ui/bulk"), 200, page)
	want(t, b.get("/ui/bulk/none"), 404, "没有这个批量任务")
	want(t, b.get("/ui/bulk/close?state=pending"), 200, "没有可处理的")
	want(t, b.get("/ui/bulk/ask?customer_id=c"), 200, "<dt>数量</dt><dd>1</dd>")
}

// A run is stopped by a form, and what failed says why in the language of the page.
func TestARunIsStoppedByAForm(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 100)
	for i := range 2 {
		o := d.PaidOne(t, fmt.Sprint("r", i), "mug", 1)
		ask := ordertest.Ask(o.OrderNo, fmt.Sprint("k", i), 0)
		if i == 1 {
			ask.CustomerID, ask.Cause.Actor = "", order.Actor{Type: order.ActorOperator, ID: "fi"}
		}
		d.MustAsk(t, ask)
	}
	b := d.browser(t, "fi", Finance)
	path := offeredPath(t, b.get("/ui/refunds").Body.String(), "bulk.approve")
	form := b.get(path).Body.String()
	id := hidden(t, form, fieldKey)
	send := []string{"filter", "", fieldKey, id, "reason", "已核对", "matched", "2", fieldSeen, hidden(t, form, fieldSeen)}
	leads(t, b.post(path, send...), "/ui/bulk/"+id)
	stop := offeredPath(t, b.get("/ui/bulk/"+id).Body.String(), "bulk.stop")
	o := d.browser(t, "li", Operator)
	if strings.Contains(o.get("/ui/bulk/"+id).Body.String(), `data-act="bulk.stop"`) {
		t.Error("an operator is offered to stop the approvals")
	}
	want(t, o.post(stop, "reason", "x"), 403, "FORBIDDEN")
	leads(t, b.post(stop, "reason", "先等等"), "/ui/bulk/"+id)
	want(t, b.get("/ui/bulk/"+id), 200, "已停止：fi: 先等等")
	leads(t, b.post(path, send...), "/ui/bulk/"+id) // sent once more by a machine, it stays stopped
	stopped := b.get("/ui/bulk/" + id).Body.String()
	goOn := offeredPath(t, stopped, "bulk.resume")
	if strings.Contains(stopped, `data-act="bulk.stop"`) || strings.Contains(stopped, "http-equiv") {
		t.Error(stopped)
	}
	want(t, o.post(goOn, "reason", "x"), 403, "FORBIDDEN")
	leads(t, b.post(goOn, "reason", "已查清"), "/ui/bulk/"+id)
	want(t, b.get("/ui/bulk/"+id), 200, "已继续：fi: 已查清")
	want(t, b.get(goOn), 200, "任务未停止")
	if _, err := d.runs.Work(t.Context(), id, func(bulk.Run) {}); err != nil {
		t.Fatal(err)
	}
	failed := b.get("/ui/bulk/" + id + "?state=failed")
	want(t, failed, 200, "退款须由申请人以外的人员审批")
	if english.MatchString(visibleText(failed.Body.String())) {
		t.Errorf("English on a Chinese page: %s", english.FindString(visibleText(failed.Body.String())))
	}
}

// What one person may not send back at once, they do not by a hundred small refunds: the page says so before, offers
// it to nobody but a second person, and does nothing before.
func TestALargeBulkApprovalTakesTwoPeople(t *testing.T) {
	d := newDeskOf(t, ordertest.NewWith(t, sqldbtest.SQLite(t), func(c *order.Config) { c.RefundTwoPersons = 150 }),
		nil)
	d.SKU(t, "mug", 100)
	for i := range 2 { // 100 each
		d.MustAsk(t, ordertest.Ask(d.PaidOne(t, fmt.Sprint("r", i), "mug", 1).OrderNo, fmt.Sprint("k", i), 0))
	}
	b := d.browser(t, "fi", Finance)
	path := offeredPath(t, b.get("/ui/refunds").Body.String(), "bulk.approve")
	form := b.get(path).Body.String()
	if !strings.Contains(form, "须由另一位财务继续") {
		t.Error("the form does not say that it takes two")
	}
	id := hidden(t, form, fieldKey)
	leads(t, b.post(path, "filter", "", fieldKey, id, "reason", "已核对", "matched", "2", fieldSeen,
		hidden(t, form, fieldSeen)), "/ui/bulk/"+id)
	page := b.get("/ui/bulk/" + id).Body.String()
	if !strings.Contains(page, "已停止：合计超过单人审批上限") || strings.Contains(page, `data-act="bulk.resume"`) {
		t.Error(page)
	}
	goOn := "/ui/bulk/" + id + "/resume"
	want(t, b.get(goOn), 200, "合计超过单人审批上限")
	want(t, b.post(goOn, "reason", "自己来"), 403, "FORBIDDEN")
	want(t, d.ask(Operator, "POST", bulkAPI+"/"+id+"/resume", `{"reason":"x"}`), 403, "FORBIDDEN")
	if run, err := d.runs.Work(t.Context(), id, func(bulk.Run) {}); err != nil || run.State != bulk.StateStopped ||
		run.Done != 0 {
		t.Fatalf("%+v %v", run, err)
	}
	second := d.browser(t, "wu", Finance)
	leads(t, second.post(offeredPath(t, second.get("/ui/bulk/"+id).Body.String(), "bulk.resume"), "reason", "已复核"),
		"/ui/bulk/"+id)
	if run, err := d.runs.Work(t.Context(), id, func(bulk.Run) {}); err != nil || run.Done != 2 {
		t.Errorf("%+v %v", run, err)
	}
}

// visibleText is what a page says in its main part.
func visibleText(page string) string {
	_, page, _ = strings.Cut(page, "<main")
	page, _, _ = strings.Cut(page, "</main>")
	return regexp.MustCompile(`<[^>]*>`).ReplaceAllString(page, " ")
}

// Why a row was not done is said in Chinese on a Chinese page.
func TestWhatFailsInBulkIsSaidInChinese(t *testing.T) {
	said := []string{order.ErrSelfApproval.Error(), operators.ErrNoLonger.Error(), operators.ErrShell.Error(),
		(&operators.SameError{Acting: "li", Other: "wang", Why: "they are the same person"}).Error(),
		order.ErrNotFound.Error(), order.ErrRefundNotFound.Error(), bulk.ErrTooMany.Error(), bulk.ErrNone.Error(),
		(&bulk.CountError{Typed: 1, Count: 2}).Error(), bulk.ErrChanged.Error()}
	said = append(said, bulk.Details()...)
	for _, s := range order.States() {
		if c := order.Next(s, order.EventCancel); c.Verdict == order.VerdictRefuse {
			said = append(said, c.Why)
		}
	}
	for _, s := range order.RefundStates() {
		if c := order.NextRefund(s, order.RefundEventApprove); c.Verdict == order.VerdictRefuse {
			said = append(said, c.Why)
		}
	}
	for _, text := range said {
		if zh.says(text) == "" || english.MatchString(zh.says(text)) || en.says(text) != text {
			t.Errorf("%q: %q", text, zh.says(text))
		}
	}
}

// A refund that goes and another that comes leave the number as it was: the page shows what there is now, and has the
// number typed again.
func TestAnotherSetOfTheSameNumberIsShownAgain(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 100)
	asks := func(i int) string {
		o := d.PaidOne(t, fmt.Sprint("r", i), "mug", 1)
		return d.MustAsk(t, ordertest.Ask(o.OrderNo, fmt.Sprint("k", i), 0)).OutRefundNo
	}
	gone := asks(1)
	asks(2)
	b := d.browser(t, "fi", Finance)
	form := b.get("/ui/bulk/approve").Body.String()
	d.MustDecide(t, gone, order.RefundEventReject, ordertest.Finance2)
	came := asks(3)
	id := hidden(t, form, fieldKey)
	w := b.post("/ui/bulk/approve", "filter", "", fieldKey, id, "reason", "已核对", "matched", "2", fieldSeen,
		hidden(t, form, fieldSeen))
	want(t, w, 412, "笔数相同，但内容已变化")
	again := w.Body.String()
	if !strings.Contains(again, came) || !strings.Contains(again, `name="matched" value=""`) ||
		hidden(t, again, fieldSeen) == hidden(t, form, fieldSeen) {
		t.Error(again)
	}
	for i := range 2 { // the second time the answer was lost, and by then another number is left
		leads(t, b.post("/ui/bulk/approve", "filter", "", fieldKey, id, "reason", "已核对", "matched", "2", fieldSeen,
			hidden(t, again, fieldSeen)), "/ui/bulk/"+id)
		if _, err := d.runs.Work(t.Context(), id, func(bulk.Run) {}); err != nil {
			t.Fatal(err)
		}
		asks(4 + i)
	}
}

// What stopped a run by itself is said in the language of the page, and how many rows were passed by.
func TestTheNoteOfARunIsChinese(t *testing.T) {
	for _, note := range bulk.Notes() {
		if got := zh.runRowOf(&bulk.Run{Note: note}).Note; got == "" || english.MatchString(got) {
			t.Errorf("%q: %q", note, got)
		}
	}
	run := bulk.Run{Note: "li: wait"}
	if got := zh.runRowOf(&run).Note; got != "li: wait" {
		t.Error(got)
	}
}

// A secret that was pasted into a filter must not stay in the trail.
func TestTheTrailHasNoSecretOfAFilter(t *testing.T) {
	const secret = tokenPrefix + "0123456789abcdef"
	kept := asked{"filter": map[string]any{"customer_id": secret, secret: "x", "state": "paid"},
		"types": []any{secret, "order.paid"}}.kept([]string{"filter", "types"})
	if strings.Contains(kept, secret) || !strings.Contains(kept, `"state":"paid"`) ||
		!strings.Contains(kept, "order.paid") || strings.Count(kept, "(secret)") != 3 {
		t.Error(kept)
	}
}
