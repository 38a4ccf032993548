package console

import (
	"strings"
	"testing"
)

// What somebody filters by every morning is one press, and nobody else's; and what is saved is filters, and no way to
// elsewhere.
func TestFiltersAreSavedPerPerson(t *testing.T) {
	d := newDesk(t)
	anna, bert := d.browser(t, "anna", Viewer), d.browser(t, "bert", Admin)
	w := anna.send("POST", "/ui/views", []string{"name", "今日已付", "query", "state=paid&hide=expire"})
	leads(t, w, "/ui/orders?hide=expire&state=paid")
	page := anna.send("GET", "/ui/orders", nil).Body.String()
	if !strings.Contains(page, `href="/ui/orders?hide=expire&amp;state=paid">今日已付</a>`) {
		t.Errorf("it is not there: %s", page)
	}
	want(t, anna.send("GET", "/ui/orders?hide=expire&state=paid", nil), 200,
		`name="query" value="hide=expire&amp;state=paid"`)
	if strings.Contains(bert.send("GET", "/ui/orders", nil).Body.String(), "今日已付") {
		t.Error("everybody has it")
	}
	if b := d.ask(Viewer, "GET", "/ui/orders", "").Body.String(); strings.Contains(b, "/ui/views") {
		t.Error("a token is asked to save")
	}
	for _, form := range [][]string{{"name", "x", "query", "statee=paid"}, {"name", "x", "query", "cursor=1"},
		{"name", "", "query", "state=paid"}, {"name", "x", "query", "state=paid&state=closed"},
		{"name", "x", "query", "%"}, {"name", strings.Repeat("x", 41), "query", ""}} {
		if w := anna.send("POST", "/ui/views", form); w.Code != 422 {
			t.Errorf("%v: %d", form, w.Code)
		}
	}
	leads(t, anna.send("POST", "/ui/views/drop", []string{"name", "今日已付"}), "/ui/orders")
	if strings.Contains(anna.send("GET", "/ui/orders", nil).Body.String(), "今日已付") {
		t.Error("it stays")
	}
}
