package reconcile_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/payment/operators"
	"orderd/payment/reconcile"
)

// states are the days of a month that stand otherwise than the rest.
func states(m reconcile.Month) map[string]reconcile.DayState {
	all := map[string]reconcile.DayState{}
	for _, d := range m.Days {
		all[d.Date[8:]] = d.State
	}
	return all
}

// finance gives people accounts that may do finance's work, older than a day.
func (d *desk) finance(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := operators.Create(t.Context(), d.DB, name, operators.Finance, operators.Bootstrap,
			noon.Add(-30*24*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
}

// A month whose sums lack a day without saying so is closed with the wrong numbers: every day is there, and what is
// missing is counted.
func TestAMonthShowsEveryDay(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		first := d.paid(t) // on the 20th
		d.bills.bills[day] = billOf(payRow(first))
		d.Clock.Advance(24 * time.Hour)
		d.paid(t) // on the 21st, and its bill lacks it
		d.bills.bills["2026-11-21"] = billOf()
		d.Clock.Advance(24 * time.Hour)
		refunded := d.paid(t) // on the 22nd, and nobody reconciles it
		d.refunded(t, refunded, 5, payment.RefundSuccess)
		d.Clock.Set(time.Date(2026, 11, 23, 1, 59, 0, 0, time.UTC)) // 9:59 of the 23rd: the bill of the 22nd is not due
		d.run(t, day)
		d.run(t, "2026-11-21")
		m, err := d.Month(t.Context(), "2026-11")
		if err != nil || len(m.Days) != 30 {
			t.Fatalf("%d days, %v", len(m.Days), err)
		}
		s := states(m)
		for date, want := range map[string]reconcile.DayState{"01": reconcile.DayBefore, "19": reconcile.DayBefore,
			"20": reconcile.DayBalanced, "21": reconcile.DayOpen, "22": reconcile.DayNotDue,
			"30": reconcile.DayNotDue} {
			if s[date] != want {
				t.Errorf("the %s is %s, not %s", date, s[date], want)
			}
		}
		if m.Missing != 0 || m.NotDue != 9 || m.Sums.Open != 1 || m.Sums.PaidFen != first.Total ||
			m.Sums.OursPaidFen != 2*first.Total || m.Balanced() || m.Closed {
			t.Errorf("%+v", m)
		}
		d.Clock.Advance(2 * time.Minute) // the bill of the 22nd is due
		if m, err = d.Month(t.Context(), "2026-11"); err != nil || m.Missing != 1 || m.NotDue != 8 ||
			states(m)["22"] != reconcile.DayMissing || m.Days[21].Figures != nil {
			t.Errorf("%v: %d missing, the 22nd is %s", err, m.Missing, states(m)["22"])
		}
		d.bills.err = payment.ErrBillNotReady
		if _, err := d.Run(t.Context(), reconcile.RunRequest{Date: "2026-11-22"}); err == nil {
			t.Fatal("there was a bill")
		}
		if m, err = d.Month(t.Context(), "2026-11"); err != nil || m.Missing != 1 ||
			states(m)["22"] != reconcile.DayWaiting {
			t.Errorf("%v: %d missing, the 22nd is %s", err, m.Missing, states(m)["22"])
		}
		if _, err := d.Month(t.Context(), "2026-13"); !errors.Is(err, reconcile.ErrRequest) {
			t.Errorf("the month 13: %v", err)
		}
	})
}

// Who reconciles today before it is over finds differences: a month that says it is balanced beside them is believed.
func TestAMonthWithAnEarlyDayThatIsOpenIsNotBalanced(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		d.paid(t)
		d.bills.bills[day] = billOf() // not all of it yet
		d.run(t, day)                 // at noon of that day
		m, err := d.Month(t.Context(), "2026-11")
		x := m.Days[19]
		if err != nil || m.Balanced() || m.Missing != 0 || m.Sums.Open != 1 || m.Sums.PaidFen != 0 ||
			x.State != reconcile.DayNotDue || x.Figures != nil || x.Open != 1 {
			t.Errorf("%v: %+v, the day %+v", err, m.Sums, x)
		}
		var file strings.Builder
		if err := reconcile.WriteMonthCSV(&file, &m); err != nil ||
			!strings.Contains(file.String(), day+",NOT_DUE,,,,,,,,,1,0,") {
			t.Errorf("%v %s", err, file.String())
		}
		d.hand(t, `UPDATE reconciliations SET bill_type = 'REFUND' WHERE bill_date = ?`, day)
		if m, err := d.Month(t.Context(), "2026-11"); err != nil || m.Balanced() || m.Days[19].Open != 1 {
			t.Errorf("of another bill: %v %+v", err, m.Days[19])
		}
		d.hand(t, `UPDATE reconciliations SET bill_type = 'ALL' WHERE bill_date = ?`, day)
	})
}

