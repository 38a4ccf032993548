package order

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sort"
	"strings"
	"time"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/failpoint"
	"orderd/payment"
	"orderd/stock"
)

// This file is the only writer of orders.state, for one order and for a page of
// two thousand. Every change goes the same way:
//
//	load     under locks (load), or a page as it was read (believe)
//	decide   each command by the table, in memory, in order of arrival
//	assert   what must always hold, before and after the write (assert.go)
//	write    set by set: state, refunds, payments, events, stock
//
// Nothing is decided by what was read alone: the UPDATE names the state that it
// believes in and its rows are counted, and the next event number and the
// transaction id are unique keys.

// apply brings one command to its order, together with those of other callers,
// and reports what happened once it is committed.
func (s *Service) apply(ctx context.Context, c command) (applied, error) {
	done, err := s.commands.Do(ctx, c)
	if err != nil {
		s.reportBroken(err)
		return done, err
	}
	s.report(c, &done)
	return done, nil
}

// report tells log, metrics and operators of a command that was committed.
func (s *Service) report(c command, done *applied) {
	h := c.about()
	for _, what := range done.alarms {
		s.alarm(what, h.orderNo, string(done.before))
	}
	for _, what := range done.notes {
		s.log.Info(what, "order_no", h.orderNo, "transaction_id", done.journalled)
	}
	if done.cell.Verdict != VerdictMove {
		return
	}
	s.observe.Transition(done.before, done.order.State, h.cause.Actor.Type)
	if s.log.Enabled(context.Background(), slog.LevelDebug) { // not even its arguments are made otherwise
		s.log.Debug("order moved", "order_no", h.orderNo,
			"from", done.before, "to", done.order.State, "cause", h.cause.Type)
	}
}

// applyBatch applies the commands of many callers in one transaction. It is what
// the group commit runs.
func (s *Service) applyBatch(ctx context.Context, tx *sqldb.Tx, commands []command) ([]sqldb.Outcome[applied], error) {
	b := newBatch(s)
	if err := b.load(ctx, tx, commands); err != nil {
		return nil, err
	}
	outcomes, err := b.run(ctx, tx, commands)
	if len(commands) == 1 && (sqldb.IsDuplicate(err) || errors.Is(err, sqldb.ErrLostRace)) {
		return nil, commands[0].about().lost(err)
	}
	return outcomes, err
}

// run decides on what was loaded, asserts it and writes it.
func (b *batch) run(ctx context.Context, tx *sqldb.Tx, commands []command) ([]sqldb.Outcome[applied], error) {
	b.now = b.s.cfg.Now().Truncate(time.Millisecond)
	b.events = make([]eventRow, 0, len(commands))
	outcomes := make([]sqldb.Outcome[applied], len(commands))
	returnOf := make([]int, 0) // which command each partial return is of
	for i, c := range commands {
		if did := c.about().did; did != nil && tx.MayBeDone() && b.isDone(did) {
			outcomes[i].Answer = did.answer
			continue
		}
		outcomes[i].Answer, outcomes[i].Err = c.decide(b)
		for len(returnOf) < len(b.partial) {
			returnOf = append(returnOf, i)
		}
	}
	if b.s.spoil != nil {
		b.s.spoil(b)
	}
	if err := b.assert(); err != nil {
		return nil, err
	}
	refused, err := b.write(ctx, tx)
	if err != nil {
		return nil, err
	}
	for i, why := range refused {
		if why != nil { // the money has gone back all the same: an operator is told, nothing fails
			a := &outcomes[returnOf[i]].Answer
			a.alarms = append(a.alarms, "stock of a refund not returned: "+why.Error())
		}
	}
	for i, c := range commands {
		h, done := c.about(), &outcomes[i].Answer
		if a := b.newest[h.orderNo]; a != nil {
			done.turn.attempt = a
		}
		if h.did = nil; outcomes[i].Err == nil {
			h.did = b.made(done)
		}
		if i == 0 || !b.believed { // of a page once
			c.beforeCommit()
		}
	}
	return outcomes, nil
}

