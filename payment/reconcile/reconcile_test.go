package reconcile_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/payment/reconcile"
)

// Without it a good day is not proven: every row meets its row, the bridge closes, nothing is open.
func TestABalancedDay(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		a, b := d.paid(t), d.paid(t)
		r := d.refunded(t, a, 40, payment.RefundSuccess)
		p := d.refunded(t, a, 10, payment.RefundProcessing)
		coupon := payRow(b)
		coupon.coupon = 30 // the buyer's coupon paid a part: what it cost is what counts (peers 31)
		d.bills.bills[day] = billOf(refundRow(p, "PROCESSING"), payRow(a), refundRow(r, "SUCCESS"), coupon)
		res := d.run(t, day)
		if !res.Balanced() || res.Payments.Matched != 2 || res.Refunds.Matched != 2 || res.Payments.BillFen != 200 ||
			res.Refunds.OursFen != 50 || len(d.diffs(t, day)) != 0 {
			t.Fatalf("%+v\n%v", res, d.diffs(t, day))
		}
		var text strings.Builder
		if err := reconcile.WriteText(&text, res); err != nil || !strings.Contains(text.String(), "balanced") {
			t.Error(err, text.String())
		}
		file, s, err := d.OpenBill(t.Context(), reconcile.ID(day, payment.BillAll))
		if err != nil {
			t.Fatal(err)
		}
		stored, err := io.ReadAll(file)
		if err != nil || file.Close() != nil || !bytes.Equal(stored, d.bills.bills[day]) || s.SHA1 != res.SHA1 {
			t.Errorf("the stored bill is another: %v", err)
		}
	})
}

// blnk (peers 40) lets one row satisfy two and does not see what the file lacks; roncoo (peers 39) compares no totals,
// knows no refunds and takes a duplicate for a match. Every kind of difference must be found, and none invented.
func TestEveryKindOfDifference(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		good, twice, short, fen, state := d.paid(t), d.paid(t), d.paid(t), d.paid(t), d.paid(t)
		foreign := revoked("429900", 555)
		okRefund, noRefund, fenRefund, goneRefund := d.refunded(t, good, 1, payment.RefundSuccess),
			d.refunded(t, good, 2, payment.RefundSuccess),
			d.refunded(t, good, 3, payment.RefundSuccess), d.refunded(t, good, 4, payment.RefundSuccess)
		byHand := payment.Refund{OutRefundNo: "BYHAND1", RefundID: "5099", TransactionID: good.TransactionID,
			OutTradeNo: good.OutTradeNo, Amount: 7, CreateTime: noon}
		fenRow, stateRow, fenBack := payRow(fen), payRow(state), refundRow(fenRefund, "SUCCESS")
		fenRow.amount, fenBack.amount, stateRow.state = 101, 4, "REVOKED"
		d.bills.bills[day] = billOf(payRow(good), payRow(twice), payRow(twice), fenRow, stateRow, foreign,
			refundRow(okRefund, "SUCCESS"), refundRow(okRefund, "SUCCESS"), fenBack, refundRow(goneRefund, "FAIL"),
			refundRow(byHand, "SUCCESS"))
		res := d.run(t, day)
		found := d.diffs(t, day)
		for _, want := range []string{
			"DUPLICATE_PAYMENT " + twice.TransactionID, "LOCAL_ONLY " + short.TransactionID, "AMOUNT_MISMATCH " +
				fen.TransactionID,
			"STATE_MISMATCH " + state.TransactionID, "BILL_ONLY 429900", "DUPLICATE_REFUND " + okRefund.OutRefundNo,
			"REFUND_LOCAL_ONLY " + noRefund.OutRefundNo, "REFUND_AMOUNT_MISMATCH " + fenRefund.OutRefundNo,
			"REFUND_STATE_MISMATCH " + goneRefund.OutRefundNo, "REFUND_BILL_ONLY BYHAND1",
		} {
			x, ok := found[want]
			if !ok || x.Status != reconcile.StatusOpen {
				t.Errorf("%s was not found: %+v", want, x)
			}
			delete(found, want)
		}
		if len(found) != 0 || res.Open != 10 || res.Healed != 0 {
			t.Errorf("invented: %v; %+v", found, res)
		}
		if p := res.Payments; p.OursFen+p.BillOnly.Fen-p.LocalOnly.Fen+p.Amounts.Fen+p.Duplicates.Fen != p.BillFen ||
			p.BillFen != 4*100+101+100+555-100 {
			t.Errorf("%+v", p)
		}
	})
}

