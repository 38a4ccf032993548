package order_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/order/ordertest/gatetest"
	"orderd/payment"
	"orderd/stock"
	"orderd/stock/gate"
)

// stall is a shop that sells SKU "hot" by a queue, on the clock of its fixture.
type stall struct {
	*testing.T
	*ordertest.Fixture
	line *gatetest.Line
	gate *gate.Gate
}

// newStall has 10 of "hot", of which all that is asked waits.
func newStall(t *testing.T, db *sqldb.DB) *stall {
	t.Helper()
	s := &stall{T: t, line: gatetest.NewLine()}
	s.Fixture = ordertest.NewWith(t, db, func(c *order.Config) {
		s.gate = gate.New(gate.Config{DB: db, Now: c.Now, Home: t.Name(), NoAuto: true, Shared: s.line})
		c.Gate, c.Queue = s.gate, s.gate.Queue()
	})
	s.SKU(t, "hot", 10)
	if _, err := s.Admin.SetGate(t.Context(), stock.GateChange{SkuID: "hot", Mode: stock.GateRedis, Rate: 1,
		Actor: "cli:test", Reason: "a test"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.gate.Run(ctx, s.Service)
	}()
	t.Cleanup(func() { cancel(); <-ended })
	gatetest.Eventually(t, "the gate is known", func() bool { return s.gate.Knows("hot") })
	return s
}

func eachStall(t *testing.T, test func(s *stall)) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) { test(newStall(t, db)) })
}

// queue places, and gives what waits.
func (s *stall) queue(p order.Placement) order.Queued {
	s.Helper()
	_, err := s.Place(s.Context(), p)
	var queued *order.QueuedError
	if !errors.As(err, &queued) {
		s.Fatalf("not queued: %v", err)
	}
	return queued.Queued
}

// placeForsaken places when the gate has found out that nobody reaches the home of the queue.
func (s *stall) placeForsaken(p order.Placement) (placed order.Placed, err error) {
	s.Helper()
	gatetest.Eventually(s, "the gate knows that nobody reaches the queue", func() bool {
		placed, err = s.Place(s.Context(), p)
		return !errors.As(err, new(*order.NotReadyError))
	})
	return placed, err
}

// claimed gives all that waits, to be placed.
func (s *stall) claimed() []gate.Entry {
	s.Helper()
	entries, err := s.line.Claim(s.Context(), 100)
	if err != nil {
		s.Fatal(err)
	}
	return entries
}

// drain makes orders of all that waits, as the drainer does.
func (s *stall) drain() {
	s.Helper()
	for _, e := range s.claimed() {
		problem, err := s.PlaceQueued(s.Context(), e)
		if err == nil && problem != nil {
			err = s.line.Refuse(s.Context(), e, problem)
		} else if err == nil {
			err = s.line.Done(s.Context(), []gate.Entry{e})
		}
		if err != nil {
			s.Fatal(err)
		}
	}
}

// orders is how many orders there are.
func (s *stall) orders() int64 {
	s.Helper()
	return gatetest.Count(s, s.DB, "SELECT COUNT(*) FROM orders")
}

// A place in the queue that counts as an order could be paid for, and one whose repeat is another place would be two
// orders: what waits has no row, its repeats have its number, and what comes of it is one order under that number,
// which its repeats are answered with from then on.
func TestQueuedBecomesOneOrder(t *testing.T) {
	eachStall(t, func(s *stall) {
		p := one("c", "k", "hot")
		first := s.queue(p)
		if again := s.queue(p); again.OrderNo != first.OrderNo || !again.Repeated || first.Repeated {
			t.Errorf("first %+v, repeat %+v", first, again)
		}
		other := one("c", "k", "hot")
		other.Remark = "another"
		if _, err := s.Place(t.Context(), other); !errors.Is(err, order.ErrRequestReused) {
			t.Errorf("its key with another content: %v", err)
		}
		if n := s.orders(); n != 0 {
			t.Errorf("%d orders while it waits", n)
		}
		q, err := s.FindQueued(t.Context(), "c", first.OrderNo)
		if err != nil || q.Position != 1 || len(q.Lines) != 1 || q.Lines[0] != (stock.Line{SkuID: "hot", Quantity: 1}) {
			t.Errorf("%+v, %v", q, err)
		}
		if _, err := s.FindQueued(t.Context(), "d", first.OrderNo); !errors.Is(err, order.ErrNotFound) {
			t.Errorf("another customer finds it: %v", err)
		}
		s.drain()
		o, err := s.FindOwn(t.Context(), "c", first.OrderNo)
		if err != nil || o.State != order.StatePending || s.orders() != 1 {
			t.Fatalf("%+v, %v, %d orders", o, err, s.orders())
		}
		placed, err := s.Place(t.Context(), p)
		if err != nil || !placed.Replayed || placed.Order.OrderNo != first.OrderNo {
			t.Errorf("the repeat: %+v, %v", placed, err)
		}
	})
}

