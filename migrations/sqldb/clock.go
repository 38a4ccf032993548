package sqldb

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// Bounds of a Clock.
const (
	// clockEvery is the mean time between two looks: a machine's clock drifts by
	// milliseconds in it.
	clockEvery = time.Minute
	// clockPatience bounds one question to the database.
	clockPatience = 2 * time.Second
	// clockGood is how long a question may take: what it took is what its answer may be wrong
	// by. A slower one is asked again, clockTries times in all, and the quickest counts.
	clockGood  = 50 * time.Millisecond
	clockTries = 3
	// clockWarn is how wrong a machine's clock may be before an operator is told.
	clockWarn = time.Second
)

// Clock tells the time of the database. All instances that share a database
// agree on it, however wrong their own clocks are: an order expires by it, and
// so never early because one machine's clock is ahead. Between two looks at the
// database it runs by the machine's monotonic clock, which steps of the wall
// clock do not touch. On TiDB it is the cluster's time, to the millisecond, and
// not that of the one tidb-server behind a balancer.
type Clock struct {
	db  *DB
	now func() time.Time

	mu            sync.Mutex
	local, server time.Time // the same moment
}

// NewClock asks the database for its time. now is the machine's clock, time.Now.
// SQLite runs on this machine: there it is the clock.
func NewClock(ctx context.Context, db *DB, now func() time.Time) (*Clock, error) {
	c := &Clock{db: db, now: now}
	return c, c.Sync(ctx)
}

// Now gives the database's time.
func (c *Clock) Now() time.Time {
	if c.db.engine == SQLite {
		return c.now()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.server.Add(c.now().Sub(c.local))
}

// Off is how far the machine's clock is ahead of the database's.
func (c *Clock) Off() time.Duration { return c.now().Round(0).Sub(c.Now()) }

// Sync looks at the database's clock. What the way there and back explains is
// no difference: the time does not jump to and fro with every look.
func (c *Clock) Sync(ctx context.Context) error {
	if c.db.engine == SQLite {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, clockPatience)
	defer cancel()
	var middle, server time.Time
	took := clockPatience
	for range clockTries {
		m, s, t, err := c.ask(ctx)
		if err != nil && server.IsZero() {
			return err
		}
		if err == nil && t <= took || server.IsZero() {
			middle, server, took = m, s, t
		}
		if err != nil || took <= clockGood {
			break
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if off := c.server.Add(middle.Sub(c.local)).Sub(server); c.local.IsZero() || off.Abs() > took {
		c.local, c.server = middle, server
	}
	return nil
}

// ask asks the database for its time once: what it said, the machine's time at the middle of the
// question, and how long the question took.
func (c *Clock) ask(ctx context.Context) (middle, server time.Time, took time.Duration, err error) {
	begin := c.now()
	var us, precision int64 // in microseconds
	if c.db.tidb {
		precision = 1000
		us, err = c.db.clusterNow(ctx)
	} else {
		const ask = "SELECT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED)"
		err = c.db.QueryRowContext(ctx, ask).Scan(&us)
	}
	if err != nil {
		return middle, server, 0, fmt.Errorf("ask the database for its time: %w", err)
	}
	took = c.now().Sub(begin)
	return begin.Add(took / 2), time.UnixMicro(us).UTC(), took + time.Duration(precision)*time.Microsecond, nil
}

// Keep looks at the database's clock until ctx ends. A look that fails changes
// nothing: the time goes on by the machine's.
func (c *Clock) Keep(ctx context.Context, log *slog.Logger) {
	for {
		if off := c.Off(); off.Abs() > clockWarn {
			log.Warn("this machine's clock is not the database's, which counts", "ahead_by",
				off.Round(time.Millisecond))
		}
		t := time.NewTimer(clockEvery/2 + rand.N(clockEvery))
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		if err := c.Sync(ctx); err != nil && ctx.Err() == nil {
			log.Warn("clock not compared with the database's", "err", err)
		}
	}
}
