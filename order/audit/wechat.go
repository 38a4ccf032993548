package audit

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/payment"
)

// Bounds of asking WeChat Pay about everything.
const (
	// askRate is in queries a second. WeChat Pay takes 300 and more; what is left over
	// is for the running service.
	askRate = 100
	// askBurst is how many queries may come at once after a pause.
	askBurst = 10
	// askPage is how many numbers one SELECT reads: a few seconds of asking.
	askPage = 500
)

// VerifyWeChat compares the database with WeChat Pay, by one query per payment
// attempt and per refund since a time: what WeChat Pay was paid is recorded here,
// what is paid here is paid there, what is closed here takes no money there, and
// refunds are the same on both sides. WeChat Pay is asked first and the row is
// read after, so that what arrives in between is no difference. progress, which
// may be nil, is called before each question. An error means that one of the two
// could not be asked, not that a check failed.
func (a *Auditor) VerifyWeChat(
	ctx context.Context, since time.Time, progress func(done int64, id string),
) (Report, error) {
	start := a.cfg.Now()
	v := &wechatVerifier{a: a, limit: rate.NewLimiter(askRate, askBurst), progress: progress, checks: []CheckResult{
		{ID: "wechat.paid_is_held", Meaning: "what WeChat Pay was paid is held here, with its amount"},
		{ID: "wechat.held_is_paid", Meaning: "what is booked here is paid at WeChat Pay"},
		{ID: "wechat.closed_takes_nothing", Meaning: "an order that is closed here can take no money at WeChat Pay"},
		{ID: "wechat.refunds_agree", Meaning: "a refund is paid back on both sides, or on neither"},
		{ID: "wechat.refunds_known", Meaning: "what WeChat Pay calls refunded is explained here, or is a person's"},
	}}
	for i := range v.checks {
		v.checks[i].Violations = []string{}
	}
	if err := v.attempts(ctx, since); err != nil {
		return Report{}, sqldb.Wrap("verify with WeChat Pay", err)
	}
	if err := v.refunds(ctx, since); err != nil {
		return Report{}, sqldb.Wrap("verify with WeChat Pay", err)
	}
	return Report{Checks: v.checks, Orders: v.asked, Took: a.cfg.Now().Sub(start)}, nil
}

// wechatVerifier is one run of VerifyWeChat. It belongs to one goroutine.
type wechatVerifier struct {
	a        *Auditor
	limit    *rate.Limiter
	progress func(int64, string)
	checks   []CheckResult
	asked    int64 // questions so far
}

// The places of the checks in wechatVerifier.checks.
const (
	paidIsHeld = iota
	heldIsPaid
	closedTakesNothing
	refundsAgree
	refundsKnown
)

// broke records a violation of a check, which is given by its place.
func (v *wechatVerifier) broke(check int, format string, args ...any) {
	c := &v.checks[check]
	if c.Count++; c.Count <= maxViolations {
		c.Violations = append(c.Violations, fmt.Sprintf(format, args...))
	}
}

// pace counts a question and waits until it may be asked.
func (v *wechatVerifier) pace(ctx context.Context, id string) error {
	v.asked++
	if v.progress != nil {
		v.progress(v.asked, id)
	}
	return v.limit.Wait(ctx)
}

// attempts asks about every WeChat order that was opened since a time, page by page in
// the order of their numbers: a page is read whole before the first question, so that
// no connection is held while WeChat Pay thinks.
func (v *wechatVerifier) attempts(ctx context.Context, since time.Time) error {
	for after := ""; ; {
		var numbers []string
		err := sqldb.Each(ctx, v.a.db, `SELECT out_trade_no
FROM payment_attempts
WHERE out_trade_no > ?
  AND called_at >= ?
ORDER BY out_trade_no
LIMIT ?`, []any{after, sqldb.Millis(since), askPage}, func(rows *sql.Rows) error {
			err := rows.Scan(&after)
			numbers = append(numbers, after)
			return err
		})
		if err != nil {
			return err
		}
		for _, no := range numbers {
			if err := v.pace(ctx, no); err != nil {
				return err
			}
			if err := v.attempt(ctx, no); err != nil {
				return fmt.Errorf("%s: %w", no, err)
			}
		}
		if len(numbers) < askPage {
			return nil
		}
	}
}

// attemptQuery reads what is known of a WeChat order, by its order: payments have no
// index on out_trade_no. Of several payments of one the one that came first is compared.
const attemptQuery = `SELECT COALESCE(o.state, ''), a.state, COALESCE(p.transaction_id, ''), COALESCE(p.amount_fen, 0)
FROM payment_attempts a
LEFT JOIN orders o ON o.order_no = a.order_no
LEFT JOIN payments p ON p.order_no = a.order_no AND p.out_trade_no = a.out_trade_no
WHERE a.out_trade_no = ?
ORDER BY p.received_at
LIMIT 1`

// attempt asks WeChat Pay first and reads the order after, see VerifyWeChat: all of it in
// one statement, where orders are written.
func (v *wechatVerifier) attempt(ctx context.Context, no string) error {
	return v.askAttempt(ctx, no, true)
}

