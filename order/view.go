package order

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"orderd/migrations/sqldb"
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

func (s *Service) find(ctx context.Context, orderNo, customerID string) (Order, error) {
	o, err := scanOrder(s.db.QueryRowContext(ctx, `SELECT `+orderColumns+`
FROM orders
WHERE order_no = ?`, orderNo))
	switch {
	case errors.Is(err, sql.ErrNoRows), err == nil && customerID != "" && o.CustomerID != customerID:
		return Order{}, ErrNotFound
	case err != nil:
		return Order{}, sqldb.Wrap("find order", err)
	}
	items, err := findItems(ctx, s.db, []string{orderNo})
	if err != nil {
		return Order{}, sqldb.Wrap("find order", err)
	}
	o.Items = items[orderNo]
	if o.Attempts, err = findAttempts(ctx, s.db, orderNo); err != nil {
		return Order{}, sqldb.Wrap("find order", err)
	}
	if o.Payment, err = findPayment(ctx, s.db, orderNo); err != nil {
		return Order{}, sqldb.Wrap("find order", err)
	}
	if o.Refunds, err = s.queryRefunds(ctx, `WHERE order_no = ?
ORDER BY created_at, out_refund_no`, orderNo); err != nil {
		return Order{}, sqldb.Wrap("find order", err)
	}
	return o, nil
}

// findPayment gives the payment that made an order paid, else the oldest one
// that is owed back, nil without.
func findPayment(ctx context.Context, q querier, orderNo string) (*Payment, error) {
	var p Payment
	var paid, received int64
	err := q.QueryRowContext(ctx, `SELECT transaction_id, out_trade_no, trade_type, amount_fen, payer_fen, currency,
  paid_at, received_at, outcome, reason
FROM payments
WHERE order_no = ?
  AND outcome <> 'held'
ORDER BY CASE outcome WHEN 'applied' THEN 0 ELSE 1 END, received_at, transaction_id
LIMIT 1`, orderNo).Scan(&p.TransactionID, &p.OutTradeNo, &p.TradeType, &p.Total, &p.PayerTotal, &p.Currency,
		&paid, &received, &p.Outcome, &p.Reason)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	p.SuccessTime, p.ReceivedAt = fromMS(paid), fromMS(received)
	return &p, err
}

