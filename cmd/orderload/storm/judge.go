package storm

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"orderd/cmd/orderload/bench"
	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/order/audit"
)

// outcome is what the database says after a storm: exact, for every order.
type outcome struct {
	// Closed and Paid are orders of the crowd by their end; together they must be all.
	Closed, Paid int
	// Rate is orders closed a second, from the first deadline to the last close.
	Rate float64
	// Taken is from the deadline to closing, Ended from the deadline to closed: in
	// between stands the call of WeChat Pay.
	Taken bench.Quantiles
	Ended bench.Quantiles
	// Early were taken before the deadline, which must be none: a buyer may still pay
	// then.
	Early int64
	// Tries are closes asked of WeChat Pay, as they were intended; Twice the orders that
	// were asked about more than once.
	Tries int64
	Twice int
	// Late is the 99th percentile of Taken, by the second of the deadline.
	Late []point
	// Backlog is due and open, five times a second; Most is its highest.
	Backlog []point
	Most    int
	// CPU is in seconds, from the first deadline to the end.
	CPU cpu
	// Memory is resident, Redis used_memory, both the peak in bytes.
	Memory int64
	Redis  int64
}

// point is a value of a diagram, at a time in seconds since the first deadline.
type point struct{ At, Value float64 }

// judge reads what became of the crowd and refuses what must not be. It runs after
// everything was stopped: none of its queries is in a figure.
func (st *storm) judge(ctx context.Context, run *running) error {
	o := &st.Outcome
	if err := st.countStates(ctx); err != nil {
		return err
	}
	if err := st.readEvents(ctx); err != nil {
		return err
	}
	// Drained was looked for now and then; the backlog knows it to sampleEvery.
	over := o.Backlog[len(o.Backlog)-1].At
	st.Drained = st.First.Add(time.Duration(over * float64(time.Second)))
	o.CPU, o.Memory, o.Redis = st.usage(over)
	// close_tries counts intents; the gateway knows what was asked. Workers have one
	// each, in their process: then the intents have to do.
	if st.wechat != nil && st.k.Workers == 0 {
		o.Twice = st.wechat.ClosedTwice()
	}
	if run.fleet != nil {
		st.Workers = run.fleet.results(o.Closed)
	}
	if st.beside != nil {
		st.Beside = st.beside.judge(st.First, st.Drained)
	}
	if st.buyers != nil {
		st.Paid = st.buyers.judge()
	}
	if st.protocol != nil {
		st.Protocol = st.protocol.judge(o)
	}
	return errors.Join(st.refuse(ctx), bench.Verify(ctx, st.db.DB, audit.VerifyOptions{Quiescent: true}))
}

// refuse says what must not be, beside the invariants of Verify: a mode that is fast and
// wrong has no figures.
func (st *storm) refuse(ctx context.Context) error {
	o := st.Outcome
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.Closed+o.Paid != st.crowd.n {
		bad("%d orders closed and %d paid of %d", o.Closed, o.Paid, st.crowd.n)
	}
	if o.Early > 0 {
		bad("%d orders were taken to closing before their deadline", o.Early)
	}
	// A paid order keeps its unit, a closed one has given it back: exactly once.
	var out int64
	err := st.db.QueryRowContext(ctx, `SELECT COALESCE(SUM(delta), 0)
FROM stock_flows
WHERE order_no BETWEEN ? AND ?`, st.crowd.ends()...).Scan(&out)
	if err != nil {
		return err
	}
	if out != -int64(o.Paid) {
		bad("%d units are out for %d paid orders", -out, o.Paid)
	}
	if st.buyers != nil {
		if n := int(st.buyers.paid.Load()); n != o.Paid {
			bad("WeChat Pay holds the money of %d orders, %d are paid", n, o.Paid)
		}
		errs = append(errs, st.buyers.err())
	}
	if st.wechat != nil && st.k.Workers == 0 {
		errs = append(errs, st.unproven(ctx))
	}
	return errors.Join(errs...)
}

// unproven looks for orders that are closed here and not at WeChat Pay: their stock is
// back, and they can still be paid.
func (st *storm) unproven(ctx context.Context) error {
	n := 0
	err := sqldb.Each(ctx, st.db.DB, `SELECT order_no
FROM orders
WHERE order_no BETWEEN ? AND ?
  AND state = 'closed'`, st.crowd.ends(), func(rows *sql.Rows) error {
		var no string
		if err := rows.Scan(&no); err != nil {
			return err
		}
		if !st.wechat.IsClosed(seqOf(no)) {
			n++
		}
		return nil
	})
	if err == nil && n > 0 {
		err = fmt.Errorf("%d orders are closed and WeChat Pay has not closed them", n)
	}
	return err
}