// What a run resolved because bill and rows agreed stands open again when they differ again; a short bill that came
// twice must not pass as balanced.
func TestResolvedByARunOpensAgain(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		a, b := d.paid(t), d.paid(t)
		whole, short := billOf(payRow(a), payRow(b)), billOf(payRow(a))
		for i, bill := range [][]byte{short, whole, short, whole} {
			d.bills.bills[day] = bill
			res := d.run(t, day)
			x := d.diffs(t, day)["LOCAL_ONLY "+b.TransactionID]
			if isShort := i%2 == 0; res.Balanced() == isShort || (x.Status == reconcile.StatusOpen) != isShort ||
				(x.ResolvedBy == "") != isShort {
				t.Errorf("run %d: %+v, %+v", i+1, res, x)
			}
		}
	})
}

// What a person has accepted is that difference, not whatever the same payment differs by later.
func TestAcceptedIsOneAmountOnly(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		row := payRow(d.paid(t))
		for _, c := range []struct {
			off  payment.Fen
			open int64
		}{{1, 1}, {1, 0}, {1000, 1}, {1, 0}} {
			off := row
			off.amount += c.off
			d.bills.bills[day] = billOf(off)
			if res := d.run(t, day); res.Open != c.open {
				t.Fatalf("%d fen off: %+v", c.off, res)
			}
			for _, x := range d.diffs(t, day) {
				if c.off != 1 || x.Status != reconcile.StatusOpen {
					continue
				}
				for _, who := range []reconcile.Cause{fin, fin2} {
					if _, err := d.Resolve(t.Context(), reconcile.Resolve{ID: x.ID, Action: reconcile.WriteOff,
						Reason: "rounding", Cause: who}); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	})
}

// A payment whose every callback was lost is found by the bill (peers 13, W9) and is recorded
// the way a notification is: on its
// order, or, when that is closed, back by itself.
func TestMissedPaymentsAndRefundsAreHealed(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		open, missed := d.unheard(t)
		closed := d.PlaceOne(t, "late", "mug", 1)
		out := d.Prepaid(t, closed.OrderNo)
		if _, err := d.Cancel(t.Context(), order.CancelRequest{OrderNo: closed.OrderNo, CustomerID: "c",
			Cause: ordertest.Customer}); err != nil {
			t.Fatal(err)
		}
		late, err := d.WeChat.Pay(out, true)
		if err != nil {
			t.Fatal(err)
		}
		late.SuccessTime = noon
		paid := d.paid(t)
		processing := d.refunded(t, paid, 40, payment.RefundProcessing)
		d.bills.bills[day] = billOf(payRow(missed), payRow(late), payRow(paid), refundRow(processing, "SUCCESS"))
		res := d.run(t, day)
		if !res.Balanced() || res.Healed != 3 || res.Payments.Matched != 3 || res.Refunds.Matched != 1 {
			t.Fatalf("%+v\n%v", res, d.diffs(t, day))
		}
		if d.State(t, open.OrderNo) != order.StatePaid || d.State(t, closed.OrderNo) != order.StateLate ||
			d.RefundState(t, "R"+late.TransactionID) != order.RefundStateOwed ||
			d.RefundState(t, processing.OutRefundNo) != order.RefundStateSucceeded {
			t.Errorf("%s, %s, %s", d.State(t, open.OrderNo), d.State(t, closed.OrderNo),
				d.RefundState(t, processing.OutRefundNo))
		}
		x := d.diffs(t, day)["BILL_ONLY "+missed.TransactionID]
		if x.Status != reconcile.StatusResolved || x.Resolution != "healed" || x.ResolvedBy != "reconciler" ||
			x.OrderNo != open.OrderNo {
			t.Errorf("%+v", x)
		}
		if again := d.run(t, day); again.Healed != 3 || again.Payments != res.Payments {
			t.Errorf("%+v\n%+v", again, res)
		}
	})
}

