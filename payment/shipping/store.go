package shipping

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
)

// row is a shipment with what only its writers need.
type row struct {
	Shipment
	reships int64
	openID  string // of the attempt that was paid
	damaged error  // why its content cannot be read: it stops its neighbours no more than itself
}

const columns = `order_no, state, transaction_id, out_trade_no, paid_at, content, put_at, version, reships,
  tries, due_at, code, message, put_by, created_at, updated_at`

// scan reads columns.
func scan(rows *sql.Rows) (row, error) {
	var r row
	var content string
	var paid, put, created, updated int64
	var due sql.NullInt64
	err := rows.Scan(&r.OrderNo, &r.State, &r.TransactionID, &r.OutTradeNo, &paid, &content, &put, &r.Version,
		&r.reships, &r.Tries, &due, &r.Code, &r.Message, &r.By, &created, &updated)
	if err != nil {
		return r, err
	}
	r.PaidAt, r.CreatedAt, r.UpdatedAt = sqldb.FromMillis(paid), sqldb.FromMillis(created), sqldb.FromMillis(updated)
	if put != 0 {
		r.PutAt = sqldb.FromMillis(put)
	}
	if due.Valid {
		r.DueAt = sqldb.FromMillis(due.Int64)
	}
	if content != "" {
		r.damaged = json.Unmarshal([]byte(content), &r.Content)
	}
	return r, nil
}

// Paid is a payment that was applied to its order.
type Paid struct {
	OrderNo, OutTradeNo, TransactionID, TradeType, AppID string
	PaidAt                                               time.Time
}

// Expect notes, in the transaction that applies payments, that the orders which were paid
// in the mini program are owed a shipment. An order is paid once, so that no row of it
// should be there; one that is (a restore, a hand) stays, and keeps no money out.
func (s *Service) Expect(ctx context.Context, tx *sqldb.Tx, paid []Paid) error {
	now := s.cfg.Now().Truncate(time.Millisecond)
	there, err := s.there(ctx, tx, paid)
	if err != nil {
		return err
	}
	const cols = 12
	var args []any
	for _, p := range paid {
		if p.TradeType != "JSAPI" || p.AppID != s.cfg.AppID || there[p.OrderNo] {
			continue
		}
		args = append(args, p.OrderNo, string(StateOwed), p.TransactionID, p.OutTradeNo, sqldb.Millis(p.PaidAt), "", 0,
			sqldb.Millis(p.PaidAt.Add(s.wait(tellAfter))), "", "", sqldb.Millis(now), sqldb.Millis(now))
	}
	if len(args) == 0 {
		return nil
	}
	err = tx.InsertRows(ctx, `INSERT INTO shipments
  (order_no, state, transaction_id, out_trade_no, paid_at, content, put_at, due_at, message, put_by, created_at,
   updated_at)
VALUES`, cols, args)
	if err != nil {
		return fmt.Errorf("insert shipments: %w", err)
	}
	return nil
}