// Who asks for a bill before it is made, at nine in the morning, must not have a month that lacks a day.
func TestAMonthLacksNoDayThatIsNotDue(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		d.paid(t)
		d.Clock.Set(time.Date(2026, 11, 21, 1, 59, 0, 0, time.UTC)) // 9:59 of the 21st
		for _, problem := range []error{payment.ErrBillNotReady, errors.New("no way to WeChat Pay")} {
			d.bills.err = problem
			if _, err := d.Run(t.Context(), reconcile.RunRequest{Date: day}); err == nil {
				t.Fatal("there was a bill")
			}
			if m, err := d.Month(t.Context(), "2026-11"); err != nil || m.Missing != 0 || m.NotDue != 11 ||
				states(m)["20"] != reconcile.DayNotDue || m.Days[19].Figures != nil || m.Days[19].Problem == "" {
				t.Errorf("%v: %d missing, the 20th: %+v", err, m.Missing, m.Days[19])
			}
		}
		d.bills.err, d.bills.bills[day] = nil, billOf()
		d.run(t, day) // made early, and it counts
		if m, err := d.Month(t.Context(), "2026-11"); err != nil || states(m)["20"] != reconcile.DayOpen ||
			m.NotDue != 10 {
			t.Errorf("%v: the 20th: %+v", err, m.Days[19])
		}
	})
}

// Net is what WeChat Pay pays out: rounded, a month would lack some fen of the fees.
func TestNetHasTheFeesExactly(t *testing.T) {
	f := reconcile.Figures{PaidFen: 10_000, RefundFen: 1_050, FeeX100000: 53_700_12}
	if f.Fees() != "53.70012" || f.Net() != "35.79988" || f.BillFen() != 8_950 {
		t.Errorf("fees %s, net %s", f.Fees(), f.Net())
	}
	if f = (reconcile.Figures{PaidFen: 5, FeeX100000: -50_000}); f.Fees() != "-0.50" || f.Net() != "0.55" {
		t.Errorf("fees %s, net %s", f.Fees(), f.Net())
	}
}

// What a person cannot do is offered nowhere, and what is offered is done: one place judges both. Each difference of
// every kind is asked what it allows, and each action is tried on it.
func TestWhatIsAllowedIsWhatIsDone(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		_, unheard := d.unheard(t)
		held := d.held(t, "4266")
		short := d.paid(t)
		d.Clock.Set(time.Date(2026, 11, 20, 15, 58, 0, 0, time.UTC)) // two minutes to midnight
		late := d.paid(t)
		d.bills.bills[day] = billOf(payRow(held), revoked("4277", 5), billRow{at: noon, transaction: "4278",
			trade: unheard.OutTradeNo, amount: 99, state: "REVOKED"})
		d.Clock.Set(noon.Add(24 * time.Hour))
		d.run(t, day)
		want := map[string][]reconcile.Action{
			"STATE_MISMATCH 4266":               {reconcile.RefundPayment, reconcile.WriteOff},
			"LOCAL_ONLY " + short.TransactionID: {reconcile.WriteOff},
			"LOCAL_ONLY " + late.TransactionID:  {reconcile.MarkPending, reconcile.WriteOff},
			"BILL_ONLY 4277":                    {reconcile.ApplyPayment, reconcile.WriteOff},
			"BILL_ONLY 4278":                    {reconcile.ApplyPayment, reconcile.WriteOff},
		}
		found := d.diffs(t, day)
		for name, actions := range want {
			x, there := found[name]
			if allowed := x.Allowed(); !there || !slices.Equal(allowed, actions) {
				t.Errorf("%s allows %v", name, allowed)
			}
			for _, a := range reconcile.Actions() {
				if slices.Contains(actions, a) {
					continue
				}
				if _, err := d.Resolve(t.Context(), reconcile.Resolve{ID: x.ID, Action: a, Reason: "x",
					Cause: fin}); err == nil {
					t.Errorf("%s about %s is done and not offered", a, name)
				}
			}
			if a := reconcile.WriteOff; a.Does() == "" {
				t.Error("nobody is told what it does")
			}
		}
		x := found["BILL_ONLY 4277"]
		for _, who := range []reconcile.Cause{fin, fin2} {
			if x, err := d.Resolve(t.Context(), reconcile.Resolve{ID: x.ID, Action: reconcile.WriteOff, Reason: "x",
				Cause: who}); err != nil || (x.Status == reconcile.StatusWrittenOff) != (len(x.Allowed()) == 0) {
				t.Errorf("%+v allows %v, %v", x, x.Allowed(), err)
			}
		}
		d.bills.bills["2026-11-21"] = billOf()
		d.Clock.Set(noon.Add(48 * time.Hour))
		d.run(t, "2026-11-21") // the bill that it may wait for is here
		if x := d.diffs(t, day)["LOCAL_ONLY "+late.TransactionID]; !slices.Equal(x.Allowed(),
			[]reconcile.Action{reconcile.WriteOff}) {
			t.Errorf("it may wait for a bill that is here: %v", x.Allowed())
		}
	})
}