// A file that a person gives carries no signature: what it says is booked only when WeChat, asked, says the same.
func TestGivenFileIsBelievedOnlyWithWeChatsWord(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		real, missed := d.unheard(t)
		fake := d.PlaceOne(t, "fake", "mug", 1)
		d.Prepaid(t, fake.OrderNo)
		bill := billOf(payRow(missed), billRow{at: noon, transaction: "4277", trade: fake.OrderNo + "-01", amount: 100})
		for _, file := range [][]byte{bill, zipped(bill)} {
			res, err := d.Run(t.Context(), reconcile.RunRequest{Date: day, By: fin, File: bytes.NewReader(file)})
			if err != nil || res.Open != 1 || res.Healed != 1 {
				t.Fatalf("%+v, %v", res, err)
			}
		}
		if d.State(t, real.OrderNo) != order.StatePaid || d.State(t, fake.OrderNo) != order.StatePending ||
			d.bills.asked != 0 {
			t.Errorf("%s, %s", d.State(t, real.OrderNo), d.State(t, fake.OrderNo))
		}
	})
}

func zipped(b []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, _ = z.Write(b)
	_ = z.Close()
	return out.Bytes()
}

// A bill of another merchant or day, a web page, a cut or packed-up file: a clear error, and nothing is changed.
func TestBadFilesChangeNothing(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		o, missed := d.unheard(t)
		good := billOf(payRow(missed))
		other, yesterday := payRow(missed), payRow(missed)
		other.mchID, yesterday.at = "1999999999", noon.AddDate(0, 0, -1)
		lines := strings.SplitAfter(string(good), "\r\n")
		for name, c := range map[string]struct {
			file []byte
			says string
		}{
			"another merchant": {billOf(payRow(missed), other), "of merchant 1999999999"},
			"another day":      {billOf(yesterday), "is of 2026-11-19"},
			"a web page":       {[]byte("<!DOCTYPE html><html>busy</html>"), "a web page"},
			"a JSON answer":    {[]byte(`{"code":"NO_AUTH"}`), "a JSON answer"},
			"no summary":       {[]byte(lines[0] + lines[1]), "it is cut"},
			"half a summary":   {[]byte(lines[0] + lines[1] + lines[2]), "the file is cut"},
			"half a row":       {[]byte(lines[0] + lines[1][:60]), "cells"},
			"a row is missing": {[]byte(lines[0] + lines[2] + lines[3]), "the rows make 0"},
			"a fen off": {bytes.Replace(good, []byte("`1.00,`0.00,`0,"), []byte("`1.01,`0.00,`0,"), 1),
				"应结订单总金额"},
			"money as text": {bytes.Replace(good, []byte("`1.00,`0.00,`0,"), []byte("`1,00,`0.00,`0,"), 1),
				"is not an amount"},
			"half a fen": {bytes.Replace(good, []byte("`1.00,`0.00,`0,"), []byte("`1.005,`0.00,`0,"), 1),
				"decimals"},
			"no such day":   {bytes.Replace(good, []byte("2026-11-20"), []byte("2026-13-40"), 1), "is not a time"},
			"other columns": {bytes.Replace(good, []byte("微信订单号"), []byte("订单号"), 1), "微信订单号 is missing"},
			"broken gzip":   {append([]byte{0x1f, 0x8b}, "rubbish and more of it"...), "gzip"},
			"cut gzip":      {zipped(good)[:40], "gzip"},
			"a gzip bomb":   {zipped(make([]byte, 64<<20)), "beyond all measure"},
			"a long line":   {append([]byte(lines[0]), bytes.Repeat([]byte("`x"), 100_000)...), "longer than"},
			"more after it": {append(bytes.Clone(good), "`1\r\n"...), "after the summary"},
			"empty":         {nil, "empty"},
		} {
			_, err := d.Run(t.Context(), reconcile.RunRequest{Date: day, By: fin, File: bytes.NewReader(c.file)})
			if !errors.Is(err, reconcile.ErrBadBill) || !strings.Contains(fmt.Sprint(err), c.says) {
				t.Errorf("%s: %v, want %q", name, err, c.says)
			}
		}
		if d.State(t, o.OrderNo) != order.StatePending || len(d.diffs(t, day)) != 0 {
			t.Errorf("a bad bill did something: %s, %v", d.State(t, o.OrderNo), d.diffs(t, day))
		}
		s, err := d.Show(t.Context(), reconcile.ID(day, payment.BillAll))
		if err != nil || s.State != "failed" || s.Problem == "" || s.SHA1 != "" {
			t.Errorf("%+v, %v", s, err)
		}
		for _, q := range []reconcile.RunRequest{{Date: "20.11.2026"}, {Date: "2026-12-01"},
			{Date: day, Type: "SOME"}} {
			if _, err := d.Run(t.Context(), q); !errors.Is(err, reconcile.ErrRequest) {
				t.Errorf("%+v: %v", q, err)
			}
		}
	})
}

