package order_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/order/ordertest/model"
	"orderd/payment"
	"orderd/stock"
)

// shop is a service whose world behaves at random, and the model of every order
// in it. It lives longer than one sequence: a new database for each would cost
// more than the sequence.
type shop struct {
	*ordertest.Fixture
	t      *testing.T
	n      int // orders placed, ever
	counts map[string]int
}

// life is one order in a sequence, and what is known of it from outside.
type life struct {
	no, key  string
	quantity int64
	held     int64 // of it, by the last look
	model    *model.Order
	trades   map[string]payment.Trade // paid at WeChat
	refunds  map[string]bool
}

// sequence is one run of rapid.
type sequence struct {
	*shop
	rt    *rapid.T
	sku   string
	stock int64 // that there is in all
	lives []*life
	dies  string // "before" or "after": the process dies there in the next call to WeChat
	loses string
}

// Whatever is done to an order, in whatever order, with answers lost and the process killed between WeChat's answer and
// our commit: every state that is seen must be one that the answers allow, and every invariant must hold
// afterwards.
func TestServiceLives(t *testing.T) {
	for name, c := range map[string]struct {
		open    func(testing.TB) *sqldb.DB
		n, long int
	}{"sqlite": {sqldbtest.SQLite, 60, 500}, "mariadb": {sqldbtest.MariaDB, 15, 500}} {
		t.Run(name, func(t *testing.T) {
			sequences(t, c.n, c.long)
			s := &shop{t: t, counts: map[string]int{}, Fixture: ordertest.NewWith(t, c.open(t), func(c *order.Config) {
				byItself(c)
				c.Lanes = 1
			})}
			rapid.Check(t, func(rt *rapid.T) { s.sequence(rt) })
			t.Log(s.counts)
			for _, what := range []string{"closed", "paid", "refunded", "lost", "died"} {
				if s.counts[what] == 0 && name == "sqlite" && !raced { // fewer sequences may well miss one
					t.Errorf("no order was ever %s: the sequences do not get there", what)
				}
			}
		})
	}
}

func (s *shop) sequence(rt *rapid.T) {
	q := &sequence{shop: s, rt: rt, sku: fmt.Sprint("sku", s.n)}
	s.n++
	q.stock = rapid.Int64Range(2, 9).Draw(rt, "stock")
	s.SKU(s.t, q.sku, q.stock)
	s.WeChat.Before = func(op, _ string) error { return q.fault(op, "before") }
	s.WeChat.After = func(op, _ string) error { return q.fault(op, "after") }
	defer func() { s.WeChat.Before, s.WeChat.After = nil, nil }()
	pay := func(l *life) { q.prepay(l); q.buy(l); q.notify(l) }
	sendBack := func(l *life) { q.refund(l); q.work(l) }
	shut := func(l *life) { q.lose(l); q.cancel(l) } // WeChat's answer to the close is lost
	steps := []func(*life){q.prepay, q.buy, q.buy, q.notify, q.refund, q.work, q.work,
		q.settleRefund, q.settleRefund, q.settleRefund,
		pay, pay, pay, sendBack, sendBack, q.expire, q.expire, q.cancel, shut, shut, q.sync, q.wait, q.placeAgain,
		q.lose, q.lose, q.die}
	for range rapid.IntRange(20, 40).Draw(rt, "steps") {
		if len(q.lives) == 0 || (len(q.lives) < 3 && even(rt, "another", 8) == 7) {
			q.place()
			continue
		}
		l := q.lives[even(rt, "order", len(q.lives))]
		steps[even(rt, "step", len(steps))](l)
		q.look(l)
	}
	q.finish()
}

// even draws from 0 to n-1, all alike: rapid's own ranges prefer small numbers,
// and most sequences would never get past the first steps.
func even(rt *rapid.T, label string, n int) int {
	return rapid.Custom(func(rt *rapid.T) int {
		x := 0
		for _, b := range rapid.SliceOfN(rapid.Bool(), 8, 8).Draw(rt, "bits") {
			if x *= 2; b {
				x++
			}
		}
		return x * n / 256
	}).Draw(rt, label)
}

func (q *sequence) wait(*life) {
	q.Clock.Advance([]time.Duration{time.Second, time.Minute, 10 * time.Minute, time.Hour}[even(q.rt, "wait", 4)])
}

func (q *sequence) lose(*life) { q.loses = []string{"before", "after"}[even(q.rt, "loses", 2)] }

