package order

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"orderd/migrations/sqldb"
	"orderd/stock"
)

// Many timeouts at once. A page of orders goes the way that Expire takes one:
// the same cells of the table, the same rows, the same proof before stock comes
// back. But the whole page is written by one statement per table, guarded by
// the state and version that every order had when it was read, and the rows are
// counted. An order that is not as it was read, or that a page cannot be written
// with, leaves the page and goes through the door by itself.

// Bounds of a page.
const (
	// maxTogether is how many orders one transaction takes: beyond it the rows
	// cost all there is, and locks are only held for longer.
	maxTogether = 2000
	// politeTogether is that while customers place and pay: their transaction
	// waits for one of ours at most, and ours pause politePause times as long as
	// they took.
	politeTogether = 32
	politePause    = 2
	// fewTogether are not worth another try together when a page failed.
	fewTogether = 8
	// pageTimeout bounds the storing of the answers of a page: it waits for its
	// lane, behind customers.
	pageTimeout = 30 * time.Second
	// askedAtOnce is how many orders of a page are at WeChat Pay at once.
	askedAtOnce = 64
	// busyFor is how long after the last placement or payment customers are
	// taken to be there.
	busyFor = 250 * time.Millisecond
)

// Claim is an order of which this process has taken the turn to ask WeChat Pay:
// it is closing, and nobody else asks about it before At.
type Claim struct{ Due }

// ClaimDue takes the unpaid orders of a page to closing, and the turn of those
// that are closing and due, in few statements. The claims are to be brought to
// CloseClaimed before their At; the turn of a claim that is not comes again then
// by itself. There is an error for each order, in the order of the page: nil
// also when there is nothing to do for it any more or somebody else has its
// turn.
func (s *Service) ClaimDue(ctx context.Context, page []Due, cause Cause) ([]Claim, []error) {
	p := &duePage{s: s, cause: cause}
	errs := p.inParts(ctx, page, p.claimPart)
	claims := make([]Claim, len(p.mine))
	for i, a := range p.mine {
		claims[i].Due = a.Due
	}
	return claims, errs
}

// CloseClaimed asks WeChat Pay to close the orders of claims and writes what is
// proven: what Expire does for one. There is an error for each claim, in their
// order: nil when it ended; a *ClosingError when WeChat gave no usable answer
// and is asked again; or what kept the answer from being stored.
func (s *Service) CloseClaimed(ctx context.Context, claims []Claim, cause Cause) []error {
	p := &duePage{s: s, cause: cause, errs: make(map[string]error, len(claims))}
	for i := range claims {
		p.mine = append(p.mine, &asked{Due: claims[i].Due})
	}
	p.closeMine(ctx)
	errs := make([]error, len(claims))
	for i := range claims {
		errs[i] = p.errs[claims[i].Key]
	}
	return errs
}

// AwaitClose takes the unpaid orders of a page to closing and asks nobody: more
// are due than WeChat Pay takes calls. They keep their due time, which is their
// place in the line, and their stock. The errors are those of ClaimDue.
func (s *Service) AwaitClose(ctx context.Context, page []Due, cause Cause) []error {
	p := &duePage{s: s, cause: cause, wait: true}
	return p.inParts(ctx, page, p.claimPart)
}

// customerHere notes that a customer waits for an answer of this process.
func (s *Service) customerHere() { s.customers.Store(time.Now().UnixNano()) }

// together is how many orders a transaction takes now: few while customers are
// here or at another process. Whether they place there, the newest order number
// tells, which holds its time; it is read at most once in busyFor.
func (s *Service) together(ctx context.Context) int {
	now := time.Now() // durations only, never stored
	looked := s.looked.Load()
	if now.UnixNano()-looked > int64(busyFor) && s.looked.CompareAndSwap(looked, now.UnixNano()) {
		var newest string
		err := s.db.QueryRowContext(ctx, "SELECT order_no FROM orders ORDER BY order_no DESC LIMIT 1").Scan(&newest)
		if err == nil && newest > placedAfter(s.cfg.Now().Add(-2*busyFor)) {
			s.customerHere()
		}
	}
	if now.UnixNano()-s.customers.Load() > int64(busyFor) {
		return maxTogether
	}
	return politeTogether
}

