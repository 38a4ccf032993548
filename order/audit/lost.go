package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"orderd/migrations"
	"orderd/migrations/sqldb"
	"orderd/payment"
)

// Lost is what another database has and ours has not: after a fail-over to a replica that
// lagged, what the old primary alone knows. Each list is in the order of its numbers.
type Lost struct {
	Orders   []LostOrder   `json:"orders"`
	Trades   []LostTrade   `json:"trades"`
	Payments []LostPayment `json:"payments"`
	Refunds  []LostRefund  `json:"refunds"`
}

// Any reports that there is something.
func (l *Lost) Any() bool {
	return len(l.Orders)+len(l.Trades)+len(l.Payments)+len(l.Refunds) > 0
}

// LostOrder is an order, as the other database has it.
type LostOrder struct {
	OrderNo    string      `json:"order_no"`
	CustomerID string      `json:"customer_id"`
	RequestID  string      `json:"request_id"` // the Idempotency-Key that it was placed under
	State      string      `json:"state"`
	Total      payment.Fen `json:"total_fen"`
}

// LostTrade is a number under which WeChat Pay may take money.
type LostTrade struct {
	OutTradeNo string      `json:"out_trade_no"`
	OrderNo    string      `json:"order_no"`
	State      string      `json:"state"`
	Amount     payment.Fen `json:"amount_fen"`
}

// LostPayment is a payment. Its order may be one of ours.
type LostPayment struct {
	TransactionID string      `json:"transaction_id"`
	OutTradeNo    string      `json:"out_trade_no"`
	OrderNo       string      `json:"order_no"`
	Outcome       string      `json:"outcome"`
	Amount        payment.Fen `json:"amount_fen"`
}

// LostRefund is a refund.
type LostRefund struct {
	OutRefundNo   string      `json:"out_refund_no"`
	OrderNo       string      `json:"order_no"`
	TransactionID string      `json:"transaction_id"`
	State         string      `json:"state"`
	Amount        payment.Fen `json:"amount_fen"`
}

// lostPage is how many rows of the other database are looked for at a time.
const lostPage = 500

// Against lists what the other database has and ours has not, by numbers: whole tables,
// page by page along their keys. progress, which may be nil, hears where it is. The other
// database is only read; ours is read where it is written, since "not there" is the answer.
// Errors: sqldb.ErrNoCopy for a database of another shop, whose numbers are no loss of ours;
// database errors.
func (a *Auditor) Against(ctx context.Context, other *sqldb.DB, progress func(table, after string)) (l Lost,
	err error) {
	l = Lost{[]LostOrder{}, []LostTrade{}, []LostPayment{}, []LostRefund{}}
	switch err := a.db.CopyOf(ctx, other, migrations.Birth); {
	case errors.Is(err, sqldb.ErrNoCopy):
		return l, fmt.Errorf("%w; only the database of the same shop before a fail-over has what was lost", err)
	case err != nil:
		return l, sqldb.Wrap("read the other database", err)
	}
	for _, of := range []struct{ table, key, columns string }{
		{"orders", "order_no", "order_no, customer_id, request_id, state, total_fen"},
		{"payment_attempts", "out_trade_no", "out_trade_no, order_no, state, amount_fen"},
		{"payments", "transaction_id", "transaction_id, out_trade_no, order_no, outcome, amount_fen"},
		{"refunds", "out_refund_no", "out_refund_no, order_no, transaction_id, state, amount_fen"},
	} {
		for after, more := "", true; more; {
			if progress != nil {
				progress(of.table, after)
			}
			var page Lost
			keys, err := page.read(ctx, other, of.table, `SELECT `+of.columns+`
FROM `+of.table+`
WHERE `+of.key+` > ?
ORDER BY `+of.key+`
LIMIT ?`, after)
			if err != nil {
				return l, sqldb.Wrap("read the other database", err)
			}
			if more = len(keys) == lostPage; len(keys) == 0 {
				break
			}
			after = keys[len(keys)-1]
			ours, err := sqldb.Decided(ctx, a.db, `SELECT `+of.key+`
FROM `+of.table+`
WHERE `+of.key+` IN (`+sqldb.In(len(keys))+`)`, sqldb.Args(keys), sqldb.Column[string])
			if err != nil {
				return l, sqldb.Wrap("look for what the other database has", err)
			}
			l.add(&page, ours)
		}
	}
	return l, nil
}

// read reads a page of a table of the other database, and gives its keys.
func (l *Lost) read(ctx context.Context, other *sqldb.DB, table, query, after string) (keys []string, err error) {
	err = sqldb.Each(ctx, other, query, []any{after, lostPage}, func(rows *sql.Rows) (err error) {
		var o LostOrder
		var t LostTrade
		var p LostPayment
		var r LostRefund
		switch table {
		case "orders":
			err = rows.Scan(&o.OrderNo, &o.CustomerID, &o.RequestID, &o.State, &o.Total)
			l.Orders, keys = append(l.Orders, o), append(keys, o.OrderNo)
		case "payment_attempts":
			err = rows.Scan(&t.OutTradeNo, &t.OrderNo, &t.State, &t.Amount)
			l.Trades, keys = append(l.Trades, t), append(keys, t.OutTradeNo)
		case "payments":
			err = rows.Scan(&p.TransactionID, &p.OutTradeNo, &p.OrderNo, &p.Outcome, &p.Amount)
			l.Payments, keys = append(l.Payments, p), append(keys, p.TransactionID)
		case "refunds":
			err = rows.Scan(&r.OutRefundNo, &r.OrderNo, &r.TransactionID, &r.State, &r.Amount)
			l.Refunds, keys = append(l.Refunds, r), append(keys, r.OutRefundNo)
		}
		return err
	})
	return keys, err
}

// add adds a page without what is ours.
func (l *Lost) add(page *Lost, ours []string) {
	known := map[string]bool{}
	for _, key := range ours {
		known[key] = true
	}
	l.Orders = append(l.Orders, without(page.Orders, known, func(o LostOrder) string { return o.OrderNo })...)
	l.Trades = append(l.Trades, without(page.Trades, known, func(t LostTrade) string { return t.OutTradeNo })...)
	l.Payments = append(l.Payments, without(page.Payments, known,
		func(p LostPayment) string { return p.TransactionID })...)
	l.Refunds = append(l.Refunds, without(page.Refunds, known, func(r LostRefund) string { return r.OutRefundNo })...)
}

// without gives the rows whose keys are not known.
func without[T any](rows []T, known map[string]bool, key func(T) string) (some []T) {
	for _, row := range rows {
		if !known[key(row)] {
			some = append(some, row)
		}
	}
	return some
}
