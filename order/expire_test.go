package order_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
)

var swept = order.Cause{Actor: order.Actor{Type: order.ActorScheduler, ID: "worker"}, Type: "task", ID: "slot:1"}

// placeMany places orders of one unit and gives their numbers.
func placeMany(t *testing.T, f *ordertest.Fixture, n int) []string {
	t.Helper()
	nos := make([]string, n)
	var wg sync.WaitGroup
	for c := range 32 {
		wg.Go(func() {
			for i := c; i < n; i += 32 {
				nos[i] = f.PlaceOne(t, fmt.Sprint("r", i), "mug", 1).OrderNo
			}
		})
	}
	wg.Wait()
	return nos
}

// due reads everything that is due in a state.
func due(t *testing.T, f *ordertest.Fixture, state order.State) (all []order.Due) {
	t.Helper()
	for cursor := (order.DueCursor{}); ; {
		page, err := f.DueOrders(t.Context(), state, cursor, f.Clock.Now(), 1000)
		if err != nil {
			t.Fatal(err)
		}
		if all = append(all, page...); len(page) == 0 {
			return all
		}
		cursor = order.DueCursor{At: page[len(page)-1].At, Key: page[len(page)-1].Key}
	}
}

// One page with everything that can be the matter with an order: each must end as it would by itself, with its stock.
func TestExpireAllEndsEachAsAlone(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 200)
		nos := placeMany(t, f, 120)
		want := map[string]order.State{}
		lost, opened := map[string]bool{}, map[string]string{}
		for i, no := range nos {
			want[no] = order.StateClosed
			switch i % 6 {
			case 1: // a prepay was opened
				f.Prepaid(t, no)
			case 2: // the money is at WeChat Pay
				if _, err := f.WeChat.Pay(f.Prepaid(t, no), false); err != nil {
					t.Fatal(err)
				}
				want[no] = order.StatePaid
			case 3: // WeChat Pay does not answer
				lost[f.Prepaid(t, no)] = true
				want[no] = order.StateClosing
			case 5:
				opened[no] = f.Prepaid(t, no)
			}
		}
		f.Clock.Advance(time.Hour)
		page := due(t, f, order.StatePending)
		// What was read grows old before it is used: cancelled and paid by a notification meanwhile.
		for i, no := range nos {
			switch i % 6 {
			case 4:
				if _, err := f.Cancel(t.Context(), cancel(no)); err != nil {
					t.Fatal(err)
				}
			case 5:
				trade, err := f.WeChat.Pay(opened[no], true)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := f.Settle(t.Context(), trade, ordertest.Notified); err != nil {
					t.Fatal(err)
				}
				want[no] = order.StatePaid
			}
		}
		f.WeChat.Before = func(op, no string) error {
			if lost[no] {
				return ordertest.ErrLost(op)
			}
			return nil
		}
		admitted := 0
		errs := f.ExpireAll(t.Context(), page, swept,
			func(_ context.Context, n int) error { admitted += n; return nil })
		if len(errs) != len(page) || admitted != 80 {
			t.Fatalf("%d answers for %d orders, %d admitted", len(errs), len(page), admitted)
		}
		taken := int64(0)
		for i, d := range page {
			state := f.State(t, d.Key)
			var closing *order.ClosingError
			if state != want[d.Key] || (errs[i] != nil) != (state == order.StateClosing) ||
				(errs[i] != nil && !errors.As(errs[i], &closing)) {
				t.Errorf("%s is %s, want %s: %v", d.Key, state, want[d.Key], errs[i])
			}
			if state == order.StateClosing && !f.Tasks.WakesAt(dueAt(t, f, d.Key)) {
				t.Errorf("%s has no wake-up to be asked about again", d.Key)
			}
			if state != order.StateClosed {
				taken++
			}
		}
		if got := f.Available(t, "mug"); got != 200-taken {
			t.Errorf("%d on the shelf, %d are taken", got, taken)
		}
		f.WeChat.Before = nil
		f.Clock.Advance(time.Hour)
		for i, err := range f.ExpireAll(t.Context(), due(t, f, order.StateClosing), swept, nil) {
			if err != nil {
				t.Errorf("order %d, answered at last: %v", i, err)
			}
		}
		if left := due(t, f, order.StateClosing); len(left) != 0 {
			t.Errorf("%d still closing", len(left))
		}
	})
}

