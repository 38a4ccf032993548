package order

import (
	"context"

	"orderd/migrations/sqldb"
)

// refundSet is the refunds and payments that the commands of a batch need.
type refundSet struct {
	byNo     map[string]*refundEntry   // by out_refund_no
	ofOrder  map[string][]*refundEntry // by order number, oldest first
	payments map[string]*paidEntry     // by transaction id
	items    map[string][]Item         // by order number; only where refunds are asked for
	asked    map[askKey]string         // the refund of a repeated request
	// whole are the orders of which every payment and refund is here, so that
	// their sums can be asserted.
	whole map[string]bool
}

// refundEntry is a refund as it was loaded, and as it becomes. A new one has no
// before.
type refundEntry struct {
	before, after Refund
	touched       bool       // it has to be written
	approvals     []Approval // to be added
}

// newRefundSet is what a batch without refund commands has.
func newRefundSet() *refundSet {
	return &refundSet{byNo: map[string]*refundEntry{}, ofOrder: map[string][]*refundEntry{},
		payments: map[string]*paidEntry{}, asked: map[askKey]string{}}
}

// loadRefunds reads what the refund commands of a batch need. Their orders are
// locked, so nobody else writes the refunds of one meanwhile; a refund without an
// order is held by its version alone.
func loadRefunds(ctx context.Context, tx *sqldb.Tx, n *needs) (*refundSet, error) {
	set := newRefundSet()
	set.whole = n.refundsOf
	if len(n.refundsOf)+len(n.refunds)+len(n.refunded) == 0 {
		return set, nil
	}
	rows, err := lockRefunds(ctx, tx, n.refundsOf, n.refunds)
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		set.add(&refundEntry{before: r, after: r})
		n.refunded[r.TransactionID] = true
	}
	if set.payments, err = findPaid(ctx, tx, n.refundsOf, n.refunded); err != nil {
		return nil, err
	}
	if len(n.asks) == 0 {
		return set, nil
	}
	if err := findAsked(ctx, tx, n.asks, set.asked); err != nil {
		return nil, err
	}
	set.items, err = findItems(ctx, tx, sorted(n.refundsOf))
	return set, err
}

// add puts a refund where it is looked for: by its number, and by its order.
func (s *refundSet) add(r *refundEntry) {
	s.byNo[r.after.OutRefundNo] = r
	if no := r.after.OrderNo; no != "" {
		s.ofOrder[no] = append(s.ofOrder[no], r)
	}
}

// applied gives the payment that made an order paid, nil without.
func (s *refundSet) applied(orderNo string) *paidEntry {
	for _, p := range s.payments {
		if p.orderNo == orderNo && p.outcome == SettledApplied {
			return p
		}
	}
	return nil
}
