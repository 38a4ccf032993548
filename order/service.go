package order

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
	"orderd/payment"
	"orderd/payment/feed"
	"orderd/payment/shipping"
	"orderd/stock/gate"
)

// Tasks is what orders need of a queue: to be woken at a time. It is an alarm
// clock, not a promise: both methods return at once, may fail silently, and the sweep
// over due orders covers what they lose.
type Tasks interface {
	// WakeAt asks for a look at the orders that are due (ClaimDue) at the time at
	// or soon after.
	WakeAt(at time.Time)
	// RefundAt asks for Refund(outRefundNo) at the time at or soon after.
	RefundAt(outRefundNo string, at time.Time)
}

// Observer is told what happened, after it was committed. Implementations must
// be quick and safe for concurrent use.
type Observer interface {
	// Transition: an order moved; from is "" for a placement.
	Transition(from, to State, by ActorType)
	// Settled: a payment was taken in from notify, query or bill.
	Settled(source string, s Settlement)
	// Refused: a placement was refused: stock, price, sku, key, reference, open_orders, open_units,
	// not_started, customer_limit.
	Refused(what string)
	// Replayed: a placement was answered from an earlier one.
	Replayed()
	// Lateness: how long after its due time an unpaid order was taken to closing.
	Lateness(d time.Duration)
	// CloseAsked: WeChat was asked to close; verdict is closed, paid or unknown.
	CloseAsked(verdict string)
	// RefundSettled: WeChat's word on a refund was taken in from an answer, a
	// notification, a query or a bill.
	RefundSettled(source string, s RefundSettled)
	// RefundAsked: WeChat was called, op is refund, refund_query or abnormal_refund; the outcome
	// is its status in lower case or the kind of the error.
	RefundAsked(op, outcome string)
	// Alarm: something that must not happen, for an operator.
	Alarm(what, orderNo, detail string)
	// Broken: a transaction would have broken this invariant and was rolled back.
	Broken(invariant string)
	// Batch: a group commit of size members took so long.
	Batch(name string, size int, took time.Duration)
}

// Defaults and bounds of Config.
const (
	// MinPayWithin exists for tests and demonstrations; WeChat itself raises a
	// time_expire of less than a minute to a minute.
	MinPayWithin     = time.Second
	defaultPayWithin = 30 * time.Minute
	// defaultPayLeast is what WeChat Pay raises a shorter time_expire to.
	defaultPayLeast = time.Minute
	// defaultPayMost is how long a shop may have stock held for an order that nobody has paid.
	defaultPayMost        = 24 * time.Hour
	defaultGrace          = 20 * time.Second
	defaultPrepayInFlight = 30 * time.Second
	defaultCloseUnprepaid = 10 * time.Minute
	// defaultAskEvery has a payment known within a minute of it, at the default rate with
	// up to 2,000 open trades.
	defaultAskEvery = 40 * time.Second
	defaultLanes    = 2
	defaultSpacing  = time.Minute + time.Second // WeChat's minute, and its clock is not ours
)

// Shipments notes which orders are owed a shipment; shipping.Service implements it.
type Shipments interface {
	Expect(ctx context.Context, tx *sqldb.Tx, paid []shipping.Paid) error
}

