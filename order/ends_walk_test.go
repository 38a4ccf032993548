package order_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/stock"
)

// walk is a random walk through everything that can happen to orders: what customers do, what WeChat Pay says and
// loses, processes that die with a claim, a configuration that is wrong for a while, and people's every decision.
type walk struct {
	*ordertest.Fixture
	*walked
	t     *testing.T
	ctx   context.Context // of the step
	rnd   *rand.Rand
	shape func(*order.Config)
	wrong *ordertest.Fixture // the same service with another app id
}

// walked is what walks through the same orders share.
type walked struct {
	mu     sync.Mutex
	nos    []string
	trades map[string]payment.Trade // that were paid, by out_trade_no
	fault  string                   // before or after: the next call to WeChat Pay has no answer
	log    []string                 // what was done, for a walk that fails
	n      int                      // numbers given
}

// orders gives the numbers of the orders so far, paid the trades that were paid.
func (w *walked) orders() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.nos)
}

func (w *walked) paid() map[string]payment.Trade {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.trades)
}

// next gives another number each time.
func (w *walked) next() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.n++
	return w.n
}

// note writes down what was done.
func (w *walked) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, fmt.Sprintf(format, args...))
}

// lose has the next call to WeChat Pay have no answer: before or after it is handled, "" for none.
func (w *walked) lose(at string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault = at
}

// lost says whether a call is the one that has no answer.
func (w *walked) lost(at string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	lost := w.fault == at
	if lost {
		w.fault = ""
	}
	return lost
}

// newWalk begins a walk on an empty database.
func newWalk(t *testing.T, db *sqldb.DB, seed uint64) *walk {
	t.Helper()
	w := &walk{t: t, ctx: t.Context(), rnd: rand.New(rand.NewPCG(seed, 7)),
		walked: &walked{trades: map[string]payment.Trade{}}}
	w.shape = func(c *order.Config) {
		r := rand.New(rand.NewPCG(seed, 8))
		c.LatePayment = []order.LatePolicy{order.LatePolicyRefund, order.LatePolicyRevive}[r.IntN(2)]
		c.RefundAutoApprove = payment.Fen(r.IntN(3) * 100)
		c.RefundTwoPersons = payment.Fen(r.IntN(2) * 250)
		if r.IntN(2) == 0 {
			c.RefundSpacing = -1
		}
	}
	w.Fixture = ordertest.NewUnverified(t, db, w.shape)
	w.wrong = w.Restarted(t, func(c *order.Config) { w.shape(c); c.AppID = "wx0000000000000002" })
	w.SKU(t, "a", 6)
	w.SKU(t, "b", 4)
	w.SKU(t, "u", -1)
	lost := func(at string) func(op, no string) error {
		return func(op, _ string) error {
			if w.lost(at) {
				return ordertest.ErrLost(op)
			}
			return nil
		}
	}
	w.WeChat.Before, w.WeChat.After = lost("before"), lost("after")
	return w
}

// check notes what was done, and fails the walk for what must never come of anything.
func (w *walk) check(what string, err error) {
	w.t.Helper()
	w.note("%s: %v", what, err)
	if b := new(*order.BrokenError); errors.As(err, b) {
		w.t.Errorf("%s: %s of %s would be broken: %s", what, (*b).Invariant, (*b).OrderNo, (*b).Detail)
	}
	if errors.As(err, new(*order.DamagedError)) || errors.Is(err, sqldb.ErrUnavailable) && w.ctx.Err() == nil {
		w.t.Errorf("%s: %v", what, err)
	}
}

// verify holds all rows against every invariant.
func (w *walk) verify() {
	w.t.Helper()
	r, err := w.Audit.Verify(w.t.Context(), nil)
	if err != nil {
		w.t.Error(err)
		return
	}
	for _, c := range r.Checks {
		if c.Count > 0 {
			w.t.Errorf("%s: %v", c.ID, c.Violations)
		}
	}
}

// oneOf gives a random one of a map's keys, in an order that the seed decides; false without any.
func oneOf[V any](w *walk, of map[string]V) (string, bool) {
	if len(of) == 0 {
		return "", false
	}
	return slices.Sorted(maps.Keys(of))[w.rnd.IntN(len(of))], true
}

// refund gives the number of a random refund of a random order, "" without.
func (w *walk) refund() string {
	nos := w.orders()
	o, err := w.Find(w.ctx, nos[w.rnd.IntN(len(nos))])
	if err != nil || len(o.Refunds) == 0 {
		return ""
	}
	return o.Refunds[w.rnd.IntN(len(o.Refunds))].OutRefundNo
}

