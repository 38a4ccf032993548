package order_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
)

// native asks for a QR code of the customer "c".
func native(orderNo string) order.PrepayRequest {
	return order.PrepayRequest{OrderNo: orderNo, CustomerID: "c", TradeType: payment.Native, Cause: ordertest.Customer}
}

// jsapi asks to pay inside WeChat, as the customer "c".
func jsapi(orderNo, openID string) order.PrepayRequest {
	return order.PrepayRequest{OrderNo: orderNo, CustomerID: "c", TradeType: payment.JSAPI, OpenID: openID,
		Cause: ordertest.Customer}
}

// inOrder scripts two prepays of one order that are under way at once: the first is held, with what becomes of it
// (nil: its answer), until the second has come to its end, and its answer was stored.
func inOrder(t *testing.T, f *ordertest.Fixture, orderNo string, first, second error) (errs [2]error,
	got [2]order.Prepayment) {
	t.Helper()
	var mu sync.Mutex
	calls := 0
	arrived, stored := make(chan struct{}), make(chan struct{})
	f.WeChat.After = func(op, _ string) error {
		if op != "prepay" {
			return nil
		}
		mu.Lock()
		calls++
		n := calls
		mu.Unlock()
		if n == 1 {
			close(arrived)
			<-stored
			return first
		}
		return second
	}
	var wg sync.WaitGroup
	wg.Go(func() { got[0], errs[0] = f.Prepay(context.WithoutCancel(t.Context()), native(orderNo)) })
	<-arrived
	got[1], errs[1] = f.Prepay(t.Context(), native(orderNo))
	close(stored)
	wg.Wait()
	f.WeChat.After = nil
	return errs, got
}

// attemptOf gives an attempt of an order as it is committed.
func attemptOf(t *testing.T, f *ordertest.Fixture, orderNo string, n int) order.Attempt {
	t.Helper()
	o, err := f.Find(t.Context(), orderNo)
	if err != nil || len(o.Attempts) < n {
		t.Fatal(o.Attempts, err)
	}
	return o.Attempts[n-1]
}

// refusal is a definite no of WeChat Pay to the parameters of a prepay.
func refusal() error {
	return &payment.GatewayError{Op: "prepay", Kind: payment.KindRejected, Status: 400, Code: "PARAM_ERROR"}
}

// Of two clicks at once the older answer, which WeChat Pay made invalid by the newer, was stored last and handed
// out for two hours: nobody could pay the order.
func TestStalePrepayAnswerIsNotKept(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		errs, got := inOrder(t, f, o.OrderNo, nil, nil)
		if errs != [2]error{} {
			t.Fatal(errs)
		}
		third, err := f.Prepay(t.Context(), native(o.OrderNo))
		if err != nil || third.Prepaid.PrepayID != "wx000003" || f.WeChat.Prepays != 3 { // one more call, alone
			t.Errorf("handed out %s after %s and %s, %d calls, %v", third.Prepaid.PrepayID, got[0].Prepaid.PrepayID,
				got[1].Prepaid.PrepayID, f.WeChat.Prepays, err)
		}
		if got[0].Prepaid != third.Prepaid {
			t.Errorf("the older click was given %s, which is invalid by then", got[0].Prepaid.PrepayID)
		}
	})
}

// A definite no to one of two calls at once must not end the trade that the other one opened, whichever is the
// older.
func TestLateRefusalKeepsTheOpenTrade(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 10)
		for _, refused := range []int{0, 1} {
			o := f.PlaceOne(t, string(rune('a'+refused)), "mug", 1)
			var want [2]error
			want[refused] = refusal()
			errs, got := inOrder(t, f, o.OrderNo, want[0], want[1])
			if errs[1-refused] != nil || payment.KindOf(errs[refused]) != payment.KindRejected {
				t.Fatal(errs)
			}
			before := f.WeChat.Prepays
			again, err := f.Prepay(t.Context(), native(o.OrderNo))
			if err != nil || again.Prepaid != got[1-refused].Prepaid || f.WeChat.Prepays != before {
				t.Errorf("call %d was refused: %+v is handed out, %v", refused+1, again, err)
			}
			if a := attemptOf(t, f, o.OrderNo, 1); a.State != order.AttemptLive {
				t.Errorf("call %d was refused: the attempt is %s", refused+1, a.State)
			}
		}
	})
}

