package scheduler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"orderd/migrations/sqldb"
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
	closed := func(want int) {
		t.Helper()
		begin := time.Now()
		wait(t, fmt.Sprint(want, " orders are closed"), func() bool {
			got := -1
			if err := f.DB.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM orders WHERE state = 'closed'").
				Scan(&got); err != nil {
				t.Fatal(err)
			}
			return got == want
		})
		t.Logf("%d closed after %s", want, time.Since(begin).Round(10*time.Millisecond))
	}
	closed(n - 1) // the lock lasts until it is rolled back
	if size := w.sweep.Closer.size.Load(); size < firstPage {
		t.Errorf("for one locked row the pages shrank to %d orders", size)
	}
	if failing, dead, err := w.failures.DeadLetters.Count(t.Context()); failing+dead > 0 || err != nil {
		t.Errorf("somebody's lock counts as failures of the order: %d, %d, %v", failing, dead, err)
	}
	if _, err := raw.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	closed(n)
}

// holdRow changes rows in a transaction of another session, which stays open until release is called.
func holdRow(t *testing.T, db *sqldb.DB, statement string) (release func()) {
	t.Helper()
	raw, err := db.Pool().Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{"BEGIN", statement} {
		if _, err := raw.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	release = sync.OnceFunc(func() {
		_, _ = raw.ExecContext(context.Background(), "ROLLBACK")
		_ = raw.Close()
	})
	t.Cleanup(release)
	return release
}

// Somebody held the one row of the rate, and no timeout was closed as long as that lasted. A process goes on with its
// share, and no more, leaves half of it to closes as ever, and is back at the row soon after it is free.
func TestALockedRateDoesNotStopTimeouts(t *testing.T) {
	db := sqldbtest.MariaDB(t)
	const rate, burst = 100, 40
	c := newHandClock()
	b := NewBucket(db, "close", rate, burst, c.at(0))
	take := func(l Limiter, n, want int) time.Duration {
		t.Helper()
		begin := time.Now()
		got, wait, err := l.Take(t.Context(), n)
		if got != want || err != nil || got < n && wait <= 0 {
			t.Fatalf("%d of %d permits, want %d, wait %s: %v", got, n, want, wait, err)
		}
		return time.Since(begin)
	}
	take(b, 1, 1)
	release := holdRow(t, db, "UPDATE rate_limits SET next_at = next_at + 1")
	take(b, 1, 1) // one waits for the lock
	begin := c.us.Load()
	quickest := take(b.Spare(), burst, burst/heldShare/2-1)
	for range 5 { // a busy machine may be slow at one; who waits for a lock waits a second each time
		quickest = min(quickest, take(b.Spare(), burst, 0))
	}
	if quickest > 900*time.Millisecond {
		t.Errorf("each waited for the lock, the quickest for %s", quickest)
	}
	for taken := burst/heldShare/2 - 1; taken < 3*rate/heldShare; {
		got, wait, err := b.Take(t.Context(), 7)
		if err != nil {
			t.Fatal(err)
		}
		taken += got
		c.move(wait)
		took := (time.Duration(c.us.Load()-begin) * time.Microsecond).Seconds()
		if most := took*rate/heldShare + burst/heldShare; float64(taken) > most {
			t.Fatalf("%d permits in %g s, the share is %d a second", taken, took, rate/heldShare)
		}
	}
	release()
	c.move(time.Minute)
	wait(t, "the whole burst", func() bool { // is only to be had by the row
		got, _, err := b.Take(t.Context(), 2*burst)
		if err != nil {
			t.Fatal(got, err)
		}
		c.move(time.Minute)
		return got == burst
	})
}

// Somebody held the row of one failed task: none that failed in the same call was counted, so that its page was taken
// again and again, and none that ended was forgotten.
func TestNeighboursOfALockedFailedTask(t *testing.T) {
	b := newBook(sqldbtest.MariaDB(t))
	b.record(t, fails(TypeExpire, "o07", "x"), fails(TypeRefund, "o07", "x"))
	release := holdRow(t, b.db,
		"UPDATE failed_tasks SET cause = 'y' WHERE task_type = '"+TypeExpire+"' AND task_key = 'o07'")
	var failed []Failure
	var keys []string
	for i := range 30 {
		key := fmt.Sprintf("o%02d", i)
		failed, keys = append(failed, fails(TypeExpire, key, "x")), append(keys, key)
	}
	failed = append(failed, fails(TypeRefund, "o07", "x"), Failure{Type: TypeRefund, Key: "p", Poison: true})
	begin := time.Now()
	died, err := b.Record(t.Context(), failed)
	if !errors.Is(err, sqldb.ErrLocked) || died != 1 || time.Since(begin) > 20*time.Second { // of thirty
		t.Errorf("%d died, after %s: %v", died, time.Since(begin), err)
	}
	if failing, dead, err := b.Count(t.Context()); failing != 31 || dead != 1 || err != nil {
		t.Errorf("%d failing and %d dead of 31 and 1: %v", failing, dead, err)
	}
	if got := b.one(t, TypeRefund, "o07"); got.Tried != 2 {
		t.Errorf("a neighbour was counted %d times of 2", got.Tried)
	}
	if got := b.one(t, TypeExpire, "o07"); got.Tried != 1 || got.Error != "x" {
		t.Errorf("the one that is held: %+v", got)
	}
	if err := b.Done(t.Context(), TypeExpire, keys); err != nil {
		t.Error(err)
	}
	if failing, _, err := b.Count(t.Context()); failing != 2 || err != nil {
		t.Errorf("%d are left of the held one and the refund: %v", failing, err)
	}
	release()
	if err := b.Done(t.Context(), TypeExpire, keys); err != nil {
		t.Error(err)
	}
	if failing, _, err := b.Count(t.Context()); failing != 1 || err != nil {
		t.Errorf("released, %d are left of 1: %v", failing, err)
	}
}
