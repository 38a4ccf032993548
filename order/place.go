package order

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/failpoint"
	"orderd/payment"
	"orderd/stock"
)

// placing is a Placement with everything decided before its transaction, above
// all the order number: a transaction that is run again must not make a new one.
type placing struct {
	Placement
	orderNo  string
	hash     string
	at       time.Time
	expireAt time.Time
	// from has the bucket of each line, as gate.Ticket.Buckets; nil: all are of the pool.
	from []int64
	// looks counts the runs of this batch that met a duplicate key; from the
	// first one on repeats are looked for before anything is written.
	looks int
	// fenced: a run of this batch found a bucket closed or short. From then on the
	// buckets are read under locks, and lines that they do not hold are the pool's.
	fenced bool
	// ran counts the runs of this batch.
	ran int
}

// FirstTryWithin is when a placement that had no answer has happened or never
// will, counted from its call: a refusal of its repeat is final after that. A try
// waits for its batch, has what is left of the time of a transaction and may be
// sent alone after its batch, and COMMIT may stall: some 6 s in all. A process or a
// network that stands still for longer adds its time.
const FirstTryWithin = 10 * time.Second

// maxLooks bounds how often a batch is run again for a duplicate. A neighbour
// lane may commit the same key between our look and our write, but not forever.
const maxLooks = 5

// requestKey is what makes a placement the same placement.
type requestKey struct{ customerID, requestID string }

// shopReference is a shop's own number for an order, the unique key (reference, shop) of orders.
type shopReference struct{ shop, reference string }

// ref is the shop's number for it; one without a reference is nobody's.
func (p *placing) ref() shopReference { return shopReference{p.Shop, p.Reference} }

// key is the unique key (customer_id, request_id) of orders.
func (p *placing) key() requestKey { return requestKey{p.CustomerID, p.RequestID} }

// Place places an order: all lines or none, prices from our own SKUs. It is
// idempotent by (CustomerID, RequestID): the same request again is answered
// with the order of the first one, also when nothing is left on the shelf; the
// same key with another content is ErrRequestReused.
//
// Errors: *ValidationError, *UnknownSKUError, *PriceChangedError,
// *InsufficientError, *NotStartedError, *CustomerLimitError, *TooManyOpenError,
// *TooManyUnitsError, *ReferenceTakenError, ErrRequestReused (nothing was placed), *NotReadyError, or one
// that matches sqldb.ErrUnavailable or sqldb.ErrOverloaded: repeat with the same key.
// A *QueuedError is none of these: units are set aside, and the order is made under
// its number when its turn comes, or refused then (FindQueued). It is an error so that
// nobody takes it for an order.
func (s *Service) Place(ctx context.Context, p Placement) (Placed, error) {
	if err := cmp.Or(p.validate(), s.checkPayWithin(p.ExpiresIn)); err != nil {
		return Placed{}, err
	}
	asked := p.Lines
	p.Lines = stock.Merge(asked)
	if err := s.refusedAtGate(&p); err != nil { // before anything is made for it: there are many of them
		return Placed{}, err
	}
	now := s.cfg.Now().Truncate(time.Millisecond)
	no, err := s.ids.next(now)
	if err != nil {
		return Placed{}, err
	}
	try := s.newPlacing(p, no, now)
	ticket := s.takeTicket(&try, asked)
	if placed, waits, err := s.waits(ctx, &try, &ticket, asked); waits {
		return s.counted(placed, err)
	}
	if try.from = ticket.Buckets; ticket.OrderNo != "" {
		try.orderNo = ticket.OrderNo
	}
	placed, err := s.placeInTurn(ctx, try)
	s.settleTicket(ticket, try.orderNo, &placed, err)
	return s.counted(placed, sure(&ticket, err))
}

// newPlacing is a placement under a number, whose time to pay begins now.
func (s *Service) newPlacing(p Placement, orderNo string, now time.Time) placing {
	return placing{Placement: p, orderNo: orderNo, hash: p.hash(), at: now,
		expireAt: ceilSecond(now.Add(cmp.Or(p.ExpiresIn, s.cfg.PayWithin)))}
}

