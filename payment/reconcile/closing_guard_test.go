package reconcile_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"orderd/payment"
	"orderd/payment/reconcile"
)

// The files of a proof are made before the transaction that closes the day: what somebody does in between must be in
// the proof, or the day must stay open. A proof that says less than the day is none.
func TestAProofIsOfTheDayThatIsClosed(t *testing.T) {
	for name, c := range map[string]struct {
		between func(t *testing.T, d *desk)
		made    int    // how often the files are made
		refused string // why the day is not closed, "" when it is
		has     string // in notes.csv
	}{
		"nothing": {func(*testing.T, *desk) {}, 1, "", ""},
		"a comment": {func(t *testing.T, d *desk) {
			id := d.diffs(t, day)["BILL_ONLY 4277"].ID
			if _, err := d.Comment(t.Context(), reconcile.Comment{ID: id, Text: "asked WeChat", Cause: fin2,
				Key: "k"}); err != nil {
				t.Error(err)
			}
		}, 2, "", "asked WeChat"},
		"another bill": {func(t *testing.T, d *desk) {
			d.bills.bills[day] = strangeBill(day, "4278", 7)
			d.run(t, day)
		}, 1, "open", ""},
		"the same bill again": {func(t *testing.T, d *desk) { d.run(t, day) }, 2, "", ""},
		"a bill of refunds alone": {func(t *testing.T, d *desk) {
			if _, err := d.Run(t.Context(), reconcile.RunRequest{Date: day, Type: payment.BillRefund}); err == nil {
				t.Error("it has the columns of another bill")
			}
		}, 2, "", ""},
		"somebody else closes it": {func(t *testing.T, d *desk) {
			d.OnProof(nil)
			if c := d.closed(t, day); c.Seq != 1 {
				t.Errorf("%+v", c)
			}
		}, 1, "", ""},
	} {
		eachDesk(t, func(t *testing.T, d *desk) {
			d.dayToClose(t)
			made := 0
			d.OnProof(func() {
				if made++; made == 1 {
					c.between(t, d)
				}
			})
			closing, err := d.CloseDay(t.Context(), reconcile.CloseDay{Date: day, Reason: "done", Cause: fin})
			if made != c.made || (c.refused == "") != (err == nil) ||
				err != nil && (!errors.Is(err, reconcile.ErrNotClosable) || !strings.Contains(err.Error(), c.refused)) {
				t.Fatalf("%s: the files were made %d times, %v", name, made, err)
			}
			all, listed := d.Closings(t.Context(), day)
			if listed != nil || err != nil && len(all) > 0 {
				t.Fatalf("%s: %+v %v", name, all, listed)
			}
			if err != nil {
				return
			}
			if len(all) != 1 || all[0].Reopened || all[0].Seq != closing.Seq || all[0].Manifest != closing.Manifest {
				t.Errorf("%s: %+v, told %+v", name, all, closing)
			}
			if notes := fileOf(t, d.zipped(t, day, 0), day+"/notes.csv"); !bytes.Contains(notes, []byte(c.has)) {
				t.Errorf("%s: the proof has %s", name, notes)
			}
			d.AssertVerified(t)
		})
	}
}

// dayToClose reconciles a day with a difference that two people have written off.
func (d *desk) dayToClose(t *testing.T) {
	t.Helper()
	d.bills.bills[day] = strangeBill(day, "4277", 5)
	d.Clock.Set(noon.AddDate(0, 0, 1))
	d.run(t, day)
	for _, who := range []reconcile.Cause{fin, fin2} {
		if _, err := d.Resolve(t.Context(), reconcile.Resolve{ID: d.diffs(t, day)["BILL_ONLY 4277"].ID,
			Action: reconcile.WriteOff, Reason: "x", Cause: who}); err != nil {
			t.Fatal(err)
		}
	}
}

