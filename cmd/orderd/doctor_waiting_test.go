package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/stock"
)

// levels gives the findings of a doctor by their ids.
func levels(t *testing.T, args ...string) map[string]sqldb.Finding {
	t.Helper()
	_, out, errs := words(t, append([]string{"doctor", "-o", "json"}, args...)...)
	var found []sqldb.Finding
	if err := json.Unmarshal([]byte(out), &found); err != nil {
		t.Fatalf("%v: %s%s", err, out, errs)
	}
	byID := map[string]sqldb.Finding{}
	for _, f := range found {
		if _, twice := byID[f.ID]; twice || f.Found == "" || f.Level != sqldb.LevelOK && (f.Why == "" || f.Fix == "") {
			t.Errorf("%+v", f)
		}
		byID[f.ID] = f
	}
	return byID
}

// Whoever looks at a new installation runs the doctor, and nothing else: what it does not look at nobody does.
func TestDoctorLooksAtServersAndWhatWaits(t *testing.T) {
	server, replica := sqldbtest.Replicated(t, false)
	redis := sqldbtest.RedisServer(t)
	if err := server.Create(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	dsn := server.DSN("shop")
	if code, _, errs := words(t, "migrate", "up", "--dsn", dsn); code != exitOK {
		t.Fatal(errs)
	}
	args := []string{"--dsn", dsn, "--redis", redis.URL(), "--data-dir", t.TempDir(), "--read-dsn", replica.DSN("shop")}
	found := levels(t, args...)
	for _, id := range []string{"config.variables", "database.open", "database.schema", "mysql.time_zone",
		"mysql.isolation", "mysql.version", "redis.version", "redis.write", "timeouts.overdue", "timeouts.in_redis",
		"payments.held", "tasks.dead", "differences.old", "books", "database.replica"} {
		if found[id].Level != sqldb.LevelOK {
			t.Errorf("%s: %+v", id, found[id])
		}
	}
	if len(found) < 20 { // and those of a merchant
		t.Errorf("%d checks", len(found))
	}

	if err := replica.Exec(t.Context(), "STOP SLAVE SQL_THREAD"); err != nil {
		t.Fatal(err)
	}
	held := levels(t, append(slices.Clone(args), "--read-lag", "500ms")...)["database.replica"]
	if held.Level != sqldb.LevelWarn || !strings.Contains(held.Found, "500ms behind") {
		t.Errorf("a replica that is held back: %+v", held)
	}
	other := levels(t, append(slices.Clone(args), "--read-dsn", replica.DSN("mysql"))...)["database.replica"]
	if other.Level != sqldb.LevelFail {
		t.Errorf("another database: %+v", other)
	}

	db := sqldbtest.Open(t, dsn)
	for _, q := range []string{
		`INSERT INTO payments (transaction_id, order_no, out_trade_no, amount_fen, payer_fen, currency, trade_type,
  appid, mchid, paid_at, received_at, source, outcome, reason)
VALUES ('42', 'x', 'x-01', 100, 100, 'CNY', 'NATIVE', 'wx1', '1900000000', 1, 1, 'query', 'held', 'amount')`,
		`INSERT INTO failed_tasks (task_type, task_key, state, tries, cause, payload, first_at, last_at, next_at)
VALUES ('expire', 'x', 'dead', 40, 'x', '', 1, 1, 0)`,
		`INSERT INTO differences (id, bill_date, bill_type, run_no, kind, ref, order_no, out_trade_no,
  transaction_id, bill_line, bill_fen, ours_fen, bill_state, ours_state, facts, healable, status, opened_at)
VALUES ('d', '2026-01-01', 'ALL', 1, 'LOCAL_ONLY', 'r', '', '', '', 0, 0, 1, '', '', '{}', 0, 'OPEN', 1)`,
	} {
		if _, err := db.Pool().ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	s := &settings{DSN: dsn, DataDir: t.TempDir(), PayWithin: 5 * time.Minute, CloseRate: 50, SimAddr: "127.0.0.1:0"}
	if err := withCore(t.Context(), s, func(co *core) error { // a verb has no queue: nobody is to wake the sweep
		if err := sampleSKU(t.Context(), co.stock); err != nil {
			return err
		}
		_, err := co.orders.Place(t.Context(), order.Placement{CustomerID: "c", RequestID: "r",
			Lines: []stock.Line{{SkuID: "1001", Quantity: 1}}, Cause: "x"})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Setenv("ORDERD_TYPO", "1")
	again := levels(t, args...)
	for _, id := range []string{"config.variables", "payments.held", "tasks.dead", "differences.old",
		"timeouts.in_redis"} {
		if again[id].Level != sqldb.LevelWarn {
			t.Errorf("%s: %+v", id, again[id])
		}
	}
}
