package scheduler

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest/gatetest"
	"orderd/stock"
	"orderd/stock/gate"
)

// inQueue puts n placements into a queue.
func inQueue(n int) *gatetest.Line {
	l := gatetest.NewLine()
	for i := range n {
		no := fmt.Sprint("order", i)
		l.Take(&gate.Claim{CustomerID: "c", RequestID: no, OrderNo: no, Lines: []stock.Line{{SkuID: "s", Quantity: 1}},
			Payload: func() []byte { return []byte(no) }}, []int{0})
	}
	return l
}

// waiting is how many wait.
func waiting(t *testing.T, l *gatetest.Line) int64 {
	t.Helper()
	d, err := l.Depths(t.Context())
	if err != nil {
		return -1
	}
	return d[0].Waiting
}

// drains starts a worker whose only work is a queue.
func drains(t *testing.T, s *shop, l *gatetest.Line, letters *DeadLetters) *Worker {
	t.Helper()
	w, err := NewWorker(Options{Orders: s, Now: time.Now, Log: slog.New(slog.DiscardHandler), SweepEvery: time.Hour,
		SaleQueue: l, DeadLetters: letters})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	return w
}

// Two workers share a queue: each placement is made once, and none stays.
func TestQueueIsDrained(t *testing.T) {
	const n = 1000
	s, l := newShop(nil), inQueue(n)
	for range 2 {
		defer drains(t, s, l, nil).Stop()
	}
	wait(t, "all are made", func() bool { return waiting(t, l) == 0 })
	s.mu.Lock()
	defer s.mu.Unlock()
	for no, times := range s.ran {
		if times != 1 {
			t.Errorf("%s was made %d times", no, times)
		}
	}
	if len(s.ran) != n {
		t.Errorf("%d of %d", len(s.ran), n)
	}
}

// A database or a Redis that is away says nothing about who waits: nobody is dropped or refused for it, and all are
// made when it is back.
func TestQueueWaitsForWhatIsAway(t *testing.T) {
	s, l := newShop(nil), inQueue(40)
	var down atomic.Bool
	down.Store(true)
	s.become = func(e gate.Entry, n int) ([]byte, error) {
		for i, err := range []error{sqldb.ErrUnavailable, sqldb.ErrUnknown, sqldb.ErrOverloaded, sqldb.ErrGroupClosed} {
			if down.Load() && n%4 == i {
				return nil, fmt.Errorf("the database: %w", err)
			}
		}
		return nil, nil
	}
	b := NewDeadLetters(sqldbtest.SQLite(t), time.Now)
	defer drains(t, s, l, b).Stop()
	wait(t, "each was tried five times", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.ran) == 40 && s.ran["order7"] >= 5
	})
	if n := waiting(t, l); n != 40 {
		t.Errorf("%d of 40 wait while the database is away", n)
	}
	l.Away(errors.New("Redis is away"))
	down.Store(false)
	wait(t, "it was met that Redis is away", func() bool { return l.Failed() >= 2 })
	l.Away(nil)
	wait(t, "all are made", func() bool { return waiting(t, l) == 0 })
	if failing, dead, err := b.Count(t.Context()); failing+dead != 0 || err != nil {
		t.Errorf("%d failing, %d dead, %v", failing, dead, err)
	}
	for i := range 40 {
		if _, found, err := l.Find(t.Context(), "c", fmt.Sprint("order", i)); found || err != nil {
			t.Errorf("order%d is none: %v", i, err)
		}
	}
}

// One placement that nobody can make an order of must not hold up the others, nor be tried for ever: after three tries
// a person has it, and its customer is told.
func TestQueuedThatCannotBeMadeIsKeptForAPerson(t *testing.T) {
	s, l := newShop(nil), inQueue(20)
	s.become = func(e gate.Entry, _ int) ([]byte, error) {
		switch e.OrderNo {
		case "order3":
			return nil, errors.New("a defect")
		case "order4":
			return nil, order.ErrUnreadable
		case "order5":
			return []byte("refused"), nil
		}
		return nil, nil
	}
	b := NewDeadLetters(sqldbtest.SQLite(t), time.Now)
	defer drains(t, s, l, b).Stop()
	wait(t, "nobody waits", func() bool { return waiting(t, l) == 0 })
	for no, tries := range map[string]int{"order3": drainTries, "order4": 1, "order5": 1} {
		q, found, err := l.Find(t.Context(), "c", no)
		if err != nil || !found || q.State != gate.QueueRefused || len(q.Problem) == 0 {
			t.Errorf("%s: %+v, %t, %v", no, q, found, err)
		}
		if s.ran[no] != tries {
			t.Errorf("%s was tried %d times, want %d", no, s.ran[no], tries)
		}
	}
	dead, _, err := b.List(t.Context(), Filter{Type: TypeQueued, State: StateDead}, "", 10)
	if err != nil || len(dead) != 2 || !strings.Contains(dead[0].Payload+dead[1].Payload, "order3") {
		t.Errorf("%+v, %v", dead, err)
	}
}

// A worker that stops must end what it has claimed: it would wait for the end of the claim otherwise.
func TestStopEndsWhatIsClaimed(t *testing.T) {
	s, l := newShop(nil), inQueue(1)
	begun, goOn := make(chan bool), make(chan bool)
	s.become = func(gate.Entry, int) ([]byte, error) {
		begun <- true
		<-goOn
		return nil, nil
	}
	w := drains(t, s, l, nil)
	<-begun
	stopped := make(chan bool)
	go func() { w.Stop(); close(stopped) }()
	select {
	case <-stopped:
		t.Error("stopped in the middle")
	case <-time.After(50 * time.Millisecond):
	}
	close(goOn)
	<-stopped
	if n := waiting(t, l); n != 0 {
		t.Error("it waits again")
	}
}
