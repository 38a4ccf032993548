package chaos

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest/faultproxy"
	"orderd/migrations/sqldb/sqldbtest/servers"
	"orderd/order"
	"orderd/order/ordertest/model"
	"orderd/stock"
)

// trial is a fault that comes alone, with a stopwatch: nothing else is wrong meanwhile,
// so that what the neighbours of the fault have to wait has a bound.
type trial struct {
	// check names the bound in reports and in docs/chaos.md.
	check string
	name  string
	// what is measured, for the report; it may be at most bound. usual says that what the
	// same took without faults is added to the bound: the machine may be busy.
	what  string
	bound time.Duration
	usual bool
	// do makes the fault, measures the worst and ends the fault.
	do func(n *nemesis, ctx context.Context, shop *shop) (worst time.Duration, err error)
}

// trials are dealt one after the other.
var trials = []trial{
	// A person at a console, or a report, that holds a row.
	{check: "B1", name: "a locked order", what: "timeouts of its neighbours come late by", bound: 3 * time.Second,
		usual: true, do: (*nemesis).lockedOrder},
	{check: "B2", name: "a locked SKU", what: "another SKU is not sold for", bound: 4 * time.Second,
		do: (*nemesis).lockedSKU},
	// The host of an api process, whose connections nobody closes.
	{check: "B3", name: "a host dead in a transaction", what: "its SKU is sold again after", bound: 10 * time.Second,
		do: (*nemesis).deadHost},
	// Redis after a fail-over, without its replicas, or with its memory full.
	{check: "B4", name: "redis refuses writes", what: "timeouts come late by", bound: 2 * time.Second, usual: true,
		do: (*nemesis).redisRefuses},
	// A planned switchover, after which the old primary goes on answering reads.
	{check: "B5", name: "a stale primary", what: "own orders are shown as before it until", bound: staleFor,
		do: (*nemesis).stalePrimary},
	// A buyer who had no answer asks again, while his first try waits for its COMMIT.
	{check: "B6", name: "a repeat beside its first try", what: "is answered after", bound: 5 * time.Second,
		do: (*nemesis).halfWritten},
}

// staleFor is for how long after a switchover a reader may still be told what was so
// before it; what is decided may never rest on it.
const staleFor = 5 * time.Second

// Bounds of trials.
const (
	// hold is how long a lock is held, or writes are refused: longer than the service
	// tries one transaction.
	trialHold = 6 * time.Second
	// dueHold is how long it lasts where timeouts are measured: longer than the sweep takes
	// to come round, so that what only the sweep makes good is seen, and what not even it
	// does is seen for long.
	dueHold = 16 * time.Second
	// deadlineIn is how far before the end of a fault an order must be due to be
	// measured: it gets at least this much of the fault.
	deadlineIn = 3 * time.Second
	// sellEvery is the time between two probes of a SKU, sellWithin the patience of one.
	sellEvery  = 200 * time.Millisecond
	sellWithin = 4 * time.Second
	// deadWatch is how long a dead host's SKU is probed: more than its bound.
	deadWatch = 15 * time.Second
	// oldWatch is how long the old primary lives on after a switchover.
	oldWatch = 10 * time.Second
	// calmWithin is how long the service has to make good what earlier faults delayed,
	// before a trial: it is not measured.
	calmWithin = 20 * time.Second
)

// What nobody buys but the trials: a SKU of which there is plenty, and one without a
// counter, whose row no placement locks.
const (
	trialSKU  = "trial"
	trialFree = "gratis"
)

// Trial is what the trials of one kind have measured, for the report.
type Trial struct {
	Check string        `json:"check"`
	Name  string        `json:"name"`
	What  string        `json:"what"`
	Times int           `json:"times"`
	Worst time.Duration `json:"worst_ns"`
	Bound time.Duration `json:"bound_ns"`
}

// trialsLeft is how many trials have not been made yet.
func (n *nemesis) trialsLeft(o Options) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return o.Trials*len(trials) - n.trials
}

