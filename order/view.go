package order

import (
	"context"
	"errors"
	"slices"
	"time"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
	"orderd/payment"
)

// Bounds of reading.
const (
	maxPage     = 200
	defaultPage = 50
	// StuckAfter is how long past its due time an order counts as stuck.
	StuckAfter = 5 * time.Minute
)

// Find gives an order whole, whoever's it is.
func (s *Service) Find(ctx context.Context, orderNo string) (Order, error) {
	return s.find(ctx, orderNo, "")
}

// FindOwn gives an order of this customer; another customer's is ErrNotFound.
func (s *Service) FindOwn(ctx context.Context, customerID, orderNo string) (Order, error) {
	if customerID == "" {
		return Order{}, ErrNotFound
	}
	return s.find(ctx, orderNo, customerID)
}

// find gives an order whole, as it was at one moment; customerID "" is for those who may
// see everybody's. That
// there is none is said only where orders are written: one that was placed a moment
// ago may not be there yet where it is shown from.
func (s *Service) find(ctx context.Context, orderNo, customerID string) (Order, error) {
	var o Order
	err := s.db.Snapshot(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		o, err = wholeOrder(ctx, tx, orderNo, customerID)
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return s.findNow(ctx, orderNo, customerID)
	}
	return o, sqldb.Wrap("find order", err)
}

// findNow is find where orders are written: for what decides, and for those who have
// just changed it.
func (s *Service) findNow(ctx context.Context, orderNo, customerID string) (o Order, err error) {
	err = s.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		o, err = wholeOrder(ctx, tx, orderNo, customerID)
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return Order{}, ErrNotFound
	}
	return o, sqldb.Wrap("find order", err)
}

// Versions gives the versions of those orders that are there, whoever's they are, in one
// read: for showing, as QueryContext of sqldb is. Orders that are not there are left out.
func (s *Service) Versions(ctx context.Context, orderNos []string) (map[string]int64, error) {
	versions, err := findVersions(ctx, s.db, orderNos)
	return versions, sqldb.Wrap("find versions", err)
}

// wholeOrder reads an order with everything that belongs to it. ErrNotFound when there
// is none, or when it is not this customer's ("" for anybody).
func wholeOrder(ctx context.Context, q querier, orderNo, customerID string) (Order, error) {
	o, err := findOrder(ctx, q, orderNo)
	if err != nil {
		return Order{}, err
	}
	if customerID != "" && o.CustomerID != customerID {
		return Order{}, ErrNotFound
	}
	if err := fill(ctx, q, &o); err != nil {
		return Order{}, err
	}
	return o, nil
}

// fill adds everything that belongs to an order.
func fill(ctx context.Context, q querier, o *Order) error {
	items, err := findItems(ctx, q, []string{o.OrderNo})
	if err != nil {
		return err
	}
	o.Items = items[o.OrderNo]
	if o.Attempts, err = findAttempts(ctx, q, o.OrderNo); err != nil {
		return err
	}
	if o.Payment, err = findPayment(ctx, q, o.OrderNo); err != nil {
		return err
	}
	o.Refunds, err = refundsOf(ctx, q, o.OrderNo)
	return err
}

// pageSize is the size of a page of a list that asks for n rows.
func pageSize(n int) int {
	if n <= 0 {
		return defaultPage
	}
	return min(n, maxPage)
}

// List gives orders with their items, newest first, and the cursor of the next
// page, "" at the end. Payments and attempts are not loaded. Errors: *ValidationError,
// bounds.ErrCursor, database errors.
func (s *Service) List(ctx context.Context, f Filter) ([]Order, string, error) {
	limit := pageSize(f.Limit)
	if err := bounds.OrderNo.Cursor(f.Cursor); err != nil {
		return nil, "", err
	}
	if err := f.check(); err != nil {
		return nil, "", err
	}
	var q querier = s.db.Shown()
	if f.CustomerID != "" || f.numbered() { // who has just placed an order sees it
		q = s.db
	}
	orders, err := listOrders(ctx, q, &f, s.cfg.Now(), limit+1)
	if err != nil {
		return nil, "", sqldb.Wrap("list orders", err)
	}
	next := ""
	if len(orders) > limit {
		orders = orders[:limit]
		next = orders[limit-1].OrderNo
	}
	nos := make([]string, len(orders))
	for i := range orders {
		nos[i] = orders[i].OrderNo
	}
	items, err := findItems(ctx, q, nos)
	if err != nil {
		return nil, "", sqldb.Wrap("list orders", err)
	}
	for i := range orders {
		orders[i].Items = items[orders[i].OrderNo]
	}
	return orders, next, nil
}

