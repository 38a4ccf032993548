package order_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
)

// offBy is how far a clock is from this machine's: the least of some looks, between which the machine may stand still.
func offBy(clock *sqldb.Clock) time.Duration {
	off := time.Hour
	for range 5 {
		off = min(off, time.Until(clock.Now()).Abs())
	}
	return off
}

// One machine whose clock is ahead must not close the orders of all others early, nor one that is behind keep them
// open, nor a step of the wall clock in the middle: what is due is told by the database's clock (reliability T1).
func TestSkewedClocks(t *testing.T) {
	db := sqldbtest.MariaDB(t)
	for name, skew := range map[string]time.Duration{"right": 0, "ten minutes ahead": 10 * time.Minute,
		"ten minutes behind": -10 * time.Minute, "a day ahead": 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			var wall atomic.Int64 // how wrong this machine is
			wall.Store(int64(skew))
			begin := time.Now()
			machine := func() time.Time { return begin.Add(time.Duration(wall.Load())).Add(time.Since(begin)) }
			clock, err := sqldb.NewClock(t.Context(), db, machine)
			if err != nil {
				t.Fatal(err)
			}
			if off := offBy(clock); off > 500*time.Millisecond {
				t.Errorf("%s off", off)
			}
			if got := clock.Off() - skew; got.Abs() > 500*time.Millisecond {
				t.Errorf("the machine is %s ahead, told %s", skew, clock.Off())
			}
			f := ordertest.NewWith(t, db, func(c *order.Config) { c.Now, c.PayWithin = clock.Now, order.MinPayWithin })
			f.SKU(t, "mug", 10)
			o := f.PlaceOne(t, strings.ReplaceAll(name, " ", "-"), "mug", 1)
			var early *order.NotDueError
			err = f.Expire(t.Context(), o.OrderNo, ordertest.Scheduler)
			inTime := time.Now().Before(o.ExpireAt.Add(-500 * time.Millisecond)) // or the machine stood still
			if inTime && !errors.As(err, &early) || early != nil && time.Until(early.At) > 3*time.Second {
				t.Errorf("before its time: %v", err)
			}
			const pause = 20 * time.Millisecond // polling, not timing
			for end := time.Now().Add(time.Minute); f.State(t, o.OrderNo) != order.StateClosed; time.Sleep(pause) {
				if err := f.Expire(t.Context(), o.OrderNo, ordertest.Scheduler); err != nil &&
					!errors.As(err, &early) || time.Now().After(end) {
					t.Fatal(f.State(t, o.OrderNo), err)
				}
			}
			if late := time.Since(o.ExpireAt); late < -500*time.Millisecond || late > time.Minute {
				t.Errorf("closed %s after its time", late)
			}
		})
	}
}

// The wall clock of a machine that steps by an hour, forward or back, must not move the time that orders live by:
// time.Now carries a monotonic reading, and only that is used between two looks.
func TestClockComesBack(t *testing.T) {
	db := sqldbtest.MariaDB(t)
	var step atomic.Int64
	begin := time.Now()
	clock, err := sqldb.NewClock(t.Context(), db,
		func() time.Time { return begin.Add(time.Since(begin)).Add(time.Duration(step.Load())) })
	if err != nil {
		t.Fatal(err)
	}
	step.Store(int64(time.Hour)) // a machine without a monotonic clock: the next look mends it
	if err := clock.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if off := offBy(clock); off > 500*time.Millisecond {
		t.Errorf("%s off after a look", off)
	}
	before := clock.Now()
	for range 20 {
		if err := clock.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		if now := clock.Now(); now.Before(before) {
			t.Fatalf("the time went back by %s", before.Sub(now))
		} else {
			before = now
		}
	}
}

// A question that stalls on its way leaves half of its time as an error, for a minute: sales begin, and are opened
// again, by clocks that may differ by 200 ms. A slow question is asked again, and the quickest counts.
func TestClockAsksAgainAfterASlowQuestion(t *testing.T) {
	db := sqldbtest.MariaDB(t)
	var calls atomic.Int64
	clock, err := sqldb.NewClock(t.Context(), db, func() time.Time {
		if calls.Add(1) == 1 { // the begin of the first question, which comes back a second later
			return time.Now().Add(-time.Second)
		}
		return time.Now()
	})
	if err != nil {
		t.Fatal(err)
	}
	if off := offBy(clock); off > 200*time.Millisecond {
		t.Errorf("%s off: half of a second's question", off)
	}
}

// Two hosts, or two batches of which one waited for the other's lock, do not write in the order in which they looked at
// their clocks: an event must not be earlier than the one before it.
func TestTimeOfAnOrderNeverGoesBack(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.New(t, db)
		f.SKU(t, "mug", 9)
		o, paid := f.PlaceOne(t, "r", "mug", 1), f.PaidOne(t, "p", "mug", 2)
		f.Prepaid(t, o.OrderNo)
		slow := f.Restarted(t, func(c *order.Config) {
			byItself(c)
			c.Now = func() time.Time { return f.Clock.Now().Add(-time.Second) }
		})
		if _, err := slow.Cancel(t.Context(), cancel(o.OrderNo)); err != nil {
			t.Fatal(err)
		}
		slow.MustAsk(t, ordertest.Ask(paid.OrderNo, "k", 1))
		events, err := f.Timeline(t.Context(), o.OrderNo)
		if err != nil || len(events) != 4 {
			t.Fatal(events, err)
		}
		for i, e := range events[1:] {
			if e.At.Before(events[i].At) {
				t.Errorf("%s at %s, %s before it at %s", e.Event, e.At, events[i].Event, events[i].At)
			}
		}
	})
}