// made is what a run of a transaction made of a command, and what the whole batch left of
// the rows that it was about.
type made struct {
	answer                 applied
	order, refund, payment rowLeft
}

// rowLeft is by what a row is known again.
type rowLeft struct {
	version, tries int64
	state          string
	due, at        time.Time
}

// made notes what was written for a command.
func (b *batch) made(done *applied) *made {
	m := &made{answer: *done}
	if e := b.orders[done.order.OrderNo]; e != nil {
		m.order = leftOf(&e.after)
	}
	if done.refund != nil {
		if r := b.refunds.byNo[done.refund.row.OutRefundNo]; r != nil {
			m.refund = leftOfRefund(&r.after, r.before.Version)
			if r.touched { // a new one had version 0
				m.refund.version++
			}
		}
	}
	if done.journalled != "" {
		m.payment = leftOfPayment(b.recorded[done.journalled])
	}
	return m
}

func leftOf(o *Order) rowLeft {
	return rowLeft{version: o.Version, tries: o.CloseTries, state: string(o.State), due: o.DueAt, at: o.UpdatedAt}
}

func leftOfRefund(r *Refund, version int64) rowLeft {
	return rowLeft{version: version, tries: r.Tries, state: string(r.State), due: r.DueAt}
}

func leftOfPayment(p recorded) rowLeft {
	return rowLeft{state: p.orderNo + " " + string(p.settled) + " " + p.reason, at: p.at}
}

// is reports that a row is as it was left.
func (l *rowLeft) is(now rowLeft) bool {
	return l.version == now.version && l.tries == now.tries && l.state == now.state && l.due.Equal(now.due) &&
		l.at.Equal(now.at)
}

// isDone reports that what an earlier run of this transaction made of an order, of a refund
// or of a payment, new ones too, is what was loaded now: that run was committed, and its
// answer was lost. It is told as it was; decided again it would find its own work and take
// it for somebody else's.
func (b *batch) isDone(did *made) bool {
	if b.believed {
		return false // nothing was loaded; such a page is loaded and asked again
	}
	same, found := true, false
	if e := b.orders[did.answer.order.OrderNo]; e != nil {
		found, same = true, did.order.is(leftOf(&e.before))
	}
	if did.answer.refund != nil {
		if r := b.refunds.byNo[did.answer.refund.row.OutRefundNo]; r != nil {
			found, same = true, same && did.refund.is(leftOfRefund(&r.before, r.before.Version))
		}
	}
	if id := did.answer.journalled; id != "" {
		p, ok := b.recorded[id]
		found, same = found || ok, same && ok && did.payment.is(leftOfPayment(p))
	}
	return same && found
}

// minPage orders are not worth another try in one transaction when their page
// has failed: each is applied by itself.
const minPage = 8

// pageCommand is a command on an order of a page, as the page was read.
type pageCommand struct {
	due     Due
	command command
}

// applyPage applies a command to each order of a page, in as few transactions as
// it can, and gives an answer for each. Orders whose row somebody else was found to
// hold go by themselves, without waiting, so that the others do not wait for them;
// one of them that was just tried is not tried at all.
func (s *Service) applyPage(ctx context.Context, page []pageCommand) []sqldb.Outcome[applied] {
	outcomes := make([]sqldb.Outcome[applied], len(page))
	locked := s.commands.Locked()
	rest, at := make([]pageCommand, 0, len(page)), make([]int, 0, len(page))
	for i := range page {
		no := page[i].due.Key
		switch {
		case !locked.Any(no):
			rest, at = append(rest, page[i]), append(at, i)
		case locked.Due(no):
			outcomes[i] = s.applySome(ctx, page[i:i+1], &pageTry{noWait: true})[0]
		default:
			outcomes[i].Err = sqldb.ErrLocked
		}
	}
	try := new(pageTry)
	done := s.applySome(ctx, rest, try)
	if try.found >= mostLocked {
		s.applyUnheld(ctx, rest, done)
	}
	for i, o := range done {
		outcomes[at[i]] = o
	}
	return outcomes
}