// Caused reports that something has left an event in the timeline of an order, about one refund unless outRefundNo is
// "": for whoever repeats an act that may have been done. It is read where orders are written.
func (s *Service) Caused(ctx context.Context, orderNo, causeType, causeID, outRefundNo string) (found bool, err error) {
	err = s.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, events, err := orderAndEvents(ctx, tx, orderNo)
		found = slices.ContainsFunc(events, func(e TimelineEvent) bool {
			return e.Cause.Type == causeType && e.Cause.ID == causeID &&
				(outRefundNo == "" || e.Detail["out_refund_no"] == outRefundNo)
		})
		return err
	})
	return found, sqldb.Wrap("look for what was done", err)
}

// Timeline gives everything that happened to an order, in order. The first
// event is the placement, which the order's own row records.
func (s *Service) Timeline(ctx context.Context, orderNo string) ([]TimelineEvent, error) {
	o, events, err := orderAndEvents(ctx, s.db, orderNo)
	if errors.Is(err, ErrNotFound) { // said only where orders are written
		err = s.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
			o, events, err = orderAndEvents(ctx, tx, orderNo)
			return err
		})
	}
	if errors.Is(err, ErrNotFound) {
		return nil, err
	} else if err != nil {
		return nil, sqldb.Wrap("timeline", err)
	}
	by := o.placedBy()
	placed := TimelineEvent{Seq: 1, At: o.CreatedAt, Actor: by, Event: "order.placed", To: StatePending,
		Cause:  Cause{Actor: by, Type: "request", ID: o.PlacedCause},
		Detail: map[string]string{"total": o.Total.String()}}
	if o.Reference != "" {
		placed.Detail["reference"] = o.Reference
	}
	return append([]TimelineEvent{placed}, events...), nil
}

// placedBy is who placed an order: its customer, or a shop for him.
func (o *Order) placedBy() Actor {
	if o.Shop != "" {
		return Actor{Type: ActorShop, ID: o.Shop}
	}
	return Actor{Type: ActorCustomer, ID: o.CustomerID}
}

// orderAndEvents reads the row of an order and its events.
func orderAndEvents(ctx context.Context, q querier, orderNo string) (Order, []TimelineEvent, error) {
	o, err := findOrder(ctx, q, orderNo)
	if err != nil {
		return Order{}, nil, err
	}
	events, err := findEvents(ctx, q, orderNo)
	return o, events, err
}

// DueOrders pages through the orders of one state, pending or closing, that
// somebody has to look at, in the order of their due time: those after the
// cursor and due by until. A page full of orders that cannot be helped does not
// hide the next one. Of the closing, those that wait for their first turn at
// WeChat Pay have their deadline as due time.
func (s *Service) DueOrders(ctx context.Context, state State, after DueCursor, until time.Time,
	limit int) (due []Due, err error) {
	err = s.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		due, err = findDueOrders(ctx, tx, state, after, until, limit)
		return err
	})
	return due, sqldb.Wrap("find due orders", err)
}

// WaitingOrders is DueOrders for the closing orders, either those that may be paid,
// because a prepay was sent for them, or the others.
func (s *Service) WaitingOrders(ctx context.Context, prepaid bool, after DueCursor, until time.Time,
	limit int) (due []Due, err error) {
	s.adoptPrepaid(ctx)
	err = s.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		due, err = findWaiting(ctx, tx, prepaid, after, until, limit)
		return err
	})
	return due, sqldb.Wrap("find waiting orders", err)
}

// Ended gives those of the numbers, of orders or of refunds, that are there and that
// nobody has to look at any more. Numbers that are not there are left out.
func (s *Service) Ended(ctx context.Context, refunds bool, numbers []string) (ended []string, err error) {
	err = s.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		if refunds {
			ended, err = findEndedRefunds(ctx, tx, numbers)
		} else {
			ended, err = findEndedOrders(ctx, tx, numbers)
		}
		return err
	})
	return ended, sqldb.Wrap("find what has ended", err)
}