// Four workers with the same page: each order is asked about once, its stock comes back once.
func TestExpireAllTogether(t *testing.T) {
	sqldbtest.Races(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.New(t, db)
		f.SKU(t, "mug", 500)
		placeMany(t, f, 400)
		f.Clock.Advance(time.Hour)
		page := due(t, f, order.StatePending)
		var failed atomic.Int64
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for _, err := range f.ExpireAll(t.Context(), page, swept, nil) {
					if err != nil {
						failed.Add(1)
						t.Log(err)
					}
				}
			})
		}
		wg.Wait()
		if f.WeChat.Closes != 400 || failed.Load() != 0 || f.Available(t, "mug") != 500 {
			t.Errorf("%d closes of 400 orders, %d errors, %d of 500 on the shelf", f.WeChat.Closes, failed.Load(),
				f.Available(t, "mug"))
		}
	})
}

// A broken row must fail alone and by name, however large its page; the others end now.
func TestExpireAllWithBrokenRows(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.NewUnverified(t, db, func(*order.Config) {})
		f.SKU(t, "mug", 200)
		nos := placeMany(t, f, 150)
		broken := map[string]bool{}
		spoil := func(no, query string, args ...any) {
			broken[no] = true
			if _, err := db.Pool().ExecContext(t.Context(), query, args...); err != nil {
				t.Fatal(err)
			}
		}
		// An event ahead of its order: the claim cannot be written. Stock that the
		// order does not hold: the close cannot.
		spoil(nos[17], `INSERT INTO order_events
  (order_no, seq, at, event, from_state, to_state, actor_type, actor_id, cause_type, cause_id, detail, took_ms)
VALUES (?, 2, 1, 'x', 'pending', 'pending', 'system', '', '', '', '', 0)`, nos[17])
		spoil(nos[99], `UPDATE stock_flows SET delta = -2 WHERE order_no = ?`, nos[99])
		f.Clock.Advance(time.Hour)
		page := due(t, f, order.StatePending)
		for i, err := range f.ExpireAll(t.Context(), page, swept, nil) {
			no := page[i].Key
			if (err != nil) != broken[no] || (f.State(t, no) == order.StateClosed) == broken[no] {
				t.Errorf("%s, broken %v: %s, %v", no, broken[no], f.State(t, no), err)
			}
		}
	})
}

// Ten thousand abandoned carts stood in line before the orders that money can still come for: these are found apart
// from one another, each page by page, and a prepay that was sent counts, whatever became of it.
func TestWaitingOrdersThatMayBePaid(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 50)
		var never, prepaid []string
		for i := range 20 {
			no := f.PlaceOne(t, fmt.Sprint("r", i), "mug", 1).OrderNo
			switch {
			case i%5 != 4:
				never = append(never, no)
				continue
			case i == 9:
				f.WeChat.Before = loseAll("prepay")
				if _, err := f.Prepay(t.Context(), native(no)); err == nil {
					t.Fatal("prepaid")
				}
				f.WeChat.Before = nil
			default:
				f.Prepaid(t, no)
			}
			prepaid = append(prepaid, no)
		}
		f.Clock.Advance(time.Hour)
		for i, err := range f.AwaitClose(t.Context(), due(t, f, order.StatePending), swept) {
			if err != nil {
				t.Fatal(i, err)
			}
		}
		for which, want := range map[bool][]string{true: prepaid, false: never} {
			var got []string
			for cursor := (order.DueCursor{}); ; {
				page, err := f.WaitingOrders(t.Context(), which, cursor, f.Clock.Now(), 3)
				if err != nil {
					t.Fatal(err)
				}
				if len(page) == 0 {
					break
				}
				for _, d := range page {
					got = append(got, d.Key)
				}
				cursor = order.DueCursor{At: page[len(page)-1].At, Key: page[len(page)-1].Key}
			}
			if !slices.Equal(got, want) {
				t.Errorf("prepaid %t: %v, want %v", which, got, want)
			}
		}
	})
}