// A payment in the last second of a day may be in the next day's bill (日切): it waits for that one before it alarms,
// and the bill that has it must not call it 长款.
func TestMidnight(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		d.Clock.Set(time.Date(2026, 11, 20, 15, 59, 59, 0, time.UTC)) // 23:59:59 in Beijing
		edge, lost := d.paid(t), d.paid(t)
		d.Clock.Set(noon.Add(time.Hour))
		mid := d.paid(t)
		d.bills.bills[day] = billOf(payRow(mid))
		res := d.run(t, day)
		if res.Open != 0 || res.Pending != 2 {
			t.Fatalf("%+v", res)
		}
		next := payRow(edge)
		next.at = time.Date(2026, 11, 20, 16, 0, 0, 0, time.UTC) // midnight
		d.bills.bills["2026-11-21"] = billOf(next)
		d.Clock.Set(noon.Add(48 * time.Hour))
		if res := d.run(t, "2026-11-21"); res.Open != 0 || res.Payments.AcrossBill.Fen != 100 {
			t.Fatalf("%+v\n%v", res, d.diffs(t, "2026-11-21"))
		}
		found := d.diffs(t, day)
		if x := found["LOCAL_ONLY "+edge.TransactionID]; x.Status != reconcile.StatusResolved {
			t.Errorf("%+v", x)
		}
		if x := found["LOCAL_ONLY "+lost.TransactionID]; x.Status != reconcile.StatusOpen {
			t.Errorf("the next bill did not have it either: %+v", x)
		}
		if res := d.run(t, day); res.Open != 1 || res.Pending != 0 || res.Payments.AcrossOurs.Fen != 100 {
			t.Errorf("%+v", res)
		}
	})
}

// Runs that are killed anywhere, and repeated, must end in the bytes of one clean run.
func TestKilledRunsEndLikeACleanOne(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		d := newDesk(t, db)
		var rows []billRow
		for i := range 40 {
			switch i % 5 {
			case 0:
				_, trade := d.unheard(t)
				rows = append(rows, payRow(trade))
			case 1:
				d.paid(t) // short
			case 2:
				r := payRow(d.paid(t))
				r.amount++
				rows = append(rows, r)
			case 3:
				rows = append(rows, revoked(fmt.Sprint("42990", i), 5))
			default:
				r := payRow(d.paid(t))
				rows = append(rows, r, r)
			}
		}
		d.bills.bills[day] = billOf(rows...)
		// Killed: the context ends at some moment of the run, or at a payment.
		killed := 0
		for kill := range 12 {
			ctx, cancel := context.WithCancel(t.Context())
			steps := 0
			stop := func(string) error {
				if steps++; steps > kill {
					cancel()
					return ctx.Err()
				}
				return nil
			}
			d.shop.before = stop
			_, err := d.Run(ctx, reconcile.RunRequest{Date: day, Progress: func(stage string, _, _ int64) {
				if kill%3 == 0 {
					_ = stop(stage)
				}
			}})
			cancel()
			if err != nil {
				killed++
			}
		}
		if killed < 5 {
			t.Fatalf("only %d of 12 runs were killed", killed)
		}
		d.shop.before = nil
		first := d.run(t, day)
		dump := d.dump(t, day)
		for range 3 {
			d.run(t, day)
			if again := d.dump(t, day); again != dump {
				t.Fatalf("another run, other bytes:\n%s\n%s", dump, again)
			}
		}
		if first.Healed != 8 || first.Open != 8+8+8+8 {
			t.Errorf("%+v", first)
		}
	})
}

