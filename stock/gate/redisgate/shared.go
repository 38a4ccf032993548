package redisgate

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/failpoint"
	"orderd/stock"
	"orderd/stock/gate"
)

// SharedObserver is told what becomes of a shared home. Implementations must be quick and safe
// for concurrent use.
type SharedObserver interface {
	// GateEpoch: the buckets of a sale were given up, and why: joined, lost, behind, ahead,
	// drift, fenced, recalled, taken (the token by an earlier sale of this name), away (Redis, for
	// long) or drained (in order, with nobody waiting).
	GateEpoch(cause string)
	// GateDrift is how many units of all buckets Redis has that the database has not.
	GateDrift(units int64)
	// GateAway: Redis cannot be asked, or can be asked again.
	GateAway(away bool)
}

// SharedConfig shapes a Shared. All but Log and Observe is required.
type SharedConfig struct {
	DB      *sqldb.DB
	Client  redis.UniversalClient // which the caller closes
	Now     func() time.Time      // the database's clock
	Prefix  string                // in front of every key
	Log     *slog.Logger          // nil: silent
	Observe SharedObserver        // nil: nobody watches
}

// Shared sells gates in mode redis from buckets in Redis. See gate.Shared.
type Shared struct {
	cfg     SharedConfig
	home    *Home
	admin   *stock.Admin
	breaker breaker
	resting resting
	view    atomic.Pointer[view]
	noQueue atomic.Bool   // no sale has a queue, as the keeper last read, and none is left of before
	left    atomic.Bool   // the last list of buckets that may have a queue had some
	turn    atomic.Uint32 // of the buckets, to be claimed from first
	// mostQueued bounds the queue of a bucket in a test; 0: as paceOf says.
	mostQueued int64

	mu      sync.Mutex
	fenced  map[int64]bool   // buckets that the database refused
	scarce  map[string]int64 // the most units by SKU that a claim asked for and a bucket had not, since the last look
	later   []settling
	running bool // settles

	keeper keeping // of Keep alone
}

var _ gate.Shared = (*Shared)(nil)

// view is the buckets that can be asked, as the keeper last found them.
type view struct {
	sales map[string]*saleView // by SKU; those of one sale have the same
	names map[string]*saleView // by the name of the sale
	kept  bool                 // the keeper has found them
}

// saleView is the buckets of one sale.
type saleView struct {
	sale  string
	token int64
	lanes map[int64]*lane            // by number
	ids   map[string]map[int64]int64 // bucket by SKU and number; what is not there has no units

	pace    Pace                 // of one bucket, without Now; Every 0: no queue
	lines   []Bucket             // in which some may wait, and that can be asked; without tokens
	paused  bool                 // buckets are given up or not known: come again
	partly  bool                 // some buckets cannot be reached
	opensAt map[string]time.Time // by SKU; nothing is set aside before
	pool    map[string]int64     // units by SKU that are about to come into the buckets
	left    map[string]int64     // units by SKU that were in all buckets
}

// queues reports that what is asked of the sale may have to wait.
func (v *saleView) queues() bool { return v.pace.Every > 0 }

// NewShared gives the shared home in a Redis.
func NewShared(cfg SharedConfig) *Shared {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Observe == nil {
		cfg.Observe = nobody{}
	}
	s := &Shared{cfg: cfg, home: New(cfg.Client, cfg.Prefix), admin: stock.NewAdmin(cfg.DB, cfg.Now),
		fenced: map[int64]bool{}, scarce: map[string]int64{}}
	s.view.Store(&view{})
	s.keeper.suspects, s.keeper.empty = map[int64]suspicion{}, map[Bucket]time.Time{}
	s.keeper.told = map[string]time.Time{}
	s.resting.of = map[Bucket]rest{}
	return s
}

// Up implements gate.Shared.
func (s *Shared) Up() bool { return s.breaker.up() }

// mostTries is how many buckets a claim asks, the customer's own first. Of a sale with a queue it
// asks all: they are not called back when the pool is short, and only so is it known that nothing
// is left.
const mostTries = 3

