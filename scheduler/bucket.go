package scheduler

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"orderd/migrations/sqldb"
)

// Bounds of a Bucket.
const (
	// clockSlack is how far the clocks of replicas may be apart. A row that lies
	// further ahead was written by a wrong clock, or at a much lower rate.
	clockSlack = 3 * time.Second
	// leastWait is the shortest wait for a permit: nobody asks in a tight loop.
	leastWait = time.Millisecond
	// second is a second in microseconds, the unit of rate_limits.next_at: at
	// thousands of calls a second, a permit is a fraction of a millisecond.
	second = float64(time.Second / time.Microsecond)
	// heldShare is which part of the rate each process takes by itself while somebody
	// holds the row, a fourth: that many processes keep the rate together.
	heldShare = 4
)

// Bucket is a rate that all replicas keep together, by a row of the table
// rate_limits. It is in the database, not in Redis, so that the loss of Redis is
// no reason to call WeChat Pay twice as often.
//
// The row says up to when permits are given away, as the generic cell rate
// algorithm (GCRA) does: the next permit begins there, or now when that is past,
// and no more than burst of them may lie ahead of now.
//
// In any time t no more than perSecond × t + burst permits are taken, as long as
// the replicas' clocks agree; clocks that are d apart cost up to 2 × perSecond × d
// once. A permit whose commit got no answer is lost, not given twice.
//
// While another session holds the row, a forgotten BEGIN, each process goes on with
// a share of the rate and of the burst, heldShare, of its own: orders are closed, if
// slowly. More processes than that exceed the rate while it lasts, and its beginning
// costs up to one more burst, once.
type Bucket struct {
	db        *sqldb.DB
	name      string // of the row
	perSecond float64
	burst     int // permits
	now       func() time.Time
	held      sqldb.Locked // the name, while somebody was found to hold the row
	alone     *localBucket // the share of this process meanwhile
}

// NewBucket returns the rate of that name: at most perSecond permits a second, and
// burst (at least one) together after a rest. A perSecond of zero or less is no
// limit. now is the database's clock (sqldb.Clock).
func NewBucket(db *sqldb.DB, name string, perSecond float64, burst int, now func() time.Time) *Bucket {
	alone := &localBucket{Bucket: &Bucket{perSecond: perSecond / heldShare, burst: max(burst/heldShare, 1), now: now}}
	return &Bucket{db: db, name: name, perSecond: perSecond, burst: max(burst, 1), now: now, alone: alone}
}

// Take takes up to n permits at once, maybe none. Where it got fewer, wait is how
// long until the next one is free, if nobody is quicker; it is never much more
// than the time of one permit, of the share while the row is held. The errors are those of sqldb.DB.InTx, and no
// permit was got.
func (b *Bucket) Take(ctx context.Context, n int) (got int, wait time.Duration, err error) {
	return b.take(ctx, n, 0)
}

// Spare is the same rate for whoever comes last: it leaves half of the burst to those
// who Take, who so go first also when it takes all that it gets.
func (b *Bucket) Spare() Limiter { return spare{b.take, b.burst / 2} }

// spare is a rate of which some permits are always left to others. It implements
// Limiter.
type spare struct {
	take  func(ctx context.Context, n, leave int) (got int, wait time.Duration, err error)
	leave int // permits
}

// Take implements Limiter.
func (s spare) Take(ctx context.Context, n int) (got int, wait time.Duration, err error) {
	return s.take(ctx, n, s.leave)
}

// take is Take that leaves so many permits of the burst.
func (b *Bucket) take(ctx context.Context, n, leave int) (got int, wait time.Duration, err error) {
	switch {
	case n <= 0:
		return 0, 0, nil
	case b.perSecond <= 0:
		return n, 0, nil
	}
	found := b.held.Any(b.name)
	if !found || b.held.Due(b.name) {
		got, wait, err = b.takeRow(ctx, n, leave, found)
		switch {
		case errors.Is(err, errHeld):
			b.held.Found(b.name)
		case err == nil && found:
			b.held.Free(b.name)
			return got, wait, nil
		default:
			return got, wait, err
		}
	}
	return b.alone.take(ctx, n, leave/heldShare)
}

