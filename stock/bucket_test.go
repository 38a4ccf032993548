package stock_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/stock"
)

// gatedSKU puts a SKU with a gate.
func gatedSKU(t testing.TB, db *sqldb.DB, id string, units int64) {
	t.Helper()
	put(t, db, id, units)
	setGate(t, db, id, stock.GateLocal)
}

// setGate makes or ends a gate.
func setGate(t testing.TB, db *sqldb.DB, id string, mode stock.GateMode) {
	t.Helper()
	_, err := admin(db).SetGate(t.Context(), stock.GateChange{SkuID: id, Mode: mode, Actor: "a", Reason: "r"})
	if err != nil {
		t.Fatal(err)
	}
}

// granted moves units into a new bucket and gives how many.
func granted(t testing.TB, db *sqldb.DB, bucket int64, id string, want int64) (units int64) {
	t.Helper()
	g := stock.Grant{Bucket: bucket, SkuID: id, Home: "p", Seq: 1, Want: want, At: time.Now()}
	err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) (err error) {
		units, err = g.Move(ctx, tx)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return units
}

// A grant that was under way while the gate was taken away would leave a bucket that no recall looks for: its units
// were refused to everybody, and for ever when its process died.
func TestNothingIsGrantedWithoutAGate(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		gatedSKU(t, db, "mug", 300)
		setGate(t, db, "mug", stock.GateOff)
		if units := granted(t, db, 1, "mug", 80); units != 0 {
			t.Fatal("granted", units)
		}
	})
}

// A recall that looks for buckets by a snapshot from before it had the lock misses one that was filled meanwhile, and
// somebody is refused what is there.
func TestRecallFindsABucketOfMeanwhile(t *testing.T) {
	sqldbtest.Races(t, func(t *testing.T, db *sqldb.DB) {
		gatedSKU(t, db, "mug", 300)
		fill := func() {
			if units := granted(t, db, 1, "mug", 80); units != 80 {
				t.Fatal("granted", units)
			}
		}
		meanwhile := db.Engine() != sqldb.SQLite
		if !meanwhile { // one writer: it is filled before or after, and after it there is nothing to be found
			fill()
		}
		var short []stock.Short
		errStop := errors.New("stop")
		runs := 0
		err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			if runs++; runs > 5 {
				return errStop
			}
			var n int64
			if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM stock_buckets`).Scan(&n); err != nil {
				return err // the transaction's snapshot is of now
			}
			if runs == 1 && meanwhile {
				fill()
			}
			shelf, err := stock.Open(ctx, tx, stock.Want{Units: map[string]int64{"mug": 250}, At: time.Now()})
			if err != nil {
				return err
			}
			short = shelf.Take("o1", []stock.Line{line("mug", 250)}, nil)
			return shelf.Commit(ctx, tx, time.Now())
		})
		if err != nil || short != nil {
			t.Fatalf("refused with 300 unsold, in run %d: %+v %v", runs, short, err)
		}
	})
}

// Every process asks for the gates four times a second: read with those that were ended long ago, a shop that has had
// many sales would be busy with them for ever.
func TestEndedGatesAreNotRead(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		for i := range 200 {
			id := fmt.Sprint("old", i)
			gatedSKU(t, db, id, 1)
			setGate(t, db, id, stock.GateOff)
		}
		gatedSKU(t, db, "mug", 1)
		if steps := sqldbtest.ReadsByIndex(t, db, stock.SelectKept, stock.KeptArgs()...); steps < 4 {
			t.Error(steps, "steps")
		}
		if gates, err := admin(db).Gates(t.Context()); err != nil || len(gates) != 1 || gates[0].SkuID != "mug" {
			t.Error(gates, err)
		}
	})
}

// Of a sale in which one SKU has a queue and another has none, the units that somebody waits for were called back, and
// the last ones of the other were sold to nobody.
func TestASaleHasAQueueOrNone(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		put(t, db, "cup", 10)
		put(t, db, "mug", 10)
		set := func(id string, rate int64) error {
			_, err := admin(db).SetGate(t.Context(), stock.GateChange{SkuID: id, Sale: "both", Mode: stock.GateRedis,
				Rate: rate, Actor: "a", Reason: "r"})
			return err
		}
		if err := set("cup", 100); err != nil {
			t.Fatal(err)
		}
		var invalid *stock.InvalidError
		if err := set("mug", 0); !errors.As(err, &invalid) {
			t.Error("none beside one:", err)
		}
		if err := set("mug", 200); err != nil {
			t.Error("another rate:", err)
		}
		if err := set("cup", 0); !errors.As(err, &invalid) {
			t.Error("it is taken away from one:", err)
		}
		setGate(t, db, "mug", stock.GateOff)
		if err := set("cup", 0); err != nil {
			t.Error("it is taken away from the last:", err)
		}
	})
}
