package console

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/order/webhooks"
	"orderd/payment"
	"orderd/stock"
)

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// inBeijing is a time as the pages have it.
func inBeijing(at time.Time) string { return at.In(beijing).Format("2006-01-02 15:04:05") }

// A list that ends at fifty hides the order that is asked for.
func TestOrdersAreFilteredAndPaged(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 100)
	var all []string
	for _, key := range []string{"a", "b", "c", "d", "e"} {
		all = append(all, d.PlaceOne(t, key, "mug", 1).OrderNo)
	}
	paid := d.PaidOne(t, "paid", "mug", 2)
	day := paid.CreatedAt.In(beijing).Format(time.DateOnly)
	page := d.ask(Viewer, "GET", "/ui/orders?limit=2", "").Body.String()
	seen := ""
	for n := 0; ; n++ {
		seen += page
		next := regexp.MustCompile(`rel="next" href="([^"]*)"`).FindStringSubmatch(page)
		if next == nil {
			if n != 2 {
				t.Errorf("%d pages", n+1)
			}
			break
		}
		page = d.ask(Viewer, "GET", strings.ReplaceAll(next[1], "&amp;", "&"), "").Body.String()
		if !strings.Contains(page, `href="/ui/orders?limit=2">←`) {
			t.Error("no way back to the newest")
		}
	}
	for _, no := range append(all, paid.OrderNo) {
		if strings.Count(seen, `href="/ui/orders/`+no+`"`) != 1 {
			t.Errorf("%s is shown %d times", no, strings.Count(seen, no))
		}
	}
	within := "created_from=" + day + "&created_to=" + day
	exact := "created_from=" + url.QueryEscape(paid.CreatedAt.Truncate(time.Second).Format(time.RFC3339))
	for query, shows := range map[string]bool{"state=paid": true, "state=pending": false,
		"customer_id=" + paid.CustomerID: true, "sku_id=mug&" + within: true, "created_from=" + day: true,
		"created_to=" + day: true, "yuan_min=1.00&" + within: true, "yuan_min=1,000,000&" + within: false,
		"created_to=2020-01-01": false, "created_from=2100-01-01": false, "stuck=1": false,
		"state=&customer_id=&sku_id=&yuan_min=": true, "trade_type=NATIVE&" + exact + "&created_to=" + day: true} {
		w := d.ask(Viewer, "GET", "/ui/orders?"+query, "")
		want(t, w, 200, "<h1>")
		if strings.Contains(w.Body.String(), `href="/ui/orders/`+paid.OrderNo+`"`) != shows {
			t.Errorf("%s shows it: %v", query, !shows)
		}
	}
	want(t, d.ask(Viewer, "GET", "/ui/orders?limit=2", ""), 200, "共 6 单 · "+yuan(paid.Total*7/2))
	want(t, d.ask(Viewer, "GET", "/ui/orders?state=paid&limit=2", ""), 200, "共 1 单 · "+yuan(paid.Total))
	few := d.ask(Viewer, "GET", "/ui/orders?state=paid&hide=customer,expire", "")
	want(t, few, 200, `href="/ui/orders?hide=customer&amp;state=paid"`)
	want(t, few, 200, `href="/ui/orders?hide=customer%2Cexpire%2Citems&amp;state=paid">✓ `)
	if b := few.Body.String(); strings.Contains(b, `data-l="客户"`) || !strings.Contains(b, `data-l="下单时间"`) ||
		!strings.Contains(b, `href="/ui/orders.csv?state=paid"`) {
		t.Error(b)
	}
	for _, query := range []string{"hide=order", "hide=items,items", "hide=,",
		"sku_id=mug", "statee=paid", "state=nonsense", "created_from=yesterday", "limit=0"} {
		if w := d.ask(Viewer, "GET", "/ui/orders?"+query, ""); w.Code != 422 {
			t.Errorf("%s: %d", query, w.Code)
		}
	}
	csv := d.ask(Viewer, "GET", "/ui/orders.csv?state=paid", "")
	want(t, csv, 200, paid.OrderNo)
	if strings.Contains(csv.Body.String(), all[0]) ||
		!strings.Contains(csv.Header().Get("Content-Disposition"), ".csv") {
		t.Errorf("%v %s", csv.Header(), csv.Body)
	}
	want(t, d.ask(Viewer, "GET", "/ui/orders.xlsx?limit=1", ""), 200, "PK")
	want(t, d.ask(Viewer, "GET", "/ui/orders?state=paid&limit=1", ""), 200,
		`href="/ui/orders.csv?limit=1&amp;state=paid"`)
}