// errHeld: another session holds the row of a rate.
var errHeld = errors.New("the row of the rate is held")

// takeRow takes permits by the row. With noWait it does not wait for whoever holds it.
func (b *Bucket) takeRow(ctx context.Context, n, leave int, noWait bool) (got int, wait time.Duration, err error) {
	had := false // the row was locked here, or is not there: nobody holds it
	run := func(ctx context.Context, tx *sqldb.Tx) error {
		var next, after int64
		err := tx.QueryRowContext(ctx, `SELECT next_at
FROM rate_limits
WHERE name = ?
FOR UPDATE`, b.name).Scan(&next)
		isNew := errors.Is(err, sql.ErrNoRows)
		if err != nil && !isNew {
			return err
		}
		had = true
		// The clock is read under the lock: whoever waited for it sees a later time.
		got, wait, after = b.share(n, leave, next, b.now().UnixMicro())
		switch {
		case isNew:
			err = tx.InsertRows(ctx, "INSERT INTO rate_limits (name, next_at) VALUES", 2, []any{b.name, after})
			if sqldb.IsDuplicate(err) { // several began at once: the row is there now
				return sqldb.ErrLostRace
			}
			return err
		case after == next:
			return nil
		}
		return b.move(ctx, tx, next, after)
	}
	err = b.db.InTxOfMany(ctx, noWait, run)
	switch {
	case !errors.Is(err, sqldb.ErrLocked) || errors.Is(err, sqldb.ErrUnknown):
	case had: // others took at the same moment, again and again
		err = b.db.InTx(ctx, run)
	default:
		err = fmt.Errorf("%w: %w", errHeld, err)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("take %d turns of %s: %w", n, b.name, err)
	}
	return got, wait, nil
}

// move changes the row from one next_at to another. When somebody has changed it
// since it was read, sqldb.ErrLostRace has the transaction done again.
func (b *Bucket) move(ctx context.Context, tx *sqldb.Tx, from, to int64) error {
	rows, err := tx.Update(ctx, `
UPDATE rate_limits
SET next_at = ?
WHERE name = ?
  AND next_at = ?`, to, b.name, from)
	if err == nil && rows == 0 {
		return sqldb.ErrLostRace
	}
	return err
}

// share decides how many of n permits are free at now, when permits are given away
// up to next and so many of the burst are left, and up to when they are given away
// then. Times are in microseconds.
func (b *Bucket) share(n, leave int, next, now int64) (got int, wait time.Duration, after int64) {
	full := now + b.cost(b.burst)
	if next > full+clockSlack.Microseconds() {
		// A wrong clock wrote this, or a much lower rate. Nobody waits for that time
		// to come: from here on one permit after the other, without a burst.
		next = full
	}
	full -= b.cost(leave)
	begin := max(next, now)
	if room := full - begin; room > 0 {
		got = int(min(float64(n), float64(room)*b.perSecond/second))
	}
	if got > 0 {
		next = begin + b.cost(got)
	}
	if got < n {
		free := max(next, now) + b.cost(1) - full
		wait = max(time.Duration(free)*time.Microsecond, leastWait)
	}
	return got, wait, next
}

// cost is how many microseconds n permits take, rounded up: a rate is never
// exceeded by rounding.
func (b *Bucket) cost(n int) int64 { return int64(math.Ceil(float64(n) * second / b.perSecond)) }

// localBucket is the rate of one worker that shares it with nobody: a Bucket
// without a database. It implements Limiter.
type localBucket struct {
	*Bucket
	mu   sync.Mutex
	next int64 // as in the column rate_limits.next_at
}

// Take implements Limiter.
func (l *localBucket) Take(ctx context.Context, n int) (got int, wait time.Duration, err error) {
	return l.take(ctx, n, 0)
}

// Spare is that of Bucket.
func (l *localBucket) Spare() Limiter { return spare{l.take, l.burst / 2} }

// take is Take that leaves so many permits of the burst.
func (l *localBucket) take(_ context.Context, n, leave int) (got int, wait time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	got, wait, l.next = l.share(n, leave, l.next, l.now().UnixMicro())
	return got, wait, nil
}
