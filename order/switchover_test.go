package order_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/migrations/sqldb/sqldbtest/servers"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/stock"
)

// must runs statements on a server, of which a later one needs the earlier ones.
func must(t *testing.T, on *servers.MariaDB, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if err := on.Exec(t.Context(), s); err != nil {
			t.Fatal(s, err)
		}
	}
}

// shoppers are buyers during a switchover, each of whom does the next thing when the last one was answered, and repeats
// what could not be done as the API says: the same request, with the same key.
type shoppers struct {
	*ordertest.Fixture
	over   atomic.Bool
	moved  atomic.Pointer[time.Time] // since when the new primary takes writes
	begun  atomic.Int64              // visits
	late   atomic.Int64              // visits begun more than shownWithin after the switch, and ended
	paid   atomic.Int64
	stale  atomic.Int64 // the worst: for how long after the switch somebody was shown what was so before it
	failed sync.Map
}

// What the switchover may cost: after shownWithin nobody is shown what was so before it, and what began after it is not
// refused more often than a buyer repeats it.
const (
	shownWithin = 5 * time.Second
	mostRepeats = 5
)

// again does something until it is done. Before the new primary takes writes it may be refused for as long as that
// takes, and afterwards no more than a few times.
func (c *shoppers) again(what string, do func() error) bool {
	for refused := 0; ; time.Sleep(20 * time.Millisecond) { // of a buyer
		moved := c.moved.Load() != nil
		err := do()
		switch {
		case err == nil:
			return true
		case !errors.Is(err, sqldb.ErrUnavailable) && !errors.Is(err, sqldb.ErrUnknown):
			c.failed.Store(what, err)
			return false
		case moved:
			refused++
		}
		if refused > mostRepeats {
			c.failed.Store(what, err)
			return false
		}
	}
}

// shown reads an order as its buyer until it is shown in a state that he was told. Only in the seconds after the switch
// may it be another; that it is not there is never said.
func (c *shoppers) shown(customer, no string, want order.State) {
	for ok := false; !ok; time.Sleep(5 * time.Millisecond) { // of a buyer
		begin := time.Now()
		var got order.Order
		if !c.again("find "+customer, func() (err error) {
			got, err = c.FindOwn(context.Background(), customer, no)
			return err
		}) {
			return
		}
		moved := c.moved.Load()
		switch ok = got.State == want; {
		case ok:
		case moved == nil || begin.Sub(*moved) > shownWithin:
			c.failed.Store("shown "+customer, fmt.Errorf("%s is %s and shown as %s", no, want, got.State))
			return
		default:
			c.stale.Store(max(c.stale.Load(), int64(time.Since(*moved))))
		}
	}
}

// visits is a buyer: he places an order and looks at it, asks for a QR code and then for WeChat itself, by which the
// first number is closed, and pays, or cancels. Every order is half of one visit and half of the next, so that the
// switch comes in the middle of it.
func (c *shoppers) visits(buyer int) {
	type visit struct{ customer, no string }
	var last visit
	for i := 0; !c.over.Load(); i++ {
		c.begun.Add(1)
		moved := c.moved.Load()
		late := moved != nil && time.Since(*moved) > shownWithin
		ctx, v := context.Background(), visit{customer: fmt.Sprintf("b%d-%d", buyer, i)}
		if !c.again("place "+v.customer, func() error {
			o, err := c.Place(ctx, order.Placement{CustomerID: v.customer, RequestID: "once",
				Lines: []stock.Line{{SkuID: "mug", Quantity: 1}}})
			v.no = o.Order.OrderNo
			return err
		}) {
			continue
		}
		c.shown(v.customer, v.no, order.StatePending)
		for _, by := range []payment.TradeType{payment.Native, payment.App} {
			c.again("prepay "+v.customer, func() error {
				_, err := c.Prepay(ctx, order.PrepayRequest{OrderNo: v.no, CustomerID: v.customer, TradeType: by,
					Cause: causeOf(v.customer)})
				return err
			})
		}
		if last.no != "" {
			c.ends(last.customer, last.no, i%3 == 0)
		}
		if last = v; late {
			c.late.Add(1)
		}
	}
}

// causeOf is a request of a customer.
func causeOf(customer string) order.Cause {
	return order.Cause{Actor: order.Actor{Type: order.ActorCustomer, ID: customer}, Type: "request", ID: "r"}
}

