package console

import (
	"context"
	"fmt"
	"html"
	"log/slog"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/order"
	"orderd/stock"
)

// Whoever is asked whether all of it is there has one sentence, and the figures of the list are those of the page.
func TestStockSaysWhereEveryUnitIs(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 10)
	d.SKU(t, "cup", 5)
	d.PaidOne(t, "paid", "mug", 3)
	open := d.PlaceOne(t, "open", "mug", 2)
	if _, err := d.Admin.Replenish(t.Context(), stock.Change{SkuID: "mug", Delta: 7, Key: "k", Actor: "li",
		Reason: "truck"}); err != nil {
		t.Fatal(err)
	}
	page := html.UnescapeString(d.ask(Viewer, "GET", "/ui/stock/mug", "").Body.String())
	for _, text := range []string{"入库 17 件 = 可售 12 + 抢购中 0 + 未付款订单占用 2 + 已售 3。", "每一件都有去处",
		`role="img"`, "truck", `href="/ui/orders/` + open.OrderNo, "补货", "+7", "初始",
		`href="/ui/orders?sku_id=mug&created_from=`} {
		if !strings.Contains(page, text) {
			t.Errorf("no %q: %s", text, page)
		}
	}
	if strings.Contains(page, "/ui/gates/mug") {
		t.Error("a link to a sale that there is none of")
	}
	cells := regexp.MustCompile(`(?s)<td class="n"[^>]*>([^<]*)</td>`)
	list := d.ask(Viewer, "GET", "/ui/stock", "").Body.String()
	for sku, figures := range map[string]string{"mug": "12 0 2 3 17 –", "cup": "5 0 0 0 5 –"} {
		row := list[strings.Index(list, `href="/ui/stock/`+sku):]
		var got []string
		for _, m := range cells.FindAllStringSubmatch(row, 6) {
			got = append(got, m[1])
		}
		if s := strings.Join(got, " "); s != figures {
			t.Errorf("%s: %s, want %s", sku, s, figures)
		}
	}
	day := d.Clock.Now().In(beijing)
	today := day.Format(time.DateOnly)
	want(t, d.ask(Viewer, "GET", "/ui/stock/mug?from="+today+"&to="+today, ""), 200, "truck")
	if w := d.ask(Viewer, "GET", "/ui/stock/mug?to=2020-01-02", ""); w.Code != 200 ||
		strings.Contains(w.Body.String(), "truck") {
		t.Errorf("of another day: %d", w.Code)
	}
	for _, bad := range []string{"/ui/stock/mug?from=x", "/ui/stock/mug?from=2020-01-01&to=2020-03-01",
		"/ui/stock/mug?cursor=x", "/ui/stock?low=maybe", "/ui/stock?q=a%20b", "/ui/stock?cursor=%20",
		"/ui/stock?state=x"} {
		if w := d.ask(Viewer, "GET", bad, ""); w.Code != 422 {
			t.Errorf("%s: %d", bad, w.Code)
		}
	}
	want(t, d.browse(Viewer, "/ui/stock/none"), 404, "SKU_NOT_FOUND")
	want(t, d.ask(Viewer, "GET", "/ui/stock/mug", "", "Accept-Language", "en"), 200, "17 came in = 12 available")
}

// A list that ends at fifty, or whose filter hides the SKU that runs out, is no list of stock.
func TestStockIsPagedAndFiltered(t *testing.T) {
	d := newDesk(t)
	for i := range 120 {
		d.SKU(t, fmt.Sprintf("a%03d", i), 9)
	}
	d.SKU(t, "b-low", 9)
	low := int64(9)
	s, err := d.Admin.Find(t.Context(), "b-low")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.Admin.Put(t.Context(), stock.Put{SkuID: "b-low", Title: s.Title, PriceFen: s.PriceFen,
		LowAt: &low, Actor: "li", IfVersion: s.Version}); err != nil {
		t.Fatal(err)
	}
	d.SKU(t, "c-out", 0)
	shown := func(path string) (rows int, pages int) {
		for path != "" {
			w := d.ask(Viewer, "GET", path, "")
			want(t, w, 200, "<h1>")
			rows += strings.Count(w.Body.String(), "<tr><td data-l=\"商品 SKU\"")
			pages++
			next := regexp.MustCompile(`rel="next" href="([^"]*)"`).FindStringSubmatch(w.Body.String())
			path = ""
			if next != nil {
				path = strings.ReplaceAll(next[1], "&amp;", "&")
			}
		}
		return rows, pages
	}
	for path, rows := range map[string]int{"/ui/stock": 122, "/ui/stock?q=a": 120, "/ui/stock?q=a00": 10,
		"/ui/stock?q=b-low": 1, "/ui/stock?q=z": 0, "/ui/stock?low=1": 2, "/ui/stock?low=1&q=c": 1,
		"/ui/stock?low=1&q=a": 0} {
		if got, pages := shown(path); got != rows || pages != max((rows+defaultRows-1)/defaultRows, 1) {
			t.Errorf("%s: %d rows on %d pages, want %d", path, got, pages, rows)
		}
	}
	want(t, d.ask(Viewer, "GET", "/ui/stock?q=b-low", ""), 200, "低库存")
	want(t, d.ask(Viewer, "GET", "/ui/stock?q=c-out", ""), 200, "无货")
}