// A repeat that WeChat Pay refuses, of a code that is too old, must end the attempt: the next prepay gets another
// number.
func TestRefusedRepeatEndsTheAttempt(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		o := placeLong(t, f)
		f.Prepaid(t, o.OrderNo)
		f.Clock.Advance(3 * time.Hour)
		f.WeChat.Before = func(op, no string) error {
			if op == "prepay" && strings.HasSuffix(no, "-01") {
				return refusal()
			}
			return nil
		}
		if _, err := f.Prepay(t.Context(), native(o.OrderNo)); payment.KindOf(err) != payment.KindRejected {
			t.Fatal(err)
		}
		p, err := f.Prepay(t.Context(), native(o.OrderNo))
		if err != nil || p.OutTradeNo != o.OrderNo+"-02" {
			t.Errorf("%+v %v", p, err)
		}
	})
}

// placeLong places an order of a service that gives a day to pay.
func placeLong(t *testing.T, f *ordertest.Fixture) order.Order {
	t.Helper()
	return f.Restarted(t, func(c *order.Config) { c.PayWithin = 24 * time.Hour }).PlaceOne(t, "long", "mug", 1)
}

// A wrong openid, or a call that never left the machine, kept the corrected prepay waiting for half a minute with
// "unavailable", and a close as well: nothing can come of a call whose end is known.
func TestEndedPrepayBlocksNothing(t *testing.T) {
	failures := map[string]error{
		"wrong openid": refusal(),
		"not sent":     &payment.GatewayError{Op: "prepay", Kind: payment.KindRejected, NotSent: true},
		"no connection": &payment.GatewayError{Op: "prepay", Kind: payment.KindUnknown, NotSent: true,
			Err: errors.New("no connection")},
		"no permission": &payment.GatewayError{Op: "prepay", Kind: payment.KindMisconfigured, Status: 403},
	}
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 10)
		for name, failure := range failures {
			key := strings.ReplaceAll(name, " ", "_")
			o, closed := f.PlaceOne(t, key, "mug", 1), f.PlaceOne(t, key+"_closed", "mug", 1)
			f.WeChat.Before = func(op, _ string) error {
				if op == "prepay" {
					return failure
				}
				return nil
			}
			for _, no := range []string{o.OrderNo, closed.OrderNo} {
				if _, err := f.Prepay(t.Context(), jsapi(no, "wrong")); !errors.Is(err, failure) {
					t.Fatal(err)
				}
			}
			f.WeChat.Before = nil
			if _, err := f.Prepay(t.Context(), jsapi(o.OrderNo, "right")); err != nil {
				t.Errorf("%s: the corrected prepay: %v", name, err)
			}
			if got, err := f.Cancel(t.Context(), cancel(closed.OrderNo)); err != nil ||
				got.State != order.StateClosed {
				t.Errorf("%s: cancelled: %s %v", name, got.State, err)
			}
		}
	})
}

// lateGateway answers a close of a number that it does not know, without burning it: so a prepay that comes later
// opens a trade.
type lateGateway struct{ *ordertest.WeChat }

func (w lateGateway) Close(ctx context.Context, no string) (payment.CloseReply, error) {
	if _, ok := w.Trade(no); !ok {
		return payment.CloseReply{Answer: payment.CloseNotFound, Status: 404, Code: "ORDER_NOT_EXIST"}, nil
	}
	return w.WeChat.Close(ctx, no)
}

// The time of an attempt's first call decided whether one may still arrive: while a repeat was on its way, ten
// minutes later, the order was closed and its stock sold again, and the repeat then opened a trade that nobody
// closed.
func TestCloseWaitsForARepeatedPrepay(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f = f.Restarted(t, func(c *order.Config) { c.Gateway = lateGateway{f.WeChat} })
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		f.WeChat.Before = loseAll("prepay")
		if _, err := f.Prepay(t.Context(), native(o.OrderNo)); err == nil {
			t.Fatal("prepaid")
		}
		f.Clock.Advance(10 * time.Minute)
		f.WeChat.Before = func(op, _ string) error {
			if op != "prepay" {
				return nil
			}
			f.WeChat.Before = nil
			got, err := f.Cancel(t.Context(), cancel(o.OrderNo)) // while the repeat is on its way
			if err != nil || got.State != order.StateClosing || f.Available(t, "mug") != 0 {
				t.Errorf("cancelled beside the repeat: %s, %d on the shelf, %v", got.State, f.Available(t, "mug"), err)
			}
			return nil
		}
		f.WeChat.After = loseAll("prepay") // WeChat Pay opens the trade, and nobody hears of it
		if _, err := f.Prepay(t.Context(), native(o.OrderNo)); err == nil {
			t.Fatal("prepaid")
		}
		f.WeChat.After = nil
		f.Clock.Advance(time.Minute)
		if err := f.Expire(t.Context(), o.OrderNo, ordertest.Scheduler); err != nil {
			t.Fatal(err)
		}
		if tr, _ := f.WeChat.Trade(o.OrderNo + "-01"); tr.State != payment.TradeClosed ||
			f.State(t, o.OrderNo) != order.StateClosed {
			t.Errorf("the trade is %s, the order %s", tr.State, f.State(t, o.OrderNo))
		}
	})
}