// Config shapes a Service. DB, Gateway, Now, MchID, AppID and NotifyURL are required.
type Config struct {
	DB      *sqldb.DB
	Gateway payment.Gateway
	Tasks   Tasks // nil: no queue, the sweep does everything
	Now     func() time.Time
	Log     *slog.Logger // nil: silent
	Observe Observer     // nil: nobody watches
	// Tell writes into the feed what was placed, in the transaction that places it. nil:
	// feed.Insert, as in every service; a measurement of what that costs leaves it out.
	Tell func(ctx context.Context, tx *sqldb.Tx, events []feed.Event) error

	// MchID and AppID are what a payment must carry to be ours.
	MchID, AppID string
	// OtherAppIDs are further app ids of this shop: payments of them are ours too, such as of
	// trades that were opened before AppID was changed. Prepays carry AppID.
	OtherAppIDs []string
	// NotifyURL is where WeChat sends payment notifications.
	NotifyURL string
	// PayDescription is what the buyer reads in WeChat Pay's bill: text with {goods} once,
	// which becomes the title of the first goods and, of more than one piece, their number.
	// Default {goods}.
	PayDescription string
	// PayWithin is how long a buyer has; at least MinPayWithin, and with Grace at most
	// bounds.PayWithin. Default 30 m.
	PayWithin time.Duration
	// PayWithinLeast and PayWithinMost bound the time to pay that a shop gives its own orders
	// (Placement.ExpiresIn), in whole seconds. Defaults: a minute, the least that WeChat Pay gives, and
	// a day.
	PayWithinLeast, PayWithinMost time.Duration
	// Grace is how long after the deadline WeChat is asked to close: WeChat
	// refuses late payers by itself from the deadline on, and answers
	// FREQUENCY_LIMITED to closes that come right at it. Default 20 s, negative
	// for none.
	Grace time.Duration
	// CloseRetry is the ladder of waits after a close without a usable answer;
	// its last step repeats. Default 5 s, 15 s, 30 s, 1 m, 2 m, 5 m.
	CloseRetry []time.Duration
	// AskEvery is the longest time between two looks at an open trade at WeChat Pay,
	// whether it is paid, should its notification be lost. The first come sooner, on
	// askLadder. Default 40 s, negative for never.
	AskEvery time.Duration
	// PrepayInFlight is how long after a prepay call whose end is not known WeChat
	// may still open the trade; until then "no such trade" proves nothing.
	// It must exceed the gateway's time-out. Default 30 s.
	PrepayInFlight time.Duration
	// CloseUnprepaid is how long WeChat Pay may give no usable answer about a closing
	// order that was never prepaid: after it the order is closed without one, because
	// nothing was opened that could be paid (decision 8). Default 10 m, negative:
	// it waits for WeChat Pay.
	CloseUnprepaid time.Duration
	// RefundNotifyURL is where WeChat sends refund notifications; "" for none,
	// then refunds are polled only.
	RefundNotifyURL string
	// LatePayment says what becomes of money that comes for a closed order:
	// LatePolicyRefund (the default) or LatePolicyRevive.
	LatePayment LatePolicy
	// RefundAutoApprove approves refunds by itself as long as those of a payment
	// are up to this amount together; 0: none. Goods that go back to
	// the shelf for less than they cost are for a person whatever the sum.
	RefundAutoApprove payment.Fen
	// RefundTwoPersons asks for two approvals when the refunds of a payment are
	// above this amount together; 0: never.
	RefundTwoPersons payment.Fen
	// RefundNoRestock leaves the goods of a refund off the shelf unless a person of the
	// shop says that they go back; without it they go back unless one says otherwise.
	RefundNoRestock bool
	// RefundSpacing is the least time between two refunds of one order at
	// WeChat. Default 61 s, negative for none: its minute, and a second for its clock.
	RefundSpacing time.Duration
	// RefundRetry is the ladder of waits after a refund call without a usable answer;
	// its last step repeats. Default 15 s, 30 s, 1 m, 2 m, 5 m, 10 m, 30 m.
	RefundRetry []time.Duration
	// RefundPoll is that between queries of an accepted refund, WeChat's own. Default 1 m,
	// 1 m, 1 m, 1 m, 1 m, 5 m, 10 m, 20 m, 30 m.
	RefundPoll []time.Duration
	// Shipments is told of every payment that its order keeps, in the transaction that
	// applies it; nil: nobody is. See package shipping.
	Shipments Shipments
	// Pace divides the waits above that were left to their defaults, for tests
	// and demonstrations against a simulator whose own times are divided too.
	// Default 1, the pace of WeChat Pay.
	Pace int
	// MaxOpenOrders is how many unpaid orders one customer may have: each holds
	// stock. 0 or less: no limit. One that stays unpaid for more than a day, or twice
	// the time to pay, waits for WeChat Pay and counts no more.
	MaxOpenOrders int
	// MaxOpenUnits is how many units of one SKU the unpaid orders of one customer may
	// hold together, unless the SKU is unlimited. 0 or less: no limit.
	MaxOpenUnits int64
	// Gate stands in front of placements in flash sales; nil: the ledger decides alone.
	Gate *gate.Gate
	// Queue is where placements of sales wait whose orders are made at a rate; nil: none wait.
	Queue SaleQueue
	// Lanes is how many group commits may be under way at once. Default 2.
	Lanes int
}

