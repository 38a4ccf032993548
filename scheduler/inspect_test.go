package scheduler

import (
	"os"
	"testing"
	"time"
)

// The light of the console says how many processes work: one is one, however many queues it listens at, and one that
// has stopped is none.
func TestWorkersAreProcesses(t *testing.T) {
	q, w := newWorker(t, "redis://"+mini(t).Addr(), newShop(map[string]time.Time{}), Options{CloseRate: 10_000})
	if none, err := q.Workers(); err != nil || len(none) != 0 {
		t.Fatal(none, err)
	}
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	wait(t, "the worker is seen", func() bool {
		all, err := q.Workers()
		return err == nil && len(all) == 1 && all[0].PID == os.Getpid() && !all[0].Started.IsZero()
	})
	w.Stop()
	wait(t, "it is gone", func() bool { all, err := q.Workers(); return err == nil && len(all) == 0 })
}
