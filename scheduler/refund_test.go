package scheduler

import (
	"fmt"
	"testing"
	"time"
)

func (s *shop) refundsLeft() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.refundDue)
}

// A refund is looked at many times (sent, then polled for days): its task must run at each of them, and end.
func TestRefundTasksRingUntilTheEnd(t *testing.T) {
	s := newShop(nil)
	for i := range 20 {
		s.refundDue[fmt.Sprint("r", i)] = time.Now()
	}
	s.again = func(_ string, n int) time.Time {
		if n < 3 {
			return time.Now().Add(50 * time.Millisecond)
		}
		return time.Time{}
	}
	q, _ := start(t, "redis://"+mini(t).Addr(), s)
	for i := range 20 {
		q.RefundAt(fmt.Sprint("r", i), time.Now())
	}
	wait(t, "all refunds end", func() bool { return s.refundsLeft() == 0 })
	for no, n := range s.refundRan {
		if n != 3 {
			t.Errorf("%s had %d turns, want 3", no, n)
		}
	}
	if s.early != 0 {
		t.Errorf("%d early turns", s.early)
	}
}

// Money that is owed must go back when Redis was never there or lost the task.
func TestSweepCoversRefunds(t *testing.T) {
	for name, url := range map[string]string{"no Redis": "redis://127.0.0.1:1",
		"no task": "redis://" + mini(t).Addr()} {
		t.Run(name, func(t *testing.T) {
			s := newShop(nil)
			s.refundDue["r1"] = time.Now()
			start(t, url, s) // nobody sets a wake-up
			wait(t, "the refund has its turn", func() bool { return s.refundsLeft() == 0 })
		})
	}
}

// A storm of timeouts that wait for their limit must not hold refunds back.
func TestRefundsHaveAQueueOfTheirOwn(t *testing.T) {
	s := newShop(map[string]time.Time{})
	s.refundDue["r1"] = time.Now()
	q, w := newWorker(t, "redis://"+mini(t).Addr(), s, Options{SweepEvery: time.Minute, CloseRate: 1, Concurrency: 4})
	for i := range 200 {
		no := fmt.Sprint("o", i)
		s.due[no] = time.Now()
		q.WakeAt(time.Now())
	}
	wait(t, "the storm is queued", func() bool {
		d, err := q.Depth()
		return err == nil && d.States["scheduled"]+d.States["pending"] >= 1
	})
	q.RefundAt("r1", time.Now())
	run(t, w)
	wait(t, "the refund goes out in the storm", func() bool { return s.refundsLeft() == 0 })
	if s.left() < 100 {
		t.Errorf("only %d timeouts wait: there was no storm", s.left())
	}
}