// applyUnheld applies a page again in which too many orders were locked to seek them
// all: most likely a SKU of many is held. Those that have a held SKU wait for it, the
// others, which were failed with them, are applied and get their outcomes.
func (s *Service) applyUnheld(ctx context.Context, page []pageCommand, outcomes []sqldb.Outcome[applied]) {
	var nos []string
	locked := map[string]bool{}
	for i := range page {
		if errors.Is(outcomes[i].Err, sqldb.ErrLocked) {
			nos = append(nos, page[i].due.Key)
			locked[page[i].due.Key] = true
		}
	}
	var items map[string][]Item
	err := s.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		items, err = findItems(ctx, tx, nos)
		return err
	})
	if err != nil {
		return // they come again
	}
	wanted := map[string]int{} // orders by SKU
	for _, of := range items {
		for _, it := range of {
			wanted[it.SkuID]++
		}
	}
	// Those that most of them have come first.
	skus := slices.SortedFunc(maps.Keys(wanted), func(a, b string) int {
		return cmp.Or(wanted[b]-wanted[a], strings.Compare(a, b))
	})
	held, err := stock.Held(ctx, s.db, skus[:min(len(skus), mostLocked)])
	if err != nil || len(held) == 0 {
		return // the rows of the orders are: the rest comes at the next pass
	}
	var rest []pageCommand
	var at []int
	for i := range page {
		no := page[i].due.Key
		waits := slices.ContainsFunc(items[no], func(it Item) bool { return held[it.SkuID] })
		if locked[no] && !waits && !s.commands.Locked().Any(no) {
			rest, at = append(rest, page[i]), append(at, i)
		}
	}
	s.log.Warn("rows of SKUs are locked by another session of the database; their orders are tried again",
		"skus", slices.Sorted(maps.Keys(held)), "orders", len(nos)-len(rest))
	for i, o := range s.applySome(ctx, rest, &pageTry{noWait: true}) {
		outcomes[at[i]] = o
	}
}

// pageTry is how a page, or a part of one, is tried.
type pageTry struct {
	noWait bool // a locked row was found in it: it waits for no lock
	found  int  // locked orders, of the page
}

// mostLocked is how many locked orders are looked for in one page, and SKUs when there
// are more: those who have no locked SKU are applied, the rest comes at the next pass.
const mostLocked = 64

// applySome applies a command to each order of a part of a page. What was read of the
// orders is believed at first; when a row is not as it was read, the page is run again
// under locks. An order that would break an invariant leaves the page with its error
// and an alarm. A page that cannot be written otherwise is halved, so that a row that
// cannot be written, or is locked, is soon alone.
func (s *Service) applySome(ctx context.Context, page []pageCommand, try *pageTry) []sqldb.Outcome[applied] {
	if len(page) == 0 {
		return nil
	}
	outcomes, err := s.tryPage(ctx, page, try.noWait)
	switch {
	case err == nil:
		for i := range outcomes {
			if outcomes[i].Err == nil {
				s.report(page[i].command, &outcomes[i].Answer)
			}
		}
		if try.noWait && len(page) == 1 {
			s.commands.Locked().Free(page[0].due.Key)
		}
		return outcomes
	case errors.Is(err, sqldb.ErrLocked):
		return s.withoutLocked(ctx, page, try, err)
	case errors.Is(err, sqldb.ErrUnavailable), ctx.Err() != nil:
		return allFailed(len(page), err)
	}
	if outcomes := s.withoutBroken(ctx, page, err); outcomes != nil {
		return outcomes
	}
	if len(page) > minPage {
		return s.applyHalves(ctx, page, try)
	}
	outcomes = make([]sqldb.Outcome[applied], len(page))
	forEach(len(page), func(i int) {
		outcomes[i].Answer, outcomes[i].Err = s.apply(ctx, page[i].command)
	})
	return outcomes
}

