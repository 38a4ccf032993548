package order_test

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/payment/operators"
)

// abnormal asks for a refund of n cups and lets WeChat Pay not pay it out.
func abnormal(t *testing.T, f *ordertest.Fixture, request string, n int64) (order.Order, string) {
	t.Helper()
	o := f.PaidOne(t, request, "mug", n)
	no := f.MustAsk(t, ordertest.Ask(o.OrderNo, request, n)).OutRefundNo
	f.MustLookAtRefund(t, no)
	f.MustSettleRefund(t, f.WeChat.EndRefund(no, payment.RefundAbnormal))
	f.Clock.Advance(2 * time.Minute)
	return o, no
}

// heard is byItself with a log, where alarms are.
func heard(log **bytes.Buffer) func(*order.Config) {
	return func(c *order.Config) {
		byItself(c)
		*log = new(bytes.Buffer)
		c.Log = slog.New(slog.NewTextHandler(*log, nil))
	}
}

// dump gives a column of every row of a table as text.
func dump(t *testing.T, f *ordertest.Fixture, query string) string {
	t.Helper()
	var all strings.Builder
	err := sqldb.Each(t.Context(), f.DB, query, nil, func(rows *sql.Rows) error {
		var text string
		err := rows.Scan(&text)
		all.WriteString(text + "\n")
		return err
	})
	if err != nil || all.Len() == 0 {
		t.Fatal(err, "nothing there")
	}
	return all.String()
}

var buyersCard = payment.BankCard{BankType: "ICBC_DEBIT", Account: "6222020000000000000", RealName: "张三"}

// A refund that WeChat Pay closes has waited seven days for money in the merchant's account. It went out again under
// another number without a word: nobody learned that the account is empty.
func TestClosedRefundIsAnAlarm(t *testing.T) {
	var log *bytes.Buffer
	eachWith(t, heard(&log), func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 5)
		o := f.PaidOne(t, "r1", "mug", 1)
		no := f.MustAsk(t, ordertest.Ask(o.OrderNo, "k", 1)).OutRefundNo
		f.MustLookAtRefund(t, no)
		for range 3 { // told three times, alarmed once
			f.MustSettleRefund(t, f.WeChat.EndRefund(no, payment.RefundClosed))
		}
		if n := strings.Count(log.String(), "WeChat Pay has closed a refund"); n != 1 {
			t.Errorf("%d alarms, want 1: %s", n, log)
		}
	})
}

// The buyer's account is closed: the money of his refund was nobody's to send anywhere from here.
func TestAbnormalRefundGoesToTheMerchantsCard(t *testing.T) {
	var log *bytes.Buffer
	eachWith(t, heard(&log), func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 5)
		o, no := abnormal(t, f, "r1", 1)
		ask := order.RefundToCard{OutRefundNo: no, To: payment.CardOfMerchant, Reason: "account closed",
			Cause: ordertest.Finance}
		r, err := f.SendToCard(t.Context(), ask)
		if err != nil || r.State != order.RefundStateProcessing || r.DecidedBy != "fin" {
			t.Fatalf("%+v, %v", r, err)
		}
		if got := f.WeChat.Cards[no]; got.To != payment.CardOfMerchant || got.RefundID != r.RefundID ||
			got.Card != (payment.BankCard{}) {
			t.Errorf("asked %+v", got)
		}
		var refused *order.RefundRefusedError
		if _, err := f.SendToCard(t.Context(), ask); !errors.As(err, &refused) || len(f.WeChat.Cards) != 1 {
			t.Errorf("sent twice: %v", err)
		}
		f.MustSettleRefund(t, f.WeChat.EndRefund(no, payment.RefundSuccess))
		// The money is the merchant's again, and the buyer has nothing yet.
		if f.State(t, o.OrderNo) != order.StateRefunded || !strings.Contains(log.String(), "own bank account") {
			t.Errorf("%s, alarms %s", f.State(t, o.OrderNo), log)
		}
	})
}

// No answer: the money may be on its way to the card. Asked again at once it could be sent by another hand; WeChat Pay
// is asked how far it is, and only then a person may send it again.
func TestLostAnswerOfACardIsAskedAbout(t *testing.T) {
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 5)
		_, no := abnormal(t, f, "r1", 1)
		ask := order.RefundToCard{OutRefundNo: no, To: payment.CardOfMerchant, Reason: "x", Cause: ordertest.Finance}
		for _, after := range []bool{false, true} {
			lose := func(op, _ string) error {
				if op != "abnormal_refund" {
					return nil
				}
				return ordertest.ErrLost(op)
			}
			f.WeChat.Before, f.WeChat.After = lose, nil
			if after {
				f.WeChat.Before, f.WeChat.After = nil, lose
			}
			_, err := f.SendToCard(t.Context(), ask)
			f.WeChat.Before, f.WeChat.After = nil, nil
			if payment.KindOf(err) != payment.KindUnknown || f.RefundState(t, no) != order.RefundStateAbnormal {
				t.Fatalf("after %t: %v, %s", after, err, f.RefundState(t, no))
			}
			var refused *order.RefundRefusedError
			if _, err := f.SendToCard(t.Context(), ask); !errors.As(err, &refused) {
				t.Errorf("after %t: asked again within the minute in which the answer may come: %v", after, err)
			}
			f.MustLookAtRefund(t, no)
			f.Clock.Advance(2 * time.Minute)
		}
		if s := f.RefundState(t, no); s != order.RefundStateProcessing || len(f.WeChat.Cards) != 1 {
			t.Errorf("%s, %d requests", s, len(f.WeChat.Cards))
		}
	})
}