// A call whose end is known must not hide an older one that may still arrive, nor keep the close waiting for longer
// than that one may take.
func TestOlderCallIsWaitedFor(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		f.WeChat.Before = loseAll("prepay")
		if _, err := f.Prepay(t.Context(), native(o.OrderNo)); err == nil {
			t.Fatal("prepaid")
		}
		f.Clock.Advance(20 * time.Second)
		f.WeChat.Before = func(op, _ string) error {
			if op == "prepay" {
				return refusal()
			}
			return nil
		}
		if _, err := f.Prepay(t.Context(), native(o.OrderNo)); err == nil {
			t.Fatal("prepaid")
		}
		f.WeChat.Before = nil
		if got, err := f.Cancel(t.Context(), cancel(o.OrderNo)); err != nil || got.State != order.StateClosing {
			t.Fatalf("closed while the first call was on its way: %s %v", got.State, err)
		}
		f.Clock.Advance(11 * time.Second) // 31 s after the first call, 11 s after the second
		if err := f.Expire(t.Context(), o.OrderNo, ordertest.Scheduler); err != nil ||
			f.State(t, o.OrderNo) != order.StateClosed {
			t.Error(err, f.State(t, o.OrderNo))
		}
	})
}

// An answer is not handed out again while another call may have made it invalid unheard: one more call, alone,
// gives one that is certain.
func TestUncertainAnswerIsAskedAgain(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		f.WeChat.After = loseAll("prepay")
		if _, err := f.Prepay(t.Context(), native(o.OrderNo)); err == nil {
			t.Fatal("prepaid")
		}
		f.WeChat.After = nil
		f.Prepaid(t, o.OrderNo) // 2: beside the first, which may still arrive
		f.Clock.Advance(time.Minute)
		f.Prepaid(t, o.OrderNo) // 3: alone
		last := f.WeChat.Prepays
		f.Prepaid(t, o.OrderNo)
		if last != 3 || f.WeChat.Prepays != last {
			t.Errorf("%d calls, %d after one more click", last, f.WeChat.Prepays)
		}
	})
}

// A trade type that another one replaces is closed by what WeChat Pay says of the calls that it was asked about. A
// repeat that is sent meanwhile is not among them: closing it on that word left a trade open beside the new one.
func TestTradeWithANewerCallIsNotClosed(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f = f.Restarted(t, func(c *order.Config) { c.Gateway = lateGateway{f.WeChat} })
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		f.WeChat.Before = loseAll("prepay")
		if _, err := f.Prepay(t.Context(), native(o.OrderNo)); err == nil {
			t.Fatal("prepaid")
		}
		f.WeChat.Before = nil
		f.Clock.Advance(time.Minute)
		f.WeChat.After = func(op, no string) error {
			if op != "query" {
				return nil
			}
			f.WeChat.After = loseAll("prepay")
			_, _ = f.Prepay(t.Context(), native(o.OrderNo)) // opened, and nobody hears of it
			f.WeChat.After = nil
			return nil
		}
		if _, err := f.Prepay(t.Context(), jsapi(o.OrderNo, "o")); payment.KindOf(err) != payment.KindUnknown {
			t.Fatal(err)
		}
		first, _ := f.WeChat.Trade(o.OrderNo + "-01")
		if second, ok := f.WeChat.Trade(o.OrderNo + "-02"); ok && first.State == second.State {
			t.Fatal("two payable trades of one order")
		}
		if p, err := f.Prepay(t.Context(), jsapi(o.OrderNo, "o")); err != nil || p.OutTradeNo != o.OrderNo+"-02" {
			t.Errorf("%+v %v", p, err)
		}
	})
}