func (q *sequence) die(*life) { q.dies = []string{"before", "after"}[even(q.rt, "dies", 2)] }

// fault is what happens to a call to WeChat, once: its answer is lost, or the
// process dies: nothing that would come after runs any more.
func (q *sequence) fault(op, when string) error {
	switch when {
	case q.dies:
		q.dies = ""
		q.counts["died"]++
		runtime.Goexit()
	case q.loses:
		q.loses = ""
		q.counts["lost"]++
		return ordertest.ErrLost(op)
	}
	return nil
}

// do runs what may die, and reports that it did; then another process takes over.
func (q *sequence) do(f func(ctx context.Context)) (died bool) {
	died = true
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f(q.t.Context())
		died = false
	}()
	<-ended
	if died {
		q.Fixture = q.Restarted(q.t, func(c *order.Config) {
			byItself(c)
			c.Lanes = 1
		})
	}
	return died
}

func (q *sequence) must(err error) {
	q.rt.Helper()
	if err != nil {
		q.rt.Fatal(err)
	}
}

// told says to the model of an order how an operation ended: by its answer.
func (q *sequence) told(l *life, op model.Op, died bool, err error, state order.State) {
	var refused *order.RefusedError
	switch {
	case died:
		l.model.Unknown(op)
	case errors.As(err, &refused):
		q.must(l.model.Answered(op, refused.Order.State))
	case err != nil:
		l.model.Unknown(op)
	default:
		q.must(l.model.Answered(op, state))
	}
	for _, e := range []order.Event{order.EventCancel, order.EventExpire, order.EventRefund} {
		l.model.Cannot(e) // nothing is under way between two steps: the process is idle, or dead
	}
}

func (q *sequence) placement(l *life) order.Placement {
	return order.Placement{CustomerID: "c", RequestID: l.key, Lines: []stock.Line{{SkuID: q.sku, Quantity: l.quantity}}}
}

func (q *sequence) place() {
	l := &life{key: fmt.Sprintf("%s-%d", q.sku, len(q.lives)), quantity: rapid.Int64Range(1, 3).Draw(q.rt, "quantity"),
		model: model.New(), trades: map[string]payment.Trade{}, refunds: map[string]bool{}}
	op := l.model.Began(model.Place)
	placed, err := q.Place(q.t.Context(), q.placement(l))
	if short := new(order.InsufficientError); errors.As(err, &short) {
		if left := q.stock - q.held(); left >= l.quantity {
			q.rt.Fatalf("%d refused, %d are there", l.quantity, left)
		}
		q.must(l.model.Failed(op))
		q.counts["sold out"]++
		return
	}
	q.must(err)
	q.must(l.model.Answered(op, placed.Order.State))
	l.no = placed.Order.OrderNo
	q.lives = append(q.lives, l)
	q.look(l)
}

func (q *sequence) placeAgain(l *life) {
	placed, err := q.Place(q.t.Context(), q.placement(l))
	q.must(err)
	if !placed.Replayed || placed.Order.OrderNo != l.no {
		q.rt.Fatalf("another order for the same request: %+v", placed)
	}
}

func (q *sequence) prepay(l *life) {
	kind := rapid.SampledFrom([]payment.TradeType{payment.Native, payment.App}).Draw(q.rt, "type")
	op := l.model.Began(model.Get)
	died := q.do(func(ctx context.Context) {
		_, _ = q.Prepay(ctx, order.PrepayRequest{OrderNo: l.no, CustomerID: "c", TradeType: kind,
			Cause: ordertest.Customer})
	})
	_ = died
	l.model.Unknown(op)
}

// buy lets the buyer pay what is open at WeChat; now and then WeChat takes money for a closed trade.
func (q *sequence) buy(l *life) {
	attempts := q.find(l).Attempts
	if len(attempts) == 0 {
		return
	}
	no := rapid.SampledFrom(attempts).Draw(q.rt, "attempt").OutTradeNo
	if l.trades[no].TransactionID != "" {
		return
	}
	trade, err := q.WeChat.Pay(no, false)
	switch {
	case err == nil && q.find(l).State == order.StateClosed:
		q.rt.Fatalf("%s is closed, and WeChat takes money for it", no)
	case err == nil:
		l.model.Cannot(order.EventCloseDone) // a close cannot be proven any more
	case even(q.rt, "forced", 3) == 0:
		trade, err = q.WeChat.Pay(no, true)
	}
	if err == nil {
		l.trades[no] = trade
		l.model.May(order.EventPay) // from now on any query may find it
	}
}

