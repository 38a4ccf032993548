package order

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"orderd/migrations/sqldb"
	"orderd/payment"
)

// All statements of this package on the table payment_attempts: the WeChat
// orders that were opened for an order.

// attemptColumns are the columns that scanAttempt reads, in its order.
const attemptColumns = `out_trade_no, order_no, attempt_no, state, trade_type, description, attach,
  notify_url, time_expire, amount_fen, openid, client_ip, h5_type, answer, called_at, answered_at,
  call_no, answer_no, open_calls`

// scanAttempt reads attemptColumns.
func scanAttempt(rows *sql.Rows) (a Attempt, err error) {
	var answer, open string
	var called, answered int64
	if err = rows.Scan(&a.OutTradeNo, &a.OrderNo, &a.No, &a.State, &a.TradeType, &a.Description, &a.Attempt.Attach,
		&a.NotifyURL, &a.TimeExpire, &a.Amount, &a.OpenID, &a.ClientIP, &a.H5Type,
		&answer, &called, &answered, &a.CallNo, &a.AnswerNo, &open); err != nil {
		return a, err
	}
	a.CalledAt, a.AnsweredAt = sqldb.FromMillis(called), sqldb.FromMillis(answered)
	if answer != "" {
		stored := storedAnswer{&a.Answer, &a.kept}
		if err = json.Unmarshal([]byte(answer), &stored); err != nil {
			return a, fmt.Errorf("stored answer of attempt %s: %w", a.OutTradeNo, err)
		}
	}
	return a, a.readCalls(open)
}

// storedAnswer is the column answer: the program before this one reads the first part.
type storedAnswer struct {
	*payment.Prepaid
	*keptAnswer
}

// encodeAnswer gives the answer of an attempt for its column, "" for none.
func encodeAnswer(a *Attempt) (string, error) {
	if a.Answer == (payment.Prepaid{}) {
		return "", nil
	}
	b, err := json.Marshal(storedAnswer{&a.Answer, &a.kept})
	if err != nil {
		return "", fmt.Errorf("encode the answer of attempt %s: %w", a.OutTradeNo, err)
	}
	return string(b), nil
}

// findAttempts gives the WeChat orders of orders, of each the oldest first.
func findAttempts(ctx context.Context, q querier, orderNos ...string) ([]Attempt, error) {
	var all []Attempt
	err := sqldb.Each(ctx, q, `SELECT `+attemptColumns+`
FROM payment_attempts
WHERE order_no IN (`+sqldb.In(len(orderNos))+`)
ORDER BY order_no, attempt_no`, sqldb.Args(orderNos), func(rows *sql.Rows) error {
		a, err := scanAttempt(rows)
		all = append(all, a)
		return err
	})
	if err != nil {
		return nil, sqldb.Wrap("find payment attempts", err)
	}
	return all, nil
}

