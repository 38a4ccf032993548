package sqldb_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/migrations/sqldb/sqldbtest/alisql"
)

const takeOne = `UPDATE skus
SET available = available - 1
WHERE sku_id IN (?)
  AND available >= 1`

// takeMug writes a row and takes a mug, as its last statement.
func takeMug(ctx context.Context, tx *sqldb.Tx, row string) error {
	if _, err := tx.ExecContext(ctx, insertSKU, row, 1); err != nil {
		return err
	}
	return tx.UpdateLast(ctx, 1, "sku_id", takeOne, "mug")
}

// exists counts the SKUs of this id.
func exists(t *testing.T, db *sqldb.DB, id string) (n int) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM skus WHERE sku_id = ?", id).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// fromUpdate gives the statements of the one connection that sent an UPDATE, from that on.
func fromUpdate(t *testing.T, heard []alisql.Statement) []string {
	t.Helper()
	update := func(s alisql.Statement) bool { return strings.HasPrefix(s.Text, "UPDATE") }
	at := slices.IndexFunc(heard, update)
	if at < 0 {
		t.Fatalf("no UPDATE among %v", heard)
	}
	var texts []string
	for _, s := range heard[at:] {
		if s.Conn == heard[at].Conn {
			texts = append(texts, s.Text)
		}
	}
	return texts
}

// A statement that commits and is not the last one would commit half a transaction; a condition behind
// COMMIT_ON_SUCCESS that the server cannot read would let it commit whatever the rows; and a server without the
// variables must be told nothing of all this.
func TestLastUpdateCarriesTheHints(t *testing.T) {
	const one = "\nSET available = available - 1\nWHERE sku_id = 'mug'\n  AND available >= 1"
	const in = "\nSET available = available - 1\nWHERE sku_id IN ('mug')\n  AND available >= 1"
	const ends = "TARGET_AFFECT_ROW(1) ROLLBACK_ON_FAIL COMMIT_ON_SUCCESS */ skus"
	for _, c := range []struct {
		mode  alisql.Mode
		queue string
		want  string
	}{
		{alisql.Obey, "sku_id", "UPDATE /*+ ccl_queue_field(sku_id) " + ends + one},
		{alisql.Obey, "", "UPDATE /*+ " + ends + in},
		{alisql.Obey, "available", "UPDATE /*+ " + ends + in}, // not a key of the statement
		{alisql.Ignore, "sku_id", "UPDATE /*+ ccl_queue_field(sku_id) " + ends + one},
		{alisql.Plain, "sku_id", "UPDATE skus" + in},
	} {
		t.Run(string(c.mode)+" "+c.queue, func(t *testing.T) {
			db, server := sqldbtest.AliSQL(t, c.mode)
			put(t, db, "mug", 5)
			server.Heard()
			if db.HasHints() != (c.mode != alisql.Plain) {
				t.Errorf("hints: %v", db.HasHints())
			}
			err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
				return tx.UpdateLast(ctx, 1, c.queue, takeOne, "mug")
			})
			if err != nil {
				t.Fatal(err)
			}
			if got := fromUpdate(t, server.Heard()); !slices.Equal(got, []string{c.want, "COMMIT"}) {
				t.Errorf("said %q, want %q and COMMIT", got, c.want)
			}
			if n := available(t, db, "mug"); n != 4 {
				t.Errorf("%d mugs", n)
			}
		})
	}
}

