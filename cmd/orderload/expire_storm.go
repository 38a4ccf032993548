package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"time"

	"orderd/migrations"
	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/order/audit"
	"orderd/payment"
)

// storm is one run of one mode: its world, and what was seen.
type storm struct {
	k     *expireCmd
	s     *stage
	crowd crowd
	db    *sqldb.DB
	dsn   string
	name  string // of the database
	seen  *watch
	conns int // of naive

	wechat   *scripted // nil with the real protocol
	protocol *protocol // nil without
	buyers   *buyers   // nil when nobody pays
	beside   *foreground

	Mode     string
	Orders   int
	First    time.Time // the first deadline
	Last     time.Time
	Drained  time.Time
	Samples  []stormSample
	Outcome  outcome
	Workers  []workerSeen `json:",omitempty"`
	Protocol *protocolSeen
	Beside   *besideSeen
	Paid     *buyersSeen
}

// prepare makes a world whose first deadline is the lead ahead.
func (k *expireCmd) prepare(ctx context.Context, s *stage, mode string) (*storm, error) {
	st := &storm{k: k, s: s, Mode: mode, Orders: k.Orders}
	if mode == "naive" {
		var err error
		if st.conns, err = k.bestConns(ctx, s); err != nil {
			return nil, err
		}
	}
	first := time.Now().Add(k.Lead).Truncate(time.Second)
	st.crowd = crowd{n: k.Orders, first: first, spread: k.Spread}
	st.First, st.Last = first, st.crowd.last()
	err := st.world(ctx)
	if err != nil {
		return nil, errors.Join(err, st.close())
	}
	return st, nil
}

// world makes the database, seeds it and verifies it.
func (st *storm) world(ctx context.Context) (err error) {
	st.s.created++
	st.name = fmt.Sprintf("storm%d", st.s.created)
	if err := st.s.maria.Create(ctx, st.name); err != nil {
		return err
	}
	st.dsn = st.s.maria.DSN(st.name)
	if st.db, err = sqldb.Open(ctx, st.dsn); err != nil {
		return err
	}
	if _, err = migrations.Up(ctx, st.db); err != nil {
		return err
	}
	if err := st.s.client.FlushAll(ctx).Err(); err != nil {
		return err
	}
	if err := st.crowd.seed(ctx, st.db.Pool()); err != nil {
		return err
	}
	return st.verify(ctx, audit.VerifyOptions{})
}

// close drops the world: the next one wants its memory.
func (st *storm) close() error {
	if st.db == nil {
		return nil
	}
	return errors.Join(st.db.Close(), st.s.maria.Exec(context.Background(), "DROP DATABASE "+st.name))
}

// verify checks every invariant.
func (st *storm) verify(ctx context.Context, o audit.VerifyOptions) error {
	a, err := auditor(st.db)
	if err != nil {
		return err
	}
	r, err := a.VerifyWith(ctx, o)
	if err == nil && !r.OK() {
		err = fmt.Errorf("invariants broken: %+v", r.Broken())
	}
	return err
}

// begin starts the mode.
func (st *storm) begin(ctx context.Context) (*running, error) {
	st.seen = newWatch()
	p := part{db: st.db, redis: st.s.client, rate: st.k.Rate, seen: st.seen, log: stormLog()}
	gateway, err := st.gateway(ctx)
	if err != nil {
		return nil, err
	}
	p.gateway = gateway
	switch {
	case st.Mode == "naive":
		pool, err := naivePool(st.dsn)
		if err != nil {
			return nil, err
		}
		return ending(startNaive(ctx, p, pool, st.conns))(func() { _ = pool.Close() })
	case st.Mode == "per-order":
		return startPerOrder(ctx, p, st.crowd)
	case st.k.Workers > 0:
		return st.startFleet(ctx, p)
	}
	run, err := startOurs(ctx, p)
	if err == nil {
		st.crowd.arm(run.queue)
	}
	return ending(run, err)(st.protocol.stop)
}

// ending adds what has to be closed after a mode, however it started.
func ending(run *running, err error) func(func()) (*running, error) {
	return func(end func()) (*running, error) {
		if err != nil {
			end()
			return nil, err
		}
		stop := run.stop
		run.stop = func() { stop(); end() }
		return run, nil
	}
}

// gateway is the WeChat Pay of this run.
func (st *storm) gateway(ctx context.Context) (payment.Gateway, error) {
	if !st.k.Protocol {
		st.wechat = newScripted(st.crowd.n, st.k.Gateway)
		if st.k.Pay > 0 {
			st.buyers = newBuyers(st)
		}
		return st.wechat, nil
	}
	var err error
	if st.protocol, err = startProtocol(ctx); err != nil {
		return nil, err
	}
	return st.protocol.gateway, nil
}

