package sqldb_test

import (
	"bytes"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/migrations/sqldb/sqldbtest/faultproxy"
	"orderd/migrations/sqldb/sqldbtest/servers"
)

const insertSKU = `INSERT INTO skus
  (sku_id, title, price_fen, available, unlimited, version, created_at, updated_at)
VALUES (?, 't', 1, ?, 0, 1, 0, 0)`

func put(t testing.TB, db *sqldb.DB, id string, available int64) {
	t.Helper()
	err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.ExecContext(ctx, insertSKU, id, available)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func available(t testing.TB, db *sqldb.DB, id string) (n int64) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), "SELECT available FROM skus WHERE sku_id = ?", id).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// adder is a group whose members insert a SKU; the request "bad" spoils a batch.
func adder(db *sqldb.DB, opt sqldb.GroupOptions, sizes chan<- int) *sqldb.Group[string, int] {
	insert := func(ctx context.Context, tx *sqldb.Tx, batch []string) ([]sqldb.Outcome[int], error) {
		if sizes != nil {
			sizes <- len(batch)
		}
		out := make([]sqldb.Outcome[int], len(batch))
		for i, id := range batch {
			if id == "own" {
				out[i].Err = errOwn
				continue
			}
			if _, err := tx.ExecContext(ctx, insertSKU, id, 1); err != nil {
				return nil, err
			}
			out[i].Answer = len(id)
		}
		return out, nil
	}
	return sqldb.NewGroup(db, opt, insert)
}

var errOwn = errors.New("mine alone")

// Without it a neighbour's duplicate key, or bad data, would fail everybody in the batch.
func TestGroupMembersFailAlone(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		put(t, db, "taken", 1)
		g := adder(db, sqldb.GroupOptions{}, nil)
		defer g.Close()
		var wg sync.WaitGroup
		var failed, duplicate, own atomic.Int64
		for i := range 60 {
			wg.Go(func() {
				id := fmt.Sprintf("s%03d", i)
				switch i {
				case 20:
					id = "taken"
				case 40:
					id = "own"
				}
				n, err := g.Do(t.Context(), id)
				switch {
				case sqldb.IsDuplicate(err):
					duplicate.Add(1)
				case errors.Is(err, errOwn):
					own.Add(1)
				case err != nil || n != 4:
					failed.Add(1)
					t.Error(id, n, err)
				}
			})
		}
		wg.Wait()
		if duplicate.Load() != 1 || own.Load() != 1 {
			t.Fatalf("%d duplicates, %d of their own", duplicate.Load(), own.Load())
		}
	})
}

// Without it every call would pay for a transaction of its own, which is the whole point.
func TestGroupCommitsTogether(t *testing.T) {
	db := sqldbtest.SQLite(t)
	sizes := make(chan int, 200)
	g := adder(db, sqldb.GroupOptions{MaxBatch: 64}, sizes)
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			if _, err := g.Do(t.Context(), fmt.Sprint("s", i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	g.Close()
	close(sizes)
	batches, largest := 0, 0
	for n := range sizes {
		batches++
		largest = max(largest, n)
	}
	if batches > 50 || largest > 64 {
		t.Fatalf("100 calls in %d transactions, the largest of %d", batches, largest)
	}
	if _, err := g.Do(t.Context(), "late"); !errors.Is(err, sqldb.ErrGroupClosed) {
		t.Fatal(err)
	}
}

// A database that stands still must be everybody's 503 within three seconds, also for those who came while the batch
// before theirs was waiting for it: their time is not only that of their own transaction.
func TestGroupAnswersInTime(t *testing.T) {
	server := sqldbtest.MariaDBServer(t)
	if err := server.Create(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	db := sqldbtest.Open(t, server.DSN("shop"))
	g := adder(db, sqldb.GroupOptions{}, nil)
	defer g.Close()
	if _, err := g.Do(t.Context(), "warm"); err != nil {
		t.Fatal(err)
	}
	server.Pause()
	defer server.Resume()
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			begin := time.Now()
			_, err := g.Do(t.Context(), fmt.Sprint("s", i))
			if took := time.Since(begin); !errors.Is(err, sqldb.ErrUnavailable) ||
				took > 5*time.Second { // the time of his own after that of the batch before: nearly six
				t.Errorf("call %d: after %s: %v", i, took, err)
			}
		})
		time.Sleep(100 * time.Millisecond) // they come while others wait
	}
	wg.Wait()
}