// errTooMany: customers have come since the part was cut.
var errTooMany = errors.New("too many orders for one transaction beside customers")

// lane runs a transaction over n orders when there is a lane for it. While
// customers are there it has one lane, and pauses in it.
func (s *Service) lane(ctx context.Context, n int, run func(ctx context.Context, tx *sqldb.Tx) error) error {
	lane, most := s.bulk, s.together(ctx)
	if n > most {
		return errTooMany
	}
	if most == politeTogether {
		lane = s.polite
	}
	select {
	case lane <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-lane }()
	start := time.Now() // a duration only, never stored
	err := s.db.InTx(ctx, run)
	if lane == s.polite {
		sleep(ctx, politePause*time.Since(start))
	}
	return err
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// duePage is the work on one page.
type duePage struct {
	s     *Service
	cause Cause
	wait  bool // no ask: they wait in line

	mu   sync.Mutex
	errs map[string]error
	mine []*asked // of the part at hand
}

// inParts does the page part by part and gives the errors in its order.
func (p *duePage) inParts(ctx context.Context, page []Due, do func(context.Context, []Due)) []error {
	p.errs = make(map[string]error, len(page))
	for rest := page; len(rest) > 0; {
		n := min(len(rest), p.s.together(ctx))
		do(ctx, rest[:n])
		rest = rest[n:]
	}
	errs := make([]error, len(page))
	for i := range page {
		errs[i] = p.errs[page[i].Key]
	}
	return errs
}

// asked is an order that this page has taken to WeChat Pay.
type asked struct {
	Due        // as it is now
	outTradeNo string
	attempt    *Attempt
	verdict    verdict
}

func (p *duePage) fail(orderNo string, err error) {
	if err == nil {
		return
	}
	p.mu.Lock()
	p.errs[orderNo] = err
	p.mu.Unlock()
}

// closeMine asks about the orders at hand and stores the answers.
func (p *duePage) closeMine(ctx context.Context) {
	intended()
	if err := p.number(ctx); err != nil {
		p.alone(p.take(), func(a *asked) error { // one of them cannot be read: each by itself
			return p.s.finish(ctx, Order{OrderNo: a.Key, Version: a.Version, DueAt: a.At}, p.cause)
		})
		return
	}
	mine := p.take()
	p.alone(mine, func(a *asked) error {
		a.verdict = p.s.askClose(ctx, a.outTradeNo, a.attempt)
		p.s.observe.CloseAsked(a.verdict.kind.String())
		return nil
	})
	p.store(ctx, mine)
}

func (p *duePage) take() []*asked {
	mine := p.mine
	p.mine = nil
	return mine
}

// alone does something for each order by itself, many at once.
func (p *duePage) alone(orders []*asked, do func(*asked) error) {
	work := make(chan *asked)
	var wg sync.WaitGroup
	for range min(len(orders), askedAtOnce) {
		wg.Go(func() {
			for a := range work {
				p.fail(a.Key, do(a))
			}
		})
	}
	for _, a := range orders {
		work <- a
	}
	close(work)
	wg.Wait()
}

// store writes what was proven: the closed together, the others by themselves.
// It does so whoever has hung up meanwhile.
func (p *duePage) store(ctx context.Context, mine []*asked) {
	ctx, cancel := context.WithTimeout(detached(ctx), pageTimeout)
	defer cancel()
	closed := make([]*asked, 0, len(mine))
	var others []*asked
	for _, a := range mine {
		if a.verdict.kind == verdictClosed {
			closed = append(closed, a)
		} else {
			others = append(others, a)
		}
	}
	p.closePart(ctx, closed)
	p.alone(others, func(a *asked) error {
		return p.s.proven(ctx, Order{OrderNo: a.Key, Version: a.Version, DueAt: a.At}, p.cause, a.verdict)
	})
}

// claimPart takes the orders of a part to closing, together, and puts those that
// are now ours to ask about into mine. A part that cannot be written is halved,
// so that a broken row is soon alone; the few around it go through the door.
func (p *duePage) claimPart(ctx context.Context, part []Due) {
	var got claimed
	err := p.s.lane(ctx, len(part), func(ctx context.Context, tx *sqldb.Tx) (err error) {
		got, err = p.claim(ctx, tx, part, got.raced)
		return err
	})
	switch {
	case err == nil:
	case errors.Is(err, sqldb.ErrUnavailable), ctx.Err() != nil:
		for i := range part {
			p.fail(part[i].Key, err)
		}
		return
	case len(part) > fewTogether:
		p.claimPart(ctx, part[:len(part)/2])
		p.claimPart(ctx, part[len(part)/2:])
		return
	default:
		got = claimed{others: part}
	}
	for _, a := range got.mine {
		if a.State == StatePending {
			a.State = StateClosing
			p.s.observe.Transition(StatePending, StateClosing, p.cause.Actor.Type)
			p.s.observe.Lateness(got.at.Sub(a.deadline))
		}
		if !p.wait {
			p.mine = append(p.mine, &asked{Due: a.Due})
		}
	}
	if n := len(p.mine); n > 0 { // should this process die, the turn that it took comes back on time
		p.s.cfg.Tasks.WakeAt(p.mine[n-1].At)
	}
	others := make([]*asked, len(got.others))
	for i, d := range got.others {
		others[i] = &asked{Due: d}
	}
	p.alone(others, func(a *asked) error { return p.oneByOne(ctx, a.Key) })
}

// oneByOne takes an order that left its page through the door.
func (p *duePage) oneByOne(ctx context.Context, orderNo string) error {
	if p.wait {
		_, err := p.s.bring(ctx, change{orderNo: orderNo, cause: p.cause, event: EventExpire, reason: CloseReasonTimeout})
		return err
	}
	err := p.s.Expire(ctx, orderNo, p.cause)
	var notDue *NotDueError
	if errors.As(err, &notDue) { // somebody else has its turn
		return nil
	}
	return err
}

// claimed is what a claim came to.
type claimed struct {
	mine   []claimedOrder
	others []Due // not as a page needs them: the door decides
	at     time.Time
	raced  bool // a row was not as it was read: look under locks
}

type claimedOrder struct {
	Due
	deadline time.Time
}

// claim writes the turn of a part: pending to closing with its event, closing to
// its next ask. It believes what was read without locks and counts the rows;
// when the count differs it is run again and looks first.
func (p *duePage) claim(ctx context.Context, tx *sqldb.Tx, part []Due, careful bool) (claimed, error) {
	out := claimed{at: p.s.cfg.Now().Truncate(time.Millisecond), raced: careful}
	if careful {
		var err error
		if part, out.others, err = p.lookAgain(ctx, tx, part, out.at); err != nil {
			return out, err
		}
	}
	part = slices.Clone(part)
	sort.Slice(part, func(i, j int) bool { return compareDue(&part[i], &part[j]) < 0 })
	var events []eventRow
	for _, d := range part {
		c := claimedOrder{Due: d, deadline: d.At}
		if d.State == StatePending {
			c.Version++
			events = append(events, eventRow{orderNo: d.Key, seq: c.Version, at: out.at, name: eventNames[StateClosing], from: StatePending, to: StateClosing, cause: p.cause})
		}
		if !p.wait {
			c.At = p.s.askAgain(out.at, d.Tries)
		}
		out.mine = append(out.mine, c)
	}
	for len(part) > 0 {
		like := alike(part)
		n, err := p.writeClaim(ctx, tx, part[:like], out.at)
		if err != nil {
			return out, err
		}
		if n != int64(like) {
			out.raced = true
			return out, sqldb.ErrLostRace
		}
		part = part[like:]
	}
	return out, insertEvents(ctx, tx, events)
}

// compareDue sorts orders by what one UPDATE believes of them, and those by
// number, which is the order of their locks.
func compareDue(a, b *Due) int {
	return cmp.Or(cmp.Compare(a.State, b.State), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Tries, b.Tries), cmp.Compare(a.Key, b.Key))
}

