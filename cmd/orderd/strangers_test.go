package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"orderd/migrations/sqldb/sqldbtest"
	"orderd/scheduler"
)

// Whoever can write to Redis must be able to ring, and to decide nothing: a task is a question, never a fact.
func TestTasksOfAStrangerDoNothing(t *testing.T) {
	h := newHouse(t)
	var open struct {
		OrderNo string `json:"order_no"`
	}
	rec := h.ask("api", "customer A", "POST", "/v1/orders", `{"items":[{"sku_id":"1001","quantity":1}]}`,
		"Idempotency-Key", "open")
	if err := json.Unmarshal(rec.Body.Bytes(), &open); err != nil || rec.Code != 201 {
		t.Fatal(rec.Code, rec.Body)
	}
	paid := h.ids["customer A"]
	before := h.contents(t)
	client := asynq.NewClient(redisOf(t, h.miniURL))
	defer client.Close()
	sent := 0
	for _, no := range []string{open.OrderNo, paid.order, "01JD4ZABCDEFGHJKMNPQRSTVWX", paid.refund,
		"R" + paid.transaction, "' OR 1=1 --", strings.Repeat("x", 10_000)} {
		for _, payload := range []string{
			`{"v":1,"order_no":%q,"version":1}`, `{"v":1,"out_refund_no":%q,"version":1}`,
			`{"v":9,"order_no":%q,"version":99,"state":"closed","paid":true,"amount":1}`,
			`{"v":1,"order_no":%q,"out_refund_no":"x","approve":true}`,
		} {
			for kind, queue := range map[string]string{scheduler.TypeExpire: scheduler.QueueExpire,
				scheduler.TypeRefund: scheduler.QueueRefund, "order:paid": scheduler.QueueExpire} {
				task := asynq.NewTask(kind, fmt.Appendf(nil, payload, no))
				if _, err := client.Enqueue(task, asynq.Queue(queue), asynq.TaskID(fmt.Sprint("stranger", sent)),
					asynq.MaxRetry(0)); err != nil {
					t.Fatal(err)
				}
				sent++
			}
		}
	}
	inspector := asynq.NewInspector(redisOf(t, h.miniURL))
	defer inspector.Close()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) { // polling, not timing
		left := 0
		for _, queue := range []string{scheduler.QueueExpire, scheduler.QueueRefund} {
			if q, err := inspector.GetQueueInfo(queue); err == nil {
				left += q.Pending + q.Active
			}
		}
		if left == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatal(left, " tasks are still there")
		}
	}
	changed := sqldbtest.Changed(before, h.contents(t))
	// where a person finds them
	changed = slices.DeleteFunc(changed, func(table string) bool { return table == "failed_tasks" })
	if len(changed) > 0 {
		t.Errorf("a stranger's tasks changed %v", changed)
	}
	if trade, ok := h.sim.Trade(open.OrderNo + "-01"); ok {
		t.Errorf("WeChat Pay was asked about an order that is not due: %+v", trade)
	}
	t.Logf("%d tasks, nothing changed", sent)
}

// injections are what breaks out of SQL, paths, logs, templates, spreadsheets and formats where somebody glues text
// together.
var injections = []string{
	`' OR '1'='1`, `'; DROP TABLE orders; --`, `" OR 1=1 #`, `\' OR 1=1 -- `, "\xbf' OR 1=1 -- ",
	`1) UNION SELECT order_no FROM orders --`, `' AND SLEEP(5) --`,
	`'||(SELECT group_concat(sha256) FROM operator_tokens)||'`, `%' OR '%'='`, `?`, `:1`, `@@version`, `0x27`,
	`../../etc/passwd`, `..%2f..%2f`, `<script>alert(1)</script>`,
	`{{7*7}}`, `${jndi:ldap://127.0.0.1/x}`, `%s%n%d%x`, "a\r\nSet-Cookie: x=y", "a\nlevel=ERROR msg=forged",
	"nul\x00byte", `=cmd|' /C calc'!A0`, "\u202etxt.exe", "\ufeff", strings.Repeat("'", 5000),
}

