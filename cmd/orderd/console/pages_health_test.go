package console

import (
	"context"
	"errors"
	"html"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/order/webhooks"
	"orderd/payment/feed"
	"orderd/scheduler"
)

// Whoever is called at night sees on one page what is away, since when, and by which setting; who may not know where
// the database is does not.
func TestHealthSaysWhatIsWrong(t *testing.T) {
	well := func(context.Context) (string, error) { return "", nil }
	d := newDesk(t, Check{Name: "database", Critical: true, Ask: well},
		Check{Name: "redis", Ask: func(context.Context) (string, error) { return "timeouts run on", errors.New("x") }})
	d.health = Health{Version: "v1.2.3", Commit: "abcdef", Began: d.Clock.Now(), SchemaHas: 24, SchemaKnows: 25,
		Findings: []sqldb.Finding{{ID: "clock.database", Level: sqldb.LevelFail, Found: "differs by 3m",
			Why: "deadlines", Fix: "run NTP"}},
		Settings: []Setting{{"ORDERD_DSN", "mysql:u:***@db/orderd", "environment"}},
		Processes: []scheduler.Process{{Host: "pod-a", PID: 7, Roles: "api", Version: "v1.2.3", Revision: "abcdef",
			Seen: d.Clock.Now()}, {Host: "pod-b", PID: 8, Roles: "worker", Version: "v1.2.2", Revision: "012345",
			Seen: d.Clock.Now().Add(-scheduler.SilentAfter - time.Second)}}}
	page := html.UnescapeString(d.ask(Admin, "GET", "/ui/health", "").Body.String())
	for _, text := range []string{"timeouts run on", "需要留意", "v1.2.3", "pod-a:7", "pod-b:8",
		"没有报到</td><td data-l=\"职责\">worker", "<code>012345</code> <b class=\"bad\">与本进程版本不同",
		"abcdef", "本程序为 25", "相差 3m",
		"run NTP", "mysql:u:***@db/orderd", "环境变量",
		`<span title="需要留意"><i class="warn" aria-hidden="true">▲</i>Redis</span>`} {
		if !strings.Contains(page, text) {
			t.Errorf("no %q: %s", text, page)
		}
	}
	w := d.ask(Operator, "GET", "/ui/health", "")
	want(t, w, 200, "相差 3m")
	if strings.Contains(w.Body.String(), "ORDERD_DSN") {
		t.Error("everybody sees the configuration")
	}
	want(t, d.ask(Viewer, "GET", "/ui/health?x=1", ""), 422, "?x")
	want(t, d.ask(Viewer, "GET", "/ui/health", "", "Accept-Language", "en"), 200, "What it depends on")
}

// workerless is a queue that nobody works for.
type workerless struct{ *redisTasks }

func (workerless) Workers() ([]scheduler.WorkerProcess, error) { return nil, nil }

// One worker that stands still looks like none that has anything to do: the light says how many there are.
func TestLightsCountWorkers(t *testing.T) {
	c := &console{Options: Options{Ready: NewReadiness(time.Now), Now: time.Now, Tasks: workerless{}}}
	if all, _ := c.lights(t.Context()); len(all) != 1 || all[0].Name != "workers" || all[0].Status != "fail" {
		t.Errorf("%+v", all)
	}
	c.Tasks = working{}
	if all, _ := c.lights(t.Context()); all[0].Status != "pass" || all[0].Count != 2 {
		t.Errorf("%+v", all)
	}
}

// working is a queue that two processes work for.
type working struct{ *redisTasks }

func (working) Workers() ([]scheduler.WorkerProcess, error) {
	return make([]scheduler.WorkerProcess, 2), nil
}

// Callbacks that do not arrive are seen by nobody while asking makes up for them: the page says who told.
func TestCallbacksPageSaysWhetherTheyArrive(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 10)
	want(t, d.ask(Viewer, "GET", "/ui/callbacks", ""), 200, "没有收到回调")
	paid := d.PaidOne(t, "paid", "mug", 1)
	for range 9 {
		d.metrics.Notified("payment", "applied", 3*time.Millisecond)
	}
	d.metrics.Notified("payment", "repeated", 3*time.Millisecond)
	d.metrics.Notified("refund", "unsigned", 80*time.Millisecond)
	d.metrics.Signature("callback", "ok")
	d.metrics.Signature("callback", "signature")
	d.metrics.Signature("answer", "signature")
	page := html.UnescapeString(d.ask(Viewer, "GET", "/ui/callbacks", "").Body.String())
	for _, text := range []string{"1 / 1", "重复通知 1", `<p class="big bad">1</p>`, "验签失败", "共 11 次",
		"≤ 5ms · 次数 10</title>", "≤ 100ms · 次数 1</title>", `href="/ui/orders/` + paid.OrderNo} {
		if !strings.Contains(page, text) {
			t.Errorf("no %q: %s", text, page)
		}
	}
	want(t, d.ask(Viewer, "GET", "/ui/callbacks?outcome=x", ""), 422, "?outcome")
	want(t, d.ask(Viewer, "GET", "/ui/callbacks", "", "Accept-Language", "en"), 200, "Payments received last")
}