// applyHalves applies the halves of a page by themselves.
func (s *Service) applyHalves(ctx context.Context, page []pageCommand, try *pageTry) []sqldb.Outcome[applied] {
	half := len(page) / 2
	return append(s.applySome(ctx, page[:half], try), s.applySome(ctx, page[half:], try)...)
}

// allFailed gives n orders the same error.
func allFailed(n int, err error) []sqldb.Outcome[applied] {
	outcomes := make([]sqldb.Outcome[applied], n)
	for i := range outcomes {
		outcomes[i].Err = err
	}
	return outcomes
}

// withoutLocked applies a page in which a row is locked by somebody else. From here on
// nothing of it waits for a lock: the time of the others is not his. Orders whose own rows
// are held are found by one question; what holds another row of theirs, by halves.
func (s *Service) withoutLocked(ctx context.Context, page []pageCommand, try *pageTry,
	err error) []sqldb.Outcome[applied] {
	switch {
	case len(page) == 1:
		s.foundLocked(page[0].due.Key, try, err)
		return allFailed(1, err)
	case try.found >= mostLocked:
		return allFailed(len(page), err)
	}
	try.noWait = true
	held, _ := s.db.Held(ctx, `SELECT order_no
FROM orders /*! FORCE INDEX (PRIMARY) */
WHERE order_no IN (?)
FOR UPDATE`, keysOf(page))
	if len(held) == 0 { // a row of another table is, or it was so a moment ago
		return s.applyHalves(ctx, page, try)
	}
	outcomes := allFailed(len(page), err)
	var rest []pageCommand
	var at []int
	for i := range page {
		if no := page[i].due.Key; held[no] {
			s.foundLocked(no, try, err)
		} else {
			rest, at = append(rest, page[i]), append(at, i)
		}
	}
	for i, o := range s.applySome(ctx, rest, try) {
		outcomes[at[i]] = o
	}
	return outcomes
}

// foundLocked notes that the row of an order is held by somebody else.
func (s *Service) foundLocked(no string, try *pageTry, err error) {
	try.found++
	if s.commands.Locked().Found(no) {
		s.log.Warn("a row of this order is locked by another session of the database; it is tried again",
			"order_no", no, "err", err)
	}
}

// keysOf gives the numbers of the orders of a page.
func keysOf(page []pageCommand) []string {
	keys := make([]string, len(page))
	for i := range page {
		keys[i] = page[i].due.Key
	}
	return keys
}

// tryPage runs a page in one transaction. With noWait it waits for no lock.
func (s *Service) tryPage(ctx context.Context, page []pageCommand, noWait bool) ([]sqldb.Outcome[applied], error) {
	dues, commands := make([]Due, len(page)), make([]command, len(page))
	for i := range page {
		dues[i], commands[i] = page[i].due, page[i].command
	}
	var outcomes []sqldb.Outcome[applied]
	// What somebody made up, or read in part, is not believed.
	raced := noWait || slices.ContainsFunc(dues, func(d Due) bool { return d.Version == 0 || d.At.IsZero() })
	err := s.inLane(ctx, len(page), noWait, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		b := newBatch(s)
		if raced {
			err = b.load(ctx, tx, commands)
		} else {
			b.believe(dues)
		}
		if err == nil {
			outcomes, err = b.run(ctx, tx, commands)
		}
		raced = raced || errors.Is(err, sqldb.ErrLostRace)
		return err
	})
	return outcomes, err
}

// withoutBroken applies a page without the orders that broke an invariant; nil
// when none of them did.
func (s *Service) withoutBroken(ctx context.Context, page []pageCommand, err error) []sqldb.Outcome[applied] {
	broken := map[string]error{}
	for _, b := range brokenIn(err) {
		broken[b.OrderNo] = b
	}
	var rest []pageCommand
	for i := range page {
		if broken[page[i].due.Key] == nil {
			rest = append(rest, page[i])
		}
	}
	if len(rest) == len(page) {
		return nil
	}
	s.reportBroken(err)
	others := s.applySome(ctx, rest, new(pageTry))
	outcomes := make([]sqldb.Outcome[applied], len(page))
	for i := range page {
		if why := broken[page[i].due.Key]; why != nil {
			outcomes[i].Err = why
		} else {
			outcomes[i], others = others[0], others[1:]
		}
	}
	return outcomes
}