// A database that is slow, and more calls than it can bear: those who have waited too long are refused, and the
// others are served. A batch that had no time left because its oldest member had waited would let nobody through,
// ever.
func TestGroupServesUnderOverload(t *testing.T) {
	const slow, callers, lasts = 700 * time.Millisecond, 40, 7 * time.Second
	db := sqldbtest.SQLite(t)
	g := sqldb.NewGroup(db, sqldb.GroupOptions{MaxBatch: 4},
		func(ctx context.Context, tx *sqldb.Tx, batch []int) ([]sqldb.Outcome[int], error) {
			select {
			case <-time.After(slow):
				return make([]sqldb.Outcome[int], len(batch)), nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		})
	defer g.Close()
	var served, refused atomic.Int64
	begin := time.Now()
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for time.Since(begin) < lasts {
				switch _, err := g.Do(t.Context(), i); {
				case err == nil && time.Since(begin) > lasts/2:
					served.Add(1)
				case err != nil:
					refused.Add(1)
				}
			}
		})
	}
	wg.Wait()
	// In the second half five batches of four have time to end.
	if served.Load() < 8 || refused.Load() == 0 {
		t.Errorf("%d served, %d refused", served.Load(), refused.Load())
	}
}

// A caller that gives up must not be left guessing: before the batch nothing is done, in it the truth is told.
func TestGroupCancellation(t *testing.T) {
	db := sqldbtest.SQLite(t)
	inside, proceed := make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	g := sqldb.NewGroup(db, sqldb.GroupOptions{MaxQueue: 1},
		func(ctx context.Context, tx *sqldb.Tx, batch []string) ([]sqldb.Outcome[int], error) {
			if first.CompareAndSwap(false, true) {
				close(inside)
				<-proceed
			}
			for _, id := range batch {
				if _, err := tx.ExecContext(ctx, insertSKU, id, 1); err != nil {
					return nil, err
				}
			}
			return make([]sqldb.Outcome[int], len(batch)), nil
		})
	defer g.Close()
	ctx, cancel := context.WithCancel(t.Context())
	taken := make(chan error, 1)
	go func() { _, err := g.Do(ctx, "taken"); taken <- err }()
	<-inside
	waiting := make(chan error, 1)
	go func() {
		for { // the queue holds one, and a probe may be in it
			_, err := g.Do(ctx, "waiting")
			if !errors.Is(err, sqldb.ErrOverloaded) {
				waiting <- err
				return
			}
		}
	}()
	refused := 0
	// "waiting" is in the queue when others are refused
	for deadline := time.Now().Add(time.Minute); refused < 3; {
		if time.Now().After(deadline) {
			t.Fatal("the queue never filled")
		}
		if _, err := g.Do(shortly(t), "probe"); errors.Is(err, sqldb.ErrOverloaded) {
			refused++
		}
	}
	cancel()
	if err := <-waiting; !errors.Is(err, context.Canceled) {
		t.Fatal("withdrawn:", err)
	}
	close(proceed)
	if err := <-taken; err != nil {
		t.Fatal("in a batch already, and committed, yet told:", err)
	}
	var n int
	const count = "SELECT COUNT(*) FROM skus WHERE sku_id IN ('waiting', 'probe')"
	if err := db.QueryRowContext(t.Context(), count).Scan(&n); err != nil || n != 0 {
		t.Fatal("a withdrawn call was done", n, err)
	}
}

func shortly(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

// The wrong way (read, then write) loses 93 % of the decrements; the guarded UPDATE must lose none.
func TestGuardedDecrementLosesNothing(t *testing.T) {
	sqldbtest.Races(t, func(t *testing.T, db *sqldb.DB) {
		put(t, db, "hot", 100)
		var taken atomic.Int64
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				for range 10 {
					var n int64
					err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) (err error) {
						n, err = tx.Update(ctx, "UPDATE skus SET available = available - 1 WHERE sku_id = 'hot' "+
							"AND available >= 1")
						return err
					})
					if err != nil {
						t.Error(err)
					}
					taken.Add(n)
				}
			})
		}
		wg.Wait()
		if taken.Load() != 100 || available(t, db, "hot") != 0 {
			t.Fatalf("%d taken, %d left", taken.Load(), available(t, db, "hot"))
		}
	})
}