// Whoever answers the telephone reads one sentence: what happened, and whether there is something to do.
func TestOrderSaysWhatHappened(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 100)
	says := func(no string, texts ...string) {
		t.Helper()
		page := d.ask(Viewer, "GET", "/ui/orders/"+no, "").Body.String()
		for _, text := range texts {
			if !strings.Contains(page, text) {
				t.Errorf("no %q: %s", text, page)
			}
		}
	}
	open := d.PlaceOne(t, "open", "mug", 1)
	d.Prepaid(t, open.OrderNo)
	says(open.OrderNo, "等待买家付款", "无需处理", "现在可付\"><b>是</b>", "没有收到付款", "扣减 -1",
		inBeijing(open.ExpireAt))
	paid := d.PaidOne(t, "paid", "mug", 2)
	says(paid.OrderNo, "买家已付款", "无需处理", `现在可付">否<`, "✓", yuan(paid.Total), "已入账")
	asked, err := d.AskRefund(t.Context(), order.AskRefund{OrderNo: paid.OrderNo, CustomerID: paid.CustomerID,
		RequestID: "r", Reason: "fits nobody", Cause: ordertest.Customer})
	if err != nil {
		t.Fatal(err)
	}
	says(paid.OrderNo, "退款进行中", "退款等待审批。", asked.Refund.OutRefundNo, "fits nobody")
	d.Clock.Set(open.DueAt.Add(order.StuckAfter + time.Second))
	says(open.OrderNo, "尚未关单", "请检查工作进程", "why bad")
}

// Who asked for a refund of an order that was once to be cancelled did not pay late, and a shop that says so argues
// with a customer who is right.
func TestLateIsWhatCameLate(t *testing.T) {
	now := time.Now()
	o := order.Order{State: order.StateRefunded, CloseReason: order.CloseReasonCancel,
		Payment: &order.Payment{Outcome: order.SettledApplied}}
	if s := storyOf(&o, now); s.What != "story.refunded" || whyClosed(o.State, o.CloseReason) {
		t.Errorf("%+v", s)
	}
	o.Payment.Outcome = order.SettledOwed
	if s := storyOf(&o, now); s.What != "story.lateback" || s.Bad {
		t.Errorf("%+v", s)
	}
	for state, bad := range map[order.RefundState]bool{order.RefundStatePending: false, order.RefundStateOwed: false,
		order.RefundStateRefused: true, order.RefundStateAbnormal: true, order.RefundStateHeld: true} {
		o := order.Order{State: order.StateRefunding, Refunds: []order.Refund{{State: state}}}
		if s := storyOf(&o, now); s.Bad != bad {
			t.Errorf("%s: %+v", state, s)
		}
	}
}