// held is a payment that fits no order of ours.
func (d *desk) held(t *testing.T, transaction string) payment.Trade {
	t.Helper()
	o := d.PlaceOne(t, "held"+transaction, "mug", 1)
	d.Prepaid(t, o.OrderNo)
	wrong := payment.Trade{OutTradeNo: o.OrderNo + "-01", State: payment.TradeSuccess, TransactionID: transaction,
		AppID: ordertest.AppID, MchID: ordertest.MchID, TradeType: "NATIVE", Total: 99, PayerTotal: payment.Said(99),
		Currency: payment.CNY, SuccessTime: noon}
	d.WeChat.Put(wrong)
	if s, err := d.Settle(t.Context(), wrong, ordertest.Notified); err != nil || s.Settled != "held" {
		t.Fatal(s, err)
	}
	return wrong
}

// Two people work on one difference, or none does, when nobody can see who has it; what was said must stay said.
func TestDifferencesAreAssignedAndCommented(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		d.finance(t, "bea", "carl")
		if err := operators.Create(t.Context(), d.DB, "vic", operators.Viewer, operators.Bootstrap, noon); err != nil {
			t.Fatal(err)
		}
		short := d.paid(t)
		d.bills.bills[day] = billOf(revoked("4277", 5))
		d.run(t, day)
		id := d.diffs(t, day)["LOCAL_ONLY "+short.TransactionID].ID
		nobody := ""
		if x, err := d.Assign(t.Context(), reconcile.Assign{ID: id, To: "bea", From: &nobody,
			Cause: fin}); err != nil || x.Assignee != "bea" {
			t.Fatalf("%+v %v", x, err)
		}
		for to, from := range map[string]*string{"carl": &nobody, "vic": nil, "ghost": nil} {
			if x, err := d.Assign(t.Context(), reconcile.Assign{ID: id, To: to, From: from,
				Cause: fin}); !errors.Is(err, reconcile.ErrRequest) {
				t.Errorf("to %s: %+v, %v", to, x, err)
			}
		}
		for range 2 {
			if _, err := d.Comment(t.Context(), reconcile.Comment{ID: id, Text: "asked WeChat", Cause: fin2,
				Key: "k"}); err != nil {
				t.Fatal(err)
			}
		}
		for _, text := range []string{"", strings.Repeat("长", 501), "two\nlines"} {
			if _, err := d.Comment(t.Context(), reconcile.Comment{ID: id, Text: text,
				Cause: fin2}); !errors.Is(err, reconcile.ErrRequest) {
				t.Errorf("the comment %.10q: %v", text, err)
			}
		}
		if _, err := d.Comment(t.Context(), reconcile.Comment{ID: strings.Repeat("0", 32), Text: "x",
			Cause: fin}); !errors.Is(err, reconcile.ErrNotFound) {
			t.Errorf("of nothing: %v", err)
		}
		if _, err := d.Resolve(t.Context(), reconcile.Resolve{ID: id, Action: reconcile.WriteOff, Reason: "lost",
			Cause: fin}); err != nil {
			t.Fatal(err)
		}
		notes, err := d.Notes(t.Context(), id)
		var said []string
		for _, n := range notes[id] {
			said = append(said, strings.Join([]string{n.Who, n.What, n.Word, n.Text}, " "))
		}
		slices.Sort(said) // all of one moment
		if want := []string{"fin act WRITE_OFF lost", "fin assign bea ", "fin2 comment  asked WeChat"}; err != nil ||
			!slices.Equal(said, want) {
			t.Errorf("%q, %v", said, err)
		}
		d.Clock.Advance(73 * time.Hour)
		d.selected(t)
		if x := d.diffs(t, day)["LOCAL_ONLY "+short.TransactionID]; x.AgeDays(d.Clock.Now()) != 3 {
			t.Errorf("%d days", x.AgeDays(d.Clock.Now()))
		}
		d.AssertVerified(t)
	})
}

// selected looks what filters select, when of the two differences of the day one is bea's.
func (d *desk) selected(t *testing.T) {
	t.Helper()
	for want, f := range map[string]reconcile.DifferenceFilter{
		"1 mine":   {Assignee: "bea", Status: reconcile.StatusOpen},
		"0 his":    {Assignee: "carl", Status: reconcile.StatusOpen},
		"1 none":   {Assignee: reconcile.Nobody, Status: reconcile.StatusOpen},
		"2 old":    {OpenedBefore: d.Clock.Now().AddDate(0, 0, -3)},
		"0 older":  {OpenedBefore: d.Clock.Now().AddDate(0, 0, -4), Status: reconcile.StatusOpen},
		"1 of day": {Assignee: "bea", Status: reconcile.StatusOpen, Date: day, Type: payment.BillAll},
		"1 hers":   {Assignee: "bea", Date: day, Type: payment.BillAll}, // of any status
		"1 free":   {Assignee: reconcile.Nobody, Date: day},
		"0 theirs": {Assignee: "bea", OrderNo: "x"},
	} {
		f.Limit = 10
		if all, err := d.Differences(t.Context(), f); err != nil || len(all) != int(want[0]-'0') {
			t.Errorf("%s: %d, %v", want, len(all), err)
		}
	}
	if _, err := d.Differences(t.Context(), reconcile.DifferenceFilter{Assignee: "bea",
		Limit: 1}); !errors.Is(err, reconcile.ErrRequest) {
		t.Errorf("all that somebody ever had: %v", err)
	}
}
