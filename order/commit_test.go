package order_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/migrations/sqldb/sqldbtest/faultproxy"
	"orderd/migrations/sqldb/sqldbtest/servers"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/stock"
)

// harm is what happens to one COMMIT of a flow, and how often to each flow in a
// normal run and in a long one (ORDERD_TEST_LONG=1): its COMMITs take turns, of
// which there are six at most. What stalls costs two seconds each.
type harm struct {
	mode    faultproxy.Mode
	all     bool // every COMMIT of the call, until it gives up and says that it does not know
	gone    bool // no COMMIT is sent: the database is away from that moment on
	n, long int
}

func (h harm) String() string {
	switch {
	case h.all:
		return "every " + string(h.mode)
	case h.gone:
		return "database away"
	}
	return string(h.mode)
}

var harms = []harm{
	{mode: faultproxy.CutBefore, n: 36, long: 600}, {mode: faultproxy.CutAfter, n: 36, long: 600},
	{mode: faultproxy.Stall, n: 6, long: 100}, {mode: faultproxy.Late, n: 6, long: 100},
	{mode: faultproxy.CutBefore, all: true, n: 4, long: 40}, {mode: faultproxy.CutAfter, all: true, n: 4, long: 40},
	{gone: true, n: 6, long: 40},
}

// flow is a way that ends in a COMMIT to be harmed: hurt is called right before it.
type flow struct {
	name string
	walk func(w *wreck, key string)
}

// The flows: every COMMIT of every one.
var flows = []struct {
	name    string
	commits []flow
}{
	{"place", []flow{{"place", (*wreck).place}}},
	{"prepay", []flow{{"intent", func(w *wreck, key string) { w.prepay(key, "") }},
		{"answer", func(w *wreck, key string) { w.prepay(key, "prepay") }}}},
	{"settle", []flow{{"settle", (*wreck).settle}}},
	{"close", []flow{
		{"cancel, closing", func(w *wreck, key string) { w.cancel(key, "") }},
		{"cancel, closed", func(w *wreck, key string) { w.cancel(key, "close") }},
		{"expire, closing", func(w *wreck, key string) { w.expire(key, "", nil) }},
		{"expire, closed", func(w *wreck, key string) { w.expire(key, "close", nil) }},
		{"expire, no answer", func(w *wreck, key string) { w.expire(key, "query", ordertest.ErrLost("query")) }},
		{"expire, paid", func(w *wreck, key string) { w.expirePaid(key) }},
	}},
	{"refund", []flow{
		{"ask", func(w *wreck, key string) { w.refund(key, "ask") }},
		{"turn", func(w *wreck, key string) { w.refund(key, "turn") }},
		{"answer", func(w *wreck, key string) { w.refund(key, "answer") }},
		{"word", func(w *wreck, key string) { w.refund(key, "word") }},
	}},
}

// wreck is a service on a database of its own, behind a proxy that harms COMMITs.
type wreck struct {
	*ordertest.Fixture
	t     *testing.T
	proxy *faultproxy.Proxy
	harm  harm
	told  map[string]int // what the callers of harmed calls were told
}

// A COMMIT whose answer is lost is done, not done, or done later, and the caller cannot tell. In each flow, at each of
// its COMMITs: nothing twice, nothing lost, what the caller was told is true, and the same call again finds out.
func TestEveryFlowSurvivesLostCommits(t *testing.T) {
	server := sqldbtest.MariaDBServer(t)
	long, shops := longRun(), 16 // they mostly wait: for COMMITs that are never answered
	if long {
		shops = 40
	}
	toll, jobs := newToll(long)
	var wg sync.WaitGroup
	for i := range shops {
		wg.Go(func() {
			t.Run(fmt.Sprint("shop", i), func(t *testing.T) {
				w := newWreck(t, server, fmt.Sprint("shop", i))
				for j := range jobs {
					before := w.proxy.Hits(j.mode)
					w.harm, w.told = j.harm, map[string]int{}
					j.walk(w, j.key)
					if j.gone {
						before--
					}
					toll.add(j.toll, w.proxy.Hits(j.mode)-before, w.told)
				}
			})
		})
	}
	wg.Wait()
	for _, c := range toll.order {
		t.Logf("%-7s %-25s %4d COMMITs met, callers were told %v", c.flow, c.harm, c.hits, c.told)
		if c.hits < c.want {
			t.Errorf("%s, %s: %d of %d COMMITs were met", c.flow, c.harm, c.hits, c.want)
		}
	}
}

