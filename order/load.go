package order

import (
	"context"
	"maps"
	"slices"
	"time"

	"orderd/migrations/sqldb"
	"orderd/payment/operators"
	"orderd/payment/shipping"
	"orderd/stock"
)

// batch is a set of commands on its way through one transaction: what was loaded
// for them, what they have decided, and what is to be written.
type batch struct {
	s   *Service
	now time.Time // of the decision: under the locks, since waiting for them took time

	orders map[string]*entry // by order number
	// believed: the orders were not read here. They are as a page said some time
	// ago, and the UPDATE names all that is believed of them: one row less undoes
	// the batch.
	believed bool
	recorded map[string]recorded // payments that the journal has, by transaction id
	refunds  *refundSet
	attempts map[string]*attemptEntry // by out_trade_no
	shelf    *stock.Shelf             // stock of closed orders that late money may revive; nil without
	sale     *saleLimits              // what the customers of those may have; nil: no limit
	lines    map[string][]Item        // of those orders
	people   operators.Known          // where somebody decides about a refund
	silences map[string]*silence      // what WeChat Pay's answers did not prove, by order number

	// Decided, to be written:
	events   []eventRow
	payments []paymentRow
	paid     []shipping.Paid       // what orders keep, for Config.Shipments
	returns  []string              // orders whose stock comes back, whole
	partial  []stock.PartialReturn // lines that refunds give back

	// Read behind the UPDATE of their orders:
	flows  []stock.LineFlows   // of the orders in returns
	newest map[string]*Attempt // of the orders that are asked about, where there is one
}

// entry is an order as it was loaded, and as it becomes.
type entry struct {
	before, after Order
	tries         int64 // how often this batch asks WeChat Pay to close it
	walk          walk  // see assert.go
}

// recorded is a payment that is in the journal.
type recorded struct {
	orderNo string
	settled Settled
	reason  string
	at      time.Time // it came
}

// attemptEntry is an attempt as it was loaded, and as it becomes.
type attemptEntry struct {
	before, after Attempt
	ask           time.Time // WeChat Pay is asked about it then; zero when that stays
}

// needs is what the commands of a batch want to have loaded.
type needs struct {
	orders       map[string]bool
	transactions map[string]bool // is this payment recorded already?
	attempts     map[string]bool // by out_trade_no

	// mayOwe are payments of an order that are owed back if it cannot keep them.
	mayOwe map[string][]string
	silent map[string]bool // orders about which WeChat Pay gave no usable answer

	refundsOf map[string]bool // orders of which every refund and payment is needed
	refunds   map[string]bool // refunds by number, also those without an order
	refunded  map[string]bool // payments that refunds are of
	// refundsOfPayment are payments of which every refund is needed, whatever order it has.
	refundsOfPayment map[string]bool
	asks             []askKey // requests for refunds: repeated?
	// people are the operators who decide about the refunds of this batch; nil: nobody does.
	people map[string]bool
}

// newNeeds needs nothing yet.
func newNeeds() *needs {
	return &needs{orders: map[string]bool{}, transactions: map[string]bool{}, attempts: map[string]bool{},
		silent: map[string]bool{}, mayOwe: map[string][]string{}, refundsOf: map[string]bool{},
		refunds: map[string]bool{}, refunded: map[string]bool{}, refundsOfPayment: map[string]bool{}}
}

// order asks for an order; none for "".
func (n *needs) order(no string) {
	if no != "" {
		n.orders[no] = true
	}
}

// person asks for an operator who decides about a refund.
func (n *needs) person(who Actor) {
	n.approvers()
	n.people[who.ID] = true
}

// approvers asks for who has acted on the refunds that are asked for.
func (n *needs) approvers() {
	if n.people == nil {
		n.people = map[string]bool{}
	}
}

// refundsOfOrder asks for an order with every refund and payment of it.
func (n *needs) refundsOfOrder(no string) {
	if n.order(no); no != "" {
		n.refundsOf[no] = true
	}
}

// sorted gives a set in ascending order: the order in which rows are locked.
func sorted(set map[string]bool) []string { return slices.Sorted(maps.Keys(set)) }

// newBatch is a batch for which nothing was loaded: load or believe is next.
func newBatch(s *Service) *batch { return &batch{s: s, refunds: newRefundSet()} }

// load reads what the commands need. The orders come first and under locks, in
// ascending order of their numbers; whatever else belongs to them is then
// written by nobody else until this transaction ends.
func (b *batch) load(ctx context.Context, tx *sqldb.Tx, commands []command) error {
	n := newNeeds()
	for _, c := range commands {
		c.needs(n)
	}
	if err := b.loadNeeds(ctx, tx, n); err != nil {
		return err
	}
	return b.openShelf(ctx, tx, commands)
}

