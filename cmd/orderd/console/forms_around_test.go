package console

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment/operators"
	"orderd/payment/trail"
	"orderd/scheduler"
)

// A password that is asked for on one way to send a large sum back, and not on the other, is asked for nowhere.
func TestNoWayToSendALargeSumGoesAroundThePassword(t *testing.T) {
	d := newDeskOf(t, ordertest.NewWith(t, sqldbtest.SQLite(t), func(c *order.Config) { c.RefundTwoPersons = 150 }),
		nil)
	d.heldMoney(t, "4200001", 500)
	d.heldMoney(t, "4200002", 100)
	f, g := d.browser(t, "fin", Finance), d.browser(t, "gao", Finance)
	d.Clock.Advance(operators.ProvedFor + time.Second)
	leads(t, f.post("/ui/held/4200002/refund", "reason", "退还"), "/ui/held") // a sum for one
	want(t, f.post("/ui/held/4200001/refund", "reason", "退还"), 403, "请再次输入密码")
	leads(t, proved(f, "/ui/held/4200001/refund", "reason", "退还"), "/ui/held")
	all, _, err := d.ListRefunds(t.Context(), order.RefundFilter{State: order.RefundStatePending, Limit: 5})
	if err != nil || len(all) != 1 {
		t.Fatalf("%d refunds wait, %v", len(all), err)
	}
	want(t, g.post("/ui/held/4200001/refund", "reason", "同意"), 403, "请再次输入密码")
	want(t, g.post("/ui/refunds/"+all[0].OutRefundNo+"/approve", "reason", "同意"), 403, "请再次输入密码")
	if s := d.RefundState(t, all[0].OutRefundNo); s != order.RefundStatePending {
		t.Errorf("without the password: %s", s)
	}
}

// Whoever sends a form once more must have seen what is there now: else the last one to press the button wins, and
// a guard that the page moves by itself guards nothing.
func TestAStaleFormShowsWhatIsThereNow(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 5)
	b := d.browser(t, "li", Operator)
	form := b.get("/ui/stock/mug/put").Body.String()
	version, title := hidden(t, form, "version"), hidden(t, form, "title")
	w := d.ask(Operator, "PUT", "/admin/v1/skus/mug", `{"title":"`+title+`","price":{"total":777,"currency":"CNY"},`+
		`"reason":"sale"}`, "If-Match", `"v`+version+`"`)
	want(t, w, 200, "777")
	for _, typed := range []string{title, strings.Repeat("x", 200)} { // refused for its version, and for its title
		w := b.post("/ui/stock/mug/put", "version", version, "title", typed, "price.total", "1.50", "low_at", "0",
			"reason", "涨价")
		page := w.Body.String()
		if w.Code < 400 || !strings.Contains(page, "在您填写期间已有变化") || hidden(t, page, "price.total") != "7.77" ||
			!strings.Contains(page, "涨价") || !strings.Contains(page, "您填写的是：</span><samp>1.50<") {
			t.Errorf("%d %.400s", w.Code, page)
		}
	}
	s, err := d.Admin.Find(t.Context(), "mug")
	if err != nil || s.PriceFen != 777 {
		t.Errorf("the price is %d, %v", s.PriceFen, err)
	}
}

// A run of a day that stands in the trail as another day's, or as none's, was nobody's.
func TestTrailSaysWhichDayWasRun(t *testing.T) {
	d := newDesk(t)
	day := d.Clock.Now().Add(-48 * time.Hour).In(beijing).Format(time.DateOnly)
	want(t, d.ask(Finance, "POST", "/admin/v1/reconciliations", `{"bill_date":"`+day+`","reason":"x"}`), 202, day)
	f := d.browser(t, "fin", Finance)
	other := d.Clock.Now().Add(-72 * time.Hour).In(beijing).Format(time.DateOnly)
	f.post("/ui/reconciliations/"+day+"-ALL/run", "bill_date", other, "bill_type", "ALL", "reason", "再对一次")
	n := 0
	for _, a := range d.acted(t) {
		if strings.Contains(a, "day.run") {
			n++
			if !strings.Contains(a, "day.run "+day) {
				t.Error(a)
			}
		}
	}
	if n != 4 {
		t.Errorf("%d rows of runs", n)
	}
	if _, err := d.books.Show(t.Context(), other+"-ALL"); err == nil {
		t.Errorf("%s was run", other)
	}
}

// What somebody gives in place of a name stands in the trail for good, also when it is a secret.
func TestASecretInPlaceOfANameIsNotInTheTrail(t *testing.T) {
	d := newDesk(t)
	leaked := tokenPrefix + strings.Repeat("A", 43)
	d.ask(Admin, "DELETE", "/admin/v1/tokens/"+leaked, "")
	hook := `{"url":"https://a.example/h?key=hush","reason":"x"}`
	want(t, d.ask(Admin, "POST", "/admin/v1/webhooks", hook), 201, "we_")
	seen := 0
	err := trail.New(d.DB, d.Clock.Now, nil).All(t.Context(), time.Time{}, time.Time{}, func(e *trail.Entry) error {
		seen++
		b, err := json.Marshal(e)
		if strings.Contains(string(b), leaked) || strings.Contains(string(b), "hush") {
			t.Errorf("%s", b)
		}
		return err
	})
	if err != nil || seen != 4 {
		t.Errorf("%d rows, %v", seen, err)
	}
}

// An act without an end is one whose process died; a handler that panics leaves its process alive.
func TestAnActThatPanicsHasItsEnd(t *testing.T) {
	d := newDesk(t)
	c := &console{Options: Options{Trail: trail.New(d.DB, d.Clock.Now, nil)}}
	e := echo.New()
	const path = "/admin/v1/orders/:no/close"
	e.POST(path, c.recorded("POST", path, func(echo.Context) error { panic("odd") }))
	func() {
		defer func() { _ = recover() }()
		e.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/admin/v1/orders/x/close", nil))
	}()
	if got := d.acted(t); !slices.Equal(got, []string{"order.close x", "order.close x failed:PANIC"}) {
		t.Errorf("%q", got)
	}
}

// hanging is a queue whose Redis does not answer.
type hanging struct {
	Tasks
	end chan struct{}
}

func (h hanging) Workers() ([]scheduler.WorkerProcess, error) {
	<-h.end
	return nil, nil
}

// All pages stand behind the look at who works: it must not take as long as a Redis that hangs.
func TestAHangingRedisHoldsNoPage(t *testing.T) {
	end := make(chan struct{})
	defer close(end)
	c := &console{Options: Options{Tasks: hanging{end: end}}}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.workers(ctx); err == nil {
		t.Error("somebody works")
	}
}

// A page that looks by itself whether anything has changed keeps nobody signed in who has gone.
func TestAPageThatIsLeftOpenEndsItsSession(t *testing.T) {
	d := newDesk(t)
	b := d.browser(t, "li", Operator)
	b.headers[liveHeader] = "1"
	for range 3 {
		d.Clock.Advance(operators.SessionIdle/3 + time.Second)
		if w := b.get("/ui/orders"); w.Code == http.StatusSeeOther {
			return
		}
	}
	d.Clock.Advance(time.Minute)
	leads(t, b.get("/ui/orders"), "/login?next=%2Fui%2Forders")
}