// Backlog counts the open orders: by state, and how many are past their due
// time since when.
type Backlog struct {
	Open    map[State]int64 // pending and closing
	Overdue int64
	Waiting int64     // of the closing, those whose turn at WeChat Pay has come
	Oldest  time.Time // due time of the oldest overdue one, zero without
}

// Backlog reads the open orders through the index on their due time.
func (s *Service) Backlog(ctx context.Context) (Backlog, error) {
	b := Backlog{Open: map[State]int64{StatePending: 0, StateClosing: 0}}
	err := countOpen(ctx, s.db, s.cfg.Now(), func(state State, n, overdue int64, oldest time.Time) {
		b.Open[state] += n
		if b.Overdue += overdue; state == StateClosing {
			b.Waiting = overdue
		}
		if overdue > 0 && (b.Oldest.IsZero() || oldest.Before(b.Oldest)) {
			b.Oldest = oldest
		}
	})
	return b, sqldb.Wrap("count open orders", err)
}

// Overdue counts the open orders that are past their due time, no more than so many of each state: for what is asked
// every few seconds, whatever the backlog is.
func (s *Service) Overdue(ctx context.Context, most int64) (n int64, err error) {
	for _, state := range []State{StatePending, StateClosing} {
		some, err := countOverdue(ctx, s.db, state, s.cfg.Now(), most)
		if err != nil {
			return 0, sqldb.Wrap("count overdue orders", err)
		}
		n += some
	}
	return min(n, most), nil
}

// HeldBacklog is the money that fits no order and waits for a person.
type HeldBacklog struct {
	Count  int64
	Amount payment.Fen
	Oldest time.Time // when the oldest was received, the zero time for none
}

// HeldBacklog reads what is held through the index on what became of payments.
func (s *Service) HeldBacklog(ctx context.Context) (HeldBacklog, error) {
	b, err := countHeld(ctx, s.db)
	return b, sqldb.Wrap("count held payments", err)
}

// DayMoney is what buyers paid in a time, by WeChat Pay's clock.
type DayMoney struct {
	Paid        int64 // payments that made an order paid
	Amount      payment.Fen
	Other       int64 // payments that did not: they are held, or go back
	OtherAmount payment.Fen
}

// MoneyOf sums what was paid from a time on and before another, through the index on the time of payments.
func (s *Service) MoneyOf(ctx context.Context, from, to time.Time) (DayMoney, error) {
	m, err := sumPaid(ctx, s.db.Shown(), from, to)
	return m, sqldb.Wrap("sum the payments of a time", err)
}

// DueMinute is how many open orders have their due time within one minute.
type DueMinute struct {
	From    *time.Time `json:"from"` // nil: in the past
	Pending int64      `json:"pending"`
	Closing int64      `json:"closing"` // wait for an answer of WeChat Pay
}

// DueByMinute counts the open orders by the minute of their due time, up to
// horizon from now, first the overdue ones together. Minutes without any are
// left out.
func (s *Service) DueByMinute(ctx context.Context, horizon time.Duration) ([]DueMinute, error) {
	now := s.cfg.Now()
	var all []DueMinute
	var last time.Time
	err := countByMinute(ctx, s.db.Shown(), now, now.Add(horizon), func(minute time.Time, state State, n int64) {
		if len(all) == 0 || !minute.Equal(last) {
			last, all = minute, append(all, DueMinute{})
			if !minute.IsZero() {
				all[len(all)-1].From = &minute
			}
		}
		if m := &all[len(all)-1]; state == StatePending {
			m.Pending = n
		} else {
			m.Closing = n
		}
	})
	if err != nil {
		return nil, sqldb.Wrap("count due orders", err)
	}
	return all, nil
}

// DueSecond is how many open orders are taken in one second.
type DueSecond struct {
	At     time.Time // a whole second; zero: in the past
	Orders int64
}

