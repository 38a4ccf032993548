package gate

import (
	"context"
	"time"

	"orderd/stock"
)

// Shared is a home of buckets that all processes share: of the gates in mode redis. It
// decides nothing either. A line that it gives no bucket is decided by the ledger, which asks
// whether the buyer has an order before it refuses anybody: so what the home has forgotten is
// never what a buyer is told. Safe for concurrent use.
type Shared interface {
	Queue
	// Up reports that the home can be asked. While it cannot, its gates are sold like those
	// in mode local; those with a queue when no other process has reached it for stock.SeenFor.
	Up() bool
	// Take sets units aside for the lines of a claim that are named by their index, for all
	// those of a sale or for none. It takes half a second at most.
	Take(c *Claim, lines []int) Taken
	// Fenced tells of buckets that the database found closed, or with less than was given out.
	Fenced(ids []int64)
	// Keep is called at each look of the keeper, with the gates in mode redis as they are
	// now. It opens, fills and mends.
	Keep(ctx context.Context, gates []*stock.Gate) error
}

// Taken is what a claim got of a shared home.
type Taken struct {
	Buckets []int64       // of each of the lines, 0 for none
	OrderNo string        // as of a Ticket; with Settle
	Settle  func(Outcome) // is to be told once what became of the units; nil when there are none
	// The others are those of a Ticket. With Queued, NotReady or Reused nothing is taken otherwise.
	Queued   *Queued
	NotReady time.Duration
	Reused   bool
	Asked    bool
}

// reaches reports that this process can ask the shared home.
func (g *Gate) reaches() bool { return g.cfg.Shared != nil && g.cfg.Shared.Up() }

// mode gives the mode by which a gate is sold at this moment. While this process cannot reach the
// shared home it sells as from memory. Of a gate with a queue it does so only when nobody else has
// reached the home for long either: until then others serve those who wait, and the pool may have
// their units.
func (g *Gate) mode(s *gated) stock.GateMode {
	c := s.conf.Load()
	if c.Mode == stock.GateRedis && !g.reaches() && (!c.Queues() || s.forsaken.Load()) {
		return stock.GateLocal
	}
	return c.Mode
}

// takeShared asks the shared home for the units of some lines of a claim. False: the claim
// gets no more than that, it waits or has to come again.
func (g *Gate) takeShared(t *Ticket, c *Claim, v *view, lines []int) bool {
	if len(lines) == 0 {
		return true
	}
	taken, reached := Taken{Buckets: make([]int64, len(lines))}, g.reaches()
	if reached { // else others do
		taken = g.cfg.Shared.Take(c, lines)
	}
	t.settle, t.Asked, t.OrderNo = taken.Settle, taken.Asked, taken.OrderNo
	t.Queued, t.NotReady, t.Reused = taken.Queued, taken.NotReady, taken.Reused
	switch {
	case t.Reused:
		return false
	case t.Queued != nil:
		g.cfg.Observe.GateDecision(string(stock.GateRedis), "queued")
		return false
	case t.NotReady > 0:
		g.cfg.Observe.GateDecision(string(stock.GateRedis), "not_ready")
		g.wake()
		return false
	}
	for i, line := range lines {
		g.got(t, c, line, stock.GateRedis, taken.Buckets[i])
		if taken.Buckets[i] == 0 && v.gates[c.Lines[line].SkuID].conf.Load().Queues() {
			t.from(c, line, stock.FromNowhere)
		}
	}
	if reached && taken.Settle == nil {
		g.wake() // it is empty, lost or not there yet
	}
	return true
}

// got notes the bucket of a line, 0 for none.
func (g *Gate) got(t *Ticket, c *Claim, line int, mode stock.GateMode, bucket int64) {
	if bucket == 0 {
		g.cfg.Observe.GateDecision(string(mode), "pool")
		return
	}
	g.cfg.Observe.GateDecision(string(mode), "taken")
	t.from(c, line, bucket)
}

// from notes what a line of a claim is taken from.
func (t *Ticket) from(c *Claim, line int, bucket int64) {
	if t.Buckets == nil {
		t.Buckets, t.lines = make([]int64, len(c.Lines)), c.Lines
	}
	t.Buckets[line] = bucket
}
