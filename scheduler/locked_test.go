package scheduler

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
)

// The row of one unpaid order is held by a session that is gone or forgotten. The orders of its page were once kept
// open as long as the lock lasted, and the pages of the process shrank to sixteen.
func TestLockedRowDoesNotStarveItsPage(t *testing.T) {
	f := ordertest.NewUnverified(t, sqldbtest.MariaDB(t), func(*order.Config) {})
	f.SKU(t, "mug", 10_000)
	const n = 120
	var nos []string
	for i := range n {
		nos = append(nos, f.PlaceOne(t, fmt.Sprint("r", i), "mug", 1).OrderNo)
	}
	raw, err := f.DB.Pool().Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	for _, q := range []string{"BEGIN", "UPDATE orders SET remark = 'x' WHERE order_no = '" + nos[n/2] + "'"} {
		if _, err := raw.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	defer func() { _, _ = raw.ExecContext(context.Background(), "ROLLBACK") }()
	f.Clock.Advance(31 * time.Minute)
	w, err := NewWorker(Options{Orders: f.Service, Now: f.Clock.Now, Log: slog.New(slog.DiscardHandler), CloseRate: -1,
		SweepEvery: 200 * time.Millisecond, DeadLetters: NewDeadLetters(f.DB, f.Clock.Now)})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	closed := func(want int, within time.Duration) {
		t.Helper()
		begin, got := time.Now(), -1
		for got != want {
			if err := f.DB.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM orders WHERE state = 'closed'").
				Scan(&got); err != nil {
				t.Fatal(err)
			}
			if time.Since(begin) > within {
				t.Fatalf("%d of %d orders are closed after %s", got, want, within)
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Logf("%d closed after %s", want, time.Since(begin).Round(10*time.Millisecond))
	}
	closed(n-1, 10*time.Second)
	if size := w.sweep.Closer.size.Load(); size < firstPage {
		t.Errorf("for one locked row the pages shrank to %d orders", size)
	}
	if failing, dead, err := w.failures.DeadLetters.Count(t.Context()); failing+dead > 0 || err != nil {
		t.Errorf("somebody's lock counts as failures of the order: %d, %d, %v", failing, dead, err)
	}
	if _, err := raw.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	closed(n, 15*time.Second)
}
