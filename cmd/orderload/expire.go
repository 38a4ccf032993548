package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"orderd/migrations/sqldb/sqldbtest/servers"
	"orderd/scheduler"
)

type expireCmd struct {
	Orders  int           `help:"Unpaid orders that come due (default: 100000, with --protocol 20000)."`
	Spread  time.Duration `default:"60s" help:"They come due evenly over this time, on whole seconds as Place sets them; 0s: all in the same second."`
	Lead    time.Duration `help:"How far ahead the first deadline is; the orders are seeded and verified before it (default: by their number)."`
	Mode    []string      `default:"ours" enum:"ours,naive,per-order,all" help:"ours (the service as 'orderd serve' builds it), per-order (an asynq task per order over 16 queues), naive (a transaction per order, polling); a list, or all."`
	Gateway time.Duration `default:"1ms" help:"The scripted WeChat Pay answers a close after this time."`

	Protocol   bool          `help:"Close by the real protocol against the simulator over loopback, and say what RSA costs. Only ours."`
	Rate       float64       `help:"WeChat's limit in closes a second (default: none). Only ours."`
	Pay        float64       `help:"This share of the orders is paid while they wait; at most 0.5."`
	Foreground int           `help:"So many placements and as many callbacks a second beside the storm."`
	Quiet      time.Duration `default:"10s" help:"They are measured for so long before the storm too."`

	Workers  int           `help:"Share the work among so many processes (default: this one). Only ours."`
	Kill     bool          `help:"Kill the first worker after a third of the orders."`
	Pause    bool          `help:"Stop the second worker after a third of the orders."`
	PauseFor time.Duration `default:"20s" help:"And let it go on after this time."`
	Flush    bool          `help:"Empty Redis two seconds before the first deadline."`

	BufferPool string        `default:"4G" help:"Of the private MariaDB."`
	LogFile    string        `default:"4G" help:"Of the private MariaDB."`
	Patience   time.Duration `help:"How long after the last deadline the orders may take (default: five minutes, or by the rate)."`

	SVG  string `name:"svg" type:"path" help:"Draw lateness and backlog over time here."`
	JSON string `name:"json" type:"path" help:"Write everything that was measured here."`
}

// Run lets unpaid orders come due in every mode and says how late they were
// closed. It fails when one was closed early, twice, without proof, or not at
// all, or when the books do not agree after it.
func (k *expireCmd) Run(ctx context.Context, c *cli) error {
	if err := k.complete(); err != nil {
		return err
	}
	s, err := k.start(ctx, c.Dir)
	if err != nil {
		return err
	}
	defer s.stop()
	var all []*storm
	for _, mode := range k.Mode {
		st, failed := k.one(ctx, s, mode)
		if st != nil {
			all = append(all, st)
		}
		if failed != nil {
			err = fmt.Errorf("%s: %w", mode, failed)
			break
		}
	}
	k.tables(all) // also of what went before a failure
	return errors.Join(err, k.write(all))
}

// Bounds of a run.
const (
	maxStorm      = 10_000_000
	defaultOrders = 100_000
	protocolSize  = 20_000
	patience      = 5 * time.Minute
	seedRate      = 8_000 // orders a second, seeded and verified, on a busy machine
)

// complete sets what was left out and refuses what does not fit together.
func (k *expireCmd) complete() error {
	if k.Orders == 0 && k.Protocol {
		k.Orders = protocolSize
	} else if k.Orders == 0 {
		k.Orders = defaultOrders
	}
	if slices.Contains(k.Mode, "all") {
		k.Mode = []string{"naive", "per-order", "ours"}
	}
	onlyOurs := len(k.Mode) == 1 && k.Mode[0] == "ours"
	switch {
	case k.Orders < 100 || k.Orders > maxStorm:
		return fmt.Errorf("--orders must be 100 to %d", maxStorm)
	case k.Spread < 0 || k.Spread%time.Second != 0:
		return errors.New("--spread must be whole seconds: deadlines are")
	case k.Pay < 0 || k.Pay > 0.5:
		return errors.New("--pay must be 0 to 0.5")
	case (k.Protocol || k.Rate != 0 || k.Workers != 0) && !onlyOurs:
		return errors.New("--protocol, --rate and --workers are of --mode ours alone")
	case k.Workers != 0 && (k.Protocol || k.Pay != 0):
		return errors.New("--workers have a WeChat Pay each: leave out --protocol and --pay")
	case (k.Kill || k.Pause) && k.Workers < 3:
		return errors.New("--kill and --pause need --workers 3 or more")
	case k.Workers > maxWorkers:
		return fmt.Errorf("--workers must be at most %d", maxWorkers)
	}
	if k.Patience == 0 {
		k.Patience = patience
		if k.Rate > 0 {
			k.Patience += time.Duration(2 * float64(k.Orders) / k.Rate * float64(time.Second))
		}
	}
	if k.Lead == 0 {
		k.Lead = 15*time.Second + time.Duration(k.Orders/seedRate)*time.Second
		if k.Foreground > 0 {
			k.Lead += k.Quiet
		}
	}
	return nil
}

