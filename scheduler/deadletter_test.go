package scheduler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
)

// book is the failed tasks of a test, by a clock that stands.
type book struct {
	*DeadLetters
	db *sqldb.DB
	at time.Time
}

func newBook(db *sqldb.DB) *book {
	b := &book{db: db, at: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	b.DeadLetters = NewDeadLetters(db, func() time.Time { return b.at })
	return b
}

func (b *book) record(t *testing.T, failed ...Failure) int {
	t.Helper()
	died, err := b.Record(t.Context(), failed)
	if err != nil {
		t.Fatal(err)
	}
	return died
}

func (b *book) one(t *testing.T, typ, key string) FailedTask {
	t.Helper()
	all, _, err := b.List(t.Context(), Filter{Type: typ, Keys: []string{key}}, "", 2)
	if err != nil || len(all) != 1 {
		t.Fatalf("%s %s: %v %v", typ, key, all, err)
	}
	return all[0]
}

func fails(typ, key, cause string) Failure {
	return Failure{Type: typ, Key: key, Cause: errors.New(cause)}
}

// Many fills the book with n tasks of orders, a millisecond apart, quickly.
func (b *book) many(t *testing.T, n int, state string) {
	t.Helper()
	for from := 0; from < n; from += failedPage {
		err := b.db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			var args []any
			for i := from; i < min(from+failedPage, n); i++ {
				at := b.at.UnixMilli() + int64(i)
				args = append(args, TypeExpire, fmt.Sprintf("o%06d", i), state, int64(40),
					"broken "+strconv.Itoa(i%10), "", at, at, at)
			}
			return tx.InsertRows(ctx, `INSERT INTO failed_tasks
  (task_type, task_key, state, tries, cause, payload, first_at, last_at, next_at)
VALUES`, 9, args)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	b.at = b.at.Add(time.Duration(n) * time.Millisecond)
}

// A failed task must wait longer after each failure and in the end for a person: else it takes the place of good ones
// for ever.
func TestFailedTaskBacksOffAndDies(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		b := newBook(db)
		first := b.at
		for n := 1; n <= maxFailures; n++ {
			died := b.record(t, fails(TypeExpire, "o1", "failure "+strconv.Itoa(n)))
			if (died == 1) != (n == maxFailures) {
				t.Fatalf("failure %d: %d died", n, died)
			}
			known, err := b.Known(t.Context(), TypeExpire, []string{"o0", "o1"})
			if err != nil || len(known) != 1 {
				t.Fatal(known, err)
			}
			if n == maxFailures {
				if known["o1"].Before(b.at.AddDate(1000, 0, 0)) {
					t.Errorf("a dead one is tried again at %v", known["o1"])
				}
				break
			}
			whole := min(time.Second<<min(n-1, 10), 5*time.Minute)
			if wait := known["o1"].Sub(b.at); wait < whole/2 || wait > whole {
				t.Errorf("failure %d waits %v, want %v to %v", n, wait, whole/2, whole)
			}
			b.at = known["o1"]
		}
		if died := b.record(t, fails(TypeExpire, "o1", "the last word")); died != 0 {
			t.Errorf("the dead one died again: %d", died)
		}
		got := b.one(t, TypeExpire, "o1")
		if got.State != StateDead || got.Tried != maxFailures+1 || got.Error != "the last word" ||
			got.OrderNo != "o1" || !got.FirstAt.Equal(first) ||
			!got.LastAt.Equal(b.at) || got.DiedAt == nil || got.NextAt != nil {
			t.Errorf("%+v", got)
		}
	})
}

