package storm

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"orderd/cmd/orderload/bench"
	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/order/audit"
	"orderd/payment"
)

// storm is one run of one mode: its database, and what was measured. The exported
// fields are what --json writes; durations are in nanoseconds.
type storm struct {
	k        *Cmd
	rig      *rig
	crowd    crowd
	db       *bench.Database
	observer *observer
	// conns is how many connections naive does best with; 0 for the other modes.
	conns int

	// wechat is the scripted WeChat Pay, nil with the real protocol, which protocol then
	// is.
	wechat   *bench.Gateway
	protocol *protocol
	// buyers is nil when nobody pays, beside when nothing is placed beside the storm.
	buyers *buyers
	beside *foreground

	// What --json writes, in the order of the table.
	Mode   string
	Orders int
	// First and Last are the first and the last deadline, in whole seconds.
	First time.Time
	Last  time.Time
	// Drained is when no order was open any more, by the backlog: to sampleEvery.
	Drained  time.Time
	Samples  []sample
	Outcome  outcome
	Workers  []workerResult `json:",omitempty"`
	Protocol *protocolResult
	Beside   *besideResult
	Paid     *buyersResult
}

// prepare makes a database whose first deadline is the lead ahead, each mode its own:
// none may find rows or a warm buffer pool of another. Naive is tried with several
// numbers of connections first, so that it is measured at its best.
func (k *Cmd) prepare(ctx context.Context, r *rig, mode string) (*storm, error) {
	st := &storm{k: k, rig: r, Mode: mode, Orders: k.Orders}
	if mode == modeNaive {
		var err error
		if st.conns, err = k.bestConns(ctx, r); err != nil {
			return nil, err
		}
	}
	// Whole seconds, as a placement sets them: a second's orders come due at once.
	st.crowd = crowd{n: k.Orders, first: time.Now().Add(k.Lead).Truncate(time.Second), spread: k.Spread}
	st.First, st.Last = st.crowd.first, st.crowd.last()
	if err := st.fill(ctx); err != nil {
		return nil, errors.Join(err, st.close())
	}
	return st, nil
}

// fill makes the database, empties Redis, seeds the crowd and verifies it: what is broken
// afterwards was broken by the mode.
func (st *storm) fill(ctx context.Context) (err error) {
	if st.db, err = st.rig.maria.NewDatabase(ctx); err != nil {
		return err
	}
	// Wake-ups and tasks of the mode before would meet orders that do not exist.
	if err := st.rig.client.FlushAll(ctx).Err(); err != nil {
		return err
	}
	if err := st.crowd.seed(ctx, st.db.Pool()); err != nil {
		return err
	}
	return bench.Verify(ctx, st.db.DB, audit.VerifyOptions{})
}

// close drops the database, so that a run of three modes needs the disk of one.
func (st *storm) close() error {
	if st.db == nil {
		return nil
	}
	return st.db.Drop(context.Background())
}

// begin starts the mode; the caller stops it. Naive and per-order place and settle by
// order.Service too, so that what is beside the storm is the same in all modes.
func (st *storm) begin(ctx context.Context) (*running, error) {
	st.observer = newObserver()
	gateway, err := st.gateway(ctx)
	if err != nil {
		return nil, err
	}
	p := parts{db: st.db.DB, redis: st.rig.client, gateway: gateway, rate: st.k.Rate, observer: st.observer,
		log: warnings()}
	switch {
	case st.Mode == modeNaive:
		naive, err := bench.NewNaive(st.db.DSN, bench.DefaultNaiveConns)
		if err != nil {
			return nil, err
		}
		run, err := startNaive(ctx, p, naive, st.conns)
		return alsoStop(run, err, naive.Close)
	case st.Mode == modePerOrder:
		return startPerOrder(ctx, p, st.crowd)
	case st.k.Workers > 0:
		return st.startFleet(ctx, p)
	}
	run, err := startOurs(ctx, p)
	if err == nil {
		st.crowd.arm(run.queue)
	}
	return alsoStop(run, err, st.protocol.stop)
}

// alsoStop adds what has to be stopped after a mode; at once when the mode did not
// start.
func alsoStop(run *running, err error, end func()) (*running, error) {
	if err != nil {
		end()
		return nil, err
	}
	stop := run.stop
	run.stop = func() { stop(); end() }
	return run, nil
}

