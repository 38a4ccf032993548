package order_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"orderd/migrations"
	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/migrations/sqldb/sqldbtest/servers"
	"orderd/order"
	"orderd/order/audit"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/payment/trail"
	"orderd/stock"
)

// behind gives a fixture and a second service beside it, whose reading side is a server that does not lead any more:
// it is empty, so that whatever is decided by it is decided wrong.
func behind(t *testing.T, db *sqldb.DB) (f, g *ordertest.Fixture) {
	t.Helper()
	empty := sqldbtest.SQLite
	if db.Engine() == sqldb.MySQL {
		empty = sqldbtest.MariaDB
	}
	f = ordertest.New(t, db)
	g = f.Restarted(t, func(c *order.Config) { c.DB = db.ShowingFrom(empty(t)) })
	return f, g
}

// reopened prepays an order for a QR code, and then in WeChat itself: -01 is closed and -02 can be paid.
func reopened(t *testing.T, f *ordertest.Fixture, orderNo string) {
	t.Helper()
	f.Prepaid(t, orderNo)
	p, err := f.Prepay(t.Context(), order.PrepayRequest{OrderNo: orderNo, CustomerID: "c", TradeType: payment.App,
		Cause: ordertest.Customer})
	if err != nil || p.OutTradeNo != orderNo+"-02" {
		t.Fatal(p, err)
	}
}

// shut fails the test unless an order is closed and WeChat Pay takes no money for it any more.
func shut(t *testing.T, f *ordertest.Fixture, orderNo string) {
	t.Helper()
	if trade, _ := f.WeChat.Trade(orderNo + "-02"); f.State(t, orderNo) != order.StateClosed ||
		trade.State != payment.TradeClosed {
		t.Errorf("%s is %s, and its trade at WeChat Pay %s", orderNo, f.State(t, orderNo), trade.State)
	}
}

// The attempts of an order, read from a server that does not know the newest one, close a trade that was closed before:
// its stock comes back, and the buyer goes on to pay the other one. Whatever takes an order to closing has to read them
// in the transaction that does it.
func TestCloseIsOfTheNewestAttempt(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f, g := behind(t, db)
		f.SKU(t, "mug", 40)
		cancelled := f.PlaceOne(t, "a", "mug", 1)
		reopened(t, f, cancelled.OrderNo)
		_, _ = g.Cancel(t.Context(), order.CancelRequest{OrderNo: cancelled.OrderNo, Cause: ordertest.Customer})
		shut(t, f, cancelled.OrderNo)

		expired := f.PlaceOne(t, "b", "mug", 1)
		reopened(t, f, expired.OrderNo)
		var page []string
		for _, request := range []string{"c", "d", "e", "f", "g", "h", "i", "j", "k", "l"} {
			o := f.PlaceOne(t, request, "mug", 1)
			reopened(t, f, o.OrderNo)
			page = append(page, o.OrderNo)
		}
		// WeChat answers nothing at first: the turn that comes again is decided anew.
		again := f.PlaceOne(t, "again", "mug", 1)
		reopened(t, f, again.OrderNo)
		var away atomic.Bool
		f.WeChat.Before = func(op, _ string) error {
			if away.Load() {
				return ordertest.ErrLost(op)
			}
			return nil
		}
		f.Clock.Advance(31 * time.Minute)
		if err := g.Expire(t.Context(), expired.OrderNo, ordertest.Scheduler); err != nil {
			t.Error(err)
		}
		shut(t, f, expired.OrderNo)
		away.Store(true)
		_ = g.Expire(t.Context(), again.OrderNo, ordertest.Scheduler)
		away.Store(false)
		due, err := f.DueOrders(t.Context(), order.StatePending, order.DueCursor{}, f.Clock.Now(), 100)
		if err != nil || len(due) != len(page) {
			t.Fatal(due, err)
		}
		for i, err := range g.ExpireAll(t.Context(), due, ordertest.Scheduler, nil) {
			if err != nil {
				t.Errorf("order %d of the page: %v", i, err)
			}
		}
		f.Clock.Advance(time.Minute)
		if due, err = f.DueOrders(t.Context(), order.StateClosing, order.DueCursor{}, f.Clock.Now(), 100); err != nil {
			t.Fatal(err)
		}
		if errs := g.ExpireAll(t.Context(), due, ordertest.Scheduler, nil); len(errs) != 1 || errs[0] != nil {
			t.Error(errs)
		}
		for _, no := range append(page, again.OrderNo) {
			shut(t, f, no)
		}
		if n := f.Available(t, "mug"); n != 40 {
			t.Errorf("%d of 40 on the shelf", n)
		}
	})
}

