package reconcile_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/payment/operators"
	"orderd/payment/reconcile"
	"orderd/payment/reconcile/reconciletest"
)

// A write-off that an admin proposes and confirms by an account of his own making, or that the shell confirms, is one
// person's; and money that fits no order was sent back by one person whatever the sum.
func TestWhatTakesTwoPeopleAtTheDesk(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		d.Fixture = d.Restarted(t, func(c *order.Config) { c.RefundTwoPersons = 50 })
		d.shop.Orders = reconciletest.Orders{Service: d.Service}
		for name, by := range map[string]string{"boss": operators.Bootstrap, "made": "boss",
			"bea": operators.Bootstrap} {
			if err := operators.Create(t.Context(), d.DB, name, operators.Finance, by,
				noon.Add(-2*operators.FreshFor)); err != nil {
				t.Fatal(err)
			}
		}
		odd := d.PlaceOne(t, "odd", "mug", 1)
		d.Prepaid(t, odd.OrderNo)
		wrong := payment.Trade{OutTradeNo: odd.OrderNo + "-01", State: payment.TradeSuccess, TransactionID: "4266",
			AppID: ordertest.AppID, MchID: ordertest.MchID, TradeType: "NATIVE",
			Total: 99, PayerTotal: payment.Said(99),
			Currency: payment.CNY, SuccessTime: noon}
		d.WeChat.Put(wrong)
		short := d.paid(t)
		d.bills.bills[day] = billOf(payRow(wrong))
		d.run(t, day)
		found := d.diffs(t, day)
		do := func(id string, a reconcile.Action, who string) (reconcile.Difference, error) {
			return d.Resolve(t.Context(), reconcile.Resolve{ID: id, Action: a, Reason: "seen",
				Cause: reconcile.ByOperator(who, "request", "r")})
		}
		refused := func(id string, a reconcile.Action, who string) {
			t.Helper()
			x, err := do(id, a, who)
			var same *operators.SameError
			if !errors.As(err, &same) && !errors.Is(err, operators.ErrShell) {
				t.Errorf("%s by %s: %+v %v", a, who, x, err)
			}
			if x, err := d.Difference(t.Context(), id); err != nil || x.Status != reconcile.StatusOpen {
				t.Errorf("%s by %s: %+v %v", a, who, x, err)
			}
		}
		lost := found["LOCAL_ONLY "+short.TransactionID].ID
		if x, err := do(lost, reconcile.WriteOff, "boss"); err != nil || x.Status != reconcile.StatusOpen {
			t.Fatalf("%+v %v", x, err)
		}
		refused(lost, reconcile.WriteOff, "made")
		refused(lost, reconcile.WriteOff, "cli:root")
		if x, err := do(lost, reconcile.WriteOff, "bea"); err != nil || x.Status != reconcile.StatusWrittenOff {
			t.Errorf("two people: %+v %v", x, err)
		}
		held := found["STATE_MISMATCH 4266"].ID
		if held == "" {
			held = found["BILL_ONLY 4266"].ID
		}
		for range 2 {
			if x, err := do(held, reconcile.RefundPayment, "boss"); err != nil || x.Status != reconcile.StatusOpen ||
				d.RefundState(t, "R4266") != order.RefundStatePending {
				t.Fatalf("one person: %+v %v", x, err)
			}
		}
		refused(held, reconcile.RefundPayment, "made")
		if x, err := do(held, reconcile.RefundPayment, "bea"); err != nil || x.Status != reconcile.StatusResolved ||
			d.RefundState(t, "R4266") != order.RefundStateOwed {
			t.Errorf("two people: %+v %v", x, err)
		}
	})
}

// Held money that two people have written off is ours: the bill that has it agrees with the books, and nothing of it
// can be sent back from the desk.
func TestHeldMoneyThatIsWrittenOffIsInTheBooks(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		odd := d.PlaceOne(t, "odd", "mug", 1)
		d.Prepaid(t, odd.OrderNo)
		wrong := payment.Trade{OutTradeNo: odd.OrderNo + "-01", State: payment.TradeSuccess, TransactionID: "4266",
			AppID: ordertest.AppID, MchID: ordertest.MchID, TradeType: "NATIVE",
			Total: 99, PayerTotal: payment.Said(99), Currency: payment.CNY, SuccessTime: noon}
		d.WeChat.Put(wrong)
		if s, err := d.Settle(t.Context(), wrong, ordertest.Notified); err != nil || s.Settled != order.SettledHeld {
			t.Fatal(s, err)
		}
		d.bills.bills[day] = billOf(payRow(wrong))
		if res := d.run(t, day); res.Open != 1 {
			t.Fatalf("%+v", res)
		}
		id := d.diffs(t, day)["STATE_MISMATCH 4266"].ID
		for _, who := range []order.Cause{ordertest.Finance, ordertest.Finance2} {
			if _, err := d.ResolveHeld(t.Context(), order.ResolveHeld{TransactionID: "4266", Reason: "nobody's",
				Action: order.HeldWriteOff, Cause: who}); err != nil {
				t.Fatal(err)
			}
		}
		if x, err := d.Resolve(t.Context(), reconcile.Resolve{ID: id, Action: reconcile.RefundPayment, Reason: "seen",
			Cause: reconcile.ByOperator("fin", "request", "r")}); !errors.As(err, new(*order.RefundRefusedError)) {
			t.Errorf("%+v, %v", x, err)
		}
		d.Clock.Advance(24 * time.Hour)
		res := d.run(t, day)
		if x := d.diffs(t, day)["STATE_MISMATCH 4266"]; x.Status != reconcile.StatusResolved || res.Open != 0 ||
			res.Payments.BillFen != 99 || res.Payments.OursFen != 99 {
			t.Errorf("%+v\n%+v", x, res)
		}
		d.AssertVerified(t)
	})
}