// A task that nobody can read must be seen as it came, whatever its bytes, and must not be tried.
func TestPoisonIsKeptAndListedSafely(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		b := newBook(db)
		payload := []byte("\x00\xff\xfe{\"v\":\x1b[31m 单\n")
		long := strings.Repeat("长", 70)
		died := b.record(t,
			Failure{Type: TypeExpire, Key: long, Cause: errPoison, Payload: payload, Poison: true},
			Failure{Type: TypeRefund, Key: "big", Cause: errors.New("\xff\x1b[2J\u202e" + strings.Repeat("因", 600)),
				Payload: []byte(strings.Repeat("\x01", 3000)), Poison: true},
			Failure{Type: TypeRefund, Key: "no cause", Poison: true})
		if died != 3 {
			t.Fatalf("%d died", died)
		}
		got := b.one(t, TypeExpire, long)
		if raw, err := strconv.Unquote(got.Payload); err != nil || raw != string(payload) || got.OrderNo != "" ||
			utf8.RuneCountInString(got.Key) != 64 {
			t.Errorf("%+v %v", got, err)
		}
		big := b.one(t, TypeRefund, "big")
		if len(big.Payload) != 1000 || utf8.RuneCountInString(big.Error) != 500 || !utf8.ValidString(big.Error) ||
			strings.ContainsAny(big.Error, "\x1b\u202e") || big.OutRefundNo != "" {
			t.Errorf("%+v", big)
		}
		if none := b.one(t, TypeRefund, "no cause"); none.Error == "" || none.OutRefundNo != "no cause" {
			t.Errorf("%+v", none)
		}
		known, err := b.Known(t.Context(), TypeExpire, []string{long})
		if err != nil || known[long].Before(b.at.AddDate(1000, 0, 0)) {
			t.Errorf("the poison is tried again: %v %v", known, err)
		}
		for _, x := range []FailedTask{got, big} {
			if typ, key, err := ParseFailedID(x.ID); err != nil || typ != x.Type || key != x.Key ||
				strings.ContainsAny(x.ID, "/%?# 长") {
				t.Errorf("id %q gives %q %q %v", x.ID, typ, key, err)
			}
		}
	})
}

// An id from a URL that is not one we gave must not name some task or other.
func TestFailedID(t *testing.T) {
	for _, c := range [][2]string{{TypeExpire, "01JD4Z"}, {TypeExpire, "sweep:01JD:abc"}, {"", ""}, {"a~b", "c"},
		{"a", "b~c"}, {"a", ".."}, {TypeRefund, "\x00/单"}} {
		id := failedID(c[0], c[1])
		if typ, key, err := ParseFailedID(id); err != nil || typ != c[0] || key != c[1] {
			t.Errorf("%q gives %q %q %v", id, typ, key, err)
		}
	}
	// The last is that of a and b, which has a plain id.
	for _, id := range []string{"", "~", "x", "a~b~c", "~!", "~YQ", "a~b/c", "~" + "YQBi"} {
		if typ, key, err := ParseFailedID(id); !errors.Is(err, ErrNoFailedTask) {
			t.Errorf("%q gives %q %q %v", id, typ, key, err)
		}
	}
}

// Two workers that fail with the same task at once must both be counted, else a broken task never dies.
func TestConcurrentFailuresAllCount(t *testing.T) {
	sqldbtest.Races(t, func(t *testing.T, db *sqldb.DB) {
		const workers, rounds, keys = 6, 4, 20
		b := newBook(db)
		var batch []Failure
		for i := range keys {
			batch = append(batch, fails(TypeExpire, fmt.Sprintf("o%02d", i), "broken"))
		}
		var all sync.WaitGroup
		for w := range workers {
			mine := slices.Clone(batch)
			if w%2 == 1 {
				slices.Reverse(mine)
			}
			all.Go(func() {
				for range rounds {
					for try := 0; ; try++ { // a loaded machine may need more than one budget
						if _, err := b.Record(t.Context(), mine); err == nil {
							break
						} else if !errors.Is(err, sqldb.ErrUnavailable) || errors.Is(err, sqldb.ErrUnknown) ||
							try == 20 {
							t.Error(err)
							return
						}
					}
				}
			})
		}
		all.Wait()
		list, _, err := b.List(t.Context(), Filter{}, "", 200)
		if err != nil || len(list) != keys {
			t.Fatal(len(list), err)
		}
		for _, x := range list {
			if x.Tried != workers*rounds {
				t.Errorf("%s: %d tries, want %d", x.Key, x.Tried, workers*rounds)
			}
		}
	})
}