// Take implements gate.Shared. Only a claim that is of one sale as a whole may wait: of another
// nobody could say that all its lines are set aside.
func (s *Shared) Take(c *gate.Claim, lines []int) gate.Taken {
	t := gate.Taken{Buckets: make([]int64, len(lines)), Asked: true}
	carts, all := s.bySale(c, lines)
	mayWait := all && len(carts) == 1 && len(lines) == len(c.Lines) && c.Payload != nil
	var helds []held
	for _, of := range carts {
		got := s.takeOf(c, of, mayWait)
		t.Queued, t.NotReady, t.Reused = got.queued, got.wait, got.reused
		if t.Queued != nil || t.NotReady > 0 || t.Reused {
			s.settle(helds, gate.Unused)
			t.Asked = false
			return t
		}
		t.Asked = t.Asked && got.asked
		if got.held == nil {
			continue
		}
		helds = append(helds, *got.held)
		if got.held.borrowed {
			t.OrderNo = got.held.orderNo
		}
		for i, line := range lines {
			if slices.Contains(of.lines, line) {
				t.Buckets[i] = of.view.ids[c.Lines[line].SkuID][got.held.lane.bucket.No]
			}
		}
	}
	t.Asked = t.Asked && all
	if helds != nil {
		t.Settle = func(o gate.Outcome) { s.settle(helds, o) }
	}
	return t
}

// cart is the lines of a claim that are of one sale.
type cart struct {
	view  *saleView
	lines []int
}

// bySale gives the lines of a claim that there are buckets for, by ascending sale, and whether
// these are all.
func (s *Shared) bySale(c *gate.Claim, lines []int) (carts []cart, all bool) {
	v := s.view.Load()
	if len(c.OrderNo) != orderNoLen || len(c.CustomerID) > maxCustomer {
		return nil, false
	}
	all = true
	for _, line := range lines {
		of := v.sales[c.Lines[line].SkuID]
		if of == nil {
			all = false
			continue
		}
		i := slices.IndexFunc(carts, func(c cart) bool { return c.view == of })
		if i < 0 {
			i = len(carts)
			carts = append(carts, cart{view: of})
		}
		carts[i].lines = append(carts[i].lines, line)
	}
	slices.SortFunc(carts, func(a, b cart) int { return cmp.Compare(a.view.sale, b.view.sale) })
	return carts, all
}

// held is what a claim has of one sale.
type held struct {
	lane    *lane
	orderNo string
	entry   int64
	lines   []Line
	// borrowed: it is of an earlier try, which settles it, or else the sweep does.
	borrowed bool
}

// parcel is what the log of a bucket says of a ticket, for who finds it there when its maker
// is gone; and what its queue says, for who makes the order.
type parcel struct {
	At    int64 // milliseconds of the database's clock
	Lines []Line
	// Of a ticket that may wait.
	CustomerID string `json:",omitempty"`
	RequestID  string `json:",omitempty"`
	Payload    []byte `json:",omitempty"`
}

// got is what a cart got: a ticket, or one of the others as in gate.Taken.
type got struct {
	held   *held
	queued *gate.Queued
	wait   time.Duration
	reused bool
	asked  bool
}

// comeAgain is after how long a claim is to come again that met buckets which are about to
// change, or a queue that is full.
const comeAgain = time.Second

// takeOf takes the units of a cart from one bucket, the next when there are not enough. A
// bucket that says anything else leaves the claim to the ledger, or, where there is a queue,
// has it come again: the ledger keeps to no rate.
func (s *Shared) takeOf(c *gate.Claim, of cart, mayWait bool) got {
	v := of.view
	switch {
	case v.paused && !mayWait:
		return got{wait: comeAgain}
	case v.queues() && !v.paused && slices.ContainsFunc(of.lines, func(i int) bool {
		return v.opensAt[c.Lines[i].SkuID].After(s.cfg.Now())
	}):
		return got{} // the ledger says when it begins
	}
	o, err := s.orderOf(c, of, mayWait && v.queues())
	if err != nil {
		return got{}
	}
	if v.paused {
		return *cmp.Or(s.earlier(v, &o), &got{wait: comeAgain})
	}
	routed := Route(c.CustomerID, v.numbers(o.Lines))
	if !v.queues() {
		routed = routed[:min(len(routed), mostTries)]
	}
	full := false
	for _, no := range routed {
		l := v.lanes[no]
		reply, err := l.take(o)
		switch {
		case err == nil && (own(o, reply) || reply.waits()):
			return s.gotOf(v, l, &o, &reply)
		case err == nil && reply.Repeat && reply.State == StateDirect && o.MayWait:
			return got{held: &held{lane: l, orderNo: reply.OrderNo, entry: reply.Entry, lines: o.Lines, borrowed: true}}
		case err == nil && !reply.Repeat && reply.Code == CodeInsufficient:
			s.tooFew(&o)
		case err == nil && !reply.Repeat && reply.Code == CodeQueueFull:
			full = true
		case err == nil && !reply.Repeat && reply.Code == CodeKeyReused && v.queues():
			return got{reused: true}
		case v.queues() && o.MayWait && (errors.Is(err, ErrNotReady) || err == nil && reply.Code == CodeNotReady):
			return *cmp.Or(s.earlier(v, &o), &got{wait: comeAgain}) // it is about to change
		case v.queues() && (err != nil || !reply.Repeat && reply.Code == CodeNotReady):
			return got{wait: comeAgain}
		default:
			return got{}
		}
	}
	if full || v.queues() && v.mayHave(o.Lines) {
		return got{wait: comeAgain}
	}
	return got{asked: !v.partly}
}