// A held payment, a dead endpoint and a late order are each a link with how many, how much and since when.
func TestOverviewSaysWhatNeedsAPerson(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 100)
	page := d.ask(Admin, "GET", "/", "").Body.String()
	if strings.Contains(page, `class="count"`) || !strings.Contains(page, "挂起款项 0") {
		t.Errorf("nothing has happened: %s", page)
	}
	paid := d.PaidOne(t, "paid", "mug", 1)
	trade := payment.Trade{OutTradeNo: "nobodys", State: payment.TradeSuccess, TransactionID: "H1",
		AppID: ordertest.AppID, MchID: ordertest.MchID, TradeType: "NATIVE", Total: 123_456,
		PayerTotal: payment.Said(123_456), Currency: payment.CNY, SuccessTime: d.Clock.Now()}
	d.WeChat.Put(trade)
	if s, err := d.Settle(t.Context(), trade, ordertest.Notified); err != nil || s.Settled != order.SettledHeld {
		t.Fatal(s, err)
	}
	heldAt := d.Clock.Now()
	if _, err := d.AskRefund(t.Context(), order.AskRefund{OrderNo: paid.OrderNo, CustomerID: paid.CustomerID,
		RequestID: "r", Reason: "x", Cause: ordertest.Customer}); err != nil {
		t.Fatal(err)
	}
	late := d.PlaceOne(t, "late", "mug", 1)
	hooks, err := webhooks.New(webhooks.Config{DB: d.DB, Now: d.Clock.Now, Key: strings.Repeat("k", 32)})
	if err != nil {
		t.Fatal(err)
	}
	e, _, err := hooks.Add(t.Context(), webhooks.Put{URL: "https://shop.example/", By: "li"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := hooks.Disable(t.Context(), e.ID, "li: gone"); err != nil {
		t.Fatal(err)
	}
	early := d.ask(Admin, "GET", "/", "")
	d.Clock.Set(late.DueAt.Add(order.StuckAfter + time.Second))
	page = d.ask(Admin, "GET", "/", "").Body.String()
	one := ` <span class="count">1</span></b> <span class="sum">`
	for _, text := range []string{`href="/ui/held"><b>挂起款项` + one + `¥1,234.56</span>`, inBeijing(heldAt),
		`href="/ui/refunds"><b>退款待审批` + one + yuan(paid.Total),
		`href="/ui/orders?stuck=1"><b>超时未处理 <span class="count">1</span>`,
		`href="/ui/webhooks"><b>Webhook 失败 <span class="count">1</span>`, "付款 1 笔", yuan(paid.Total)} {
		if !strings.Contains(page, text) {
			t.Errorf("no %q: %s", text, page)
		}
	}
	// Who may not open it has no link.
	want(t, d.ask(Viewer, "GET", "/", ""), 200, `<div class="card bad"><b>Webhook 失败`)
	want(t, d.ask(Viewer, "GET", "/ui/held", ""), 200, "H1</code>")
	want(t, d.ask(Viewer, "GET", "/ui/orders?stuck=1", ""), 200, late.OrderNo)
	want(t, d.ask(Admin, "GET", "/ui/webhooks", ""), 200, "https://shop.example/")
	for _, text := range []string{"下单 2 · 付款率 50%", "每分钟下单（过去一小时）", ` · 退款 1</title>`} {
		want(t, early, 200, text)
	}
	d.Clock.Set(d.Clock.Now().Add(48 * time.Hour))
	want(t, d.ask(Admin, "GET", "/", ""), 200, "付款 0 笔") // of another day
}

// One thing that was found is opened; several are listed, each with its page.
func TestSearchPage(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 10)
	o, err := d.Find(t.Context(), d.PaidOne(t, "r", "mug", 1).OrderNo)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{o.OrderNo, strings.ToLower(o.OrderNo), o.OrderNo + "-01", o.Payment.TransactionID} {
		w := d.ask(Viewer, "GET", "/ui/search?q="+q, "")
		if w.Code != 303 || w.Header().Get("Location") != "/ui/orders/"+o.OrderNo {
			t.Errorf("%s: %d %v", q, w.Code, w.Header())
		}
	}
	for q, to := range map[string]string{o.CustomerID: "/ui/orders?customer_id=" + url.QueryEscape(o.CustomerID),
		"mug": "/ui/stock/mug", "": "/"} {
		w := d.ask(Viewer, "GET", "/ui/search?q="+q, "")
		if w.Code != 303 || w.Header().Get("Location") != to {
			t.Errorf("%q: %d %v", q, w.Code, w.Header())
		}
		want(t, d.ask(Viewer, "GET", to, ""), 200, "<h1>")
	}
	d.SKU(t, o.CustomerID, 1)
	w := d.ask(Viewer, "GET", "/ui/search?q="+o.CustomerID, "")
	want(t, w, 200, `href="/ui/orders?customer_id=`)
	want(t, w, 200, `href="/ui/stock/`+o.CustomerID)
	want(t, d.ask(Viewer, "GET", "/ui/search?q=nothing", ""), 200, "没有找到")
	want(t, d.browse(Viewer, "/ui/search?q=a%00b"), 422, "VALIDATION_FAILED")
	for i := range order.SearchMost + 2 { // of many goods with such a title some, and that there are others
		units := int64(1)
		if _, _, err := d.Admin.Put(t.Context(), stock.Put{SkuID: fmt.Sprint("tea", i), Title: fmt.Sprint("茶 ", i),
			PriceFen: 1, Quantity: &units}); err != nil {
			t.Fatal(err)
		}
	}
	many := d.browse(Viewer, "/ui/search?q=%E8%8C%B6").Body.String()
	if n := strings.Count(many, `href="/ui/stock/tea`); n != order.SearchMost || !strings.Contains(many, "只列出前 10 个") ||
		!strings.Contains(many, "茶 1") {
		t.Errorf("%d of many goods: %.2000s", n, many)
	}
	leads(t, d.browse(Viewer, "/ui/search?q=%E8%8C%B6%2011"), "/ui/stock/tea11")
}

// unwritten is what a word or a template shows of a value that it was not made for.
var unwritten = regexp.MustCompile(`%![a-z(]|\(0x[0-9a-f]+\)|0xc[0-9a-f]{9}|&lt;nil&gt;|map\[`)