// A batch that holds a task twice, of two types and more than a page, must be counted like single calls.
func TestBatchOfFailures(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		b := newBook(db)
		b.record(t, fails(TypeExpire, "o1", "before"))
		var batch []Failure
		for i := range failedPage + 30 {
			batch = append(batch, fails(TypeExpire, fmt.Sprintf("o%d", i), "x"))
		}
		batch = append(batch, fails(TypeExpire, "o1", "twice"), fails(TypeRefund, "o1", "refund"),
			fails(TypeExpire, "o2 ", "o2 for MySQL"))
		if died := b.record(t, batch...); died != 0 {
			t.Errorf("%d died", died)
		}
		for key, tried := range map[string]int64{"o0": 1, "o1": 3, "o2": 2, "o1029": 1} {
			if got := b.one(t, TypeExpire, key); got.Tried != tried {
				t.Errorf("%s tried %d, want %d", key, got.Tried, tried)
			}
		}
		failing, dead, err := b.Count(t.Context())
		if err != nil || failing != failedPage+31 || dead != 0 {
			t.Error(failing, dead, err)
		}
		keys := []string{"o2 ", "absent"}
		for i := range failedPage + 30 {
			keys = append(keys, fmt.Sprintf("o%d", i))
		}
		known, err := b.Known(t.Context(), TypeExpire, keys)
		if err != nil || len(known) != failedPage+31 {
			t.Error(len(known), err)
		}
		if err := b.Done(t.Context(), TypeExpire, keys); err != nil {
			t.Fatal(err)
		}
		if err := b.Done(t.Context(), TypeExpire, nil); err != nil {
			t.Fatal(err)
		}
		if empty, err := b.Empty(t.Context()); err != nil || empty {
			t.Error("the refund was forgotten with the orders", err)
		}
		if err := b.Done(t.Context(), TypeRefund, []string{"o1"}); err != nil {
			t.Fatal(err)
		}
		if empty, err := b.Empty(t.Context()); err != nil || !empty {
			t.Error("not empty", err)
		}
	})
}

// Pages of the list must show each task once, and a filter only what it says: an operator acts on what it shows.
func TestListAndFilter(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		b := newBook(db)
		start := b.at
		for i := range 30 {
			if i%3 == 0 {
				b.at = b.at.Add(time.Second) // three of each moment
			}
			f := fails([]string{TypeExpire, TypeRefund}[i%2], fmt.Sprintf("k%02d", i),
				[]string{"Row is damaged", "100% broken_book"}[i%2])
			f.Poison = i%5 == 0
			b.record(t, f)
		}
		var seen []string
		for cursor, page := "", 0; page == 0 || cursor != ""; page++ {
			list, next, err := b.List(t.Context(), Filter{}, cursor, 7)
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range list {
				seen = append(seen, x.Key)
			}
			cursor = next
		}
		if len(seen) != 30 || len(slices.Compact(slices.Sorted(slices.Values(seen)))) != 30 || seen[0] < "k27" ||
			seen[29] > "k02" {
			t.Errorf("seen %v", seen)
		}
		for _, bad := range []string{"x", "1", "x.a~b", "1.a", "1." + strings.Repeat("~", 3)} {
			if _, _, err := b.List(t.Context(), Filter{}, bad, 7); !errors.Is(err, bounds.ErrCursor) {
				t.Errorf("cursor %q: %v", bad, err)
			}
		}
		for _, c := range []struct {
			f    Filter
			want int
		}{
			{Filter{}, 30}, {Filter{Type: TypeRefund}, 15}, {Filter{State: StateDead}, 6},
			{Filter{State: StateFailing, Type: TypeExpire}, 12},
			{Filter{Cause: "broken_book"}, 15}, {Filter{Cause: "%"}, 15}, {Filter{Cause: "row"}, 0},
			{Filter{Cause: "Row"}, 15}, {Filter{Cause: "_"}, 15},
			{Filter{FailedAfter: start.Add(3 * time.Second)}, 24},
			{Filter{FailedBefore: start.Add(3 * time.Second)}, 6},
			{Filter{FailedAfter: start.Add(2 * time.Second), FailedBefore: start.Add(3 * time.Second)}, 3},
			{Filter{Keys: []string{"k01", "k02", "none"}}, 2}, {Filter{Type: TypeRefund, Keys: []string{"k02"}}, 0},
		} {
			n, err := b.Match(t.Context(), c.f)
			list, _, err2 := b.List(t.Context(), c.f, "", 200)
			if err != nil || err2 != nil || n != c.want || len(list) != c.want {
				t.Errorf("%+v: %d and %d, want %d; %v %v", c.f, n, len(list), c.want, err, err2)
			}
		}
	})
}