// tooFew notes what a bucket had not, for it to get more: one that nobody can buy of never becomes empty.
func (s *Shared) tooFew(o *Order) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range o.Lines {
		s.scarce[l.SkuID] = max(s.scarce[l.SkuID], l.Quantity)
	}
}

// gotOf is what a cart has got that a bucket has taken or knows. Where a queue may know an earlier try
// of what is new to the bucket, that one is the answer, and the new one is given back.
func (s *Shared) gotOf(v *saleView, l *lane, o *Order, reply *Reply) got {
	unsure := o.MayWait && !reply.Repeat && (reply.Filling || v.partly)
	var first *got
	if unsure {
		first = s.earlier(v, o)
	}
	if own(*o, *reply) {
		h := held{lane: l, orderNo: o.OrderNo, entry: reply.Entry, lines: o.Lines}
		if first == nil {
			return got{held: &h}
		}
		s.settle([]held{h}, gate.Unused)
		return *first
	}
	if first != nil {
		s.leave(l, o, reply.Entry)
		return *first
	}
	q := s.queuedAs(l, reply)
	q.Unsure = unsure
	return got{queued: q}
}

// orderOf makes the order of a cart.
func (s *Shared) orderOf(c *gate.Claim, of cart, mayWait bool) (Order, error) {
	o := Order{OrderNo: c.OrderNo, CustomerID: c.CustomerID, Key: KeyOf(c.CustomerID, c.RequestID), MayWait: mayWait}
	copy(o.Body[:], c.Hash)
	for _, line := range of.lines {
		l := c.Lines[line]
		o.Lines = append(o.Lines, Line{No: int64(line + 1), SkuID: l.SkuID, Quantity: l.Quantity})
	}
	p := parcel{At: sqldb.Millis(s.cfg.Now()), Lines: o.Lines}
	if mayWait {
		p.CustomerID, p.RequestID, p.Payload = c.CustomerID, c.RequestID, c.Payload()
	}
	var err error
	o.Payload, err = json.Marshal(p)
	return o, err
}

// mayHave reports that lines which no bucket has may be had in a moment: units are about to come
// into the buckets, or to be brought together.
func (v *saleView) mayHave(lines []Line) bool {
	return slices.ContainsFunc(lines, func(l Line) bool {
		several := l.Quantity > 1 || len(lines) > 1
		return v.pool[l.SkuID] > 0 || several && len(v.lanes) > 1 && v.left[l.SkuID] >= l.Quantity
	})
}

// numbers gives the buckets that hold all of these SKUs, ascending.
func (v *saleView) numbers(lines []Line) (numbers []int64) {
	for no := range v.lanes {
		if !slices.ContainsFunc(lines, func(l Line) bool { return v.ids[l.SkuID][no] == 0 }) {
			numbers = append(numbers, no)
		}
	}
	slices.Sort(numbers)
	return numbers
}

// Fenced implements gate.Shared.
func (s *Shared) Fenced(ids []int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		s.fenced[id] = true
	}
}

// settling is a ticket that is settled, to be told to Redis.
type settling struct {
	held
	giveBack bool
}

// mostSettling bounds how many tickets wait for Redis to be told. Those above it are left to
// the keeper.
const mostSettling = 100_000