// there are the orders that have a shipment before they are paid, and tells of them.
func (s *Service) there(ctx context.Context, tx *sqldb.Tx, paid []Paid) (map[string]bool, error) {
	if len(paid) == 0 {
		return nil, nil
	}
	nos := make([]any, len(paid))
	for i := range paid {
		nos[i] = paid[i].OrderNo
	}
	there := map[string]bool{}
	err := sqldb.Each(ctx, tx, `SELECT order_no
FROM shipments
WHERE order_no IN (`+sqldb.In(len(nos))+`)`, nos, func(rows *sql.Rows) error {
		var no string
		err := rows.Scan(&no)
		there[no] = true
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read shipments: %w", err)
	}
	for no := range there {
		s.alarm("shipping: a shipment was there before the payment", no, "orderd verify names the row; mend it by hand")
	}
	return there, nil
}

// lock locks the shipment of an order. One that is not there is made of the order's
// payment: it was paid before shipments were on, or by the program before them.
func (s *Service) lock(ctx context.Context, tx *sqldb.Tx, orderNo string, now time.Time) (row, error) {
	for made := false; ; made = true {
		rows, err := find(ctx, tx, `SELECT `+columns+`
FROM shipments
WHERE order_no = ?
FOR UPDATE`, orderNo)
		if err != nil {
			return row{}, err
		}
		if len(rows) == 1 {
			gone, err := wentBack(ctx, tx, orderNo)
			if err == nil && gone {
				err = ErrNotOwed
			}
			return rows[0], err
		}
		if made {
			return row{}, ErrNotOwed
		}
		var p Paid
		var at int64
		err = tx.QueryRowContext(ctx, `SELECT order_no, out_trade_no, transaction_id, trade_type, appid, paid_at
FROM payments
WHERE order_no = ?
  AND outcome = 'applied'
LIMIT 1`, orderNo).Scan(&p.OrderNo, &p.OutTradeNo, &p.TransactionID, &p.TradeType, &p.AppID, &at)
		if errors.Is(err, sql.ErrNoRows) {
			return row{}, ErrNotOwed
		}
		if err != nil {
			return row{}, fmt.Errorf("read payment: %w", err)
		}
		p.PaidAt = sqldb.FromMillis(at)
		if err := s.Expect(ctx, tx, []Paid{p}); err != nil {
			return row{}, err
		}
	}
}

// wentBack reports that the money of an order went back whole: nothing is owed for it.
func wentBack(ctx context.Context, tx *sqldb.Tx, orderNo string) (bool, error) {
	return sqldb.Known(ctx, tx, `SELECT 1
FROM orders
WHERE order_no = ?
  AND state = 'refunded'`, orderNo)
}

// comeDue reads a page of a state whose time has come, the longest due first.
func (s *Service) comeDue(ctx context.Context, state State, now time.Time) ([]row, error) {
	rows, err := sqldb.Decided(ctx, s.cfg.DB, `SELECT `+columns+`
FROM shipments
WHERE state = ?
  AND due_at <= ?
ORDER BY due_at, order_no
LIMIT ?`, []any{string(state), sqldb.Millis(now), pageSize}, scan)
	if err != nil {
		return nil, fmt.Errorf("read the shipments that are %s: %w", state, err)
	}
	return rows, nil
}

// find reads rows in a transaction.
func find(ctx context.Context, q sqldb.Querier, query string, args ...any) (all []row, err error) {
	err = sqldb.Each(ctx, q, query, args, func(rows *sql.Rows) error {
		r, err := scan(rows)
		all = append(all, r)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read shipments: %w", err)
	}
	return all, nil
}

// store writes a shipment whose content was put. It is locked.
func store(ctx context.Context, tx *sqldb.Tx, r *row, content string) error {
	_, err := tx.Update(ctx, `UPDATE shipments
SET state = ?, content = ?, put_at = ?, version = ?, reships = ?, tries = 0, due_at = ?, code = 0, message = '',
    put_by = ?, updated_at = ?
WHERE order_no = ?`, string(r.State), content, sqldb.Millis(r.PutAt), r.Version, r.reships,
		sqldb.Millis(r.DueAt), bounds.Operator.Cut(r.By), sqldb.Millis(r.UpdatedAt), r.OrderNo)
	if err != nil {
		return fmt.Errorf("update shipment: %w", err)
	}
	return nil
}

// Find gives the shipment of an order; false without one.
func (s *Service) Find(ctx context.Context, orderNo string) (Shipment, bool, error) {
	rows, err := sqldb.Decided(ctx, s.cfg.DB, `SELECT `+columns+`
FROM shipments
WHERE order_no = ?`, []any{orderNo}, scan)
	if err != nil || len(rows) == 0 {
		return Shipment{}, false, err
	}
	return rows[0].Shipment, true, nil
}

// ListQuery reads a page of the shipments of a state, after a time and number. The time is said
// once more by itself: an index is entered there, and not at the first of the state.
const ListQuery = `SELECT ` + columns + `
FROM shipments /*! FORCE INDEX (ix_shipments_paid) */
WHERE state = ?
  AND paid_at >= ?
  AND (paid_at > ? OR order_no > ?)
ORDER BY paid_at, order_no
LIMIT ?`

// List gives up to limit shipments of a state, those that were paid first before the
// others, after the one at a cursor, and the cursor of the next page: "" on the last.
func (s *Service) List(ctx context.Context, state State, cursor string, limit int) ([]Shipment, string, error) {
	after, no, err := parseCursor(cursor)
	if err != nil {
		return nil, "", err
	}
	rows, err := find(ctx, s.cfg.DB.Shown(), ListQuery, string(state), after, after, no, limit+1)
	if err != nil {
		return nil, "", err
	}
	next := ""
	if len(rows) > limit {
		rows = rows[:limit]
		last := rows[limit-1]
		next = fmt.Sprintf("%d-%s", sqldb.Millis(last.PaidAt), last.OrderNo)
	}
	all := make([]Shipment, len(rows))
	for i := range rows {
		all[i] = rows[i].Shipment
	}
	return all, next, nil
}

func parseCursor(text string) (after int64, no string, err error) {
	if text == "" {
		return 0, "", nil
	}
	if _, err := fmt.Sscanf(text, "%d-%s", &after, &no); err != nil || !bounds.OrderNo.Fits(no) {
		return 0, "", bounds.ErrCursor
	}
	return after, no, nil
}

// Backlog is how many shipments a person or a worker has to do something about.
type Backlog struct {
	Owed, Due, Refused int64
	// OldestOwed is when the oldest order was paid that nobody has sent; zero without one.
	OldestOwed time.Time
}

// Backlog counts what is open. It reads an index, and as many entries of it as there are.
func (s *Service) Backlog(ctx context.Context) (b Backlog, err error) {
	err = sqldb.Each(ctx, s.cfg.DB, `SELECT state, COUNT(*), MIN(paid_at)
FROM shipments
WHERE state IN ('owed', 'due', 'refused')
GROUP BY state`, nil, func(rows *sql.Rows) error {
		var state State
		var n, oldest int64
		if err := rows.Scan(&state, &n, &oldest); err != nil {
			return err
		}
		switch state {
		case StateOwed:
			b.Owed, b.OldestOwed = n, sqldb.FromMillis(oldest)
		case StateDue:
			b.Due = n
		case StateRefused:
			b.Refused = n
		case StateReported, StateVoid:
		}
		return nil
	})
	return b, err
}
