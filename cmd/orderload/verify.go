package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"orderd/cmd/orderload/bench"
	"orderd/migrations"
	"orderd/migrations/sqldb"
	"orderd/order/audit"
)

// verifyCmd is "orderload verify": that the checks of `orderd verify` find what they must
// and nothing else, and what a large database costs them. docs/verify.md has the checks.
type verifyCmd struct {
	// Kinds follow from an order's number, so that a world
	// of any size has all of them from some thousand on.
	Orders int    `default:"100000" help:"Orders of the world, with two lines each."`
	Seed   uint64 `default:"1" help:"Of the violations."`
	// Checks is for whoever makes a check faster.
	Checks bool `help:"Print the time of every check."`
}

// Run fills a world of orders that is in order, verifies it, seeds a violation of every
// kind somewhere in it, and shows that exactly these are found; on MariaDB and on SQLite,
// because the same SQL may mean two things there.
func (k *verifyCmd) Run(ctx context.Context, set *bench.Settings) error {
	server, err := set.Start(ctx)
	if err != nil {
		return err
	}
	defer server.Stop()
	dir, err := os.MkdirTemp("", "orderload-verify-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	maria, err := server.NewDatabase(ctx)
	if err != nil {
		return err
	}
	lite, err := sqldb.Open(ctx, "sqlite:"+filepath.Join(dir, "orderd.db"))
	if err != nil {
		return errors.Join(err, maria.Close())
	}
	if _, err = migrations.Up(ctx, lite); err == nil {
		bench.Header("verify", "orders", "rows", "checks", "took", "slowest check", "resident memory, peak",
			"violations seeded / found / invented")
		err = errors.Join(k.one(ctx, "MariaDB", maria.DB), k.one(ctx, "SQLite", lite))
	}
	return errors.Join(err, maria.Close(), lite.Close())
}

// one fills, verifies and spoils the world of one engine. Time and memory are of the
// clean world: that is what an operator waits for each day.
func (k *verifyCmd) one(ctx context.Context, engine string, db *sqldb.DB) error {
	w := newWorld(k.Orders, rand.New(rand.NewPCG(k.Seed, 4)))
	rows, err := w.fill(ctx, db)
	if err != nil {
		return err
	}
	if err := bench.ResetPeakMemory(); err != nil {
		return err
	}
	// Memory is measured from here on: filling takes more than verifying.
	clean, err := verifyAll(ctx, db)
	if err != nil {
		return err
	}
	peak, err := bench.PeakMemory()
	if err != nil {
		return err
	}
	// What is found later must be what was planted, so nothing may be found before.
	if broken := clean.Broken(); len(broken) > 0 {
		return fmt.Errorf("a world in order, and yet %+v", broken)
	}
	// The slowest check first: it is the one that the table names.
	byTime := slices.SortedFunc(slices.Values(clean.Checks), func(a, b audit.CheckResult) int {
		return cmp.Compare(b.Took, a.Took)
	})
	if k.Checks {
		for _, c := range byTime {
			fmt.Fprintf(os.Stderr, "%-8s %8s  %s\n", engine, bench.Round(c.Took), c.ID)
		}
	}
	seeded, found, invented, err := w.seedAll(ctx, db)
	bench.Row("**"+engine+"** (seed "+fmt.Sprint(k.Seed)+")", k.Orders, rows, len(clean.Checks), clean.Took,
		byTime[0].ID+" "+bench.Round(byTime[0].Took).String(), bench.Megabytes(peak),
		fmt.Sprintf("%d / %d / %d", seeded, found, invented))
	if err == nil && (found != seeded || invented != 0) {
		err = fmt.Errorf("%s, seed %d: %d of %d violations found, %d invented", engine, k.Seed, found, seeded, invented)
	}
	return err
}

// verifyAll runs every check; nothing is under way in these worlds, so the quiescent ones
// too.
func verifyAll(ctx context.Context, db *sqldb.DB) (audit.Report, error) {
	defer bench.Progress.End()
	return bench.Report(ctx, db, audit.VerifyOptions{Quiescent: true, Progress: func(done, total int, id string) {
		bench.Progress.Show("%d of %d  %s", done+1, total, id)
	}})
}