func (q *sequence) trade(l *life) (payment.Trade, bool) {
	nos := slices.Sorted(maps.Keys(l.trades))
	if len(nos) == 0 {
		return payment.Trade{}, false
	}
	return l.trades[rapid.SampledFrom(nos).Draw(q.rt, "trade")], true
}

func (q *sequence) notify(l *life) {
	trade, ok := q.trade(l)
	if !ok {
		return
	}
	for range rapid.IntRange(1, 2).Draw(q.rt, "times") {
		op := l.model.Began(order.EventPay)
		s, err := q.Settle(q.t.Context(), trade, ordertest.Notified)
		q.must(err)
		q.must(l.model.Answered(op, s.State))
	}
}

func (q *sequence) cancel(l *life) {
	var o order.Order
	var err error
	op := l.model.Began(order.EventCancel)
	died := q.do(func(ctx context.Context) { o, err = q.Cancel(ctx, cancel(l.no)) })
	q.told(l, op, died, err, o.State)
}

func (q *sequence) expire(l *life) {
	var err error
	op := l.model.Began(order.EventExpire)
	died := q.do(func(ctx context.Context) { err = q.Expire(ctx, l.no, ordertest.Scheduler) })
	if errors.As(err, new(*order.NotDueError)) {
		q.must(l.model.Failed(op))
		return
	}
	if errors.As(err, new(*order.ClosingError)) {
		err = nil
	}
	q.told(l, op, died, err, model.Untold)
}

func (q *sequence) sync(l *life) {
	op := l.model.Began(model.Get)
	q.do(func(ctx context.Context) { _, _ = q.Sync(ctx, l.no, ordertest.Customer) })
	l.model.Unknown(op)
}

func (q *sequence) refund(l *life) {
	r := ordertest.Ask(l.no, fmt.Sprintf("%s-r%d", l.key, len(l.refunds)), 0)
	if n := rapid.Int64Range(0, 2).Draw(q.rt, "lines"); n > 0 {
		r.Lines = []stock.Line{{SkuID: q.sku, Quantity: n}}
	}
	op := l.model.Began(order.EventRefund)
	asked, err := q.AskRefund(q.t.Context(), r)
	var refused *order.RefusedError
	switch {
	case err == nil:
		l.refunds[asked.Refund.OutRefundNo] = true
		q.must(l.model.Answered(op, model.Untold))
	case errors.As(err, &refused):
		q.must(l.model.Answered(op, refused.Order.State))
	case errors.As(err, new(*order.RefundExceedsError)), errors.As(err, new(*order.ReturnExceedsError)):
		q.must(l.model.Failed(op))
	default:
		q.rt.Fatal(err)
	}
}

// open gives a refund of the order that has not ended, also those that are owed by themselves.
func (q *sequence) open(l *life) (order.Refund, bool) {
	var open []order.Refund
	for _, r := range q.find(l).Refunds {
		if r.State.Open() {
			open = append(open, r)
		}
	}
	if len(open) == 0 {
		return order.Refund{}, false
	}
	return rapid.SampledFrom(open).Draw(q.rt, "refund"), true
}

// work lets the worker look at a refund.
func (q *sequence) work(l *life) {
	r, ok := q.open(l)
	if !ok {
		return
	}
	if rapid.Bool().Draw(q.rt, "due") && r.DueAt.After(q.Clock.Now()) {
		q.Clock.Set(r.DueAt)
	}
	q.do(func(ctx context.Context) { _ = q.Refund(ctx, r.OutRefundNo, ordertest.Scheduler) })
}

// settleRefund ends a refund at WeChat, and perhaps tells us.
func (q *sequence) settleRefund(l *life) {
	r, ok := q.open(l)
	if _, known := q.WeChat.Refunds()[r.OutRefundNo]; !ok || !known {
		return
	}
	word := q.WeChat.EndRefund(r.OutRefundNo, rapid.SampledFrom([]payment.RefundStatus{
		payment.RefundSuccess, payment.RefundSuccess, payment.RefundClosed, payment.RefundAbnormal,
		payment.RefundProcessing}).Draw(q.rt, "end"))
	if rapid.Bool().Draw(q.rt, "told") {
		_, err := q.SettleRefund(q.t.Context(), word, ordertest.Notified)
		q.must(err)
	}
}

func (q *sequence) find(l *life) order.Order {
	o, err := q.Find(q.t.Context(), l.no)
	q.must(err)
	return o
}

