package order_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
)

// Refunds end as orders do. These tests are of refunds after a restore from a backup, or a fail-over that lost rows:
// WeChat Pay knows more than we do.

// lose deletes what we know of something, as a restore does.
func lose(t *testing.T, f *ordertest.Fixture, query string, args ...any) {
	t.Helper()
	if _, err := f.DB.Pool().ExecContext(t.Context(), query, args...); err != nil {
		t.Fatal(err)
	}
}

// A number that was counted from the rows came again after a row was lost: WeChat Pay has it of another amount, and the
// refund was owed for ever.
func TestRefundNumbersNeverRepeat(t *testing.T) {
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 3)
		o := f.PaidOne(t, "a", "mug", 3)
		lost := f.MustAsk(t, ordertest.Ask(o.OrderNo, "lost", 2)).OutRefundNo
		f.MustLookAtRefund(t, lost)
		f.WeChat.EndRefund(lost, payment.RefundSuccess)
		for _, query := range []string{"DELETE FROM refund_items", "DELETE FROM refunds",
			"UPDATE payments SET refund_fen = 0", "UPDATE orders SET state = 'paid', version = 3",
			"DELETE FROM order_events WHERE seq > 3",
			"DELETE FROM events_out WHERE version > 3"} {
			lose(t, f, query)
		}
		no := f.MustAsk(t, ordertest.Ask(o.OrderNo, "k", 1)).OutRefundNo
		if no == lost || !strings.HasPrefix(no, o.OrderNo+"-R") || !payment.ValidOutRefundNo(no+"-G99") {
			t.Errorf("the number is %s, the lost one %s", no, lost)
		}
		f.MustLookAtRefund(t, no)
		f.MustSettleRefund(t, f.WeChat.EndRefund(no, payment.RefundSuccess))
		if f.RefundState(t, no) != order.RefundStateSucceeded {
			t.Errorf("it is %s", f.RefundState(t, no))
		}
	})
}

// WeChat Pay has another refund under the number of one that is owed: it was sent again for ever. The number is given
// up, and the money goes back under one that was never used, once a person agrees.
func TestNumberOfAnotherRefundIsGivenUp(t *testing.T) {
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 3)
		o := f.PaidOne(t, "a", "mug", 3)
		trade, _ := f.WeChat.Trade(o.OrderNo + "-01")
		no := f.MustAsk(t, ordertest.Ask(o.OrderNo, "k", 1)).OutRefundNo
		if _, err := f.WeChat.Refund(t.Context(), payment.RefundRequest{OutRefundNo: no,
			TransactionID: trade.TransactionID, Amount: 200, Total: 300}); err != nil {
			t.Fatal(err)
		}
		told := f.WeChat.EndRefund(no, payment.RefundSuccess)
		f.MustSettleRefund(t, told) // a notification alone gives no number up: our own call may be under way
		if f.RefundState(t, no) != order.RefundStateOwed {
			t.Fatalf("it is %s", f.RefundState(t, no))
		}
		f.MustLookAtRefund(t, no)
		next := no + "-G2"
		if f.RefundState(t, no) != order.RefundStateClosed || f.RefundState(t, next) != order.RefundStateOwed {
			t.Fatalf("%s, then %s", f.RefundState(t, no), f.RefundState(t, next))
		}
		f.MustLookAtRefund(t, next) // 200 of 300 went back under the other one: a person has to agree
		f.MustDecide(t, next, order.RefundEventApprove, ordertest.Finance)
		f.MustLookAtRefund(t, next)
		f.MustSettleRefund(t, f.WeChat.EndRefund(next, payment.RefundSuccess))
		if f.State(t, o.OrderNo) != order.StatePaid || f.Available(t, "mug") != 1 {
			t.Errorf("%s, %d on the shelf", f.State(t, o.OrderNo), f.Available(t, "mug"))
		}
	})
}