// countStates counts the orders by their state, and how often WeChat Pay was asked about
// them: close_tries above one is a close that was intended twice.
func (st *storm) countStates(ctx context.Context) error {
	return sqldb.Each(ctx, st.db.DB, `SELECT state, COUNT(*), SUM(close_tries),
  SUM(CASE WHEN close_tries > 1 THEN 1 ELSE 0 END)
FROM orders
WHERE order_no BETWEEN ? AND ?
GROUP BY state`, st.crowd.ends(), func(rows *sql.Rows) error {
		var state order.State
		var n, tries, twice int64
		if err := rows.Scan(&state, &n, &tries, &twice); err != nil {
			return err
		}
		switch state { // refuse finds whatever is neither closed nor paid
		case order.StateClosed:
			st.Outcome.Closed = int(n)
		case order.StatePaid:
			st.Outcome.Paid = int(n)
		case order.StatePending, order.StateClosing, order.StateRefunding, order.StateRefunded, order.StateLate:
		}
		st.Outcome.Tries += tries
		st.Outcome.Twice += int(twice)
		return nil
	})
}

// readEvents measures every order by its events and its deadline. The due time
// itself is gone with the close; the deadline is not.
func (st *storm) readEvents(ctx context.Context) error {
	o := &st.Outcome
	// The database groups by lateness, so that a million orders are some thousand rows.
	// Times are in milliseconds; the due time is the deadline (expire_at) and the grace.
	taken, closed := bench.Histogram{}, bench.Histogram{}
	bySecond, ends := map[int64]bench.Histogram{}, bench.Histogram{}
	var lastClose int64
	first, grace := st.First.UnixMilli(), seedGrace.Milliseconds()
	err := sqldb.Each(ctx, st.db.DB, `SELECT e.event, o.expire_at, e.at - o.expire_at AS took, COUNT(*)
FROM orders o
JOIN order_events e ON e.order_no = o.order_no
WHERE o.order_no BETWEEN ? AND ?
  AND e.event IN ('close.requested', 'close.accepted', 'payment.applied')
GROUP BY e.event, o.expire_at, e.at - o.expire_at`, st.crowd.ends(), func(rows *sql.Rows) error {
		var event string
		var expire, took, n int64
		if err := rows.Scan(&event, &expire, &took, &n); err != nil {
			return err
		}
		due, late := expire+grace-first, took-grace
		switch event {
		// The order is closing from here on; the stock is back at close.accepted.
		case "close.requested":
			taken[late] += n
			if late < 0 {
				o.Early += n
			}
			if bySecond[due] == nil {
				bySecond[due] = bench.Histogram{}
			}
			bySecond[due][late] += n
			return nil
		case "close.accepted":
			closed[late] += n
			lastClose = max(lastClose, due+late)
		}
		ends[due+max(late, 0)] += n // who pays ahead of the deadline is in no backlog
		return nil
	})
	if err != nil {
		return err
	}
	o.Taken, o.Ended = taken.Quantiles(), closed.Quantiles()
	if lastClose > 0 {
		o.Rate = float64(o.Closed) / (float64(lastClose) / 1000)
	}
	o.Late = latePoints(bySecond)
	o.Backlog, o.Most = st.crowd.backlog(ends)
	return nil
}

// latePoints is the 99th percentile by second, in seconds.
func latePoints(bySecond map[int64]bench.Histogram) []point {
	points := make([]point, 0, len(bySecond))
	for due, c := range bySecond {
		points = append(points, point{float64(due) / 1000, c.Quantiles().P99.Seconds()})
	}
	slices.SortFunc(points, func(a, b point) int { return cmp.Compare(a.At, b.At) })
	return points
}

// backlog is how many were due and open, every sampleEvery until the last had ended,
// from how many ended by millisecond since the first deadline.
func (c crowd) backlog(ends bench.Histogram) (points []point, most int) {
	keys := slices.Sorted(maps.Keys(ends))
	const step = int64(sampleEvery / time.Millisecond)
	ended := 0
	for at := int64(0); ; at += step { // milliseconds since the first deadline
		for len(keys) > 0 && keys[0] <= at {
			ended += int(ends[keys[0]])
			keys = keys[1:]
		}
		open := c.dueBy(c.first.Add(time.Duration(at)*time.Millisecond)) - ended
		points = append(points, point{float64(at) / 1000, float64(open)})
		most = max(most, open)
		if len(keys) == 0 {
			return points, most
		}
	}
}