// alike is how many of the first orders one UPDATE may take.
func alike(sorted []Due) int {
	n := 1
	for n < len(sorted) && sorted[n].State == sorted[0].State && sorted[n].Version == sorted[0].Version && sorted[n].Tries == sorted[0].Tries {
		n++
	}
	return n
}

// askAgain is when WeChat is asked again if the ask that begins now stays
// without an answer.
func (s *Service) askAgain(now time.Time, tries int64) time.Time {
	return now.Add(s.cfg.CloseRetry[min(int(tries), len(s.cfg.CloseRetry)-1)])
}

func (p *duePage) writeClaim(ctx context.Context, tx *sqldb.Tx, part []Due, now time.Time) (int64, error) {
	of := &part[0]
	set, args := []string{}, []any{}
	add := func(what string, values ...any) { set, args = append(set, what), append(args, values...) }
	if of.State == StatePending {
		add("state = 'closing', version = version + 1, close_reason = ?, updated_at = ?", string(CloseReasonTimeout), toMS(now))
	}
	if !p.wait {
		add("close_tries = close_tries + 1, due_at = ?", toMS(p.s.askAgain(now, of.Tries)))
	}
	args = append(args, string(of.State), of.Version, of.Tries, toMS(now), toMS(now))
	for i := range part {
		args = append(args, part[i].Key)
	}
	n, err := tx.Update(ctx, `UPDATE orders
SET `+strings.Join(set, ", ")+`
WHERE state = ?
  AND version = ?
  AND close_tries = ?
  AND due_at <= ?
  AND updated_at <= ?
  AND order_no IN (`+sqldb.In(len(part))+`)`, args...)
	if err != nil {
		return 0, fmt.Errorf("take %d orders to closing: %w", len(part), err)
	}
	return n, nil
}