// settle tells Redis what became of tickets, beside the caller, who has his answer by now.
func (s *Shared) settle(tickets []held, o gate.Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range tickets {
		if h.borrowed {
			continue
		}
		if o == gate.Unknown || len(s.later) >= mostSettling {
			h.lane.keep(h.entry)
			continue
		}
		s.later = append(s.later, settling{h, o == gate.Unused})
	}
	if len(s.later) > 0 && !s.running {
		s.running = true
		go s.settleAll()
	}
}

// settleAll tells Redis of tickets until none waits.
func (s *Shared) settleAll() {
	for {
		s.mu.Lock()
		batch := s.later
		s.later = nil
		s.running = len(batch) > 0
		s.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		gone := map[*lane][]string{}
		for _, t := range batch {
			if t.giveBack && !s.giveBack(t.lane.bucket, t.orderNo, t.lines) {
				t.lane.keep(t.entry)
				continue
			}
			if id := t.lane.settled(t.entry); id != "" {
				gone[t.lane] = append(gone[t.lane], id)
			}
		}
		for l, ids := range gone {
			s.forget(l.bucket, ids)
		}
	}
}

// refUnused is under what units of tickets that became no order are given back: the same for
// everybody, so that they are given back once.
const refUnused = "unused"

// giveBack puts the units of a ticket that became no order back into its bucket, and reports
// that nothing is left to be done for it.
func (s *Shared) giveBack(b Bucket, orderNo string, lines []Line) bool {
	if !s.breaker.up() {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := s.home.Return(ctx, b, Return{OrderNo: orderNo, Ref: refUnused, To: ToBucket, Lines: lines})
	failpoint.Hit("gate.backed")
	if isAnswer(err) {
		return true // the bucket is closed, and its units are the pool's
	}
	s.noted(err)
	return err == nil
}

// forget deletes entries of a bucket's log.
func (s *Shared) forget(b Bucket, ids []string) {
	if !s.breaker.up() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s.noted(s.cfg.Client.XDel(ctx, s.home.keys(b).wal(), ids...).Err())
	failpoint.Hit("gate.acked")
}

// noted counts how a call went. What fails in a cluster may be one master, while others answer.
func (s *Shared) noted(err error) {
	_, cluster := s.cfg.Client.(*redis.ClusterClient)
	if s.breaker.note(err, func() bool { return cluster && s.alive(context.Background()) == nil }) {
		s.cfg.Observe.GateAway(true)
		s.cfg.Log.Warn("Redis is away: its sales go on without it", "err", err)
	}
}

// asked notes how a call to a bucket went: one that cannot be reached rests. When Redis as a whole is
// away that is the breaker's.
func (s *Shared) asked(b Bucket, err error) {
	if s.breaker.up() {
		s.resting.note(b, err == nil || isAnswer(err), s.cfg.Now())
	}
}

// aliveKeys is how many keys a look writes: of a cluster some are on each master.
const aliveKeys = 8

// probe reports that Redis can be asked. While it is away it looks whether it takes writes
// again, which a PING does not tell: of a cluster, whether any master does.
func (s *Shared) probe(ctx context.Context) bool {
	if s.breaker.up() {
		return true
	}
	if !s.breaker.probed(s.alive(ctx)) {
		return false
	}
	s.cfg.Observe.GateAway(false)
	s.cfg.Log.Info("Redis is back")
	return true
}

// alive is an error unless Redis takes writes: of a cluster, any master.
func (s *Shared) alive(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeFor)
	defer cancel()
	pipe := s.cfg.Client.Pipeline()
	for i := range aliveKeys {
		pipe.Set(ctx, fmt.Sprintf("%sgate_alive_{%d}", s.cfg.Prefix, i), 1, time.Minute)
	}
	writes, err := pipe.Exec(ctx)
	if !s.answered(writes, err) {
		return err
	}
	for _, w := range writes {
		if w.Err() == nil {
			return nil
		}
	}
	return err // it answers, and takes no writes
}

// nobody watches.
type nobody struct{}

func (nobody) GateEpoch(string) {}
func (nobody) GateDrift(int64)  {}
func (nobody) GateAway(bool)    {}

// String names a bucket for people.
func (b Bucket) String() string { return fmt.Sprintf("%s/%d in epoch %d", b.Sale, b.No, b.Token) }
