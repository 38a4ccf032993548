package scheduler

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
)

// A dead task of an order that was paid, or closed by people, stood in the list for ever, and its alarm with it. So did
// one of a refund, and what no program can read any more.
func TestDeadTasksOfWhatHasEndedAreForgotten(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		b := newBook(db)
		dead := func(typ, key string) Failure {
			return Failure{Type: typ, Key: key, Cause: errors.New("broken"), Poison: true}
		}
		unreadable, removed := dead(TypeExpire, "task-1"), dead("order:removed", "x")
		unreadable.Payload = []byte("{")
		b.record(t, unreadable, removed)
		b.at = b.at.Add(31 * 24 * time.Hour)
		young := dead(TypeRefund, "task-2")
		young.Payload = []byte("{")
		b.record(t, young, dead(TypeExpire, "ended"), dead(TypeExpire, "open"), dead(TypeExpire, "nowhere"),
			dead(TypeRefund, "refunded"), dead(TypeRefund, "owed"))
		o := newShop(map[string]time.Time{"open": b.at})
		o.ran["ended"], o.ran["open"], o.refundRan["refunded"] = 1, 1, 1
		o.refundDue["owed"] = b.at.Add(time.Hour)
		w, err := NewWorker(Options{Orders: o, Now: func() time.Time { return b.at }, DeadLetters: b.DeadLetters,
			Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second finds nothing more
			w.sweep.forgetEnded(t.Context(), b.at)
			b.at = b.at.Add(forgetEvery)
		}
		all, _, err := b.List(t.Context(), Filter{}, "", 20)
		left := map[string]bool{}
		for _, x := range all {
			left[x.Key] = true
		}
		if err != nil || len(left) != 4 || !left["open"] || !left["nowhere"] || !left["owed"] || !left["task-2"] {
			t.Errorf("%v: %v", left, err)
		}
	})
}

// One replica has the daily reconciliation switched off: the day's task that it happened to take was a dead task, with
// an alarm, although another replica catches up with the day.
func TestDailyTaskAtAReplicaThatDoesNotReconcile(t *testing.T) {
	b := newBook(sqldbtest.SQLite(t))
	w, err := NewWorker(Options{Orders: newShop(nil), Now: time.Now, DeadLetters: b.DeadLetters,
		Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	err = w.handle(t.Context(), asynq.NewTask(TypeReconcile, nil))
	if failing, dead, countErr := b.Count(t.Context()); err != nil || countErr != nil || failing+dead != 0 {
		t.Errorf("%v, %d failing, %d dead: %v", err, failing, dead, countErr)
	}
}