// find gives the order of a command, if it is there, is this customer's and is
// at the version that the caller has seen.
func (b *batch) find(h *header) (*entry, error) {
	e, ok := b.orders[h.orderNo]
	switch {
	case !ok, h.customerID != "" && h.customerID != e.after.CustomerID:
		return nil, ErrNotFound
	case h.ifVersion != 0 && h.ifVersion != e.after.Version:
		return nil, ErrVersion
	}
	return e, nil
}

// event takes an order through one cell of the table.
func (b *batch) event(e *entry, h *header, event Event) applied {
	done := applied{before: e.after.State, cell: Next(e.after.State, event)}
	switch done.cell.Verdict {
	case VerdictMove:
		b.move(e, h, done.cell)
	case VerdictAlarm:
		done.alarms = append(done.alarms, done.cell.Why)
	case VerdictSame, VerdictRefuse:
	}
	done.order = e.after
	return done
}

// move changes the state of an order as a cell says. Nothing else does, but
// applyToOrder for what refunds do to their order.
func (b *batch) move(e *entry, h *header, cell Cell) { b.moveAs(e, h, cell, eventNames[cell.To]) }

// moveAs is move with a name of its own for the timeline. The new state is never
// due: who moves an order to a state that is waited in sets its due time after.
func (b *batch) moveAs(e *entry, h *header, cell Cell, name string) {
	from := e.after.State
	e.after.State, e.after.DueAt = cell.To, time.Time{}
	if cell.Effect == EffectReturnStock {
		b.returns = append(b.returns, e.after.OrderNo)
	}
	b.record(e, h, name, from, nil)
}

// eventNames names the event of the timeline that brought an order into a state.
var eventNames = map[State]string{
	StateClosing:   "close.requested",
	StateClosed:    "close.accepted",
	StatePaid:      "payment.applied",
	StateLate:      "payment.late",
	StateRefunding: "refund.requested",
	StateRefunded:  "refund.succeeded",
}

// eventWanted tells that a person wants an order closed whose time was over.
const eventWanted = "close.wanted"

// claimClose gives the caller the first turn to ask WeChat Pay to close an order
// that has moved to closing.
func (b *batch) claimClose(e *entry, reason CloseReason) {
	b.wantClosed(e, reason)
	b.nextAsk(e)
}

// wantClosed writes down who wants an order closed, and reports whether that is news.
func (b *batch) wantClosed(e *entry, by CloseReason) bool {
	was := e.after.CloseReason
	e.after.CloseReason = was.then(by)
	return e.after.CloseReason != was
}

// nextAsk sets when WeChat Pay is asked again if this ask stays without an answer.
func (b *batch) nextAsk(e *entry) {
	e.after.DueAt = b.now.Add(backoff(b.s.cfg.CloseRetry, e.after.CloseTries))
	e.after.CloseTries++
	e.tries++
}

// backoff gives the n-th wait of a ladder, counted from 0; its last one for ever.
func backoff(ladder []time.Duration, n int64) time.Duration {
	return ladder[min(max(n, 0), int64(len(ladder)-1))]
}

// record adds an event to an order; every event is a version. Its time is now,
// but never before what was written last: another process wrote that, by its own
// clock. What is due is decided by now alone.
func (b *batch) record(e *entry, h *header, name string, from State, extra map[string]string) {
	e.after.Version++
	e.after.UpdatedAt = later(b.now, e.after.UpdatedAt)
	detail := h.detail
	if len(extra) > 0 {
		detail = maps.Clone(extra)
		maps.Copy(detail, h.detail)
	}
	b.events = append(b.events, eventRow{orderNo: e.after.OrderNo, seq: e.after.Version, at: e.after.UpdatedAt,
		name: name, from: from, to: e.after.State, cause: h.cause, detail: encodeDetail(detail), took: h.took,
		ref: cmp.Or(extra["out_refund_no"], h.detail["transaction_id"])})
}

