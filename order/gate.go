package order

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"orderd/migrations/sqldb"
	"orderd/stock"
	"orderd/stock/gate"
)

// gateNews is what a batch has learned of gates, for after its COMMIT.
type gateNews struct {
	stock.News
	asOf time.Time // before the batch read anything, of this machine
}

// tellNews hangs what a batch has learned of gates on its outcomes, if anything.
func tellNews(outcomes []sqldb.Outcome[Placed], shelf *stock.Shelf, asOf time.Time) {
	news := shelf.News()
	if len(news.Closed)+len(news.Fenced) == 0 {
		return
	}
	for i := range outcomes {
		outcomes[i].Answer.news = &gateNews{news, asOf}
	}
}

// refusedAtGate gives the refusal of a placement that needs no statement, nil for none. It is
// counted here, where its reason is known.
func (s *Service) refusedAtGate(p *Placement) error {
	r := s.cfg.Gate.Refuse(&gate.Claim{CustomerID: p.CustomerID, RequestID: p.RequestID, Lines: p.Lines})
	switch {
	case r == nil:
		return nil
	case len(r.Items) > 0:
		s.observe.Refused("stock")
		return &InsufficientError{Items: r.Items}
	}
	s.observe.Refused("not_started")
	return &NotStartedError{SkuID: r.SkuID, Index: r.Index, OpensAt: r.OpensAt, Wait: r.OpensAt.Sub(s.cfg.Now())}
}

// takeTicket asks the gate for the units of a placement before the database is asked. asked are
// its lines before they were merged.
func (s *Service) takeTicket(p *placing, asked []stock.Line) gate.Ticket {
	return s.cfg.Gate.Take(&gate.Claim{CustomerID: p.CustomerID, RequestID: p.RequestID, OrderNo: p.orderNo,
		Hash: p.hash, Lines: p.Lines, Payload: func() []byte { return p.payload(asked) }})
}

// settleTicket tells the gate what became of a ticket, and what the batch has learned. The units are
// an order's also when another try has made it under this very number.
func (s *Service) settleTicket(t gate.Ticket, orderNo string, placed *Placed, err error) {
	if n := placed.news; n != nil {
		s.cfg.Gate.Learn(n.News, n.asOf)
		placed.news = nil
	}
	switch {
	case errors.Is(err, sqldb.ErrUnknown):
		s.cfg.Gate.Settle(t, gate.Unknown)
	case err != nil || placed.Replayed && placed.Order.OrderNo != orderNo:
		s.cfg.Gate.Settle(t, gate.Unused)
	default:
		s.cfg.Gate.Settle(t, gate.Used)
	}
}

// keysSpan is how many lines of orders RequestKeys looks through at a time: of a SKU that few
// ask for, a page of its own orders would be a walk through everybody's.
const keysSpan = 20_000

// RequestKeys gives customer and key of every order with a line of this SKU whose number was
// given at or after since, span by span where orders are written. See gate.Keys.
func (s *Service) RequestKeys(ctx context.Context, skuID string, since time.Time,
	do func(customerID, requestID string)) error {
	for after, more := placedAfter(since), true; more; {
		last, err := sqldb.Decided(ctx, s.db, `SELECT order_no
FROM order_items
WHERE order_no > ?
ORDER BY order_no
LIMIT 1
OFFSET ?`, []any{after, keysSpan}, sqldb.Column[string])
		if err != nil {
			return fmt.Errorf("read the keys of SKU %s: %w", skuID, err)
		}
		end := lastOrderNo // of the last span
		if more = len(last) > 0; more {
			end = last[0]
		}
		keys, err := sqldb.Decided(ctx, s.db, `SELECT o.customer_id, o.request_id
FROM order_items i
JOIN orders o ON o.order_no = i.order_no
WHERE i.order_no > ?
  AND i.order_no <= ?
  AND i.sku_id = ?`, []any{after, end, skuID}, func(rows *sql.Rows) (k requestKey, err error) {
			err = rows.Scan(&k.customerID, &k.requestID)
			return k, err
		})
		if err != nil {
			return fmt.Errorf("read the keys of SKU %s: %w", skuID, err)
		}
		for _, k := range keys {
			do(k.customerID, k.requestID)
		}
		after = end
	}
	return nil
}
