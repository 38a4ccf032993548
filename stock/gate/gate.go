package gate

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/failpoint"
	"orderd/stock"
)

// Keys gives the placements that have an order, for those who are not to be told from memory
// that a SKU is sold out.
type Keys interface {
	// RequestKeys gives customer and key of every order with a line of this SKU that was
	// given its number at or after since and is committed, also of closed orders.
	RequestKeys(ctx context.Context, skuID string, since time.Time, do func(customerID, requestID string)) error
}

// Observer is told what the gate did. Implementations must be quick and safe for
// concurrent use.
type Observer interface {
	// GateDecision: a placement met a gate of this mode. code is taken (a unit of memory),
	// pool (the ledger decides), queued (it waits), not_ready (it is to come again), sold_out or
	// not_started (refused from memory).
	GateDecision(mode, code string)
	// GateFenced: a bucket of this process was closed by somebody else.
	GateFenced()
	// GateRecalled: a batch of this process has called so many buckets back, of whichever
	// process or of Redis, because the pool was short.
	GateRecalled(buckets int)
	// GateGranted: units came from the pool, and how long it took.
	GateGranted(units int64, took time.Duration)
}

// Config shapes a Gate. DB and Now are required.
type Config struct {
	DB      *sqldb.DB
	Now     func() time.Time // the database's clock
	Log     *slog.Logger     // nil: silent
	Observe Observer         // nil: nobody watches
	// Home names this process among all, and no second one ever. It is the holder of its
	// buckets.
	Home string
	// NoAuto leaves SKUs that are found hot alone.
	NoAuto bool
	// Shared is the home of the gates in mode redis; nil: this process never reaches it. See
	// Shared.Up.
	Shared Shared
}

// Gate is the gate of one process. All methods are safe for concurrent use, and a nil Gate is
// none: everything is decided by the ledger.
type Gate struct {
	cfg   Config
	admin *stock.Admin
	view  atomic.Pointer[view]
	first chan struct{} // closed when the gates were first read
	ring  chan struct{} // the keeper is to look before its time
	hot   detector
	// believe is stock.MarkFor, and more in a test that wants to see it fail.
	believe time.Duration

	mu      sync.Mutex // guards orphans
	orphans []int64    // buckets of this process that are in doubt, to be closed
}

// view is what the gates were when the keeper last read them.
type view struct {
	asOf  time.Time // of this machine, before it was read; for durations only
	gates map[string]*gated
}

// staleAfter: a process that has not read the gates for so long hands out nothing, as it does
// not know them; it is also how long a change takes to be known everywhere.
const staleAfter = time.Second

// gated is one SKU with a gate, for as long as it has one.
type gated struct {
	conf    atomic.Pointer[stock.Gate]
	local   holding
	marks   marks
	refused atomic.Int64 // units refused from memory since the last count
	queues  atomic.Bool  // it may have had a queue, of which placements may still wait
	// forsaken: no process has reached the shared home of it for long. Of a gate with a queue.
	forsaken atomic.Bool
}

// New makes the gate of a process. Run keeps it.
func New(cfg Config) *Gate {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Observe == nil {
		cfg.Observe = nobody{}
	}
	return &Gate{cfg: cfg, admin: stock.NewAdmin(cfg.DB, cfg.Now), first: make(chan struct{}),
		ring: make(chan struct{}, 1), believe: stock.MarkFor}
}

// First is closed when Run has read the gates for the first time. Until then a process does not know
// which SKUs have one, and sells all of them from their pools.
func (g *Gate) First() <-chan struct{} { return g.first }

// Claim is a placement that asks for units.
type Claim struct {
	CustomerID, RequestID string
	// OrderNo is made before the first try, and the same in every repeat of this try.
	OrderNo string
	Hash    string       // of the body that was sent under RequestID
	Lines   []stock.Line // no SKU twice
	// Payload gives all that is needed to make the order later, as Entry.Payload has it; it is
	// asked where the claim may have to wait. Nil: the claim cannot.
	Payload func() []byte
}