// counted counts what became of a placement, and has its order looked at when it is due.
func (s *Service) counted(placed Placed, err error) (Placed, error) {
	switch {
	case err != nil:
		s.reportBroken(err)
		s.observeRefusal(err)
		return Placed{}, err
	case placed.Replayed:
		s.observe.Replayed()
		return placed, nil
	}
	s.observe.Transition("", StatePending, placed.Order.placedBy().Type)
	failpoint.Hit("place.committed")
	s.cfg.Tasks.WakeAt(placed.Order.DueAt)
	failpoint.Hit("place.armed")
	return placed, nil
}

// observeRefusal counts a refusal by its reason. Errors of the database are no
// refusals, and what is wrong with a request itself is not counted.
func (s *Service) observeRefusal(err error) {
	if kind := refusalKind(err); kind != "" && kind != "invalid" {
		s.observe.Refused(kind)
	}
}

// ceilSecond rounds a deadline up to a whole second: asynq keeps whole seconds
// and would otherwise run early.
func ceilSecond(t time.Time) time.Time {
	if r := t.Truncate(time.Second); !r.Equal(t) {
		return r.Add(time.Second)
	}
	return t
}

// validate gives a *ValidationError with everything that is wrong, nil when it can
// be placed as far as its own content goes. Codes and pointers are the API's.
func (p *Placement) validate() error {
	var bad invalid
	add := func(pointer, code, detail string) { bad = append(bad, FieldError{pointer, code, detail}) }
	if wrong := bounds.CustomerID.Check(p.CustomerID); wrong != nil {
		add("", "CUSTOMER", wrong.Detail)
	}
	if wrong := bounds.IdempotencyKey.Check(p.RequestID); wrong != nil {
		add("", "IDEMPOTENCY_KEY", wrong.Detail)
	}
	bad.number("#/items", &bounds.Lines, int64(len(p.Lines)))
	var total int64
	for i, l := range p.Lines {
		at := "#/items/" + strconv.Itoa(i)
		bad.text(at+"/sku_id", &bounds.SkuID, l.SkuID)
		if !bad.number(at+"/quantity", &bounds.Quantity, l.Quantity) {
			continue
		}
		if total += l.Quantity; total > bounds.Quantity.Most {
			add(at+"/quantity", bounds.CodeRange, fmt.Sprintf("an order holds at most %d units", bounds.Quantity.Most))
			break
		}
	}
	bad.text("#/remark", &bounds.Remark, p.Remark)
	bad.text("#/attach", &bounds.Attach, p.Attach)
	if p.Shop == "" && p.Reference != "" {
		add("#/reference", CodeShopOnly, "only a shop's key gives a reference")
	}
	if p.Shop == "" && p.ExpiresIn != 0 {
		add("#/expires_in", CodeShopOnly, "only a shop's key gives a time to pay")
	}
	if p.Reference != "" {
		bad.text("#/reference", &bounds.Reference, p.Reference)
	}
	if p.ExpiresIn != 0 {
		bad.number("#/expires_in", &bounds.ExpiresIn, int64(p.ExpiresIn/time.Second))
	}
	return bad.err()
}

// CodeShopOnly: a field of a placement that only a shop's back end may give.
const CodeShopOnly = "SHOP_ONLY"

// checkPayWithin gives a *ValidationError for a time to pay that this service does not give, 0 for
// its own. What waits in a queue was promised its time, and keeps it when these bounds change.
func (s *Service) checkPayWithin(d time.Duration) error {
	least, most := s.cfg.PayWithinLeast, s.cfg.PayWithinMost
	if d == 0 || d >= least && d <= most {
		return nil
	}
	return &ValidationError{Fields: []FieldError{{"#/expires_in", bounds.CodeRange,
		fmt.Sprintf("expires_in is %d to %d seconds", least/time.Second, most/time.Second)}}}
}