// Opposite lock orders deadlock: the whole transaction must be run again, and nobody may see it.
func TestDeadlockIsRetried(t *testing.T) {
	db := sqldbtest.MariaDB(t)
	put(t, db, "a", 1000)
	put(t, db, "b", 1000)
	var tries atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			order := []string{"a", "b"}
			if i%2 == 1 {
				order = []string{"b", "a"}
			}
			for range 10 {
				err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
					tries.Add(1)
					for _, id := range order {
						if _, err := tx.Update(ctx, "UPDATE skus SET available = available - 1 WHERE sku_id = ?",
							id); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if available(t, db, "a") != 920 || available(t, db, "b") != 920 {
		t.Fatal("lost or doubled:", available(t, db, "a"), available(t, db, "b"))
	}
	if tries.Load() == 80 {
		t.Error("no deadlock was provoked, the test proves nothing")
	}
}

// After a lock wait MariaDB undoes one statement only: a COMMIT would keep the half before it.
func TestLockWaitKeepsNothing(t *testing.T) {
	db := sqldbtest.MariaDB(t)
	put(t, db, "held", 10)
	put(t, db, "other", 10)
	block, err := db.Pool().BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := block.Exec("UPDATE skus SET available = 5 WHERE sku_id = 'held'"); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	err = db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		if _, err := tx.Update(ctx, "UPDATE skus SET available = available - 1 WHERE sku_id = 'other'"); err != nil {
			return err
		}
		_, err := tx.Update(ctx, "UPDATE skus SET available = available - 1 WHERE sku_id = 'held'")
		return err
	})
	if !errors.Is(err, sqldb.ErrUnavailable) || errors.Is(err, sqldb.ErrUnknown) || time.Since(start) > 20*time.Second {
		t.Errorf("after %s: %v", time.Since(start), err)
	}
	if err := block.Rollback(); err != nil {
		t.Fatal(err)
	}
	if available(t, db, "other") != 10 {
		t.Fatal("half of the transaction stayed")
	}
}

// A COMMIT whose answer is lost is done or not done: cut before it, after it, or stalled, each work must end exactly
// once.
func TestCommitCutBeforeAfterAndStalled(t *testing.T) {
	server := sqldbtest.MariaDBServer(t)
	if err := server.Create(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	proxy, err := faultproxy.NewMySQL(server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	db := sqldbtest.Open(t, server.TCPDSN(proxy.Addr(), "shop"))
	put(t, db, "stock", 1000)
	const each = 30
	for mode, count := range map[faultproxy.Mode]int{faultproxy.CutBefore: each, faultproxy.CutAfter: each,
		faultproxy.Stall: 3} {
		unknown := 0
		for i := range count {
			before := available(t, db, "stock")
			work := func() error {
				return db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
					_, err := tx.ExecContext(ctx, insertSKU, fmt.Sprintf("%s-%d", mode, i), 1)
					if sqldb.IsDuplicate(err) {
						return nil // an earlier run of ours committed
					}
					if err != nil {
						return err
					}
					_, err = tx.Update(ctx, "UPDATE skus SET available = available - 1 WHERE sku_id = 'stock'")
					return err
				})
			}
			proxy.Next(mode)
			err := work()
			if errors.Is(err, sqldb.ErrUnavailable) { // out of time: the caller repeats with the same key
				unknown++
				err = work()
			}
			if err != nil {
				t.Fatalf("%s %d: %v", mode, i, err)
			}
			if after := available(t, db, "stock"); after != before-1 {
				t.Fatalf("%s %d: done %d times", mode, i, before-after)
			}
		}
		if hit := proxy.Hits(mode); hit < count {
			t.Errorf("%s: only %d of %d COMMITs were met", mode, hit, count)
		}
		t.Logf("%s: %d, %d of them left to the caller", mode, count, unknown)
	}
}

// A decision from a replica that lags is a decision from the past. There is one server: what reads and what writes is
// connected to the same one, and a fail-over takes both along.
func TestReadsAreOfTheServerThatWrites(t *testing.T) {
	db := sqldbtest.MariaDB(t)
	var reads, writes string
	const who = "SELECT CONCAT(@@hostname, ' ', @@port, ' ', @@socket, ' ', @@datadir, ' ', DATABASE())"
	if err := db.QueryRowContext(t.Context(), who).Scan(&reads); err != nil {
		t.Fatal(err)
	}
	err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		return tx.QueryRowContext(ctx, who).Scan(&writes)
	})
	if err != nil || reads != writes {
		t.Errorf("%q reads, %q writes (%v)", reads, writes, err)
	}
}