// A proposal of a person who was let go before anybody agreed counts, for a write-off.
func TestAProposalOfOneWhoWasLetGoCountsNoMore(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, d *desk) error{
		"disabled": func(t *testing.T, d *desk) error {
			return operators.Disable(t.Context(), d.DB, "anna", "boss", d.Clock.Now())
		},
		"another role": func(t *testing.T, d *desk) error {
			return operators.SetRole(t.Context(), d.DB, "anna", operators.Viewer, time.Now())
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachDesk(t, func(t *testing.T, d *desk) {
				for _, who := range []string{"anna", "bea"} {
					if err := operators.Create(t.Context(), d.DB, who, operators.Finance, operators.Bootstrap,
						noon.Add(-2*operators.FreshFor)); err != nil {
						t.Fatal(err)
					}
				}
				short := d.paid(t)
				d.bills.bills[day] = billOf()
				d.Clock.Set(noon.Add(24 * time.Hour))
				d.run(t, day)
				id := d.diffs(t, day)["LOCAL_ONLY "+short.TransactionID].ID
				do := func(who string) (reconcile.Difference, error) {
					return d.Resolve(t.Context(), reconcile.Resolve{ID: id, Action: reconcile.WriteOff, Reason: "seen",
						Cause: reconcile.ByOperator(who, "request", "r")})
				}
				if _, err := do("anna"); err != nil {
					t.Fatal(err)
				}
				if err := end(t, d); err != nil {
					t.Fatal(err)
				}
				if x, err := do("bea"); err == nil && x.Status == reconcile.StatusWrittenOff {
					t.Errorf("written off by one who works here: %+v", x)
				}
			})
		})
	}
}

// A bill file whose giver was let go before anybody confirmed it.
func TestAFileOfOneWhoWasLetGoIsNotConfirmed(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		for _, who := range []string{"fin", "fin2"} {
			if err := operators.Create(t.Context(), d.DB, who, operators.Finance, operators.Bootstrap,
				noon.Add(-2*operators.FreshFor)); err != nil {
				t.Fatal(err)
			}
		}
		a := d.paid(t)
		d.Clock.Set(noon.Add(24 * time.Hour))
		d.give(t, fin, billOf())
		_ = a
		if err := operators.Disable(t.Context(), d.DB, "fin", "boss", d.Clock.Now()); err != nil {
			t.Fatal(err)
		}
		if res, err := d.confirm(t, fin2, billOf()); err == nil {
			t.Errorf("%+v", res)
		}
	})
}

// people makes people of the finance desk, who have been here for longer than operators.FreshFor.
func (d *desk) people(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := operators.Create(t.Context(), d.DB, name, operators.Finance, operators.Bootstrap,
			noon.Add(-2*operators.FreshFor)); err != nil {
			t.Fatal(err)
		}
	}
}

// writeOff is one person's word that a difference ends without money.
func (d *desk) writeOff(t *testing.T, id, who string) (reconcile.Difference, error) {
	t.Helper()
	return d.Resolve(t.Context(), reconcile.Resolve{ID: id, Action: reconcile.WriteOff, Reason: "seen",
		Cause: reconcile.ByOperator(who, "request", "r")})
}

// lost gives the difference of a payment that the bill of the day lacks.
func (d *desk) lost(t *testing.T) (payment.Trade, string) {
	t.Helper()
	short := d.paid(t)
	d.bills.bills[day] = billOf()
	d.run(t, day)
	return short, d.diffs(t, day)["LOCAL_ONLY "+short.TransactionID].ID
}

