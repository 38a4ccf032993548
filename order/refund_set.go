package order

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"orderd/migrations/sqldb"
	"orderd/payment"
	"orderd/stock"
)

// refundSet is the refunds and payments that the commands of a batch need.
type refundSet struct {
	byNo     map[string]*refundEntry   // by out_refund_no
	ofOrder  map[string][]*refundEntry // by order number, oldest first
	payments map[string]*paidEntry     // by transaction id
	items    map[string][]Item         // by order number; only where refunds are asked for
	asked    map[askKey]string         // the refund of a repeated request
	// writeOffs are what was said of the payments that are held, or were, by transaction id.
	writeOffs map[string]*writeOffEntry
	// whole are the orders of which every payment and refund is here, so that
	// their sums can be asserted.
	whole map[string]bool
}

// refundEntry is a refund as it was loaded, and as it becomes. A new one has no
// before.
type refundEntry struct {
	before, after Refund
	touched       bool       // it has to be written
	owned         bool       // WeChat Pay told of it first, and it is known by now to be ours
	approvals     []Approval // to be added
}

// newRefundSet is what a batch without refund commands has.
func newRefundSet() *refundSet {
	return &refundSet{byNo: map[string]*refundEntry{}, ofOrder: map[string][]*refundEntry{},
		payments: map[string]*paidEntry{}, asked: map[askKey]string{}, writeOffs: map[string]*writeOffEntry{}}
}