// DueBySecond counts the open orders by the second in which they are taken, up to horizon
// from now, first the overdue ones together. Seconds without any are left out.
func (s *Service) DueBySecond(ctx context.Context, horizon time.Duration) (all []DueSecond, err error) {
	now := s.cfg.Now()
	err = countBySecond(ctx, s.db.Shown(), now, now.Add(horizon), func(at time.Time, _ State, n int64) {
		if len(all) == 0 || !at.Equal(all[len(all)-1].At) {
			all = append(all, DueSecond{At: at})
		}
		all[len(all)-1].Orders += n
	})
	return all, sqldb.Wrap("count due orders", err)
}

// Account is where the units of a SKU are: in its pool, allocated to buckets of a flash
// sale, reserved by open orders, or sold. Sold is what came in and is nowhere else, so that
// an account tells of no unit that is missing or counted twice: verify adds up every flow
// and does (stock.conserved). Of an unlimited SKU it is 0: nothing says what left of it
// without reading every order.
type Account struct {
	SkuID                string
	CameIn               int64 // put in by operators, less what their corrections took out
	Available, Allocated int64 // both can be bought
	Reserved, Sold       int64
	Unlimited            bool
}

// StockAccount accounts for the units of one SKU, all at one moment. It reads what operators
// have put in and the lines of the open orders, and nothing of the orders at an end.
func (s *Service) StockAccount(ctx context.Context, skuID string) (Account, error) {
	a, err := findAccount(ctx, s.db, skuID)
	if errors.Is(err, ErrNotFound) { // said only where SKUs are written
		err = s.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
			a, err = findAccount(ctx, tx, skuID)
			return err
		})
	}
	if errors.Is(err, ErrNotFound) {
		return a, ErrNotFound
	}
	return a, sqldb.Wrap("account for stock", err)
}

// StockAccounts is StockAccount for a page of SKUs, all at one moment; those that are not there are left out.
func (s *Service) StockAccounts(ctx context.Context, skuIDs []string) (map[string]Account, error) {
	all, err := findAccounts(ctx, s.db.Shown(), skuIDs)
	return all, sqldb.Wrap("account for stock", err)
}

// Received is a payment, and how it came to us.
type Received struct {
	TransactionID, OrderNo string
	Amount                 payment.Fen
	PaidAt                 time.Time // by WeChat Pay's clock; zero: it did not say
	ReceivedAt             time.Time // by ours
	Source                 string    // notification, query, bill
	Outcome                Settled
}

// LastReceived gives up to limit of the payments that were received last, newest first, through the index on
// what became of them.
func (s *Service) LastReceived(ctx context.Context, limit int) ([]Received, error) {
	var all []Received
	q := s.db.Shown()
	for _, outcome := range []Settled{SettledApplied, SettledOwed, SettledHeld, SettledWrittenOff} {
		some, err := listReceived(ctx, q, outcome, limit)
		if err != nil {
			return nil, sqldb.Wrap("read the last payments", err)
		}
		all = append(all, some...)
	}
	slices.SortStableFunc(all, func(a, b Received) int { return b.ReceivedAt.Compare(a.ReceivedAt) })
	return all[:min(limit, len(all))], nil
}

// PlacedLimit is how many orders PlacedByMinute reads at most.
const PlacedLimit = 10_000

// PlacedMinute is what became of the orders that were placed in a minute.
type PlacedMinute struct {
	From   time.Time
	States map[State]int64
	Closed map[CloseReason]int64 // of those that are closed, who wanted it
}

// PlacedByMinute counts the orders placed from a time on, by minute, newest first; minutes without any are
// left out. It reads the newest PlacedLimit by their numbers: whole reports that these are all.
func (s *Service) PlacedByMinute(ctx context.Context, from time.Time) (all []PlacedMinute, whole bool, err error) {
	read := 0
	err = eachPlaced(ctx, s.db.Shown(), from, PlacedLimit+1, func(at time.Time, state State, why CloseReason) {
		if read++; read > PlacedLimit {
			return
		}
		minute := at.Truncate(time.Minute)
		if len(all) == 0 || !all[len(all)-1].From.Equal(minute) {
			all = append(all, PlacedMinute{minute, map[State]int64{}, map[CloseReason]int64{}})
		}
		m := &all[len(all)-1]
		if m.States[state]++; state == StateClosed {
			m.Closed[why]++
		}
	})
	return all, read <= PlacedLimit, sqldb.Wrap("count the orders of a time", err)
}