// step does one thing at random.
func (w *walk) step() {
	if len(w.orders()) == 0 || w.rnd.IntN(12) == 0 {
		w.place()
		return
	}
	w.act(w.young())
}

// young gives an order, the young ones more often.
func (w *walk) young() string {
	nos := w.orders()
	return nos[max(w.rnd.IntN(len(nos)), len(nos)-1-w.rnd.IntN(4))]
}

// act does one thing at random, to this order where it is done to one.
func (w *walk) act(no string) {
	s := w.Service
	if w.rnd.IntN(8) == 0 {
		s = w.wrong.Service
	}
	switch w.rnd.IntN(7) {
	case 0:
		w.customer(s, no)
	case 1:
		w.pay(no)
	case 2:
		trades := w.paid()
		if out, ok := oneOf(w, trades); ok {
			_, err := s.Settle(w.ctx, trades[out], ordertest.Notified)
			w.check("settle "+out, err)
		}
	case 3:
		w.timeouts(s, no)
	case 4:
		w.refunds()
	case 5:
		w.people(no)
	case 6:
		d := time.Duration(w.rnd.IntN(60)) * time.Second
		if w.rnd.IntN(8) == 0 { // most of what happens to an order happens in its time to pay
			d = []time.Duration{10 * time.Minute, 40 * time.Minute, 30 * time.Hour}[w.rnd.IntN(3)]
		}
		w.Clock.Advance(d)
		if w.rnd.IntN(3) == 0 {
			w.lose([]string{"before", "after"}[w.rnd.IntN(2)])
		}
	}
}

// place places an order of one to six units.
func (w *walk) place() {
	var lines []stock.Line
	for _, sku := range []string{"a", "b", "u"} {
		if q := w.rnd.Int64N(3); q > 0 {
			lines = append(lines, stock.Line{SkuID: sku, Quantity: q})
		}
	}
	if len(lines) == 0 {
		return
	}
	p, err := w.Place(w.ctx, order.Placement{CustomerID: "c", RequestID: fmt.Sprint("k", w.next()), Lines: lines})
	w.check(fmt.Sprint("place ", lines), err)
	if err == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.nos = append(w.nos, p.Order.OrderNo)
	}
}

// customer is what a customer does with an order.
func (w *walk) customer(s *order.Service, no string) {
	ctx := w.ctx
	switch w.rnd.IntN(4) {
	case 0, 1:
		w.prepay(s, no)
	case 2:
		_, err := s.Cancel(ctx, cancel(no))
		w.check("cancel "+no, err)
	case 3:
		r := order.AskRefund{OrderNo: no, CustomerID: "c", RequestID: fmt.Sprint("r", w.next()), Reason: "x",
			Cause: ordertest.Customer, NoRestock: w.rnd.IntN(3) == 0}
		if w.rnd.IntN(3) > 0 {
			r.Lines = []stock.Line{{SkuID: []string{"a", "b", "u"}[w.rnd.IntN(3)], Quantity: 1 + w.rnd.Int64N(2)}}
		}
		if w.rnd.IntN(3) == 0 {
			a := payment.Fen(1 + w.rnd.IntN(250))
			r.Amount = &a
		}
		_, err := s.AskRefund(ctx, r)
		w.check("ask "+no, err)
	}
}

// prepay asks for one of two trade types.
func (w *walk) prepay(s *order.Service, no string) {
	_, err := s.Prepay(w.ctx, order.PrepayRequest{OrderNo: no, CustomerID: "c", Cause: ordertest.Customer,
		TradeType: []payment.TradeType{payment.Native, payment.App}[w.rnd.IntN(2)]})
	w.check("prepay "+no, err)
}

// pay lets a buyer pay, now and then what WeChat Pay rules out, or by another app.
func (w *walk) pay(no string) {
	o, err := w.Find(w.ctx, no)
	if err != nil || len(o.Attempts) == 0 {
		return
	}
	out := o.Attempts[w.rnd.IntN(len(o.Attempts))].OutTradeNo
	w.mu.Lock()
	defer w.mu.Unlock()
	trade, err := w.WeChat.Pay(out, w.rnd.IntN(3) == 0)
	w.log = append(w.log, fmt.Sprintf("pay %s %s: %v", out, trade.TransactionID, err))
	if err != nil {
		return
	}
	trade.SuccessTime = w.Clock.Now()
	if w.rnd.IntN(6) == 0 {
		trade.AppID = "wx_other"
		w.WeChat.Put(trade)
	}
	w.trades[out] = trade
}

