package scheduler

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
)

// A right that was forgotten once made every due order a failed task of its own, dead after two hours. It is nobody's
// own: no order fails, a person is told once, and when the right is there the orders end by themselves.
func TestForgottenGrantBuriesNobody(t *testing.T) {
	server := sqldbtest.MariaDBServer(t)
	if err := server.Create(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	f := ordertest.NewUnverified(t, sqldbtest.Open(t, server.TCPDSN(server.Addr, "shop")), func(*order.Config) {})
	f.SKU(t, "mug", 100)
	for i := range 20 {
		f.PlaceOne(t, fmt.Sprint("r", i), "mug", 1)
	}
	for _, q := range []string{"CREATE USER weak@'%' IDENTIFIED BY 'weak'", "GRANT SELECT ON shop.* TO weak@'%'",
		"GRANT INSERT, UPDATE, DELETE ON shop.failed_tasks TO weak@'%'", "GRANT UPDATE ON shop.orders TO weak@'%'",
		"GRANT INSERT, UPDATE ON shop.stock_flows TO weak@'%'", "GRANT UPDATE ON shop.skus TO weak@'%'",
		"GRANT INSERT ON shop.events_out TO weak@'%'"} {
		if err := server.Exec(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	db, err := sqldb.Open(t.Context(), "mysql:weak:weak@tcp("+server.Addr+")/shop")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	told := make(chan string, 100)
	db.OnTrouble(func(advice string, err error) { told <- advice + ": " + err.Error() })
	weak := ordertest.NewUnverified(t, db, func(*order.Config) {})
	f.Clock.Advance(time.Hour)
	weak.Clock.Advance(time.Hour)
	letters := NewDeadLetters(db, weak.Clock.Now)
	w, err := NewWorker(Options{Orders: weak.Service, Now: weak.Clock.Now, Log: slog.New(slog.DiscardHandler),
		CloseRate: -1, SweepEvery: 50 * time.Millisecond, DeadLetters: letters})
	if err != nil {
		t.Fatal(err)
	}
	run(t, w)
	select {
	case text := <-told:
		if !strings.Contains(text, "grants.sql") || !strings.Contains(text, "order_events") {
			t.Errorf("a person is told %q", text)
		}
	case <-time.After(patience):
		t.Fatal("nobody is told")
	}
	time.Sleep(time.Second) // some passes; more of them find no more
	if failing, dead, err := letters.Count(t.Context()); failing+dead > 0 || err != nil || len(told) > 0 {
		t.Errorf("%d failing, %d dead, told again %d times, %v", failing, dead, len(told), err)
	}
	if err := server.Exec(t.Context(), "GRANT INSERT ON shop.order_events TO weak@'%'"); err != nil {
		t.Fatal(err)
	}
	wait(t, "the right is there", func() bool {
		n := -1
		err := f.DB.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM orders WHERE state = 'closed'").Scan(&n)
		return err == nil && n == 20
	})
}