// Text of a stranger that becomes part of a statement, a path or a log line does what the stranger wants. Every string
// input of every route gets the corpus: no 5xx, no foreign row, no table less, nothing slow.
func TestInjections(t *testing.T) {
	for engine, dsn := range map[string]func() string{
		"sqlite":  func() string { return "" },
		"mariadb": func() string { return sqldbtest.MariaDBDSN(t) },
	} {
		t.Run(engine, func(t *testing.T) {
			log := &lockedBuffer{}
			h := newHouseIn(t, embeddedWith(t, t.TempDir(),
				slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
				func(s *settings) { s.DSN = dsn() }))
			theirs := h.ids["customer B"]
			tables := len(sqldbtest.Contents(t, h.db))
			tried := 0
			hit := func(door, who, method, path, body string, headers ...string) {
				tried++
				start := time.Now()
				rec := h.ask(door, who, method, path, body, headers...)
				if rec.Code >= 500 || rec.Code == 429 || time.Since(start) > 10*time.Second {
					t.Errorf("%s %s %.200q: %d after %s %s", method, path, body, rec.Code, time.Since(start), rec.Body)
				}
				if strings.HasPrefix(who, "customer") && leaks(rec.Body.String(), theirs, "customer B") {
					t.Errorf("%s %s %.200q leaks: %s", method, path, body, rec.Body)
				}
				if rec.Header().Get("Set-Cookie") != "" || strings.Contains(rec.Body.String(), "<script>") {
					t.Errorf("%s %s: %v %s", method, path, rec.Header(), rec.Body)
				}
			}
			for n, bad := range injections {
				text, err := json.Marshal(bad)
				if err != nil {
					t.Fatal(err)
				}
				who := fmt.Sprint("customer ", n) // each within its limits
				h.bearer(t, who, h.JWTSecret, fmt.Sprint("customer-", n), time.Now())
				mine := h.orderOf(t, who)
				q, p := url.QueryEscape(bad), url.PathEscape(bad)
				key := func(kind string) []string { return []string{"Idempotency-Key", fmt.Sprint(kind, n)} }
				for _, field := range []string{`{"items":[{"sku_id":%s,"quantity":1}]}`,
					`{"items":[{"sku_id":"1001","quantity":1}],"remark":%s}`,
					`{"items":[{"sku_id":"1001","quantity":1}],"attach":%s}`,
					`{"items":[{"sku_id":"1001","quantity":1}],"expected_total":{"total":14900,"currency":%s}}`,
					`{"items":[{"sku_id":"1001","quantity":%s}]}`,
					`{"items":[{"sku_id":"1001","quantity":1}],"customer_id":%s}`} {
					hit("api", who, "POST", "/v1/orders", fmt.Sprintf(field, text), key("o"+fmt.Sprint(len(field)))...)
				}
				for _, header := range []string{"Idempotency-Key", "X-Request-Id", "Accept-Language", "If-None-Match",
					"Content-Type", "User-Agent", "traceparent", "Accept"} {
					hit("api", who, "POST", "/v1/orders", `{"items":[{"sku_id":"1001","quantity":1}]}`,
						append(key("h"+header), header, bad)...)
				}
				for _, query := range []string{"state", "cursor", "limit", "created_from", "created_to",
					"customer_id"} {
					hit("api", who, "GET", "/v1/orders?"+query+"="+q, "")
				}
				hit("api", who, "GET", "/v1/stock?sku_ids="+q, "")
				hit("api", who, "GET", "/v1/skus/"+p+"/stock", "")
				hit("api", who, "GET", "/v1/orders/"+p, "")
				hit("api", who, "GET", "/v1/orders/"+mine.order+"?wait="+q+"&since="+q, "")
				hit("api", who, "GET", "/v1/refunds/"+p, "")
				hit("api", who, "POST", "/v1/orders/"+mine.order+"/cancel", fmt.Sprintf(`{"reason":%s}`, text))
				hit("api", who, "POST", "/v1/orders/"+mine.order+"/refunds", fmt.Sprintf(`{"reason":%s}`, text),
					key("r")...)
				hit("api", who, "POST", "/v1/orders/"+mine.order+"/prepay",
					fmt.Sprintf(`{"trade_type":"JSAPI","payer":{"openid":%s}}`, text))
				hit("api", who, "POST", "/v1/orders/"+mine.order+"/prepay", fmt.Sprintf(`{"trade_type":%s}`, text))
				hit("api", "nobody", "GET", "/problems/"+p, "")
				hit("notify", "nobody", "POST", "/wechat/v3/notify/payment", bad, "Wechatpay-Serial", bad,
					"Wechatpay-Signature", bad, "Wechatpay-Timestamp", bad, "Wechatpay-Nonce", bad)
				for _, query := range []string{"order_no", "out_trade_no", "transaction_id", "out_refund_no",
					"customer_id", "sku_id", "state", "cursor", "limit", "stuck", "created_from", "amount_min"} {
					hit("admin", "viewer", "GET", "/admin/v1/orders?"+query+"="+q, "")
					hit("admin", "viewer", "GET", "/?"+query+"="+q, "")
				}
				hit("admin", "viewer", "GET", "/?q="+q, "")
				for _, path := range []string{"/admin/v1/orders/%s", "/admin/v1/orders/%s/timeline",
					"/admin/v1/skus/%s", "/admin/v1/refunds/%s", "/ui/orders/%s", "/admin/v1/skus?cursor=%s",
					"/admin/v1/refunds?state=%s", "/admin/v1/refunds?order_no=%s"} {
					hit("admin", "viewer", "GET", fmt.Sprintf(path, p), "")
				}
				for _, path := range []string{"/admin/v1/reconciliations/%s", "/admin/v1/reconciliations/%s/bill",
					"/admin/v1/differences?status=%s", "/ui/reconciliations/%s"} {
					hit("admin", "finance", "GET", fmt.Sprintf(path, p), "")
				}
				hit("admin", "admin", "PUT", "/admin/v1/skus/"+p,
					fmt.Sprintf(`{"title":%s,"price":{"total":1,"currency":"CNY"},"quantity":1,"reason":"x"}`, text))
				hit("admin", "admin", "POST", "/admin/v1/skus/1001/replenish",
					fmt.Sprintf(`{"quantity":1,"reference_no":%s,"reason":%s}`, text, text), key("s")...)
				hit("admin", "admin", "POST", "/admin/v1/tokens", fmt.Sprintf(`{"name":%s,"role":%s}`, text, text))
				hit("admin", "admin", "DELETE", "/admin/v1/tokens/"+p, "")
				hit("admin", "operator", "POST", "/admin/v1/orders/"+mine.order+"/close",
					fmt.Sprintf(`{"reason":%s}`, text), "If-Match", bad)
				hit("admin", "finance", "POST", "/admin/v1/refunds/"+p+"/approve", fmt.Sprintf(`{"reason":%s}`, text))
			}
			after := h.contents(t)
			if len(after) != tables || len(after["operator_tokens"]) == 0 {
				t.Errorf("%d tables, %d before", len(after), tables)
			}
			if r, err := h.audit.Verify(t.Context(), nil); err != nil || !r.OK() {
				t.Errorf("%+v %v", r, err)
			}
			for line := range strings.SplitSeq(strings.TrimSpace(log.String()), "\n") {
				if !strings.HasPrefix(line, "time=") {
					t.Errorf("a line of the log that is not ours: %.200q", line)
				}
			}
			t.Logf("%d requests", tried)
		})
	}
}

// redisOf is a Redis as asynq connects to it.
func redisOf(t *testing.T, url string) asynq.RedisConnOpt {
	t.Helper()
	o, err := asynq.ParseRedisURI(url)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// Whoever writes to the queue gives the service its tasks, and every user of the machine reaches its port.
func TestEmbeddedRedisHasAPassword(t *testing.T) {
	m, address, err := startRedis()
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	second, other, err := startRedis()
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	for url, lets := range map[string]bool{address: true, "redis://" + m.Addr(): false,
		"redis://:guess@" + m.Addr(): false, strings.Replace(other, second.Addr(), m.Addr(), 1): false} {
		client, err := scheduler.Connect(url)
		if err != nil {
			t.Fatal(err)
		}
		if err := client.Set(t.Context(), "asynq:x", "y", 0).Err(); (err == nil) != lets {
			t.Errorf("a write with %s: %v", url, err)
		}
		_ = client.Close()
	}
}