// Without the stand-in's hints the row is free only after COMMIT: a stand-in that does not commit by the statement
// would make every test here green for nothing.
func TestStatementWithHintsIsTheCommit(t *testing.T) {
	db, _ := sqldbtest.AliSQL(t, alisql.Obey)
	put(t, db, "mug", 5)
	err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		if err := takeMug(ctx, tx, "row"); err != nil {
			return err
		}
		if exists(t, db, "row") != 1 || available(t, db, "mug") != 4 {
			t.Error("not committed by the statement")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A batch that comes too late for the shelf must leave nothing, and be decided again: as a plain error it would be
// answered to buyers who could be served.
func TestFewerRowsAreALostRaceEverywhere(t *testing.T) {
	for _, mode := range []alisql.Mode{alisql.Obey, alisql.Ignore, alisql.Plain} {
		t.Run(string(mode), func(t *testing.T) {
			db, _ := sqldbtest.AliSQL(t, mode)
			put(t, db, "mug", 0)
			runs := 0
			err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
				if runs++; runs == 1 {
					err := takeMug(ctx, tx, "row")
					if !errors.Is(err, sqldb.ErrLostRace) {
						t.Errorf("%v is no lost race", err)
					}
					return err
				}
				if tx.MayBeDone() {
					t.Error("the server has said that it is not done")
				}
				return nil // sold out
			})
			if err != nil || runs != 2 {
				t.Errorf("%d runs, %v", runs, err)
			}
			if exists(t, db, "row") != 0 || available(t, db, "mug") != 0 {
				t.Error("something was written")
			}
			if db.HasHints() != (mode != alisql.Plain) {
				t.Error("a lost race costs the hints")
			}
		})
	}
}

// The answer that is lost is that of a COMMIT. Taken for that of an UPDATE, "nothing happened", the run that follows
// would not know its own work, and a caller who gives up would be told that nothing was done.
func TestLostAnswerOfTheLastUpdateIsUnknown(t *testing.T) {
	for _, c := range []struct {
		cut   alisql.Cut
		every int // 2: the first of two statements, and not the repeat
		done  bool
	}{{alisql.CutBefore, 2, false}, {alisql.CutAfter, 2, true},
		{alisql.CutBefore, 1, false}, {alisql.CutAfter, 1, true}} {
		t.Run(string(c.cut), func(t *testing.T) {
			db, server := sqldbtest.AliSQL(t, alisql.Obey)
			put(t, db, "mug", 5)
			server.Every(1, c.cut)
			runs := 0
			err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
				if runs++; tx.MayBeDone() != (runs > 1) {
					t.Errorf("run %d: may be done: %v", runs, tx.MayBeDone())
				}
				if runs > 1 && c.every == 2 {
					server.Every(0, alisql.NoCut)
				}
				err := takeMug(ctx, tx, "row")
				if sqldb.IsDuplicate(err) && c.every == 2 {
					return nil // by its key: the first run's work
				}
				if sqldb.IsDuplicate(err) {
					return sqldb.ErrLostRace // not answered until the time is up
				}
				return err
			})
			if c.every == 2 && (err != nil || runs != 2 || available(t, db, "mug") != 4 || exists(t, db, "row") != 1) {
				t.Errorf("%d runs, %v, %d mugs", runs, err, available(t, db, "mug"))
			}
			done := exists(t, db, "row") == 1
			if c.every == 1 && (!errors.Is(err, sqldb.ErrUnknown) || done != c.done) {
				t.Errorf("done: %v, %v", done, err)
			}
		})
	}
}

// A process that stood still in a transaction goes on when its caller has been told no: where the last UPDATE is the
// COMMIT, it must not be sent then.
func TestNoLastUpdateAfterItsTime(t *testing.T) {
	db, _ := sqldbtest.AliSQL(t, alisql.Obey)
	put(t, db, "mug", 5)
	err := db.InTx(overdue{t.Context()}, func(ctx context.Context, tx *sqldb.Tx) error {
		if _, err := tx.ExecContext(context.WithoutCancel(ctx), insertSKU, "row", 1); err != nil {
			return err
		}
		return tx.UpdateLast(overdue{context.WithoutCancel(ctx)}, 1, "sku_id", takeOne, "mug")
	})
	if !errors.Is(err, sqldb.ErrUnavailable) || errors.Is(err, sqldb.ErrUnknown) {
		t.Error(err)
	}
	if exists(t, db, "row") != 0 || available(t, db, "mug") != 5 {
		t.Error("committed after its time")
	}
}

// turning is a context whose time is up from a moment on, without its timer firing.
type turning struct {
	context.Context
	over *atomic.Bool
}

func (c turning) Deadline() (time.Time, bool) {
	if c.over.Load() {
		return time.Now().Add(-time.Second), true
	}
	return time.Now().Add(time.Second), true // sooner than InTx's own
}