// The answer of a trade type that was replaced meanwhile must not be handed out, nor stay payable: and the order,
// which is the customer's own, is not "not found".
func TestReplacedPrepayIsNotHandedOut(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		f.WeChat.After = func(op, _ string) error {
			if op != "prepay" {
				return nil
			}
			f.WeChat.After = nil
			_, err := f.Prepay(t.Context(), jsapi(o.OrderNo, "o"))
			return err
		}
		if p, err := f.Prepay(t.Context(), native(o.OrderNo)); err == nil || errors.Is(err, order.ErrNotFound) {
			t.Errorf("%+v %v", p, err)
		}
		first, _ := f.WeChat.Trade(o.OrderNo + "-01")
		second, _ := f.WeChat.Trade(o.OrderNo + "-02")
		if first.State != payment.TradeClosed || second.State != payment.TradeNotPay {
			t.Errorf("at WeChat Pay: %s, %s", first.State, second.State)
		}
	})
}

// A client that asks again and again while WeChat Pay is away must not grow a row without bound, nor be shut out
// for ever.
func TestOpenPrepaysAreBounded(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		f.WeChat.After = loseAll("prepay")
		for range 50 {
			if _, err := f.Prepay(t.Context(), native(o.OrderNo)); payment.KindOf(err) != payment.KindUnknown {
				t.Fatal(err)
			}
		}
		if f.WeChat.Prepays != 20 {
			t.Errorf("%d calls in one moment", f.WeChat.Prepays)
		}
		f.WeChat.After = nil
		f.Clock.Advance(time.Minute)
		f.Prepaid(t, o.OrderNo)
	})
}

// wrongMerchant is WeChat Pay asked with the wrong merchant number or app id: a prepay is refused, a close is answered
// as for a number that nobody has, and a query says "no such trade".
type wrongMerchant struct{ *ordertest.WeChat }

func (w wrongMerchant) Prepay(context.Context, payment.Attempt) (payment.Prepaid, error) {
	return payment.Prepaid{}, &payment.GatewayError{Op: "prepay", Kind: payment.KindRejected, Status: 400,
		Code: "PARAM_ERROR"}
}

func (w wrongMerchant) Query(_ context.Context, no string) (payment.Trade, error) {
	return payment.Trade{OutTradeNo: no, State: payment.TradeNotFound}, nil
}

func (w wrongMerchant) Close(context.Context, string) (payment.CloseReply, error) {
	return payment.CloseReply{Answer: payment.CloseAccepted, Status: 204, RequestID: "req"}, nil
}

// A trade that WeChat Pay opened and does not know now pins its order (E2), and that is right. But where its code had
// grown old and the repeat was refused, "no such trade" closed the order: its stock came back while its buyer could
// pay.
func TestRefusedRepeatDoesNotUnopenTheTrade(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 2)
		h5 := func(no string) order.PrepayRequest {
			return order.PrepayRequest{OrderNo: no, CustomerID: "c", TradeType: payment.H5, ClientIP: "203.0.113.7",
				H5Type: "Wap", Cause: ordertest.Customer}
		}
		for _, way := range []string{"cancel", "swap"} {
			o := f.PlaceOne(t, way, "mug", 1)
			if _, err := f.Prepay(t.Context(), h5(o.OrderNo)); err != nil {
				t.Fatal(err)
			}
			f.Clock.Advance(6 * time.Minute) // an h5_url is good for five
			g := f.Restarted(t, func(c *order.Config) { c.Gateway = wrongMerchant{f.WeChat} })
			if _, err := g.Prepay(t.Context(), h5(o.OrderNo)); payment.KindOf(err) != payment.KindRejected {
				t.Fatal(err)
			}
			if way == "cancel" {
				_, _ = g.Cancel(t.Context(), cancel(o.OrderNo))
			} else {
				_, _ = g.Prepay(t.Context(), native(o.OrderNo))
			}
			trade, err := f.WeChat.Pay(o.OrderNo+"-01", false)
			if err != nil {
				continue // nobody could pay: all is well
			}
			if state := f.State(t, o.OrderNo); state == order.StateClosed {
				t.Errorf("%s: the order is %s, %d on the shelf, and its buyer paid %s", way, state,
					f.Available(t, "mug"), trade.TransactionID)
			}
			if a := attemptOf(t, f, o.OrderNo, 1); a.State == order.AttemptClosed {
				t.Errorf("%s: the attempt is proven closed, and was paid", way)
			}
			_, _ = f.Settle(t.Context(), trade, ordertest.Notified)
		}
	})
}