// A refund that is owed while WeChat Pay refuses our keys, or that WeChat Pay has forgotten, had no exit for a person.
func TestStuckRefundIsSettledByHand(t *testing.T) {
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 4)
		owed, forgotten := f.PaidOne(t, "a", "mug", 1), f.PaidOne(t, "b", "mug", 1)
		byHand := func(no string) error {
			_, err := f.DecideRefund(t.Context(), order.RefundDecision{OutRefundNo: no,
				Event: order.RefundEventByHand, Reason: "paid by bank", Cause: ordertest.Finance})
			return err
		}
		refused := new(*order.RefundRefusedError)
		first := f.MustAsk(t, ordertest.Ask(owed.OrderNo, "k", 1)).OutRefundNo
		if err := byHand(first); !errors.As(err, refused) {
			t.Errorf("before it was sent: %v", err)
		}
		f.WeChat.Before = func(op, _ string) error {
			return &payment.GatewayError{Op: op, Kind: payment.KindMisconfigured, Err: errors.New("401")}
		}
		f.MustLookAtRefund(t, first)
		if err := byHand(first); !errors.As(err, refused) {
			t.Errorf("while an answer may be on its way: %v", err)
		}
		f.Clock.Advance(time.Minute)
		if err := byHand(first); err != nil || f.RefundState(t, first) != order.RefundStateByHand {
			t.Errorf("%s: %v", f.RefundState(t, first), err)
		}
		f.WeChat.Before = nil

		second := f.MustAsk(t, ordertest.Ask(forgotten.OrderNo, "l", 1)).OutRefundNo
		f.MustLookAtRefund(t, second)
		f.Clock.Advance(time.Minute)
		if err := byHand(second); !errors.As(err, refused) {
			t.Errorf("on its way: %v", err)
		}
		f.WeChat.Forget(second)
		f.MustLookAtRefund(t, second)
		if r, err := f.FindRefund(t.Context(), second); err != nil || r.Problem == "" {
			t.Errorf("the problem is %q: %v", r.Problem, err)
		}
		if err := byHand(second); err != nil || f.RefundState(t, second) != order.RefundStateByHand {
			t.Errorf("%s: %v", f.RefundState(t, second), err)
		}
		for _, no := range []string{owed.OrderNo, forgotten.OrderNo} {
			if f.State(t, no) != order.StateRefunded {
				t.Errorf("%s is %s", no, f.State(t, no))
			}
		}
	})
}

// After a restore WeChat Pay tells of our refund before it tells of its payment: the payment could never be recorded,
// and its callback was 500 for ever.
func TestPaymentAfterItsOwnRefund(t *testing.T) {
	for name, c := range map[string]struct {
		word   func(trade payment.Trade) payment.Refund
		number func(transactionID string) string // of the refund that then ends
	}{
		"its own": {
			word: func(trade payment.Trade) payment.Refund {
				return payment.Refund{Status: payment.RefundSuccess, Amount: trade.Total}
			},
			number: func(id string) string { return "R" + id },
		},
		"under way": {
			word: func(trade payment.Trade) payment.Refund {
				return payment.Refund{Status: payment.RefundProcessing, Amount: trade.Total}
			},
			number: func(id string) string { return "R" + id },
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
				f.SKU(t, "mug", 1)
				o := f.PlaceOne(t, "a", "mug", 1)
				f.Prepaid(t, o.OrderNo)
				if _, err := f.Cancel(t.Context(), cancel(o.OrderNo)); err != nil {
					t.Fatal(err)
				}
				trade, err := f.WeChat.Pay(o.OrderNo+"-01", true)
				if err != nil {
					t.Fatal(err)
				}
				no := c.number(trade.TransactionID)
				word := c.word(trade)
				if _, err := f.WeChat.Refund(t.Context(), payment.RefundRequest{OutRefundNo: no,
					TransactionID: trade.TransactionID, Amount: word.Amount, Total: trade.Total}); err != nil {
					t.Fatal(err)
				}
				told := f.WeChat.EndRefund(no, word.Status)
				told.MchID = ordertest.MchID
				f.MustSettleRefund(t, told)
				s, err := f.Settle(t.Context(), trade, ordertest.Notified)
				if err != nil || s.Settled != order.SettledOwed {
					t.Fatalf("the payment is not taken in: %+v %v", s, err)
				}
				f.MustLookAtRefund(t, no)
				f.MustSettleRefund(t, f.WeChat.EndRefund(no, payment.RefundSuccess))
				if f.State(t, o.OrderNo) != order.StateRefunded || len(f.WeChat.Refunds()) != 1 {
					t.Errorf("%s, %d refunds at WeChat Pay", f.State(t, o.OrderNo), len(f.WeChat.Refunds()))
				}
			})
		})
	}
}