// When the time is up behind the last UPDATE, the work is done: "nothing happened" would be a lie.
func TestTimeThatIsUpBehindTheLastUpdate(t *testing.T) {
	for _, c := range []struct {
		name string
		up   func(cancel func(), over *atomic.Bool, server *alisql.Server)
	}{
		{"the caller goes", func(cancel func(), _ *atomic.Bool, server *alisql.Server) {
			cancel()
			end := time.Now().Add(time.Minute)
			isRollback := func(s alisql.Statement) bool { return s.Text == "ROLLBACK" } // by database/sql
			for !slices.ContainsFunc(server.Heard(), isRollback) && time.Now().Before(end) {
				runtime.Gosched()
			}
		}},
		{"the process stood still", func(_ func(), over *atomic.Bool, _ *alisql.Server) { over.Store(true) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			db, server := sqldbtest.AliSQL(t, alisql.Obey)
			put(t, db, "mug", 5)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			over := new(atomic.Bool)
			err := db.InTx(turning{ctx, over}, func(ctx context.Context, tx *sqldb.Tx) error {
				err := takeMug(ctx, tx, "row")
				c.up(cancel, over, server)
				return err
			})
			if err != nil && !errors.Is(err, sqldb.ErrUnknown) {
				t.Errorf("%v for what was done", err)
			}
			if exists(t, db, "row") != 1 {
				t.Error("not done")
			}
		})
	}
}

// A server that has the variables and refuses the hints would refuse every order for ever.
func TestRefusedHintsCostTheHints(t *testing.T) {
	db, server := sqldbtest.AliSQL(t, alisql.Refuse)
	put(t, db, "mug", 5)
	var advice []string
	db.OnTrouble(func(a string, _ error) { advice = append(advice, a) })
	for _, row := range []string{"one", "two"} {
		if err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			return takeMug(ctx, tx, row)
		}); err != nil {
			t.Error(err)
		}
	}
	hinted := 0
	for _, s := range server.Heard() {
		if strings.Contains(s.Text, "COMMIT_ON_SUCCESS") {
			hinted++
		}
	}
	if hinted != 1 || db.HasHints() || available(t, db, "mug") != 3 || len(advice) != 1 {
		t.Errorf("%d hints sent, %d mugs, told %q", hinted, available(t, db, "mug"), advice)
	}
}

// What follows the last statement would not be in the transaction of a server with hints, and would be in that of all
// others: no test without such a server would see it.
func TestNothingFollowsTheLastStatement(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		put(t, db, "mug", 5)
		for name, follow := range map[string]func(ctx context.Context, tx *sqldb.Tx) error{
			"exec": func(ctx context.Context, tx *sqldb.Tx) error {
				_, err := tx.ExecContext(ctx, insertSKU, "after", 1)
				return err
			},
			"query": func(ctx context.Context, tx *sqldb.Tx) error {
				_, err := sqldb.Known(ctx, tx, "SELECT 1")
				return err
			},
			"row": func(ctx context.Context, tx *sqldb.Tx) error {
				n := 0
				return tx.QueryRowContext(ctx, "SELECT 1").Scan(&n)
			},
		} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%s: a statement after the last one", name)
					}
				}()
				_ = db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
					if err := takeMug(ctx, tx, name); err != nil {
						t.Error(err)
					}
					return follow(ctx, tx)
				})
			}()
			if exists(t, db, name) != 0 {
				t.Errorf("%s: written by a transaction that panicked", name)
			}
		}
	})
}

// Whoever reads what doctor says wants to know whether the server has them.
func TestSafetyTellsOfHints(t *testing.T) {
	for mode, want := range map[alisql.Mode]bool{alisql.Obey: true, alisql.Plain: false} {
		db, _ := sqldbtest.AliSQL(t, mode)
		found, err := db.Safety(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		said := slices.ContainsFunc(found, func(f sqldb.Finding) bool {
			return f.ID == "mysql.inventory_hints" && f.Level == sqldb.LevelOK
		})
		if said != want {
			t.Errorf("%s: %v", mode, found)
		}
	}
}