// encodeDetail gives a detail as JSON. Values are cut to fit the column, since a
// detail explains and never decides. <, > and & stay as they are: as \u003c a reason of
// them would not fit.
func encodeDetail(detail map[string]string) string {
	if len(detail) == 0 {
		return ""
	}
	for limit := bounds.Detail.Most / 2; ; limit /= 2 {
		var b strings.Builder
		to := json.NewEncoder(&b)
		to.SetEscapeHTML(false)
		if err := to.Encode(detail); err == nil {
			if text := strings.TrimSuffix(b.String(), "\n"); bounds.Detail.Cut(text) == text {
				return text
			}
		}
		if limit == 0 {
			return ""
		}
		detail = maps.Clone(detail) // it is the command's, which may be decided again
		for k, v := range detail {
			detail[k] = payment.CutBytes(v, limit)
		}
	}
}

// write writes what was decided, in the lock order of doc.go, and asserts what
// only the rows can tell. The first statement of a page that is believed is its
// UPDATE: whatever is read after it is read where the orders are written, and not
// older than the change. It gives one answer per partial return: why its lines could
// not come back.
func (b *batch) write(ctx context.Context, tx *sqldb.Tx) ([]error, error) {
	for _, part := range []func(context.Context, *sqldb.Tx) error{
		b.writeOrders, b.assertLastEvents, b.readAttempts, b.writeRefunds, b.writeTaken,
		b.writeWriteOffs, b.writeRows, b.writeReturns,
	} {
		if err := part(ctx, tx); err != nil {
			return nil, err
		}
	}
	var refused []error
	if len(b.partial) > 0 {
		var err error
		if refused, err = stock.ReturnLines(ctx, tx, b.partial, b.now); err != nil {
			return nil, err
		}
	}
	if err := b.assertFlows(ctx, tx, refused); err != nil {
		return nil, err
	}
	return refused, b.tell(ctx, tx) // the last: an id of what is undone is a gap that readers wait for
}

// readAttempts reads the newest attempt of every order that is asked about from now
// on, which is what WeChat Pay has to close. The orders are locked by their UPDATE: a
// prepay that was before it has committed its intent, and none comes after it.
func (b *batch) readAttempts(ctx context.Context, tx *sqldb.Tx) (err error) {
	var nos []string
	for no, e := range b.orders {
		if e.tries > 0 {
			nos = append(nos, no)
		}
	}
	slices.Sort(nos)
	b.newest, err = findNewest(ctx, tx, nos)
	return err
}

// writeRows inserts payments and events, and writes attempts.
func (b *batch) writeRows(ctx context.Context, tx *sqldb.Tx) error {
	if err := insertPayments(ctx, tx, b.payments); err != nil {
		return err
	}
	if len(b.payments) > 0 {
		failpoint.Hit("notify.journalled")
	}
	if b.s.cfg.Shipments != nil && len(b.paid) > 0 {
		if err := b.s.cfg.Shipments.Expect(ctx, tx, b.paid); err != nil {
			return err
		}
	}
	if err := insertEvents(ctx, tx, b.events); err != nil {
		return err
	}
	return b.writeAttempts(ctx, tx)
}

// writeAttempts writes the attempts that changed.
func (b *batch) writeAttempts(ctx context.Context, tx *sqldb.Tx) error {
	for _, no := range slices.Sorted(maps.Keys(b.attempts)) {
		if err := updateAttempt(ctx, tx, b.attempts[no]); err != nil {
			return err
		}
	}
	return nil
}

