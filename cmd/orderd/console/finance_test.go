package console

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/xuri/excelize/v2"

	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment/operators"
	"orderd/payment/reconcile"
)

// shortDay is a desk with a payment of today that the bill of today lacks, and what the day is called.
func shortDay(t *testing.T) (d *desk, date string, difference reconcile.Difference) {
	t.Helper()
	d = newDesk(t)
	d.SKU(t, "mug", 10)
	d.PaidOne(t, "paid", "mug", 1)
	date = reconcile.Day(d.Clock.Now())
	d.Clock.Advance(24 * time.Hour)
	if _, err := d.books.Run(t.Context(), reconcile.RunRequest{Date: date}); err != nil {
		t.Fatal(err)
	}
	all, err := d.books.Differences(t.Context(), reconcile.DifferenceFilter{Date: date, Limit: 10})
	if err != nil || len(all) != 1 {
		t.Fatal(len(all), err)
	}
	for _, name := range []string{"bea", "carl"} {
		if err := operators.Create(t.Context(), d.DB, name, operators.Finance, operators.Bootstrap,
			d.Clock.Now().Add(-48*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	return d, date, all[0]
}

// asJSON reads an answer.
func asJSON[T any](t *testing.T, body []byte) (v T) {
	t.Helper()
	if err := json.Unmarshal(body, &v); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return v
}

// Finance's month by the API: what is missing and open, who works on it, what can be done, and the close with its
// proof. Each answer is held against the document.
func TestFinanceClosesADayByRoute(t *testing.T) {
	d, date, x := shortDay(t)
	month := asJSON[MonthView](t, d.ask(Finance, "GET", "/admin/v1/months/"+date[:7], "").Body.Bytes())
	if month.Sums.Open != 1 || month.Closed || month.Balanced || len(month.Days) < 28 {
		t.Errorf("%+v", month.Sums)
	}
	for _, media := range []string{"text/csv", xlsxType} {
		w := d.ask(Finance, "GET", "/admin/v1/months/"+date[:7], "", "Accept", media)
		want(t, w, 200, "")
		if !strings.HasPrefix(w.Header().Get("Content-Type"), media) {
			t.Errorf("%v", w.Header())
		}
	}
	want(t, d.ask(Finance, "GET", "/admin/v1/months/2026-13", ""), 422, "VALIDATION_FAILED")
	at := "/admin/v1/differences/" + x.ID
	want(t, d.ask(Finance, "POST", at+"/assign", `{"assignee":"bea","from":""}`), 200, `"assignee":"bea"`)
	want(t, d.ask(Finance, "POST", at+"/assign", `{"assignee":"carl","from":""}`), 422, "期间已分配给")
	want(t, d.ask(Finance, "POST", at+"/assign", `{"assignee":"ghost"}`), 422, "没有财务角色的账号")
	want(t, d.ask(Finance, "POST", at+"/comments", `{"text":"asked the bank"}`), 200, "asked the bank")
	want(t, d.ask(Finance, "POST", at+"/comments", `{"text":""}`), 422, "comment")
	v := asJSON[DifferenceView](t, d.ask(Finance, "GET", at, "").Body.Bytes())
	if len(v.Notes) != 2 || len(v.Actions) != 1 || len(v.Choices) != 1 || v.Choices[0].People != 2 ||
		v.Choices[0].Does == "" {
		t.Errorf("%+v", v)
	}
	list := func(query string) string {
		return d.ask(Finance, "GET", "/admin/v1/differences"+query, "").Body.String()
	}
	if !strings.Contains(list("?status=OPEN&assignee=bea"), x.ID) ||
		strings.Contains(list("?status=OPEN&assignee=carl"), x.ID) ||
		strings.Contains(list("?status=OPEN&assignee=-"), x.ID) || strings.Contains(list("?age_days=3"), x.ID) {
		t.Error("the filters show something else")
	}
	want(t, d.ask(Finance, "GET", "/admin/v1/differences?assignee=bea", ""), 422, "NEEDS_RANGE")
	want(t, d.ask(Finance, "GET", "/admin/v1/reconciliations/"+date+"-ALL/differences?assignee=bea", ""), 200, x.ID)
	want(t, d.ask(Finance, "POST", at+"/resolve", `{"action":"WRITE_OFF","reason":"x","version":"other"}`), 422,
		"已发生变化")
	day := "/admin/v1/reconciliations/" + date + "-ALL"
	want(t, d.ask(Finance, "POST", day+"/close", `{"reason":"done"}`), 422, "条差异未处理")
	want(t, d.ask(Finance, "POST", "/admin/v1/reconciliations/"+date+"-REFUND/close", `{"reason":"done"}`), 422, "ALL")
	for _, who := range []string{"bea", "carl"} {
		if _, err := d.books.Resolve(t.Context(), reconcile.Resolve{ID: x.ID, Action: reconcile.WriteOff,
			Reason: "lost", Version: v.Version, Cause: reconcile.ByOperator(who, "request", "r")}); err != nil {
			t.Fatal(err)
		}
	}
	want(t, d.ask(Finance, "POST", day+"/close", `{"reason":"done"}`), 200, `"closed_by":"the-finance"`)
	want(t, d.ask(Finance, "GET", day+"/closings", ""), 200, `"reason":"done"`)
	w := d.ask(Finance, "GET", day+"/proof", "")
	want(t, w, 200, "")
	z, err := zip.NewReader(bytes.NewReader(w.Body.Bytes()), int64(w.Body.Len()))
	if err != nil || len(z.File) < 9 || w.Header().Get("Content-Type") != zipType {
		t.Errorf("%v, %v", err, w.Header())
	}
	want(t, d.ask(Finance, "GET", day+"/proof?seq=2", ""), 404, "")
	want(t, d.ask(Finance, "GET", day+"/proof?seq=x", ""), 422, "FORMAT")
}

// A workbook that is given back by the API is shown first and then done, and what is no workbook is named.
func TestAWorkbookIsGivenBackByRoute(t *testing.T) {
	d, _, x := shortDay(t)
	w := d.ask(Finance, "GET", "/admin/v1/differences/work.xlsx", "")
	want(t, w, 200, "")
	book, err := excelize.OpenReader(bytes.NewReader(w.Body.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	defer book.Close()
	rows, err := book.GetRows("Work")
	if err != nil || len(rows) != 2 {
		t.Fatal(len(rows), err)
	}
	for i, title := range rows[0] {
		cell, _ := excelize.CoordinatesToCellName(i+1, 2)
		if strings.HasSuffix(title, " comment") {
			if err := book.SetCellValue("Work", cell, "asked"); err != nil {
				t.Fatal(err)
			}
		}
	}
	var filled bytes.Buffer
	if err := book.Write(&filled); err != nil {
		t.Fatal(err)
	}
	give := func(path, file string) *reconcile.Imported {
		w := d.ask(Finance, "POST", "/admin/v1/differences/import"+path, file, "Content-Type", xlsxType)
		want(t, w, 200, x.ID)
		done := asJSON[reconcile.Imported](t, w.Body.Bytes())
		return &done
	}
	if done := give("", filled.String()); !done.DryRun || done.Counts[reconcile.OutcomePlanned] != 1 {
		t.Errorf("%+v", done)
	}
	notes := func() int {
		all, err := d.books.Notes(t.Context(), x.ID)
		if err != nil {
			t.Fatal(err)
		}
		return len(all[x.ID])
	}
	if notes() != 0 {
		t.Error("a dry run has said something")
	}
	for range 2 {
		give("/apply", filled.String())
	}
	if notes() != 1 {
		t.Errorf("said %d times", notes())
	}
	post := func(body, media string) (int, string) {
		w := d.ask(Finance, "POST", "/admin/v1/differences/import/apply", body, "Content-Type", media)
		return w.Code, w.Body.String()
	}
	for _, c := range []struct {
		body, media string
		status      int
		says        string
	}{
		{"处理人,id\r\n", xlsxType, 422, "CSV"}, {"\xb4\xa6\xc0\xed", xlsxType, 422, "GBK"}, {"", xlsxType, 422, "空的"},
		{"{}", "application/json", 415, ""},
		{strings.Repeat("x", reconcile.MaxImport+1), xlsxType, http.StatusRequestEntityTooLarge, ""},
	} {
		if status, text := post(c.body, c.media); status != c.status || !strings.Contains(text, c.says) {
			t.Errorf("%.10q: %d %s", c.body, status, text)
		}
	}
}

// A button that the rule behind it refuses sends people in circles: a day is offered to be closed exactly when it would
// be, and otherwise its page says what is missing.
func TestADayIsOfferedToBeClosedWhenItCanBe(t *testing.T) {
	d, date, x := shortDay(t)
	b := d.browser(t, "ann", Finance)
	at := uiBooks + "/" + date + "-ALL"
	by := func(statement string, args ...any) {
		t.Helper()
		if _, err := d.DB.Pool().ExecContext(t.Context(), statement, args...); err != nil {
			t.Fatal(err)
		}
	}
	judged := func(can bool, says string) {
		t.Helper()
		page, form := b.get(at).Body.String(), b.get(at+"/close").Body.String()
		if strings.Contains(page, `data-act="day.close"`) != can || strings.Contains(form, `name="reason"`) != can ||
			!can && (!strings.Contains(page, says) || !strings.Contains(form, says)) {
			t.Errorf("offered %t, want %t with %q\n%s\n%s", !can, can, says, page, form)
		}
		if w := b.post(at+"/close", "reason", "all is well"); can != (w.Code == 303) {
			t.Errorf("%d: %s", w.Code, w.Body)
		}
	}
	judged(false, "此日不能关账：当日全部账单尚有 1 条差异未处理")
	by("UPDATE differences SET bill_type = 'REFUND' WHERE id = ?", x.ID)
	judged(false, "此日不能关账：当日全部账单尚有 1 条差异未处理")
	want(t, b.get(uiBooks+"?month="+date[:7]), 200, "有 1 条差异未处理")
	by("UPDATE differences SET status = 'PENDING_NEXT_DAY', pending_until = 9000000000000 WHERE id = ?", x.ID)
	judged(false, "此日不能关账：尚有 1 条差异等待另一天的账单")
	by("UPDATE differences SET status = 'OPEN', bill_type = 'ALL' WHERE id = ?", x.ID)
	for _, who := range []string{"bea", "carl"} {
		if _, err := d.books.Resolve(t.Context(), reconcile.Resolve{ID: x.ID, Action: reconcile.WriteOff,
			Reason: "lost", Cause: reconcile.ByOperator(who, "request", "r")}); err != nil {
			t.Fatal(err)
		}
	}
	by("UPDATE reconciliations SET state = 'failed' WHERE bill_date = ?", date)
	judged(false, "尚未完成对账（失败）")
	by("UPDATE reconciliations SET state = 'done' WHERE bill_date = ?", date)
	by(`INSERT INTO day_closings (bill_date, seq, who, how, why, at, sha1, found_sha256, manifest_sha256,
  previous_sha256)
VALUES ('2020-01-02', 1, 'x', 'request', 'x', 1, '', '', '', '')`)
	judged(false, "此日不能关账：须按日期顺序关账，"+date[:8])
	by("DELETE FROM day_closings")
	judged(true, "")
	if page := b.get(at).Body.String(); strings.Contains(page, `data-act="day.close"`) ||
		strings.Contains(page, "不能关账") {
		t.Error("a closed day is offered to be closed, or said not to be")
	}
}

// Whoever runs a day again has to know what is replaced by it and what stays, before it is done.
func TestAnotherRunSaysWhatItReplaces(t *testing.T) {
	d, date, x := shortDay(t)
	b := d.browser(t, "fay", Finance)
	run := uiBooks + "/" + date + "-ALL/run"
	says := []string{"将被替换的结果", "已处理的差异 0 条，已提议核销 1 条", "两人核销的差异"}
	next := reconcile.Day(d.Clock.Now())
	for _, text := range says {
		if page := b.get(uiBooks + "/" + next + "-ALL/run"); strings.Contains(page.Body.String(), text) {
			t.Errorf("a day that nobody has reconciled says %q", text)
		}
	}
	resolve := func(who string) {
		t.Helper()
		if _, err := d.books.Resolve(t.Context(), reconcile.Resolve{ID: x.ID, Action: reconcile.WriteOff,
			Reason: "lost", Cause: reconcile.ByOperator(who, "request", "r")}); err != nil {
			t.Fatal(err)
		}
	}
	resolve("bea")
	for _, text := range says {
		want(t, b.get(run), 200, text)
	}
	resolve("carl")
	if _, err := d.books.CloseDay(t.Context(), reconcile.CloseDay{Date: date, Reason: "all is well",
		Cause: reconcile.ByOperator("bea", "request", "r")}); err != nil {
		t.Fatal(err)
	}
	want(t, b.get(run), 200, "已处理的差异 1 条")
	want(t, b.get(run), 200, "第 1 次关账：bea")
}

// Whoever closes a month must find all that stands in the way at one place, each with where it is ended: on the page,
// by the API and by the verb.
func TestTheMonthSaysWhatItLacks(t *testing.T) {
	d, date, x := shortDay(t)
	d.SKU(t, "cup", 5)
	d.Clock.Advance(24 * time.Hour) // the bill of the next day should be here
	next := reconcile.Day(d.Clock.Now().AddDate(0, 0, -1))
	no := d.PaidOne(t, "c2", "cup", 1).OrderNo
	if _, err := d.Service.AskRefund(t.Context(), order.AskRefund{OrderNo: no, Reason: "broken", RequestID: "k",
		NeedsPerson: true, Cause: ordertest.Customer}); err != nil {
		t.Fatal(err)
	}
	lacks := func() map[reconcile.Lack]reconcile.MonthLack {
		all := map[reconcile.Lack]reconcile.MonthLack{}
		m := asJSON[MonthView](t, d.ask(Finance, "GET", "/admin/v1/months/"+date[:7], "").Body.Bytes())
		for _, l := range m.Lacks {
			all[l.What] = l
		}
		return all
	}
	got := lacks()
	for what, l := range map[reconcile.Lack]reconcile.MonthLack{
		reconcile.LackRun:     {Date: next, State: reconcile.DayMissing, Count: 1, Stops: true},
		reconcile.LackOpen:    {Date: date, State: reconcile.DayOpen, Count: 1, Stops: true},
		reconcile.LackRefunds: {Count: 1, Fen: got[reconcile.LackRefunds].Fen},
	} {
		if l.What = what; got[what] != l || l.Count == 0 {
			t.Errorf("%s: %+v, want %+v", what, got[what], l)
		}
	}
	if _, early := got[reconcile.LackClosing]; early || got[reconcile.LackRefunds].Fen == 0 {
		t.Errorf("%+v", got)
	}
	b := d.browser(t, "fay", Finance)
	page := b.get(uiBooks + "?month=" + date[:7])
	at := uiBooks + "/" + date + "-ALL"
	for _, text := range []string{"关账前还缺什么", `href="` + at + `?status=OPEN#diffs">` + date, "1 条差异未处理",
		`href="` + uiBooks + "/" + next + `-ALL/run">` + next, "1 笔退款未完成", `href="/ui/refunds"`} {
		want(t, page, 200, text)
	}
	for _, who := range []string{"bea", "carl"} {
		if _, err := d.books.Resolve(t.Context(), reconcile.Resolve{ID: x.ID, Action: reconcile.WriteOff,
			Reason: "lost", Cause: reconcile.ByOperator(who, "request", "r")}); err != nil {
			t.Fatal(err)
		}
	}
	got = lacks()
	if got[reconcile.LackClosing].Date != date || got[reconcile.LackOpen].Count != 0 {
		t.Errorf("balanced, and nobody has closed it: %+v", got)
	}
	want(t, b.get(uiBooks+"?month="+date[:7]), 200, `href="`+at+`/close"`)
	if _, err := d.books.CloseDay(t.Context(), reconcile.CloseDay{Date: date, Reason: "all is well",
		Cause: reconcile.ByOperator("bea", "request", "r")}); err != nil {
		t.Fatal(err)
	}
	if got = lacks(); got[reconcile.LackClosing].Count != 0 {
		t.Errorf("closed: %+v", got)
	}
}