// loadNeeds reads and locks in the lock order of doc.go: orders, then refunds.
func (b *batch) loadNeeds(ctx context.Context, tx *sqldb.Tx, n *needs) (err error) {
	if b.orders, err = lockOrders(ctx, tx, sorted(n.orders)); err != nil {
		return err
	}
	if b.recorded, err = findRecorded(ctx, tx, sorted(n.transactions)); err != nil {
		return err
	}
	// WeChat Pay may have told of the refund before it told of the payment.
	for no, ids := range n.mayOwe {
		if e := b.orders[no]; e != nil && (e.before.State != StatePending || len(ids) > 1) {
			for _, id := range ids {
				n.refunds[owedRefundNo(id)] = true
			}
		}
	}
	if b.silences, err = loadSilences(ctx, tx, sorted(n.silent)); err != nil {
		return err
	}
	if b.refunds, err = loadRefunds(ctx, tx, n); err != nil {
		return err
	}
	if b.attempts, err = loadAttempts(ctx, tx, sorted(n.attempts)); err != nil {
		return err
	}
	return b.loadPeople(ctx, tx, n)
}

// loadPeople reads who stands behind those who decide here, and behind those who have asked
// for or approved the same refunds before.
func (b *batch) loadPeople(ctx context.Context, tx *sqldb.Tx, n *needs) (err error) {
	if n.people == nil {
		return nil
	}
	for _, r := range b.refunds.byNo { // held money that is sent back once more has another number
		if n.refunds[r.after.OutRefundNo] || r.after.State == RefundStatePending {
			for _, who := range b.refunds.actedBefore(&r.after) {
				n.people[who] = true
			}
			n.people[r.after.Said.By] = true // the first of two
		}
	}
	for _, w := range b.refunds.writeOffs {
		n.people[w.after.ProposedBy] = true
	}
	for _, s := range b.silences {
		for _, who := range s.vouched {
			n.people[who.ID] = true
		}
	}
	b.people, err = operators.Find(ctx, tx, sorted(n.people)...)
	return err
}

// believe takes the orders of a page as they were read, without locks and
// without a statement. What a page does not say (the customer, the total) is not
// needed by the commands of pages.
func (b *batch) believe(page []Due) {
	b.believed = true
	b.orders = make(map[string]*entry, len(page))
	entries := make([]entry, len(page)) // one allocation for all
	for i := range page {
		d, e := &page[i], &entries[i]
		e.before = Order{OrderNo: d.Key, State: d.State, Version: d.Version, CloseTries: d.Tries, DueAt: d.At}
		e.after = e.before
		b.orders[d.Key] = e
	}
}

// openShelf reads the stock of the orders that money may revive, when the policy is to:
// those that are closed because their time was over, or that a command of this batch may
// close before the money is taken in.
func (b *batch) openShelf(ctx context.Context, tx *sqldb.Tx, commands []command) error {
	if b.s.cfg.LatePayment != LatePolicyRevive {
		return nil
	}
	closing := map[string]bool{}
	for _, c := range commands {
		switch c.(type) {
		case *closeDone, *unanswered, *vouch:
			closing[c.about().orderNo] = true
		}
	}
	var nos []string
	for _, c := range commands {
		if paid, ok := c.(*settle); ok {
			e := b.orders[paid.orderNo]
			if e != nil && (e.after.State == StateClosed || e.after.State == StateClosing && closing[paid.orderNo]) {
				nos = append(nos, e.after.OrderNo)
			}
		}
	}
	if len(nos) == 0 {
		return nil
	}
	var err error
	if b.lines, err = findItems(ctx, tx, nos); err != nil {
		return err
	}
	demand := map[string]int64{}
	for _, items := range b.lines {
		for _, it := range items {
			demand[it.SkuID] += it.Quantity
		}
	}
	b.shelf, err = stock.Open(ctx, tx, stock.Want{Units: demand, At: b.now, Again: true, Tell: TellLow})
	if err != nil {
		return err
	}
	revived := make([]placing, 0, len(nos))
	for _, no := range nos {
		revived = append(revived, asPlacing(&b.orders[no].after, b.lines[no]))
	}
	b.sale, err = readSaleLimits(ctx, tx, revived, b.shelf)
	return err
}

// asPlacing is an order as a placement that takes its units again.
func asPlacing(o *Order, items []Item) placing {
	lines := make([]stock.Line, len(items))
	for i, it := range items {
		lines[i] = stock.Line{SkuID: it.SkuID, Quantity: it.Quantity}
	}
	return placing{Placement: Placement{CustomerID: o.CustomerID, Lines: lines}, orderNo: o.OrderNo}
}

// revive takes the stock of a closed order again and reports whether all of it was
// there, and its customer may still have it. Only an order that ran out of time is revived:
// of one that its customer or an operator wanted closed, nobody waits for the goods.
func (b *batch) revive(e *entry) bool {
	if b.shelf == nil || !e.after.CloseReason.revivable() {
		return false
	}
	p := asPlacing(&e.after, b.lines[e.after.OrderNo])
	slots, err := b.sale.slots(&p)
	if err != nil || len(p.Lines) == 0 {
		return false
	}
	if slices.Contains(b.returns, e.after.OrderNo) { // this batch has closed it, and puts its lines back first
		b.shelf.PutBack(p.Lines)
	}
	if b.shelf.TakeAgain(e.after.OrderNo, p.Lines) != nil {
		return false
	}
	b.sale.take(&p, slots)
	return true
}