// An old primary that became read-only answers every write with an error and every ping with a smile: the pool must
// leave it for the server that the address leads to now, and soon.
func TestReadOnlyPrimaryIsLeft(t *testing.T) {
	old, fresh := sqldbtest.MariaDBServer(t), sqldbtest.MariaDBServer(t)
	proxy, err := faultproxy.NewMySQL(old.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	for _, server := range []*servers.MariaDB{old, fresh} {
		for _, err := range []error{server.Create(t.Context(), "shop"),
			server.Exec(t.Context(), "CREATE USER shop@'%'"),
			server.Exec(t.Context(), "GRANT ALL ON shop.* TO shop@'%'")} {
			if err != nil {
				t.Fatal(err)
			}
		}
		put(t, sqldbtest.Open(t, server.DSN("shop")), "mug", 10)
	}
	db := sqldbtest.Open(t, "mysql:shop@tcp("+proxy.Addr()+")/shop")
	take := func() error {
		return db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.Update(ctx, "UPDATE skus SET available = available - 1 WHERE sku_id = 'mug'")
			return err
		})
	}
	var wg sync.WaitGroup
	for range 8 { // connections to the old one
		wg.Go(func() {
			if err := take(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := old.Exec(t.Context(), "SET GLOBAL read_only = 1"); err != nil {
		t.Fatal(err)
	}
	if err := take(); !errors.Is(err, sqldb.ErrUnavailable) {
		t.Errorf("read-only: %v", err)
	}
	proxy.Switch(fresh.Addr)
	begin := time.Now()
	for range 8 {
		wg.Go(func() {
			if err := take(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if took := time.Since(begin); took > 30*time.Second { // a connection lives for a minute
		t.Errorf("left after %s", took)
	}
	if n := available(t, db, "mug"); n != 2 {
		t.Errorf("%d left on the new primary: the reads stayed on the old one, or writes were lost", n)
	}
}

// Without the classes a deadlock would reach a buyer, or an unknown COMMIT would be called a failure.
func TestClassify(t *testing.T) {
	my := func(n uint16) error { return fmt.Errorf("wrapped: %w", &mysql.MySQLError{Number: n}) }
	for name, c := range map[string]struct {
		err  error
		want sqldb.Class
	}{
		"deadlock": {my(1213), sqldb.ClassRetry}, "lock wait": {my(1205), sqldb.ClassRetry},
		"snapshot":          {my(1020), sqldb.ClassRetry},
		"group replication": {my(3101), sqldb.ClassRetry}, "nowait": {my(3572), sqldb.ClassRetry},
		"tidb":        {my(9007), sqldb.ClassRetry},
		"tidb schema": {my(8028), sqldb.ClassRetry}, "duplicate": {my(1062), sqldb.ClassDuplicate},
		"read only":    {my(1290), sqldb.ClassDown},
		"read only tx": {my(1792), sqldb.ClassDown}, "super read only": {my(1836), sqldb.ClassDown},
		"too many": {my(1040), sqldb.ClassDown},
		"full":     {my(1114), sqldb.ClassDown}, "syntax": {my(1064), sqldb.ClassOther},
		"check":        {my(4025), sqldb.ClassOther},
		"invalid conn": {mysql.ErrInvalidConn, sqldb.ClassDown}, "bad conn": {driver.ErrBadConn, sqldb.ClassDown},
		"eof":      {io.ErrUnexpectedEOF, sqldb.ClassDown},
		"time out": {os.ErrDeadlineExceeded, sqldb.ClassDown}, "ctx": {context.DeadlineExceeded, sqldb.ClassDown},
		"lost race": {sqldb.ErrLostRace, sqldb.ClassRetry}, "ours": {errors.New("x"), sqldb.ClassOther},
		"none": {nil, sqldb.ClassOther},
	} {
		if got := sqldb.Classify(c.err); got != c.want {
			t.Errorf("%s: class %d, want %d", name, got, c.want)
		}
	}
}

// An error that every order meets is the database's: were it the orders', a slow server or a forgotten GRANT would bury
// all of them after two hours, and a person would have to dig them out. Where waiting does not help, it says what does.
// The numbers are those of dev.mysql.com/doc/mysql-errors/8.4 and of mariadb.com/kb/en/mariadb-error-code-reference.
func TestErrorsOfTheServerAreNobodysOwn(t *testing.T) {
	for want, numbers := range map[sqldb.Class][]uint16{
		sqldb.ClassRetry: {1020, 1205, 1213, 1412, 1615, 1637, 3101, 3572, 8002, 8005, 8022, 8028, 9007},
		sqldb.ClassDown: {1021, 1026, 1030, 1037, 1038, 1040, 1041, 1047, 1053, 1114, 1129, 1152, 1158, 1159, 1160,
			1161, 1180, 1184, 1203, 1206, 1226, 1290, 1317, 1792, 1836, 1927, 1969, 3024, 3032, 3100, 3168, 3169, 4031,
			8027, 8175, 8176, 8229, 9001, 9002, 9003, 9004, 9005, 9008, 9010, 9011},
		sqldb.ClassRefused: {1044, 1045, 1046, 1049, 1054, 1130, 1142, 1143, 1146, 1194, 1195, 1227, 1712, 1820, 1862,
			1877, 3098, 3118},
		// Of the row: too long, out of range, NULL, a CHECK (of either), a foreign key, our own text. And a
		// packet that is too large, which half of a page is not.
		sqldb.ClassOther: {1406, 1264, 1048, 3819, 4025, 1452, 1064, 1153},
	} {
		for _, n := range numbers {
			err := fmt.Errorf("wrapped: %w", &mysql.MySQLError{Number: n, Message: "m"})
			if got := sqldb.Classify(err); got != want {
				t.Errorf("%d: class %d, want %d", n, got, want)
			}
			if advice := sqldb.Advice(err); want == sqldb.ClassRefused && advice == "" ||
				want != sqldb.ClassRefused && want != sqldb.ClassDown && advice != "" {
				t.Errorf("%d: a person is told %q", n, advice)
			}
			if want == sqldb.ClassRefused && !errors.Is(sqldb.Wrap("x", err), sqldb.ErrRefused) {
				t.Errorf("%d: %v", n, sqldb.Wrap("x", err))
			}
		}
	}
	for _, n := range []uint16{1969, 3024, 1317, 1040, 1021, 1114, 1290} {
		if sqldb.Advice(&mysql.MySQLError{Number: n}) == "" {
			t.Errorf("%d: nobody says what to do", n)
		}
	}
}

// The same for SQLite, by its files: one that is none, one that may not be written, one without our tables.
func TestErrorsOfAFileAreNobodysOwn(t *testing.T) {
	dir := t.TempDir()
	none := filepath.Join(dir, "none.db")
	if err := os.WriteFile(none, bytes.Repeat([]byte("no database "), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sqldb.Open(t.Context(), "sqlite:"+none); sqldb.Classify(err) != sqldb.ClassRefused {
		t.Errorf("a file that is no database: %v", err)
	}
	empty, err := sqldb.Open(t.Context(), "sqlite:"+filepath.Join(dir, "empty.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = empty.Close() })
	var told []string
	empty.OnTrouble(func(advice string, _ error) { told = append(told, advice) })
	for range 3 {
		err := empty.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.Update(ctx, "UPDATE skus SET available = 0")
			return err
		})
		if !errors.Is(err, sqldb.ErrRefused) || !errors.Is(err, sqldb.ErrUnavailable) {
			t.Errorf("no tables: %v", err)
		}
	}
	if len(told) != 1 || !strings.Contains(told[0], "migrate up") {
		t.Errorf("a person is told %q", told)
	}
}

// A server that may lose acknowledged orders in a power cut must be refused, with the statement that mends it.
func TestSafety(t *testing.T) {
	server := sqldbtest.MariaDBServer(t)
	if err := server.Create(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	db := sqldbtest.Open(t, server.DSN("shop"))
	level := func() sqldb.Level {
		t.Helper()
		found, err := db.Safety(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			if f.Level != sqldb.LevelOK && (f.Why == "" || f.Fix == "") {
				t.Errorf("%s: no reason or no way out", f.ID)
			}
			if f.ID == "mysql.flush_log" {
				return f.Level
			}
		}
		return ""
	}
	if level() != sqldb.LevelOK {
		t.Error("a safe server is refused")
	}
	if err := server.Exec(t.Context(), "SET GLOBAL innodb_flush_log_at_trx_commit = 2"); err != nil {
		t.Fatal(err)
	}
	if level() != sqldb.LevelFail {
		t.Error("an unsafe server passes")
	}
	lite := sqldbtest.SQLite(t)
	if found, err := lite.Safety(t.Context()); err != nil || found[0].Level != sqldb.LevelOK {
		t.Error(found, err)
	}
}