// The same of a payment that fits no order and is sent back by a person.
func TestHeldPaymentGoesBackAfterItsOwnRefund(t *testing.T) {
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		trade, err := f.WeChat.Pay(f.Prepaid(t, o.OrderNo), false)
		if err != nil {
			t.Fatal(err)
		}
		trade.AppID = "wx_old"
		f.WeChat.Put(trade)
		no := "R" + trade.TransactionID
		if _, err := f.WeChat.Refund(t.Context(), payment.RefundRequest{OutRefundNo: no,
			TransactionID: trade.TransactionID, Amount: trade.Total, Total: trade.Total}); err != nil {
			t.Fatal(err)
		}
		f.MustSettleRefund(t, f.WeChat.EndRefund(no, payment.RefundProcessing))
		if _, err := f.Settle(t.Context(), trade, ordertest.Notified); err != nil {
			t.Fatal(err)
		}
		if err := f.RefundHeld(t.Context(), trade.TransactionID, ordertest.Finance); err != nil {
			t.Fatal(err)
		}
		f.MustLookAtRefund(t, no)
		f.MustSettleRefund(t, f.WeChat.EndRefund(no, payment.RefundSuccess))
		f.Clock.Advance(31 * time.Minute)
		expireUntil(t, f, o.OrderNo, order.StateClosed, time.Hour)
	})
}

// A number that belongs to a late payment's refund, and that WeChat Pay has of another amount, kept the payment out.
func TestPaymentWhoseRefundNumberIsAnothers(t *testing.T) {
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		f.Prepaid(t, o.OrderNo)
		if _, err := f.Cancel(t.Context(), cancel(o.OrderNo)); err != nil {
			t.Fatal(err)
		}
		trade, err := f.WeChat.Pay(o.OrderNo+"-01", true)
		if err != nil {
			t.Fatal(err)
		}
		f.MustSettleRefund(t, payment.Refund{OutRefundNo: "R" + trade.TransactionID, RefundID: "5001",
			TransactionID: "4299", Status: payment.RefundSuccess, Amount: 1, Total: 1, MchID: ordertest.MchID,
			SuccessTime: f.Clock.Now()})
		s, err := f.Settle(t.Context(), trade, ordertest.Notified)
		if err != nil || s.Settled != order.SettledOwed {
			t.Fatalf("%+v %v", s, err)
		}
		no := f.FirstRefund(t, o.OrderNo)
		f.MustLookAtRefund(t, no)
		f.MustSettleRefund(t, f.WeChat.EndRefund(no, payment.RefundSuccess))
		if f.State(t, o.OrderNo) != order.StateRefunded {
			t.Errorf("%s", f.State(t, o.OrderNo))
		}
	})
}

