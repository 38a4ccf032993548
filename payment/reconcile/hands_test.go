package reconcile_test

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/payment"
	"orderd/payment/operators"
	"orderd/payment/reconcile"
)

// give runs a bill that a person gives.
func (d *desk) give(t *testing.T, who reconcile.Cause, bill []byte) reconcile.Result {
	t.Helper()
	d.Clock.Advance(time.Second) // files are listed as they came
	res, err := d.Run(t.Context(), reconcile.RunRequest{Date: day, By: who, File: bytes.NewReader(bill)})
	if err != nil {
		t.Fatal(err)
	}
	if res.Source != reconcile.SourceFile || res.GivenBy != who.ActorID {
		t.Errorf("who gave it is not in the result: %+v", res)
	}
	return res
}

// confirm is a second person's word on a file.
func (d *desk) confirm(t *testing.T, who reconcile.Cause, bill []byte) (reconcile.Result, error) {
	t.Helper()
	sum := sha1.Sum(bill)
	return d.Confirm(t.Context(), reconcile.Confirmation{ID: reconcile.ID(day, payment.BillAll), Reason: "compared",
		SHA1: hex.EncodeToString(sum[:]), Cause: who})
}

// shown is a day as it is kept.
func (d *desk) shown(t *testing.T) reconcile.Stored {
	t.Helper()
	s, err := d.Show(t.Context(), reconcile.ID(day, payment.BillAll))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// WeChat Pay's signed bill lacks a payment; then one person gives a file that has it, and money that may be missing is
// nobody's business any more. Nor may a file take the place of the signed bill, nor a bad one make its day undone.
func TestAFileEndsNothingThatASignedBillOpened(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		a, b := d.paid(t), d.paid(t)
		d.bills.bills[day] = billOf(payRow(a))
		d.Clock.Set(noon.Add(48 * time.Hour))
		signed := d.run(t, day)
		before := d.shown(t)
		if signed.Open != 1 || signed.Source != reconcile.SourceWeChat || before.Source != reconcile.SourceWeChat {
			t.Fatalf("%+v", signed)
		}
		res := d.give(t, fin, billOf(payRow(a), payRow(b)))
		x := d.diffs(t, day)["LOCAL_ONLY "+b.TransactionID]
		if res.Open != 1 || !res.Uncounted || x.Status != reconcile.StatusOpen {
			t.Errorf("a file by one person ended it: %+v, %+v", res, x)
		}
		if after := d.shown(t); after.SHA1 != before.SHA1 || after.State != "done" ||
			!after.FinishedAt.Equal(before.FinishedAt) || after.Source != reconcile.SourceWeChat ||
			after.Result.Payments != before.Result.Payments {
			t.Errorf("the signed bill was replaced: %+v", after)
		}
		if _, err := d.Run(t.Context(), reconcile.RunRequest{Date: day, By: fin,
			File: strings.NewReader("<html>")}); !errors.Is(err, reconcile.ErrBadBill) {
			t.Error(err)
		}
		if after := d.shown(t); after.State != "done" || after.Problem != "" {
			t.Errorf("a bad file made the day undone: %+v", after)
		}
		if _, err := d.confirm(t, fin2, billOf(payRow(a), payRow(b))); !errors.Is(err, reconcile.ErrRequest) {
			t.Errorf("a file beside the signed bill was confirmed: %v", err)
		}
		// What a file has besides is added, names its source, and the signed bill decides about it.
		stranger := revoked("429", 7)
		d.give(t, fin2, billOf(payRow(a), stranger))
		if x := d.diffs(t, day)["BILL_ONLY 429"]; x.Status != reconcile.StatusOpen ||
			x.Source != reconcile.SourceFile || x.GivenBy != "fin2" {
			t.Errorf("%+v", x)
		}
		if res := d.run(t, day); res.Open != 1 || d.diffs(t, day)["BILL_ONLY 429"].Status != reconcile.StatusResolved {
			t.Errorf("%+v", res)
		}
		files, err := d.Files(t.Context(), reconcile.ID(day, payment.BillAll))
		if err != nil || len(files) != 3 || files[0].Source != reconcile.SourceWeChat || files[1].GivenBy[0] != "fin" {
			t.Errorf("%+v, %v", files, err)
		}
	})
}

