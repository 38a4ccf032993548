package main

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/webhooks"
	"orderd/payment/feed"
)

// listener is a shop's back end that lives on: it notes the ids of what it takes, in the order of their coming, and
// believes nothing that the specification's own library does not.
type listener struct {
	mu  sync.Mutex
	ids []string
}

// listens makes an endpoint of a new listener for events of a type.
func listens(t *testing.T, hooks *webhooks.Service, kind feed.Type) *listener {
	t.Helper()
	l := &listener{}
	var verifier *standardwebhooks.Webhook
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		l.mu.Lock()
		defer l.mu.Unlock()
		if err := verifier.Verify(body, r.Header); err != nil {
			t.Error(err)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		l.ids = append(l.ids, r.Header.Get("webhook-id"))
	}))
	t.Cleanup(srv.Close)
	_, secret, err := hooks.Add(t.Context(), webhooks.Put{URL: srv.URL, Types: []feed.Type{kind}, By: "test"})
	if err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if verifier, err = standardwebhooks.NewWebhook(secret); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *listener) heard() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.ids)
}

// hookKey keeps the secrets of webhooks in tests.
var hookKey = strings.Repeat("k", 32)

// killTelling: an event is committed with its order, and a process dies somewhere between that and the note that the
// shop has it. The next one tells the shop, at least once and always under the same id.
func killTelling(s *scene) {
	s.env = append(s.env, "ORDERD_WEBHOOK_KEY="+hookKey, "ORDERD_WEBHOOK_ALLOW=127.0.0.0/8")
	hooks, err := webhooks.New(webhooks.Config{DB: s.core.db, Now: s.core.clock.Now, Key: hookKey})
	if err != nil {
		s.t.Fatal(err)
	}
	defer hooks.Close()
	l := listens(s.t, hooks, feed.OrderCreated)
	if s.point.Name == "hook.told" { // the look must not find it before the kill
		s.start(soon, "ORDERD_FAILPOINTS=hook.told=block;hook.planned=block")
	} else {
		s.startArmed(soon)
	}
	s.asks("/v1/orders", "k", twoMugs)
	s.dies()
	planned, before := map[string]int64{"34c": 1, "34d": 1, "34e": 1}[s.point.No], l.heard()
	want(s, "events after the kill", s.number(`SELECT COUNT(*) FROM events_out WHERE type = 'order.created'`), 1)
	want(s, "deliveries after the kill", s.number(`SELECT COUNT(*) FROM webhook_deliveries`), planned)
	want(s, "of them claimed", s.number(`SELECT COUNT(*) FROM webhook_deliveries WHERE tries = 1`), planned)
	noted := map[string]int64{"34e": 1}[s.point.No]
	want(s, "noted after the kill", s.number(`SELECT COUNT(*) FROM webhook_deliveries WHERE delivered > 0`), noted)
	want(s, "heard before the kill", len(before), map[string]int{"34d": 1, "34e": 1}[s.point.No])
	s.start(soon)
	s.until("nobody notes that the shop has it", func() bool {
		return s.number(`SELECT COUNT(*) FROM webhook_deliveries WHERE delivered > 0 AND due_at IS NULL`) == 1
	})
	s.is(s.post("/v1/orders", "k", twoMugs, http.StatusCreated).OrderNo, order.StateClosed)
	s.ends()
	heard := l.heard()
	want(s, "times that the shop heard it", len(heard), map[string]int{"34d": 2}[s.point.No]+
		map[bool]int{true: 1}[s.point.No != "34d"])
	id := feed.MessageID(s.number(`SELECT MIN(id) FROM events_out WHERE type = 'order.created'`))
	for _, is := range heard {
		want(s, "its webhook-id", is, id)
	}
}

// An order that one process places is told by another, which looks once, at its start, and then only when it is rung
// through Redis.
func TestRingCrossesProcesses(t *testing.T) {
	dsn, queue := sqldbtest.MariaDBDSN(t), sqldbtest.RedisServer(t)
	m := newMerchant(t)
	env := (&scene{victim: &victim{env: append(m.env, "ORDERD_WECHAT_BASE_URL=http://127.0.0.1:1",
		"ORDERD_WECHAT_NOTIFY_URL=http://127.0.0.1:1/wechat/v3/notify/payment")}}).settings(dsn)
	starts := func(roles ...string) *app {
		t.Helper()
		s := *env
		s.Redis, s.JWTSecret, s.DataDir = queue.URL(), victimSecret, t.TempDir()
		s.WebhookKey, s.WebhookAllow = hookKey, "127.0.0.0/8"
		s.APIAddr, s.OpsAddr = "127.0.0.1:0", "127.0.0.1:0"
		s.CloseRate, s.SweepEvery, s.LogLevel = 50, time.Second, "error"
		a, err := start(t.Context(), &s, options{roles: roles, migrate: true,
			shape: shape{webhookLook: time.Hour}}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := a.Close(); err != nil {
				t.Error(err)
			}
		})
		return a
	}
	api := starts("api")
	l := listens(t, api.webhooks, feed.OrderCreated)
	starts("worker")
	if err := sampleSKU(t.Context(), api.stock); err != nil {
		t.Fatal(err)
	}
	until := func(what string, done func() bool) {
		t.Helper()
		for end := time.Now().Add(settleWithin); !done(); time.Sleep(10 * time.Millisecond) { // polling, not timing
			if time.Now().After(end) {
				t.Fatal(what)
			}
		}
	}
	until("the worker has not looked", func() bool {
		var n int
		err := api.db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM webhook_places WHERE holder <> ''`).Scan(&n)
		return err == nil && n == 1
	})
	for _, key := range []string{"a", "b", "c"} {
		already := len(l.heard())
		var o struct {
			OrderNo string `json:"order_no"`
		}
		if status := buy(t, api, "/v1/orders", key, map[string]any{"items": []map[string]any{{"sku_id": "1001",
			"quantity": 1}}}, &o); status != http.StatusCreated {
			t.Fatal(status)
		}
		until("the shop is not told of "+o.OrderNo, func() bool { return len(l.heard()) > already })
	}
	if n := len(l.heard()); n != 3 {
		t.Errorf("told %d times of 3 orders", n)
	}
}
