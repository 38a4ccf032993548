package bench

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"

	"orderd/order"
	"orderd/payment"
	"orderd/payment/feed"
)

// Pay takes in the callback of a paid order: the order, its payment, its event
// and its row in the feed.
func (n *Naive) Pay(ctx context.Context, orderNo string) error {
	return n.transact(ctx, func(tx *sql.Tx) error {
		now, t := time.Now().UnixMilli(), PaidTrade(orderNo)
		var state string
		var version, total int64
		err := tx.QueryRowContext(ctx, `SELECT state, version, total_fen
FROM orders
WHERE order_no = ?
FOR UPDATE`, orderNo).Scan(&state, &version, &total)
		if err != nil {
			return err
		}
		// orderd decides on more states than this one; the measurement has no others.
		if state != "pending" || total != int64(t.Total) {
			return errors.New("not payable")
		}
		return write(ctx, tx, statement{`UPDATE orders
SET state = 'paid', version = version + 1, due_at = NULL, updated_at = ?
WHERE order_no = ?
  AND state = 'pending'`, []any{now, orderNo}}, statement{`INSERT INTO payments
  (transaction_id, order_no, out_trade_no, amount_fen, payer_fen, currency, trade_type, appid, mchid,
   paid_at, received_at, source, outcome, reason)
VALUES (?, ?, ?, 100, 100, 'CNY', 'NATIVE', ?, ?, ?, ?, 'notification', 'applied', '')`,
			[]any{t.TransactionID, orderNo, t.OutTradeNo, AppID, MchID, now, now}}, statement{`INSERT INTO order_events
  (order_no, seq, at, event, from_state, to_state, actor_type, actor_id, cause_type, cause_id, detail, took_ms)
VALUES (?, ?, ?, 'payment.applied', 'pending', 'paid', 'wechat', '', 'notification', ?, ?, 0)`,
			[]any{orderNo, version + 1, now, orderNo, `{"out_trade_no":"` + t.OutTradeNo +
				`","total":"1.00","transaction_id":"` + t.TransactionID + `"}`}},
			told(now, feed.OrderPaid, orderNo, version+1, order.StatePaid))
	})
}

// NaiveOrders places and settles naively and is order.Service in everything else:
// what the HTTP interface is measured against.
type NaiveOrders struct {
	*order.Service
	Naive *Naive
}

// Place places the first line of p as an order of one unit.
func (n *NaiveOrders) Place(ctx context.Context, p order.Placement) (order.Placed, error) {
	naive := NewNaivePlacement(p.CustomerID, p.RequestID, p.Lines[0].SkuID)
	return naive.placed(), n.Naive.Place(ctx, naive)
}

// Settle pays the order of a trade.
func (n *NaiveOrders) Settle(ctx context.Context, t payment.Trade, _ order.Cause) (order.Settlement, error) {
	no := strings.TrimSuffix(t.OutTradeNo, firstAttempt)
	return order.Settlement{OrderNo: no, Settled: order.SettledApplied, State: order.StatePaid}, n.Naive.Pay(ctx, no)
}
