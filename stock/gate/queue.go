package gate

import (
	"context"
	"errors"
	"time"

	"orderd/stock"
)

// A gate in mode redis with a rate has a queue. What is asked above the rate is told to wait:
// its units are set aside in Redis, it has an order number and a place in line, and no row
// anywhere. A drainer claims from the queue by the rate and makes the orders, under the
// numbers that the buyers were told, by the same way as all others.

// QueuedState is what has become of a queued placement.
type QueuedState string

// The states of a queued placement. One that became an order is in the database, which is
// asked first.
const (
	// QueueWaiting: it is in line, or being made an order at this moment.
	QueueWaiting QueuedState = "waiting"
	// QueueWithdrawn: its buyer has cancelled it. No order comes of it any more.
	QueueWithdrawn QueuedState = "withdrawn"
	// QueueRefused: it could not be placed. Problem says why, for KeepProblem; its key may be
	// used again.
	QueueRefused QueuedState = "refused"
)

// KeepProblem is how long it is told why a queued placement was refused, and that one was
// withdrawn.
const KeepProblem = 10 * time.Minute

// Queued is a placement in the queue, or what became of it.
type Queued struct {
	OrderNo string
	State   QueuedState
	Repeat  bool // an earlier try of this placement is in the queue, under OrderNo; of Take alone
	// Unsure: the shared home may have forgotten an earlier try of it, which may be an order; of Take
	// alone. The ledger is to be asked, and what waits to be withdrawn when it has one.
	Unsure   bool
	Position int64         // 1 is next; about, and 1 while it is being made an order
	Wait     time.Duration // until it is an order by the rate; about
	Problem  []byte        // of QueueRefused: what Refuse was given
	Payload  []byte        // of QueueWaiting: what Claim.Payload gave
}

// Entry is a queued placement that was claimed, for an order to be made of it. It stays in the
// queue until Done or Refuse: when neither comes it is claimed again, by whoever asks after
// ClaimFor. So it may be claimed, placed and told twice, and its (customer, key) keeps it
// from being two orders.
type Entry struct {
	OrderNo string
	Payload []byte       // as Claim.Payload gave it
	Lines   []stock.Line // of the claim
	Buckets []int64      // that its lines were taken from, as those of a Ticket. Closed ones are decided on the pool
	// Customer and key of the claim.
	CustomerID, RequestID string
	At                    time.Time // when it was asked for

	Place any // where it is in the queue; of the Queue alone
}

// ClaimFor is how long an entry is left to who has claimed it.
const ClaimFor = 30 * time.Second

// Depth is the queue of a sale.
type Depth struct {
	Sale    string
	Waiting int64         // entries
	Oldest  time.Duration // the age of the first; 0: nothing waits
}

// ErrQueueAway: the queue cannot be asked at this time.
var ErrQueueAway = errors.New("the queue cannot be asked at this time")

// Queue is the queues of all sales. All methods may be called again when they gave an error, or
// when it is not known whether they did: nothing is done twice. An error is ErrQueueAway or
// one of the way to it: whether the call has happened is not known then.
type Queue interface {
	// Find gives a queued placement of this customer, "" for whoever's; false: there is none, or it is another's.
	// One that became an order is not found any more. The database is asked before.
	Find(ctx context.Context, customerID, orderNo string) (Queued, bool, error)
	// Withdraw takes a queued placement out of the queue, and its units are free. withdrawn:
	// it did, now or before. Not withdrawn and found: it is too late, it is being made an order.
	Withdraw(ctx context.Context, customerID, orderNo string) (withdrawn, found bool, err error)
	// Claim gives up to limit entries from the heads of the queues, by the rates, for orders to
	// be made of them; also those of epochs and gates that are over. It gives fewer, or none,
	// when the rates allow no more at this moment: ask again in some 50 ms. The process must
	// run its Gate, which knows the rates.
	Claim(ctx context.Context, limit int) ([]Entry, error)
	// Done says that entries are orders of their own numbers, and committed.
	Done(ctx context.Context, entries []Entry) error
	// Refuse says that no order will be made of an entry, for good: its units are free, its
	// key too, and Find gives the problem for KeepProblem. An entry whose key has another order
	// already (Replayed under another number) is refused as well.
	Refuse(ctx context.Context, e Entry, problem []byte) error
	// Depths gives the queue of each sale that has one, by name.
	Depths(ctx context.Context) ([]Depth, error)
}

// Queue gives the queues of the sales that this gate knows; one without any when there is no
// shared home.
func (g *Gate) Queue() Queue {
	if g == nil || g.cfg.Shared == nil {
		return noQueue{}
	}
	return g.cfg.Shared
}

// noQueue has nothing.
type noQueue struct{}

func (noQueue) Find(context.Context, string, string) (q Queued, found bool, err error)      { return }
func (noQueue) Withdraw(context.Context, string, string) (withdrawn, found bool, err error) { return }
func (noQueue) Claim(context.Context, int) (entries []Entry, err error)                     { return }
func (noQueue) Done(context.Context, []Entry) error                                         { return nil }
func (noQueue) Refuse(context.Context, Entry, []byte) error                                 { return nil }
func (noQueue) Depths(context.Context) (depths []Depth, err error)                          { return }