// lookAgain reads the orders of a part under locks: those that are due, as they
// are now, and those that only the door can take. The others have nothing due.
func (p *duePage) lookAgain(ctx context.Context, tx *sqldb.Tx, part []Due, now time.Time) (due, others []Due, err error) {
	nos := make([]string, len(part))
	for i := range part {
		nos[i] = part[i].Key
	}
	slices.Sort(nos)
	locked, err := lockOrders(ctx, tx, nos)
	if err != nil {
		return nil, nil, err
	}
	for _, no := range nos {
		e := locked[no]
		if e == nil || (e.read.State != StatePending && (e.read.State != StateClosing || p.wait)) || e.read.DueAt.After(now) {
			continue
		}
		d := Due{Key: no, State: e.read.State, Version: e.read.Version, Tries: e.read.CloseTries, At: e.read.DueAt}
		if e.read.UpdatedAt.After(now) { // written by a replica whose clock is ahead
			others = append(others, d)
		} else {
			due = append(due, d)
		}
	}
	return due, others, nil
}

// number finds under which numbers WeChat Pay knows the orders.
func (p *duePage) number(ctx context.Context) error {
	nos := make([]string, len(p.mine))
	for i, a := range p.mine {
		nos[i] = a.Key
	}
	attempts, err := findAttempts(ctx, p.s.db, nos...)
	if err != nil {
		return err
	}
	last := make(map[string]*Attempt, len(attempts))
	for i := range attempts { // at most one is payable: the earlier ones were closed before it was opened
		last[attempts[i].OrderNo] = &attempts[i]
	}
	for _, a := range p.mine {
		if a.attempt = last[a.Key]; a.attempt != nil {
			a.outTradeNo = a.attempt.OutTradeNo
		} else {
			a.outTradeNo = attemptNo(a.Key, 1)
		}
	}
	return nil
}

// errApart: a part cannot be written together.
var errApart = errors.New("not all orders of the page are as they were")

