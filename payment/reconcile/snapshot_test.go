package reconcile_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"orderd/order"
	"orderd/payment"
	"orderd/payment/reconcile"
)

// A bill is a snapshot of the night: its FAIL makes another refund go out only when WeChat Pay, asked, says so now.
func TestAFailOfTheBillSendsNoRefundByItself(t *testing.T) {
	for name, c := range map[string]struct {
		now  payment.RefundStatus
		away error
		want order.RefundState
	}{
		"it went out meanwhile": {payment.RefundSuccess, nil, order.RefundStateSucceeded},
		"it is under way":       {payment.RefundProcessing, nil, order.RefundStateProcessing},
		"it failed":             {payment.RefundClosed, nil, order.RefundStateClosed},
		"WeChat Pay is away":    {payment.RefundClosed, errors.New("away"), order.RefundStateProcessing},
	} {
		eachDesk(t, func(t *testing.T, d *desk) {
			paid := d.paid(t)
			r := d.refunded(t, paid, 50, payment.RefundProcessing)
			if c.now != payment.RefundProcessing {
				d.WeChat.EndRefund(r.OutRefundNo, c.now)
			}
			asked := false
			d.WeChat.Before = func(op, no string) error {
				asked = asked || op == "refund_query" && no == r.OutRefundNo
				return c.away
			}
			d.bills.bills[day] = billOf(payRow(paid), refundRow(r, "FAIL"))
			d.run(t, day)
			d.WeChat.Before = nil
			all, _, err := d.ListRefunds(t.Context(), order.RefundFilter{OrderNo: paid.OutTradeNo[:26], Limit: 10})
			sent := 1
			if c.want == order.RefundStateClosed {
				sent = 2 // and the one that takes its place
			}
			if err != nil || len(all) != sent || all[len(all)-1].State != c.want || !asked {
				t.Errorf("%s: asked %t, %+v, %v", name, asked, all, err)
			}
		})
	}
}

// A day that is done stays done when a bill that comes later is no bill, whoever brings it; what was wrong is said.
func TestABadBillLeavesADoneDayDone(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		paid := d.paid(t)
		d.bills.bills[day] = billOf(payRow(paid))
		d.Clock.Set(noon.AddDate(0, 0, 1))
		d.run(t, day)
		was := d.dump(t, day)
		done, err := d.Open(t.Context())
		if err != nil || done.LastDone != day || !done.LastDoneAt.Equal(d.Clock.Now()) {
			t.Errorf("%+v, %v", done, err)
		}
		d.Clock.Advance(time.Hour)
		bad := []byte("<html>")
		d.bills.bills[day] = bad
		for _, q := range []reconcile.RunRequest{{Date: day}, {Date: day, By: fin, File: bytes.NewReader(bad)}} {
			if _, err := d.Run(t.Context(), q); !errors.Is(err, reconcile.ErrBadBill) {
				t.Error(err)
			}
			s, err := d.Show(t.Context(), reconcile.ID(day, payment.BillAll))
			if err != nil || s.State != "done" || !strings.Contains(s.Problem, "web page") || d.dump(t, day) != was {
				t.Errorf("%+v, %v", s, err)
			}
		}
		if o, err := d.Open(t.Context()); err != nil || o.LastDone != day || !o.LastDoneAt.Equal(done.LastDoneAt) {
			t.Errorf("%+v, %v", o, err)
		}
	})
}

// A bill that is in the making is not asked for every ten minutes, and not for ever without a word.
func TestABillInTheMakingIsAskedForOnALadder(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		d.paid(t)
		d.bills.err = payment.ErrBillNotReady
		due := time.Date(2026, 11, 21, 2, 0, 0, 0, time.UTC) // ten in Beijing
		var asked []time.Duration
		for at := time.Duration(0); at <= 23*time.Hour; at += 10 * time.Minute {
			d.Clock.Set(due.Add(at))
			before := d.bills.asked
			if err := d.CatchUp(t.Context()); err != nil {
				t.Fatal(err)
			}
			if d.bills.asked > before {
				asked = append(asked, at)
			}
		}
		want := []time.Duration{0, 30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour, 8 * time.Hour,
			14 * time.Hour, 20 * time.Hour}
		if len(asked) != len(want) {
			t.Fatalf("asked after %v", asked)
		}
		for i := range want {
			if asked[i] != want[i] {
				t.Errorf("asked after %v, want %v", asked, want)
			}
		}
		alarms := strings.Count(d.log.String(), "WeChat Pay does not make the bill of a day")
		if alarms != 4 { // after 4, 8, 14 and 20 hours
			t.Errorf("%d alarms: %s", alarms, d.log)
		}
		d.bills.err, d.bills.bills[day] = nil, billOf()
		d.Clock.Set(due.Add(26 * time.Hour))
		if err := d.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s, err := d.Show(t.Context(), reconcile.ID(day, payment.BillAll)); err != nil || s.State != "done" {
			t.Errorf("%+v, %v", s, err)
		}
	})
}