type job struct {
	harm
	toll *flowToll
	key  string
	walk func(w *wreck, key string)
}

// toll counts what was harmed, by flow and harm.
type toll struct {
	mu    sync.Mutex
	order []*flowToll
}

type flowToll struct {
	flow, harm string
	want, hits int
	told       map[string]int
}

func newToll(long bool) (*toll, <-chan job) {
	a := &toll{}
	var jobs []job
	for _, h := range harms {
		for _, f := range flows {
			c := &flowToll{flow: f.name, harm: h.String(), want: h.n, told: map[string]int{}}
			if long {
				c.want = h.long
			}
			a.order = append(a.order, c)
			for i := range c.want {
				jobs = append(jobs, job{h, c, fmt.Sprintf("%s-%d", f.name, len(jobs)),
					f.commits[i%len(f.commits)].walk})
			}
		}
	}
	queue := make(chan job, len(jobs))
	for _, j := range jobs {
		queue <- j
	}
	close(queue)
	return a, queue
}

func (a *toll) add(c *flowToll, hits int, told map[string]int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c.hits += min(hits, 1) // of a call all of whose COMMITs are harmed too
	for what, n := range told {
		c.told[what] += n
	}
}

func newWreck(t *testing.T, server *servers.MariaDB, name string) *wreck {
	t.Helper()
	if err := server.Create(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	proxy, err := faultproxy.NewMySQL(server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	f := ordertest.NewWith(t, sqldbtest.Open(t, server.TCPDSN(proxy.Addr(), name)), func(c *order.Config) {
		byItself(c)
		c.RefundSpacing = -1
	})
	f.SKU(t, "mug", 100_000)
	return &wreck{Fixture: f, t: t, proxy: proxy}
}

// hurt harms the next COMMIT.
func (w *wreck) hurt() {
	switch {
	case w.harm.gone:
		w.proxy.Down(true)
	case w.harm.all:
		w.proxy.Every(1, w.harm.mode)
	default:
		w.proxy.Next(w.harm.mode)
	}
}

// hurtAt harms the COMMIT after WeChat is called, which gives the answer.
func (w *wreck) hurtAt(op string, answer error) {
	w.WeChat.Before = func(called, _ string) error {
		if called != op {
			return nil
		}
		w.WeChat.Before = nil
		w.hurt()
		return answer
	}
}

// call makes a harmed call and compares its answer with the database, where done
// looks. After any answer but success the caller calls again with the same key;
// after "later" the scheduler does the rest.
func (w *wreck) call(do func() error, done func() bool) {
	w.t.Helper()
	err := do()
	w.proxy.Every(0, faultproxy.Pass)
	w.proxy.Down(false)
	switch there := done(); {
	case err == nil:
		w.told["done"]++
		if !there {
			w.t.Error("told done, and it is not there")
		}
	case errors.As(err, new(*order.NotDueError)), errors.As(err, new(*order.ClosingError)):
		w.told["later"]++
		return
	case errors.Is(err, sqldb.ErrUnknown):
		w.told["unknown"]++
	case errors.Is(err, sqldb.ErrUnavailable):
		w.told["not done"]++
		if there {
			w.t.Error("told not done, and it is there")
		}
	}
	for try := 0; err != nil; try++ {
		if try == 5 || !errors.Is(err, sqldb.ErrUnavailable) {
			w.t.Fatal(err)
		}
		err = do()
		if errors.As(err, new(*order.NotDueError)) {
			return
		}
	}
	if !done() {
		w.t.Error("told done at last, and it is not there")
	}
}

// is fails the test unless a count of rows is n.
func (w *wreck) is(n int64, query string, args ...any) {
	w.t.Helper()
	if got := w.count(query, args...); got != n {
		w.t.Errorf("%d, want %d: %s %v", got, n, query, args)
	}
}

func (w *wreck) count(query string, args ...any) (n int64) {
	w.t.Helper()
	if err := w.DB.QueryRowContext(w.t.Context(), query, args...).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

func (w *wreck) shelfIs(n int64) {
	w.t.Helper()
	if got := w.Available(w.t, "mug"); got != n {
		w.t.Errorf("%d on the shelf, want %d", got, n)
	}
}

func (w *wreck) place(key string) {
	shelf := w.Available(w.t, "mug")
	var no string
	do := func() error {
		placed, err := w.Place(w.t.Context(), order.Placement{CustomerID: "c", RequestID: key,
			Lines: []stock.Line{{SkuID: "mug", Quantity: 1}}})
		no = placed.Order.OrderNo
		return err
	}
	const orders = "SELECT COUNT(*) FROM orders WHERE request_id = ?"
	w.hurt()
	w.call(do, func() bool { return w.count(orders, key) == 1 })
	told := no
	if err := do(); err != nil || no != told {
		w.t.Errorf("told %s, and %s when asked again (%v)", told, no, err)
	}
	w.is(1, orders, key)
	w.shelfIs(shelf - 1)
}

// prepay harms the COMMIT of the intent, or of the answer.
func (w *wreck) prepay(key, at string) {
	o := w.PlaceOne(w.t, key, "mug", 1)
	if at == "" {
		w.hurt()
	} else {
		w.hurtAt(at, nil)
	}
	const live = "SELECT COUNT(*) FROM payment_attempts WHERE state = 'live' AND order_no = ?"
	w.call(func() error {
		_, err := w.Prepay(w.t.Context(), order.PrepayRequest{OrderNo: o.OrderNo, CustomerID: "c",
			TradeType: payment.Native, Cause: ordertest.Customer})
		return err
	}, func() bool { return w.count(live, o.OrderNo) == 1 })
	w.is(1, "SELECT COUNT(*) FROM payment_attempts WHERE order_no = ?", o.OrderNo)
	if trade, ok := w.WeChat.Trade(o.OrderNo + "-01"); !ok || trade.State != payment.TradeNotPay {
		w.t.Errorf("WeChat: %+v", trade)
	}
}

func (w *wreck) settle(key string) {
	o := w.PlaceOne(w.t, key, "mug", 1)
	trade, err := w.WeChat.Pay(w.Prepaid(w.t, o.OrderNo), false)
	if err != nil {
		w.t.Fatal(err)
	}
	w.hurt()
	w.call(func() error {
		_, err := w.Settle(w.t.Context(), trade, ordertest.Notified)
		return err
	}, func() bool { return w.State(w.t, o.OrderNo) == order.StatePaid })
	if s, err := w.Settle(w.t.Context(), trade, ordertest.Notified); err != nil || s.Settled != order.SettledRepeated {
		w.t.Error(s, err)
	}
	w.is(1, "SELECT COUNT(*) FROM payments WHERE order_no = ?", o.OrderNo)
	w.is(1, "SELECT COUNT(*) FROM order_events WHERE event = 'payment.applied' AND order_no = ?", o.OrderNo)
}

// cancel harms the COMMIT of closing, or of closed.
func (w *wreck) cancel(key, at string) {
	shelf := w.Available(w.t, "mug")
	o := w.PlaceOne(w.t, key, "mug", 1)
	w.Prepaid(w.t, o.OrderNo)
	if at == "" {
		w.hurt()
	} else {
		w.hurtAt(at, nil)
	}
	said := order.StateClosing
	w.call(func() error {
		now, err := w.Cancel(w.t.Context(), cancel(o.OrderNo))
		said = now.State
		return err
	}, func() bool {
		state := w.State(w.t, o.OrderNo)
		return state == order.StateClosed || state == order.StateClosing && said != order.StateClosed
	})
	w.ends(o.OrderNo, order.StateClosed)
	w.shelfIs(shelf)
}

// expire harms the COMMIT of closing, or the one after WeChat is called.
func (w *wreck) expire(key, at string, answer error) {
	shelf := w.Available(w.t, "mug")
	o := w.PlaceOne(w.t, key, "mug", 1)
	w.Prepaid(w.t, o.OrderNo)
	w.Clock.Advance(time.Hour)
	if at == "" {
		w.hurt()
	} else {
		w.hurtAt(at, answer)
	}
	w.call(func() error { return w.Expire(w.t.Context(), o.OrderNo, ordertest.Scheduler) },
		func() bool { return w.State(w.t, o.OrderNo) == order.StateClosed })
	w.ends(o.OrderNo, order.StateClosed)
	w.shelfIs(shelf)
}

// expirePaid harms the COMMIT of the money that the close finds at WeChat.
func (w *wreck) expirePaid(key string) {
	shelf := w.Available(w.t, "mug")
	o := w.PlaceOne(w.t, key, "mug", 1)
	if _, err := w.WeChat.Pay(w.Prepaid(w.t, o.OrderNo), false); err != nil {
		w.t.Fatal(err)
	}
	w.Clock.Advance(time.Hour)
	w.hurtAt("query", nil)
	w.call(func() error { return w.Expire(w.t.Context(), o.OrderNo, ordertest.Scheduler) },
		func() bool { return w.State(w.t, o.OrderNo) == order.StatePaid })
	w.ends(o.OrderNo, order.StatePaid)
	w.shelfIs(shelf - 1)
	w.is(1, "SELECT COUNT(*) FROM payments WHERE order_no = ?", o.OrderNo)
}

// ends does what the scheduler does until the order has its end, once.
func (w *wreck) ends(orderNo string, end order.State) {
	w.t.Helper()
	for try := 0; w.State(w.t, orderNo) != end; try++ {
		if try == 10 {
			w.t.Fatalf("%s does not become %s", w.State(w.t, orderNo), end)
		}
		w.Clock.Advance(time.Hour)
		if err := w.Expire(w.t.Context(), orderNo, ordertest.Scheduler); err != nil {
			w.t.Error(err)
		}
	}
	w.is(1, "SELECT COUNT(*) FROM order_events WHERE to_state = ? AND from_state <> to_state AND order_no = ?",
		string(end), orderNo)
}

// refund harms one of the COMMITs of a refund: it is asked for, a worker claims it,
// WeChat's answer is stored, the notification of its end is taken in.
func (w *wreck) refund(key, at string) {
	o := w.PaidOne(w.t, key, "mug", 2)
	shelf := w.Available(w.t, "mug")
	if at == "ask" {
		w.hurt()
	}
	var no string
	w.call(func() error {
		asked, err := w.AskRefund(w.t.Context(), ordertest.Ask(o.OrderNo, key, 1))
		no = asked.Refund.OutRefundNo
		return err
	}, func() bool { return w.count("SELECT COUNT(*) FROM refunds WHERE order_no = ?", o.OrderNo) == 1 })
	switch at {
	case "turn":
		w.hurt()
	case "answer":
		w.hurtAt("refund", nil)
	}
	w.call(func() error { return w.Refund(w.t.Context(), no, ordertest.Scheduler) },
		func() bool { return w.RefundState(w.t, no) != order.RefundStateOwed })
	for w.RefundState(w.t, no) == order.RefundStateOwed {
		w.MustLookAtRefund(w.t, no)
	}
	word := w.WeChat.EndRefund(no, payment.RefundSuccess)
	if at == "word" {
		w.hurt()
	}
	w.call(func() error {
		_, err := w.SettleRefund(w.t.Context(), word, ordertest.Notified)
		return err
	}, func() bool { return w.RefundState(w.t, no) == order.RefundStateSucceeded })
	if again, err := w.AskRefund(w.t.Context(), ordertest.Ask(o.OrderNo, key, 1)); err != nil || !again.Replayed ||
		again.Refund.OutRefundNo != no {
		w.t.Errorf("asked again: %+v, %v", again, err)
	}
	w.is(1, "SELECT COUNT(*) FROM refunds WHERE order_no = ?", o.OrderNo)
	w.shelfIs(shelf + 1)
	back := 0
	for _, r := range w.WeChat.Refunds() {
		if r.OutTradeNo == o.OrderNo+"-01" {
			back++
		}
	}
	if back != 1 {
		w.t.Errorf("%d refunds at WeChat", back)
	}
}
