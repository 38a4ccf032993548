package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/migrations"
	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest/canary"
	"orderd/payment"
	"orderd/payment/wechatsim"
)

// lockedBuffer is a log that many write to.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// restricted is a MariaDB with the schema brought up by root, and the DSN of the
// user of docs/grants.sql on it.
func restricted(t *testing.T) (dsn string) {
	t.Helper()
	m := sqldbtest.MariaDBServer(t)
	if err := m.Create(t.Context(), "orderd"); err != nil {
		t.Fatal(err)
	}
	root, err := sqldb.Open(t.Context(), m.DSN("orderd"))
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if _, err := migrations.Up(t.Context(), root); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../docs/grants.sql")
	if err != nil {
		t.Fatal(err)
	}
	for statement := range strings.SplitSeq(strings.ReplaceAll(string(text), "PASSWORD", canary.DatabasePass), ";\n") {
		if statement = strings.TrimSpace(statement); statement == "" {
			continue
		}
		if err := m.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	return "mysql:orderd:" + canary.DatabasePass + "@tcp(" + m.Addr + ")/orderd"
}

// merchantHouse is a house configured as for a real merchant, with canaries for
// secrets, on a MariaDB with the least grants and a Redis with a password.
func merchantHouse(t *testing.T, log *lockedBuffer) (*house, *canary.Set) {
	t.Helper()
	keys := *wechatKeys(t)
	keys.APIv3Key = canary.APIv3Key
	sim, err := wechatsim.New(wechatsim.Options{Keys: &keys, Now: time.Now, Speed: 60,
		AppSecret: canary.AppSecret})
	if err != nil {
		t.Fatal(err)
	}
	api := httptest.NewServer(sim.Handler())
	t.Cleanup(func() { sim.Close(); api.Close() })
	dir, c := t.TempDir(), keys.Client()
	var verify []string
	for id, pem := range c.VerifyKeys {
		file := filepath.Join(dir, id+".pem")
		if err := os.WriteFile(file, pem, 0o600); err != nil {
			t.Fatal(err)
		}
		verify = append(verify, id+"="+file)
	}
	redis := sqldbtest.RedisServer(t, "--requirepass", canary.RedisPass)
	dsn := restricted(t)
	a := embeddedWith(t, dir, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		func(s *settings) {
			s.DSN, s.Redis, s.JWTSecret, s.AdminToken = dsn, "redis://:"+canary.RedisPass+"@"+redis.Addr+"/0",
				canary.JWTSecret, canary.AdminToken
			s.MchID, s.AppID, s.SerialNo, s.PrivateKey, s.APIv3Key = c.MchID, c.AppID, c.SerialNo, c.PrivateKeyPEM,
				c.APIv3Key
			s.ShippingSecret, s.ShippingBaseURL = canary.AppSecret, api.URL
			s.VerifyKeys, s.BaseURL, s.NotifyURL = strings.Join(verify, ","), api.URL,
				"http://"+s.NotifyAddr+"/wechat/v3/notify/payment"
			s.origins = map[string]string{}
		})
	a.sim = &simulator{Sim: sim, server: api.Config, addr: api.Listener.Addr().String()}
	if err := sampleSKU(t.Context(), a.stock); err != nil {
		t.Fatal(err)
	}
	h := newHouseIn(t, a)
	set := canary.New([]byte(c.PrivateKeyPEM))
	for who, secret := range h.secret {
		if who != "malformed" {
			set.Add("token of "+who, strings.TrimPrefix(secret, "Bearer "))
		}
	}
	return h, set
}

// The service must do its work with the least grants, and the database must refuse to rewrite what happened; no secret
// of the configuration may be in a log at debug level, an answer, a metric or an error, whatever is done and whatever
// fails.
func TestLeastGrantsAndNoSecretLeaks(t *testing.T) {
	log := &lockedBuffer{}
	h, set := merchantHouse(t, log)
	said := &lockedBuffer{}
	for _, e := range h.doors { // everything that any door answers
		e.Use(func(next echo.HandlerFunc) echo.HandlerFunc {
			return func(c echo.Context) error {
				c.Response().Writer = &tee{c.Response().Writer, said}
				return next(c)
			}
		})
	}
	if rec := h.ask("admin", "operator", "POST", "/admin/v1/orders/"+h.ids["customer B"].order+"/shipment",
		`{"way":"express","parcels":[{"carrier":"YTO","number":"YT1","goods":"a mug"}]}`); rec.Code != 202 {
		t.Errorf("a shipment: %d %s", rec.Code, rec.Body)
	}
	if _, err := h.orders.Settle(t.Context(), payment.Trade{OutTradeNo: "nobodys", State: payment.TradeSuccess,
		TransactionID: "4291", MchID: "1", Total: 500, Currency: payment.CNY, SuccessTime: time.Now()},
		order.Cause{Actor: order.Actor{Type: order.ActorWeChat}, Type: "notification"}); err != nil {
		t.Fatal(err)
	}
	for i, who := range []string{"finance", "admin"} {
		rec := h.ask("admin", who, "POST", "/admin/v1/held/4291", `{"action":"WRITE_OFF","reason":"nobody's"}`)
		if rec.Code != []int{http.StatusAccepted, http.StatusOK}[i] {
			t.Errorf("a write-off by %s: %d %s", who, rec.Code, rec.Body)
		}
	}
	h.flows(t)
	if text := log.String(); strings.Contains(text, "denied") {
		t.Errorf("a grant is missing: %s", text)
	}
	t.Run("append only", func(t *testing.T) {
		for _, table := range []string{"order_events", "stock_flows", "order_items", "refund_items", "refund_approvals",
			"bill_files", "trail"} {
			for _, statement := range []string{"DELETE FROM " + table, "UPDATE " + table + " SET order_no = ''",
				"TRUNCATE TABLE " + table, "DROP TABLE " + table} {
				if _, err := h.db.Pool().ExecContext(t.Context(), statement); err == nil ||
					!strings.Contains(err.Error(), "denied") {
					t.Errorf("%s: %v", statement, err)
				}
			}
		}
		for _, statement := range []string{"DELETE FROM orders", "DELETE FROM payments", "DELETE FROM refunds",
			"DELETE FROM write_offs",
			"CREATE TABLE x (a INT)", "ALTER TABLE orders ADD x INT",
			"SELECT * FROM mysql.user", "SELECT 1 INTO OUTFILE '/tmp/x'",
			"SET GLOBAL innodb_flush_log_at_trx_commit = 0", "CREATE USER x"} {
			if _, err := h.db.Pool().ExecContext(t.Context(), statement); err == nil {
				t.Errorf("%s was done", statement)
			}
		}
	})
	for _, f := range []string{"%v", "%+v", "%#v", "%s"} {
		fmt.Fprintf(said, f+"\n", *h.s)
		fmt.Fprintf(said, f+"\n", h.gateway)
	}
	b, err := json.Marshal(h.s)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = said.Write(b)
	slog.New(slog.NewJSONHandler(said, nil)).Info("settings", "all", *h.s)
	if len(log.String()) < 500 || len(said.String()) < 5000 {
		t.Errorf("too little was said to scan: %d and %d bytes", len(log.String()), len(said.String()))
	}
	if found := set.Find([]byte(log.String())); len(found) > 0 {
		t.Errorf("the log has %v:\n%.3000s", found, log.String())
	}
	if found := set.Find([]byte(said.String())); len(found) > 0 {
		t.Errorf("answers have %v", found)
	}
	t.Logf("%d bytes of logs and %d of answers: 0 secrets", len(log.String()), len(said.String()))
}

// tee keeps what a listener answers, headers too.
type tee struct {
	http.ResponseWriter
	to *lockedBuffer
}

func (w *tee) Write(p []byte) (int, error) {
	_, _ = w.to.Write(p)
	fmt.Fprintln(w.to, w.Header())
	return w.ResponseWriter.Write(p)
}

// flows is a day of a shop: what goes well, what fails and what is forged.
func (h *house) flows(t *testing.T) {
	t.Helper()
	var o struct {
		OrderNo    string `json:"order_no"`
		OutTradeNo string `json:"out_trade_no"`
	}
	ask := func(status int, door, who, method, path, body string, headers ...string) {
		t.Helper()
		rec := h.ask(door, who, method, path, body, headers...)
		_ = json.Unmarshal(rec.Body.Bytes(), &o) // not every answer is an order
		if status != 0 && rec.Code != status {
			t.Errorf("%s %s: %d, want %d: %s", method, path, rec.Code, status, rec.Body)
		}
	}
	a := h.ids["customer A"]
	ask(200, "admin", "finance", "POST", "/admin/v1/refunds/"+a.refund+"/approve", `{"reason":"fine"}`)
	until(t, "the refund to be paid out", func() bool {
		r, err := h.orders.FindRefund(t.Context(), a.refund)
		return err == nil && r.State == order.RefundStateSucceeded
	})
	ask(0, "admin", "finance", "POST", "/admin/v1/refunds/"+h.ids["customer B"].refund+"/reject", `{"reason":"worn"}`)
	// Cancelled, and paid all the same; closed in time by the worker; WeChat away.
	ask(201, "api", "customer A", "POST", "/v1/orders", `{"items":[{"sku_id":"1001","quantity":1}]}`, "Idempotency-Key",
		"f1")
	ask(200, "api", "customer A", "POST", "/v1/orders/"+o.OrderNo+"/prepay",
		`{"trade_type":"JSAPI","payer":{"openid":"`+canary.OpenID+`"}}`)
	out := o.OutTradeNo
	ask(200, "api", "customer A", "POST", "/v1/orders/"+o.OrderNo+"/cancel", `{"reason":"`+canary.OpenID+`"}`)
	if err := h.sim.Pay(out, wechatsim.PayOptions{Notify: true, Force: true}); err != nil {
		t.Fatal(err)
	}
	late := o.OrderNo
	until(t, "the late payment to be taken in", func() bool {
		found, err := h.orders.Find(t.Context(), late)
		return err == nil && (found.State == order.StateLate || found.State == order.StateRefunded)
	})
	if err := h.sim.AddFault(wechatsim.Fault{Endpoint: "prepay", OutTradeNo: "*", Kind: wechatsim.FaultBadSignature,
		Count: 1}); err != nil {
		t.Fatal(err)
	}
	ask(201, "api", "customer A", "POST", "/v1/orders", `{"items":[{"sku_id":"1001","quantity":1}]}`, "Idempotency-Key",
		"f2")
	ask(0, "api", "customer A", "POST", "/v1/orders/"+o.OrderNo+"/prepay",
		`{"trade_type":"JSAPI","payer":{"openid":"`+canary.OpenID+`"}}`)
	for _, mode := range []string{wechatsim.ModeForged, wechatsim.ModeSignTest, wechatsim.ModeWrongAmount,
		wechatsim.ModeTruncated, wechatsim.ModeUnknown} {
		if err := h.sim.Notify(out, wechatsim.NotifyOptions{Mode: mode}); err != nil {
			t.Fatal(err)
		}
	}
	ask(200, "admin", "admin", "PUT", "/admin/v1/skus/1001",
		`{"title":"Mug","price":{"total":100,"currency":"CNY"},"reason":"sale"}`, "If-Match", etagOf(t, h))
	ask(0, "admin", "admin", "POST", "/admin/v1/skus/1001/replenish",
		`{"quantity":5,"reference_no":"PO-1","reason":"truck"}`, "Idempotency-Key", "s1")
	day := time.Now().In(time.FixedZone("Beijing", 8*3600)).Format(time.DateOnly)
	ask(0, "admin", "finance", "POST", "/admin/v1/reconciliations", `{"bill_date":"`+day+`"}`)
	until(t, "the reconciliation to end", func() bool {
		runs, err := h.reconciler.List(t.Context(), "", 10)
		return err == nil && len(runs) > 0 && runs[0].State == "done"
	})
	ask(0, "admin", "admin", "POST", "/admin/v1/tokens", `{"name":"li.na","role":"finance"}`)
	ask(0, "admin", "admin", "DELETE", "/admin/v1/tokens/li.na", "")
	ask(201, "admin", "admin", "POST", "/admin/v1/operators", `{"name":"zoe","role":"viewer","reason":"new"}`)
	link, err := h.logins.LinkOf(t.Context(), "zoe", "cli:root")
	if err != nil {
		t.Fatal(err)
	}
	form := func(status int, path, body string) {
		t.Helper()
		ask(status, "admin", "nobody", "POST", path, body, "Content-Type", "application/x-www-form-urlencoded")
	}
	typed := url.QueryEscape(canary.Password)
	form(303, "/setup", "t="+link+"&name=zoe&password="+typed+"&again="+typed)
	form(403, "/login", "name=zoe&password=x"+typed)
	form(403, "/login", "name="+typed+"&password="+typed)
	form(303, "/login", "name=zoe&password="+typed)
	for _, who := range principals {
		h.each(func(listener, method, pattern string) {
			ask(0, listener, who, method, h.path(pattern, h.ids["customer B"]), "{"+canary.OpenID)
		})
	}
	for _, name := range slices.Sorted(maps.Keys(h.doors)) {
		ask(0, name, "admin", "GET", "/metrics", "")
	}
	if r, err := h.audit.Verify(context.WithoutCancel(t.Context()), nil); err != nil || !r.OK() {
		t.Errorf("%+v %v", r, err)
	}
}

// etagOf gives the version of the SKU that everybody buys.
func etagOf(t *testing.T, h *house) string {
	t.Helper()
	return h.ask("admin", "viewer", "GET", "/admin/v1/skus/1001", "").Header().Get("ETag")
}

// until waits for a condition.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !done(); time.Sleep(5 * time.Millisecond) { // polling, not timing
		if time.Now().After(end) {
			t.Fatal("waited in vain for ", what)
		}
	}
}