// timeouts is what the scheduler does; a process may die with its claims.
func (w *walk) timeouts(s *order.Service, no string) {
	ctx := w.ctx
	due := w.due()
	switch w.rnd.IntN(5) {
	case 0:
		w.check("expire "+no, s.Expire(ctx, no, ordertest.Scheduler))
	case 1:
		for _, err := range s.AwaitClose(ctx, due, ordertest.Scheduler) {
			w.check("await", err)
		}
	case 2:
		_, errs := s.ClaimDue(ctx, due, ordertest.Scheduler)
		w.check("claimed, and died", errors.Join(errs...))
	case 3:
		for _, err := range s.ExpireAll(ctx, due, ordertest.Scheduler, nil) {
			w.check("page", err)
		}
	case 4:
		asks, err := s.DueAsks(ctx, 100)
		w.check("asks", err)
		asks, err = s.ClaimAsks(ctx, asks)
		w.check("claim asks", err)
		w.note("asked: %v", s.AskPaid(ctx, asks, ordertest.Scheduler))
	}
}

// due is every order whose time has come.
func (w *walk) due() (due []order.Due) {
	for _, state := range []order.State{order.StatePending, order.StateClosing} {
		page, err := w.DueOrders(w.ctx, state, order.DueCursor{}, w.Clock.Now(), 1000)
		if err != nil && w.ctx.Err() == nil {
			w.t.Error(err)
		}
		due = append(due, page...)
	}
	return due
}

// refunds is what the worker and WeChat Pay do with refunds, also with those of others.
func (w *walk) refunds() {
	ctx := w.ctx
	switch w.rnd.IntN(5) {
	case 0, 1:
		if no := w.refund(); no != "" {
			w.check("turn "+no, w.Refund(ctx, no, ordertest.Scheduler))
		}
	case 2, 3:
		if no, ok := oneOf(w, w.WeChat.Refunds()); ok {
			r := w.WeChat.EndRefund(no, []payment.RefundStatus{payment.RefundSuccess, payment.RefundSuccess,
				payment.RefundClosed, payment.RefundAbnormal, payment.RefundProcessing}[w.rnd.IntN(5)])
			_, err := w.SettleRefund(ctx, r, ordertest.Notified)
			w.check("told "+no+" "+string(r.Status), err)
		}
	case 4:
		trades := w.paid()
		if out, ok := oneOf(w, trades); ok && w.rnd.IntN(4) == 0 {
			trade := trades[out]
			amount := 1 + payment.Fen(w.rnd.IntN(2))*(trade.Total-1)
			word := foreignRefund(w.Fixture, trade, fmt.Sprint(w.next()), amount)
			_, err := w.SettleRefund(ctx, word, ordertest.Notified)
			w.check("refunded elsewhere "+trade.TransactionID, err)
		}
	}
}

// people is what people decide.
func (w *walk) people(no string) {
	ctx := w.ctx
	who := []order.Cause{ordertest.Finance, ordertest.Finance2}[w.rnd.IntN(2)]
	trades := w.paid()
	out, paid := oneOf(w, trades)
	switch w.rnd.IntN(7) {
	case 0, 1:
		if no := w.refund(); no != "" {
			e := []order.RefundEvent{order.RefundEventApprove, order.RefundEventReject, order.RefundEventRetry,
				order.RefundEventCancel, order.RefundEventByHand}[w.rnd.IntN(5)]
			_, err := w.DecideRefund(ctx, order.RefundDecision{OutRefundNo: no, Event: e, Reason: "x", Cause: who})
			w.check(fmt.Sprintf("decide %s %s", no, e), err)
		}
	case 2:
		if paid {
			w.check("send back "+out, w.RefundHeld(ctx, trades[out].TransactionID, who))
		}
	case 3:
		if paid {
			_, err := w.JudgeHeld(ctx, trades[out].TransactionID, "mended", who)
			w.check("judge "+out, err)
		}
	case 4:
		_, err := w.VouchUnpaid(ctx, order.VouchRequest{OrderNo: no, Reason: "looked", Cause: who})
		w.check("vouch "+no, err)
	case 5:
		_, err := w.Sync(ctx, no, who)
		w.check("sync "+no, err)
	case 6:
		w.held(who)
	}
}