// Ticket is what a placement got: units that are set aside for it, until Settle. With Queued or
// NotReady it has none, and the ledger makes no order of it now: it is asked whether one
// exists under its key, because either may be the answer to a repeat.
type Ticket struct {
	// Buckets has the bucket of each line, 0 for the pool, stock.FromNowhere for neither; nil when all
	// are of the pool.
	Buckets []int64
	// Queued: it is in the queue. When an earlier try of it is (Repeat), that may just have
	// become an order; one that was withdrawn stays so. Nil: it is not in the queue.
	Queued *Queued
	// NotReady is after how long to come again, under the same key: the queue is full, or the
	// buckets are about to change. 0: it is ready.
	NotReady time.Duration
	// Reused: its key waits, or is being placed, with another body. The ledger is asked as with
	// NotReady.
	Reused bool
	// OrderNo: the units are those of an earlier try of this placement, of which nobody knows whether
	// somebody still has them: the order is to be made under its number, unless it is there. "": they
	// are this try's.
	OrderNo string
	// Asked: every bucket was asked that may have units, and none has enough. Where it does not
	// say so and the ledger finds too few but units Elsewhere (stock.Short), it is not sold
	// out: the placement is to come again.
	Asked  bool
	lines  []stock.Line
	settle func(Outcome) // what is of the shared home; nil: nothing
}

// Refusal: a placement is refused from memory, without a statement. It is certain for
// everybody who has no order under this key.
type Refusal struct {
	Items   []stock.Short // sold out
	OpensAt time.Time     // or not begun: the begin of the sale
	SkuID   string        // of it
	Index   int           // of its line
}

// known gives the gates as this process may act on them, nil when there are none or it has
// not read them for too long.
func (g *Gate) known() *view {
	if g == nil {
		return nil
	}
	v := g.view.Load()
	if v == nil || len(v.gates) == 0 || time.Since(v.asOf) > staleAfter {
		return nil
	}
	return v
}

// Take sets units aside before the database is asked. A line without a bucket is decided
// by the ledger: its SKU has no gate, or this process has nothing of it at this moment. Where it
// has a queue the ledger sells none of it (stock.FromNowhere): units of its pool may be those of
// buckets that were given up, for which others wait.
func (g *Gate) Take(c *Claim) Ticket {
	var t Ticket
	v := g.known()
	if v == nil {
		g.takeBlind(&t, c)
		return t
	}
	var shared, local []int // by their mode at one moment: a line has units of one home
	for i, l := range c.Lines {
		s := v.gates[l.SkuID]
		if s == nil {
			continue
		}
		switch g.mode(s) {
		case stock.GateRedis:
			shared = append(shared, i)
		case stock.GateLocal:
			local = append(local, i)
		case stock.GateOff:
		}
	}
	if !g.takeShared(&t, c, v, shared) {
		return t
	}
	for _, i := range local {
		bucket, low := v.gates[c.Lines[i].SkuID].local.take(c.Lines[i].Quantity)
		if low {
			g.wake()
		}
		g.got(&t, c, i, stock.GateLocal, bucket)
	}
	if slices.ContainsFunc(t.Buckets, func(id int64) bool { return id > 0 }) {
		failpoint.Hit("gate.taken")
	}
	return t
}

// takeBlind is Take of a process that has not read the gates for too long. That they had a queue it
// still knows.
func (g *Gate) takeBlind(t *Ticket, c *Claim) {
	if g == nil || g.view.Load() == nil {
		return
	}
	v := g.view.Load()
	for i, l := range c.Lines {
		if s := v.gates[l.SkuID]; s != nil && s.conf.Load().Queues() && g.mode(s) == stock.GateRedis {
			t.from(c, i, stock.FromNowhere)
		}
	}
}

