package stock_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/stock"
)

// grant moves units of a SKU into a new bucket.
func grant(t testing.TB, db *sqldb.DB, sku string, bucket int64, home string, units int64) {
	t.Helper()
	err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		g := stock.Grant{Bucket: bucket, SkuID: sku, Home: home, Seq: 1, Want: units, At: time.Now()}
		n, err := g.Move(ctx, tx)
		if err == nil && n != units {
			t.Fatalf("%d of %d units were moved", n, units)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// stocked puts a SKU of 600 on the shelf: 490 in the pool, 60 with a process, 50 in Redis, which those who wait in the
// queue of its sale are promised.
func stocked(t testing.TB, db *sqldb.DB, id string, bucket int64) { stockedAt(t, db, id, bucket, 100) }

// stockedAt is stocked with a queue of so many orders a second, 0 for none.
func stockedAt(t testing.TB, db *sqldb.DB, id string, bucket, rate int64) {
	t.Helper()
	put(t, db, id, 600)
	_, err := admin(db).SetGate(t.Context(), stock.GateChange{SkuID: id, Mode: stock.GateRedis, Rate: rate,
		Actor: "cli:test", Reason: "a sale"})
	if err != nil {
		t.Fatal(err)
	}
	grant(t, db, id, bucket, "p1", 60)
	grant(t, db, id, bucket+1, stock.HomeRedis, 50)
}

// holds fails unless a SKU has so much in its pool and in its buckets, by every way to read it.
func holds(t testing.TB, db *sqldb.DB, id string, pool, allocated int64) {
	t.Helper()
	one, err := admin(db).Find(t.Context(), id)
	many, err2 := admin(db).FindMany(t.Context(), []string{id})
	all, err3 := admin(db).List(t.Context(), "", 100)
	if err := errors.Join(err, err2, err3); err != nil || len(many) != 1 {
		t.Fatal(many, err)
	}
	for _, s := range append(append(all, one), many...) {
		if s.SkuID == id && (s.Available != pool || s.Allocated != allocated) {
			t.Fatalf("%s has %d in the pool and %d in buckets, want %d and %d", id, s.Available, s.Allocated, pool,
				allocated)
		}
	}
	conserved(t, db)
}

// Judged by the pool alone a count of the shelf would be refused while a part of it is in buckets, or a replenish
// would tell a person half of what is there; and what a process holds would keep a loss from being booked.
func TestChangesCountWhatIsAllocated(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		stocked(t, db, "mug", 1)
		holds(t, db, "mug", 490, 110)
		change := func(key string, delta int64, expected *int64) (stock.Changed, error) {
			return admin(db).Adjust(t.Context(), stock.Change{SkuID: "mug", Delta: delta, ExpectedAvailable: expected,
				Key: key, Actor: "op", Reason: "count"})
		}
		done, err := admin(db).Replenish(t.Context(), stock.Change{SkuID: "mug", Delta: 10, Key: "k", Actor: "op",
			Reason: "PO-7"})
		if err != nil || *done.Before != 600 || *done.After != 610 || done.SKU.Available != 500 ||
			done.SKU.Allocated != 110 {
			t.Fatalf("%+v %v", done, err)
		}
		holds(t, db, "mug", 500, 110)

		var below *stock.BelowZeroError
		if _, err = change("all", -611, nil); !errors.As(err, &below) || below.Available != 610 {
			t.Fatal(err)
		}
		var elsewhere *stock.ElsewhereError
		if _, err = change("redis", -561, nil); !errors.As(err, &elsewhere) || elsewhere.Elsewhere != 50 ||
			elsewhere.Pool != 560 || !strings.Contains(err.Error(), "50 units of mug are in buckets of a sale") {
			t.Fatal(err)
		}
		pool := int64(500)
		var changed *stock.ChangedError
		if _, err = change("pool", -1, &pool); !errors.As(err, &changed) || changed.Available != 610 {
			t.Fatal(err)
		}
		holds(t, db, "mug", 500, 110) // what was refused has called nothing back

		if done, err = change("small", -100, nil); err != nil || *done.Before != 610 || *done.After != 510 {
			t.Fatalf("%+v %v", done, err)
		}
		holds(t, db, "mug", 400, 110)
		if done, err = change("large", -420, nil); err != nil || *done.Before != 510 || *done.After != 90 ||
			done.SKU.Allocated != 50 {
			t.Fatalf("%+v %v", done, err)
		}
		holds(t, db, "mug", 40, 50) // the process has nothing any more

		expected := int64(90)
		if done, err = change("counted", -1, &expected); err != nil || *done.After != 89 {
			t.Fatalf("%+v %v", done, err)
		}
		holds(t, db, "mug", 39, 50)
	})
}

// Somebody who says what he has counted means the whole shelf: what processes hold comes back for it.
func TestExpectedAvailableCallsBack(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		stocked(t, db, "mug", 1)
		expected := int64(600)
		done, err := admin(db).Adjust(t.Context(), stock.Change{SkuID: "mug", Delta: -1, ExpectedAvailable: &expected,
			Key: "k", Actor: "op", Reason: "count"})
		if err != nil || *done.Before != 600 || *done.After != 599 {
			t.Fatalf("%+v %v", done, err)
		}
		holds(t, db, "mug", 549, 50)
	})
}

