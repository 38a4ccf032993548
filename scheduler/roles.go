package scheduler

import (
	"context"
	"time"

	"orderd/order"
	"orderd/stock/gate"
)

// Orders is what the scheduler needs of orders and refunds. order.Service
// implements it and documents each method in full.
type Orders interface {
	// PageLimit is how many orders are best claimed and closed together now.
	PageLimit(ctx context.Context) int
	// ClaimDue moves the unpaid orders of a page whose time has come to closing,
	// and claims them, so that no other process asks WeChat Pay about them while
	// the claim lasts. It returns the claims and an error, or nil, for each order
	// of the page.
	ClaimDue(ctx context.Context, page []order.Due, cause order.Cause) ([]order.Claim, []error)
	// CloseClaimed asks WeChat Pay to close the claimed orders and stores the
	// answers. It returns an error, or nil, for each claim.
	CloseClaimed(ctx context.Context, claims []order.Claim, cause order.Cause) []error
	// AwaitClose moves a page of unpaid orders to closing without asking WeChat
	// Pay: they wait for the rate.
	AwaitClose(ctx context.Context, page []order.Due, cause order.Cause) []error
	// Ended returns those of the numbers, of orders or of refunds, that are there and
	// for which nothing is to be done any more.
	Ended(ctx context.Context, refunds bool, numbers []string) ([]string, error)
	// DueOrders lists the orders of a state that are due after a place and by a
	// time, at most limit of them, by (due time, order number).
	DueOrders(ctx context.Context, state order.State, after order.DueCursor, until time.Time,
		limit int) ([]order.Due, error)
	// WaitingOrders lists as DueOrders does the closing orders, either those that may be
	// paid, because a prepay was sent for them, or the others.
	WaitingOrders(ctx context.Context, prepaid bool, after order.DueCursor, until time.Time,
		limit int) ([]order.Due, error)
	// DueAsks lists up to limit open trades that WeChat Pay is to be asked about now,
	// the oldest first.
	DueAsks(ctx context.Context, limit int) ([]order.Ask, error)
	// ClaimAsks takes the turn of asks, so that no other process asks at once, and gives
	// those that it got.
	ClaimAsks(ctx context.Context, asks []order.Ask) ([]order.Ask, error)
	// AskPaid asks WeChat Pay about claimed trades, takes in what is paid, and gives an
	// outcome for each.
	AskPaid(ctx context.Context, asks []order.Ask, cause order.Cause) []order.AskOutcome
	// PlaceQueued makes the order of a placement that waited in the queue of a sale. A
	// problem is what its customer is told, of whom there will be no order; with neither it is
	// there, and with an error it is not known.
	PlaceQueued(ctx context.Context, e gate.Entry) (problem []byte, err error)
	// Refund sends a refund whose time has come to WeChat Pay, or asks how far it
	// is.
	Refund(ctx context.Context, outRefundNo string, cause order.Cause) error
	// DueRefunds lists the refunds that are due after a place and by a time, at
	// most limit of them, by (due time, refund number).
	DueRefunds(ctx context.Context, after order.DueCursor, until time.Time, limit int) ([]order.Due, error)
}

// Limiter is a rate of calls to WeChat Pay that all replicas keep together.
// Bucket implements it.
type Limiter interface {
	// Take takes up to n permits without waiting. When it got fewer, wait is how
	// long until the next one is free. With an error, none was taken.
	Take(ctx context.Context, n int) (got int, wait time.Duration, err error)
}

// sparing is a Limiter that others share who go first.
type sparing interface {
	// Spare is the same rate for whoever comes last: it gives permits only while more
	// are free than the others take at once.
	Spare() Limiter
}

// Daily is the reconciliation of a day with WeChat Pay's bills.
// reconcile.Service implements it.
type Daily interface {
	// CatchUp reconciles every day whose bill is out and that is not done yet. It
	// may be called at any time, by several processes at once.
	CatchUp(ctx context.Context) error
}

// Observer receives what the scheduler does, for metrics. Implementations must
// be quick and safe for concurrent use.
type Observer interface {
	// Armed: a wake-up of a second or of a refund was handed to Redis. The result
	// is set, conflict (it was there already), dropped (the buffer was full) or
	// failed.
	Armed(result string)
	// Rung: the process that makes the deliveries of webhooks was rung through Redis. The
	// result is set, conflict (an earlier ring is not heard yet) or failed.
	Rung(result string)
	// Fired: an order or a refund was run. The result is done, not_due, unknown
	// (WeChat Pay gave no usable answer), throttled, poison or error.
	Fired(result string)
	// Swept: one pass of the sweep found so many orders, at least one, whose task
	// had not come.
	Swept(overdue int)
	// Asked: WeChat Pay was asked whether an open trade is paid, so long after the ask
	// came due.
	Asked(outcome order.AskOutcome, late time.Duration)
	// Drained: a placement that waited so long in the queue of a sale is placed or refused, or
	// is left there for later: then the wait is 0.
	Drained(outcome string, waited time.Duration)
	// Died: a task is not tried again by itself; a person has to look at it.
	Died()
	// RedisLost: Redis came back without its data.
	RedisLost()
}

// nobody observes nothing.
type nobody struct{}

func (nobody) Armed(string) {}
func (nobody) Rung(string)  {}
func (nobody) Fired(string) {}
func (nobody) Swept(int)    {}
func (nobody) Died()        {}

func (nobody) Asked(order.AskOutcome, time.Duration) {}

func (nobody) RedisLost() {}

func (nobody) Drained(string, time.Duration) {}

// cause is what the timeline of an order or a refund says about who changed it:
// kind is "task", "line" or "sweep", id is that of the task, if there is one.
func cause(kind, id string) order.Cause {
	return order.Cause{Actor: order.Actor{Type: order.ActorScheduler, ID: "worker"}, Type: kind, ID: id}
}