// List gives orders with their items, newest first, and the cursor of the next
// page, "" at the end. Payments and attempts are not loaded.
func (s *Service) List(ctx context.Context, f Filter) ([]Order, string, error) {
	limit := f.Limit
	if limit <= 0 {
		limit = defaultPage
	}
	limit = min(limit, maxPage)
	where, args := f.where(s.cfg.Now())
	rows, err := s.db.QueryContext(ctx, `SELECT `+orderColumns+`
FROM orders
`+where+`
ORDER BY order_no DESC
LIMIT ?`, append(args, limit+1)...)
	if err != nil {
		return nil, "", sqldb.Wrap("list orders", err)
	}
	defer rows.Close()
	var orders []Order
	for rows.Next() {
		o, err := scanOrder(rows)
		if err != nil {
			return nil, "", sqldb.Wrap("list orders", err)
		}
		orders = append(orders, o)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
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
	items, err := findItems(ctx, s.db, nos)
	if err != nil {
		return nil, "", sqldb.Wrap("list orders", err)
	}
	for i := range orders {
		orders[i].Items = items[orders[i].OrderNo]
	}
	return orders, next, nil
}

func (f *Filter) where(now time.Time) (string, []any) {
	var terms []string
	var args []any
	add := func(when bool, term string, values ...any) {
		if when {
			terms, args = append(terms, term), append(args, values...)
		}
	}
	add(f.OrderNo != "", "order_no = ?", f.OrderNo)
	add(f.CustomerID != "", "customer_id = ?", f.CustomerID)
	add(f.State != "", "state = ?", string(f.State))
	add(!f.CreatedFrom.IsZero(), "created_at >= ?", toMS(f.CreatedFrom))
	add(!f.CreatedTo.IsZero(), "created_at < ?", toMS(f.CreatedTo))
	add(f.OutTradeNo != "", "order_no = ?", attemptOrder(f.OutTradeNo))
	add(f.TransactionID != "", "order_no IN (SELECT order_no FROM payments WHERE transaction_id = ?)", f.TransactionID)
	add(f.OutRefundNo != "", "order_no IN (SELECT order_no FROM refunds WHERE out_refund_no = ?)", f.OutRefundNo)
	add(f.SkuID != "", "order_no IN (SELECT order_no FROM order_items WHERE sku_id = ?)", f.SkuID)
	add(f.Stuck, "due_at < ?", toMS(now.Add(-StuckAfter)))
	add(f.AmountMin > 0, "total_fen >= ?", int64(f.AmountMin))
	add(f.AmountMax > 0, "total_fen <= ?", int64(f.AmountMax))
	add(f.Cursor != "", "order_no < ?", f.Cursor)
	if len(terms) == 0 {
		return "", nil
	}
	return "WHERE " + strings.Join(terms, "\n  AND "), args
}

// Timeline gives everything that happened to an order, in order. The first
// event is the placement, which the order's own row records.
func (s *Service) Timeline(ctx context.Context, orderNo string) ([]TimelineEvent, error) {
	o, err := scanOrder(s.db.QueryRowContext(ctx, `SELECT `+orderColumns+`
FROM orders
WHERE order_no = ?`, orderNo))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, ErrNotFound
	} else if err != nil {
		return nil, sqldb.Wrap("timeline", err)
	}
	customer := Actor{Type: ActorCustomer, ID: o.CustomerID}
	events := []TimelineEvent{{Seq: 1, At: o.CreatedAt, Actor: customer, Event: "order.placed", To: StatePending,
		Cause: Cause{Actor: customer, Type: "request", ID: o.PlacedCause}, Detail: map[string]string{"total": o.Total.String()}}}
	rows, err := s.db.QueryContext(ctx, `SELECT seq, at, event, from_state, to_state, actor_type, actor_id, cause_type, cause_id, detail, took_ms
FROM order_events
WHERE order_no = ?
ORDER BY seq`, orderNo)
	if err != nil {
		return nil, sqldb.Wrap("timeline", err)
	}
	defer rows.Close()
	for rows.Next() {
		var e TimelineEvent
		var at, took int64
		var detail string
		if err := rows.Scan(&e.Seq, &at, &e.Event, &e.From, &e.To, &e.Actor.Type, &e.Actor.ID, &e.Cause.Type, &e.Cause.ID, &detail, &took); err != nil {
			return nil, sqldb.Wrap("timeline", err)
		}
		e.At, e.Took, e.Cause.Actor = fromMS(at), time.Duration(took)*time.Millisecond, e.Actor
		if detail != "" {
			if err := json.Unmarshal([]byte(detail), &e.Detail); err != nil {
				return nil, fmt.Errorf("timeline of %s: detail of event %d: %w", orderNo, e.Seq, err)
			}
		}
		events = append(events, e)
	}
	return events, rows.Err()
}

// DueOrders pages through the orders of one state, pending or closing, that
// somebody has to look at, in the order of their due time: those after the
// cursor and due by until. A page full of orders that cannot be helped does not
// hide the next one. Of the closing, those that wait for their first turn at
// WeChat Pay have their deadline as due time.
func (s *Service) DueOrders(ctx context.Context, state State, after DueCursor, until time.Time, limit int) ([]Due, error) {
	var due []Due
	err := s.eachDue(ctx, "SELECT order_no, version, due_at, close_tries FROM orders WHERE state = ?", []any{string(state)}, "order_no", after, until, limit, func(rows *sql.Rows) error {
		d := Due{State: state}
		var at int64
		err := rows.Scan(&d.Key, &d.Version, &at, &d.Tries)
		d.At = fromMS(at)
		due = append(due, d)
		return err
	})
	if err != nil {
		return nil, sqldb.Wrap("find due orders", err)
	}
	return due, nil
}