// An endpoint that takes nothing is mended by whoever sees which events, how often and why.
func TestWebhookPageHasItsDeliveries(t *testing.T) {
	d := newDesk(t)
	hooks, err := webhooks.New(webhooks.Config{DB: d.DB, Now: d.Clock.Now, Key: strings.Repeat("k", 32)})
	if err != nil {
		t.Fatal(err)
	}
	e, secret, err := hooks.Add(t.Context(), webhooks.Put{URL: "https://shop.example/", By: "li", Note: "the shop"})
	if err != nil {
		t.Fatal(err)
	}
	err = d.DB.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		all := make([]feed.Event, 60)
		for i := range all {
			all[i] = feed.Event{At: d.Clock.Now(), Type: feed.PaymentHeld, Ref: "42"}
		}
		return feed.Insert(ctx, tx, all)
	})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := hooks.RedeliverSince(t.Context(), e.ID, d.Clock.Now().Add(-time.Hour), "lost"); err != nil || n != 60 {
		t.Fatal(n, err)
	}
	for what, set := range map[int]string{60: "due_at = NULL, delivered = at + 45, tries = 1, status = 200",
		59: "tries = 3, tried_at = at, status = 503, problem = '<b>busy', took_ms = 1234, answer = '<i>later'",
		58: "due_at = NULL, tries = 11, problem = 'given up'"} {
		if _, err := d.DB.Pool().ExecContext(t.Context(), "UPDATE webhook_deliveries SET "+set+" WHERE event_id = ?",
			what); err != nil {
			t.Fatal(err)
		}
	}
	path := "/ui/webhooks/" + e.ID
	w := d.ask(Admin, "GET", path, "")
	page := w.Body.String()
	for _, text := range []string{"https://shop.example/", "the shop", "已送达", "45ms",
		"<b>503</b> 1234 ms &lt;b&gt;busy",
		"<code>&lt;i&gt;later</code>",
		"重试中", "已放弃", "待发送", `rel="next" href="` + path + `?cursor=11"`} {
		if !strings.Contains(page, text) {
			t.Errorf("no %q: %s", text, page)
		}
	}
	if strings.Contains(page, secret) {
		t.Error("the secret is shown")
	}
	if rows := strings.Count(d.ask(Admin, "GET", path+"?cursor=11", "").Body.String(), "payment.held"); rows != 10 {
		t.Errorf("%d rows on the last page", rows)
	}
	want(t, d.ask(Admin, "GET", "/ui/webhooks", ""), 200, `href="`+path+`"`)
	want(t, d.browse(Admin, "/ui/webhooks/none"), http.StatusNotFound, "NOT_FOUND")
	want(t, d.ask(Admin, "GET", path+"?cursor=x", ""), 422, "cursor")
	want(t, d.ask(Finance, "GET", path, ""), 403, "FORBIDDEN")
}

// A customer says that the shop never heard of the payment: the page of the order says what was told of it and to
// whom, and whoever may sends it again from there and comes back there.
func TestOrderPageSendsAWebhookAgain(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 9)
	no, other := d.PaidOne(t, "c1", "mug", 1).OrderNo, d.PaidOne(t, "c2", "mug", 1).OrderNo
	b := d.browser(t, "ann", Admin)
	if page := b.get("/ui/orders/" + no).Body.String(); strings.Contains(page, "Webhook 通知") {
		t.Error("without a webhook the page has some")
	}
	hooks, err := webhooks.New(webhooks.Config{DB: d.DB, Now: d.Clock.Now, Key: strings.Repeat("k", 32)})
	if err != nil {
		t.Fatal(err)
	}
	e, _, err := hooks.Add(t.Context(), webhooks.Put{URL: "https://shop.example/hook?key=sesame", By: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := hooks.RedeliverSince(t.Context(), e.ID, d.Clock.Now().Add(-time.Hour), "lost"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.DB.Pool().ExecContext(t.Context(), "UPDATE webhook_deliveries SET due_at = NULL, delivered = at, "+
		"tries = 1, tried_at = at, status = 200, answer = 'ok then'"); err != nil {
		t.Fatal(err)
	}
	page := b.get("/ui/orders/" + no).Body.String()
	for _, text := range []string{"Webhook 通知", "shop.example", "ok then", "已送达", "order_no=" + no} {
		if !strings.Contains(page, text) {
			t.Errorf("the page of the order does not say %q", text)
		}
	}
	v := d.browser(t, "vera", Viewer).get("/ui/orders/" + no).Body.String()
	if strings.Contains(page+v, "sesame") || strings.Contains(v, `data-act="webhook.redeliver"`) ||
		strings.Contains(v, "ok then") || !strings.Contains(v, "shop.example") {
		t.Error("the address is shown, or a viewer is shown or offered what a viewer may not")
	}
	again := regexp.MustCompile(`href="(/ui/webhooks/[^"]*order_no=` + no + `)"`).FindStringSubmatch(page)
	if again == nil {
		t.Fatal("it is not offered")
	}
	path := html.UnescapeString(again[1])
	form := b.get(path).Body.String()
	bare, _, _ := strings.Cut(path, "?")
	leads(t, b.post(bare, "event_id", hidden(t, form, "event_id"), "order_no", hidden(t, form, "order_no"), "reason",
		"客户没有收到"), "/ui/orders/"+no)
	all, err := hooks.OfOrder(t.Context(), no, 9)
	if due := slices.DeleteFunc(all, func(d webhooks.Delivery) bool { return d.DueAt.IsZero() }); err != nil ||
		len(due) != 1 {
		t.Errorf("%d are sent again, %v", len(due), err)
	}
	if page := b.get("/ui/orders/" + other).Body.String(); strings.Contains(page, no) {
		t.Error("another order's page has it")
	}
}