// A file that sets a shelf to the pool alone would create what is in buckets a second time, and one that was exported
// would lose it.
func TestImportCountsWhatIsAllocated(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		stocked(t, db, "mug", 1)
		stocked(t, db, "cup", 11)
		var file bytes.Buffer
		err := admin(db).Export(t.Context(), &file)
		if err != nil || !strings.Contains(file.String(), "mug,mug,100,600\n") {
			t.Fatalf("%v\n%s", err, file.String())
		}
		const head = "sku_id,title,price_fen,quantity\n"
		read := func(text string, mode stock.Mode) error {
			t.Helper()
			_, err := importText(t.Context(), db, head+text, stock.ImportOptions{Mode: mode})
			return err
		}
		if err := read("mug,mug,100,7\n", stock.ModeAdd); err != nil {
			t.Fatal(err)
		}
		holds(t, db, "mug", 497, 110) // nothing had to come back
		if err := read("mug,mug,100,600\n", stock.ModeSet); err != nil {
			t.Fatal(err)
		}
		holds(t, db, "mug", 550, 50)
		holds(t, db, "cup", 490, 110) // in no line
		if err := read("mug,mug,100,50\n", stock.ModeSet); err != nil {
			t.Fatal(err)
		}
		holds(t, db, "mug", 0, 50)
		err = read("cup,cup,100,3\nmug,mug,100,49\n", stock.ModeSet)
		var elsewhere *stock.ElsewhereError
		if !errors.As(err, &elsewhere) || !strings.Contains(err.Error(), "line 2: 50 units of cup are in buckets") {
			t.Fatal(err)
		}
		holds(t, db, "mug", 0, 50)
		holds(t, db, "cup", 490, 110)
	})
}

// Whoever counts the shelf in the middle of a sale would have to end it first, although a placement takes the very same
// units back: without a queue nobody is promised what Redis holds.
func TestChangesCallBackWhatRedisHolds(t *testing.T) {
	ways := map[string]func(db *sqldb.DB) error{
		"adjust": func(db *sqldb.DB) error {
			_, err := admin(db).Adjust(t.Context(), stock.Change{SkuID: "mug", Delta: -570, Key: "k", Actor: "op",
				Reason: "count"})
			return err
		},
		"a number that was counted": func(db *sqldb.DB) error {
			all := int64(600)
			_, err := admin(db).Adjust(t.Context(), stock.Change{SkuID: "mug", Delta: -570, ExpectedAvailable: &all,
				Key: "k", Actor: "op", Reason: "count"})
			return err
		},
		"import": func(db *sqldb.DB) error {
			_, err := importText(t.Context(), db, "sku_id,title,price_fen,quantity\nmug,mug,100,30\n",
				stock.ImportOptions{Mode: stock.ModeSet})
			return err
		},
	}
	for name, change := range ways {
		t.Run(name, func(t *testing.T) {
			sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
				stockedAt(t, db, "mug", 1, 0)
				stockedAt(t, db, "cup", 11, 0)
				if err := change(db); err != nil {
					t.Fatal(err)
				}
				holds(t, db, "mug", 30, 0)
				holds(t, db, "cup", 490, 110) // nobody spoke of it
			})
		})
	}
}

// A recount that saw the pool alone would take away what is in buckets, or write a loss of it into the flows.
func TestRecountCountsWhatIsAllocated(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		stocked(t, db, "mug", 1)
		recount := func(key string) (r stock.Recounted, err error) {
			err = db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
				r, err = stock.Recount(ctx, tx, "mug", key, "op", "count", time.Now(), nil)
				return err
			})
			return r, err
		}
		by := func(delta int64) {
			t.Helper()
			if _, err := db.Pool().ExecContext(t.Context(), `UPDATE skus
SET available = available + ?`, delta); err != nil {
				t.Fatal(err)
			}
		}
		if r, err := recount("k0"); err != nil || r != (stock.Recounted{Was: 600, Flows: 600, Now: 600}) {
			t.Fatal(r, err)
		}
		holds(t, db, "mug", 490, 110) // nothing to do, nothing called back
		by(+5)
		if r, err := recount("k1"); err != nil || r != (stock.Recounted{Was: 605, Flows: 600, Now: 600}) {
			t.Fatal(r, err)
		}
		holds(t, db, "mug", 550, 50)
		by(-7)
		if r, err := recount("k2"); err != nil || r != (stock.Recounted{Was: 593, Flows: 600, Now: 593}) {
			t.Fatal(r, err)
		}
		holds(t, db, "mug", 543, 50)
		// All of the pool is sold, and the flows say that less is left than is in Redis.
		if _, err := deduct(db, "o", line("mug", 543)); err != nil {
			t.Fatal(err)
		}
		if _, err := db.Pool().ExecContext(t.Context(), `UPDATE stock_flows
SET delta = delta - 3
WHERE order_no = 'o'`); err != nil {
			t.Fatal(err)
		}
		var elsewhere *stock.ElsewhereError
		if _, err := recount("k3"); !errors.As(err, &elsewhere) || elsewhere.Elsewhere != 50 {
			t.Fatal(err)
		}
		if left(t, db, "mug") != 0 {
			t.Fatal(left(t, db, "mug"))
		}
	})
}

// Who is shown units that nobody sells tries to buy them again and again.
func TestMarkedAsSoldOutIsRead(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		stocked(t, db, "mug", 1)
		for until, want := range map[int64]bool{stock.SoldOut: true, time.Now().UnixMilli(): false} {
			if _, err := db.Pool().ExecContext(t.Context(), `UPDATE skus
SET closed_until = ?`, until); err != nil {
				t.Fatal(err)
			}
			if s, err := admin(db).Find(t.Context(), "mug"); err != nil || s.SoldOut != want {
				t.Errorf("%+v %v", s, err)
			}
		}
	})
}
