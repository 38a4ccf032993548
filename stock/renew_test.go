package stock_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/stock"
)

// gated puts a SKU of 600 on the shelf and gives it a gate.
func gated(t testing.TB, db *sqldb.DB, id, sale string, mode stock.GateMode) {
	t.Helper()
	put(t, db, id, 600)
	_, err := admin(db).SetGate(t.Context(), stock.GateChange{SkuID: id, Sale: sale, Mode: mode, Actor: "cli:test",
		Reason: "a sale"})
	if err != nil {
		t.Fatal(err)
	}
}

// gateOf reads the gate of a SKU.
func gateOf(t testing.TB, db *sqldb.DB, id string) stock.Gate {
	t.Helper()
	g, found, err := admin(db).FindGate(t.Context(), id)
	if err != nil || !found {
		t.Fatal(found, err)
	}
	return g
}

// SKUs of one sale share its buckets: a number that only one of them knew would have the next keeper begin another
// epoch, and units that stayed in buckets of before would be sold by nobody.
func TestScalingIsOfTheWholeSale(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		gated(t, db, "cup", "11-11", stock.GateRedis)
		gated(t, db, "mug", "11-11", stock.GateRedis)
		gated(t, db, "pot", "another", stock.GateRedis)
		grant(t, db, "mug", 1, stock.HomeRedis, 50)
		grant(t, db, "mug", 2, "p1", 20)
		grant(t, db, "pot", 3, stock.HomeRedis, 50)
		if _, err := admin(db).NewEpoch(t.Context(), "11-11", map[string]int64{"mug": 0}, 6, false); err != nil {
			t.Fatal(err)
		}
		holds(t, db, "mug", 600, 0)
		grantIn(t, db, "mug", 4, 7, 50)
		r := stock.Renewal{SkuID: "cup", Buckets: 4, Actor: "li", Reason: "more of them", DryRun: true,
			IfVersions: map[string]int64{"cup": 1}}
		for range 2 { // a dry run says the same as the other, and again
			done, err := admin(db).RenewBuckets(t.Context(), r)
			if err != nil || done.Sale != "11-11" || done.Epoch != 8 || len(done.Gates) != 2 ||
				done.Gates[1].SkuID != "mug" || done.Gates[1].Available != 600 || done.Gates[1].Allocated() != 50 ||
				done.Gates[0].Version != 2 || done.Gates[0].Gate.Buckets != 4 {
				t.Fatalf("%+v %v", done, err)
			}
			if r.DryRun {
				holds(t, db, "mug", 550, 50)
				if g := gateOf(t, db, "cup"); g.Version != 1 || g.Buckets != 1 || g.Epoch != 0 || g.Reason != "a sale" {
					t.Fatalf("a dry run has changed %+v", g)
				}
			}
			r.DryRun = false
		}
		for _, id := range []string{"cup", "mug"} {
			g := gateOf(t, db, id)
			if g.Version != 2 || g.Buckets != 4 || g.Epoch != 8 || g.Actor != "li" || g.Reason != "more of them" {
				t.Errorf("%+v", g)
			}
		}
		holds(t, db, "mug", 600, 0)
		holds(t, db, "pot", 550, 50) // another sale
		if _, err := admin(db).RenewBuckets(t.Context(), r); !errors.Is(err, stock.ErrGateVersion) {
			t.Errorf("acted on a gate that has changed: %v", err)
		}
		r.IfVersions, r.SkuID, r.Sale, r.Buckets = nil, "", "11-11", 0
		if done, err := admin(db).RenewBuckets(t.Context(), r); err != nil || done.Epoch != 9 ||
			done.Gates[1].Gate.Buckets != 4 {
			t.Errorf("%+v %v", done, err)
		}
	})
}