// What others wrote is text on every page, in both languages, and turns no line around: nobody forges a page by which
// people decide about money.
func TestNoPageRunsWhatOthersWrote(t *testing.T) {
	d := newDeskOf(t, ordertest.New(t, sqldbtest.SQLite(t)), nil)
	d.SKU(t, "mug", 100)
	o := d.PaidOne(t, "paid", "mug", 1)
	if _, err := d.AskRefund(t.Context(), order.AskRefund{OrderNo: o.OrderNo, CustomerID: o.CustomerID,
		RequestID: "r", Reason: "x", Cause: ordertest.Customer}); err != nil {
		t.Fatal(err)
	}
	open := d.PlaceOne(t, "open", "mug", 1)
	d.Prepaid(t, open.OrderNo)
	trade := payment.Trade{OutTradeNo: "nobodys", State: payment.TradeSuccess, TransactionID: "H1",
		AppID: ordertest.AppID, MchID: ordertest.MchID, TradeType: "NATIVE", Total: 100,
		PayerTotal: payment.Said(100), Currency: payment.CNY, SuccessTime: d.Clock.Now()}
	d.WeChat.Put(trade)
	if _, err := d.Settle(t.Context(), trade, ordertest.Notified); err != nil {
		t.Fatal(err)
	}
	const evil = "<script>alert(1)</script>\u202e\"'><img src=x onerror=alert(1)>"
	write := func(remark, attach, note, problem, reason string) {
		for set, value := range map[string]string{"orders SET remark = ?": remark, "orders SET attach = ?": attach,
			"refunds SET note = ?": note, "refunds SET problem = ?": problem,
			"payments SET reason = ? WHERE outcome = 'held'": reason} {
			if _, err := d.DB.Pool().ExecContext(context.Background(), "UPDATE "+set, value); err != nil {
				t.Errorf("%s: %v", set, err)
			}
		}
	}
	write(evil, evil, evil, evil, evil)
	t.Cleanup(func() { write("", "", "x", "", "order") }) // before all that was written is looked at
	written := 0
	for _, path := range []string{"/", "/ui/orders", "/ui/orders/" + o.OrderNo, "/ui/orders/" + open.OrderNo,
		"/ui/refunds", "/ui/held", "/ui/tasks", "/ui/webhooks", "/ui/gates", "/ui/gates/mug",
		"/ui/stock", "/ui/stock/mug", "/ui/timeouts", "/ui/callbacks", "/ui/health",
		"/ui/shipments", "/ui/reconciliations",
		"/ui/search?q=none", "/ui/orders/" + url.PathEscape(evil), "/ui/gates/" + url.PathEscape(evil),
		"/ui/search?q=" + url.QueryEscape(evil), "/ui/orders?customer_id=" + url.QueryEscape(evil)} {
		for _, l := range langs {
			w := d.browse(Admin, path, "Accept-Language", l.Tag())
			page := w.Body.String()
			if strings.Contains(page, "<script>") || strings.Contains(page, "<img") ||
				strings.Contains(page, "\u202e") {
				t.Errorf("%s: %s", path, page)
			}
			if bad := unwritten.FindString(page); bad != "" {
				t.Errorf("%s shows %q", path, bad)
			}
			written += strings.Count(page, "&lt;script&gt;")
		}
	}
	if written < 8 {
		t.Errorf("it was written %d times", written)
	}
}

// How long customers wait for their money is seen at a glance, by who keeps it waiting, and as a table with its sums.
func TestOpenRefundsAreDrawnByAge(t *testing.T) {
	d := newDesk(t)
	if page := d.browse(Viewer, "/ui/refunds").Body.String(); strings.Contains(page, "<svg") {
		t.Error("without a refund something is drawn")
	}
	d.SKU(t, "a", 50)
	d.pendingRefund(t, "old")
	d.Clock.Advance(2 * time.Hour)
	d.pendingRefund(t, "new")
	d.pendingRefund(t, "newer")
	page := d.browse(Viewer, "/ui/refunds").Body.String()
	for _, row := range []string{`<tr><td>1 小时内</td><td class="n">2</td><td class="n">0</td><td class="n">0</td>` +
		`<td class="n">¥4.00</td></tr>`,
		`<tr><td>6 小时内</td><td class="n">1</td><td class="n">0</td><td class="n">0</td>` +
			`<td class="n">¥2.00</td></tr>`, "<title>1 小时内 · 待批准 2</title>",
		"<title>6 小时内 · 待批准 1</title>"} {
		if !strings.Contains(page, row) {
			t.Errorf("it does not have %s", row)
		}
	}
}
