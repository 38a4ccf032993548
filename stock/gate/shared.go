package gate

import (
	"context"

	"orderd/stock"
)

// Shared is a home of buckets that all processes share: of the gates in mode redis. It
// decides nothing either. A line that it gives no bucket is decided by the ledger, which asks
// whether the buyer has an order before it refuses anybody: so what the home has forgotten is
// never what a buyer is told. Safe for concurrent use.
type Shared interface {
	// Up reports that the home can be asked. While it cannot, its gates are sold like those
	// in mode local.
	Up() bool
	// Take sets units aside for the lines of a claim that are named by their index, for all
	// those of a sale or for none. It gives the bucket of each of them, 0 for none, and a
	// function that is to be told once what became of the units; nil when there are none. It
	// takes half a second at most.
	Take(c *Claim, lines []int) (buckets []int64, settle func(Outcome))
	// Fenced tells of buckets that the database found closed, or with less than was given out.
	Fenced(ids []int64)
	// Keep is called at each look of the keeper, with the gates in mode redis as they are
	// now. It opens, fills and mends.
	Keep(ctx context.Context, gates []*stock.Gate) error
}

// mode gives the mode by which a gate is sold at this moment.
func (g *Gate) mode(c *stock.Gate) stock.GateMode {
	if c.Mode == stock.GateRedis && (g.cfg.Shared == nil || !g.cfg.Shared.Up()) {
		return stock.GateLocal
	}
	return c.Mode
}

// takeShared asks the shared home for the units of some lines of a claim.
func (g *Gate) takeShared(t *Ticket, c *Claim, lines []int) {
	if len(lines) == 0 {
		return
	}
	buckets, settle := g.cfg.Shared.Take(c, lines)
	t.settle = settle
	for i, line := range lines {
		g.got(t, c, line, stock.GateRedis, buckets[i])
	}
	if settle == nil {
		g.wake() // it is empty, lost or not there yet
	}
}

// got notes the bucket of a line, 0 for none.
func (g *Gate) got(t *Ticket, c *Claim, line int, mode stock.GateMode, bucket int64) {
	if bucket == 0 {
		g.cfg.Observe.GateDecision(string(mode), "pool")
		return
	}
	g.cfg.Observe.GateDecision(string(mode), "taken")
	if t.Buckets == nil {
		t.Buckets, t.lines = make([]int64, len(c.Lines)), c.Lines
	}
	t.Buckets[line] = bucket
}