// held is what people decide about money that is held: a write-off by two in a row, now and then by one alone.
func (w *walk) held(who order.Cause) {
	ctx := w.ctx
	rows, _, err := w.ListHeld(ctx, "", 50)
	if w.check("list held", err); len(rows) == 0 {
		return
	}
	h, a := rows[w.rnd.IntN(len(rows))], order.HeldActions()[w.rnd.IntN(len(order.HeldActions()))]
	people := []order.Cause{who}
	if a == order.HeldWriteOff && w.rnd.IntN(4) > 0 {
		people = []order.Cause{ordertest.Finance, ordertest.Finance2}
	}
	for _, who := range people {
		done, err := w.ResolveHeld(ctx, order.ResolveHeld{TransactionID: h.TransactionID, Action: a, Reason: "x",
			Cause: who})
		w.check(fmt.Sprintf("resolve %s %s: %s", h.TransactionID, a, done.Outcome), err)
	}
}

// drain lets everything end: no more faults, every word is delivered, and people decide what waits for them. So many
// rounds have to be enough.
func (w *walk) drain() {
	ctx := w.ctx
	w.lose("")
	for range 80 {
		w.Clock.Advance(31 * time.Minute)
		for out, trade := range w.trades {
			_, err := w.Settle(ctx, trade, ordertest.Notified)
			w.check("drain: settle "+out, err)
			if _, err = w.JudgeHeld(ctx, trade.TransactionID, "mended", ordertest.Finance); err != nil {
				for _, who := range []order.Cause{ordertest.Finance, ordertest.Finance2} {
					w.check("drain: send back "+out, w.RefundHeld(ctx, trade.TransactionID, who))
				}
			}
		}
		for _, err := range w.ExpireAll(ctx, w.due(), ordertest.Scheduler, nil) {
			w.check("drain: page", err)
		}
		for no := range w.WeChat.Refunds() {
			_, err := w.SettleRefund(ctx, w.WeChat.EndRefund(no, payment.RefundSuccess), ordertest.Notified)
			w.check("drain: told "+no, err)
		}
		due, err := w.DueRefunds(ctx, order.DueCursor{}, w.Clock.Now(), 1000)
		w.check("drain", err)
		for _, d := range due {
			w.check("drain: turn "+d.Key, w.Refund(ctx, d.Key, ordertest.Scheduler))
		}
		w.decide()
		if w.t.Failed() {
			return
		}
	}
}

// decide is what people do with the refunds that wait for them.
func (w *walk) decide() {
	all, _, err := w.ListRefunds(w.t.Context(), order.RefundFilter{Limit: 200})
	w.check("drain", err)
	for _, r := range all {
		var events []order.RefundEvent
		switch r.State {
		case order.RefundStatePending:
			events = []order.RefundEvent{order.RefundEventApprove, order.RefundEventReject}
		case order.RefundStateRefused, order.RefundStateAbnormal:
			events = []order.RefundEvent{order.RefundEventByHand}
		case order.RefundStateRejected, order.RefundStateOwed, order.RefundStateProcessing,
			order.RefundStateSucceeded, order.RefundStateClosed, order.RefundStateCancelled, order.RefundStateByHand,
			order.RefundStateHeld:
		}
		for _, e := range events {
			for _, who := range []order.Cause{ordertest.Finance, ordertest.Finance2} {
				_, err := w.DecideRefund(w.t.Context(), order.RefundDecision{OutRefundNo: r.OutRefundNo, Event: e,
					Reason: "x", Cause: who})
				w.check(fmt.Sprintf("drain: %s %s", e, r.OutRefundNo), err)
			}
		}
	}
}

// ended fails the walk when an order is not at an end, or its timeline has grown with the asks.
func (w *walk) ended() {
	for _, no := range w.nos {
		o, err := w.Find(w.t.Context(), no)
		if err != nil {
			w.t.Fatal(err)
		}
		switch o.State {
		case order.StatePending, order.StateClosing, order.StateRefunding, order.StateLate:
			w.t.Errorf("%s is %s for ever: %+v %+v", no, o.State, o.Refunds, o.Attempts)
		case order.StateClosed, order.StatePaid, order.StateRefunded:
		}
		events, err := w.Timeline(w.t.Context(), no)
		unknown := 0
		for _, e := range events {
			if e.Event == "close.unknown" {
				unknown++
			}
		}
		if err != nil || unknown > 12 {
			w.t.Errorf("%s: %d events of asks that learned nothing: %v", no, unknown, err)
		}
	}
}

