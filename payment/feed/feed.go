package feed

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"orderd/migrations/sqldb"
)

// Type is what an event tells. The names are the API's, and never change.
type Type string

// The types.
const (
	OrderCreated   Type = "order.created"
	OrderPaid      Type = "order.paid"     // in full, also late money that revived it
	OrderClosed    Type = "order.closed"   // unpaid, its stock is back
	OrderLate      Type = "order.late"     // money came after the close, and goes back
	OrderRefunded  Type = "order.refunded" // all of its money is back
	RefundAsked    Type = "refund.requested"
	RefundDone     Type = "refund.succeeded" // the buyer has the money
	RefundFailed   Type = "refund.failed"    // rejected, cancelled, or refused by WeChat Pay
	PaymentHeld    Type = "payment.held"     // money that fits no order: a person has to look
	StockLow       Type = "stock.low"        // no more of a SKU is left than its threshold
	ReconcileDone  Type = "reconciliation.completed"
	EndpointClosed Type = "endpoint.disabled" // of a webhook, to the others
)

// Types lists all types.
func Types() []Type {
	return []Type{OrderCreated, OrderPaid, OrderClosed, OrderLate, OrderRefunded, RefundAsked, RefundDone,
		RefundFailed, PaymentHeld, StockLow, ReconcileDone, EndpointClosed}
}

// Known reports that there is such a type.
func (t Type) Known() bool { return slices.Contains(Types(), t) }

// Event is a row of the feed.
type Event struct {
	ID      int64 // grows in the order of writing, with gaps
	At      time.Time
	Type    Type
	OrderNo string // "" where it is of no order
	Version int64  // of the order, 0 without one
	State   string // of the order behind the event, "" without one
	// Ref is what else it is about: a refund's number, the transaction of a payment, a SKU, the
	// day of a reconciliation.
	Ref string
	// Reference is the shop's own number for the order, "" without one.
	Reference string
}

// Insert writes events in the transaction of what they tell. Their ids are the
// database's. OnCommit hears of them.
func Insert(ctx context.Context, tx *sqldb.Tx, events []Event) error {
	if len(events) == 0 {
		return nil
	}
	const cols = 7
	args := make([]any, 0, cols*len(events))
	for i := range events {
		e := &events[i]
		tx.Tells(string(e.Type))
		args = append(args, sqldb.Millis(e.At), string(e.Type), e.OrderNo, e.Version, e.State, e.Ref,
			e.Reference)
	}
	err := tx.InsertRows(ctx, `INSERT INTO events_out
  (at, type, order_no, version, state, ref, reference)
VALUES`, cols, args)
	if err != nil {
		return fmt.Errorf("insert events of the feed: %w", err)
	}
	return nil
}

// Feed is the table, in one database. It is safe for concurrent use.
type Feed struct{ db *sqldb.DB }

// New gives the feed of a database.
func New(db *sqldb.DB) *Feed { return &Feed{db} }

// OnCommit has hear told of the types of events that this process has committed, once for a
// transaction: see sqldb.DB.OnCommit.
func (f *Feed) OnCommit(hear func(types []Type)) (stop func()) {
	return f.db.OnCommit(func(what []string) {
		types := make([]Type, 0, len(what))
		for _, w := range what {
			if t := Type(w); t.Known() {
				types = append(types, t)
			}
		}
		if len(types) > 0 {
			hear(types)
		}
	})
}

// read gives the events of a condition on id, in the order of their ids.
func (f *Feed) read(ctx context.Context, where string, args []any, limit int) ([]Event, error) {
	events, err := sqldb.Decided(ctx, f.db, `SELECT id, at, type, order_no, version, state, ref, reference
FROM events_out
WHERE `+where+`
ORDER BY id
LIMIT ?`, append(args, limit), func(rows *sql.Rows) (e Event, err error) {
		var at int64
		err = rows.Scan(&e.ID, &at, &e.Type, &e.OrderNo, &e.Version, &e.State, &e.Ref, &e.Reference)
		e.At = sqldb.FromMillis(at)
		return e, err
	})
	if err != nil {
		return nil, fmt.Errorf("read the feed: %w", err)
	}
	return events, nil
}

// Newest gives the largest id that was committed, 0 of an empty feed.
func (f *Feed) Newest(ctx context.Context) (id int64, err error) {
	err = f.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT COALESCE(MAX(id), 0)
FROM events_out`).Scan(&id)
	})
	if err != nil {
		return 0, fmt.Errorf("read the feed: %w", err)
	}
	return id, nil
}
