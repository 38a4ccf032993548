package order

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"orderd/migrations/sqldb"
	"orderd/payment"
)

// All statements of this package on the table payment_attempts: the WeChat
// orders that were opened for an order.

// findAttempts gives the WeChat orders of orders, of each the oldest first.
func findAttempts(ctx context.Context, q querier, orderNos ...string) ([]Attempt, error) {
	var all []Attempt
	err := sqldb.Each(ctx, q, `SELECT out_trade_no, order_no, attempt_no, state, trade_type, description, attach,
  notify_url, time_expire, amount_fen, openid, client_ip, h5_type, answer, called_at, answered_at
FROM payment_attempts
WHERE order_no IN (`+sqldb.In(len(orderNos))+`)
ORDER BY order_no, attempt_no`, sqldb.Args(orderNos), func(rows *sql.Rows) error {
		var a Attempt
		var answer string
		var called, answered int64
		if err := rows.Scan(&a.OutTradeNo, &a.OrderNo, &a.No, &a.State, &a.TradeType, &a.Description, &a.Attempt.Attach,
			&a.NotifyURL, &a.TimeExpire, &a.Amount, &a.OpenID, &a.ClientIP, &a.H5Type,
			&answer, &called, &answered); err != nil {
			return err
		}
		if answer != "" {
			if err := json.Unmarshal([]byte(answer), &a.Answer); err != nil {
				return fmt.Errorf("stored answer of attempt %s: %w", a.OutTradeNo, err)
			}
		}
		a.CalledAt, a.AnsweredAt = sqldb.FromMillis(called), sqldb.FromMillis(answered)
		all = append(all, a)
		return nil
	})
	if err != nil {
		return nil, sqldb.Wrap("find payment attempts", err)
	}
	return all, nil
}

// findNewest gives the newest WeChat order of each order that has one, by order
// number: what decides whether money can still come. Of an attempt there is what a
// close needs: its numbers, its state and when it was called with last.
func findNewest(ctx context.Context, tx *sqldb.Tx, orderNos []string) (map[string]*Attempt, error) {
	newest := map[string]*Attempt{}
	if len(orderNos) == 0 {
		return newest, nil
	}
	err := sqldb.Each(ctx, tx, `SELECT order_no, attempt_no, out_trade_no, state, called_at
FROM payment_attempts /*! FORCE INDEX (u_attempts_order) */
WHERE order_no IN (`+sqldb.In(len(orderNos))+`)`, sqldb.Args(orderNos), func(rows *sql.Rows) error {
		var a Attempt
		var called int64
		err := rows.Scan(&a.OrderNo, &a.No, &a.OutTradeNo, &a.State, &called)
		a.CalledAt = sqldb.FromMillis(called)
		if last := newest[a.OrderNo]; last == nil || last.No < a.No {
			newest[a.OrderNo] = &a
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("find the newest payment attempts: %w", err)
	}
	return newest, nil
}

// insertAttempt commits the intent of a prepay. Where the same was committed by somebody
// else a moment ago, the transaction is run again and finds it.
func insertAttempt(ctx context.Context, tx *sqldb.Tx, a Attempt) error {
	const cols = 16
	err := tx.InsertRows(ctx, `INSERT INTO payment_attempts
  (out_trade_no, order_no, attempt_no, state, trade_type, description, attach, notify_url,
   time_expire, amount_fen, openid, client_ip, h5_type, answer, called_at, answered_at)
VALUES`, cols, []any{
		a.OutTradeNo, a.OrderNo, int64(a.No), string(a.State), string(a.TradeType), a.Description, a.Attempt.Attach,
		a.NotifyURL, a.TimeExpire, int64(a.Amount), a.OpenID, a.ClientIP, a.H5Type, "",
		sqldb.Millis(a.CalledAt), int64(0)})
	if sqldb.IsDuplicate(err) {
		return fmt.Errorf("%w: %w", sqldb.ErrLostRace, err)
	}
	if err != nil {
		return fmt.Errorf("insert payment attempt: %w", err)
	}
	return nil
}

// setAttempt writes the state of an attempt that is not closed yet, and its
// answer when there is one. ErrNotFound when it is closed or gone.
func setAttempt(ctx context.Context, tx *sqldb.Tx, a Attempt) error {
	answer := ""
	if a.Answer != (payment.Prepaid{}) {
		b, err := json.Marshal(a.Answer)
		if err != nil {
			return fmt.Errorf("encode the answer of attempt %s: %w", a.OutTradeNo, err)
		}
		answer = string(b)
	}
	n, err := tx.Update(ctx, `UPDATE payment_attempts
SET state = ?, answer = ?, called_at = ?, answered_at = ?
WHERE out_trade_no = ?
  AND state <> 'closed'`, string(a.State), answer, sqldb.Millis(a.CalledAt), sqldb.Millis(a.AnsweredAt), a.OutTradeNo)
	if err != nil {
		return fmt.Errorf("update payment attempt: %w", err)
	}
	if n != 1 {
		return fmt.Errorf("attempt %s is closed or gone: %w", a.OutTradeNo, ErrNotFound)
	}
	return nil
}
