package console

import (
	"bytes"
	"errors"
	"html"
	"mime/multipart"
	"net/http/httptest"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xuri/excelize/v2"

	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/payment/operators"
	"orderd/payment/reconcile"
)

// Whoever closes a month looks at its page: each day must be there, with what it lacks, and lead to its proof.
func TestTheMonthIsAPage(t *testing.T) {
	d, date, x := shortDay(t)
	page := d.ask(Finance, "GET", "/ui/reconciliations?month="+date[:7], "").Body.String()
	for _, text := range []string{"/ui/reconciliations/" + date + "-ALL", "▲1", "开业前", "未到", "有 1 条差异未处理",
		"?month=" + date[:5], ".csv?month=" + date[:7], ".xlsx?month=" + date[:7]} {
		if !strings.Contains(page, text) {
			t.Errorf("the month lacks %q", text)
		}
	}
	if n := strings.Count(page, `<td data-l="日期">`); n != 32 && n != 31 && n != 29 { // the sums have a row
		t.Errorf("%d rows", n)
	}
	for _, name := range []string{".csv", ".xlsx"} {
		want(t, d.ask(Finance, "GET", "/ui/reconciliations"+name+"?month="+date[:7], ""), 200, "")
	}
	want(t, d.ask(Finance, "GET", "/ui/reconciliations?month=never", "", "Accept", "text/html"), 422, "YYYY-MM")
	d.Clock.Advance(24 * time.Hour) // the bill of the next day is due, and nobody has asked for it
	page = d.ask(Finance, "GET", "/ui/reconciliations?month="+date[:7], "").Body.String()
	if !strings.Contains(page, "缺 1 天") || !strings.Contains(page, "未对账") {
		t.Error("a day that is missing is left out")
	}
	for _, who := range []string{"bea", "carl"} {
		if _, err := d.books.Resolve(t.Context(), reconcile.Resolve{ID: x.ID, Action: reconcile.WriteOff,
			Reason: "lost", Cause: reconcile.ByOperator(who, "request", "r")}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.books.CloseDay(t.Context(), reconcile.CloseDay{Date: date, Reason: "all is well",
		Cause: reconcile.ByOperator("bea", "request", "r")}); err != nil {
		t.Fatal(err)
	}
	want(t, d.ask(Finance, "GET", "/ui/reconciliations?month="+date[:7], ""), 200, "已关账")
	want(t, d.ask(Finance, "GET", "/ui/reconciliations/"+date+"-ALL", ""), 200, "第 1 次关账：bea")
}

// Whoever works a day off beside their own figures has it as a file, by a link: the same sheets that the API and the
// command line give.
func TestADayIsAFile(t *testing.T) {
	d, date, x := shortDay(t)
	at := "/ui/reconciliations/" + date + "-ALL"
	page := d.ask(Finance, "GET", at, "").Body.String()
	for _, ext := range []string{"csv", "xlsx"} {
		if !strings.Contains(page, `href="`+at+"/day."+ext+`"`) {
			t.Errorf("the page has no %s", ext)
		}
	}
	w := d.ask(Finance, "GET", at+"/day.csv?status=OPEN", "")
	want(t, w, 200, x.ID)
	if name := w.Header().Get("Content-Disposition"); !strings.Contains(name, `"differences-`+date+`-ALL.csv"`) {
		t.Error(name)
	}
	want(t, d.ask(Finance, "GET", at+"/day.csv?status=RESOLVED", ""), 200, "bill_date")
	want(t, d.ask(Viewer, "GET", at+"/day.xlsx", ""), 403, "FORBIDDEN")
	want(t, d.ask(Finance, "GET", "/ui/reconciliations/2020-01-01-ALL/day.xlsx", ""), 404, "NOT_FOUND")
	byPage := sheetsOf(t, d.ask(Finance, "GET", at+"/day.xlsx", ""))
	byAPI := sheetsOf(t, d.ask(Finance, "GET", "/admin/v1/reconciliations/"+date+"-ALL/differences", "",
		"Accept", xlsxType))
	if len(byPage) != 2 || !reflect.DeepEqual(byPage, byAPI) || byPage["Differences"][1][20] != x.ID ||
		byPage["Summary"][1][0] != date+" ALL" {
		t.Errorf("%q, and by the API %q", byPage, byAPI)
	}
}

// sheetsOf are the rows of the sheets of a workbook.
func sheetsOf(t *testing.T, w *httptest.ResponseRecorder) map[string][][]string {
	t.Helper()
	book, err := excelize.OpenReader(w.Body)
	if err != nil {
		t.Fatal(w.Code, err)
	}
	all := map[string][][]string{}
	for _, name := range book.GetSheetList() {
		if all[name], err = book.GetRows(name); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// A month whose sums lack what an early run of today found is closed in good faith: the page must not say balanced.
func TestTheMonthSaysWhatIsOpenOfAnEarlyDay(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 5)
	d.PaidOne(t, "paid", "mug", 1)
	today := reconcile.Day(d.Clock.Now())
	if _, err := d.books.Run(t.Context(), reconcile.RunRequest{Date: today}); err != nil {
		t.Fatal(err)
	}
	page := d.ask(Finance, "GET", "/ui/reconciliations", "").Body.String()
	if strings.Contains(page, "平账") || !strings.Contains(page, "有 1 条差异未处理") ||
		!strings.Contains(page, `href="/ui/reconciliations/`+today+`-ALL"`) {
		t.Errorf("%s", page)
	}
}

// A number that cannot be opened is believed or not; each one of the bridge leads to its rows.
func TestEveryNumberOfTheBridgeOpensItsRows(t *testing.T) {
	d, date, x := shortDay(t)
	at := "/ui/reconciliations/" + date + "-ALL"
	page := d.ask(Finance, "GET", at, "").Body.String()
	for _, text := range []string{`href="` + at + `?type=LOCAL_ONLY#diffs"`, "paid_from=" + date,
		"/admin/v1/reconciliations/" + date + "-ALL/proof"} {
		if !strings.Contains(page, text) {
			t.Errorf("the day lacks %q", text)
		}
	}
	ours := regexp.MustCompile(`href="(/ui/orders\?[^"]*paid_from[^"]*)"`).FindStringSubmatch(page)
	if ours == nil {
		t.Fatal("our own rows have no link")
	}
	want(t, d.ask(Finance, "GET", strings.ReplaceAll(ours[1], "&amp;", "&"), ""), 200, x.OrderNo)
	for query, shows := range map[string]bool{"?type=LOCAL_ONLY": true, "?type=BILL_ONLY": false, "?status=OPEN": true,
		"?status=RESOLVED": false, "?across=1": true} {
		w := d.ask(Finance, "GET", at+query, "")
		want(t, w, 200, "")
		if strings.Contains(w.Body.String(), uiDiffs+"/"+x.ID) != shows {
			t.Errorf("%s shows it: %v", query, !shows)
		}
	}
}

// A person who is offered what is then refused does not know which of the two is right.
func TestADifferenceIsAPage(t *testing.T) {
	d, _, x := shortDay(t)
	bea := reconcile.ByOperator("bea", "request", "r")
	if _, err := d.books.Assign(t.Context(), reconcile.Assign{ID: x.ID, To: "carl", Cause: bea}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.books.Comment(t.Context(), reconcile.Comment{ID: x.ID, Text: "<b>asked</b>",
		Cause: bea}); err != nil {
		t.Fatal(err)
	}
	w := d.ask(Finance, "GET", uiDiffs+"/"+x.ID, "")
	for _, text := range []string{"&lt;b&gt;asked&lt;/b&gt;", "carl", "核销", "不动钱", "我方有这笔付款"} {
		want(t, w, 200, text)
	}
	if strings.Contains(w.Body.String(), "等待次日账单") {
		t.Error("it offers to wait for a bill that cannot explain it")
	}
	for query, shows := range map[string]bool{"": true, "?assignee=carl": true, "?assignee=-": false,
		"?age_days=2": false, "?status=RESOLVED": false, "?status=": true, "?type=LOCAL_ONLY": true} {
		w := d.ask(Finance, "GET", uiDiffs+query, "")
		want(t, w, 200, "")
		if strings.Contains(w.Body.String(), uiDiffs+"/"+x.ID) != shows {
			t.Errorf("%q shows it: %v", query, !shows)
		}
	}
	want(t, d.ask(Finance, "GET", uiDiffs+"/"+strings.Repeat("0", 32), "", "Accept", "text/html"), 404, "")
}

// give posts a form with files and texts, as a browser does.
func (b *browser) give(t *testing.T, path string, fields map[string]string) *httptest.ResponseRecorder {
	t.Helper()
	var all [][2]string
	for name, text := range fields {
		all = append(all, [2]string{name, text})
	}
	return b.giveAll(t, path, all)
}

// giveAll is give of fields in their order, of which one may come twice.
func (b *browser) giveAll(t *testing.T, path string, fields [][2]string) *httptest.ResponseRecorder {
	t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for _, f := range fields {
		part, err := form.CreateFormFile(f[0], "file")
		if err == nil {
			_, err = part.Write([]byte(f[1]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := form.Close(); err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("POST", path, &body)
	r.Host = "127.0.0.1:9090"
	r.Header.Set("Content-Type", form.FormDataContentType())
	for name, value := range b.cookies {
		r.Header.Add("Cookie", name+"="+value)
	}
	w := httptest.NewRecorder()
	b.d.ServeHTTP(w, r)
	return w
}

// workbook is the work of a desk with one difference, whose cells are filled in by the ends of their titles.
func (b *browser) workbook(t *testing.T, fill map[string]string) string {
	t.Helper()
	book, err := excelize.OpenReader(b.get("/admin/v1/differences/work.xlsx").Body)
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
		for name, text := range fill {
			if strings.HasSuffix(title, " "+name) {
				err = errors.Join(err, book.SetCellValue("Work", cell, text))
			}
		}
	}
	var filled bytes.Buffer
	if err = errors.Join(err, book.Write(&filled)); err != nil {
		t.Fatal(err)
	}
	return filled.String()
}

// What asks for the password by the form of one difference asks for it by a workbook too: money that is written off,
// and money that goes back.
func TestAWorkbookGoesAroundNoPassword(t *testing.T) {
	d := newDesk(t)
	d.heldMoney(t, "4200001", 500)
	date := reconcile.Day(d.Clock.Now())
	d.bills[date] = bill(payment.Trade{TransactionID: "4200001", OutTradeNo: "01JD4Z0000000000000000000X-01",
		Total: 500, SuccessTime: d.Clock.Now()})
	d.Clock.Advance(24 * time.Hour)
	if _, err := d.books.Run(t.Context(), reconcile.RunRequest{Date: date}); err != nil {
		t.Fatal(err)
	}
	b := d.browser(t, "ann", Finance)
	d.Clock.Advance(operators.ProvedFor + time.Minute)
	b.get("/ui/")
	for action, asks := range map[reconcile.Action]bool{"": false, reconcile.WriteOff: true,
		reconcile.RefundPayment: true} {
		fill := map[string]string{"comment": "asked"}
		if action != "" {
			fill["action"], fill["reason"] = string(action), "nobody's"
		}
		w := b.give(t, uiDiffs+"/import", map[string]string{"workbook": b.workbook(t, fill)})
		want(t, w, 200, "将执行")
		if strings.Contains(w.Body.String(), provePassword) != asks {
			t.Errorf("%q: asks for the password: %t, want %t", action, !asks, asks)
		}
		again := html.UnescapeString(hidden(t, w.Body.String(), "again"))
		if !asks {
			continue
		}
		want(t, b.give(t, uiDiffs+"/import", map[string]string{"again": again}), 403, "不正确")
	}
	all, err := d.books.Differences(t.Context(), reconcile.DifferenceFilter{Date: date, Limit: 10})
	if err != nil || len(all) != 1 || all[0].ProposedBy != "" || all[0].OursState != "held" {
		t.Errorf("without the password: %+v, %v", all, err)
	}
	notes, err := d.books.Notes(t.Context(), all[0].ID)
	if err != nil || len(notes[all[0].ID]) != 0 {
		t.Errorf("without the password: %+v, %v", notes, err)
	}
}

// A workbook is shown before it is done, also to whoever has only a browser; what is written off asks for the
// password, and what is no workbook is named.
func TestAWorkbookIsGivenBackByAForm(t *testing.T) {
	d, _, x := shortDay(t)
	b := d.browser(t, "ann", Finance)
	want(t, b.get(uiDiffs+"/import"), 200, "试运行")
	filled := b.workbook(t, map[string]string{"action": "核销 WRITE_OFF", "reason": "lost", "comment": "asked"})
	d.Clock.Advance(operators.ProvedFor + time.Minute)
	notes := func() int {
		all, err := d.books.Notes(t.Context(), x.ID)
		if err != nil {
			t.Fatal(err)
		}
		return len(all[x.ID])
	}
	w := b.give(t, uiDiffs+"/import", map[string]string{"workbook": filled})
	want(t, w, 200, "将执行")
	want(t, w, 200, provePassword)
	again := html.UnescapeString(hidden(t, w.Body.String(), "again"))
	want(t, b.give(t, uiDiffs+"/import", map[string]string{"again": again, provePassword: "wrong"}), 403, "不正确")
	if notes() != 0 {
		t.Error("it was done before anybody said so")
	}
	for range 2 {
		want(t, b.give(t, uiDiffs+"/import", map[string]string{"again": again, provePassword: password}), 200, "已执行")
	}
	if notes() != 2 {
		t.Errorf("%d notes", notes())
	}
	if got, err := d.books.Difference(t.Context(), x.ID); err != nil || got.ProposedBy != "ann" ||
		got.Status != reconcile.StatusOpen {
		t.Errorf("%+v %v", got, err)
	}
	want(t, b.give(t, uiDiffs+"/import", map[string]string{"workbook": "\xb4\xa6\xc0\xed"}), 422, "GBK")
	acts := slices.DeleteFunc(d.acted(t), func(a string) bool { return !strings.Contains(a, " differences.") })
	if want := []string{"ann differences.preview", "ann differences.preview done", "ann differences.import",
		"ann differences.import done", "ann differences.import", "ann differences.import done",
		"ann differences.preview", "ann differences.preview refused:VALIDATION_FAILED"}; !slices.Equal(acts, want) {
		t.Errorf("%q", acts) // a look is not the act
	}
	want(t, b.get(uiBooks+"/upload"), 200, `name="bill"`)
	want(t, b.give(t, uiBooks+"/upload", map[string]string{"bill_date": reconcile.Day(d.Clock.Now()), "reason": "x",
		"bill": "<html>"}), 303, "")
}

// What finance does by a form is what the API does: nothing else is offered, and two people stay two.
func TestFinanceWorksByForms(t *testing.T) {
	d, date, x := shortDay(t)
	one, two := d.browser(t, "ann", Finance), d.browser(t, "ben", Finance)
	at := uiDiffs + "/" + x.ID
	want(t, one.get(at), 200, `data-act="diff.resolve"`)
	want(t, one.post(at+"/assign", "assignee", "carl", "from", ""), 303, "")
	want(t, one.post(at+"/comment", "text", "asked the bank"), 303, "")
	want(t, one.get(at), 200, "asked the bank")
	form := one.get(at + "/resolve").Body.String()
	if strings.Contains(form, "APPLY_PAYMENT") || !strings.Contains(form, "不动钱") {
		t.Error("the form offers what this difference does not allow, or does not say what will happen")
	}
	seen := hidden(t, form, "seen")
	off := []string{"action", "WRITE_OFF", "reason", "lost", "seen", seen}
	for _, by := range []struct {
		*browser
		told string
	}{{one, "已登记您的提议，等待另一位财务确认。"}, {one, "您已提议核销，等待另一位财务确认。"}, {two, "✓ 差异已结束。"}} {
		if by.browser == two {
			want(t, two.get(at+"/resolve"), 200, "已由 ann 提议，您确认后立即结束。")
		}
		w := by.post(at+"/resolve", append(off, provePassword, password)...)
		if page := w.Body.String() + by.get(at).Body.String(); !strings.Contains(page, by.told) {
			t.Errorf("it is not said: %s", by.told)
		}
	}
	got, err := d.books.Difference(t.Context(), x.ID)
	if err != nil || got.Status != reconcile.StatusWrittenOff || got.ProposedBy != "ann" || got.ResolvedBy != "ben" {
		t.Fatalf("%+v %v", got, err)
	}
	want(t, one.get(at+"/resolve"), 200, "差异已结束")
	day := uiBooks + "/" + date + "-ALL"
	want(t, one.get(day), 200, `data-act="day.close"`)
	want(t, one.post(day+"/close", "reason", "all is well"), 303, "")
	if page := one.get(day).Body.String(); !strings.Contains(page, "第 1 次关账：ann") ||
		strings.Contains(page, `data-act="day.close"`) {
		t.Error("the day is not closed, or can be closed twice")
	}
	acts := strings.Join(d.acted(t), "\n")
	for _, line := range []string{"ann difference.assign", "ann difference.comment", "ben difference.resolve",
		"ann day.close"} {
		if !strings.Contains(acts, line) {
			t.Errorf("the audit trail lacks %s", line)
		}
	}
}

// A number whose list has fewer rows than it says is a question that nobody can answer: the payments that are no
// order's stand on the page, and with the list of orders they are as many as the bridge says.
func TestTheCountOfTheDayIsItsLists(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 10)
	paid := d.PaidOne(t, "c1", "mug", 1)
	late := d.PlaceOne(t, "c2", "mug", 1)
	number := d.Prepaid(t, late.OrderNo)
	d.heldMoney(t, "4200001", 500)
	if _, err := d.Cancel(t.Context(), order.CancelRequest{OrderNo: late.OrderNo,
		Cause: ordertest.Customer}); err != nil {
		t.Fatal(err)
	}
	trade, err := d.WeChat.Pay(number, true)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := d.Settle(t.Context(), trade, ordertest.Notified); err != nil || s.Settled != order.SettledOwed {
		t.Fatal(s, err)
	}
	date := reconcile.Day(d.Clock.Now())
	d.Clock.Advance(24 * time.Hour)
	if _, err := d.books.Run(t.Context(), reconcile.RunRequest{Date: date}); err != nil {
		t.Fatal(err)
	}
	b := d.browser(t, "fay", Finance)
	page := b.get(uiBooks + "/" + date + "-ALL").Body.String()
	for _, text := range []string{`<a href="#ours">3</a>`, "有 2 笔", "其余 1 笔的订单", "关单后付款", "没有对应的订单", "4200001",
		late.OrderNo} {
		if !strings.Contains(page, text) {
			t.Errorf("the day lacks %q", text)
		}
	}
	list := regexp.MustCompile(`href="([^"]*paid_from[^"]*)">其余`).FindStringSubmatch(page)
	if list == nil {
		t.Fatal("no list of the orders")
	}
	orders := b.get(html.UnescapeString(list[1])).Body.String()
	if !strings.Contains(orders, paid.OrderNo) || strings.Contains(orders, late.OrderNo) ||
		!strings.Contains(orders, "共 1 ") {
		t.Errorf("%s", orders)
	}
}