// writeReturns puts the stock of closed orders back, and takes that of revived
// ones again.
func (b *batch) writeReturns(ctx context.Context, tx *sqldb.Tx) error {
	if len(b.returns) > 0 {
		at := b.now
		for _, no := range b.returns { // not before the close that proves them
			at = later(at, b.orders[no].after.UpdatedAt)
		}
		var err error
		if b.flows, err = stock.ReturnAll(ctx, tx, b.returns, stock.RefClose, at); err != nil {
			return err
		}
	}
	if b.shelf == nil {
		return nil
	}
	if err := b.sale.write(ctx, tx); err != nil {
		return err
	}
	return b.shelf.Commit(ctx, tx, b.now)
}

// step is everything that one UPDATE of orders sets and believes. Orders that
// take the same step share the statement: a batch of callbacks is one, and so is
// a page of timeouts.
type step struct {
	from, to State
	versions int64       // how many events were added
	tries    int64       // how many asks at WeChat Pay were added
	setDue   bool        // due_at changes
	due      int64       // to this, in milliseconds; 0 for never
	reason   CloseReason // close_reason changes to this; "" when it stays
	updated  int64       // updated_at changes to this, in milliseconds; 0 when it stays

	// Of a page, whose orders were not read here but believed; nothing of it where
	// they were locked:
	believed bool
	version  int64 // they are at this version,
	asked    int64 // and were asked about this often (-1 when that is all the same), and are due,
	now      int64 // and were not written later than this, in milliseconds
}

// stepOf is the step that takes an order from what was loaded to what was decided.
// Columns that stay are left out, so that orders that differ only in them share a
// statement: those that wait for WeChat Pay's rate keep their own due times.
func (b *batch) stepOf(e *entry) step {
	was, is := &e.before, &e.after
	st := step{from: was.State, to: is.State, versions: is.Version - was.Version, tries: e.tries}
	if st.versions > 0 {
		st.updated = sqldb.Millis(is.UpdatedAt)
	}
	if !is.DueAt.Equal(was.DueAt) {
		st.setDue, st.due = true, sqldb.Millis(is.DueAt)
	}
	if is.CloseReason != was.CloseReason {
		st.reason = is.CloseReason
	}
	if b.believed {
		st.believed, st.version, st.asked, st.now = true, was.Version, -1, sqldb.Millis(b.now)
		if is.State == StateClosing { // a turn at WeChat Pay is taken: is it still there to be taken?
			st.asked = was.CloseTries
		}
	}
	return st
}

// writeOrders writes the state of every order that changed, and counts the rows.
func (b *batch) writeOrders(ctx context.Context, tx *sqldb.Tx) error {
	steps := map[step][]string{}
	for no, e := range b.orders {
		st := b.stepOf(e)
		if st.versions == 0 && st.tries == 0 {
			continue
		}
		steps[st] = append(steps[st], no)
	}
	inOrder := slices.Collect(maps.Keys(steps))
	sort.Slice(inOrder, func(i, j int) bool { return compareSteps(&inOrder[i], &inOrder[j]) < 0 })
	for i := range inOrder {
		nos := steps[inOrder[i]]
		slices.Sort(nos)
		n, err := updateOrders(ctx, tx, &inOrder[i], nos)
		if err != nil {
			return err
		}
		if n != int64(len(nos)) {
			return sqldb.ErrLostRace
		}
	}
	return nil
}

// compareSteps sorts the statements of a batch, so that two batches take their
// locks in the same order.
func compareSteps(a, b *step) int {
	return cmp.Or(strings.Compare(string(a.from), string(b.from)), strings.Compare(string(a.to), string(b.to)),
		cmp.Compare(a.versions, b.versions), cmp.Compare(a.tries, b.tries), cmp.Compare(a.due, b.due),
		boolCompare(a.setDue, b.setDue),
		strings.Compare(string(a.reason), string(b.reason)), cmp.Compare(a.updated, b.updated),
		cmp.Compare(a.version, b.version), cmp.Compare(a.asked, b.asked))
}

// boolCompare orders false before true.
func boolCompare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
