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

// A row that nobody can read, of one order among fifty good ones, whole way: the good ones end, the damaged one stands
// among the failed tasks by its name, and when its row is mended a person's word ends it too.
func TestDamagedRowAmongGoodOnes(t *testing.T) {
	for name, row := range map[string]struct{ damage, mend string }{
		"cannot be read": {"UPDATE payment_attempts SET open_calls = '{' WHERE order_no = ?",
			"UPDATE payment_attempts SET open_calls = '' WHERE order_no = ?"},
		"contradicts": {`INSERT INTO order_events
  (order_no, seq, at, event, from_state, to_state, actor_type, actor_id, cause_type, cause_id, detail, took_ms)
SELECT order_no, MAX(seq) + 1, 1, 'x', 'pending', 'pending', 'system', '', '', '', '', 0
FROM order_events
WHERE order_no = ?
GROUP BY order_no`,
			"DELETE FROM order_events WHERE order_no = ? AND event = 'x'"},
	} {
		t.Run(name, func(t *testing.T) {
			sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) { damagedAmongGood(t, db, row.damage, row.mend) })
		})
	}
}

func damagedAmongGood(t *testing.T, db *sqldb.DB, damage, mend string) {
	f := ordertest.NewUnverified(t, db, func(*order.Config) {})
	f.SKU(t, "mug", 100)
	const n = 50
	var bad string
	for i := range n + 1 {
		o := f.PlaceOne(t, fmt.Sprint("r", i), "mug", 1)
		f.Prepaid(t, o.OrderNo)
		if i == n/2 {
			bad = o.OrderNo
		}
	}
	if _, err := db.Pool().ExecContext(t.Context(), damage, bad); err != nil {
		t.Fatal(err)
	}
	f.Clock.Advance(31 * time.Minute)
	letters := NewDeadLetters(db, f.Clock.Now)
	w, err := NewWorker(Options{Orders: f.Service, Now: f.Clock.Now, Log: slog.New(slog.DiscardHandler), CloseRate: -1,
		SweepEvery: 200 * time.Millisecond, DeadLetters: letters})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	closed := func() (got int) {
		if err := db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM orders WHERE state = 'closed'").
			Scan(&got); err != nil {
			t.Fatal(err)
		}
		return got
	}
	wait(t, "the good ones end", func() bool { return closed() == n })
	var failed []FailedTask
	wait(t, "the damaged one is kept", func() bool {
		if failed, _, err = letters.List(t.Context(), Filter{}, "", 10); err != nil {
			t.Fatal(err)
		}
		return len(failed) > 0
	})
	if len(failed) != 1 || failed[0].Key != bad || !strings.Contains(failed[0].Error, bad) {
		t.Fatalf("%s is damaged, failed are: %+v", bad, failed)
	}
	if _, err := db.Pool().ExecContext(t.Context(), mend, bad); err != nil {
		t.Fatal(err)
	}
	if ran, err := letters.Run(t.Context(), Filter{Type: TypeExpire, Cause: bad}); err != nil || ran != 1 {
		t.Fatalf("%d tasks are due now: %v", ran, err)
	}
	wait(t, "the mended one ends", func() bool { return closed() == n+1 })
	wait(t, "its task is forgotten", func() bool {
		failing, dead := count(t, letters)
		return failing+dead == 0
	})
}