// nextTrial is the trial that is due when so large a share of the orders is placed, and so
// many kills and other faults are done: trials are spread over both.
func (n *nemesis) nextTrial(o Options, share float64, done int) (t trial, ok bool) {
	if all := o.Kills + o.Faults; all > 0 {
		share = min(share, float64(done)/float64(all))
	}
	left := n.trialsLeft(o)
	made := o.Trials*len(trials) - left
	if left <= 0 || share < (float64(made)+0.5)/float64(o.Trials*len(trials)) {
		return trial{}, false
	}
	return trials[made%len(trials)], true
}

// try makes one trial, when all that went wrong before is over, and notes what it has
// measured. More than the bound is a violation.
func (n *nemesis) try(ctx context.Context, shop *shop, t trial) {
	n.mu.Lock()
	n.trials++
	n.mu.Unlock()
	if !n.calm(ctx) {
		return
	}
	n.history.add(line{At: time.Now(), Op: "nemesis: trial: " + t.name})
	worst, err := t.do(n, ctx, shop)
	if err != nil {
		if ctx.Err() == nil {
			n.failed(fmt.Errorf("%s: %w", t.name, err))
		}
		return
	}
	bound := t.bound
	if t.usual {
		bound += n.usual
	}
	n.mu.Lock()
	r := n.tried[t.check]
	r.Check, r.Name, r.What = t.check, t.name, t.what
	r.Times, r.Worst, r.Bound = r.Times+1, max(r.Worst, worst), cmp.Or(r.Bound, bound)
	n.tried[t.check] = r
	n.mu.Unlock()
	n.history.add(line{At: time.Now(), Op: "nemesis: end of trial: " + t.name, Result: worst.String()})
	if worst > bound {
		shop.violated("%s: %s: %s %s, of %s", t.check, t.name, t.what, worst.Round(10*time.Millisecond), bound)
	}
}

// calm waits for the end of what lasts, until all processes are up, nothing is overdue
// and every open order was placed without a fault. False when ctx has ended.
func (n *nemesis) calm(ctx context.Context) bool {
	n.wg.Wait()
	n.sim.ClearFaults()
	n.mysqlProxy.EndDead()
	if err := n.ready(ctx); err != nil {
		n.failed(err)
		return false
	}
	for end := time.Now().Add(calmWithin); time.Now().Before(end); {
		var overdue int
		err := n.db.QueryRowContext(ctx, `SELECT COUNT(*)
FROM orders
WHERE state IN ('pending', 'closing')
  AND due_at < ?`, sqldb.Millis(time.Now().Add(-time.Second))).Scan(&overdue)
		if err == nil && overdue == 0 {
			break
		}
		if !sqldb.Sleep(ctx, quietEvery) {
			break
		}
	}
	// What was placed before has a task that an earlier fault may have lost, and is found
	// by the sweep, seconds late: what is measured was placed after it. The second is that
	// of the deadline, which is a whole one.
	return sqldb.Sleep(ctx, payWithin+time.Second)
}

// late gives by how much the timeouts of orders came late that were due between two
// times; those that have not come yet are as late as they are now.
func (s *stage) late(ctx context.Context, from, until time.Time, except string) (worst time.Duration, err error) {
	var ms int64
	err = s.db.QueryRowContext(ctx, `SELECT COALESCE(MAX(COALESCE((
  SELECT MIN(e.at)
  FROM order_events e
  WHERE e.order_no = o.order_no
    AND e.event IN ('close.requested', 'payment.applied')), ?) - o.expire_at - ?), 0)
FROM orders o
WHERE o.expire_at BETWEEN ? AND ?
  AND o.order_no <> ?`, sqldb.Millis(time.Now()), grace.Milliseconds(), sqldb.Millis(from.Add(-grace)),
		sqldb.Millis(until.Add(-grace)), except).Scan(&ms)
	return max(time.Duration(ms)*time.Millisecond, 0), err
}

// lockedOrder holds the row of an order that comes due, as a page of timeouts meets it.
func (n *nemesis) lockedOrder(ctx context.Context, _ *shop) (worst time.Duration, err error) {
	from := time.Now()
	no, err := n.openOrder(ctx, from.Add(300*time.Millisecond))
	if err != nil {
		return 0, err
	}
	if err := n.holdRow(ctx, dueHold, "SELECT order_no FROM orders WHERE order_no = ? FOR UPDATE", no); err != nil {
		return 0, err
	}
	return n.late(ctx, from, time.Now().Add(-deadlineIn), no)
}

