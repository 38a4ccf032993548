package order_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"orderd/cmd/orderd/console"
	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/migrations/sqldb/sqldbtest/faultproxy"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/payment/operators"
	"orderd/scheduler"
	"orderd/stock"
)

// lossy gives a database whose next COMMIT is done and not answered, after lose.
func lossy(t *testing.T) (db *sqldb.DB, lose func()) {
	t.Helper()
	server := sqldbtest.MariaDBServer(t)
	if err := server.Create(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	proxy, err := faultproxy.NewMySQL(server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	return sqldbtest.Open(t, server.TCPDSN(proxy.Addr(), "shop")), func() { proxy.Next(faultproxy.CutAfter) }
}

// A COMMIT whose answer was lost is run again, and finds its own work. Taken for somebody else's, an operator is told
// that the SKU was changed meanwhile or that the name is taken (and never sees the token's secret), a failure counts
// twice, a cancel with If-Match is refused, and nobody asks WeChat Pay although this caller has the turn.
func TestRepeatsKnowTheirOwnWork(t *testing.T) {
	db, lose := lossy(t)
	f := ordertest.NewUnverified(t, db, byItself)
	now := f.Clock.Now
	f.SKU(t, "mug", 9)

	lose()
	sku, created, err := f.Admin.Put(t.Context(), stock.Put{SkuID: "mug", Title: "new", PriceFen: 100, IfVersion: 1})
	if err != nil || created || sku.Version != 2 || sku.Title != "new" {
		t.Errorf("put: %+v, %v", sku, err)
	}
	lose()
	five := int64(5)
	sku, created, err = f.Admin.Put(t.Context(), stock.Put{SkuID: "cup", Title: "cup", PriceFen: 100, Quantity: &five})
	if err != nil || !created || sku.Version != 1 || sku.Available != 5 {
		t.Errorf("made: %+v, %t, %v", sku, created, err)
	}
	lose()
	moved, err := f.Admin.Replenish(t.Context(), stock.Change{SkuID: "cup", Delta: 2, Key: "k", Reason: "x"})
	if err != nil || moved.Replayed || moved.After == nil || *moved.After != 7 || moved.SKU.Available != 7 {
		t.Errorf("replenish: %+v, %v", moved, err)
	}

	dead := scheduler.NewDeadLetters(db, now)
	lose()
	if _, err := dead.Record(t.Context(), []scheduler.Failure{
		{Type: "order:expire", Key: "x", Cause: errors.New("c")}}); err != nil {
		t.Error(err)
	}
	if page, _, err := dead.List(t.Context(), scheduler.Filter{}, "", 9); err != nil || len(page) != 1 ||
		page[0].Tried != 1 {
		t.Errorf("one failure is counted as %+v, %v", page, err)
	}
	lose()
	if n, err := dead.Discard(t.Context(), scheduler.Filter{}); n != 1 || err != nil {
		t.Errorf("discard: %d, %v", n, err)
	}

	tokens := console.NewTokenStore(db, now)
	for what, do := range map[string]func() error{
		"token": func() error { _, err := tokens.Create(t.Context(), "ann", operators.Viewer, "root"); return err },
		"account": func() error {
			return operators.Create(t.Context(), db, "bob", operators.Viewer, "root", now())
		},
	} {
		if lose(); do() != nil {
			t.Errorf("%s: taken for somebody else's", what)
		}
	}
	if lose(); tokens.Revoke(t.Context(), "ann") != nil {
		t.Error("revoke: taken for somebody else's")
	}
	if lose(); operators.Disable(t.Context(), db, "bob", "root", now()) != nil {
		t.Error("disable: taken for somebody else's")
	}
}

// The same for orders: the turn that was committed without an answer is this caller's.
func TestRepeatsKnowTheirOwnOrders(t *testing.T) {
	db, lose := lossy(t)
	f := ordertest.NewWith(t, db, byItself)
	f.SKU(t, "mug", 90)
	a, b, c := f.PlaceOne(t, "a", "mug", 1), f.PlaceOne(t, "b", "mug", 1), f.PlaceOne(t, "c", "mug", 1)
	reopened(t, f, a.OrderNo)
	lose()
	got, err := f.Cancel(t.Context(), order.CancelRequest{OrderNo: a.OrderNo, IfVersion: version(t, f, a.OrderNo),
		Cause: ordertest.Customer})
	if err != nil || got.State != order.StateClosed {
		t.Errorf("cancel: %s, %v", got.State, err)
	}
	shut(t, f, a.OrderNo)
	f.Clock.Set(b.DueAt)
	lose()
	if err := f.Expire(t.Context(), b.OrderNo, ordertest.Scheduler); err != nil ||
		f.State(t, b.OrderNo) != order.StateClosed {
		t.Errorf("expire: %s, %v", f.State(t, b.OrderNo), err)
	}
	lose()
	claims, errs := f.ClaimDue(t.Context(), dueOf(t, f, order.StatePending), ordertest.Scheduler)
	if len(claims) != 1 || claims[0].Key != c.OrderNo {
		t.Fatal(claims, errs)
	}
	lose()
	if errs := f.CloseClaimed(t.Context(), claims, ordertest.Scheduler); errs[0] != nil ||
		f.State(t, c.OrderNo) != order.StateClosed {
		t.Errorf("page: %s, %v", f.State(t, c.OrderNo), errs)
	}
	paid := f.PaidOne(t, "d", "mug", 2)
	row := f.MustAsk(t, ordertest.Ask(paid.OrderNo, "back", 1))
	lose()
	err = f.Service.Refund(t.Context(), row.OutRefundNo, ordertest.Scheduler)
	if err != nil || f.WeChat.Refunded != 1 {
		t.Errorf("sent %d times, %v", f.WeChat.Refunded, err)
	}
}

func version(t *testing.T, f *ordertest.Fixture, orderNo string) int64 {
	t.Helper()
	o, err := f.Find(t.Context(), orderNo)
	if err != nil {
		t.Fatal(err)
	}
	return o.Version
}

// alarms remembers what an operator is told.
type alarms struct {
	order.Observer
	mu  sync.Mutex
	all []string
}

func (a *alarms) Alarm(what, _, _ string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all = append(a.all, what)
}
func (a *alarms) Transition(order.State, order.State, order.ActorType) {}
func (a *alarms) Settled(string, order.Settlement)                     {}
func (a *alarms) Batch(string, int, time.Duration)                     {}
func (a *alarms) RefundSettled(string, order.RefundSettled)            {}

// Money that fits no order is held, and an operator is told. When the COMMIT got no answer, the repeat found its own
// row, took it for one told before, and told nobody.
func TestHeldPaymentAlarmsAfterALostCommit(t *testing.T) {
	db, lose := lossy(t)
	f := ordertest.NewUnverified(t, db, byItself)
	a := &alarms{}
	g := f.Restarted(t, func(c *order.Config) { byItself(c); c.Observe = a })
	lose()
	s, err := g.Settle(t.Context(), payment.Trade{OutTradeNo: "somebody-elses", TransactionID: "4200000099",
		State: payment.TradeSuccess, MchID: ordertest.MchID, AppID: ordertest.AppID, Total: 100, Currency: payment.CNY,
		SuccessTime: f.Clock.Now()}, ordertest.Notified)
	if err != nil {
		t.Fatal(err)
	}
	if s.Settled != order.SettledHeld || len(a.all) != 1 {
		t.Errorf("%+v, and an operator was told %q", s, a.all)
	}
}

// The same of late money, which is owed back, and of a refund that was made elsewhere: both make a refund's row, which
// the repeat did not take for its own.
func TestOwedAndForeignRefundsAlarmAfterALostCommit(t *testing.T) {
	db, lose := lossy(t)
	f := ordertest.NewUnverified(t, db, byItself)
	a, log := &alarms{}, &bytes.Buffer{}
	g := f.Restarted(t, func(c *order.Config) {
		byItself(c)
		c.Observe, c.Log = a, slog.New(slog.NewTextHandler(log, nil))
	})
	f.SKU(t, "mug", 9)
	o := f.PlaceOne(t, "late", "mug", 1)
	no := f.Prepaid(t, o.OrderNo)
	if got, err := f.Cancel(t.Context(), cancel(o.OrderNo)); err != nil || got.State != order.StateClosed {
		t.Fatal(got.State, err)
	}
	trade, err := f.WeChat.Pay(no, true)
	if err != nil {
		t.Fatal(err)
	}
	lose()
	s, err := g.Settle(t.Context(), trade, ordertest.Notified)
	if line := "level=INFO msg=\"late payment, owed back\""; err != nil || s.Settled != order.SettledOwed ||
		strings.Count(log.String(), line) != 1 {
		t.Errorf("late: %+v %v, and the log says %s", s, err, log)
	}
	if len(a.all) != 0 { // it goes back by itself: who is woken for it does not come when something has to be done
		t.Errorf("an operator was told %q", a.all)
	}
	paid := f.PaidOne(t, "paid", "mug", 1)
	p, err := f.Find(t.Context(), paid.OrderNo)
	if err != nil {
		t.Fatal(err)
	}
	lose()
	r, err := g.SettleRefund(t.Context(), payment.Refund{OutRefundNo: "PLATFORM",
		TransactionID: p.Payment.TransactionID, OutTradeNo: paid.OrderNo + "-01", Status: payment.RefundSuccess,
		Amount: 50, Total: 100, SuccessTime: f.Clock.Now()}, ordertest.Notified)
	if err != nil || r.Outcome != order.RefundOutcomeHeld || len(a.all) != 1 {
		t.Errorf("elsewhere: %+v %v, and an operator was told %q", r, err, a.all)
	}
}

// The answer of a prepay whose first try may still arrive is the buyer's now, and not the next click's: by then the
// late try may have made it invalid.
func TestDoubtfulAnswerIsHandedOutOnce(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 10)
		s := f.Restarted(t, func(c *order.Config) { c.Gateway = doubtful{f.WeChat} })
		o := s.PlaceOne(t, "k", "mug", 1)
		for i := 1; i <= 2; i++ {
			if _, err := s.Prepay(t.Context(), jsapi(o.OrderNo, "openid")); err != nil || f.WeChat.Prepays != i {
				t.Fatalf("prepay %d: %v after %d calls", i, err, f.WeChat.Prepays)
			}
		}
	})
}

// doubtful answers each prepay from the other entry.
type doubtful struct{ *ordertest.WeChat }

func (w doubtful) Prepay(ctx context.Context, a payment.Attempt) (payment.Prepaid, error) {
	p, err := w.WeChat.Prepay(ctx, a)
	p.Doubt = true
	return p, err
}