// The time to pay of a buyer who waited in the queue would be over before he may pay: it begins when his order is made.
func TestTimeToPayBeginsWithTheOrder(t *testing.T) {
	eachStall(t, func(s *stall) {
		q := s.queue(one("c", "k", "hot"))
		s.Clock.Advance(40 * time.Minute) // longer than the time to pay
		made := s.Clock.Now().Truncate(time.Millisecond)
		s.drain()
		o, err := s.FindOwn(t.Context(), "c", q.OrderNo)
		if err != nil || !o.CreatedAt.Equal(made) || o.ExpireAt.Sub(made) < 30*time.Minute {
			t.Errorf("made at %s, created %s, to be paid by %s: %v", made, o.CreatedAt, o.ExpireAt, err)
		}
	})
}

// A drainer that dies after its COMMIT leaves a placement in the queue whose order is there: made again, it is that
// order, and its units are taken once.
func TestQueuedIsMadeOnce(t *testing.T) {
	eachStall(t, func(s *stall) {
		q := s.queue(one("c", "k", "hot"))
		e := s.claimed()[0]
		for range 3 {
			if problem, err := s.PlaceQueued(t.Context(), e); err != nil || problem != nil {
				t.Fatal(string(problem), err)
			}
		}
		sku, err := s.Admin.Find(t.Context(), "hot")
		if n := s.orders(); err != nil || n != 1 || sku.Available != 9 {
			t.Errorf("%d orders, %d left of 10: %v", n, sku.Available, err)
		}
		// The order is there and the queue does not know it yet: nobody is told that it still waits for ever.
		if _, err := s.FindOwn(t.Context(), "c", q.OrderNo); err != nil {
			t.Error(err)
		}
		if placed, err := s.Place(t.Context(), one("c", "k", "hot")); err != nil || !placed.Replayed {
			t.Errorf("the repeat: %+v, %v", placed, err)
		}
	})
}

// What is refused at its turn has to be told as if it had been refused at once, and only to its customer: the very
// error, with the lines as they were asked for. Its key is free again.
func TestQueuedIsRefusedAsAPlacement(t *testing.T) {
	eachStall(t, func(s *stall) {
		expected := payment.Fen(3 * 100)
		p := order.Placement{CustomerID: "c", RequestID: "k", ExpectedTotal: &expected, Remark: "r", Attach: "a",
			Lines: []stock.Line{{SkuID: "hot", Quantity: 1}, {SkuID: "hot", Quantity: 2}}}
		price := s.queue(p)
		short := s.queue(order.Placement{CustomerID: "d", RequestID: "k",
			Lines: []stock.Line{{SkuID: "hot", Quantity: 11}}})
		if _, _, err := s.Admin.Put(t.Context(), stock.Put{SkuID: "hot", Title: "hot", PriceFen: 101,
			Actor: "cli:test"}); err != nil {
			t.Fatal(err)
		}
		s.drain()
		_, err := s.FindQueued(t.Context(), "c", price.OrderNo)
		var changed *order.PriceChangedError
		if !errors.As(err, &changed) || changed.Expected != expected || changed.Actual != expected+3 {
			t.Errorf("%v", err)
		}
		_, err = s.FindQueued(t.Context(), "d", short.OrderNo)
		var few *order.InsufficientError
		if !errors.As(err, &few) || len(few.Items) != 1 || few.Items[0] != (stock.Short{SkuID: "hot", Requested: 11,
			Available: 10}) {
			t.Errorf("%v", err)
		}
		if _, err := s.FindQueued(t.Context(), "x", price.OrderNo); !errors.Is(err, order.ErrNotFound) {
			t.Errorf("another customer is told: %v", err)
		}
		if n := s.orders(); n != 0 {
			t.Errorf("%d orders of what was refused", n)
		}
		p.ExpectedTotal = nil
		if again := s.queue(p); again.Repeated || again.OrderNo == price.OrderNo {
			t.Errorf("the key of a refused placement is not free: %+v", again)
		}
	})
}