// previous runs a statement of the program before this one.
func previous(t *testing.T, f *ordertest.Fixture, statement string, args ...any) {
	t.Helper()
	err := f.DB.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.ExecContext(ctx, statement, args...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A late refusal that the program before this one stores wipes the answer of an open trade: state refused, and no
// answer. answer_no still says that WeChat Pay opened it.
func TestLateRefusalOfThePreviousProgram(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		no := f.Prepaid(t, o.OrderNo)
		a := attemptOf(t, f, o.OrderNo, 1)
		previous(t, f, `UPDATE payment_attempts
SET state = ?, answer = ?, called_at = ?, answered_at = ?
WHERE out_trade_no = ?
  AND state <> 'closed'`, "refused", "", sqldb.Millis(a.CalledAt), 0, no)
		g := f.Restarted(t, func(c *order.Config) { c.Gateway = wrongMerchant{f.WeChat} })
		_, _ = g.Cancel(t.Context(), cancel(o.OrderNo))
		if _, err := f.WeChat.Pay(no, false); err == nil && f.State(t, o.OrderNo) == order.StateClosed {
			t.Error("closed, and paid")
		}
	})
}

// The end of a call that WeChat Pay refused is known, also when its order was cancelled while it was on its way: it
// kept the close waiting for half a minute all the same.
func TestRefusedCallOfACancelledOrderIsNotInFlight(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f = f.Restarted(t, func(c *order.Config) { c.Gateway = lateGateway{f.WeChat} })
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		f.WeChat.Before = func(op, _ string) error {
			if op != "prepay" {
				return nil
			}
			f.WeChat.Before = nil
			if got, err := f.Cancel(t.Context(), cancel(o.OrderNo)); err != nil || got.State != order.StateClosing {
				t.Errorf("cancelled beside the call: %s %v", got.State, err)
			}
			return refusal()
		}
		if _, err := f.Prepay(t.Context(), native(o.OrderNo)); err == nil {
			t.Fatal("prepaid")
		}
		f.Clock.Advance(6 * time.Second)
		err := f.Expire(t.Context(), o.OrderNo, ordertest.Scheduler)
		if f.State(t, o.OrderNo) != order.StateClosed {
			t.Errorf("%s: %v", f.State(t, o.OrderNo), err)
		}
	})
}

// Beside the program before this one: its answer opens the trade and is not numbered; a call of this program that began
// before it and is refused after it wrote "refused" over the open trade, which the buyer can pay by that answer.
func TestLateRefusalBesideThePreviousProgram(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		f.WeChat.Before = loseAll("prepay")
		if _, err := f.Prepay(t.Context(), native(o.OrderNo)); err == nil {
			t.Fatal("prepaid")
		}
		previous(t, f, "UPDATE payment_attempts SET call_no = 0, open_calls = '' WHERE order_no = ?", o.OrderNo)
		f.WeChat.Before = func(op, no string) error { // meanwhile the other program is answered
			if op != "prepay" {
				return nil
			}
			previous(t, f, `UPDATE payment_attempts
SET state = ?, answer = ?, called_at = ?, answered_at = ?
WHERE out_trade_no = ?
  AND state <> 'closed'`, "live", `{"PrepayID":"good"}`, sqldb.Millis(f.Clock.Now()), sqldb.Millis(f.Clock.Now()), no)
			return refusal()
		}
		if _, err := f.Prepay(t.Context(), native(o.OrderNo)); err == nil {
			t.Fatal("prepaid")
		}
		f.WeChat.Before = nil
		if a := attemptOf(t, f, o.OrderNo, 1); a.State != order.AttemptLive {
			t.Errorf("the attempt is %s, and was opened by a call that came after the refused one", a.State)
		}
	})
}

// Two clicks overtake one another on their way: WeChat Pay gave the older call the newer code, and the code that
// it made invalid by it was handed out for two hours. Only a call that was alone says which code can be paid.
func TestOvertakenPrepayIsNotHandedOutAgain(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		var calls atomic.Int64
		arrived, goOn := make(chan struct{}), make(chan struct{})
		f.WeChat.Before = func(op, _ string) error {
			if op == "prepay" && calls.Add(1) == 1 { // on its way for a while
				close(arrived)
				<-goOn
			}
			return nil
		}
		var first order.Prepayment
		var firstErr error
		var wg sync.WaitGroup
		wg.Go(func() { first, firstErr = f.Prepay(context.WithoutCancel(t.Context()), native(o.OrderNo)) })
		<-arrived
		if _, err := f.Prepay(t.Context(), native(o.OrderNo)); err != nil {
			t.Fatal(err)
		}
		close(goOn)
		wg.Wait()
		again, err := f.Prepay(t.Context(), native(o.OrderNo))
		if err != nil || firstErr != nil || f.WeChat.Prepays != 3 {
			t.Fatal(err, firstErr, f.WeChat.Prepays)
		}
		for who, got := range map[string]string{"the one that was overtaken": first.Prepaid.PrepayID,
			"the next click": again.Prepaid.PrepayID} {
			if want := fmt.Sprintf("wx%06d", f.WeChat.Prepays); got != want {
				t.Errorf("%s was given %s, which WeChat Pay made invalid by %s", who, got, want)
			}
		}
	})
}