// loadAttempts reads attempts by their numbers. Their orders are locked, and whoever
// changes an attempt holds its order.
func loadAttempts(ctx context.Context, tx *sqldb.Tx, outTradeNos []string) (map[string]*attemptEntry, error) {
	if len(outTradeNos) == 0 {
		return nil, nil
	}
	entries := make(map[string]*attemptEntry, len(outTradeNos))
	lock := ""
	if tx.NoWait() { // writeAttempts would wait
		lock = "\nFOR UPDATE"
	}
	err := sqldb.Each(ctx, tx, `SELECT `+attemptColumns+`
FROM payment_attempts /*! FORCE INDEX (PRIMARY) */
WHERE out_trade_no IN (`+sqldb.In(len(outTradeNos))+`)`+lock, sqldb.Args(outTradeNos), func(rows *sql.Rows) error {
		a, err := scanAttempt(rows)
		after := a
		after.open = maps.Clone(a.open)
		entries[a.OutTradeNo] = &attemptEntry{before: a, after: after}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("load payment attempts: %w", err)
	}
	return entries, nil
}

// findNewest gives the newest WeChat order of each order that has one, by order
// number: what decides whether money can still come. Of an attempt there is what a
// close needs: its numbers, its state, whether it was answered and which calls are open.
func findNewest(ctx context.Context, tx *sqldb.Tx, orderNos []string) (map[string]*Attempt, error) {
	newest := map[string]*Attempt{}
	if len(orderNos) == 0 {
		return newest, nil
	}
	err := sqldb.Each(ctx, tx, `SELECT order_no, attempt_no, out_trade_no, state, called_at, answered_at,
  call_no, answer_no, open_calls
FROM payment_attempts /*! FORCE INDEX (u_attempts_order) */
WHERE order_no IN (`+sqldb.In(len(orderNos))+`)`, sqldb.Args(orderNos), func(rows *sql.Rows) error {
		var a Attempt
		var called, answered int64
		var open string
		if err := rows.Scan(&a.OrderNo, &a.No, &a.OutTradeNo, &a.State, &called, &answered,
			&a.CallNo, &a.AnswerNo, &open); err != nil {
			return err
		}
		a.CalledAt, a.AnsweredAt = sqldb.FromMillis(called), sqldb.FromMillis(answered)
		if last := newest[a.OrderNo]; last == nil || last.No < a.No {
			newest[a.OrderNo] = &a
		}
		return a.readCalls(open)
	})
	if err != nil {
		return nil, fmt.Errorf("find the newest payment attempts: %w", err)
	}
	return newest, nil
}

// insertAttempt commits the intent of the first prepay call of an attempt. Where the same
// was committed by somebody else a moment ago, the transaction is run again and finds it.
func insertAttempt(ctx context.Context, tx *sqldb.Tx, a Attempt) error {
	const cols = 18
	err := tx.InsertRows(ctx, `INSERT INTO payment_attempts
  (out_trade_no, order_no, attempt_no, state, trade_type, description, attach, notify_url,
   time_expire, amount_fen, openid, client_ip, h5_type, answer, called_at, answered_at, call_no, open_calls)
VALUES`, cols, []any{
		a.OutTradeNo, a.OrderNo, int64(a.No), string(a.State), string(a.TradeType), a.Description, a.Attempt.Attach,
		a.NotifyURL, a.TimeExpire, int64(a.Amount), a.OpenID, a.ClientIP, a.H5Type, "",
		sqldb.Millis(a.CalledAt), int64(0), a.CallNo, a.open.encode()})
	if sqldb.IsDuplicate(err) {
		return fmt.Errorf("%w: %w", sqldb.ErrLostRace, err)
	}
	if err != nil {
		return fmt.Errorf("insert payment attempt: %w", err)
	}
	return nil
}

// beginCall commits the intent of the next prepay call of an attempt: a as its begin
// made it of before. sqldb.ErrLostRace when it is not as before any more.
func beginCall(ctx context.Context, tx *sqldb.Tx, before, a *Attempt) error {
	answer, err := encodeAnswer(a)
	if err != nil {
		return err
	}
	n, err := tx.Update(ctx, `UPDATE payment_attempts
SET call_no = ?, open_calls = ?, called_at = ?, answer = ?
WHERE out_trade_no = ?
  AND state = ?
  AND call_no = ?
  AND open_calls = ?`, a.CallNo, a.open.encode(), sqldb.Millis(a.CalledAt), answer,
		a.OutTradeNo, string(before.State), before.CallNo, before.calls)
	if err != nil {
		return fmt.Errorf("begin a prepay call: %w", err)
	}
	if n != 1 {
		return sqldb.ErrLostRace
	}
	return nil
}

// updateAttempt writes an attempt as it was decided, if that changed anything.
// sqldb.ErrLostRace when the row is not as it was loaded.
func updateAttempt(ctx context.Context, tx *sqldb.Tx, e *attemptEntry) error {
	was, is := &e.before, &e.after
	calls := is.open.encode()
	if is.State == was.State && is.AnswerNo == was.AnswerNo && is.kept == was.kept && calls == was.calls {
		return nil
	}
	answer, err := encodeAnswer(is)
	if err != nil {
		return err
	}
	set := "state = ?, answer = ?, answered_at = ?, answer_no = ?, open_calls = ?"
	args := []any{string(is.State), answer, sqldb.Millis(is.AnsweredAt), is.AnswerNo, calls}
	if !e.ask.IsZero() || is.State == AttemptClosed {
		set += ", ask_at = ?, asks = 0"
		args = append(args, sql.NullInt64{Int64: sqldb.Millis(e.ask), Valid: !e.ask.IsZero()})
	}
	n, err := tx.Update(ctx, "UPDATE payment_attempts\nSET "+set+`
WHERE out_trade_no = ?
  AND state = ?
  AND call_no = ?
  AND answer_no = ?
  AND open_calls = ?`, append(args, is.OutTradeNo, string(was.State), was.CallNo, was.AnswerNo, was.calls)...)
	if err != nil {
		return fmt.Errorf("update payment attempt: %w", err)
	}
	if n != 1 {
		return sqldb.ErrLostRace
	}
	return nil
}

// findDueAsks gives up to limit attempts that WeChat Pay is to be asked about by until,
// through the index on that time. Of each it says whether its order waits for money by
// it. The program before this one leaves those on the list that it closes.
func findDueAsks(ctx context.Context, tx *sqldb.Tx, until time.Time, limit int) ([]Ask, error) {
	var asks []Ask
	err := sqldb.Each(ctx, tx, `SELECT a.out_trade_no, a.order_no, a.ask_at, a.asks, a.call_no, a.state, o.state
FROM payment_attempts a
LEFT JOIN orders o ON o.order_no = a.order_no
WHERE a.ask_at <= ?
ORDER BY a.ask_at, a.out_trade_no
LIMIT ?`, []any{sqldb.Millis(until), limit}, func(rows *sql.Rows) error {
		var a Ask
		var at int64
		var attempt AttemptState
		var state sql.NullString
		err := rows.Scan(&a.OutTradeNo, &a.OrderNo, &at, &a.Asks, &a.callNo, &attempt, &state)
		a.At = sqldb.FromMillis(at)
		a.Waits = attempt != AttemptClosed && State(state.String) == StatePending
		asks = append(asks, a)
		return err
	})
	return asks, err
}

// lockAsks locks asks, and gives those whose order waits and whose turn nobody has taken
// since they were read.
func lockAsks(ctx context.Context, tx *sqldb.Tx, asks []Ask) ([]Ask, error) {
	byNo := make(map[string]*Ask, len(asks))
	nos := make([]string, len(asks))
	for i := range asks {
		nos[i] = asks[i].OutTradeNo
		byNo[nos[i]] = &asks[i]
	}
	locked := make([]Ask, 0, len(nos))
	err := sqldb.Each(ctx, tx, `SELECT out_trade_no, ask_at
FROM payment_attempts /*! FORCE INDEX (PRIMARY) */
WHERE out_trade_no IN (`+sqldb.In(len(nos))+`)
  AND ask_at IS NOT NULL
ORDER BY out_trade_no
FOR UPDATE`, sqldb.Args(nos), func(rows *sql.Rows) error {
		var no string
		var at int64
		err := rows.Scan(&no, &at)
		if a := byNo[no]; a != nil && a.Waits && sqldb.Millis(a.At) == at {
			locked = append(locked, *a)
		}
		return err
	})
	return locked, err
}

// moveAsks sets the next time of locked asks, given by that time in milliseconds, and
// takes those off the list whose order is pending no more.
func moveAsks(ctx context.Context, tx *sqldb.Tx, byNext map[int64][]string, gone []string) error {
	for _, next := range slices.Sorted(maps.Keys(byNext)) {
		nos := byNext[next]
		if _, err := tx.Update(ctx, `UPDATE payment_attempts
SET ask_at = ?, asks = asks + 1
WHERE out_trade_no IN (`+sqldb.In(len(nos))+`)`, append([]any{next}, sqldb.Args(nos)...)...); err != nil {
			return err
		}
	}
	if len(gone) == 0 {
		return nil
	}
	_, err := tx.Update(ctx, `UPDATE payment_attempts
SET ask_at = NULL
WHERE out_trade_no IN (`+sqldb.In(len(gone))+`)
  AND (state = 'closed' OR NOT EXISTS (
    SELECT 1 FROM orders o WHERE o.order_no = payment_attempts.order_no AND o.state = 'pending'))`,
		sqldb.Args(gone)...)
	return err
}

// listAsks has the open trades of pending orders, which are locked, asked about at a
// time, where none is set.
func listAsks(ctx context.Context, tx *sqldb.Tx, orderNos []string, at time.Time) error {
	var nos []string
	err := sqldb.Each(ctx, tx, `SELECT out_trade_no
FROM payment_attempts /*! FORCE INDEX (u_attempts_order) */
WHERE order_no IN (`+sqldb.In(len(orderNos))+`)
  AND state = 'live'
  AND ask_at IS NULL
ORDER BY out_trade_no
FOR UPDATE`, sqldb.Args(orderNos), func(rows *sql.Rows) error {
		var no string
		err := rows.Scan(&no)
		nos = append(nos, no)
		return err
	})
	if err != nil || len(nos) == 0 {
		return err
	}
	_, err = tx.Update(ctx, `UPDATE payment_attempts
SET ask_at = ?, asks = 0
WHERE state = 'live'
  AND ask_at IS NULL
  AND out_trade_no IN (`+sqldb.In(len(nos))+`)`, append([]any{sqldb.Millis(at)}, sqldb.Args(nos)...)...)
	return err
}