// One run per bill at a time; a killed one must not hold its bill for ever.
func TestOneRunAtATime(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		_, trade := d.unheard(t)
		d.bills.bills[day] = billOf(payRow(trade))
		inside, leave := make(chan struct{}), make(chan struct{})
		d.shop.before = func(string) error { close(inside); <-leave; return nil }
		done := make(chan error, 1)
		go func() {
			_, err := d.Run(t.Context(), reconcile.RunRequest{Date: day})
			done <- err
		}()
		<-inside
		if _, err := d.Run(t.Context(), reconcile.RunRequest{Date: day}); !errors.Is(err, reconcile.ErrRunning) {
			t.Errorf("a second run: %v", err)
		}
		d.Clock.Advance(time.Minute) // the first one has not said for a minute that it lives
		d.shop.before = nil
		if res, err := d.Run(t.Context(), reconcile.RunRequest{Date: day}); err != nil || !res.Balanced() {
			t.Errorf("after the lease: %+v, %v", res, err)
		}
		close(leave)
		if err := <-done; !errors.Is(err, reconcile.ErrRunning) {
			t.Errorf("the one that was overtaken: %v", err)
		}
		if s, err := d.Show(t.Context(), reconcile.ID(day, payment.BillAll)); err != nil || s.State != "done" ||
			s.Result.Healed != 1 {
			t.Errorf("%+v, %v", s, err)
		}
	})
}

// NO_STATEMENT_EXIST is an empty day, and then what we have is short; STATEMENT_CREATING waits;
// missed days are caught up with.
func TestCatchUp(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		if err := d.CatchUp(t.Context()); err != nil || d.bills.asked != 0 {
			t.Fatalf("nothing was ever paid, yet %d bills were asked for: %v", d.bills.asked, err)
		}
		trade := d.paid(t)
		_, grown := d.unheard(t)
		d.bills.bills[day] = billOf(payRow(trade))
		before := time.Date(2026, 11, 23, 1, 59, 0, 0, time.UTC) // 9:59 in Beijing of the 23rd
		d.Clock.Set(before.Add(-6 * time.Hour))
		d.bills.err = payment.ErrBillNotReady
		if err := d.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s, err := d.Show(t.Context(), reconcile.ID(day, payment.BillAll)); err != nil || s.State != "waiting" {
			t.Errorf("%+v, %v", s, err)
		}
		d.bills.err = nil
		d.Clock.Set(before)
		for range 2 {
			if err := d.CatchUp(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		all, err := d.Reconciler.List(t.Context(), "", 10)
		if err != nil || len(all) != 2 || all[0].Date != "2026-11-21" || all[1].Date != day || all[0].SHA1 != "" ||
			!all[1].Result.Balanced() {
			t.Fatalf("before ten o'clock: %+v, %v", all, err)
		}
		d.Clock.Advance(time.Minute)
		if err := d.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		if all, err := d.Reconciler.List(t.Context(), "", 10); err != nil || len(all) != 3 ||
			all[0].Date != "2026-11-22" {
			t.Errorf("%+v, %v", all, err)
		}
		asked := d.bills.asked
		if err := d.CatchUp(t.Context()); err != nil || d.bills.asked != asked {
			t.Errorf("done days are asked for again: %d, %v", d.bills.asked-asked, err)
		}

		grown.SuccessTime = noon.Add(time.Hour)
		if s, err := d.Settle(t.Context(), grown, ordertest.Notified); err != nil || s.Settled != order.SettledApplied {
			t.Fatal(s, err)
		}
		d.bills.bills[day] = billOf(payRow(trade), payRow(grown))
		for range 2 {
			if err := d.CatchUp(t.Context()); err != nil || d.bills.asked != asked+1 {
				t.Errorf("a payment came into a day that is done: %d bills asked for, %v", d.bills.asked-asked, err)
			}
		}
		if s, err := d.Show(t.Context(), reconcile.ID(day, payment.BillAll)); err != nil ||
			s.Result.Payments.OursFen != trade.Total+grown.Total || !s.Result.Balanced() {
			t.Errorf("%+v, %v", s, err)
		}

		if res := d.run(t, "2026-11-23"); res.Open != 0 { // the day goes on after it
			t.Fatalf("%+v", res)
		}
		d.Clock.Advance(24 * time.Hour)
		for range 2 {
			if err := d.CatchUp(t.Context()); err != nil || d.bills.asked != asked+3 {
				t.Errorf("a day that was reconciled before its end: %d bills asked for, %v", d.bills.asked-asked, err)
			}
		}
	})
}