// eachDue gives up to limit rows of a query that ends in a WHERE with a term:
// those that are due after a place and by until, in the order of (due_at, key).
// It asks for the rest of the place's millisecond, and then for what is due
// later. Asked for in one query, a database finds the place by the time alone
// and reads past all rows of that millisecond, for every page of a herd.
func (s *Service) eachDue(ctx context.Context, query string, args []any, key string, after DueCursor, until time.Time, limit int, row func(*sql.Rows) error) error {
	from, to := toMS(after.At), toMS(until)
	for _, part := range []struct {
		where string
		args  []any
	}{
		{"due_at = ? AND " + key + " > ?", []any{from, after.Key}},
		{"due_at > ? AND due_at <= ?", []any{from, to}},
	} {
		if limit <= 0 || from > to {
			break
		}
		if err := sqldb.Each(ctx, s.db, query+`
  AND `+part.where+`
ORDER BY due_at, `+key+`
LIMIT ?`, append(append(slices.Clone(args), part.args...), limit), func(rows *sql.Rows) error {
			limit--
			return row(rows)
		}); err != nil {
			return err
		}
	}
	return nil
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
	rows, err := s.db.QueryContext(ctx, `SELECT state, COUNT(*), SUM(CASE WHEN due_at < ? THEN 1 ELSE 0 END), MIN(due_at)
FROM orders
WHERE state IN ('pending', 'closing')
GROUP BY state`, toMS(s.cfg.Now()))
	if err != nil {
		return b, sqldb.Wrap("count open orders", err)
	}
	defer rows.Close()
	for rows.Next() {
		var st State
		var n, overdue, oldest int64
		if err := rows.Scan(&st, &n, &overdue, &oldest); err != nil {
			return b, sqldb.Wrap("count open orders", err)
		}
		b.Open[st] += n
		if b.Overdue += overdue; st == StateClosing {
			b.Waiting = overdue
		}
		if at := fromMS(oldest); overdue > 0 && (b.Oldest.IsZero() || at.Before(b.Oldest)) {
			b.Oldest = at
		}
	}
	return b, rows.Err()
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
	last := int64(-1)
	err := sqldb.Each(ctx, s.db, `SELECT CASE WHEN due_at < ? THEN 0 ELSE due_at - due_at % 60000 END AS minute_from, state, COUNT(*)
FROM orders
WHERE state IN ('pending', 'closing')
  AND due_at <= ?
GROUP BY minute_from, state
ORDER BY minute_from, state`, []any{toMS(now), toMS(now.Add(horizon))}, func(rows *sql.Rows) error {
		var from, n int64
		var state State
		if err := rows.Scan(&from, &state, &n); err != nil {
			return err
		}
		if from != last {
			last, all = from, append(all, DueMinute{})
			if from > 0 {
				at := fromMS(from)
				all[len(all)-1].From = &at
			}
		}
		if m := &all[len(all)-1]; state == StatePending {
			m.Pending = n
		} else {
			m.Closing = n
		}
		return nil
	})
	if err != nil {
		return nil, sqldb.Wrap("count due orders", err)
	}
	return all, nil
}

// Account is where the units of a SKU are: on the shelf, reserved by open
// orders, or sold. A SKU is conserved when what came in equals their sum.
type Account struct {
	SkuID              string
	CameIn, Available  int64
	Reserved, Sold     int64
	Deducted, Returned int64
	Unlimited          bool
}

// Conserved reports that every unit that came in is somewhere.
func (a Account) Conserved() bool {
	return a.Unlimited || a.CameIn == a.Available+a.Reserved+a.Sold
}

// StockAccount accounts for every unit of one SKU from its flows and the states
// of the orders that hold them.
func (s *Service) StockAccount(ctx context.Context, skuID string) (Account, error) {
	a := Account{SkuID: skuID}
	err := s.db.QueryRowContext(ctx, `SELECT available, unlimited
FROM skus
WHERE sku_id = ?`, skuID).Scan(&a.Available, &a.Unlimited)
	if errors.Is(err, sql.ErrNoRows) {
		return a, ErrNotFound
	} else if err != nil {
		return a, sqldb.Wrap("account for stock", err)
	}
	rows, err := s.db.QueryContext(ctx, `SELECT f.kind, COALESCE(o.state, ''), SUM(f.delta)
FROM stock_flows f
LEFT JOIN orders o ON o.order_no = f.order_no
WHERE f.sku_id = ?
GROUP BY f.kind, COALESCE(o.state, '')`, skuID)
	if err != nil {
		return a, sqldb.Wrap("account for stock", err)
	}
	defer rows.Close()
	open := []State{StatePending, StateClosing}
	for rows.Next() {
		var kind string
		var st State
		var delta int64
		if err := rows.Scan(&kind, &st, &delta); err != nil {
			return a, sqldb.Wrap("account for stock", err)
		}
		switch {
		case kind != "deduct" && kind != "return":
			a.CameIn += delta
			continue
		case kind == "deduct":
			a.Deducted -= delta
		default:
			a.Returned += delta
		}
		if slices.Contains(open, st) {
			a.Reserved -= delta
		} else {
			a.Sold -= delta // of a closed order: nothing, its flows cancel out
		}
	}
	return a, rows.Err()
}
