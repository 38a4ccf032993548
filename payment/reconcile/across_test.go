package reconcile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/payment"
	"orderd/payment/reconcile"
)

const nextDay = "2026-11-21"

// midnight is the end of the day that most tests reconcile.
var midnight = time.Date(2026, 11, 20, 16, 0, 0, 0, time.UTC)

// at gives a row of a bill another time.
func at(r billRow, t time.Time) billRow { r.at = t; return r }

// statusOf is the status of a difference, "" when there is none.
func (d *desk) statusOf(t *testing.T, date, of string) reconcile.Status {
	t.Helper()
	return d.diffs(t, date)[of].Status
}

// One row in the bill of any day hid a payment from every later run: a bill of July had a payment of November.
func TestARowOfADistantDayIsNoMatch(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		paid := d.paid(t)
		refund := d.refunded(t, paid, 10, payment.RefundSuccess)
		july := "2026-07-15"
		long := time.Date(2026, 7, 15, 4, 0, 0, 0, time.UTC)
		d.bills.bills[july] = billOf(at(payRow(paid), long), at(refundRow(refund, "SUCCESS"), long))
		if res := d.run(t, july); res.Open != 2 ||
			d.statusOf(t, july, "OTHER_DAY "+paid.TransactionID) != reconcile.StatusOpen ||
			d.statusOf(t, july, "REFUND_OTHER_DAY "+refund.OutRefundNo) != reconcile.StatusOpen {
			t.Errorf("%+v %v", res, d.diffs(t, july))
		}
		d.bills.bills[day] = billOf()
		if res := d.run(t, day); res.Open != 2 ||
			d.statusOf(t, day, "LOCAL_ONLY "+paid.TransactionID) != reconcile.StatusOpen {
			t.Errorf("hidden: %+v %v", res, d.diffs(t, day))
		}
		// Nor is a match believed that a program before this rule has written down.
		err := d.DB.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO matched_across
  (kind, ref, bill_date)
VALUES ('payment', ?, '2026-07-15')`, paid.TransactionID)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if res := d.run(t, day); res.Open != 2 {
			t.Errorf("%+v", res)
		}
		// The day after is near enough for a row of midnight, and not for one of noon.
		d.bills.bills[nextDay] = billOf(at(payRow(paid), midnight.Add(time.Minute)))
		d.Clock.Set(noon.Add(48 * time.Hour))
		if res := d.run(t, nextDay); res.Open != 1 ||
			d.statusOf(t, nextDay, "OTHER_DAY "+paid.TransactionID) != reconcile.StatusOpen {
			t.Errorf("%+v", res)
		}
	})
}

// The same number in the bills of two days is money that WeChat Pay counts twice: nobody saw it, in whatever order
// the days ran and however often.
func TestANumberInTwoBillsIsADifference(t *testing.T) {
	for name, days := range map[string][]string{"in order": {day, nextDay}, "the later first": {nextDay, day}} {
		t.Run(name, func(t *testing.T) {
			eachDesk(t, func(t *testing.T, d *desk) {
				d.Clock.Set(midnight.Add(-time.Second))
				paid := d.paid(t)
				refund := d.refunded(t, paid, 10, payment.RefundSuccess)
				d.Clock.Set(midnight.Add(48 * time.Hour))
				after := midnight.Add(time.Second)
				d.bills.bills[day] = billOf(payRow(paid), refundRow(refund, "SUCCESS"))
				d.bills.bills[nextDay] = billOf(at(payRow(paid), after), at(refundRow(refund, "SUCCESS"), after))
				for range 3 {
					for _, date := range days {
						d.run(t, date)
					}
					twice := 0
					for _, date := range days {
						for of, x := range d.diffs(t, date) {
							if x.Status == reconcile.StatusOpen && (of == "IN_TWO_BILLS "+paid.TransactionID ||
								of == "REFUND_IN_TWO_BILLS "+refund.OutRefundNo) {
								twice++
							} else if x.Status == reconcile.StatusOpen {
								t.Errorf("invented: %s of %s", of, date)
							}
						}
					}
					if twice != 2 {
						t.Fatalf("%d of 2 found: %v %v", twice, d.diffs(t, day), d.diffs(t, nextDay))
					}
				}
			})
		})
	}
}

// A match across midnight rests on the bill that had it: when that bill is another one, the day before misses its
// payment again. A day may run as often as it wants.
func TestAMatchAcrossMidnightIsForgottenWithItsBill(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		d.Clock.Set(midnight.Add(-time.Second))
		paid := d.paid(t)
		d.Clock.Set(midnight.Add(48 * time.Hour))
		local := "LOCAL_ONLY " + paid.TransactionID
		row := at(payRow(paid), midnight.Add(time.Second))
		d.bills.bills[day], d.bills.bills[nextDay] = billOf(), billOf(row)
		d.run(t, day)
		for range 2 {
			d.run(t, nextDay)
			d.run(t, day)
			if d.statusOf(t, day, local) != reconcile.StatusResolved || len(d.diffs(t, nextDay)) != 0 {
				t.Fatalf("%v %v", d.diffs(t, day), d.diffs(t, nextDay))
			}
		}
		d.bills.bills[nextDay] = billOf()
		d.run(t, nextDay)
		if d.statusOf(t, day, local) != reconcile.StatusOpen {
			t.Errorf("forgotten by nobody: %+v", d.diffs(t, day))
		}
		if res := d.run(t, day); res.Open != 1 {
			t.Errorf("%+v", res)
		}
		// A file of the next day hides nothing, unless two people stand behind it.
		give := func(t *testing.T) {
			t.Helper()
			if _, err := d.Run(t.Context(), reconcile.RunRequest{Date: nextDay, By: fin,
				File: bytes.NewReader(billOf(row))}); err != nil {
				t.Fatal(err)
			}
		}
		give(t)
		if d.run(t, day); d.statusOf(t, day, local) != reconcile.StatusOpen {
			t.Errorf("a file hid it: %+v", d.diffs(t, day))
		}
	})
}

// A refund whose answers were lost is WeChat Pay's of a later day than our first call: between that call and the last
// one any bill may have it.
func TestARefundMayBeInABillOfAnyDayItWasAskedFor(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		paid := d.paid(t)
		refund := d.refunded(t, paid, 10, payment.RefundSuccess)
		err := d.DB.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.Update(ctx, "UPDATE refunds SET asked_at = ? WHERE out_refund_no = ?",
				noon.Add(48*time.Hour).UnixMilli(), refund.OutRefundNo)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		d.Clock.Set(noon.Add(72 * time.Hour))
		d.bills.bills[day] = billOf(payRow(paid))
		d.bills.bills[nextDay] = billOf(at(refundRow(refund, "SUCCESS"), noon.Add(24*time.Hour)))
		d.run(t, day)
		if res := d.run(t, nextDay); res.Open != 0 || res.Refunds.AcrossBill.Fen != 10 {
			t.Errorf("%+v %v", res, d.diffs(t, nextDay))
		}
		if res := d.run(t, day); res.Open != 0 {
			t.Errorf("%+v %v", res, d.diffs(t, day))
		}
	})
}

// What waits for a bill must not wait for ever: no bill comes, and the date ends it; and a bill that is here already
// is not waited for.
func TestWaitingForABillEndsByDate(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		d.Clock.Set(midnight.Add(-time.Second))
		late := d.paid(t)
		d.Clock.Set(midnight.Add(-24 * time.Hour).Add(time.Second))
		early := d.paid(t)
		d.bills.bills["2026-11-19"], d.bills.bills[day] = billOf(), billOf()
		d.Clock.Set(midnight.Add(11 * time.Hour))
		d.run(t, "2026-11-19")
		res := d.run(t, day)
		if res.Open != 1 || res.Pending != 1 || res.Waiting(d.Clock.Now()) != 0 ||
			d.statusOf(t, day, "LOCAL_ONLY "+early.TransactionID) != reconcile.StatusOpen {
			t.Errorf("the bill of the day before is here: %+v %v", res, d.diffs(t, day))
		}
		open, err := d.Open(t.Context())
		if err != nil || open.Pending[reconcile.LocalOnly] != 1 || open.PendingFen != late.Total ||
			open.OldestPending.IsZero() {
			t.Errorf("%+v, %v", open, err)
		}
		d.Clock.Set(midnight.Add(24*time.Hour + 11*time.Hour)) // the next bill should be here since an hour
		if res := d.run(t, day); res.Pending != 1 || res.Waiting(d.Clock.Now()) != 1 {
			t.Errorf("%+v", res)
		}
		d.Clock.Set(midnight.Add(24*time.Hour + 23*time.Hour))
		if open, err := d.Open(t.Context()); err != nil || open.Count[reconcile.LocalOnly] != 2 ||
			len(open.Pending) != 0 {
			t.Errorf("its date has passed: %+v, %v", open, err)
		}
		if res := d.run(t, day); res.Open != 2 || res.Pending != 0 {
			t.Errorf("%+v", res)
		}
	})
}

// One person's "later" was a write-off of any kind, day and amount, for ever.
func TestMarkPendingIsNoWriteOff(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		mid := d.paid(t)
		d.Clock.Set(midnight.Add(-time.Second))
		edge := d.paid(t)
		fen := at(payRow(d.paid(t)), midnight.Add(-time.Second))
		fen.amount++
		d.Clock.Set(midnight.Add(11 * time.Hour))
		d.bills.bills[day] = billOf(fen, revoked("429", 5))
		d.run(t, day)
		mark := func(of string) error {
			x, ok := d.diffs(t, day)[of]
			if !ok {
				t.Fatalf("no %s: %v", of, d.diffs(t, day))
			}
			_, err := d.Resolve(t.Context(), reconcile.Resolve{ID: x.ID, Action: reconcile.MarkPending,
				Reason: "tomorrow", Cause: fin})
			return err
		}
		for _, of := range []string{"LOCAL_ONLY " + mid.TransactionID, "AMOUNT_MISMATCH " + fen.transaction,
			"BILL_ONLY 429"} {
			if err := mark(of); !errors.Is(err, reconcile.ErrRequest) {
				t.Errorf("%s was put off: %v", of, err)
			}
		}
		local := "LOCAL_ONLY " + edge.TransactionID
		if err := mark(local); err != nil || d.statusOf(t, day, local) != reconcile.StatusPending {
			t.Errorf("near midnight, and the next bill is not here: %v", err)
		}
		d.run(t, day) // once more: whose word it is, and why, stays
		if x := d.diffs(t, day)[local]; x.Status != reconcile.StatusPending || x.ResolvedBy != fin.ActorID ||
			x.ResolvedWhy != "tomorrow" {
			t.Errorf("after another run it says %s, %q, %q", x.Status, x.ResolvedBy, x.ResolvedWhy)
		}
		// The next bill is here and does not have it: it is open, in whatever way it came to wait.
		d.Clock.Set(midnight.Add(36 * time.Hour))
		d.bills.bills[nextDay] = billOf()
		d.run(t, nextDay)
		if d.statusOf(t, day, local) != reconcile.StatusOpen {
			t.Error("it waits still")
		}
		if err := mark(local); !errors.Is(err, reconcile.ErrRequest) {
			t.Errorf("put off again: %v", err)
		}
	})
}

// Every action on every kind: what the table does not have is refused, whoever asks, and what ends a difference by
// somebody's word alone takes two.
func TestActionsAreThoseOfTheTable(t *testing.T) {
	for _, k := range reconcile.Kinds() {
		for _, a := range k.Actions() {
			if (a == reconcile.WriteOff) != (a.People() == 2) {
				t.Errorf("%s of %s takes %d people", a, k, a.People())
			}
		}
	}
	eachDesk(t, func(t *testing.T, d *desk) {
		paid := d.paid(t)
		d.run(t, day)
		x := d.diffs(t, day)["LOCAL_ONLY "+paid.TransactionID]
		for _, k := range reconcile.Kinds() {
			err := d.DB.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
				_, err := tx.Update(ctx, "UPDATE differences SET kind = ?, ours_state = 'held', out_trade_no = ? "+
					"WHERE id = ?", string(k), paid.OutTradeNo, x.ID)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range reconcile.Actions() {
				may := false
				for _, b := range k.Actions() {
					may = may || a == b
				}
				if may {
					continue
				}
				if _, err := d.Resolve(t.Context(), reconcile.Resolve{ID: x.ID, Action: a, Reason: "x",
					Cause: fin}); !errors.Is(err, reconcile.ErrRequest) {
					t.Errorf("%s about %s: %v", a, k, err)
				}
			}
		}
	})
}

// The document of what can be done about which kind is what the code does.
func TestDocumentIsTheTableOfActions(t *testing.T) {
	text, err := os.ReadFile("../../docs/reconciliation.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range reconcile.Kinds() {
		var names []string
		for _, a := range k.Actions() {
			names = append(names, "`"+string(a)+"`")
		}
		row := fmt.Sprintf("| `%s` | %s | %s |\n", k, k.Label(), strings.Join(names, " "))
		if !strings.Contains(string(text), row) {
			t.Errorf("docs/reconciliation.md lacks %s", row)
		}
	}
	for _, a := range reconcile.Actions() {
		if row := fmt.Sprintf("| `%s` | %d | ", a, a.People()); !strings.Contains(string(text), row) {
			t.Errorf("docs/reconciliation.md lacks %s", row)
		}
	}
}

// Differences have waited long enough, and somebody holds the row of one: finance sees all, the metrics count, the day
// runs, and the other one is open.
func TestALockedDifferenceHidesNoOther(t *testing.T) {
	d := newDesk(t, sqldbtest.MariaDB(t))
	d.Clock.Set(time.Date(2026, 11, 20, 15, 58, 0, 0, time.UTC)) // two minutes to midnight
	a := d.paid(t)
	d.paid(t)
	d.bills.bills[day] = billOf()
	d.Clock.Set(noon.Add(24 * time.Hour))
	if res := d.run(t, day); res.Pending != 2 {
		t.Fatalf("%+v", res)
	}
	d.Clock.Advance(72 * time.Hour)
	raw, err := d.DB.Pool().Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	for _, q := range []string{"BEGIN", "UPDATE differences SET resolved_why = 'x' WHERE ref = '" + a.TransactionID +
		"'"} {
		if _, err := raw.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	defer func() { _, _ = raw.ExecContext(context.Background(), "ROLLBACK") }()
	o, err := d.Open(t.Context())
	if err != nil || o.Count[reconcile.LocalOnly] != 1 || o.Pending[reconcile.LocalOnly] != 1 {
		t.Errorf("metrics: %+v, %v", o, err)
	}
	all, err := d.Differences(t.Context(), reconcile.DifferenceFilter{Limit: 10})
	if err != nil || len(all) != 2 {
		t.Errorf("list: %+v, %v", all, err)
	}
	if _, err := d.Show(t.Context(), reconcile.ID(day, payment.BillAll)); err != nil {
		t.Errorf("the day: %v", err)
	}
}
