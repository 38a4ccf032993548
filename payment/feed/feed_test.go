package feed_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/payment/feed"
)

var begin = time.UnixMilli(1_800_000_000_000)

// put commits events under ids of the test's choice: what two lanes and a rollback leave.
func put(t *testing.T, db *sqldb.DB, at time.Time, ids ...int64) {
	t.Helper()
	err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		for _, id := range ids {
			if _, err := tx.ExecContext(ctx, `INSERT INTO events_out (id, at, type, order_no, version, state, ref)
VALUES (?, ?, 'order.created', ?, 1, 'pending', '')`, id, at.UnixMilli(), fmt.Sprint("o", id)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func idsOf(events []feed.Event) (ids []int64) {
	for _, e := range events {
		ids = append(ids, e.ID)
	}
	return ids
}

// Ids commit out of order: the late one is given when it comes, delays nobody, and one that never comes is waited for
// as long as a transaction may take.
func TestTailBearsGaps(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		now := begin
		tail := feed.New(db).Tail(0, func() time.Time { return now })
		next := func(place int64, want ...int64) {
			t.Helper()
			events, err := tail.Next(t.Context(), 3)
			if err != nil || !slices.Equal(idsOf(events), want) || tail.Place() != place {
				t.Fatalf("%v (%v), place %d; want %v, %d", idsOf(events), err, tail.Place(), want, place)
			}
		}
		next(0)
		put(t, db, now, 1, 2)
		next(2, 1, 2)
		put(t, db, now, 6, 7)
		next(2, 6, 7)
		next(2)
		put(t, db, now, 4)
		next(2, 4) // 3 and 5 are missing still
		put(t, db, now, 3, 8, 9, 10, 11)
		next(4, 3, 8, 9, 10)
		next(4, 11)
		now = now.Add(feed.GiveUp - time.Millisecond)
		next(4)
		put(t, db, now, 5) // at the last moment
		next(11, 5)
		put(t, db, now, 13)
		next(11, 13)
		now = now.Add(feed.GiveUp)
		next(13)
		put(t, db, now, 12) // no transaction takes so long
		next(13)
	})
}

// A reader without a memory is told nothing twice and misses nothing: it waits before a missing id.
func TestAfterWaitsForGaps(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		put(t, db, begin, 1, 2, 4)
		put(t, db, begin.Add(time.Second), 5)
		place := int64(0)
		read := func(now time.Time, want ...int64) {
			t.Helper()
			events, next, err := feed.New(db).After(t.Context(), place, 10, now)
			if err != nil || !slices.Equal(idsOf(events), want) {
				t.Fatalf("%v (%v), want %v", idsOf(events), err, want)
			}
			place = next
		}
		read(begin.Add(time.Second), 1, 2)
		read(begin.Add(2*feed.GiveUp - time.Millisecond))
		if place != 2 {
			t.Fatalf("the place is %d", place)
		}
		read(begin.Add(2*feed.GiveUp), 4, 5)
		read(begin.Add(2 * feed.GiveUp))
	})
}

// Who begins now misses none that may still come, and is told of no others that were there.
func TestBeginWaitsForGaps(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		begins := func(now time.Time, want int64) {
			t.Helper()
			if place, err := feed.New(db).Begin(t.Context(), now); place != want || err != nil {
				t.Errorf("%d (%v), want %d", place, err, want)
			}
		}
		begins(begin, 0)
		put(t, db, begin, 2)
		begins(begin, 0)
		put(t, db, begin, 1)
		begins(begin, 2)
		later := begin.Add(time.Hour)
		put(t, db, later, 4, 5, 7)
		begins(later, 2)
		put(t, db, later, 3)
		begins(later, 5)
		begins(later.Add(2*feed.GiveUp), 5)
		begins(later.Add(2*feed.GiveUp+time.Millisecond), 7)
	})
}

// The same with transactions: the first to write is the last to commit. SQLite has one
// writer, whose ids are committed in their order.
func TestTailSeesTheLaneThatCommitsLast(t *testing.T) {
	db := sqldbtest.MariaDB(t)
	write := func(ctx context.Context, tx *sqldb.Tx, no string) error {
		return feed.Insert(ctx, tx, []feed.Event{{At: begin, Type: feed.OrderCreated, OrderNo: no}})
	}
	tail := feed.New(db).Tail(0, func() time.Time { return begin })
	var between []feed.Event
	err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		if err := write(ctx, tx, "first"); err != nil {
			return err
		}
		err := db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return write(ctx, tx, "second") })
		if err == nil {
			between, err = tail.Next(ctx, 10)
		}
		return err
	})
	if err != nil || len(between) != 1 || between[0].OrderNo != "second" {
		t.Fatalf("%+v, %v", between, err)
	}
	if late, err := tail.Next(t.Context(), 10); err != nil || len(late) != 1 || late[0].OrderNo != "first" {
		t.Fatalf("%+v, %v", late, err)
	}
}

// What is old goes, in parts, and no id is given twice: the newest row stays.
func TestPrune(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		old := make([]int64, 1500)
		for i := range old {
			old[i] = int64(i + 1)
		}
		put(t, db, begin, old...)
		put(t, db, begin.Add(time.Hour), 1600)
		put(t, db, begin, 1601) // of a clock that is behind: it goes with the others, later
		prune := func(before time.Time, want int64) {
			t.Helper()
			if n, err := feed.New(db).Prune(t.Context(), before); n != want || err != nil {
				t.Errorf("%d pruned (%v), want %d", n, err, want)
			}
		}
		prune(begin, 0)
		prune(begin.Add(time.Millisecond), 1500)
		prune(begin.Add(2*time.Hour), 1)
		prune(begin.Add(2*time.Hour), 0)
		if id, err := feed.New(db).Newest(t.Context()); id != 1601 || err != nil {
			t.Errorf("the newest is %d, %v", id, err)
		}
	})
}
