package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"

	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/stock"
	"orderd/stock/gate"
)

// Gated is a service whose process has a gate, as orderd's have; Close ends both.
type Gated struct {
	Orders *order.Service
	Gate   *gate.Gate
	stop   context.CancelFunc
	ended  chan struct{}
}

// NewGated makes a service with a gate that runs. What g does not name is taken from c: the
// database and the clock; the home is one that nobody else has.
func NewGated(ctx context.Context, c order.Config, g gate.Config) (*Gated, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if g.DB == nil {
		g.DB = c.DB
	}
	g.Now, g.Home = c.Now, "bench-"+ulid.Make().String()
	c.Gate = gate.New(g)
	orders, err := NewService(c)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	s := &Gated{Orders: orders, Gate: c.Gate, stop: stop, ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		s.Gate.Run(ctx, orders)
	}()
	return s, nil
}

// gateKnown bounds the wait until a process has read of a gate. It reads them four times a
// second; on a machine whose cores are all in use that may take longer.
const gateKnown = 20 * time.Second

// Await waits until this process knows the gate of a SKU.
func (s *Gated) Await(ctx context.Context, skuID string) error {
	for end := time.Now().Add(gateKnown); !s.Gate.Knows(skuID); sqldb.Sleep(ctx, 10*time.Millisecond) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("the gate of %s was not read within %s", skuID, gateKnown)
		}
	}
	return nil
}

// Close gives the units of the process back, and ends the service.
func (s *Gated) Close() {
	s.stop()
	<-s.ended
	s.Orders.Close()
}

// FromBuckets is how many units of a database's orders came from buckets as a gate of this mode has
// them, and not from the pool. A measurement of a gate that gave nothing out has measured
// something else.
func FromBuckets(ctx context.Context, db *sqldb.DB, mode stock.GateMode) (units int64, err error) {
	home := "<>"
	if mode == stock.GateRedis {
		home = "="
	}
	err = db.QueryRowContext(ctx, `SELECT COALESCE(-SUM(f.delta), 0)
FROM stock_flows f
JOIN stock_buckets b ON b.bucket_id = f.bucket_id
WHERE b.home `+home+` ?`, stock.HomeRedis).Scan(&units)
	return units, err
}

// OpenGate gives a SKU a gate of this mode, with so many buckets in Redis.
func OpenGate(ctx context.Context, db *sqldb.DB, skuID string, mode stock.GateMode, buckets int64) error {
	_, err := stock.NewAdmin(db, time.Now).SetGate(ctx, stock.GateChange{SkuID: skuID, Mode: mode, Buckets: buckets,
		Actor: "cli:orderload", Reason: "a measurement"})
	if err != nil {
		return fmt.Errorf("open the gate of %s: %w", skuID, err)
	}
	return nil
}