// The proof of a close is of one trade. One that names another than the newest, whoever made it and by whatever he
// read, must not end the order: the last hand on the door is the writer's. The others of a page go on.
func TestCloseProofNamesTheNewestAttempt(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := newGuarded(t, db)
		o := f.PlaceOne(t, "a", "mug", 1)
		reopened(t, f.Fixture, o.OrderNo)
		bare := f.PlaceOne(t, "bare", "mug", 1)
		f.WeChat.Before = func(op, _ string) error { return ordertest.ErrLost(op) }
		for _, no := range []string{o.OrderNo, bare.OrderNo} {
			got, err := f.Cancel(t.Context(), order.CancelRequest{OrderNo: no, Cause: ordertest.Customer})
			if err != nil || got.State != order.StateClosing {
				t.Fatal(got.State, err)
			}
		}
		for no, proof := range map[string]string{o.OrderNo: o.OrderNo + "-01", bare.OrderNo: o.OrderNo + "-01"} {
			err := f.CloseDone(t.Context(), no, map[string]string{"close": "accepted", "out_trade_no": proof})
			if err == nil || f.State(t, no) != order.StateClosing {
				t.Errorf("%s closed by the proof of %s: %v, %s", no, proof, err, f.State(t, no))
			}
		}
		for _, request := range []string{"c", "d", "e", "f", "g", "h", "i", "j", "k", "l"} {
			f.PlaceOne(t, request, "mug", 1)
		}
		f.Clock.Advance(31 * time.Minute)
		due := slices.Concat(dueOf(t, f.Fixture, order.StateClosing), dueOf(t, f.Fixture, order.StatePending))
		f.WeChat.Before = nil
		claims, errs := f.ClaimDue(t.Context(), due, ordertest.Scheduler)
		if len(claims) != 12 {
			t.Fatal(len(claims), errs)
		}
		order.Forget(claims) // as if they had been read where nothing is known
		refused := 0
		for i, err := range f.CloseClaimed(t.Context(), claims, ordertest.Scheduler) {
			if (err != nil) != (claims[i].Key == o.OrderNo) {
				t.Errorf("%s: %v", claims[i].Key, err)
			}
			if err != nil {
				refused++
			}
		}
		if n := f.Available(t, "mug"); refused != 1 || n != 999 {
			t.Errorf("%d refused, %d of 1000 on the shelf", refused, n)
		}
		if !f.metric(t, `orderd_invariant_violations_total{invariant="close.proven"} 3`) {
			t.Error("nobody was told")
		}
		f.Clock.Advance(time.Minute) // its turn comes again, and is asked about what can be paid
		due = dueOf(t, f.Fixture, order.StateClosing)
		if errs := f.ExpireAll(t.Context(), due, ordertest.Scheduler, nil); len(errs) != 1 || errs[0] != nil {
			t.Error(errs)
		}
		shut(t, f.Fixture, o.OrderNo)
		f.AssertVerified(t)
	})
}

// dueOf gives the orders of a state that are due now.
func dueOf(t *testing.T, f *ordertest.Fixture, state order.State) []order.Due {
	t.Helper()
	due, err := f.DueOrders(t.Context(), state, order.DueCursor{}, f.Clock.Now(), 100)
	if err != nil {
		t.Fatal(err)
	}
	return due
}

// What a customer, an operator or a task does to an order or a refund is decided where they are written, and "not
// found" is the answer of nobody else: the side that shows may not know yet what was committed a moment ago. A cancel
// that was committed must not be told as 404, and a refund that is owed must not be given up as unknown.
func TestNothingIsDecidedBehind(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f, g := behind(t, db)
		f.SKU(t, "mug", 9)
		a, b := f.PlaceOne(t, "a", "mug", 1), f.PlaceOne(t, "b", "mug", 2)
		if got, err := g.FindOwn(t.Context(), "c", a.OrderNo); err != nil || got.State != order.StatePending {
			t.Errorf("his own order: %s, %v", got.State, err)
		}
		if _, err := g.FindOwn(t.Context(), "eve", a.OrderNo); !errors.Is(err, order.ErrNotFound) {
			t.Errorf("somebody else's: %v", err)
		}
		if got, err := g.Timeline(t.Context(), a.OrderNo); err != nil || len(got) != 1 {
			t.Error(got, err)
		}
		if got, err := g.Search(t.Context(), a.OrderNo); err != nil || len(got) != 1 {
			t.Error("searched for:", got, err)
		}
		if got, err := g.Cancel(t.Context(), cancel(a.OrderNo)); err != nil || got.State != order.StateClosed {
			t.Errorf("cancel: %s, %v", got.State, err)
		}
		if _, err := f.WeChat.Pay(g.Prepaid(t, b.OrderNo), false); err != nil {
			t.Fatal(err)
		}
		if got, err := g.Sync(t.Context(), b.OrderNo, ordertest.Customer); err != nil || got.State != order.StatePaid {
			t.Errorf("asked about: %s, %v", got.State, err)
		}
		row := g.MustAsk(t, ordertest.Ask(b.OrderNo, "back", 1))
		if got, err := g.FindOwnRefund(t.Context(), "c", row.OutRefundNo); err != nil || got.OrderNo != b.OrderNo {
			t.Error(got, err)
		}
		if _, err := g.FindOwnRefund(t.Context(), "eve", row.OutRefundNo); !errors.Is(err, order.ErrRefundNotFound) {
			t.Errorf("somebody else's refund: %v", err)
		}
		g.MustDecide(t, row.OutRefundNo, order.RefundEventApprove, ordertest.Finance)
		if due, err := g.DueRefunds(t.Context(), order.DueCursor{}, g.Clock.Now(), 10); err != nil || len(due) != 1 {
			t.Error(due, err)
		}
		if err := g.Refund(t.Context(), row.OutRefundNo, ordertest.Scheduler); err != nil || g.WeChat.Refunded != 1 {
			t.Errorf("sent %d times: %v", g.WeChat.Refunded, err)
		}
		ended := g.WeChat.EndRefund(row.OutRefundNo, payment.RefundSuccess)
		if got, err := g.SettleRefund(t.Context(), ended, ordertest.Notified); err != nil ||
			got.Outcome != order.RefundOutcomeApplied {
			t.Error(got, err)
		}
		g.PlaceOne(t, "c", "mug", 1)
		g.Clock.Advance(time.Hour)
		if due := dueOf(t, g, order.StatePending); len(due) != 1 {
			t.Errorf("%d due", len(due))
		}
	})
}