// A call that nobody heard of is forgotten when it is too old to arrive. The answer that it was beside did not become
// certain by that, should the call that forgot it come to nothing.
func TestForgottenPrepayLeavesDoubt(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		f.WeChat.After = loseAll("prepay")
		if _, err := f.Prepay(t.Context(), native(o.OrderNo)); err == nil {
			t.Fatal("prepaid")
		}
		f.WeChat.After = nil
		f.Prepaid(t, o.OrderNo) // 2: beside the first
		f.Clock.Advance(time.Minute)
		f.WeChat.Before = func(op, _ string) error {
			return &payment.GatewayError{Op: op, Kind: payment.KindUnknown, NotSent: true,
				Err: errors.New("no network")}
		}
		if _, err := f.Prepay(t.Context(), native(o.OrderNo)); err == nil {
			t.Fatal("prepaid")
		}
		f.WeChat.Before = nil
		before := f.WeChat.Prepays
		f.Prepaid(t, o.OrderNo)
		if f.WeChat.Prepays != before+1 {
			t.Error("the second answer was handed out, and the first call may have come after it")
		}
	})
}

// Prepays of which every call is beside another come to an end: the client is told to ask again.
func TestPrepayRoundsAreBounded(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		nested := false
		f.WeChat.After = func(op, _ string) error {
			if op != "prepay" || nested {
				return nil
			}
			nested = true
			defer func() { nested = false }()
			if _, err := f.Prepay(t.Context(), native(o.OrderNo)); err != nil { // another click beside each call
				t.Error(err)
			}
			return nil
		}
		if _, err := f.Prepay(t.Context(), native(o.OrderNo)); payment.KindOf(err) != payment.KindUnknown {
			t.Error(err)
		}
		if f.WeChat.Prepays != 10 {
			t.Errorf("%d calls", f.WeChat.Prepays)
		}
		f.WeChat.After = nil
		f.Prepaid(t, o.OrderNo)
	})
}

// The program before this one does not number its calls: its late answer is stored over the newest one, and answer_no
// goes on to name the newest. It was handed out for two hours.
func TestLateAnswerOfThePreviousProgram(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		no := f.Prepaid(t, o.OrderNo)
		a := attemptOf(t, f, o.OrderNo, 1)
		previous(t, f, `UPDATE payment_attempts
SET state = ?, answer = ?, called_at = ?, answered_at = ?
WHERE out_trade_no = ?
  AND state <> 'closed'`, "live", `{"PrepayID":"stale","CodeURL":"weixin://stale"}`, sqldb.Millis(a.CalledAt),
			sqldb.Millis(f.Clock.Now()), no)
		for range 2 {
			got, err := f.Prepay(t.Context(), native(o.OrderNo))
			if err != nil || got.Prepaid.PrepayID == "stale" || f.WeChat.Prepays != 2 {
				t.Errorf("handed out %+v, %d calls, %v", got.Prepaid, f.WeChat.Prepays, err)
			}
		}
	})
}

// docs/states.md: money that does not fit is held, "and the buyer is told that a payment is looked into". He was handed
// the code that he had paid, for as long as it is good.
func TestPaidCodeOfHeldMoneyIsNotHandedOut(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		trade, err := f.WeChat.Pay(f.Prepaid(t, o.OrderNo), false)
		if err != nil {
			t.Fatal(err)
		}
		trade.AppID = "wx0000000000000009"
		if s, err := f.Settle(t.Context(), trade, ordertest.Notified); err != nil || s.Settled != order.SettledHeld {
			t.Fatal(s, err)
		}
		p, err := f.Prepay(t.Context(), native(o.OrderNo))
		var held *order.NotPayableError
		if !errors.As(err, &held) || !held.Held {
			t.Errorf("handed out %s, which is paid: %v", p.Prepaid.CodeURL, err)
		}
	})
}