// A held payment whose return was rejected could never be sent back: the number was used.
func TestHeldPaymentIsSentBackAfterARejection(t *testing.T) {
	eachWith(t, func(c *order.Config) { c.RefundTwoPersons = 1 }, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		trade := heldPayment(t, f, o.OrderNo)
		for i := range 3 {
			err := f.RefundHeld(t.Context(), trade.TransactionID, ordertest.Finance)
			if !errors.Is(err, order.ErrRefundWaits) {
				t.Fatalf("time %d: %v", i, err)
			}
			all, _, err := f.ListRefunds(t.Context(), order.RefundFilter{State: order.RefundStatePending})
			if err != nil || len(all) != 1 {
				t.Fatalf("time %d: %d wait for the second person: %v", i, len(all), err)
			}
			if i < 2 {
				f.MustDecide(t, all[0].OutRefundNo, order.RefundEventReject, ordertest.Finance2)
				continue
			}
			no := all[0].OutRefundNo
			f.MustDecide(t, no, order.RefundEventApprove, ordertest.Finance2)
			f.MustLookAtRefund(t, no)
			f.MustSettleRefund(t, f.WeChat.EndRefund(no, payment.RefundSuccess))
		}
		f.Clock.Advance(31 * time.Minute)
		expireUntil(t, f, o.OrderNo, order.StateClosed, time.Hour)
	})
}

// A held payment that was recorded before its order was there is judged again by one person while another sends it
// back, who knows of no order to lock. Both were told that it was done: the order was paid, and its money went back.
func TestHeldPaymentIsNotAppliedAndSentBack(t *testing.T) {
	db := sqldbtest.MariaDB(t)
	f := ordertest.NewUnverified(t, db, func(*order.Config) {})
	f.SKU(t, "mug", 1)
	o := f.PlaceOne(t, "a", "mug", 1)
	trade, err := f.WeChat.Pay(f.Prepaid(t, o.OrderNo), false)
	if err != nil {
		t.Fatal(err)
	}
	wrong := f.Restarted(t, func(c *order.Config) { c.AppID = "wx0000000000000009" })
	if s, err := wrong.Settle(t.Context(), trade, ordertest.Notified); err != nil || s.Settled != order.SettledHeld {
		t.Fatal(s, err)
	}
	previous(t, f, "UPDATE payments SET order_no = '', reason = 'unknown_order' WHERE transaction_id = ?",
		trade.TransactionID)
	release := hold(t, db, "SELECT 1 FROM payments WHERE transaction_id = '"+trade.TransactionID+"' FOR UPDATE")
	var judged, sent error
	var both sync.WaitGroup
	both.Go(func() {
		_, judged = f.JudgeHeld(t.Context(), trade.TransactionID, "restored", ordertest.Finance)
	})
	lockWaits(t, db, 1)
	other := f.Restarted(t, func(*order.Config) {}) // another process
	both.Go(func() { sent = other.RefundHeld(t.Context(), trade.TransactionID, ordertest.Finance2) })
	lockWaits(t, db, 2)
	release()
	both.Wait()
	if t.Logf("judged: %v, sent back: %v", judged, sent); judged == nil && sent == nil {
		p, err := f.Find(t.Context(), o.OrderNo)
		t.Errorf("judged and sent back: %s with payment %+v, %v", p.State, p.Payment, err)
	}
}

// lockWaits waits until so many transactions wait for a lock.
func lockWaits(t *testing.T, db *sqldb.DB, n int) {
	t.Helper()
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		var name string
		var waiting int
		err := db.QueryRowContext(t.Context(),
			"SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'").Scan(&name, &waiting)
		if err != nil {
			t.Fatal(err)
		}
		if waiting >= n {
			return
		}
	}
	t.Logf("fewer than %d transactions wait", n)
}