// A shop that WeChat Pay cannot be reached from works with files: one person's adds what differs and ends nothing,
// and counts when a second person confirms it, until WeChat Pay's own bill comes.
func TestAFileCountsByTwoPeople(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		a, b := d.paid(t), d.paid(t)
		d.Clock.Set(noon.Add(24 * time.Hour))
		d.bills.err = errors.New("no way to WeChat Pay")
		if res := d.give(t, fin, billOf(payRow(a))); res.Open != 1 || !res.Uncounted {
			t.Fatalf("%+v", res)
		}
		whole := billOf(payRow(a), payRow(b))
		if res := d.give(t, fin, whole); res.Open != 1 {
			t.Fatalf("the same person ended it by another file: %+v", res)
		}
		if open, err := d.Open(t.Context()); err != nil || open.LastDone != "" {
			t.Errorf("a file made the day done: %+v, %v", open, err)
		}
		if _, err := d.confirm(t, fin, whole); !errors.Is(err, reconcile.ErrSecondPerson) {
			t.Errorf("one person: %v", err)
		}
		if _, err := d.confirm(t, reconcile.ByOperator("cli:root", "cli", ""), whole); !errors.Is(err,
			operators.ErrShell) {
			t.Errorf("the shell: %v", err)
		}
		if x := d.diffs(t, day)["LOCAL_ONLY "+b.TransactionID]; x.Status != reconcile.StatusOpen {
			t.Errorf("%+v", x)
		}
		res, err := d.confirm(t, fin2, whole)
		if err != nil || res.Open != 0 || res.Uncounted || res.GivenBy != "fin" || res.ConfirmedBy != "fin2" {
			t.Fatalf("%+v, %v", res, err)
		}
		if s := d.shown(t); s.Source != reconcile.SourceFile || !s.Counts || s.Result.ConfirmedBy != "fin2" {
			t.Errorf("%+v", s)
		}
		// It says so, and the day is still asked for: WeChat Pay's own bill decides when it comes.
		d.bills.err = nil
		d.bills.bills[day] = billOf(payRow(a))
		d.Clock.Set(noon.Add(48 * time.Hour))
		if err := d.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s := d.shown(t); s.Source != reconcile.SourceWeChat || s.Result.Open != 1 || s.Result.ConfirmedBy != "" {
			t.Errorf("%+v %+v", s, s.Result)
		}
		if open, err := d.Open(t.Context()); err != nil || open.LastDone < day {
			t.Errorf("%+v, %v", open, err)
		}
		// The confirmed file given once more ends nothing now.
		if res := d.give(t, fin, whole); res.Open != 1 || !res.Uncounted {
			t.Errorf("%+v", res)
		}
	})
}

// What a file heals is what WeChat Pay, asked, has confirmed; and who gives a file is asked for.
func TestAFileHealsOnlyByWeChatsWord(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		paid := d.paid(t)
		o, missed := d.unheard(t)
		r := d.refunded(t, paid, 10, payment.RefundProcessing)
		res := d.give(t, fin, billOf(payRow(paid), payRow(missed), refundRow(r, "SUCCESS")))
		if res.Healed != 1 || res.Open != 1 || d.State(t, o.OrderNo) != order.StatePaid ||
			d.RefundState(t, r.OutRefundNo) != order.RefundStateProcessing {
			t.Errorf("%+v, %v", res, d.diffs(t, day))
		}
		if _, err := d.Run(t.Context(), reconcile.RunRequest{Date: day,
			File: bytes.NewReader(billOf())}); !errors.Is(err, reconcile.ErrRequest) {
			t.Errorf("nobody gave it: %v", err)
		}
	})
}

// What somebody called resolved and a signed bill finds again is open again, whoever said so and whatever reason he
// gave; only what two people wrote off stays.
func TestTheLastSignedBillDecidesWhatIsOpen(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		a, b, c := d.paid(t), d.paid(t), d.paid(t)
		d.bills.bills[day] = billOf(payRow(a))
		d.run(t, day)
		found := d.diffs(t, day)
		lost, gone := found["LOCAL_ONLY "+b.TransactionID], found["LOCAL_ONLY "+c.TransactionID]
		for _, who := range []reconcile.Cause{fin, fin2} {
			if _, err := d.Resolve(t.Context(), reconcile.Resolve{ID: gone.ID, Action: reconcile.WriteOff, Reason: "x",
				Cause: who}); err != nil {
				t.Fatal(err)
			}
		}
		for _, set := range []string{"status = 'RESOLVED', resolved_by = 'li', resolved_why = 'seen'",
			"status = 'PENDING_NEXT_DAY', resolved_by = 'li', resolved_why = 'x', pending_until = 99999999999999",
			"status = 'RESOLVED', resolved_by = 'reconciler', resolved_why = 'tomorrow'"} {
			err := d.DB.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
				_, err := tx.Update(ctx, "UPDATE differences SET "+set+" WHERE id = ?", lost.ID)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if res := d.run(t, day); res.Open != 1 || d.diffs(t, day)["LOCAL_ONLY "+b.TransactionID].Status !=
				reconcile.StatusOpen {
				t.Errorf("%s: %+v", set, res)
			}
		}
	})
}