// hash is the fingerprint that tells a repeat from another request under the
// same key. Field lengths keep neighbours apart.
func (p *Placement) hash() string {
	b := make([]byte, 0, 256)
	text := func(s string) {
		b = append(append(strconv.AppendInt(b, int64(len(s)), 10), ':'), s...)
	}
	for _, l := range p.Lines {
		text(l.SkuID)
		b = append(strconv.AppendInt(append(b, ' '), l.Quantity, 10), '\n')
	}
	if p.ExpectedTotal != nil {
		b = append(strconv.AppendInt(append(b, "expected "...), int64(*p.ExpectedTotal), 10), '\n')
	}
	text(p.Remark)
	text(p.Attach)
	// Only what is given counts: what was placed by the program before keeps its hash.
	if p.Reference != "" {
		b = append(b, "reference "...)
		text(p.Shop)
		text(p.Reference)
	}
	if p.ExpiresIn != 0 {
		b = strconv.AppendInt(append(b, "expires_in "...), int64(p.ExpiresIn/time.Second), 10)
	}
	sum := sha256.Sum256(b)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// placeBatch places a batch in one transaction. It first writes and only then
// looks: most placements are new, and the unique key (customer_id, request_id)
// refuses the others. A batch that met a repeat is run again with a look.
// That covers a COMMIT whose answer was lost as well: the second run finds the
// rows of the first under their own order numbers.
func (s *Service) placeBatch(ctx context.Context, tx *sqldb.Tx, batch []placing) ([]sqldb.Outcome[Placed], error) {
	outcomes, err := s.tryPlace(ctx, tx, batch)
	for i := range batch {
		batch[i].ran++
		batch[i].fenced = batch[i].fenced || errors.Is(err, stock.ErrFenced)
	}
	if sqldb.Classify(err) == sqldb.ClassRetry && !errors.Is(err, stock.ErrFenced) {
		s.cfg.Gate.Demand(wantOf(batch, s.cfg.Now()).Units, true)
	}
	if sqldb.IsDuplicate(err) && batch[0].looks < maxLooks {
		for i := range batch {
			batch[i].looks++
		}
		return nil, fmt.Errorf("%w: repeated placement", sqldb.ErrLostRace)
	}
	failpoint.Hit("place.written")
	return outcomes, err
}

// tryPlace decides the members of a batch in order of arrival and writes the fresh
// ones: stock, orders, items. Members that are repeats get the first answer, those
// that cannot be placed their refusal; neither keeps the others from being placed.
func (s *Service) tryPlace(ctx context.Context, tx *sqldb.Tx, batch []placing) ([]sqldb.Outcome[Placed], error) {
	begun := time.Now() // a duration only, never stored
	known, taken, err := lookAround(ctx, tx, batch)
	if err != nil {
		return nil, err
	}
	want := wantOf(batch, s.cfg.Now())
	if batch[0].ran == 0 {
		s.cfg.Gate.Demand(want.Units, false)
	}
	shelf, err := stock.Open(ctx, tx, want)
	if err != nil {
		return nil, err
	}
	limits, err := s.limitsOf(ctx, tx, batch, shelf)
	if err != nil {
		return nil, err
	}
	outcomes := make([]sqldb.Outcome[Placed], len(batch))
	fresh := make([]int, 0, len(batch))
	first := make(map[requestKey]int, len(batch)) // the fresh ones, for repeats in this very batch

	// Perhaps repeats of an order that was placed before the price rose, or that
	// took the last unit or place.
	var refused []int
	for i := range batch {
		p := &batch[i]
		if before, ok := known[p.key()]; ok {
			outcomes[i] = before.answer(p)
			continue
		}
		if j, ok := first[p.key()]; ok {
			outcomes[i] = placedBefore{order: outcomes[j].Answer.Order, hash: batch[j].hash}.answer(p)
			continue
		}
		o, err := s.decide(p, shelf, limits, taken)
		if err != nil {
			outcomes[i].Err = err
			refused = append(refused, i)
			continue
		}
		outcomes[i].Answer.Order = o
		first[p.key()] = i
		taken.take(p)
		fresh = append(fresh, i)
	}
	if len(refused) > 0 { // also after a look: another process may have placed it since
		if err := answerRepeats(ctx, tx, batch, refused, outcomes); err != nil {
			return nil, err
		}
	}
	at := batch[0].at
	if len(fresh) > 0 {
		if err := s.writePlaced(ctx, tx, batch, outcomes, fresh, shelf, limits); err != nil {
			return nil, err
		}
		at = batch[fresh[0]].at
	}
	defer tellNews(outcomes, shelf, begun)
	return outcomes, shelf.CommitLast(ctx, tx, at)
}

// lookAround finds what a batch that met a duplicate repeats: the orders that were placed under its
// keys, and those that have its references. Before the first duplicate nothing is looked for.
func lookAround(ctx context.Context, tx *sqldb.Tx, batch []placing) (map[requestKey]placedBefore, references,
	error) {
	if batch[0].looks == 0 {
		return nil, references{}, nil
	}
	known, err := findPlaced(ctx, tx, batch)
	if err != nil {
		return nil, nil, err
	}
	taken, err := findReferences(ctx, tx, batch)
	return known, taken, err
}

// references are the orders that have a shop's number, as a batch knows of them.
type references map[shopReference]string

// refuses gives the refusal of a placement whose reference another order has.
func (r references) refuses(p *placing) error {
	if no := r[p.ref()]; p.Reference != "" && no != "" {
		return &ReferenceTakenError{OrderNo: no}
	}
	return nil
}

// take notes the reference of a placement that is made.
func (r references) take(p *placing) {
	if p.Reference != "" {
		r[p.ref()] = p.orderNo
	}
}

// writePlaced asserts and writes the fresh members of a batch, all but what they take from
// the shelf. It sorts fresh by order number.
func (s *Service) writePlaced(ctx context.Context, tx *sqldb.Tx, batch []placing, outcomes []sqldb.Outcome[Placed],
	fresh []int, shelf *stock.Shelf, limits limits) error {
	if s.spoilPlaced != nil {
		s.spoilPlaced(outcomes)
	}
	if err := assertPlaced(outcomes, fresh, shelf); err != nil {
		return err
	}
	if err := insertOrders(ctx, tx, batch, outcomes, fresh); err != nil {
		return err
	}
	if err := s.cfg.Tell(ctx, tx, tellPlaced(outcomes, fresh)); err != nil {
		return err
	}
	failpoint.Hit("place.inserted")
	return limits.sale.write(ctx, tx)
}

// answerRepeats tests the duplicate before a refusal is final: a retry of the
// placement that took the last unit gets its order, not "sold out", and one
// after the price rose its order at the old price. The first try may be half way
// through its transaction at another process at this moment: the look waits for
// how that ends. Only a try that has not reached the database yet is not seen:
// FirstTryWithin says for how long that may be.
func answerRepeats(ctx context.Context, tx *sqldb.Tx, batch []placing, refused []int,
	outcomes []sqldb.Outcome[Placed]) error {
	taken, err := lockPlaced(ctx, tx, batch, refused)
	if err != nil || len(taken) == 0 {
		return err
	}
	again := make([]placing, 0, len(taken))
	for _, i := range refused {
		if taken[batch[i].key()] {
			again = append(again, batch[i])
		}
	}
	known, err := findPlaced(ctx, tx, again)
	if err != nil {
		return err
	}
	for _, i := range refused {
		key := batch[i].key()
		before, ok := known[key]
		switch {
		case ok:
			outcomes[i] = before.answer(&batch[i])
		case taken[key]: // this transaction reads as of before the row was committed
			return fmt.Errorf("%w: repeated placement", sqldb.ErrLostRace)
		}
	}
	return nil
}

// wantOf is what a batch asks of the shelf, all members together. Lines of buckets ask
// nothing of the pool, until a bucket was found to hold less than it gave out.
func wantOf(batch []placing, now time.Time) stock.Want {
	want := stock.Want{Units: make(map[string]int64, len(batch)), Fenced: batch[0].fenced, At: now, Tell: TellLow}
	buckets := map[int64]bool{}
	for i := range batch {
		p := &batch[i]
		for j, l := range p.Lines {
			if p.from == nil || p.from[j] <= 0 || want.Fenced {
				want.Units[l.SkuID] += l.Quantity
			} else {
				want.Units[l.SkuID] += 0 // its price is read
			}
			if p.from != nil && p.from[j] > 0 {
				buckets[p.from[j]] = true
			}
		}
	}
	want.Buckets = slices.Sorted(maps.Keys(buckets))
	return want
}

// decide prices the lines and takes them from the shelf, all or none.
func (s *Service) decide(p *placing, shelf *stock.Shelf, limits limits, taken references) (Order, error) {
	if err := taken.refuses(p); err != nil {
		return Order{}, err
	}
	var total payment.Fen
	items := make([]Item, len(p.Lines))
	for i, l := range p.Lines {
		sku, ok := shelf.SKU(l.SkuID)
		if !ok {
			return Order{}, &UnknownSKUError{SkuID: l.SkuID, Index: i}
		}
		if opens, coming := shelf.OpensAt(l.SkuID); coming {
			return Order{}, &NotStartedError{SkuID: l.SkuID, Index: i, OpensAt: opens, Wait: opens.Sub(s.cfg.Now())}
		}
		items[i] = Item{LineNo: i + 1, SkuID: l.SkuID, Quantity: l.Quantity, UnitPrice: payment.Fen(sku.PriceFen)}
		if payment.Fen(sku.PriceFen) > payment.MaxFen/payment.Fen(l.Quantity) {
			return Order{}, tooMuchMoney()
		}
		if total += payment.Fen(l.Quantity * sku.PriceFen); total > payment.MaxFen {
			return Order{}, tooMuchMoney()
		}
	}
	if p.ExpectedTotal != nil && *p.ExpectedTotal != total {
		return Order{}, &PriceChangedError{Expected: *p.ExpectedTotal, Actual: total}
	}
	if err := limits.open.refuses(s, p, shelf); err != nil {
		return Order{}, err
	}
	slots, err := limits.sale.slots(p)
	if err != nil {
		return Order{}, err
	}
	if short := shelf.Take(p.orderNo, p.Lines, p.from); short != nil {
		return Order{}, &InsufficientError{Items: short}
	}
	limits.sale.take(p, slots)
	return Order{
		OrderNo: p.orderNo, CustomerID: p.CustomerID, State: StatePending, Version: 1, Total: total,
		Remark: p.Remark, Attach: p.Attach, Shop: p.Shop, Reference: p.Reference, Items: items, PlacedCause: p.Cause,
		CreatedAt: p.at, UpdatedAt: p.at, ExpireAt: p.expireAt, DueAt: p.expireAt.Add(s.cfg.Grace),
	}, nil
}

// tooMuchMoney refuses an order above what one WeChat payment can carry.
func tooMuchMoney() error {
	return &ValidationError{Fields: []FieldError{
		{"#/items", "AMOUNT", "an order may cost at most " + payment.MaxFen.String() + " yuan"}}}
}

// asPlaced takes an order back to its first moment, so that a repeated request
// gets the answer of the first one.
func asPlaced(o Order) Order {
	o.State, o.Version, o.CloseReason, o.CloseTries, o.UpdatedAt = StatePending, 1, "", 0, o.CreatedAt
	return o
}

// placedBefore is an order that an earlier request, or an earlier member of the
// same batch, placed under this key.
type placedBefore struct {
	order Order // as at its placement
	hash  string
}

// answer answers a repeat with the order of the first request, if it is the same
// request.
func (b placedBefore) answer(p *placing) sqldb.Outcome[Placed] {
	if b.hash != p.hash {
		return sqldb.Outcome[Placed]{Err: ErrRequestReused}
	}
	// Our own number means that an earlier run of this transaction committed
	// and we never heard of it: that is the first answer, not a repeat.
	return sqldb.Outcome[Placed]{Answer: Placed{Order: b.order, Replayed: b.order.OrderNo != p.orderNo}}
}