// askLadder is when an open trade is asked about first, each step from the one before it,
// as far as they are below AskEvery: most buyers pay within the first minute, and whose
// notification came is not asked about.
var askLadder = [...]time.Duration{10 * time.Second, 15 * time.Second, 20 * time.Second, 30 * time.Second}

// askAfter is the wait before the n-th ask about a trade, from 0; false for no ask.
func (c *Config) askAfter(n int64) (time.Duration, bool) {
	if n < int64(len(askLadder)) {
		return min(askLadder[n]/time.Duration(c.Pace), c.AskEvery), c.AskEvery > 0
	}
	return c.AskEvery, c.AskEvery > 0
}

// LatePolicy is what becomes of money that comes for a closed order.
type LatePolicy string

// The policies.
const (
	// LatePolicyRefund sends it back.
	LatePolicyRefund LatePolicy = "refund"
	// LatePolicyRevive takes the stock again, in the transaction that takes the money
	// in, and makes the order paid; when a line is short it is sent back. It is sent back
	// too when anybody but the clock wanted the order closed (CloseReason).
	LatePolicyRevive LatePolicy = "revive"
)

// Service is everything that can be done with orders. All methods are safe for
// concurrent use, by any number of processes on one database.
type Service struct {
	cfg        Config
	db         *sqldb.DB
	log        *slog.Logger
	observe    Observer
	placements *sqldb.Group[placing, Placed]
	repeats    *sqldb.Group[placing, repeat]
	commands   *sqldb.Group[command, applied]
	placing    customerLocks // held while a customer places, where unpaid orders are limited
	asksLocked sqldb.Locked  // trades, by their number, whose row somebody was found to hold
	adopting   adopting      // of what the program before this one has prepaid

	// Places for transactions over many orders (inLane): bulk while no customer is
	// here, polite beside customers.
	bulk, polite chan struct{}
	// When a customer was last here, and when other processes were last looked at
	// for theirs, in nanoseconds of the wall clock: for durations only, never stored.
	customers, looked atomic.Int64

	// Tests change what a batch has decided, to see that it is not written.
	spoil       func(*batch)
	spoilPlaced func([]sqldb.Outcome[Placed])

	ids *idSource
}

// New starts a service. The schema must be up to date; Close ends the service.
func New(cfg Config) (*Service, error) {
	if cfg.DB == nil || cfg.Gateway == nil || cfg.Now == nil {
		return nil, errors.New("order: Config needs DB, Gateway and Now")
	}
	if cfg.MchID == "" || cfg.AppID == "" || cfg.NotifyURL == "" {
		return nil, errors.New("order: Config needs MchID, AppID and NotifyURL")
	}
	cfg.PayWithin = cmp.Or(cfg.PayWithin, defaultPayWithin)
	cfg.Grace = cmp.Or(cfg.Grace, defaultGrace)
	cfg.Lanes = cmp.Or(cfg.Lanes, defaultLanes)
	cfg.LatePayment = cmp.Or(cfg.LatePayment, LatePolicyRefund)
	cfg.Pace = cmp.Or(cfg.Pace, 1)
	cfg.setWaits()
	cfg.Grace, cfg.RefundSpacing = max(cfg.Grace, 0), max(cfg.RefundSpacing, 0)
	if cfg.LatePayment != LatePolicyRefund && cfg.LatePayment != LatePolicyRevive {
		return nil, errors.New("order: LatePayment must be refund or revive")
	}
	if cfg.PayWithin < MinPayWithin || cfg.PayWithin > bounds.PayWithin-cfg.Grace {
		return nil, errors.New("order: PayWithin must be at least one second, and with Grace at most seven days")
	}
	cfg.PayWithinLeast = cmp.Or(cfg.PayWithinLeast, defaultPayLeast)
	cfg.PayWithinMost = cmp.Or(cfg.PayWithinMost, min(defaultPayMost, bounds.PayWithin-cfg.Grace))
	if cfg.PayWithinLeast < MinPayWithin || cfg.PayWithinLeast > cfg.PayWithinMost ||
		cfg.PayWithinMost > bounds.PayWithin-cfg.Grace {
		return nil, errors.New("order: PayWithinLeast must be at least one second and at most PayWithinMost, " +
			"and that with Grace at most seven days")
	}
	if err := CheckPayDescription(cfg.PayDescription); err != nil {
		return nil, fmt.Errorf("order: %w", err)
	}
	s := &Service{cfg: cfg, db: cfg.DB, log: cfg.Log, observe: cfg.Observe, ids: newIDSource()}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.observe == nil {
		s.observe = nobody{}
	}
	s.cfg.Gateway = asked{cfg.Gateway, s}
	if s.cfg.Tell == nil {
		s.cfg.Tell = feed.Insert
	}
	if s.cfg.Tasks == nil {
		s.cfg.Tasks = noTasks{}
	}
	s.bulk, s.polite = make(chan struct{}, cfg.Lanes+1), make(chan struct{}, 1)
	group := sqldb.GroupOptions{Name: "place", Lanes: cfg.Lanes, Observe: s.observe.Batch}
	s.placements = sqldb.NewGroup(s.db, group, s.placeBatch).KeyedBy(func(p placing) []string {
		skus := make([]string, 0, len(p.Lines))
		for i, l := range p.Lines {
			if p.from == nil || p.from[i] <= 0 { // the row of a SKU is not needed for a line of a bucket
				skus = append(skus, l.SkuID)
			}
		}
		return skus
	})
	// Whoever is told to wait is looked for before, among the orders: a sale has thousands of them a second.
	s.repeats = sqldb.NewGroup(s.db, sqldb.GroupOptions{Name: "repeat", Lanes: cfg.Lanes}, s.findRepeats)
	group.Name = "change"
	s.commands = sqldb.NewGroup(s.db, group, s.applyBatch).KeyedBy(func(c command) []string {
		if no := c.about().orderNo; no != "" {
			return []string{no}
		}
		return nil // money that fits no order
	})
	return s, nil
}