// A day that changes each time is not closed, and whoever closes it is not kept waiting for ever.
func TestADayThatKeepsChangingIsNotClosed(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		d.dayToClose(t)
		made := 0
		d.OnProof(func() { made++; d.run(t, day) })
		if _, err := d.CloseDay(t.Context(), reconcile.CloseDay{Date: day, Reason: "done",
			Cause: fin}); !errors.Is(err, reconcile.ErrNotClosable) || made != 3 {
			t.Errorf("made %d times: %v", made, err)
		}
	})
}

// A program that finds more than the one before it must not open every day that was closed: what a closing holds
// against its day is a form of its own, and this is it, in bytes.
func TestWhatAClosingHoldsIsNotWhatAResultHas(t *testing.T) {
	sum := func(n int64) reconcile.Sum { return reconcile.Sum{Count: n, Fen: payment.Fen(n + 1)} }
	bridge := func(n int64) reconcile.Bridge {
		return reconcile.Bridge{BillCount: n, BillFen: payment.Fen(n + 1), OursCount: n + 2,
			OursFen: payment.Fen(n + 3),
			Matched: n + 4, BillOnly: sum(n + 5), LocalOnly: sum(n + 7), Amounts: sum(n + 9), States: n + 11,
			Duplicates: sum(n + 12), AcrossBill: sum(n + 14), AcrossOurs: sum(n + 16), Other: sum(n + 18)}
	}
	res := reconcile.Result{Date: day, Type: payment.BillAll, SHA1: "ab", Payments: bridge(100), Refunds: bridge(200),
		Totals: reconcile.Totals{Rows: 1, Payments: 2, PaidFen: 3, Refunds: 4, RefundFen: 5, FeeX100000: 6},
		Healed: 7, Open: 8, Pending: 9, Source: reconcile.SourceFile, GivenBy: "x", Uncounted: true}
	inBytes := func(n int) string {
		s := func(n int) string { return fmt.Sprintf(`{"count":%d,"fen":%d}`, n, n+1) }
		return fmt.Sprintf(`{"bill_count":%d,"bill_fen":%d,"ours_count":%d,"ours_fen":%d,"matched":%d,"bill_only":%s,`+
			`"local_only":%s,"amounts":%s,"states":%d,"duplicates":%s,"across_bill":%s,"across_ours":%s,`+
			`"other_business":%s}`, n, n+1, n+2, n+3, n+4, s(n+5), s(n+7), s(n+9), n+11, s(n+12), s(n+14),
			s(n+16), s(n+18))
	}
	want := sha256.Sum256([]byte(`{"SHA1":"ab","Totals":{"rows":1,"payments":2,"paid_fen":3,"refunds":4,` +
		`"refund_fen":5,"fee_x100000":6},"Payments":` + inBytes(100) + `,"Refunds":` + inBytes(200) + `,"Ends":"e"}`))
	if got, err := reconcile.FoundOf(&res, "e"); err != nil || got != hex.EncodeToString(want[:]) {
		t.Errorf("%s %v: days that were closed before would be open", got, err)
	}
}

// A row that an older program stored, whose result lacks what came later, stands as it was closed: also after a run of
// this program, which stores all.
func TestADayOfAnOlderProgramStaysClosed(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		d.dayToClose(t)
		c := d.closed(t, day)
		s, err := d.Show(t.Context(), reconcile.ID(day, payment.BillAll))
		if err != nil || s.Result.Payments.BillOnly.Count != 1 {
			t.Fatalf("%+v %v", s.Result, err)
		}
		d.hand(t, `UPDATE reconciliations SET result = REPLACE(result, ',"other_business":{"count":0,"fen":0}', '')`)
		for range 2 {
			if all, err := d.Closings(t.Context(), day); err != nil || len(all) != 1 || all[0].Reopened {
				t.Errorf("%+v %v", all, err)
			}
			if again := d.closed(t, day); again != c {
				t.Errorf("%+v, was %+v", again, c)
			}
			d.run(t, day)
		}
	})
}
