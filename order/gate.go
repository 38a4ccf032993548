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

// takeTicket asks the gate for the units of a placement before the database is asked.
func (s *Service) takeTicket(p *Placement) (gate.Ticket, error) {
	t, err := s.cfg.Gate.Take(&gate.Claim{CustomerID: p.CustomerID, RequestID: p.RequestID, Lines: p.Lines})
	var refused *gate.Refusal
	if !errors.As(err, &refused) {
		return t, err
	}
	if len(refused.Items) > 0 {
		return t, &InsufficientError{Items: refused.Items}
	}
	return t, &NotStartedError{SkuID: refused.SkuID, Index: refused.Index, OpensAt: refused.OpensAt,
		Wait: refused.OpensAt.Sub(s.cfg.Now())}
}

// settleTicket tells the gate what became of a ticket, and what the batch has learned.
func (s *Service) settleTicket(t gate.Ticket, placed *Placed, err error) {
	if n := placed.news; n != nil {
		s.cfg.Gate.Learn(n.News, n.asOf)
		placed.news = nil
	}
	switch {
	case errors.Is(err, sqldb.ErrUnknown):
		s.cfg.Gate.Settle(t, gate.Unknown)
	case err != nil || placed.Replayed:
		s.cfg.Gate.Settle(t, gate.Unused)
	default:
		s.cfg.Gate.Settle(t, gate.Used)
	}
}

// keysPage is how many orders RequestKeys reads at a time.
const keysPage = 5000

// RequestKeys gives customer and key of every order with a line of this SKU whose number was
// given at or after since, page by page where orders are written. See gate.Keys.
func (s *Service) RequestKeys(ctx context.Context, skuID string, since time.Time,
	do func(customerID, requestID string)) error {
	type key struct{ no, customer, request string }
	for after := placedAfter(since); ; {
		page, err := sqldb.Decided(ctx, s.db, `SELECT o.order_no, o.customer_id, o.request_id
FROM order_items i
JOIN orders o ON o.order_no = i.order_no
WHERE i.order_no > ?
  AND i.sku_id = ?
ORDER BY i.order_no
LIMIT ?`, []any{after, skuID, keysPage}, func(rows *sql.Rows) (k key, err error) {
			return k, rows.Scan(&k.no, &k.customer, &k.request)
		})
		if err != nil {
			return fmt.Errorf("read the keys of SKU %s: %w", skuID, err)
		}
		for _, k := range page {
			do(k.customer, k.request)
		}
		if len(page) < keysPage {
			return nil
		}
		after = page[len(page)-1].no
	}
}