// In an incident a hundred thousand tasks have failed, and whoever looks at them every second must not have the
// database read and sort them all.
func TestFailedTasksAreReadByThePage(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		b := newBook(db)
		for i := range 300 {
			b.record(t, fails(TypeExpire, fmt.Sprint("k", i), "Row is damaged"))
		}
		at := b.at.Add(-time.Hour)
		for _, filter := range []Filter{{}, {Type: TypeExpire}, {Cause: "broken"}, {FailedAfter: at},
			{Type: TypeExpire, FailedAfter: at, FailedBefore: b.at}} {
			for _, filter.State = range []string{StateFailing, StateDead} {
				behind := strconv.FormatInt(b.at.UnixMilli(), 10) + "." + failedID(TypeExpire, "k7")
				for _, cursor := range []string{"", behind} {
					query, args, err := filter.page(cursor, 51)
					if err != nil {
						t.Fatal(err)
					}
					sqldbtest.ReadsPageBy(t, db, "ix_failed_tasks", false, query, args...)
				}
			}
		}
	})
}

// Run must give a dead task all its tries again, and now; discard must forget only what was meant.
func TestRunAndDiscard(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		b := newBook(db)
		for _, k := range []string{"a", "b", "c"} {
			b.record(t, Failure{Type: TypeExpire, Key: k, Cause: errors.New("cause " + k), Poison: true},
				fails(TypeRefund, k, "cause "+k))
		}
		b.at = b.at.Add(time.Hour)
		if n, err := b.Run(t.Context(), Filter{State: StateDead, Cause: "cause b"}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		known, err := b.Known(t.Context(), TypeExpire, []string{"a", "b"})
		if err != nil || !known["b"].Equal(b.at) || known["a"].Equal(b.at) {
			t.Errorf("%v %v", known, err)
		}
		if got := b.one(t, TypeExpire, "b"); got.State != StateFailing || got.Tried != 0 || got.DiedAt != nil {
			t.Errorf("%+v", got)
		}
		if died := b.record(t, fails(TypeExpire, "b", "again")); died != 0 {
			t.Error("it died of its first failure")
		}
		if n, err := b.Discard(t.Context(), Filter{Type: TypeRefund, Keys: []string{"a", "b"}}); n != 2 || err != nil {
			t.Error(n, err)
		}
		if n, err := b.Discard(t.Context(), Filter{Keys: []string{"none"}}); n != 0 || err != nil {
			t.Error(n, err)
		}
		if failing, dead, err := b.Count(t.Context()); failing != 2 || dead != 2 || err != nil {
			t.Error(failing, dead, err)
		}
		if n, err := b.Run(t.Context(), Filter{}); n != 4 || err != nil {
			t.Errorf("of two failing and two dead, %d were run: %v", n, err)
		}
	})
}

// After a bad release ten thousand tasks may be dead: one word must run or discard them, of a mixed lot only those
// meant, in statements that hold no table.
func TestRunAndDiscardTenThousand(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		const many = 10_000
		b := newBook(db)
		b.record(t, Failure{Type: "a", Key: "z", Poison: true}, Failure{Type: "z", Key: "a", Poison: true})
		b.many(t, many, StateDead)
		begin := b.at
		third := Filter{Type: TypeExpire, State: StateDead, Cause: "broken 3"}
		if n, err := b.Run(t.Context(), third); n != many/10 || err != nil {
			t.Fatal(n, err)
		}
		if n, err := b.Run(t.Context(), Filter{State: StateDead}); n != many-many/10+2 || err != nil {
			t.Fatal(n, err)
		}
		if failing, dead, err := b.Count(t.Context()); failing != many+2 || dead != 0 || err != nil {
			t.Fatal(failing, dead, err)
		}
		b.at = begin.Add(time.Minute)
		b.record(t, fails(TypeExpire, "o000007", "broken again"))
		if n, err := b.Discard(t.Context(), Filter{FailedBefore: begin.Add(time.Second)}); n != many+1 || err != nil {
			t.Fatal(n, err)
		}
		if n, err := b.Match(t.Context(), Filter{}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	})
}