// gateway is the WeChat Pay of this run: scripted, with a delay and no signatures, or
// with --protocol the real gateway against the simulator.
func (st *storm) gateway(ctx context.Context) (payment.Gateway, error) {
	if !st.k.Protocol {
		st.wechat = bench.NewGateway(bench.GatewayOptions{Delay: st.k.Gateway, Trades: st.crowd.n, Number: seqOf})
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

// spareLead is what the error of ready adds to the lead that would have sufficed.
const spareLead = 10 * time.Second

// ready refuses a run whose first deadline is over, or whose time before it is not quiet:
// the lateness of a crowd that was overdue at the start is not that of a timeout. The
// error names a lead that would suffice.
func (st *storm) ready() error {
	need := time.Duration(0)
	if st.k.Foreground > 0 {
		need = st.k.Quiet + besideWarm
	}
	if left := time.Until(st.First); left < need {
		return fmt.Errorf("seeded, verified and armed only %s before the first deadline, %s are needed: use --lead %s",
			left.Round(time.Second), need, (st.k.Lead + need - left + spareLead).Round(time.Second))
	}
	return nil
}

const (
	// drainEvery is the time between two looks for the end.
	drainEvery = 500 * time.Millisecond
	// countedFor is how long the database is left alone because the count of the
	// processes still grows. A count that does not grow may be short: a worker that
	// was killed has not reported its last orders.
	countedFor = 3 * time.Second
	// nearlyShare is the part of the orders, one in so many, that may be missing in
	// the count when the database is asked.
	nearlyShare = 50
)

// drain waits until no order of the crowd is open, at most Patience after the last
// deadline. Orders that are still open then are an error, and no figures.
func (st *storm) drain(ctx context.Context, run *running) error {
	end := st.Last.Add(st.k.Patience)
	defer bench.Progress.End()
	counted, grew := 0, time.Now()
	for {
		if !sqldb.Sleep(ctx, drainEvery) {
			return ctx.Err()
		}
		if run.fleet != nil && run.fleet.alive() == 0 {
			return errors.New("every worker has ended: see their words above")
		}
		now := time.Now()
		due, ended := st.crowd.dueBy(now), st.ended(run)
		bench.Progress.Show("%s: %+6.0f s  due %d, ended %d", st.Mode, now.Sub(st.First).Seconds(), due, ended)
		if ended > counted {
			counted, grew = ended, now
		}
		// Asking the database costs what is measured: it is asked only after the last
		// deadline, and when the count is nearly complete or does not grow any more.
		far := st.crowd.n-ended > st.crowd.n/nearlyShare && now.Sub(grew) < countedFor
		if now.Before(end) && (now.Before(st.Last) || far) {
			continue
		}
		open, err := st.anyOpen(ctx)
		if err == nil && !open {
			return nil
		}
		if now.After(end) {
			late := fmt.Errorf("%d of %d orders ended within %s: use fewer --orders, or more --patience",
				ended, st.crowd.n, st.k.Patience)
			return errors.Join(err, late)
		}
	}
}

// ended counts the orders of the crowd that have ended, as the processes report: exact
// only when none was killed.
func (st *storm) ended(run *running) int {
	n := int(st.observer.closed.Load())
	if run.fleet != nil {
		n += run.fleet.closed()
	}
	if st.buyers != nil {
		n += int(st.buyers.settled.Load())
	}
	return n
}

// anyOpen reports whether an order of the crowd is open. What is placed beside the
// storm is due half an hour after it.
func (st *storm) anyOpen(ctx context.Context) (bool, error) {
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

// The search for the naive peer's best concurrency.
const (
	probeOrders   = 5_000                // of a crowd that is due at once; fewer in a small run
	probePatience = time.Minute          // for all of them
	probeEvery    = 1 * time.Millisecond // the time between two looks at the count
)

// bestConns tries naive with several numbers of connections.
func (k *Cmd) bestConns(ctx context.Context, r *rig) (int, error) {
	return bench.Best([]int{8, 16, 32, 64}, func(conns int) (float64, error) {
		rate, err := k.probe(ctx, r, conns, min(k.Orders/4, probeOrders))
		if err != nil {
			err = fmt.Errorf("try naive over %d connections: %w", conns, err)
		}
		return rate, err
	})
}

// probe closes n orders that are due at once, on a database of its own, and gives the
// closes a second.
func (k *Cmd) probe(ctx context.Context, r *rig, conns, n int) (rate float64, err error) {
	small := *k
	small.Orders = n
	st := &storm{k: &small, rig: r, Mode: modeNaive, conns: conns, Orders: n}
	st.crowd = crowd{n: n, first: time.Now().Truncate(time.Second)}
	st.First, st.Last = st.crowd.first, st.crowd.last()
	defer func() { err = errors.Join(err, st.close()) }()
	if err := st.fill(ctx); err != nil {
		return 0, err
	}
	begin := time.Now()
	run, err := st.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer run.stop()
	for end := begin.Add(probePatience); st.ended(run) < n; sqldb.Sleep(ctx, probeEvery) {
		if ctx.Err() != nil || time.Now().After(end) {
			return 0, errors.Join(ctx.Err(), fmt.Errorf("%d of %d orders closed", st.ended(run), n))
		}
	}
	return float64(n) / time.Since(begin).Seconds(), nil
}