// Every refusal has to come through the queue as it went in: one that is written down without its facts would be told
// as another one.
func TestOutcomesAreKeptWhole(t *testing.T) {
	opens := time.Date(2026, 11, 11, 0, 0, 0, 5e6, time.UTC)
	for _, err := range []error{
		&order.NotStartedError{SkuID: "s", Index: 1, OpensAt: opens, Wait: time.Second},
		&order.CustomerLimitError{Sale: "s", Index: 1, Asked: 2, Held: 3, Limit: 4},
		&order.TooManyOpenError{Open: 5, Wait: time.Minute},
		&order.TooManyUnitsError{Index: 1, SkuID: "s", Asked: 2, Held: 3, Limit: 4},
		&order.InsufficientError{Items: []stock.Short{{Index: 1, SkuID: "s", Requested: 2, Available: 1}}},
		&order.UnknownSKUError{SkuID: "s", Index: 1}, &order.PriceChangedError{Expected: 1, Actual: 2},
		&order.ValidationError{Fields: []order.FieldError{{Pointer: "#", Code: "C", Detail: "d"}}},
		&order.PlacedAsError{OrderNo: "n"}, order.ErrRequestReused, sqldb.ErrOverloaded,
	} {
		got := order.ReadOutcome(order.WriteOutcome(err))
		want, _ := json.Marshal(err)
		if is, _ := json.Marshal(got); got.Error() != err.Error() || string(is) != string(want) {
			t.Errorf("%v came back as %v", err, got)
		}
	}
}

// A buyer who cancels while he waits must not be charged for an order that is made all the same, and one who comes too
// late must not believe that there is none: either it never becomes an order, or it does and the cancel is its cancel.
func TestCancelWhileQueued(t *testing.T) {
	eachStall(t, func(s *stall) {
		cancel := func(no string) (order.Order, error) {
			return s.Cancel(t.Context(), order.CancelRequest{OrderNo: no, CustomerID: "c",
				Cause: order.Cause{Actor: order.Actor{Type: order.ActorCustomer, ID: "c"}}})
		}
		var queued *order.QueuedError
		first := s.queue(one("c", "k1", "hot"))
		for range 2 { // the repeat too
			if _, err := cancel(first.OrderNo); !errors.As(err, &queued) || !queued.Withdrawn {
				t.Fatal(err)
			}
		}
		s.drain()
		if n := s.orders(); n != 0 {
			t.Errorf("%d orders of what was withdrawn", n)
		}
		if again := s.queue(one("c", "k1", "hot")); !again.Withdrawn || again.OrderNo != first.OrderNo {
			t.Errorf("the repeat of a withdrawn placement: %+v", again)
		}

		second := s.queue(one("c", "k2", "hot"))
		e := s.claimed()[0]
		done := make(chan error)
		go func() { // it is made while the cancel waits for it
			time.Sleep(50 * time.Millisecond)
			_, err := s.PlaceQueued(t.Context(), e)
			done <- err
		}()
		o, err := cancel(second.OrderNo)
		for errors.Is(err, sqldb.ErrOverloaded) { // it waits for two seconds, and says that one may come again
			o, err = cancel(second.OrderNo)
		}
		if placeErr := <-done; placeErr != nil {
			t.Fatal(placeErr)
		}
		if err != nil || o.State != order.StateClosed || o.CloseReason != order.CloseReasonCancel {
			t.Errorf("%+v, %v", o, err)
		}
		if _, err := cancel("01JD4ZABCDEFGHJKMNPQRSTVWX"); !errors.Is(err, order.ErrNotFound) {
			t.Errorf("no order, and nothing waits: %v", err)
		}
	})
}