// Whoever runs all at once must not chase those that fail again meanwhile: it would never end.
func TestWalkEndsWhileTasksFail(t *testing.T) {
	db := sqldbtest.SQLite(t)
	b := newBook(db)
	b.many(t, 3*failedPage, StateDead)
	calls := 0
	moving := NewDeadLetters(db, func() time.Time { calls++; return b.at.Add(time.Duration(calls) * time.Hour) })
	n, err := moving.walk(t.Context(), Filter{}, `UPDATE failed_tasks
SET last_at = last_at + 100000000,
    task_key = 'z' || task_key
WHERE `)
	if err != nil || n != 3*failedPage {
		t.Errorf("%d of %d: %v", n, 3*failedPage, err)
	}
}

// A database that is away must be told from a bug: the caller waits for the one and reports the other.
func TestFailuresWithoutADatabase(t *testing.T) {
	b := newBook(sqldbtest.SQLite(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	asked := map[string]error{}
	_, asked["Record"] = b.Record(ctx, []Failure{fails(TypeExpire, "o1", "x")})
	asked["Done"] = b.Done(ctx, TypeExpire, []string{"o1"})
	_, asked["Known"] = b.Known(ctx, TypeExpire, []string{"o1"})
	_, asked["Empty"] = b.Empty(ctx)
	_, _, asked["Count"] = b.Count(ctx)
	_, _, asked["List"] = b.List(ctx, Filter{}, "", 1)
	_, asked["Match"] = b.Match(ctx, Filter{})
	_, asked["Run"] = b.Run(ctx, Filter{})
	_, asked["Discard"] = b.Discard(ctx, Filter{})
	for name, err := range asked {
		if !errors.Is(err, sqldb.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A list by cause that leaves tasks out without saying so hides the cause that nobody has mended; one that reads every
// failed task is slow on the day it is needed.
func TestFailedTasksAreGroupedByCause(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		b := newBook(db)
		begin := b.at
		b.many(t, 1000, StateDead)
		b.record(t, fails(TypeRefund, "r", "broken 0"))
		groups, whole, err := b.Groups(t.Context(), StateDead)
		if err != nil || !whole || len(groups) != 10 {
			t.Fatal(groups, whole, err)
		}
		n := 0
		for i := range groups {
			g := &groups[i]
			n += g.Count
			matched, err := b.Match(t.Context(), Filter{Type: g.Type, State: g.State, Error: g.Error,
				FailedBefore: g.LastAt.Add(time.Millisecond)})
			if err != nil || matched != g.Count || g.FirstAt.Before(begin) || g.LastAt.Before(g.FirstAt) {
				t.Errorf("%+v: %d match, %v", g, matched, err)
			}
		}
		if n != 1000 {
			t.Errorf("%d tasks in the groups", n)
		}
		if failing, whole, err := b.Groups(t.Context(), StateFailing); err != nil || !whole || len(failing) != 1 ||
			failing[0].Type != TypeRefund || failing[0].State != StateFailing {
			t.Error(failing, whole, err)
		}
		for i := range maxGroups { // more than can be shown
			if _, err := b.Record(t.Context(), []Failure{{Type: TypeExpire, Key: fmt.Sprint("x", i), Poison: true,
				Cause: fmt.Errorf("of its own: %d", i)}}); err != nil {
				t.Fatal(err)
			}
		}
		if groups, whole, err := b.Groups(t.Context(), StateDead); err != nil || whole || len(groups) != maxGroups ||
			groups[0].Count != 100 {
			t.Error(len(groups), whole, err)
		}
		steps, err := db.Explain(t.Context(), groupQuery, StateDead, groupedTasks, maxGroups)
		if err != nil || !strings.Contains(strings.Join(steps, "\n"), "ix_failed_tasks") {
			t.Errorf("%v %v", steps, err)
		}
	})
}