// openOrder is the order that is due first after a time, "" without any.
func (n *nemesis) openOrder(ctx context.Context, after time.Time) (no string, err error) {
	err = n.db.QueryRowContext(ctx, `SELECT order_no
FROM orders
WHERE state IN ('pending', 'closing')
  AND due_at > ?
ORDER BY due_at
LIMIT 1`, sqldb.Millis(after)).Scan(&no)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return no, err
}

// holdRow is somebody at a console who locks the row that a query finds by its key, for a
// time.
func (n *nemesis) holdRow(ctx context.Context, d time.Duration, query, key string) error {
	tx, err := n.console.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if err := tx.QueryRowContext(ctx, query, key).Scan(&key); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	sqldb.Sleep(ctx, d)
	return nil
}

// lockedSKU holds the row of a SKU that many buy, and sells another.
func (n *nemesis) lockedSKU(ctx context.Context, shop *shop) (worst time.Duration, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = n.holdRow(ctx, trialHold, "SELECT sku_id FROM skus WHERE sku_id = ? FOR UPDATE", skuID(hot))
	}()
	last := time.Now()
	n.sell(ctx, shop, done, func(_, sold time.Time) bool {
		worst, last = max(worst, sold.Sub(last)), sold
		return true
	})
	<-done
	return max(worst, time.Since(last)-sellEvery), err
}

// sell buys the trial's SKU again and again, each time as another customer, until done is
// closed or sold returns false. sold is told when a placement began and was answered.
func (n *nemesis) sell(ctx context.Context, shop *shop, done <-chan struct{}, sold func(began, at time.Time) bool) {
	ctx, cancel := context.WithCancel(ctx)
	var mu sync.Mutex
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	for {
		began := time.Now()
		all.Go(func() {
			if !shop.probe(ctx) {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if ctx.Err() == nil && !sold(began, time.Now()) {
				cancel()
			}
		})
		select {
		case <-done:
			return
		case <-ctx.Done():
			return
		case <-time.After(sellEvery):
		}
	}
}

// probe places an order for the trial's SKU, once; true when it was answered with one.
func (s *shop) probe(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, sellWithin)
	defer cancel()
	a := s.stranger(ctx).ask(ctx, map[string]any{"items": []map[string]any{{"sku_id": trialSKU, "quantity": 1}}})
	return a.status == http.StatusCreated
}

// stranger is a buyer of a trial, who comes once.
func (s *shop) stranger(ctx context.Context) *buyer {
	i := s.started.Add(1)
	b := &buyer{shop: s, ctx: ctx, visit: &visit{model: model.New(), key: fmt.Sprintf("v%d", i),
		customer: fmt.Sprintf("trial-%d", i), doing: "trial"}}
	b.enter()
	return b
}

// halfWritten lets the COMMIT of a first try stand still, and meanwhile raises the price
// and sends its repeat to another process: told that the price has changed, the buyer
// must not have the order after all (V2).
func (n *nemesis) halfWritten(ctx context.Context, shop *shop) (worst time.Duration, err error) {
	for range halfTries {
		done := false
		if worst, done, err = n.half(ctx, shop); done || err != nil {
			return worst, err
		}
	}
	return 0, errors.New("whenever a first try stood still, the price did too")
}

const (
	// halfTries is how often halfWritten tries: when stock is tight for a neighbour in its
	// batch, the first try locks the price.
	halfTries = 10
	// halfFor is how long the COMMIT stands still at least, and halfOver when it has
	// happened: the service gives up a connection after two seconds.
	halfFor, halfOver = 1500 * time.Millisecond, 3 * time.Second
)

