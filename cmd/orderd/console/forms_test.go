package console

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/order"
	"orderd/payment/trail"
)

// hidden finds the value of a hidden field of a page.
func hidden(t *testing.T, page, name string) string {
	t.Helper()
	m := regexp.MustCompile(`name="` + name + `" value="([^"]*)"`).FindStringSubmatch(page)
	if m == nil {
		t.Fatalf("no field %s in %.600s", name, page)
	}
	return m[1]
}

// acted gives what the audit trail has but for who came in, oldest first, as "ACTOR ACTION TARGET OUTCOME".
func (d *desk) acted(t *testing.T) []string {
	t.Helper()
	return slices.DeleteFunc(d.trailed(t), func(row string) bool {
		return strings.Contains(row, actLogin) || strings.Contains(row, actLink)
	})
}

// trailed is acted, with who came in.
func (d *desk) trailed(t *testing.T) (all []string) {
	t.Helper()
	err := trail.New(d.DB, d.Clock.Now, nil).All(t.Context(), time.Time{}, time.Time{}, func(e *trail.Entry) error {
		row := strings.Join([]string{e.Actor, e.Action, e.Target, e.Outcome}, " ")
		all = append(all, strings.Join(strings.Fields(row), " "))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Whoever acts by a form does the same as by the API, by the version that was read and with a reason, is told what
// came of it, and stands in the audit trail, before it and after it.
func TestOrderIsClosedByAForm(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 5)
	no := d.PlaceOne(t, "c1", "mug", 1).OrderNo
	b := d.browser(t, "li", Operator)
	want(t, b.get("/ui/orders/"+no), 200, `data-act="order.close"`)
	form := b.get("/ui/orders/" + no + "/close").Body.String()
	version := hidden(t, form, "version")
	for _, text := range []string{no, "关闭订单", "微信支付确认后才归还库存"} {
		if !strings.Contains(form, text) {
			t.Errorf("the form does not say %q", text)
		}
	}
	w := b.post("/ui/orders/"+no+"/close", "version", version, "reason", " ")
	want(t, w, 422, "VALIDATION_FAILED")
	if o, _ := d.Find(t.Context(), no); o.State != order.StatePending {
		t.Fatalf("closed without a reason: %s", o.State)
	}
	w = b.post("/ui/orders/"+no+"/close", "version", "99", "reason", "买家电话取消")
	want(t, w, 412, "买家电话取消") // what was typed is not lost
	if got := hidden(t, w.Body.String(), "version"); got != version {
		t.Errorf("the page has version %s, want the order's", got)
	}
	leads(t, b.post("/ui/orders/"+no+"/close", "version", version, "reason", "买家电话取消"), "/ui/orders/"+no)
	b.headers["Sec-Fetch-Mode"] = "cors" // the script's own look at the page
	b.get("/ui/orders/" + no)
	b.headers["Sec-Fetch-Mode"] = "navigate"
	page := b.get("/ui/orders/" + no)
	want(t, page, 200, "订单已关闭，库存已归还。")
	if strings.Contains(page.Body.String(), `data-act="order.close"`) {
		t.Error("a closed order can be closed")
	}
	if again := b.get("/ui/orders/" + no).Body.String(); strings.Contains(again, "订单已关闭，库存已归还。") {
		t.Error("what was done is told twice")
	}
	want(t, b.get("/ui/orders/"+no+"/close"), 200, "无法关闭")
	closed := "li order.close " + no
	expected := []string{closed, closed + " refused:VERSION_MISMATCH", closed, closed + " done"}
	if got := d.acted(t); !slices.Equal(got, expected) {
		t.Errorf("the trail has %q, want %q", got, expected)
	}
	o, err := d.Find(t.Context(), no)
	if err != nil || o.State != order.StateClosed {
		t.Fatalf("%s, %v", o.State, err)
	}
}

// A viewer has no acts, and a form that is posted all the same is refused.
func TestFormsAreOfTheirRoles(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 5)
	no := d.PlaceOne(t, "c1", "mug", 1).OrderNo
	b := d.browser(t, "vi", Viewer)
	if page := b.get("/ui/orders/" + no).Body.String(); strings.Contains(page, "data-act") {
		t.Error("a viewer is shown an act")
	}
	for _, a := range (&console{}).formActs() {
		path := strings.NewReplacer(":no", no, ":id", "x", ":name", "x").Replace(a.path)
		if w := b.get(path); w.Code != http.StatusForbidden {
			t.Errorf("GET %s as a viewer: %d", path, w.Code)
		}
		if w := b.post(path, "reason", "x"); w.Code != http.StatusForbidden {
			t.Errorf("POST %s as a viewer: %d", path, w.Code)
		}
	}
	if got := d.acted(t); len(got) > 0 {
		t.Errorf("the trail has %q", got)
	}
}

// noTrail is a trail that cannot be written.
type noTrail struct{ Trail }

func (noTrail) Begin(context.Context, trail.Who, trail.What) (*trail.Act, error) {
	return nil, errors.New("no place")
}

// What cannot be written down is not done.
func TestNothingIsDoneThatIsNotInTheTrail(t *testing.T) {
	d := newDesk(t)
	done := false
	c := &console{Options: Options{Trail: noTrail{}}}
	e := echo.New()
	e.POST("/admin/v1/orders/:no/close", c.recorded("POST", "/admin/v1/orders/:no/close", func(echo.Context) error {
		done = true
		return nil
	}))
	d.Handler = e
	if w := d.ask(Operator, "POST", "/admin/v1/orders/x/close", `{"reason":"x"}`); w.Code < 500 || done {
		t.Errorf("%d, done: %t", w.Code, done)
	}
}

// A route that changes something and is not in the table leaves no trace of who did it.
func TestEveryActIsInTheTrail(t *testing.T) {
	d := newDesk(t)
	forms := map[string]bool{}
	for _, a := range (&console{}).formActs() {
		forms["POST "+a.path] = true
	}
	none := []string{"POST /login", "POST /setup", "POST /ui/language", "POST /ui/views",
		"POST /ui/views/drop",                                 // nobody is known yet; nothing of the shop is stored
		"POST /ui/skus/import", "POST /ui/differences/import"} // a look or the act, by what is sent: recordedAs
	seen := map[string]bool{}
	for _, r := range d.routes {
		route := r[0] + " " + r[1]
		seen[route] = true
		_, there := acts[route]
		shows := slices.Contains([]string{"GET /admin/v1/reconciliations/:id/bill",
			"GET /admin/v1/reconciliations/:id/proof", "GET /debug/pprof/:name"}, route) // what pages mask
		if want := shows || r[0] != http.MethodGet && !forms[route] && !slices.Contains(none, route); there != want {
			t.Errorf("%s is in the trail: %t, want %t", route, there, want)
		}
	}
	for route := range acts {
		if !seen[route] {
			t.Errorf("%s is no route", route)
		}
	}
}

// A secret that stands in the trail stands there for good.
func TestTrailHasNoSecrets(t *testing.T) {
	d := newDesk(t)
	b := d.browser(t, "adam", Admin)
	b.post("/ui/me/password", "old", password, "password", "another "+password, "again", "another "+password)
	d.ask(Finance, "POST", "/admin/v1/refunds/R1/to-card", `{"reason":"x","type":"OTHER","bank_type":"ICBC_DEBIT",`+
		`"bank_account":"6222020000000000","real_name":"王小明"}`)
	made := d.ask(Admin, "POST", "/admin/v1/webhooks", `{"url":"https://a.example/?key=hush","reason":"x"}`)
	want(t, made, 201, "whsec_")
	n := 0
	err := trail.New(d.DB, d.Clock.Now, nil).All(t.Context(), time.Time{}, time.Time{}, func(e *trail.Entry) error {
		n++
		for _, secret := range []string{password, "6222020000000000", "王小明", "whsec_"} {
			for _, text := range []string{e.Asked, e.Was, e.Became, e.Target, e.Reason, e.Outcome} {
				if strings.Contains(text, secret) {
					t.Errorf("row %d of %s has %s", e.Seq, e.Action, secret)
				}
			}
		}
		return nil
	})
	if err != nil || n != 7 {
		t.Errorf("%d rows, %v", n, err)
	}
}

// Who reads the trail finds an act by who did it and what it was done to, and can have all of it as a file.
func TestTrailPage(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 5)
	no := d.PlaceOne(t, "c1", "mug", 1).OrderNo
	want(t, d.ask(Operator, "POST", "/admin/v1/orders/"+no+"/close", `{"reason":"x<b>"}`, "If-Match", `"v1"`), 200, no)
	b := d.browser(t, "adam", Admin)
	page := b.get("/ui/trail?actor=the-operator&target=" + no)
	want(t, page, 200, "x&lt;b&gt;")
	if n := strings.Count(page.Body.String(), "<tr>"); n != 3 {
		t.Errorf("%d rows, want a heading and two", n)
	}
	want(t, b.get("/ui/trail?actor=nobody"), 200, "无")
	file := b.get("/ui/trail.csv")
	want(t, file, 200, "order.close")
	if lines := strings.Count(file.Body.String(), "\n"); lines != 4 {
		t.Errorf("%d lines, want a heading, two, and adam's coming in", lines)
	}
	want(t, d.ask(Admin, "GET", "/admin/v1/audit?action=order.close&limit=1", ""), 200, `"outcome":"done"`)
	want(t, b.get("/ui/trail?from=yesterday"), 422, "VALIDATION_FAILED")
}