// A difference is resolved by people: applied by WeChat's word, sent back, left waiting, or written off by two.
func TestResolutions(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		o, missed := d.unheard(t)
		odd := d.PlaceOne(t, "odd", "mug", 1)
		d.Prepaid(t, odd.OrderNo)
		wrong := payment.Trade{OutTradeNo: odd.OrderNo + "-01", State: payment.TradeSuccess, TransactionID: "4266",
			AppID: ordertest.AppID, MchID: ordertest.MchID, TradeType: "NATIVE",
			Total: 99, PayerTotal: payment.Said(99),
			Currency: payment.CNY, SuccessTime: noon}
		d.WeChat.Put(wrong)
		short := d.paid(t)
		d.bills.bills[day] = billOf(payRow(missed), payRow(wrong))
		d.shop.before = func(string) error { return errors.New("orders take nothing in") }
		if res := d.run(t, day); res.Open != 3 || res.Healed != 0 {
			t.Fatalf("%+v", res)
		}
		d.shop.before = nil
		found := d.diffs(t, day)
		resolve := func(id string, a reconcile.Action, who reconcile.Cause) (reconcile.Difference, error) {
			return d.Resolve(t.Context(), reconcile.Resolve{ID: id, Action: a, Reason: "seen", Cause: who})
		}
		x, err := resolve(found["BILL_ONLY "+missed.TransactionID].ID, reconcile.ApplyPayment, fin)
		if err != nil || x.Status != reconcile.StatusResolved || x.ResolvedBy != "fin" || x.ResolvedWhy != "seen" ||
			d.State(t, o.OrderNo) != order.StatePaid {
			t.Errorf("apply: %+v, %v", x, err)
		}
		if _, err := resolve(x.ID, reconcile.WriteOff, fin); !errors.Is(err, reconcile.ErrResolved) {
			t.Errorf("resolved twice: %v", err)
		}
		res := d.run(t, day) // the wrong amount is taken in now, and held
		found = d.diffs(t, day)
		held := found["STATE_MISMATCH 4266"]
		if held.Status != reconcile.StatusOpen || held.OursState != "held" || res.Open != 2 {
			t.Fatalf("%+v\n%v", res, found)
		}
		if x, err := resolve(held.ID, reconcile.RefundPayment, fin); err != nil ||
			x.Status != reconcile.StatusResolved || d.RefundState(t, "R4266") != order.RefundStateOwed {
			t.Errorf("refund: %+v, %v", x, err)
		}
		lost := found["LOCAL_ONLY "+short.TransactionID].ID
		if _, err := resolve(lost, reconcile.RefundPayment, fin); !errors.Is(err, reconcile.ErrRequest) {
			t.Errorf("a payment that has its order was sent back: %v", err)
		}
		if x, err := resolve(lost, reconcile.WriteOff, fin); err != nil || x.Status != reconcile.StatusOpen ||
			x.ProposedBy != "fin" {
			t.Errorf("proposed: %+v, %v", x, err)
		}
		if _, err := resolve(lost, reconcile.WriteOff, fin); !errors.Is(err, reconcile.ErrSecondPerson) {
			t.Errorf("one person wrote off: %v", err)
		}
		if x, err := resolve(lost, reconcile.WriteOff, fin2); err != nil || x.Status != reconcile.StatusWrittenOff ||
			x.ResolvedBy != "fin2" {
			t.Errorf("written off: %+v, %v", x, err)
		}
		d.Clock.Advance(24 * time.Hour) // the day is over
		if res := d.run(t, day); res.Open != 0 {
			t.Errorf("what people resolved was opened again: %+v", res)
		}
		if open, err := d.Open(t.Context()); err != nil || len(open.Count) != 0 || open.LastDone != day {
			t.Errorf("%+v, %v", open, err)
		}
	})
}