// askAttempt is attempt; again says that it may be asked once more.
func (v *wechatVerifier) askAttempt(ctx context.Context, no string, again bool) error {
	trade, err := v.a.cfg.Gateway.Query(ctx, no)
	if err != nil {
		return err
	}
	var state order.State
	var attempt order.AttemptState
	var transaction string
	var amount payment.Fen
	err = v.a.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		return tx.QueryRowContext(ctx, attemptQuery, no).Scan(&state, &attempt, &transaction, &amount)
	})
	if err != nil {
		return err
	}
	held := transaction != ""
	open := trade.State == payment.TradeNotPay || trade.State == payment.TradeUserPaying
	closed := state == order.StateClosed || state == order.StateLate || attempt == order.AttemptClosed
	switch {
	case trade.Paid() && (!held || transaction != trade.TransactionID || amount != trade.Total):
		v.broke(paidIsHeld, "out_trade_no=%s order=%s paid=%s held=%s %s", no, state, trade.Total, transaction, amount)
	case held && !trade.Paid():
		v.broke(heldIsPaid, "out_trade_no=%s transaction_id=%s wechat=%s", no, transaction, trade.State)
	case closed && open && again: // it was asked about while it was being closed
		return v.askAttempt(ctx, no, false)
	case closed && open:
		v.broke(closedTakesNothing, "out_trade_no=%s order=%s wechat=%s", no, state, trade.State)
	case trade.State == payment.TradeRefund:
		return v.refundKnown(ctx, no, transaction)
	}
	return nil
}

// refundKnown looks for what explains that WeChat Pay calls a trade refunded: a refund of
// ours that was sent, one that is held, or the note that a person has to look.
func (v *wechatVerifier) refundKnown(ctx context.Context, no, transaction string) error {
	var known int64
	err := v.a.db.QueryRowContext(ctx, `SELECT
  (SELECT COUNT(*) FROM refunds WHERE transaction_id = ? AND (sent_at > 0 OR state = 'held')) +
  (SELECT COUNT(*) FROM payments WHERE transaction_id = ? AND refund_told > 0)`,
		transaction, transaction).Scan(&known)
	if err == nil && known == 0 {
		v.broke(refundsKnown, "out_trade_no=%s transaction_id=%s wechat=%s", no, transaction, payment.TradeRefund)
	}
	return err
}

// refunds asks about every refund that was made since a time and sent. One that is
// held was reported by WeChat Pay and is unknown here: a person decides about it.
func (v *wechatVerifier) refunds(ctx context.Context, since time.Time) error {
	for after := ""; ; {
		var sent []string
		page := 0
		err := sqldb.Each(ctx, v.a.db, `SELECT out_refund_no, sent_at
FROM refunds
WHERE out_refund_no > ?
  AND created_at >= ?
  AND state <> 'held'
ORDER BY out_refund_no
LIMIT ?`, []any{after, sqldb.Millis(since), askPage}, func(rows *sql.Rows) error {
			var sentAt int64
			err := rows.Scan(&after, &sentAt)
			if page++; sentAt != 0 {
				sent = append(sent, after)
			}
			return err
		})
		if err != nil {
			return err
		}
		for _, no := range sent {
			if err := v.pace(ctx, no); err != nil {
				return err
			}
			if err := v.refund(ctx, no); err != nil {
				return err
			}
		}
		if page < askPage {
			return nil
		}
	}
}

// refund asks WeChat Pay first and reads the refund after, as attempt does.
func (v *wechatVerifier) refund(ctx context.Context, no string) error {
	there, err := v.a.cfg.Gateway.QueryRefund(ctx, no)
	if err != nil {
		return fmt.Errorf("%s: %w", no, err)
	}
	r, err := v.a.cfg.Orders.FindRefund(ctx, no)
	if err != nil {
		return err
	}
	if !refundAgrees(r, there) {
		v.broke(refundsAgree, "out_refund_no=%s ours=%s %s wechat=%s %s",
			no, r.State, r.Amount, strings.ToLower(string(there.Status)), there.Amount)
	}
	return nil
}

// refundAgrees reports that what WeChat Pay has can be the refund r: of its amount
// and payment, and in a state to which the state here leads or from which its news
// is still on the way.
func refundAgrees(r order.Refund, there payment.Refund) bool {
	if there.Status != payment.RefundNotFound && (there.Amount != r.Amount || there.TransactionID != r.TransactionID) {
		return false
	}
	switch r.State {
	case order.RefundStateSucceeded:
		return there.Status == payment.RefundSuccess
	case order.RefundStateClosed:
		return there.Status == payment.RefundClosed
	case order.RefundStateProcessing, order.RefundStateAbnormal:
		return there.Status != payment.RefundNotFound
	case order.RefundStateRefused, order.RefundStateCancelled:
		return there.Status == payment.RefundNotFound || there.Status == payment.RefundClosed
	case order.RefundStateByHand, order.RefundStatePending, order.RefundStateRejected:
		return there.Status != payment.RefundSuccess && there.Status != payment.RefundProcessing
	case order.RefundStateOwed, order.RefundStateHeld:
		// Owed: it may have been sent, with any end, and the answer lost. Held: see refunds.
	}
	return true
}
