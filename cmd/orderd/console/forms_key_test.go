package console

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/migrations/sqldb"
	"orderd/payment/trail"
)

// again says of each act that has neither a key nor a version why sending it twice is no harm.
var again = map[string]string{
	"order.ask": "asks", "order.payer": "shows", "order.vouch": "one person counts once", "day.run": "finds the same",
	"day.confirm": "one person counts once", "day.close": "a day that is closed and stands stays as it is",
	"diff.assign": "from is what was read", "diff.resolve": "seen is what was read", "refund.tocard": "by its state",
	"held.refund": "by its state", "held.writeoff": "by its state", "held.apply": "by its state",
	"task.run": "by its state", "task.discard": "by its state", "tasks.run": "how many is typed",
	"tasks.discard": "how many is typed",
	"sku.new":       "an id is taken once",
	"webhook.test":  "sends a test", "webhook.change": "sets", "webhook.enable": "sets", "webhook.disable": "sets",
	"bulk.stop":         "by its state",
	"bulk.resume":       "by its state",
	"webhook.remove":    "by its state",
	"webhook.resend":    "receivers know an event by its number",
	"webhook.redeliver": "receivers know an event by its number",
	"webhook.add":       "an address is told once",
}

// againForms says the same of the forms that are no acts, by what they are posted to.
var againForms = map[string]string{
	"/login": "another session of the same person", "/logout": "by its state", "/setup": "a link is good once",
	"/ui/language": "sets", "/ui/views": "puts by its name", "/ui/views/drop": "by its name",
	"/ui/me/sessions/end": "by its number", "/ui/me/password": "the former password is asked for",
	"/ui/me/totp": "what was begun is begun anew", "/ui/me/totp/confirm": "a code is good once",
	"/ui/me/totp/off": "by its state",
	"/ui/people":      "a name is taken once, and its page makes another link", "/ui/people/:name/role": "sets",
	"/ui/people/:name/disable": "by its state", "/ui/people/:name/end-session": "by its number",
	"/ui/people/:name/end-sessions":  "by their state",
	"/ui/people/:name/link":          "the link that nobody saw ends by the next",
	"/ui/people/:name/tokens":        "a label is taken once, and the page ends the token that nobody saw",
	"/ui/people/:name/tokens/revoke": "by its name",
	"/ui/shop-keys":                  "two at most, no other ends by it, and the page ends the one that nobody saw",
	"/ui/shop-keys/revoke":           "by its name",
	"/ui/skus/import":                "seen is what was read, and a row that was imported is known",
	"/ui/differences/import":         "row by row by their state",
	"/ui/reconciliations/upload":     "a file is known by its hash",
}

// A form that can be sent twice, and then acts twice, is a second refund, a second delivery at the shelf.
func TestEveryFormMayBeSentTwice(t *testing.T) {
	known, acts := map[string]bool{}, map[string]bool{}
	for _, a := range (&console{}).formActs() {
		acts[a.path] = true
		guarded := slices.ContainsFunc(a.fields, func(f field) bool {
			return f.name == fieldKey || f.name == fieldVersion || f.name == fieldSecret
		})
		if known[a.name] = true; guarded == (again[a.name] != "") {
			t.Errorf("%s: has it a key or a version, or else a reason in this table?", a.name)
		}
	}
	for name := range again {
		if !known[name] {
			t.Errorf("there is no act %s", name)
		}
	}
	for _, r := range newDesk(t).routes {
		if r[0] != http.MethodPost || strings.HasPrefix(r[1], "/admin/v1/") || acts[r[1]] {
			continue
		}
		if known[r[1]] = true; againForms[r[1]] == "" {
			t.Errorf("the form of %s: why is sending it twice no harm?", r[1])
		}
	}
	for path := range againForms {
		if !known[path] {
			t.Errorf("there is no form of %s", path)
		}
	}
}

// Who sends a form without a key again may act twice: they are told to look first, and not that nothing happens.
func TestAnUnclearAnswerWithoutAKeySaysToLook(t *testing.T) {
	d := newDesk(t)
	c := &console{Options: Options{Stock: d.Admin, Now: d.Clock.Now, Metrics: d.metrics, Failures: d.failures}}
	e := newEcho(d.Clock.Now, nil, d.metrics, false, c.problem)
	for _, a := range c.skuActs() {
		a.stepUp = nil
		e.POST(a.path, func(ctx echo.Context) error {
			ctx.Set(operatorKey, "li")
			unclear := func(echo.Context) error { return sqldb.ErrUnknown }
			return c.actPosted(ctx, &a, &route{http.MethodPut, "/admin/v1/skus/:id", Operator, unclear})
		})
	}
	b := d.stranger()
	b.d = &desk{Handler: e}
	w := b.post("/ui/skus/new", "sku_id", "mug", "title", "杯", "price.total", "1", "quantity", "5",
		"reason", "新")
	if page := w.Body.String(); w.Code < 500 || !strings.Contains(page, "请先返回查看结果") ||
		strings.Contains(page, "不会再执行一次") {
		t.Errorf("%d %s", w.Code, page)
	}
}