// half is one try of halfWritten; done is false when the price could not be raised in
// time.
func (n *nemesis) half(ctx context.Context, shop *shop) (took time.Duration, done bool, err error) {
	admin := stock.NewAdmin(n.db, time.Now)
	sku, err := admin.Find(ctx, trialFree)
	if err != nil {
		return 0, false, err
	}
	cart := map[string]any{"items": []map[string]any{{"sku_id": trialFree, "quantity": 1}},
		"expected_total": map[string]any{"total": sku.PriceFen, "currency": "CNY"}}
	b := shop.stranger(ctx)
	first := *b // asks beside the repeats
	b.via, first.via = n.apis[0], n.apis[len(n.apis)-1]
	before := n.mysqlProxy.Hits(faultproxy.Late)
	n.mysqlProxy.NextAbout(trialFree, faultproxy.Late)
	trying, hangUp := context.WithTimeout(ctx, sellWithin)
	defer hangUp()
	b.model.Unknown(b.model.Began(model.Place))
	shop.wg.Go(func() { first.call(trying, "place", http.MethodPost, "/v1/orders", first.key, cart) })
	for n.mysqlProxy.Hits(faultproxy.Late) == before {
		if !sqldb.Sleep(trying, time.Millisecond) {
			n.mysqlProxy.Next(faultproxy.Pass)
			return 0, false, errors.New("no first try came to its COMMIT")
		}
	}
	hit := time.Now()
	defer func() { sqldb.Sleep(ctx, time.Until(hit.Add(halfOver))) }()
	if _, _, err := admin.Put(ctx, stock.Put{SkuID: trialFree, Title: "Thing", PriceFen: sku.PriceFen + 1,
		Actor: "chaos"}); err != nil {
		return 0, false, err
	}
	if time.Since(hit) > halfFor {
		return 0, false, nil
	}
	hangUp()
	took, err = b.repeat(ctx, cart)
	return took, true, err
}

// repeat asks with the same key until there is an answer, and keeps a refusal as final.
func (b *buyer) repeat(ctx context.Context, cart map[string]any) (took time.Duration, err error) {
	for begin := time.Now(); ; {
		a := b.ask(ctx, cart)
		switch a.status {
		case http.StatusConflict:
			b.visit.refused = a.code
			fallthrough
		case http.StatusCreated:
			return time.Since(begin), nil
		}
		b.expected(a, "repeat")
		if time.Since(begin) > deadWatch || !sqldb.Sleep(ctx, sellEvery) {
			return deadWatch, ctx.Err()
		}
	}
}

// deadHost lets a host vanish in the transaction that sells the trial's SKU: the server
// hears nothing, and keeps its locks for as long as it believes in the connection.
func (n *nemesis) deadHost(ctx context.Context, shop *shop) (worst time.Duration, err error) {
	before := n.mysqlProxy.Hits(faultproxy.Dead)
	n.mysqlProxy.NextAbout(trialSKU, faultproxy.Dead)
	dying, cancel := context.WithTimeout(ctx, sellWithin)
	defer cancel()
	shop.wg.Go(func() { shop.probe(dying) })
	for n.mysqlProxy.Hits(faultproxy.Dead) == before {
		if !sqldb.Sleep(dying, time.Millisecond) {
			n.mysqlProxy.Next(faultproxy.Pass)
			return 0, errors.New("nobody bought the SKU in whose transaction the host was to die")
		}
	}
	died := time.Now()
	watch, stop := context.WithTimeout(ctx, deadWatch)
	defer stop()
	worst = deadWatch
	n.sell(watch, shop, watch.Done(), func(began, at time.Time) bool {
		if began.Before(died) {
			return true
		}
		worst = at.Sub(died)
		return false
	})
	n.mysqlProxy.EndDead()
	return worst, nil
}

// refusals are ways in which Redis goes on answering and takes nothing, each with what
// ends it: READONLY, NOREPLICAS, OOM.
var refusals = [][2]string{
	{"REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"},
	{"CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0"},
	{"CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"},
}

// refuse lets Redis refuse writes, until end is called. False while Redis is down.
func (n *nemesis) refuse(ctx context.Context) (end func(), ok bool) {
	how := refusals[n.rnd.IntN(len(refusals))]
	if !n.redisUp.TryLock() {
		return nil, false
	}
	if command(ctx, n.redis.Addr, how[0]) != nil { // it may be reading its log still
		n.redisUp.Unlock()
		return nil, false
	}
	return func() {
		defer n.redisUp.Unlock()
		if err := command(context.WithoutCancel(ctx), n.redis.Addr, how[1]); err != nil {
			n.failed(fmt.Errorf("%s: %w", how[1], err))
		}
	}, true
}