// ready refuses a run whose first deadline is over, or whose time before it is
// not quiet.
func (st *storm) ready() error {
	need := time.Duration(0)
	if st.k.Foreground > 0 {
		need = st.k.Quiet + besideWarm
	}
	if left := time.Until(st.First); left < need {
		return fmt.Errorf("seeded, verified and armed only %s before the first deadline, %s are needed: use --lead %s",
			left.Round(time.Second), need, (st.k.Lead + need - left + 10*time.Second).Round(time.Second))
	}
	return nil
}

// Bounds of the looking for the end.
const (
	drainEvery = 500 * time.Millisecond
	// countedFor is how long the database is left alone because the count still
	// grows. A count that stands may be short: a worker that was killed has not
	// told of its last orders.
	countedFor = 3 * time.Second
)

// drain waits until no order of the crowd is open.
func (st *storm) drain(ctx context.Context, run *running) error {
	end := st.Last.Add(st.k.Patience)
	defer fmt.Fprint(os.Stderr, "\r\033[K")
	counted, grew := 0, time.Now()
	for {
		pauseFor(ctx, drainEvery)
		if err := ctx.Err(); err != nil {
			return err
		}
		if run.fleet != nil && run.fleet.alive() == 0 {
			return errors.New("every worker has ended: see their words above")
		}
		now := time.Now()
		due, ended := st.crowd.dueBy(now), st.ended(run)
		fmt.Fprintf(os.Stderr, "\r\033[K%s: %+6.0f s  due %d, ended %d", st.Mode, now.Sub(st.First).Seconds(), due, ended)
		if ended > counted {
			counted, grew = ended, now
		}
		far := st.crowd.n-ended > st.crowd.n/50 && now.Sub(grew) < countedFor
		if now.Before(end) && (now.Before(st.Last) || far) {
			continue
		}
		open, err := st.open(ctx)
		if err == nil && !open {
			return nil
		}
		if now.After(end) {
			return errors.Join(err, fmt.Errorf("%d of %d orders ended within %s: use fewer --orders, or more --patience", ended, st.crowd.n, st.k.Patience))
		}
	}
}

// ended counts the orders of the crowd that have ended, as the processes tell.
func (st *storm) ended(run *running) int {
	n := int(st.seen.closed.Load())
	if run.fleet != nil {
		n += run.fleet.closed()
	}
	if st.buyers != nil {
		n += int(st.buyers.taken.Load())
	}
	return n
}

// open tells whether an order of the crowd is open. What is placed beside the
// storm is due long after it.
func (st *storm) open(ctx context.Context) (bool, error) {
	for _, state := range []order.State{order.StatePending, order.StateClosing} {
		var one int
		err := st.db.QueryRowContext(ctx, `SELECT 1
FROM orders
WHERE state = ?
  AND due_at <= ?
LIMIT 1`, string(state), st.Last.Add(seedWithin/2).UnixMilli()).Scan(&one)
		if !errors.Is(err, sql.ErrNoRows) {
			return true, err
		}
	}
	return false, nil
}

// bestConns tries naive on small crowds that are due at once.
func (k *expireCmd) bestConns(ctx context.Context, s *stage) (int, error) {
	best, bestRate := 0, 0.0
	for _, conns := range []int{8, 16, 32, 64} {
		rate, err := k.tryNaive(ctx, s, conns, min(k.Orders/4, naiveProbe))
		if err != nil {
			return 0, fmt.Errorf("try naive over %d connections: %w", conns, err)
		}
		if rate > bestRate {
			best, bestRate = conns, rate
		}
	}
	return best, nil
}

const naiveProbe = 5_000

func (k *expireCmd) tryNaive(ctx context.Context, s *stage, conns, n int) (rate float64, err error) {
	small := *k
	small.Orders, small.Patience = n, time.Minute
	st := &storm{k: &small, s: s, Mode: "naive", conns: conns, Orders: n}
	st.crowd = crowd{n: n, first: time.Now().Truncate(time.Second)}
	st.First, st.Last = st.crowd.first, st.crowd.last()
	defer func() { err = errors.Join(err, st.close()) }()
	if err := st.world(ctx); err != nil {
		return 0, err
	}
	begin := time.Now()
	run, err := st.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer run.stop()
	for end := begin.Add(small.Patience); st.ended(run) < n; pauseFor(ctx, time.Millisecond) {
		if ctx.Err() != nil || time.Now().After(end) {
			return 0, errors.Join(ctx.Err(), fmt.Errorf("%d of %d orders closed", st.ended(run), n))
		}
	}
	return float64(n) / time.Since(begin).Seconds(), nil
}