// More orders than WeChat Pay takes calls: they wait as closing, in the order of their deadlines, hold their stock,
// and a buyer who pays meanwhile has the goods.
func TestAwaitClose(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 50)
		var nos []string
		for i := range 30 {
			nos = append(nos, f.PlaceOne(t, fmt.Sprint("r", i), "mug", 1).OrderNo)
			f.Clock.Advance(time.Second)
		}
		paying := f.Prepaid(t, nos[3])
		f.Clock.Advance(time.Hour)
		for i, err := range f.AwaitClose(t.Context(), due(t, f, order.StatePending), swept) {
			if err != nil {
				t.Fatal(i, err)
			}
		}
		if f.WeChat.Closes != 0 || f.Available(t, "mug") != 20 {
			t.Fatalf("%d closes, %d on the shelf: nothing was proven", f.WeChat.Closes, f.Available(t, "mug"))
		}
		waiting := due(t, f, order.StateClosing)
		for i, d := range waiting {
			if len(waiting) != 30 || d.Key != nos[i] || d.Tries != 0 {
				t.Fatalf("%d wait, number %d is %+v, want %s", len(waiting), i, d, nos[i])
			}
		}
		trade, err := f.WeChat.Pay(paying, true)
		if err != nil {
			t.Fatal(err)
		}
		if s, err := f.Settle(t.Context(), trade, ordertest.Notified); err != nil || s.Settled != order.SettledApplied {
			t.Fatal(s, err)
		}
		for i, err := range f.ExpireAll(t.Context(), waiting, swept, nil) {
			if err != nil {
				t.Error(i, err)
			}
		}
		if f.WeChat.Closes != 29 || f.Available(t, "mug") != 49 || f.State(t, nos[3]) != order.StatePaid {
			t.Errorf("%d closes, %d on the shelf, the paid one is %s", f.WeChat.Closes, f.Available(t, "mug"),
				f.State(t, nos[3]))
		}
	})
}

// Whoever may not ask now must not lose the order: it is closing and comes again.
func TestExpireAllNotAdmitted(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 10)
		placeMany(t, f, 5)
		f.Clock.Advance(time.Hour)
		no := errors.New("no turn")
		for _, err := range f.ExpireAll(t.Context(), due(t, f, order.StatePending), swept,
			func(context.Context, int) error { return no }) {
			var closing *order.ClosingError
			if !errors.As(err, &closing) || len(due(t, f, order.StateClosing)) != 0 {
				t.Error(err)
			}
		}
		f.Clock.Advance(time.Minute)
		again := due(t, f, order.StateClosing)
		for _, err := range f.ExpireAll(t.Context(), again, swept, nil) {
			if err != nil {
				t.Error(err)
			}
		}
		if len(again) != 5 || f.Available(t, "mug") != 10 || f.WeChat.Closes != 5 {
			t.Errorf("%d came again, %d on the shelf, %d closes", len(again), f.Available(t, "mug"), f.WeChat.Closes)
		}
	})
}

// dueAt gives when an order is looked at next.
func dueAt(t *testing.T, f *ordertest.Fixture, orderNo string) time.Time {
	t.Helper()
	o, err := f.Find(t.Context(), orderNo)
	if err != nil {
		t.Fatal(err)
	}
	return o.DueAt
}

// A row that breaks a unique key was once called an unavailable database, for ever: it was in no list of failures, and
// each look at it took 1.6 s of a lane. It must fail soon, by name, and as its own.
func TestDamagedRowIsNamed(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.NewUnverified(t, db, func(*order.Config) {})
		f.SKU(t, "mug", 1)
		no := f.PlaceOne(t, "a", "mug", 1).OrderNo
		if _, err := db.Pool().ExecContext(t.Context(), `INSERT INTO order_events
  (order_no, seq, at, event, from_state, to_state, actor_type, actor_id, cause_type, cause_id, detail, took_ms)
VALUES (?, 2, 1, 'x', 'pending', 'pending', 'system', '', '', '', '', 0)`, no); err != nil {
			t.Fatal(err)
		}
		f.Clock.Advance(time.Hour)
		_, cancelled := f.Cancel(t.Context(), cancel(no))
		for name, err := range map[string]error{
			"as a page": f.ExpireAll(t.Context(), due(t, f, order.StatePending), swept, nil)[0],
			"by itself": f.Expire(t.Context(), no, swept),
			"cancelled": cancelled,
		} {
			var damaged *order.DamagedError
			if !errors.As(err, &damaged) || damaged.OrderNo != no || errors.Is(err, sqldb.ErrUnavailable) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}
