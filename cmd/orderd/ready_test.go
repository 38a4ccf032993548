package main

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
)

// A process without the role admin had no /metrics and no /readyz: nobody saw that a worker was away.
func TestEveryRoleIsMonitored(t *testing.T) {
	a := embeddedWith(t, t.TempDir(), slog.New(slog.DiscardHandler), func(*settings) {})
	defer func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}()
	get := func(path string) (int, string) {
		res, err := http.Get("http://" + a.Ops + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(b)
	}
	for path, want := range map[string]string{"/healthz": "ok", "/metrics": "orderd_build_info{",
		"/readyz": `"name":"schema"`} {
		if status, text := get(path); status != 200 || !strings.Contains(text, want) {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
	if status, _ := get("/admin/v1/orders"); status != 404 {
		t.Errorf("operators' routes at the listener of monitoring: %d", status)
	}
	a.lameDuck(0)
	if status, text := get("/readyz"); status != 503 || !strings.Contains(text, "draining") {
		t.Errorf("%d %s", status, text)
	}
	if buy(t, a, "/v1/orders", "k", map[string]any{"items": []any{map[string]any{"sku_id": "1001", "quantity": 1}}},
		&struct{}{}) != http.StatusCreated {
		t.Error("a process that says that it is stopped has stopped")
	}
}

// A server that became read-only answers every ping: it was ready, and no order could be placed.
func TestReadyzKnowsAReadOnlyServer(t *testing.T) {
	server := sqldbtest.MariaDBServer(t)
	if err := server.Create(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{"CREATE USER 'small'@'%' IDENTIFIED BY 'p'", "GRANT ALL ON shop.* TO 'small'@'%'"} {
		if err := server.Exec(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	dsn := "mysql:small:p@tcp(" + server.Addr + ")/shop"
	if code, _, errs := words(t, "migrate", "up", "--dsn", dsn); code != exitOK {
		t.Fatal(errs)
	}
	db, err := sqldb.Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := takesWrites(t.Context(), db, time.Now); err != nil {
		t.Fatal(err)
	}
	if err := server.Exec(t.Context(), "SET GLOBAL read_only = 1"); err != nil {
		t.Fatal(err)
	}
	if err := db.Writable(t.Context()); err != nil {
		t.Logf("a ping sees it too: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := takesWrites(ctx, db, time.Now); err == nil {
		t.Error("a read-only server takes writes")
	}
}