// look compares what can be seen with what is possible: the state, and the stock.
func (q *sequence) look(l *life) {
	o := q.find(l)
	q.must(l.model.Observe(o.State))
	l.held = heldBy(o)
	if left := q.Available(q.t, q.sku); left != q.stock-q.held() {
		for _, l := range q.lives {
			o := q.find(l)
			q.rt.Logf("%s %s, %d of %d held, refunds %+v", l.no, o.State, l.held, l.quantity, o.Refunds)
		}
		q.rt.Fatalf("%d on the shelf, %d held, there were %d", left, q.held(), q.stock)
	}
}

func (q *sequence) held() (n int64) {
	for _, l := range q.lives {
		n += l.held
	}
	return n
}

// finish lets everything end: no more faults, the worker gets its turns, WeChat
// pays back what it has taken. Then WeChat's truth is the order's.
func (q *sequence) finish() {
	q.dies, q.loses = "", ""
	for _, l := range q.lives {
		for _, no := range slices.Sorted(maps.Keys(l.trades)) { // WeChat repeats until it is heard
			op := l.model.Began(order.EventPay)
			s, err := q.Settle(q.t.Context(), l.trades[no], ordertest.Notified)
			q.must(err)
			q.must(l.model.Answered(op, s.State))
		}
		for range 3 {
			q.Clock.Advance(time.Hour)
			q.expire(l)
		}
		q.endRefunds(l)
		q.look(l)
		o := q.find(l)
		q.counts[string(o.State)]++
		if cameLate(o) {
			q.counts["late"]++
		}
		if open := o.State == order.StatePending || o.State == order.StateClosing || o.State == order.StateRefunding ||
			o.State == order.StateLate; open {
			q.rt.Fatalf("%s did not end: %s", l.no, o.State)
		}
		for _, a := range o.Attempts {
			if trade, _ := q.WeChat.Trade(a.OutTradeNo); o.State == order.StateClosed &&
				trade.State == payment.TradeNotPay {
				q.rt.Fatalf("%s is closed, and WeChat would take money for it", a.OutTradeNo)
			}
		}
		if (o.State == order.StateClosed) != (len(l.trades) == 0) {
			q.rt.Fatalf("%s is %s, WeChat has %d payments of it", l.no, o.State, len(l.trades))
		}
	}
	r, err := q.Audit.Verify(context.Background(), nil)
	q.must(err)
	for _, c := range r.Checks {
		if c.Count > 0 {
			q.rt.Fatalf("%s: %v", c.ID, c.Violations)
		}
	}
}

func cameLate(o order.Order) bool {
	return slices.ContainsFunc(o.Refunds, func(r order.Refund) bool { return r.Reason == order.ReasonLate })
}

// heldBy is what the buyer of an order keeps: all of it less what refunds returned.
func heldBy(o order.Order) int64 {
	if o.State == order.StateClosed || cameLate(o) {
		return 0
	}
	n := o.Items[0].Quantity
	for _, r := range o.Refunds {
		for _, it := range r.Items {
			if r.State.PaidBack() && r.Restock {
				n -= it.Quantity
			}
		}
	}
	return n
}

// maxTurns bounds the turns that a refund needs to end: a lost call, spacing, a
// closed number and its successor, and the polls between.
const maxTurns = 40

func (q *sequence) endRefunds(l *life) {
	for range maxTurns {
		busy := false
		for _, r := range q.find(l).Refunds {
			if !r.State.Open() {
				continue
			}
			busy = true
			if r.State == order.RefundStatePending { // held back: WeChat Pay speaks of money that went back
				if _, err := q.DecideRefund(q.t.Context(), order.RefundDecision{OutRefundNo: r.OutRefundNo,
					Event: order.RefundEventApprove, Reason: "seen", Cause: ordertest.Finance}); err != nil {
					q.rt.Fatal(err)
				}
				continue
			}
			if _, known := q.WeChat.Refunds()[r.OutRefundNo]; known {
				q.WeChat.EndRefund(r.OutRefundNo, payment.RefundSuccess)
			}
			if r.DueAt.After(q.Clock.Now()) {
				q.Clock.Set(r.DueAt)
			}
			if err := q.Refund(q.t.Context(), r.OutRefundNo, ordertest.Scheduler); err != nil &&
				!errors.As(err, new(*order.NotDueError)) {
				q.rt.Fatal(err)
			}
		}
		if !busy {
			return
		}
	}
	q.rt.Fatalf("refunds of %s do not end: %+v", l.no, q.find(l).Refunds)
}
