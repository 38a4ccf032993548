// Command orderload measures orderd against a private MariaDB with full
// durability, beside what every other system does, in the same run. Its tables
// are those of docs/benchmarks.md. It also tries to break orderd: docs/chaos.md.
// Load goes to loopback only, is bounded in time, and ends by itself.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"runtime/pprof"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"orderd/migrations"
	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest/servers"
)

type cli struct {
	Seconds int    `default:"4" help:"Length of one measurement."`
	Rounds  int    `default:"3" help:"Rounds; the two sides take turns in each."`
	Dir     string `type:"path" help:"Folder for the private MariaDB (default: a temporary one)."`

	Profile string `type:"path" help:"Write a CPU profile of this process here."`

	Place     placeCmd     `cmd:"" help:"Placement through order.Service against a transaction per order."`
	Callback  callbackCmd  `cmd:"" help:"Payment callbacks and closes against a transaction per event."`
	HTTP      httpCmd      `cmd:"" name:"http" help:"Placement and callbacks over HTTP."`
	Reconcile reconcileCmd `cmd:"" help:"A bill of a day against as many payments."`
	Expire    expireCmd    `cmd:"" help:"Unpaid orders that come due together: how late they are closed, beside other ways."`
	Chaos     chaosCmd     `cmd:"" help:"Try to break the service: kills, cuts, lies, and a judge."`
	Verify    verifyCmd    `cmd:"" help:"Every invariant of a large world, and violations seeded in it."`

	ExpireWorker expireWorkerCmd `cmd:"" hidden:""`
}

func main() {
	debug.SetGCPercent(400) // as orderd does
	var c cli
	k := kong.Parse(&c, kong.Name("orderload"), kong.UsageOnError())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	k.BindTo(ctx, (*context.Context)(nil))
	if c.Profile != "" {
		f, err := os.Create(c.Profile)
		k.FatalIfErrorf(err)
		k.FatalIfErrorf(pprof.StartCPUProfile(f))
		defer pprof.StopCPUProfile()
	}
	k.FatalIfErrorf(k.Run(&c))
}

// bench is a server and what to measure with.
type bench struct {
	server  *servers.MariaDB
	length  time.Duration
	rounds  int
	created int
}

func (c *cli) start(ctx context.Context) (*bench, error) {
	dir := c.Dir
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "orderload-"); err != nil {
			return nil, err
		}
	}
	server, err := servers.StartMariaDB(ctx, filepath.Join(dir, "mariadb"), "--innodb-buffer-pool-size=2G", "--innodb-log-file-size=1G")
	if err != nil {
		return nil, fmt.Errorf("start a private MariaDB (Debian's mariadb-server is needed): %w", err)
	}
	return &bench{server: server, length: time.Duration(c.Seconds) * time.Second, rounds: c.Rounds}, nil
}

// fresh gives an empty, migrated database and its DSN.
func (b *bench) fresh(ctx context.Context) (*sqldb.DB, error) {
	b.created++
	name := fmt.Sprintf("bench%d", b.created)
	if err := b.server.Create(ctx, name); err != nil {
		return nil, err
	}
	db, err := sqldb.Open(ctx, b.server.DSN(name))
	if err != nil {
		return nil, err
	}
	_, err = migrations.Up(ctx, db)
	return db, err
}