// stage is the private servers of a run.
type stage struct {
	dir      string
	maria    *servers.MariaDB
	redis    *servers.Redis
	client   redis.UniversalClient
	mariaPID int
	redisPID int
	created  int
}

func (k *expireCmd) start(ctx context.Context, dir string) (s *stage, err error) {
	if dir == "" {
		if dir, err = os.MkdirTemp("", "orderload-expire-"); err != nil {
			return nil, err
		}
	}
	s = &stage{dir: dir}
	defer func() {
		if err != nil {
			s.stop()
			s = nil
		}
	}()
	folder := filepath.Join(dir, "mariadb")
	if s.maria, err = servers.StartMariaDB(ctx, folder, "--innodb-buffer-pool-size="+k.BufferPool, "--innodb-log-file-size="+k.LogFile, "--max-connections=500"); err != nil {
		return s, fmt.Errorf("start a private MariaDB (Debian's mariadb-server is needed, and memory for --buffer-pool %s): %w", k.BufferPool, err)
	}
	if s.mariaPID, err = pidIn(filepath.Join(folder, "pid")); err != nil {
		return s, err
	}
	if s.redis, err = servers.StartRedis(ctx, filepath.Join(dir, "redis")); err != nil {
		return s, fmt.Errorf("start a private Redis (Debian's redis-server is needed): %w", err)
	}
	if s.client, err = scheduler.Connect(s.redis.URL()); err != nil {
		return s, err
	}
	s.redisPID, err = redisPID(ctx, s.client)
	return s, err
}

func (s *stage) stop() {
	if s.client != nil {
		_ = s.client.Close()
	}
	if s.redis != nil {
		s.redis.Stop()
	}
	if s.maria != nil {
		s.maria.Stop()
	}
	_ = os.Remove(s.dir) // unless somebody else's files are in it
}

// one runs one mode on a world of its own.
func (k *expireCmd) one(ctx context.Context, s *stage, mode string) (done *storm, err error) {
	st, err := k.prepare(ctx, s, mode)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, st.close()) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	run, err := st.begin(ctx)
	if err != nil {
		return nil, err
	}
	if err := st.ready(); err != nil {
		run.stop()
		return nil, err
	}
	beside := st.startForeground(ctx, run)
	watched := st.watch(ctx, run)
	troubled := st.trouble(ctx, run)
	err = st.drain(ctx, run)
	st.Drained = time.Now()
	cancel()
	troubled()
	watched()
	beside()
	run.stop()
	if err != nil {
		return nil, err
	}
	return st, st.judge(context.WithoutCancel(ctx), run)
}

// tables prints what was measured.
func (k *expireCmd) tables(all []*storm) {
	if len(all) == 0 {
		return
	}
	when := "within " + k.Spread.String()
	if k.Spread == 0 {
		when = "in the same second"
	}
	fmt.Printf("| timeouts, %d due %s | closed/s | lateness p50 | p90 | p99 | max | closed p50 | closed p99 | early | asked twice | backlog, most | Redis, peak | process, peak | CPU µs an order: process, MariaDB, Redis |\n"+
		"|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n", k.Orders, when)
	for _, st := range all {
		st.row()
	}
	for _, st := range all {
		st.more()
	}
}

// write draws and writes what was asked for.
func (k *expireCmd) write(all []*storm) error {
	if len(all) == 0 {
		return nil
	}
	if k.SVG != "" {
		if err := os.WriteFile(k.SVG, []byte(drawStorms(all)), 0o600); err != nil {
			return err
		}
	}
	if k.JSON == "" {
		return nil
	}
	b, err := json.MarshalIndent(all, "", " ")
	return errors.Join(err, os.WriteFile(k.JSON, append(b, '\n'), 0o600))
}