// An open order without a due time, by a hand in the table, must not make the numbers of all others unreadable: the
// dashboard, the metrics and the doctor show them, and verify says which order it is.
func TestBacklogWithAnOrderThatIsNeverDue(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.NewUnverified(t, db, func(*order.Config) {})
		f.SKU(t, "mug", 9)
		o := f.PlaceOne(t, "a", "mug", 1)
		if err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.Update(ctx, "UPDATE orders SET due_at = NULL WHERE order_no = ?", o.OrderNo)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			b, err := f.Backlog(t.Context())
			if err != nil || b.Open[order.StatePending] < 1 || b.Overdue != 0 || !b.Oldest.IsZero() {
				t.Errorf("%+v, %v", b, err)
			}
			if _, err := f.DueByMinute(t.Context(), time.Hour); err != nil {
				t.Error(err)
			}
			f.PlaceOne(t, "b", "mug", 1)
		}
	})
}

// A replica that is held back shows lists of the past, and nothing is decided by it: what is placed meanwhile is his
// who placed it, can be cancelled and times out, and verify, which reads the replica, sees one moment that is sound.
func TestReplicaShowsListsAndDecidesNothing(t *testing.T) {
	primary, replica := sqldbtest.Replicated(t, false)
	if err := primary.Create(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	db := sqldbtest.Open(t, primary.DSN("shop"))
	if err := db.ShowFrom(t.Context(), replica.DSN("shop"), migrations.Birth, time.Hour); err != nil {
		t.Fatal(err)
	}
	f := ordertest.New(t, db)
	listed := func(want order.Filter) (n int) {
		t.Helper()
		all, _, err := f.List(t.Context(), want)
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	shows := func(want int) {
		t.Helper()
		for begin := time.Now(); !db.Shown().FromReplica() || listed(order.Filter{}) != want; {
			if time.Since(begin) > 2*time.Minute {
				t.Fatalf("%d orders are shown", listed(order.Filter{}))
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	f.SKU(t, "mug", 9)
	paid := f.PaidOne(t, "a", "mug", 1)
	shows(1)
	if err := replica.Exec(t.Context(), "STOP SLAVE SQL_THREAD"); err != nil {
		t.Fatal(err)
	}
	b, c := f.PlaceOne(t, "b", "mug", 1), f.PlaceOne(t, "c", "mug", 1)
	shows(1)
	if total, err := f.Total(t.Context(), order.Filter{CustomerID: "c"}); err != nil || total.Count != 1 {
		t.Error(total, err)
	}
	if n := listed(order.Filter{CustomerID: "c"}); n != 3 {
		t.Errorf("his own: %d of 3", n)
	}
	listsBehind(t, f, paid.OrderNo)
	if got, err := f.FindOwn(t.Context(), "c", b.OrderNo); err != nil || got.State != order.StatePending {
		t.Errorf("his own order: %s, %v", got.State, err)
	}
	if got, err := f.Cancel(t.Context(), cancel(b.OrderNo)); err != nil || got.State != order.StateClosed {
		t.Errorf("cancel: %s, %v", got.State, err)
	}
	f.Clock.Advance(31 * time.Minute)
	if due := dueOf(t, f, order.StatePending); len(due) != 2 {
		t.Errorf("%d due", len(due))
	}
	err := f.Expire(t.Context(), c.OrderNo, ordertest.Scheduler)
	if err != nil || f.State(t, c.OrderNo) != order.StateClosed {
		t.Error(f.State(t, c.OrderNo), err)
	}
	f.AssertVerified(t)
	if err := replica.Exec(t.Context(), "START SLAVE"); err != nil {
		t.Fatal(err)
	}
	shows(4)
	repairedBehind(t, f, replica)
}

// listsBehind: a replica that is held back has neither the newest SKU nor the newest refund in its lists. Whose refund
// it is, and who approves all that wait, sees it; a placement finds the SKU.
func listsBehind(t *testing.T, f *ordertest.Fixture, paid string) {
	t.Helper()
	no := f.MustAsk(t, ordertest.Ask(paid, "back", 1)).OutRefundNo
	for name, c := range map[string]struct {
		of   order.RefundFilter
		want int
	}{
		"all":                {order.RefundFilter{}, 0},
		"those that wait":    {order.RefundFilter{State: order.RefundStatePending}, 0},
		"of the order":       {order.RefundFilter{OrderNo: paid}, 1},
		"to act on":          {order.RefundFilter{State: order.RefundStatePending, Primary: true}, 1},
		"to act on, of none": {order.RefundFilter{State: order.RefundStateOwed, Primary: true}, 0},
	} {
		got, _, err := f.ListRefunds(t.Context(), c.of)
		if err != nil || len(got) != c.want || c.want > 0 && got[0].OutRefundNo != no {
			t.Errorf("refunds, %s: %d of %d: %v", name, len(got), c.want, err)
		}
	}
	f.SKU(t, "new", 3)
	for name, list := range map[string]func() ([]stock.SKU, error){
		"list":      func() ([]stock.SKU, error) { return f.Admin.List(t.Context(), "", 10) },
		"list from": func() ([]stock.SKU, error) { return f.Admin.ListFrom(t.Context(), "m", "", 10) },
	} {
		if got, err := list(); err != nil || len(got) != 1 || got[0].SkuID != "mug" {
			t.Errorf("%s of SKUs: %+v, %v", name, got, err)
		}
	}
	if got, err := f.Admin.FindMany(t.Context(), []string{"new"}); err != nil || len(got) != 1 {
		t.Errorf("found are %+v, %v", got, err)
	}
	f.PlaceOne(t, "of-the-new", "new", 1)
}

// repairedBehind has a row broken, and the replica held back while it is mended: whoever repairs is told what is left,
// and not what the replica still has. An export of the audit trail has its last row, by which its end is proven.
func repairedBehind(t *testing.T, f *ordertest.Fixture, replica *servers.MariaDB) {
	t.Helper()
	f.PlaceOne(t, "d", "mug", 1)
	if err := f.DB.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Update(ctx, "UPDATE orders SET due_at = NULL WHERE state = 'pending'")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	broken := func(o audit.VerifyOptions) bool {
		t.Helper()
		r, err := f.Audit.VerifyWith(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		return !r.OK()
	}
	showsIt := func() {
		t.Helper()
		for begin := time.Now(); !f.DB.Shown().FromReplica() || !broken(audit.VerifyOptions{}); {
			if time.Since(begin) > 2*time.Minute {
				t.Fatal("the replica never shows what is broken")
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	showsIt()
	if err := replica.Exec(t.Context(), "STOP SLAVE SQL_THREAD"); err != nil {
		t.Fatal(err)
	}
	log := trail.New(f.DB, f.Clock.Now, nil)
	if _, err := log.Begin(t.Context(), trail.Who{Actor: "fin"}, trail.What{Action: "books.repair"}); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		r, err := f.Audit.Repair(t.Context(), audit.RepairOptions{Apply: true, Reason: "restored from a backup",
			Cause: ordertest.Finance})
		if err != nil || len(r.Left) > 0 || i == 0 && len(r.Repairs) == 0 {
			t.Errorf("repair %d: %+v, %v", i, r, err)
		}
	}
	showsIt()
	if broken(audit.VerifyOptions{Primary: true}) {
		t.Error("the primary shows what is broken")
	}
	rows := 0
	err := log.All(t.Context(), f.Clock.Now().Add(-time.Hour), time.Time{}, func(*trail.Entry) error {
		rows++
		return nil
	})
	if err != nil || rows != 1 {
		t.Errorf("an export has %d of 1 rows, %v", rows, err)
	}
	if err := replica.Exec(t.Context(), "START SLAVE"); err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); broken(audit.VerifyOptions{}); time.Sleep(20 * time.Millisecond) {
		if time.Since(begin) > 2*time.Minute {
			t.Fatal("the replica never shows what is mended")
		}
	}
}