// loadRefunds reads what the refund commands of a batch need. Their orders are
// locked, so nobody else writes the refunds of one meanwhile; a refund without an
// order is held by its version alone.
func loadRefunds(ctx context.Context, tx *sqldb.Tx, n *needs) (*refundSet, error) {
	set := newRefundSet()
	set.whole = n.refundsOf
	if len(n.refundsOf)+len(n.refunds)+len(n.refunded)+len(n.refundsOfPayment) == 0 {
		return set, nil
	}
	rows, err := lockRefunds(ctx, tx, n)
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
	if err := set.loadWriteOffs(ctx, tx); err != nil {
		return nil, err
	}
	// One that was told before its payment was known has no order.
	stray, err := findStray(ctx, tx, slices.Sorted(maps.Keys(set.payments)))
	if err != nil {
		return nil, err
	}
	for _, r := range stray {
		if set.byNo[r.OutRefundNo] == nil {
			set.add(&refundEntry{before: r, after: r})
		}
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

// loadWriteOffs reads what was said of the payments that no order has kept. Those of orders that
// are paid, which are most, are not asked about.
func (s *refundSet) loadWriteOffs(ctx context.Context, tx *sqldb.Tx) error {
	var ids []string
	for id, p := range s.payments {
		if p.outcome != SettledApplied {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	found, err := findWriteOffs(ctx, tx, ids)
	for id, w := range found {
		s.writeOffs[id] = &writeOffEntry{before: w, after: w}
	}
	return err
}

// elsewhere is what of a payment went back elsewhere, by WeChat Pay's word, in refunds
// that count nowhere else; undecided reports that no person has looked at one of them. Of
// our own nobody has: whoever ended it did not know what WeChat Pay says.
func (s *refundSet) elsewhere(transactionID string) (back payment.Fen, undecided bool) {
	for _, r := range s.byNo {
		if r.after.TransactionID == transactionID && r.after.countsElsewhere() {
			back += r.after.Amount
			undecided = undecided || r.after.DecidedBy == "" || r.after.State != RefundStateHeld
		}
	}
	return back, undecided
}

// countsElsewhere reports that a refund was not made here, or has ended here, and takes of
// its payment all the same: WeChat Pay gives the money back, or may, unless it closed it.
func (r *Refund) countsElsewhere() bool {
	switch r.State {
	case RefundStateHeld:
		return r.Told != payment.RefundClosed && r.Told != payment.RefundNotFound // by two people's word
	case RefundStateRejected, RefundStateCancelled, RefundStateClosed:
		return r.toldPaid()
	case RefundStatePending, RefundStateOwed, RefundStateProcessing, RefundStateSucceeded, RefundStateAbnormal,
		RefundStateRefused, RefundStateByHand: // its amount is among payments.refund_fen
	}
	return false
}

// toldPaid reports that WeChat Pay says of a refund, against what is known here, that it
// gives the money back, or may.
func (r *Refund) toldPaid() bool { return toldPaid(r.Told) }

// toldPaid is that of WeChat Pay's word; "" for none.
func toldPaid(s payment.RefundStatus) bool {
	return s == payment.RefundProcessing || s == payment.RefundSuccess || s == payment.RefundAbnormal
}

// wentElsewhere reports that a refund that counts elsewhere has paid out: no later word
// takes that back (refundStatus.tellHeld, tellEnded).
func (r *Refund) wentElsewhere() bool {
	return r.countsElsewhere() && r.Told == payment.RefundSuccess
}

// goneElsewhere is what of a payment its buyer has by refunds that count elsewhere.
func (s *refundSet) goneElsewhere(transactionID string) (gone payment.Fen) {
	for _, r := range s.byNo {
		if r.after.TransactionID == transactionID && r.after.wentElsewhere() {
			gone += r.after.Amount
		}
	}
	return gone
}

// sendable is what of a held payment is left to be sent back. It waits for what is on its
// way elsewhere: WeChat Pay may close that yet. What was told under our own number, and is
// all the rest, is our refund of before a restore: it is not elsewhere, and owe takes it up.
func (s *refundSet) sendable(p *paidEntry) (payment.Fen, error) {
	back, _ := s.elsewhere(p.transactionID)
	own := owedRefundNo(p.transactionID)
	ours := payment.Fen(0)
	for _, r := range s.byNo {
		n := &r.after
		switch {
		case n.TransactionID != p.transactionID || !n.countsElsewhere():
		case n.State == RefundStateHeld && n.OutRefundNo == own && back == p.amount:
			ours = n.Amount
		case !n.wentElsewhere():
			return 0, &RefundRefusedError{Why: "refund " + n.OutRefundNo + " of this payment was made elsewhere and " +
				"has not ended; retry it to ask WeChat Pay, and send the rest back when it has"}
		}
	}
	left := cmp.Or(ours, s.left(p))
	if left < 1 {
		return 0, &RefundRefusedError{Why: "all of this payment went back elsewhere: nothing is left to send back"}
	}
	return left, nil
}

// left is what no refund of a payment has taken yet, here or elsewhere, and 0 when they
// take more than all.
func (s *refundSet) left(p *paidEntry) payment.Fen {
	back, _ := s.elsewhere(p.transactionID)
	return max(p.left()-back, 0)
}

// price is what lines of an order cost when it was placed.
func (s *refundSet) price(orderNo string, lines []stock.Line) (sum payment.Fen) {
	for _, it := range s.items[orderNo] {
		for _, l := range lines {
			if l.SkuID == it.SkuID {
				sum += it.UnitPrice * payment.Fen(l.Quantity)
			}
		}
	}
	return sum
}

// unclear says why nothing of a payment may go back without a person, "" when it may:
// some of it went back elsewhere, and nobody has looked, or nobody can say how much.
func (s *refundSet) unclear(p *paidEntry) string {
	switch back, undecided := s.elsewhere(p.transactionID); {
	case undecided:
		return fmt.Sprintf("%s yuan of this payment went back elsewhere, and nobody has looked at that yet", back)
	case !p.told.IsZero() && (back == 0 || s.burnt(p.transactionID)):
		return "WeChat Pay says that some of this payment went back elsewhere, and not how much"
	}
	return ""
}

// burnt reports that WeChat Pay has another refund under the number of one of this payment
// (refundStatus.burn): the only way to closed without WeChat Pay's own number.
func (s *refundSet) burnt(transactionID string) bool {
	for _, r := range s.byNo {
		if n := &r.after; n.TransactionID == transactionID && n.State == RefundStateClosed && n.RefundID == "" {
			return true
		}
	}
	return false
}

// tooMuch says that the refunds of a payment take more than it has with what went back
// elsewhere, "" when they do not.
func (s *refundSet) tooMuch(p *paidEntry) string {
	back, _ := s.elsewhere(p.transactionID)
	if back == 0 || p.left() >= back {
		return ""
	}
	return fmt.Sprintf("%s yuan of this payment went back elsewhere: with its refunds here that is %s yuan too much",
		back, back-p.left())
}

// add puts a refund where it is looked for: by its number, and by its order.
func (s *refundSet) add(r *refundEntry) {
	s.byNo[r.after.OutRefundNo] = r
	if no := r.after.OrderNo; no != "" {
		s.ofOrder[no] = append(s.ofOrder[no], r)
	}
}

// drop takes a refund out that another row replaces.
func (s *refundSet) drop(r *refundEntry) {
	delete(s.byNo, r.after.OutRefundNo)
	no := r.after.OrderNo
	s.ofOrder[no] = slices.DeleteFunc(s.ofOrder[no], func(e *refundEntry) bool { return e == r })
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