// Who confirms a write-off is let go while the confirmation waits for the row: who may is what is true when it is
// written. SQLite has one writer at a time, and nothing can come in between.
func TestAWriteOffIsByWhoMayWhenItIsWritten(t *testing.T) {
	d := newDesk(t, sqldbtest.MariaDB(t))
	d.people(t, "boss", "bea")
	_, id := d.lost(t)
	if _, err := d.writeOff(t, id, "boss"); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	if err := d.DB.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		if _, err := sqldb.Known(ctx, tx, `SELECT id
FROM differences
WHERE id = ?
FOR UPDATE`, id); err != nil {
			return err
		}
		go func() {
			_, err := d.writeOff(t, id, "bea")
			for errors.Is(err, sqldb.ErrLocked) { // on a slow machine one waits longer than the server lets anybody
				_, err = d.writeOff(t, id, "bea")
			}
			ended <- err
		}()
		d.waitsForALock(t)
		return operators.Disable(ctx, d.DB, "bea", "boss", noon)
	}); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, operators.ErrNoLonger) {
		t.Errorf("by one who was let go: %v", err)
	}
	if x, err := d.Difference(t.Context(), id); err != nil || x.Status != reconcile.StatusOpen {
		t.Errorf("%s, %v", x.Status, err)
	}
}

// waitsForALock waits until a session waits for a row. The server renews what it tells of that when nobody has asked
// for a tenth of a second.
func (d *desk) waitsForALock(t *testing.T) {
	t.Helper()
	for range 400 {
		n := 0
		if err := d.DB.QueryRowContext(t.Context(), `SELECT COUNT(*)
FROM information_schema.innodb_trx
WHERE trx_state = 'LOCK WAIT'`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		if n > 0 {
			return
		}
		time.Sleep(150 * time.Millisecond)
	}
	t.Fatal("nobody waits")
}

// A proposal to write off is about what was open then. The difference ended by a bill and is opened by another: whoever
// had proposed has said nothing about that. One that only waited for another bill is the same one.
func TestAProposalEndsWithItsDifference(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		d.people(t, "boss", "bea")
		short, id := d.lost(t)
		if _, err := d.writeOff(t, id, "boss"); err != nil {
			t.Fatal(err)
		}
		d.run(t, day)
		if x, err := d.Difference(t.Context(), id); err != nil || x.ProposedBy != "boss" {
			t.Fatalf("the same bill once more: proposed by %q, %v", x.ProposedBy, err)
		}
		d.bills.bills[day] = billOf(payRow(short))
		d.run(t, day)
		if x, err := d.Difference(t.Context(), id); err != nil || x.Status != reconcile.StatusResolved {
			t.Fatal(x.Status, err)
		}
		d.bills.bills[day] = billOf()
		d.run(t, day)
		if x, err := d.writeOff(t, id, "bea"); err != nil || x.Status != reconcile.StatusOpen || x.ProposedBy != "bea" {
			t.Errorf("opened again, and written off by one: %s, proposed by %q, %v", x.Status, x.ProposedBy, err)
		}
		if x, err := d.writeOff(t, id, "boss"); err != nil || x.Status != reconcile.StatusWrittenOff {
			t.Errorf("by two: %s, %v", x.Status, err)
		}
	})
}

// Two accounts that were made for one occasion do not pass unseen, whichever of them is new.
func TestAFreshPersonOfTwoRaisesAnAlarm(t *testing.T) {
	for _, fresh := range []string{"first", "second", ""} {
		t.Run("the "+fresh, func(t *testing.T) {
			eachDesk(t, func(t *testing.T, d *desk) {
				for _, name := range []string{"first", "second"} {
					made := noon.Add(-2 * operators.FreshFor)
					if name == fresh {
						made = noon.Add(12 * time.Hour)
					}
					if err := operators.Create(t.Context(), d.DB, name, operators.Finance, operators.Bootstrap,
						made); err != nil {
						t.Fatal(err)
					}
				}
				short := d.paid(t)
				d.Clock.Set(noon.Add(24 * time.Hour))
				d.give(t, reconcile.ByOperator("first", "request", "r"), billOf())
				if _, err := d.confirm(t, reconcile.ByOperator("second", "request", "r"), billOf()); err != nil {
					t.Fatal(err)
				}
				id := d.diffs(t, day)["LOCAL_ONLY "+short.TransactionID].ID
				for _, who := range []string{"first", "second"} {
					if _, err := d.writeOff(t, id, who); err != nil {
						t.Fatal(err)
					}
				}
				for _, what := range []string{"a bill was confirmed", "a difference was written off"} {
					n := 0
					for _, a := range d.heard {
						if strings.HasPrefix(a, what) && strings.HasSuffix(a, ": second, after first") {
							n++
						}
					}
					if want := map[bool]int{true: 1}[fresh != ""]; n != want {
						t.Errorf("%s: %d alarms, want %d: %q", what, n, want, d.heard)
					}
				}
			})
		})
	}
}
