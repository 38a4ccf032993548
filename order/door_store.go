package order

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"time"

	"orderd/migrations/sqldb"
	"orderd/payment"
)

// lockOrders reads orders in ascending order and locks them until the
// transaction ends. Numbers that do not exist are left out.
func lockOrders(ctx context.Context, tx *sqldb.Tx, orderNos []string) (map[string]*entry, error) {
	entries := make(map[string]*entry, len(orderNos))
	rows, err := tx.QueryContext(ctx, `SELECT `+orderColumns+`
FROM orders
WHERE order_no IN (`+sqldb.In(len(orderNos))+`)
ORDER BY order_no
FOR UPDATE`, sqldb.Args(orderNos)...)
	if err != nil {
		return nil, fmt.Errorf("lock orders: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		o, err := scanOrder(rows)
		if err != nil {
			return nil, fmt.Errorf("lock orders: %w", err)
		}
		entries[o.OrderNo] = &entry{read: o, now: o}
	}
	return entries, rows.Err()
}

// findRecorded finds which transactions are in the journal already.
func findRecorded(ctx context.Context, tx *sqldb.Tx, transactions []string) (map[string]recorded, error) {
	found := make(map[string]recorded, len(transactions))
	if len(transactions) == 0 {
		return found, nil
	}
	rows, err := tx.QueryContext(ctx, `SELECT transaction_id, order_no, outcome, reason
FROM payments
WHERE transaction_id IN (`+sqldb.In(len(transactions))+`)`, sqldb.Args(transactions)...)
	if err != nil {
		return nil, fmt.Errorf("find recorded payments: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		var r recorded
		if err := rows.Scan(&id, &r.orderNo, &r.settled, &r.reason); err != nil {
			return nil, fmt.Errorf("find recorded payments: %w", err)
		}
		found[id] = r
	}
	return found, rows.Err()
}

type eventRow struct {
	orderNo  string
	seq      int64
	at       time.Time
	name     string
	from, to State
	cause    Cause
	detail   string
	took     time.Duration
}

func insertEvents(ctx context.Context, tx *sqldb.Tx, events []eventRow) error {
	sort.SliceStable(events, func(i, j int) bool { // not slices: its code for wide rows is large
		a, b := &events[i], &events[j]
		return a.orderNo < b.orderNo || a.orderNo == b.orderNo && a.seq < b.seq
	})
	const cols = 12
	args := make([]any, 0, cols*len(events))
	for _, e := range events {
		args = append(args, e.orderNo, e.seq, toMS(e.at), e.name, string(e.from), string(e.to),
			string(e.cause.Actor.Type), cut(e.cause.Actor.ID, 64), cut(e.cause.Type, 16), cut(e.cause.ID, 64), e.detail, e.took.Milliseconds())
	}
	err := tx.InsertRows(ctx, `INSERT INTO order_events
  (order_no, seq, at, event, from_state, to_state, actor_type, actor_id, cause_type, cause_id, detail, took_ms)
VALUES`, cols, args)
	if err != nil {
		return fmt.Errorf("insert events: %w", err)
	}
	return nil
}

// cut shortens what explains and never decides to the width of its column.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}

type paymentRow struct {
	payment.Trade
	orderNo string
	at      time.Time
	source  string
	settled Settled
	reason  string
	refund  payment.Fen // of it that is owed back
}

func insertPayments(ctx context.Context, tx *sqldb.Tx, payments []paymentRow) error {
	sort.Slice(payments, func(i, j int) bool { return payments[i].TransactionID < payments[j].TransactionID })
	const cols = 15
	args := make([]any, 0, cols*len(payments))
	for _, p := range payments {
		args = append(args, p.TransactionID, p.orderNo, p.OutTradeNo, int64(p.Total), int64(p.PayerTotal),
			cut(p.Currency, 16), cut(p.TradeType, 16), cut(p.AppID, 32), cut(p.MchID, 32), toMS(p.SuccessTime), toMS(p.at), cut(p.source, 12), string(p.settled), p.reason, int64(p.refund))
	}
	err := tx.InsertRows(ctx, `INSERT INTO payments
  (transaction_id, order_no, out_trade_no, amount_fen, payer_fen, currency, trade_type, appid, mchid,
   paid_at, received_at, source, outcome, reason, refund_fen)
VALUES`, cols, args)
	if err != nil {
		return fmt.Errorf("insert payments: %w", err)
	}
	return nil
}