// The late money of an order was back, and the order stayed late as long as a refund of other money was under way, and
// for ever when that one was rejected: other money that came for it is not what it waits for.
func TestLateOrderWaitsForItsOwnMoneyAlone(t *testing.T) {
	twoPeople := func(c *order.Config) { c.RefundTwoPersons = 1 }
	for name, other := range map[string]struct {
		appID string
		begin func(t *testing.T, f *ordertest.Fixture, trade payment.Trade) // of its refund
		end   func(t *testing.T, f *ordertest.Fixture, no string)
	}{
		"a second payment": {ordertest.AppID, func(*testing.T, *ordertest.Fixture, payment.Trade) {},
			func(t *testing.T, f *ordertest.Fixture, no string) {
				f.MustLookAtRefund(t, no)
				f.MustSettleRefund(t, f.WeChat.EndRefund(no, payment.RefundSuccess))
			}},
		"held money, whose refund is rejected": {"wx_other",
			func(t *testing.T, f *ordertest.Fixture, trade payment.Trade) {
				_ = f.RefundHeld(t.Context(), trade.TransactionID, ordertest.Finance) // it waits for a second person
				if s := f.RefundState(t, "R"+trade.TransactionID); s != order.RefundStatePending {
					t.Fatal(s)
				}
			},
			func(t *testing.T, f *ordertest.Fixture, no string) {
				f.MustDecide(t, no, order.RefundEventReject, ordertest.Finance2)
			}},
	} {
		t.Run(name, func(t *testing.T) {
			eachWith(t, twoPeople, func(t *testing.T, f *ordertest.Fixture) {
				f.SKU(t, "mug", 1)
				o := f.PlaceOne(t, "a", "mug", 1)
				out := f.Prepaid(t, o.OrderNo)
				if _, err := f.Cancel(t.Context(), cancel(o.OrderNo)); err != nil {
					t.Fatal(err)
				}
				paid := func(appID string) payment.Trade {
					trade, err := f.WeChat.Pay(out, true)
					if err != nil {
						t.Fatal(err)
					}
					trade.AppID = appID
					settled(t, f, trade)
					return trade
				}
				late := "R" + paid(ordertest.AppID).TransactionID
				f.MustLookAtRefund(t, late)
				trade := paid(other.appID)
				other.begin(t, f, trade)
				f.MustSettleRefund(t, f.WeChat.EndRefund(late, payment.RefundSuccess))
				if s := f.State(t, o.OrderNo); s != order.StateRefunded {
					t.Errorf("%s, and its money is back", s)
				}
				other.end(t, f, "R"+trade.TransactionID)
				if s := f.State(t, o.OrderNo); s != order.StateRefunded {
					t.Errorf("%s in the end", s)
				}
			})
		})
	}
}

// WeChat Pay took a refund and said PROCESSING for ever: every answer was usable, so that no person had a way out.
func TestRefundThatIsProcessingForWeeksIsSettledByHand(t *testing.T) {
	eachWith(t, byItself, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 4)
		o := f.PaidOne(t, "a", "mug", 1)
		no := f.MustAsk(t, ordertest.Ask(o.OrderNo, "k", 1)).OutRefundNo
		f.MustLookAtRefund(t, no)
		byHand := func() error {
			_, err := f.DecideRefund(t.Context(), order.RefundDecision{OutRefundNo: no,
				Event: order.RefundEventByHand, Reason: "paid by bank", Cause: ordertest.Finance})
			return err
		}
		f.Clock.Advance(14 * 24 * time.Hour)
		f.MustLookAtRefund(t, no)
		var refused *order.RefundRefusedError
		if err := byHand(); !errors.As(err, &refused) {
			t.Errorf("after two weeks: %v", err)
		}
		f.Clock.Advance(2 * 24 * time.Hour)
		f.MustLookAtRefund(t, no)
		f.MustLookAtRefund(t, no)
		if r, err := f.FindRefund(t.Context(), no); err != nil || !strings.Contains(r.Problem, "PROCESSING") {
			t.Errorf("%q, %v", r.Problem, err)
		}
		if err := byHand(); err != nil || f.RefundState(t, no) != order.RefundStateByHand {
			t.Errorf("%s, %v", f.RefundState(t, no), err)
		}
	})
}