// grantIn moves units into a bucket in Redis of an epoch.
func grantIn(t testing.TB, db *sqldb.DB, sku string, bucket, epoch, units int64) {
	t.Helper()
	err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		g := stock.Grant{Bucket: bucket, SkuID: sku, Home: stock.HomeRedis, Epoch: epoch, Seq: 1, Want: units,
			At: time.Now()}
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

// In mode local each SKU has buckets of its own: nobody else's are taken for it. And a person who is told "done" of a
// sale that is over, or has no number of buckets, waits for what never comes.
func TestRenewalOfALocalSale(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		gated(t, db, "cup", "11-11", stock.GateLocal)
		gated(t, db, "mug", "11-11", stock.GateLocal)
		gated(t, db, "off", "", stock.GateLocal)
		put(t, db, "none", 600)
		if _, err := admin(db).SetGate(t.Context(), stock.GateChange{SkuID: "off", Mode: stock.GateOff, Actor: "li",
			Reason: "over"}); err != nil {
			t.Fatal(err)
		}
		grant(t, db, "mug", 1, "p1", 50)
		grant(t, db, "cup", 2, "p1", 50)
		renew := func(r stock.Renewal) error {
			r.Actor, r.Reason = "li", "doubt"
			_, err := admin(db).RenewBuckets(t.Context(), r)
			return err
		}
		var invalid *stock.InvalidError
		for text, r := range map[string]stock.Renewal{
			"a bucket for each process":    {SkuID: "mug", Buckets: 2},
			"off is in no sale":            {SkuID: "off"},
			"none is in no sale":           {SkuID: "none"},
			"no such sale":                 {Sale: "12-12"},
			"no such sale is under way: 1": {Sale: "11-11", Buckets: 2}, // in Redis
			"buckets":                      {SkuID: "mug", Buckets: 65},
			"sale":                         {},
		} {
			if err := renew(r); !errors.As(err, &invalid) || !strings.Contains(err.Error(), text) {
				t.Errorf("%+v: %v, want %q", r, err, text)
			}
		}
		if err := renew(stock.Renewal{SkuID: "nothing"}); !errors.Is(err, stock.ErrSKUNotFound) {
			t.Error(err)
		}
		holds(t, db, "mug", 550, 50)
		if err := renew(stock.Renewal{SkuID: "mug"}); err != nil {
			t.Fatal(err)
		}
		holds(t, db, "mug", 600, 0)
		holds(t, db, "cup", 550, 50)
		if err := renew(stock.Renewal{Sale: "11-11"}); err != nil {
			t.Fatal(err)
		}
		holds(t, db, "cup", 600, 0)
	})
}

// Two operators and the keepers of a sale act at once: each unit is in one place all the same, and all gates of the
// sale have one epoch in the end, or its buckets would be given up again and again.
func TestRenewalsAndKeepersAtOnce(t *testing.T) {
	sqldbtest.Races(t, func(t *testing.T, db *sqldb.DB) {
		gated(t, db, "cup", "11-11", stock.GateRedis)
		gated(t, db, "mug", "11-11", stock.GateRedis)
		ends := make(chan error, 3)
		go func() { // a keeper
			var err error
			for i := int64(1); i <= 20 && err == nil; i++ {
				epochs := map[string]int64{}
				for _, id := range []string{"cup", "mug"} {
					epochs[id] = gateOf(t, db, id).Epoch
				}
				_, err = admin(db).NewEpoch(t.Context(), "11-11", epochs, 0, false)
				if err == nil {
					err = db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
						g := stock.Grant{Bucket: i, SkuID: "mug", Home: stock.HomeRedis, Seq: 1, Want: 50,
							Epoch: gateOf(t, db, "mug").Epoch, At: time.Now()}
						_, err := g.Move(ctx, tx)
						return err
					})
				}
			}
			ends <- err
		}()
		for _, who := range []string{"li", "wang"} {
			go func() {
				var err error
				for i := int64(1); i <= 20 && err == nil; i++ {
					_, err = admin(db).RenewBuckets(t.Context(), stock.Renewal{SkuID: map[string]string{"li": "cup",
						"wang": "mug"}[who], Buckets: i, Actor: who, Reason: "again"})
				}
				ends <- err
			}()
		}
		for range 3 {
			if err := <-ends; err != nil {
				t.Error(err)
			}
		}
		cup, mug := gateOf(t, db, "cup"), gateOf(t, db, "mug")
		if cup.Epoch != mug.Epoch || cup.Version != 41 || mug.Version != 41 || cup.Buckets != 20 || mug.Buckets != 20 {
			t.Errorf("%+v\n%+v", cup, mug)
		}
		conserved(t, db)
	})
}
