package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"orderd/cmd/orderload/bench"
	"orderd/cmd/orderload/storm"
	"orderd/migrations"
	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
)

// The documents quote these command lines, and the workers of a storm are started by the last one.
func TestCommandLine(t *testing.T) {
	for line, command := range map[string]string{
		"--seconds 3 --rounds 3 place":                                          "place",
		"--profile cpu.prof place --only-hot --max-open 5":                      "place",
		"--seconds 3 --rounds 3 place --ways":                                   "place",
		"--seconds 3 --rounds 11 feed":                                          "feed",
		"--seconds 3 --rounds 3 callback":                                       "callback",
		"--seconds 2 --rounds 3 http":                                           "http",
		"reconcile --rows 1000000 --flat":                                       "reconcile",
		"--rounds 20 lists":                                                     "lists",
		"--rounds 9 pages":                                                      "pages",
		"verify --orders 100000":                                                "verify",
		"expire --mode all --orders 100000 --spread 0s":                         "expire",
		"expire --orders 200000 --spread 40s --workers 3 --kill --pause":        "expire",
		"expire --orders 3000 --spread 0s --rate 100 --pay 0.2 --foreground 20": "expire",
		"expire --protocol --flush --lead 8s":                                   "expire",
		"--seconds 2 gate refuse --http":                                        "gate refuse",
		"gate durable":                                                          "gate durable",
		"--rounds 3 gate scale --processes 16 --callers 256 --delay 1ms":        "gate scale",
		"gate tail": "gate tail",
		"gate sale --requests 100000 --for 5s --units 10000": "gate sale",
		"gate beside":                                            "gate beside",
		"gate idle":                                              "gate idle",
		"gate-worker --dsn x --delay 1ms --at y":                 "gate-worker",
		"chaos --size smoke --min-rate 10":                       "chaos",
		"chaos --mutant all --seed 1":                            "chaos",
		"expire-worker --dsn x --redis y --gateway 1ms --rate 0": "expire-worker",
	} {
		var c cli
		parser, err := kong.New(&c, helpTexts, storm.HelpTexts)
		if err != nil {
			t.Fatal(err)
		}
		k, err := parser.Parse(strings.Fields(line))
		if err != nil || k.Command() != command {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// A way that is never measured, or measured with nobody calling, would stand in the table as a figure all the same; and
// one that writes other rows than the others, or loses an update, would be compared with them for nothing.
func TestEveryWayPlaces(t *testing.T) {
	server := bench.ServerOn(sqldbtest.MariaDBServer(t), t.TempDir())
	for _, skus := range []int{1, 3} {
		p, plan := placeCmd{Callers: 3}, waysPlan{length: 50 * time.Millisecond, rounds: 1, among: []int{1, 4}}
		runs, err := p.measureWays(t.Context(), server, skus, plan)
		if err != nil {
			t.Fatal(err)
		}
		if err := gaveUp(runs); err != nil {
			t.Error(err)
		}
		var names []string
		for _, r := range runs {
			names = append(names, fmt.Sprint(r.way.name, " ", r.best))
			if r.sample.Done == 0 || r.best == (r.callers == p.Callers) {
				t.Errorf("%s, %d callers: %+v", r.way.name, r.callers, r.sample)
			}
		}
		var want []string
		for _, w := range ways() {
			want = append(want, w.name+" true", w.name+" false")
		}
		if !slices.Equal(names, want) {
			t.Errorf("measured %q, want %q", names, want)
		}
	}
}

// A side that wrote what the other did, or nothing at all, would make the price of the feed a figure of noise.
func TestFeedIsMeasuredWithAndWithout(t *testing.T) {
	server := bench.ServerOn(sqldbtest.MariaDBServer(t), t.TempDir())
	f := feedCmd{Callers: 3}
	sides, err := f.sides(t.Context(), server)
	if err != nil {
		t.Fatal(err)
	}
	defer sides.close()
	pairs, err := f.measure(t.Context(), sides, os.Getpid(), 2, 50*time.Millisecond)
	if err != nil || len(pairs) != 2 {
		t.Fatal(pairs, err)
	}
	for _, p := range pairs {
		if p.with.Done == 0 || p.without.Done == 0 {
			t.Errorf("%+v", p)
		}
	}
	for side, shop := range map[string]*bench.Shop{"with": sides.with, "without": sides.without} {
		var orders, events int64
		err := shop.DB.QueryRowContext(t.Context(), `SELECT (SELECT COUNT(*) FROM orders),
  (SELECT COUNT(*) FROM events_out)`).Scan(&orders, &events)
		want := orders
		if side == "without" {
			want = 0
		}
		if err != nil || orders == 0 || events != want {
			t.Errorf("%s: %d orders, %d events, %v", side, orders, events, err)
		}
	}
}

// A way that must not give up and does so would be printed as if it had been slow.
func TestFailuresVoidTheFigures(t *testing.T) {
	failed := bench.Sample{Failed: 1}
	if err := gaveUp([]wayRun{{way: way{mayFail: true}, sample: failed}, {}}); err != nil {
		t.Error(err)
	}
	if gaveUp([]wayRun{{}, {sample: failed}}) == nil {
		t.Error("a failure is not told")
	}
}

// What "orderload verify" measures is worth nothing when its world breaks a check by itself: the checks change, and the
// rows are written by hand.
func TestWorldOfVerifyIsFoundOutAndNothingElse(t *testing.T) {
	const orders = 3000 // some of every kind, with one order for each violation
	db, err := sqldb.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "orderd.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := migrations.Up(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	if err := (&verifyCmd{Orders: orders, Seed: 1}).one(t.Context(), "SQLite", db); err != nil {
		t.Error(err)
	}
}

// A notification that the gateway refuses would measure refusals.
func TestSigner(t *testing.T) {
	signer, gateway, err := newSigner()
	if err != nil {
		t.Fatal(err)
	}
	no := orderNoOf(7)
	signed, err := signer.sign([]string{no})
	if err != nil {
		t.Fatal(err)
	}
	n, err := gateway.ParseNotification(signed[0].header, signed[0].body)
	if want := bench.PaidTrade(no); err != nil || n.Trade.State != want.State || n.Trade.OutTradeNo != want.OutTradeNo {
		t.Errorf("%+v %v", n, err)
	}
}

// A difference that is seeded and not written would be called missed.
func TestBillHasItsDifferences(t *testing.T) {
	d := newBillDay(1000, 1)
	if len(d.seeded) != len(kindsOfOneBill()) {
		t.Errorf("%d differences of %d kinds", len(d.seeded), len(kindsOfOneBill()))
	}
	path := filepath.Join(t.TempDir(), "bill.csv")
	if err := d.write(path); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(b), "\r\n"), "\r\n")
	// 1,000 payments and 20 refunds, one of each missing and one of each twice; head,
	// summary's head and summary.
	if len(lines) != 1000+20+3 {
		t.Errorf("%d lines", len(lines))
	}
	for i, l := range lines[1 : len(lines)-2] {
		if !strings.HasPrefix(l, "`2026-11-20 ") || strings.Count(l, ",`") != strings.Count(lines[0], ",") {
			t.Errorf("line %d: %s", i+2, l)
		}
	}
}

// A list that finds nothing is quick and measures nothing: a time of placing that overflowed put a month's orders into
// another year.
func TestEveryMeasuredListHasRows(t *testing.T) {
	db := sqldbtest.SQLite(t)
	w := listed{orders: 30_000, open: 300, now: time.Now()}
	if err := w.fill(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	s, err := bench.NewService(order.Config{DB: db})
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range orderLists(w.now) {
		if f.SkuID != "" {
			f.CreatedFrom = f.CreatedTo.AddDate(0, 0, -7) // of so few orders a day has none
		}
		if orders, _, err := s.List(t.Context(), f); err != nil || len(orders) == 0 {
			t.Errorf("%s: %d orders, %v", name, len(orders), err)
		}
	}
	if held, _, err := s.ListHeld(t.Context(), "", 0); err != nil || len(held) < 5 {
		t.Errorf("held: %d, %v", len(held), err)
	}
	if a, err := s.StockAccount(t.Context(), bench.SKU(7)); err != nil || a.CameIn != listStock+50 || a.Reserved != 0 {
		t.Errorf("%+v, %v", a, err)
	}
}