// redisRefuses measures the timeouts while Redis takes no task.
func (n *nemesis) redisRefuses(ctx context.Context, _ *shop) (worst time.Duration, err error) {
	end, ok := n.refuse(ctx)
	if !ok {
		return 0, errors.New("redis does not take the command")
	}
	defer end()
	from := time.Now()
	if !sqldb.Sleep(ctx, dueHold) {
		return 0, ctx.Err()
	}
	return n.late(ctx, from, time.Now().Add(-deadlineIn), "")
}

// stalePrimary switches over to a copy of the database that has everything, and leaves
// the old one alive, read-only and behind: connections that were open to it go on being
// answered there. Strangers have orders from before it, and change them after it: the
// others read their orders too seldom.
func (n *nemesis) stalePrimary(ctx context.Context, shop *shop) (worst time.Duration, err error) {
	n.mysqlUp.Lock()
	defer n.mysqlUp.Unlock()
	watch, stop := context.WithCancel(ctx)
	defer stop()
	switched := make(chan struct{})
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	for range watchers {
		b := shop.stranger(watch)
		b.ask(watch, map[string]any{"items": []map[string]any{{"sku_id": trialSKU, "quantity": 1}}})
		all.Go(func() {
			select {
			case <-switched:
				b.watchCancelled(watch)
			case <-watch.Done():
			}
		})
	}
	old, err := n.switchOver(ctx)
	if err != nil {
		return 0, err
	}
	close(switched)
	sqldb.Sleep(ctx, oldWatch)
	old.Stop()
	return n.stale.end(), nil
}

const (
	// watchers is how many strangers read their order after a switchover, and watchEvery
	// how often each does: so that all connections for reading are met.
	watchers   = 32
	watchEvery = 100 * time.Millisecond
)

// watchCancelled cancels the order, and from the moment at which it has moved looks
// whether it is shown as it was before.
func (b *buyer) watchCancelled(ctx context.Context) {
	if b.orderNo == "" {
		return
	}
	b.cancel()
	for moved := false; sqldb.Sleep(ctx, watchEvery); {
		if !moved {
			var state order.State
			err := b.stage.db.QueryRowContext(ctx, `SELECT state
FROM orders
WHERE order_no = ?`, b.orderNo).Scan(&state)
			moved = err == nil && state != order.StatePending
			continue
		}
		if b.call(ctx, "get", http.MethodGet, "/v1/orders/"+b.orderNo, "", nil).body.State == order.StatePending {
			b.stage.stale.told()
		}
	}
}

// switchOver makes a copy of MariaDB the primary. Nobody waits for it: writes are refused
// until it is up.
func (s *stage) switchOver(ctx context.Context) (old *servers.MariaDB, err error) {
	old = s.mariadb
	if err := old.Exec(ctx, "SET GLOBAL read_only = 1"); err != nil {
		return nil, err
	}
	s.primaries++
	next, err := old.Clone(ctx, filepath.Join(s.dir, fmt.Sprint("m", s.primaries)))
	if err != nil {
		return nil, err
	}
	s.stale.begin()
	s.mariadb = next
	s.mysqlProxy.Switch(next.Addr)
	s.judgeProxy.Switch(next.Addr)
	s.judgeProxy.Reset()
	return old, s.follow(ctx)
}

// stale knows how long ago a switchover was whose old primary is still there.
type stale struct {
	mu    sync.Mutex
	at    time.Time     // zero: there is none
	worst time.Duration // after it, until somebody was last told what was so before it
}

// begin notes the switchover, before anything is written to the new primary.
func (s *stale) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at, s.worst = time.Now(), 0
}

// end gives what was worst since begin.
func (s *stale) end() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = time.Time{}
	return s.worst
}

// told notes that somebody was told now what was so before the switchover: that his
// order does not exist, or is unpaid.
func (s *stale) told() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.at.IsZero() {
		s.worst = max(s.worst, time.Since(s.at))
	}
}

// excuses reports that a read which began then may have been answered as of before the
// switchover.
func (s *stale) excuses(began time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.at.IsZero() && began.Sub(s.at) < staleFor
}