// While the queue cannot be asked a repeat of what waits there is placed at once, under another number: what waits must
// not become a second order of the same key, and its number leads to the one that is there.
func TestRepeatWhileTheQueueIsAway(t *testing.T) {
	eachStall(t, func(s *stall) {
		p := one("c", "k", "hot")
		q := s.queue(p)
		s.line.Away(errors.New("away"))
		if _, err := s.FindQueued(t.Context(), "c", q.OrderNo); !errors.Is(err, sqldb.ErrUnavailable) {
			t.Errorf("not found, though it waits: %v", err)
		}
		placed, err := s.placeForsaken(p)
		if err != nil || placed.Order.OrderNo == q.OrderNo {
			t.Fatalf("%+v, %v", placed, err)
		}
		s.line.Away(nil)
		s.drain()
		_, err = s.FindQueued(t.Context(), "c", q.OrderNo)
		var as *order.PlacedAsError
		if n := s.orders(); n != 1 || !errors.As(err, &as) || as.OrderNo != placed.Order.OrderNo {
			t.Errorf("%d orders, %v", n, err)
		}
	})
}

// What waits for longer than the keys of a sale are read back for would be an order that a mark as sold out does not
// know of: it is refused, to be placed anew.
func TestQueuedForTooLong(t *testing.T) {
	eachStall(t, func(s *stall) {
		q := s.queue(one("c", "k", "hot"))
		s.Clock.Advance(gate.LongestWait + time.Second)
		s.drain()
		if _, err := s.FindQueued(t.Context(), "c", q.OrderNo); !errors.Is(err, sqldb.ErrOverloaded) {
			t.Error(err)
		}
		if n := s.orders(); n != 0 {
			t.Errorf("%d orders", n)
		}
	})
}

// A queue without room must not look as if all were sold.
func TestQueueIsFull(t *testing.T) {
	eachStall(t, func(s *stall) {
		s.queue(one("c", "k", "hot"))
		s.line.Full(3 * time.Second)
		_, err := s.Place(t.Context(), one("d", "k", "hot"))
		var full *order.NotReadyError
		if !errors.As(err, &full) || full.Wait != 3*time.Second {
			t.Error(err)
		}
		s.queue(one("c", "k", "hot")) // the repeat of one that waits needs no room
	})
}

// Whoever waited for longer than the keys of a sale overlap would not be among those who have an order when the SKU is
// marked as sold out again, and his repeat would be told from memory that it is sold out.
func TestRepeatOfOneWhoWaitedIsNeverSoldOut(t *testing.T) {
	eachStall(t, func(s *stall) {
		q := s.queue(one("late", "k", "hot"))
		e := s.claimed()[0]
		s.line.Direct(true)
		s.Clock.Advance(time.Minute)
		var nos []string
		for _, who := range []string{"a", "b"} {
			placed, err := s.placeForsaken(order.Placement{CustomerID: who, RequestID: "k",
				Lines: []stock.Line{{SkuID: "hot", Quantity: 5}}})
			if err != nil {
				t.Fatal(err)
			}
			nos = append(nos, placed.Order.OrderNo)
		}
		soldOut := func() {
			t.Helper()
			gatetest.Eventually(t, "it is refused from memory", func() bool {
				stranger := one("nobody", "x", "hot")
				if s.gate.Refuse(&gate.Claim{CustomerID: "nobody", RequestID: "x", Lines: stranger.Lines}) != nil {
					return true
				}
				_, err := s.Place(t.Context(), stranger)
				return err == nil
			})
		}
		soldOut() // and the keys are read
		if _, err := s.Cancel(t.Context(), order.CancelRequest{OrderNo: nos[0], CustomerID: "a",
			Cause: order.Cause{Actor: order.Actor{Type: order.ActorCustomer, ID: "a"}}}); err != nil {
			t.Fatal(err)
		}
		gatetest.Eventually(t, "it is sold again", func() bool {
			s.Clock.Advance(100 * time.Millisecond)
			problem, err := s.PlaceQueued(t.Context(), e)
			return err == nil && problem == nil
		})
		if _, err := s.Place(t.Context(), order.Placement{CustomerID: "d", RequestID: "k",
			Lines: []stock.Line{{SkuID: "hot", Quantity: 4}}}); err != nil {
			t.Fatal(err)
		}
		soldOut()
		placed, err := s.Place(t.Context(), one("late", "k", "hot"))
		if err != nil || !placed.Replayed || placed.Order.OrderNo != q.OrderNo {
			t.Errorf("the repeat of one who has an order: %v", err)
		}
	})
}