// manyOpen is orders of which more are open than a list may count.
type manyOpen struct{ Orders }

func (manyOpen) Backlog(context.Context) (order.Backlog, error) {
	return order.Backlog{Open: map[order.State]int64{order.StatePending: mostOpenShown + 1}}, nil
}

// StockAccounts is what must not be asked then.
func (manyOpen) StockAccounts(context.Context, []string) (map[string]order.Account, error) {
	panic("all open orders are read")
}

// A list that reads a hundred thousand open orders is late for everybody: it says what it knows, and that it does not
// know the rest.
func TestStockWithManyOpenOrdersCountsNone(t *testing.T) {
	c := &console{Options: Options{Orders: manyOpen{}, Now: time.Now}}
	rows, counted, err := c.accounts(t.Context(), []stock.SKU{{SkuID: "mug", Available: 3}})
	if err != nil || counted || len(rows) != 1 || rows[0].Account != nil {
		t.Errorf("%+v %v %v", rows, counted, err)
	}
}

// The storm that comes in forty minutes is seen now: by minute and state, with what is late and what is missing.
func TestTimeoutsThatComeAreDrawn(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 100)
	want(t, d.ask(Viewer, "GET", "/ui/timeouts", ""), 200, "未来一小时没有订单到期")
	d.Clock.Set(d.Clock.Now().Truncate(time.Minute))
	late := d.PlaceOne(t, "late", "mug", 1)
	d.Clock.Set(late.DueAt.Add(time.Minute))
	var due time.Time
	for i := range 3 {
		due = d.PlaceOne(t, fmt.Sprint("n", i), "mug", 1).DueAt
	}
	d.metrics.Lateness(30 * time.Millisecond)
	w := d.ask(Viewer, "GET", "/ui/timeouts", "")
	for _, text := range []string{"一小时内到期 3 单", due.In(beijing).Format("15:04") + " · 待支付 3</title>", `class="narrow"`,
		`href="/ui/orders?stuck=1">1</a>`, inBeijing(late.DueAt), "未知：Redis 无法查询", "共 1 单"} {
		if !strings.Contains(w.Body.String(), text) {
			t.Errorf("no %q: %s", text, w.Body)
		}
	}
	want(t, d.ask(Viewer, "GET", "/ui/timeouts", "", "Accept-Language", "en"), 200, "3 come due within the hour")
	want(t, d.ask(Viewer, "GET", "/ui/timeouts?state=x", ""), 422, "?state")
	c := &console{Options: Options{Orders: d.Service, Tasks: &redisTasks{set: map[int64]bool{}}, Now: d.Clock.Now,
		Metrics: d.metrics, Log: slog.New(slog.DiscardHandler), CloseRate: 2.5}}
	r := httptest.NewRecorder()
	if err := c.timeoutsPage(echo.New().NewContext(httptest.NewRequest("GET", "/ui/timeouts", nil), r)); err != nil {
		t.Fatal(err)
	}
	want(t, r, 200, "按每秒 2.5 单，约需 0s")
	want(t, r, 200, "由定期扫描补上")
}

// Each flow says what was left before and after it, in numbers.
func TestFlowsShowWhatWasLeft(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 10)
	d.Clock.Advance(time.Second)
	d.PlaceOne(t, "c1", "mug", 3)
	page := d.browse(Viewer, "/ui/stock/mug").Body.String()
	for _, text := range []string{"10 → 7", "0 → 10"} {
		if !strings.Contains(page, ">"+text+"<") {
			t.Errorf("no flow says %s", text)
		}
	}
	want(t, d.ask(Viewer, "GET", "/admin/v1/skus/mug/flows", ""), 200, `"before":10,"after":7`)
	if page := d.browse(Viewer, "/ui/stock/mug?to=2030-01-01").Body.String(); strings.Contains(page, "10 → 7") {
		t.Error("a list with an end says what was left")
	}
}