// closePart writes what WeChat Pay has proven closed, together, with the stock
// that comes back. A part that cannot be written is halved like a claim's.
func (p *duePage) closePart(ctx context.Context, part []*asked) {
	if len(part) == 0 {
		return
	}
	var good, bad []*asked
	err := p.s.lane(ctx, len(part), func(ctx context.Context, tx *sqldb.Tx) (err error) {
		good, bad, err = p.close(ctx, tx, part)
		return err
	})
	committed()
	switch {
	case err == nil:
		for range good {
			p.s.observe.Transition(StateClosing, StateClosed, p.cause.Actor.Type)
		}
		part = bad
	case errors.Is(err, sqldb.ErrUnavailable), ctx.Err() != nil:
		for _, a := range part {
			p.fail(a.Key, err)
		}
		return
	case len(part) > fewTogether:
		p.closePart(ctx, part[:len(part)/2])
		p.closePart(ctx, part[len(part)/2:])
		return
	}
	p.alone(part, func(a *asked) error {
		_, err := p.s.bring(ctx, change{orderNo: a.Key, cause: p.cause, event: EventCloseDone, detail: a.verdict.proof, took: a.verdict.took})
		return err
	})
}

// close writes closing to closed with the proof, and the return of every unit.
// Those whose stock is not what their lines say are bad: the door refuses them,
// each by itself and by name.
func (p *duePage) close(ctx context.Context, tx *sqldb.Tx, part []*asked) (good, bad []*asked, err error) {
	now := p.s.cfg.Now().Truncate(time.Millisecond)
	sort.Slice(part, func(i, j int) bool { return compareDue(&part[i].Due, &part[j].Due) < 0 })
	good, bad, lines, err := p.holding(ctx, tx, part)
	if err != nil {
		return nil, nil, err
	}
	events := make([]eventRow, 0, len(good))
	for _, a := range good {
		e := eventRow{orderNo: a.Key, seq: a.Version + 1, at: now, name: eventNames[StateClosed], from: StateClosing, to: StateClosed, cause: p.cause,
			detail: encodeDetail(a.verdict.proof), took: a.verdict.took}
		if !strings.Contains(e.detail, `"close":`) {
			return nil, nil, errApart
		}
		events = append(events, e)
	}
	for rest := good; len(rest) > 0; {
		args := []any{toMS(now), rest[0].Version, toMS(now)}
		n := 0
		for n < len(rest) && rest[n].Version == rest[0].Version {
			args = append(args, rest[n].Key)
			n++
		}
		found, err := tx.Update(ctx, `UPDATE orders
SET state = 'closed', version = version + 1, due_at = NULL, updated_at = ?
WHERE state = 'closing'
  AND version = ?
  AND updated_at <= ?
  AND order_no IN (`+sqldb.In(n)+`)`, args...)
		if err != nil {
			return nil, nil, fmt.Errorf("close %d orders: %w", n, err)
		}
		if found != int64(n) {
			return nil, nil, errApart
		}
		rest = rest[n:]
	}
	if err := insertEvents(ctx, tx, events); err != nil {
		return nil, nil, err
	}
	written([]change{{event: EventCloseDone}})
	return good, bad, stock.PutBack(ctx, tx, lines, stock.RefClose, now)
}

// holding holds the stock of a part against its lines: each line deducted whole
// and nothing returned. Read before the orders are locked, and true once their
// UPDATE has found them closing at the version that was claimed: whoever returns
// stock of an order moves it.
func (p *duePage) holding(ctx context.Context, tx *sqldb.Tx, part []*asked) (good, bad []*asked, lines map[string][]stock.Line, err error) {
	nos := make([]string, len(part))
	for i, a := range part {
		nos[i] = a.Key
	}
	items, err := findItems(ctx, tx, nos)
	if err != nil {
		return nil, nil, nil, err
	}
	held, err := stock.Holdings(ctx, tx, nos)
	if err != nil {
		return nil, nil, nil, err
	}
	lines = make(map[string][]stock.Line, len(part))
	for _, a := range part {
		ordered, out := items[a.Key], held[a.Key]
		whole := len(ordered) > 0 && len(ordered) == len(out)
		for _, it := range ordered {
			whole = whole && slices.Contains(out, stock.Line{SkuID: it.SkuID, Quantity: it.Quantity})
		}
		if !whole {
			bad = append(bad, a)
			continue
		}
		good, lines[a.Key] = append(good, a), out
	}
	return good, bad, lines, nil
}