// Refuse gives the refusal of a claim that memory can refuse, nil for none. Of the claim it
// needs customer, key and lines.
func (g *Gate) Refuse(c *Claim) *Refusal {
	v := g.known()
	if v == nil {
		return nil
	}
	var r *Refusal
	for i, l := range c.Lines {
		s := v.gates[l.SkuID]
		if s == nil {
			continue
		}
		m := s.marks.refuses(c)
		if m == nil {
			continue
		}
		s.refused.Add(l.Quantity)
		mode := string(s.conf.Load().Mode)
		if !m.opensAt.IsZero() {
			if !m.opensAt.After(g.cfg.Now()) {
				continue // it has begun: the mark ends this very moment
			}
			g.cfg.Observe.GateDecision(mode, "not_started")
			return &Refusal{OpensAt: m.opensAt, SkuID: l.SkuID, Index: i}
		}
		g.cfg.Observe.GateDecision(mode, "sold_out")
		if r == nil {
			r = new(Refusal)
		}
		r.Items = append(r.Items, stock.Short{Index: i, SkuID: l.SkuID, Requested: l.Quantity})
	}
	return r
}

// Outcome says what became of a ticket.
type Outcome int

// The outcomes.
const (
	// Used: the units are an order's, or nobody's any more.
	Used Outcome = iota
	// Unused: nothing was written for the placement. The units are free again.
	Unused
	// Unknown: its COMMIT had no answer. The buckets are given up: whoever closes their rows
	// finds what is left.
	Unknown
)

// Settle says what became of a ticket. It is called once for each.
func (g *Gate) Settle(t Ticket, o Outcome) {
	if g == nil {
		return
	}
	if t.settle != nil {
		t.settle(o)
	}
	if t.Buckets == nil || o == Used {
		return
	}
	v := g.view.Load()
	for i, id := range t.Buckets {
		if id <= 0 {
			continue
		}
		s := v.gates[t.lines[i].SkuID]
		switch {
		case s == nil:
		case o == Unused:
			s.local.putBack(id, t.lines[i].Quantity)
		default:
			if s.local.drop(id) {
				g.orphan(id)
			}
		}
	}
}

// Learn takes in what a batch has found out, after its COMMIT. asOf is a moment before it
// read anything, of this machine.
func (g *Gate) Learn(news stock.News, asOf time.Time) {
	if g == nil || len(news.Closed)+len(news.Fenced) == 0 {
		return
	}
	v := g.view.Load()
	if v == nil {
		return
	}
	for _, c := range news.Closed {
		if s := v.gates[c.SkuID]; s != nil && s.marks.extend(asOf, time.Now(), min(c.For, g.believe), c.OpensAt) {
			g.wake() // its keys are to be read
		}
	}
	if news.Recalled > 0 {
		g.cfg.Observe.GateRecalled(news.Recalled)
	}
	if g.cfg.Shared != nil && len(news.Fenced) > 0 {
		g.cfg.Shared.Fenced(news.Fenced)
		g.wake()
	}
	for _, id := range news.Fenced {
		for _, s := range v.gates {
			if s.local.drop(id) {
				g.cfg.Observe.GateFenced()
				g.orphan(id)
			}
		}
	}
}

// Demand tells what a batch asked for, by SKU, or, again, that a batch of these had to be run
// again because a neighbour had taken what it counted on.
func (g *Gate) Demand(units map[string]int64, again bool) {
	if g != nil && !g.cfg.NoAuto {
		g.hot.count(units, again)
	}
}

// orphan has a bucket of this process closed, whose units are in doubt.
func (g *Gate) orphan(id int64) {
	g.mu.Lock()
	g.orphans = append(g.orphans, id)
	g.mu.Unlock()
	g.wake()
}

// wake has the keeper look before its time.
func (g *Gate) wake() {
	select {
	case g.ring <- struct{}{}:
	default: // it is about to
	}
}

// nobody watches.
type nobody struct{}

func (nobody) GateDecision(string, string)      {}
func (nobody) GateFenced()                      {}
func (nobody) GateRecalled(int)                 {}
func (nobody) GateGranted(int64, time.Duration) {}

// Knows reports that this process has read of a gate of this SKU, not longer ago than it
// may act on it.
func (g *Gate) Knows(skuID string) bool {
	v := g.known()
	return v != nil && v.gates[skuID] != nil
}