// setWaits gives the waits that were left out their defaults, at the pace.
func (c *Config) setWaits() {
	const s, m = time.Second, time.Minute
	wait := func(d *time.Duration, def time.Duration) {
		*d = cmp.Or(*d, def/time.Duration(c.Pace))
	}
	ladder := func(l *[]time.Duration, steps ...time.Duration) {
		if len(*l) > 0 {
			return
		}
		for _, d := range steps {
			*l = append(*l, d/time.Duration(c.Pace))
		}
	}
	wait(&c.PrepayInFlight, defaultPrepayInFlight)
	wait(&c.CloseUnprepaid, defaultCloseUnprepaid)
	wait(&c.AskEvery, defaultAskEvery)
	wait(&c.RefundSpacing, defaultSpacing)
	ladder(&c.CloseRetry, 5*s, 15*s, 30*s, m, 2*m, 5*m)
	ladder(&c.RefundRetry, 15*s, 30*s, m, 2*m, 5*m, 10*m, 30*m)
	ladder(&c.RefundPoll, m, m, m, m, m, 5*m, 10*m, 20*m, 30*m)
}

// Close lets the calls that are in finish. Later calls are refused.
func (s *Service) Close() {
	s.placements.Close()
	s.repeats.Close()
	s.commands.Close()
}

// detached keeps what was started alive when the caller hangs up: an answer of
// WeChat must be stored whoever still waits for it.
func detached(ctx context.Context) context.Context { return context.WithoutCancel(ctx) }

// alarm tells an operator of what must not happen.
func (s *Service) alarm(what, orderNo, detail string) {
	s.log.Error("alarm", "what", what, "order_no", orderNo, "detail", detail)
	s.observe.Alarm(what, orderNo, detail)
}

// noTasks is a service without a queue: the sweep over due orders does everything.
type noTasks struct{}

func (noTasks) WakeAt(time.Time)           {}
func (noTasks) RefundAt(string, time.Time) {}

// nobody is the Observer of a service that is not watched.
type nobody struct{}

func (nobody) Transition(State, State, ActorType)  {}
func (nobody) Settled(string, Settlement)          {}
func (nobody) Refused(string)                      {}
func (nobody) Replayed()                           {}
func (nobody) Lateness(time.Duration)              {}
func (nobody) CloseAsked(string)                   {}
func (nobody) RefundSettled(string, RefundSettled) {}
func (nobody) RefundAsked(string, string)          {}
func (nobody) Alarm(string, string, string)        {}
func (nobody) Broken(string)                       {}
func (nobody) Batch(string, int, time.Duration)    {}