// Whoever types the card decides where the money goes: one person alone would send it to himself.
func TestACardOfTheBuyerTakesTwoPeople(t *testing.T) {
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 9)
		_, no := abnormal(t, f, "r1", 1)
		send := func(who order.Cause, card payment.BankCard) (order.Refund, error) {
			return f.SendToCard(t.Context(), order.RefundToCard{OutRefundNo: no, To: payment.CardOfUser, Card: card,
				Reason: "closed", Cause: who})
		}
		anna, bea := person(t, f, "anna", operators.Bootstrap), person(t, f, "bea", operators.Bootstrap)
		var wrong *order.ValidationError
		for name, card := range map[string]payment.BankCard{
			"none":         {},
			"no name":      {BankType: "ICBC_DEBIT", Account: "6222020000000000000"},
			"credit card":  {BankType: "ICBC_CREDIT", Account: "6222020000000000000", RealName: "张三"},
			"no account":   {BankType: "ICBC_DEBIT", RealName: "张三"},
			"letters":      {BankType: "ICBC_DEBIT", Account: "62220200000000000O0", RealName: "张三"},
			"control":      {BankType: "ICBC_DEBIT", Account: "6222020000000000000", RealName: "张\n三"},
			"of two lines": {BankType: "ICBC_DEBIT\n", Account: "6222020000000000000", RealName: "张三"},
		} {
			if _, err := send(anna, card); !errors.As(err, &wrong) {
				t.Errorf("%s: %v", name, err)
			}
		}
		for range 2 { // one person counts once
			r, err := send(anna, buyersCard)
			if err != nil || r.State != order.RefundStateAbnormal || r.Said.By != "anna" {
				t.Fatalf("%+v, %v", r, err)
			}
		}
		if len(f.WeChat.Cards) != 0 {
			t.Fatal("one person has sent it")
		}
		shell := as("cli:root")
		if _, err := send(shell, buyersCard); !errors.Is(err, operators.ErrShell) {
			t.Errorf("the shell: %v", err)
		}
		r, err := send(bea, buyersCard)
		if err != nil || r.State != order.RefundStateProcessing || f.WeChat.Cards[no].Card != buyersCard {
			t.Fatalf("%+v, %v", r, err)
		}
		for _, table := range []string{"SELECT decided_why FROM refunds", "SELECT problem FROM refunds",
			"SELECT detail FROM order_events WHERE detail IS NOT NULL"} {
			if text := dump(t, f, table); strings.Contains(text, buyersCard.Account) ||
				strings.Contains(text, buyersCard.RealName) {
				t.Errorf("the card is in %s", table)
			}
		}
		if text := fmt.Sprintf("%v %+v %#v %s", buyersCard, buyersCard, &buyersCard, buyersCard); strings.Contains(text,
			buyersCard.Account) || strings.Contains(text, buyersCard.RealName) {
			t.Errorf("a card prints itself: %s", text)
		}
	})
}

// A sum that two people approve is not sent to another account by one.
func TestALargeSumGoesToTheMerchantsCardByTwo(t *testing.T) {
	eachWith(t, func(c *order.Config) { c.RefundAutoApprove, c.RefundTwoPersons = 100, 250 },
		func(t *testing.T, f *ordertest.Fixture) {
			f.SKU(t, "mug", 9)
			anna, bea := person(t, f, "anna", operators.Bootstrap), person(t, f, "bea", operators.Bootstrap)
			o := f.PaidOne(t, "r1", "mug", 3)
			no := f.MustAsk(t, ordertest.Ask(o.OrderNo, "k1", 3)).OutRefundNo
			for _, who := range []order.Cause{anna, bea} {
				if _, err := approve(t, f, no, who); err != nil {
					t.Fatal(err)
				}
			}
			f.MustLookAtRefund(t, no)
			f.MustSettleRefund(t, f.WeChat.EndRefund(no, payment.RefundAbnormal))
			f.Clock.Advance(2 * time.Minute)
			for i, who := range []order.Cause{anna, bea} {
				r, err := f.SendToCard(t.Context(), order.RefundToCard{OutRefundNo: no, To: payment.CardOfMerchant,
					Reason: "closed", Cause: who})
				if err != nil || (r.State == order.RefundStateProcessing) != (i == 1) {
					t.Fatalf("%d: %+v, %v", i, r, err)
				}
			}
		})
}