// A refund that was made on the merchant platform may be known by the bill alone: it counts against its payment from
// then on, and stays open for a person.
func TestARefundThatOnlyTheBillHasCounts(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		paid := d.paid(t)
		foreign := payment.Refund{OutRefundNo: "BYHAND1", RefundID: "5099", TransactionID: paid.TransactionID,
			OutTradeNo: paid.OutTradeNo, Amount: 70, CreateTime: noon}
		d.bills.bills[day] = billOf(payRow(paid), refundRow(foreign, "SUCCESS"))
		for range 2 {
			if res := d.run(t, day); res.Open != 1 || res.Healed != 0 {
				t.Errorf("%+v", res)
			}
		}
		r, err := d.FindRefund(t.Context(), "BYHAND1")
		if err != nil || r.State != order.RefundStateHeld || r.Told != payment.RefundSuccess || r.Elsewhere != 70 {
			t.Fatalf("%+v, %v", r, err)
		}
		thirty, forty := payment.Fen(30), payment.Fen(31)
		ask := order.AskRefund{OrderNo: paid.OutTradeNo[:26], CustomerID: "c", RequestID: "r1", Amount: &forty,
			Reason: "x", Cause: order.Cause{Actor: order.Actor{Type: order.ActorCustomer, ID: "c"}, Type: "request"}}
		var exceeds *order.RefundExceedsError
		if _, err := d.AskRefund(t.Context(), ask); !errors.As(err, &exceeds) || exceeds.Left != 30 {
			t.Errorf("%v", err)
		}
		ask.Amount, ask.RequestID = &thirty, "r2"
		if a, err := d.AskRefund(t.Context(), ask); err != nil || a.Refund.State != order.RefundStatePending {
			t.Errorf("it went out by itself: %+v, %v", a, err)
		}
	})
}

// Two people confirmed a file; then two people confirmed a better one, which opens a difference. One person gives the
// first file again: it ends nothing. Two people may go back to it.
func TestOnePersonGoesBackToNoOlderConfirmedFile(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		a, b := d.paid(t), d.paid(t)
		d.Clock.Set(noon.Add(24 * time.Hour))
		wrong, right := billOf(payRow(a), payRow(b)), billOf(payRow(a))
		for _, file := range [][]byte{wrong, right} {
			d.give(t, fin, file)
			d.Clock.Advance(time.Minute)
			if _, err := d.confirm(t, fin2, file); err != nil {
				t.Fatal(err)
			}
			d.Clock.Advance(time.Minute)
		}
		id := "LOCAL_ONLY " + b.TransactionID
		if x := d.diffs(t, day)[id]; x.Status != reconcile.StatusOpen {
			t.Fatalf("%+v", x)
		}
		before := d.shown(t)
		res := d.give(t, fin, wrong)
		if x := d.diffs(t, day)[id]; x.Status != reconcile.StatusOpen || !res.Uncounted {
			t.Errorf("ended by one person: %s %s, open %d", x.Status, x.Resolution, res.Open)
		}
		if after := d.shown(t); after.SHA1 != before.SHA1 || !after.Counts {
			t.Errorf("the day rests on another file: %+v", after)
		}
		if res, err := d.confirm(t, fin2, wrong); err != nil || res.Open != 0 || res.ConfirmedBy != "fin2" {
			t.Errorf("two people: %+v, %v", res, err)
		}
		if res := d.give(t, fin, wrong); res.Uncounted || res.ConfirmedBy != "fin2" {
			t.Errorf("the file that the day rests on: %+v", res)
		}
	})
}

// Two people stand behind a file; then the second one gives the same file again, because WeChat Pay is still away and
// the day has to run again. Nothing is wrong.
func TestWhoConfirmedAFileMayGiveIt(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		bill := billOf(payRow(d.paid(t)))
		d.Clock.Set(noon.Add(24 * time.Hour))
		d.give(t, fin, bill)
		if _, err := d.confirm(t, fin2, bill); err != nil {
			t.Fatal(err)
		}
		d.AssertVerified(t)
		d.give(t, fin2, bill)
		d.AssertVerified(t)
	})
}

// A day has its signed bill. Weeks later a file has a payment besides that WeChat Pay, asked, confirms: it is booked,
// and the signed bill is held against it by itself, and lacks it.
func TestWhatAFileBooksIsHeldAgainstTheSignedBill(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		a := d.paid(t)
		_, b := d.unheard(t)
		d.bills.bills[day] = billOf(payRow(a))
		d.Clock.Set(noon.Add(24 * time.Hour))
		d.run(t, day)
		d.AssertVerified(t)
		d.Clock.Set(noon.Add(20 * 24 * time.Hour))
		if res := d.give(t, fin, billOf(payRow(a), payRow(b))); res.Healed != 1 || !res.Uncounted {
			t.Fatalf("%+v", res)
		}
		d.AssertVerified(t)
		if s := d.shown(t); s.State != "waiting" || s.Source != reconcile.SourceWeChat || !s.Counts {
			t.Errorf("%+v", s)
		}
		if err := d.CatchUp(t.Context()); err != nil {
			t.Error(err)
		}
		d.AssertVerified(t)
		if x := d.diffs(t, day)["LOCAL_ONLY "+b.TransactionID]; x.Status != reconcile.StatusOpen {
			t.Errorf("WeChat Pay's bill lacks it: %+v", x)
		}
		if s := d.shown(t); s.State != "done" || s.Problem != "" {
			t.Errorf("%+v", s)
		}
	})
}