// unclearly is the console with a route that does what it does and then has no answer, so often.
func unclearly(d *desk, times *int) *echo.Echo {
	c := &console{Options: Options{Orders: d.Service, Stock: d.Admin, Refunds: d.Service, Now: d.Clock.Now,
		Metrics: d.metrics, Trail: trail.New(d.DB, d.Clock.Now, nil), Ready: NewReadiness(d.Clock.Now),
		Failures: d.failures, Reconciler: d.books}}
	e := newEcho(d.Clock.Now, nil, d.metrics, false, c.problem)
	for _, a := range c.stockActs() {
		if a.name != "stock.replenish" {
			continue
		}
		a.stepUp = nil
		r := route{http.MethodPost, "/admin/v1/skus/:id/replenish", Operator, func(ctx echo.Context) error {
			err := c.replenish(ctx)
			if *times--; *times >= 0 {
				ctx.Response().Committed = false
				return errors.Join(sqldb.ErrUnknown, err)
			}
			return err
		}}
		e.POST(a.path, func(ctx echo.Context) error {
			ctx.Set(operatorKey, "li")
			ctx.Set(roleKey, Operator)
			return c.actPosted(ctx, &a, &r)
		})
	}
	return e
}

// Whoever does not know whether the goods are on the shelf presses once more: they must be there once. And who then
// types another number must neither be refused for ever nor, without a word, be served twice.
func TestAnUnclearAnswerKeepsItsKey(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 5)
	times := 0
	b := d.stranger()
	b.d = &desk{Handler: unclearly(d, &times)}
	const path = "/ui/stock/mug/replenish"
	left := func(want int64) {
		t.Helper()
		if s, err := d.Admin.Find(t.Context(), "mug"); err != nil || s.Available != want {
			t.Errorf("%d on the shelf, want %d, %v", s.Available, want, err)
		}
	}
	key := trail.NewID(time.Now())
	times = 2
	for range 2 {
		w := b.post(path, "key", key, "quantity", "3", "reason", "到货")
		page := w.Body.String()
		if w.Code < 500 || hidden(t, page, "key") != key || !strings.Contains(page, "不会再执行一次") ||
			hidden(t, page, "quantity") != "3" {
			t.Fatalf("%d %s", w.Code, page)
		}
		left(8)
	}
	leads(t, b.post(path, "key", key, "quantity", "3", "reason", "到货"), "/ui/stock/mug")
	left(8)
	w := b.post(path, "key", key, "quantity", "4", "reason", "到货")
	page := w.Body.String()
	want(t, w, 422, "IDEMPOTENCY_KEY_REUSED")
	next := hidden(t, page, "key")
	if next == key || !strings.Contains(page, "另外执行一次") || hidden(t, page, "quantity") != "4" {
		t.Fatalf("the key %s, was %s: %s", next, key, page)
	}
	left(8)
	leads(t, b.post(path, "key", next, "quantity", "4", "reason", "到货"), "/ui/stock/mug")
	left(12)
	// What was refused for what was typed is the same act, and keeps its key.
	w = b.post(path, "key", "another", "quantity", "x", "reason", "到货")
	if page := w.Body.String(); hidden(t, page, "key") != "another" || strings.Contains(page, "执行一次") {
		t.Errorf("%s", page)
	}
	leads(t, b.post(path, "key", "another", "quantity", "1", "reason", "到货"), "/ui/stock/mug")
	left(13)
}

// A comment whose answer was lost is said once, and another one by the same key is not taken for it.
func TestACommentIsSaidOnceByItsKey(t *testing.T) {
	d, _, x := shortDay(t)
	at := "/admin/v1/differences/" + x.ID + "/comments"
	for range 2 {
		want(t, d.ask(Finance, "POST", at, `{"text":"asked the bank"}`, "Idempotency-Key", "k1"), 200, "asked the bank")
	}
	want(t, d.ask(Finance, "POST", at, `{"text":"another"}`, "Idempotency-Key", "k1"), 422, "IDEMPOTENCY_KEY_REUSED")
	want(t, d.ask(Finance, "POST", at, `{"text":"another"}`, "Idempotency-Key", "x y"), 400, "IDEMPOTENCY_KEY_REQUIRED")
	want(t, d.ask(Admin, "POST", at, `{"text":"asked the bank"}`, "Idempotency-Key", "k1"), 200, "asked the bank")
	notes, err := d.books.Notes(t.Context(), x.ID)
	if err != nil || len(notes[x.ID]) != 2 {
		t.Errorf("%+v %v", notes, err)
	}
}