// ends pays or cancels the order of an earlier visit.
func (c *shoppers) ends(customer, no string, pays bool) {
	ctx := context.Background()
	if !pays {
		state := order.State("")
		if c.again("cancel "+customer, func() error {
			o, err := c.Cancel(ctx, order.CancelRequest{OrderNo: no, CustomerID: customer, Cause: causeOf(customer)})
			state = o.State
			return err
		}) && state == order.StateClosed {
			c.shown(customer, no, state)
		}
		return
	}
	trade, err := c.WeChat.Pay(no+"-02", false)
	if err != nil {
		c.failed.Store("pay "+customer, err)
		return
	}
	if c.again("settle "+customer, func() error { _, err := c.Settle(ctx, trade, ordertest.Notified); return err }) {
		c.paid.Add(1)
		c.shown(customer, no, order.StatePaid)
	}
}

// A DSN that names both servers needs no address that moves. A switchover as docs/operations.md has it, while buyers
// place orders, look at them, pay and cancel: a connection to a server that takes no writes any more is left, and the
// next one is made to the other server. No placement fails, everybody sees his own order as it is five seconds later,
// and nothing is decided by what the old primary still says: what is closed can be paid no more.
func TestSwitchoverFailsNoPlacement(t *testing.T) {
	primary, replica := sqldbtest.Replicated(t, false)
	must(t, replica, "SET GLOBAL read_only = ON")
	if err := primary.Create(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	must(t, primary, "CREATE USER shop@'%'", "GRANT ALL ON shop.* TO shop@'%'")
	db := sqldbtest.Open(t, "mysql:shop@tcp("+replica.Addr+","+primary.Addr+")/shop")
	c := &shoppers{Fixture: ordertest.New(t, db)}
	c.SKU(t, "mug", 100_000)
	var buyers sync.WaitGroup
	for b := range 4 {
		buyers.Go(func() { c.visits(b) })
	}
	reach := func(what string, n *atomic.Int64, least int64) {
		t.Helper()
		for begin := time.Now(); n.Load() < least; time.Sleep(5 * time.Millisecond) {
			if time.Since(begin) > time.Minute {
				t.Errorf("%d %s in a minute", n.Load(), what)
				return
			}
		}
	}
	reach("visits", &c.begun, 50)
	must(t, primary, "SET GLOBAL read_only = ON")
	place, err := primary.Place(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	must(t, replica, "DO MASTER_GTID_WAIT('"+place+"', 60)", "STOP SLAVE", "RESET SLAVE ALL",
		"SET GLOBAL read_only = OFF")
	now := time.Now()
	c.moved.Store(&now)
	reach("visits long after the switch", &c.late, 40)
	c.over.Store(true)
	buyers.Wait()
	c.failed.Range(func(what, err any) bool {
		t.Errorf("%s: %v", what, err)
		return true
	})
	t.Logf("%d orders, %d of them paid; shown as before it for %s", c.begun.Load(), c.paid.Load(),
		time.Duration(c.stale.Load()))
	c.judged(t, db)
}

// judged holds every order against WeChat Pay, when those that were closing have had their turn.
func (c *shoppers) judged(t *testing.T, db *sqldb.DB) {
	t.Helper()
	c.Clock.Advance(time.Minute)
	for _, err := range c.ExpireAll(t.Context(), dueOf(t, c.Fixture, order.StateClosing), ordertest.Scheduler, nil) {
		if err != nil {
			t.Error(err)
		}
	}
	orders, err := sqldb.Decided(t.Context(), db, "SELECT CONCAT(order_no, ' ', state) FROM orders", nil,
		sqldb.Column[string])
	if err != nil || int64(len(orders)) != c.begun.Load() {
		t.Fatalf("%d orders of %d visits: %v", len(orders), c.begun.Load(), err)
	}
	on, paid := int64(100_000), int64(0)
	for _, o := range orders {
		no, state, _ := strings.Cut(o, " ")
		first, _ := c.WeChat.Trade(no + "-01")
		second, _ := c.WeChat.Trade(no + "-02")
		want := map[order.State]payment.TradeState{order.StatePending: payment.TradeNotPay,
			order.StatePaid: payment.TradeSuccess, order.StateClosed: payment.TradeClosed}[order.State(state)]
		if first.State != payment.TradeClosed || second.State != want {
			t.Errorf("%s is %s, at WeChat Pay %s and %s", no, state, first.State, second.State)
		}
		if order.State(state) == order.StatePaid {
			paid++
		}
		if order.State(state) != order.StateClosed {
			on--
		}
	}
	if left := c.Available(t, "mug"); left != on || paid != c.paid.Load() {
		t.Errorf("%d of %d on the shelf, %d of %d paid", left, on, paid, c.paid.Load())
	}
}