// seeds walks with n seeds, or with so many in a long test, each on an empty database of every engine.
// ORDERD_TEST_SEED, which a walk that fails has said, is walked alone.
func seeds(t *testing.T, n, more int, do func(t *testing.T, w *walk, seed uint64)) {
	n = long(n, more)
	base := uint64(time.Now().UnixNano()) // other walks each time
	if s := os.Getenv("ORDERD_TEST_SEED"); s != "" {
		base, _ = strconv.ParseUint(s, 10, 64)
		n = 1
	}
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		for seed := base; seed < base+uint64(n); seed++ {
			if seed > base {
				if db = sqldbtest.SQLite(t); strings.HasSuffix(t.Name(), "mariadb") {
					db = sqldbtest.MariaDB(t)
				}
			}
			t.Log("ORDERD_TEST_SEED", seed) // how far a long run is
			w := newWalk(t, db, seed)
			if do(t, w, seed); !t.Failed() {
				w.drain()
				w.verify()
				w.ended()
			}
			if t.Failed() {
				t.Fatalf("ORDERD_TEST_SEED=%d\n%s", seed, strings.Join(w.log[max(0, len(w.log)-60):], "\n"))
			}
		}
	})
}

// Whatever happens, in whatever order: every invariant holds on the way, and in the end every order is paid, closed or
// refunded.
func TestEverythingEnds(t *testing.T) {
	steps := long(300, 500)
	seeds(t, 3, 60, func(t *testing.T, w *walk, _ uint64) {
		for n := 0; n < steps && !t.Failed(); n++ {
			if w.step(); n%50 == 49 {
				w.verify()
			}
		}
	})
}

// crowdSize is how many walk at once, half of them in another process; at each beat all of them do something, most
// often to the same order.
const crowdSize = 6

// What two do at once is not what they do one after the other: several at the same few orders, people who hang up in
// the middle; in the long form with verify beside them. It ends as a walk does.
func TestEverythingEndsInACrowd(t *testing.T) {
	ends := map[string]map[string]int{}
	seeds(t, 1, 60, func(t *testing.T, w *walk, seed uint64) {
		if ends[t.Name()] == nil {
			ends[t.Name()] = map[string]int{}
		}
		w.crowd(seed, long(50, 150))
		for _, no := range w.nos {
			events, err := w.Timeline(t.Context(), no)
			w.check("timeline", err)
			for _, e := range events {
				ends[t.Name()][e.Event]++
			}
		}
	})
	for engine, events := range ends {
		t.Log(engine, events)
		for _, must := range []string{"payment.applied", "close.accepted", "refund.requested", "close.wanted"} {
			if longRun() && events[must] == 0 {
				t.Errorf("%s: no %s in all crowds: they do not get there", engine, must)
			}
		}
	}
}

// crowd does so many beats.
func (w *walk) crowd(seed uint64, beats int) {
	beside := w.Restarted(w.t, w.shape)
	members := make([]*walk, crowdSize)
	for i := range members {
		m := *w
		m.rnd = rand.New(rand.NewPCG(seed, uint64(100+i)))
		if i%2 == 1 {
			m.Fixture = beside
		}
		members[i] = &m
	}
	for beat := 0; beat < beats && !w.t.Failed(); beat++ {
		if had := len(w.nos); had < 2+beat/8 {
			if w.place(); len(w.nos) > had && w.rnd.IntN(4) > 0 { // most are on their way to be paid
				w.prepay(w.Service, w.nos[had])
			}
		}
		if len(w.nos) == 0 {
			continue
		}
		var all sync.WaitGroup
		no := w.young()
		for _, m := range members {
			all.Go(func() {
				defer m.hurry()()
				if m.rnd.IntN(3) == 0 {
					m.act(m.young())
				} else {
					m.act(no)
				}
			})
		}
		if beat%10 == 9 {
			if longRun() { // a clock that jumps by days beside a call is no clock that verify knows
				all.Go(w.verify)
			}
		}
		all.Wait()
	}
}

// hurry has one in six hang up within some milliseconds, in what is done until the func is called.
func (w *walk) hurry() (done func()) {
	was := w.ctx
	if w.rnd.IntN(6) > 0 {
		return func() {}
	}
	ctx, hangUp := context.WithTimeout(was, time.Duration(w.rnd.Int64N(int64(8*time.Millisecond))))
	w.ctx = ctx
	return func() {
		hangUp()
		w.ctx = was
	}
}
