package order_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/stock"
)

var cancel = func(no string) order.CancelRequest {
	return order.CancelRequest{OrderNo: no, CustomerID: "c", Cause: ordertest.Customer}
}

func each(t *testing.T, test func(t *testing.T, f *ordertest.Fixture)) {
	t.Helper()
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) { test(t, ordertest.New(t, db)) })
}

// Without it the main road is broken: placed, prepaid, paid by notification, once.
func TestPlacePrepayPay(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 5)
		o := f.PlaceOne(t, "r1", "mug", 2)
		if o.State != order.StatePending || o.Total != 200 || f.Available(t, "mug") != 3 {
			t.Fatalf("%+v, %d left", o, f.Available(t, "mug"))
		}
		no := f.Prepaid(t, o.OrderNo)
		trade, err := f.WeChat.Pay(no, false)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []order.Settled{order.SettledApplied, order.SettledRepeated, order.SettledRepeated} {
			s, err := f.Settle(t.Context(), trade, ordertest.Notified)
			if err != nil || s.Settled != want || s.State != order.StatePaid {
				t.Fatalf("notification %d: %+v, %v", i+1, s, err)
			}
		}
		got, err := f.Find(t.Context(), o.OrderNo)
		if err != nil || got.Payment == nil || got.Payment.TransactionID != trade.TransactionID || !got.DueAt.IsZero() {
			t.Fatalf("%+v, %v", got, err)
		}
		events, err := f.Timeline(t.Context(), o.OrderNo)
		if err != nil || len(events) != 3 || events[2].Event != "payment.applied" || events[2].Seq != got.Version {
			t.Fatalf("%+v, %v", events, err)
		}
	})
}

// dtm's bug (peers 26): a retry of the placement that took the last unit was answered "sold out".
func TestRepeatAtZeroGetsTheFirstAnswer(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		p := order.Placement{CustomerID: "c", RequestID: "k", Lines: []stock.Line{{SkuID: "mug", Quantity: 1}}}
		first, err := f.Place(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		again, err := f.Place(t.Context(), p)
		if err != nil || !again.Replayed || again.Order.OrderNo != first.Order.OrderNo || len(again.Order.Items) != 1 {
			t.Fatalf("%+v, %v", again, err)
		}
		p.Lines[0].Quantity = 2
		if _, err := f.Place(t.Context(), p); !errors.Is(err, order.ErrRequestReused) {
			t.Fatalf("another order under the same key: %v", err)
		}
		p = order.Placement{CustomerID: "other", RequestID: "k", Lines: []stock.Line{{SkuID: "mug", Quantity: 1}}}
		if _, err := f.Place(t.Context(), p); !errors.As(err, new(*order.InsufficientError)) {
			t.Fatalf("another customer's key: %v", err)
		}
	})
}

// A buyer whose answer was lost asks again under the same key; the shop may have raised the price, or taken the SKU
// down to nothing, meanwhile. "Price changed, nothing was placed" would make him order twice.
func TestRepeatAfterThePriceChangedGetsTheFirstAnswer(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 10)
		total := payment.Fen(100)
		p := order.Placement{CustomerID: "c", RequestID: "r", Lines: []stock.Line{{SkuID: "mug", Quantity: 1}},
			ExpectedTotal: &total, Cause: "test"}
		first, err := f.Place(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := f.Admin.Put(t.Context(), stock.Put{SkuID: "mug", Title: "mug", PriceFen: 250}); err != nil {
			t.Fatal(err)
		}
		again, err := f.Place(t.Context(), p)
		if err != nil || again.Order.OrderNo != first.Order.OrderNo || !again.Replayed {
			t.Errorf("%+v %v", again, err)
		}
		p.RequestID = "new"
		if _, err := f.Place(t.Context(), p); !errors.As(err, new(*order.PriceChangedError)) {
			t.Errorf("a new request: %v", err)
		}
	})
}

// k copies of one request at the same time must be one order (reliability K1).
func TestSameKeyConcurrently(t *testing.T) {
	races(t, func(*order.Config) {}, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 100)
		var mu sync.Mutex
		numbers := map[string]int{}
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				placed, err := f.Place(t.Context(), order.Placement{CustomerID: "c", RequestID: "k",
					Lines: []stock.Line{{SkuID: "mug", Quantity: 1}}})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				numbers[placed.Order.OrderNo]++
				mu.Unlock()
			})
		}
		wg.Wait()
		if len(numbers) != 1 || f.Available(t, "mug") != 99 {
			t.Fatalf("%v, %d left", numbers, f.Available(t, "mug"))
		}
	})
}

// Two hundred buyers of sixty units over a hot SKU and opposite carts: exactly
// sixty are sold, and no deadlock reaches a buyer (peers 7, 18).
func TestHotSKUSellsExactlyItsStock(t *testing.T) {
	races(t, func(*order.Config) {}, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "a", 60)
		f.SKU(t, "b", 1000)
		var sold, refused atomic.Int64
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				lines := []stock.Line{{SkuID: "a", Quantity: 1}, {SkuID: "b", Quantity: 2}}
				if i%2 == 1 {
					lines[0], lines[1] = lines[1], lines[0]
				}
				_, err := f.Place(t.Context(), order.Placement{CustomerID: fmt.Sprint("c", i), RequestID: "k",
					Lines: lines})
				switch {
				case err == nil:
					sold.Add(1)
				case errors.As(err, new(*order.InsufficientError)):
					refused.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if sold.Load() != 60 || refused.Load() != 140 || f.Available(t, "a") != 0 || f.Available(t, "b") != 1000-120 {
			t.Fatalf("sold %d, refused %d, left %d and %d", sold.Load(), refused.Load(), f.Available(t, "a"),
				f.Available(t, "b"))
		}
	})
}

// newbee's bug (peers 6): a short second line went through with the first.
func TestShortSecondLineMovesNothing(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "a", 9)
		f.SKU(t, "b", 5)
		_, err := f.Place(t.Context(), order.Placement{CustomerID: "c", RequestID: "k",
			Lines: []stock.Line{{SkuID: "a", Quantity: 2}, {SkuID: "b", Quantity: 9}}})
		var short *order.InsufficientError
		if !errors.As(err, &short) || short.Items[0] != (stock.Short{Index: 1, SkuID: "b", Requested: 9,
			Available: 5}) {
			t.Fatalf("%v", err)
		}
		if f.Available(t, "a") != 9 || f.Available(t, "b") != 5 {
			t.Fatal("something moved")
		}
		if _, err := f.Place(t.Context(), order.Placement{CustomerID: "c", RequestID: "k2",
			Lines: []stock.Line{{SkuID: "b", Quantity: 3}, {SkuID: "b", Quantity: 3}}}); !errors.As(err, &short) {
			t.Fatalf("the same SKU on two lines was checked line by line (peers 42): %v", err)
		}
		expected := payment.Fen(1)
		if _, err := f.Place(t.Context(), order.Placement{CustomerID: "c", RequestID: "k3", ExpectedTotal: &expected,
			Lines: []stock.Line{{SkuID: "b", Quantity: 1}}}); !errors.As(err, new(*order.PriceChangedError)) {
			t.Fatalf("stale price: %v", err)
		}
		if _, err := f.Place(t.Context(), order.Placement{CustomerID: "c", RequestID: "k4",
			Lines: []stock.Line{{SkuID: "ghost", Quantity: 1}}}); !errors.As(err, new(*order.UnknownSKUError)) {
			t.Fatalf("unknown SKU: %v", err)
		}
	})
}

// Unlimited stock (−1) must sell without end and never show up as a shortage.
func TestUnlimitedStock(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "ebook", -1)
		o := f.PlaceOne(t, "r", "ebook", 10_000)
		if got, err := f.Cancel(t.Context(), cancel(o.OrderNo)); err != nil || got.State != order.StateClosed {
			t.Fatalf("%v %v", got.State, err)
		}
	})
}

// The seed's first bug and mall's (peers 3): a timeout and N cancels at once gave the stock back more than once.
func TestConcurrentCancelsReturnOnce(t *testing.T) {
	races(t, func(*order.Config) {}, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 10)
		o := f.PlaceOne(t, "r", "mug", 3)
		f.Prepaid(t, o.OrderNo)
		f.Clock.Advance(31 * time.Minute)
		var wg sync.WaitGroup
		for i := range 32 {
			wg.Go(func() {
				if i%2 == 0 {
					if _, err := f.Cancel(t.Context(), cancel(o.OrderNo)); err != nil {
						t.Error(err)
					}
					return
				}
				if err := f.Expire(t.Context(), o.OrderNo, ordertest.Scheduler); err != nil &&
					!errors.As(err, new(*order.NotDueError)) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if f.State(t, o.OrderNo) != order.StateClosed || f.Available(t, "mug") != 10 {
			t.Fatalf("%s, %d left", f.State(t, o.OrderNo), f.Available(t, "mug"))
		}
	})
}

// The seed's second bug (peers 1, 2, 22, 44): money that arrives as the cancel runs. Whoever won at WeChat wins here.
func TestPaidInTheInstantOfTheClose(t *testing.T) {
	races(t, func(*order.Config) {}, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 10)
		o := f.PlaceOne(t, "r", "mug", 1)
		no := f.Prepaid(t, o.OrderNo)
		f.WeChat.Before = func(op, _ string) error {
			if op == "close" {
				f.WeChat.Before = nil
				_, err := f.WeChat.Pay(no, false)
				return err
			}
			return nil
		}
		f.Clock.Advance(31 * time.Minute)
		if err := f.Expire(t.Context(), o.OrderNo, ordertest.Scheduler); err != nil {
			t.Fatal(err)
		}
		if f.State(t, o.OrderNo) != order.StatePaid || f.Available(t, "mug") != 9 {
			t.Fatalf("%s, %d left", f.State(t, o.OrderNo), f.Available(t, "mug"))
		}
		trade, _ := f.WeChat.Trade(no)
		if s, err := f.Settle(t.Context(), trade, ordertest.Notified); err != nil ||
			s.Settled != order.SettledRepeated {
			t.Fatalf("the notification that comes after: %+v %v", s, err)
		}
		var refused *order.RefusedError
		if _, err := f.Cancel(t.Context(), cancel(o.OrderNo)); !errors.As(err, &refused) ||
			refused.Order.State != order.StatePaid {
			t.Fatalf("cancel of a paid order: %v", err)
		}
	})
}

// No answer must move nothing, whichever answer is lost and whether WeChat acted or not (reliability W1, W2).
func TestLostAnswersMoveNothingAndAreAskedAgain(t *testing.T) {
	lost := map[string]func(f *ordertest.Fixture){
		"close lost before": func(f *ordertest.Fixture) { f.WeChat.Before = loseOnce("close", "query") },
		"close lost after":  func(f *ordertest.Fixture) { f.WeChat.After = loseAll("close", "query") },
		"query lost":        func(f *ordertest.Fixture) { f.WeChat.Before = loseAll("query") },
	}
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 100)
		for name, lose := range lost {
			o := f.PlaceOne(t, "r-"+fmt.Sprint(len(name)), "mug", 1)
			f.Prepaid(t, o.OrderNo)
			lose(f)
			got, err := f.Cancel(t.Context(), cancel(o.OrderNo))
			if err != nil || got.State != order.StateClosing || f.Available(t, "mug") != 99 {
				t.Fatalf("%s: %s, %v, %d left", name, got.State, err, f.Available(t, "mug"))
			}
			if !f.Tasks.WakesAt(got.DueAt) {
				t.Errorf("%s: nobody was asked to come back at %v", name, got.DueAt)
			}
			if err := f.Expire(t.Context(), o.OrderNo, ordertest.Scheduler); !errors.As(err, new(*order.NotDueError)) {
				t.Fatalf("%s: asked again at once: %v", name, err)
			}
			f.WeChat.Before, f.WeChat.After = nil, nil
			f.Clock.Advance(6 * time.Second)
			if err := f.Expire(t.Context(), o.OrderNo, ordertest.Scheduler); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if f.State(t, o.OrderNo) != order.StateClosed || f.Available(t, "mug") != 100 {
				t.Fatalf("%s: %s, %d left", name, f.State(t, o.OrderNo), f.Available(t, "mug"))
			}
		}
	})
}

func loseAll(ops ...string) func(op, no string) error {
	return func(op, _ string) error {
		for _, o := range ops {
			if o == op {
				return ordertest.ErrLost(op)
			}
		}
		return nil
	}
}

var loseOnce = loseAll

// RuoYi's and Saleor's bug (peers 10, 45): money after the close was kept, the order stayed closed, nobody was told.
func TestLatePaymentIsOwedBackOnce(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "r", "mug", 1)
		no := f.Prepaid(t, o.OrderNo)
		if got, err := f.Cancel(t.Context(), cancel(o.OrderNo)); err != nil || got.State != order.StateClosed {
			t.Fatal(got.State, err)
		}
		f.PlaceOne(t, "r2", "mug", 1) // the unit is somebody else's now
		trade, err := f.WeChat.Pay(no, true)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if _, err := f.Settle(t.Context(), trade, ordertest.Notified); err != nil {
				t.Fatal(err)
			}
		}
		got, err := f.Find(t.Context(), o.OrderNo)
		if err != nil || got.State != order.StateLate || len(got.Refunds) != 1 || got.Refunds[0].Amount != 100 ||
			got.Payment.Outcome != order.SettledOwed {
			t.Fatalf("%+v %v", got, err)
		}
		if f.Available(t, "mug") != 0 {
			t.Fatal("the late payment touched the stock")
		}
	})
}

// RuoYi's double charge (peers 17): a second payment of one order threw and was never recorded.
func TestSecondPaymentIsOwedBack(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "r", "mug", 1)
		no := f.Prepaid(t, o.OrderNo)
		first, _ := f.WeChat.Pay(no, false)
		second := first
		second.TransactionID = "4299999999"
		for _, tr := range []payment.Trade{first, second, second} {
			if _, err := f.Settle(t.Context(), tr, ordertest.Notified); err != nil {
				t.Fatal(err)
			}
		}
		got, err := f.Find(t.Context(), o.OrderNo)
		if err != nil || got.State != order.StatePaid || len(got.Refunds) != 1 ||
			got.Refunds[0].TransactionID != second.TransactionID {
			t.Fatalf("%+v %v", got, err)
		}
	})
}

// looklook's bug (peers 31): a coupon makes payer_total smaller, and the payment was refused. And a payment that
// does not fit must be recorded, yet never make an order paid (S1, W8).
func TestPaymentFacts(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 10)
		o := f.PlaceOne(t, "r", "mug", 1)
		no := f.Prepaid(t, o.OrderNo)
		good, _ := f.WeChat.Pay(no, false)
		bad := map[string]func(tr *payment.Trade){
			"amount":        func(tr *payment.Trade) { tr.Total++ },
			"currency":      func(tr *payment.Trade) { tr.Currency = "USD" },
			"appid":         func(tr *payment.Trade) { tr.AppID = "wx2" },
			"mchid":         func(tr *payment.Trade) { tr.MchID = "19" },
			"unknown_order": func(tr *payment.Trade) { tr.OutTradeNo = "01JD4Z0000000000000000000A-01" },
		}
		n := 0
		for reason, spoil := range bad {
			tr := good
			n++
			tr.TransactionID = fmt.Sprint("43", n)
			spoil(&tr)
			s, err := f.Settle(t.Context(), tr, ordertest.Notified)
			if err != nil || s.Settled != order.SettledHeld || s.Reason != reason {
				t.Errorf("%s: %+v %v", reason, s, err)
			}
		}
		if f.State(t, o.OrderNo) != order.StatePending {
			t.Fatal("a payment that does not fit moved the order")
		}
		good.PayerTotal = payment.Said(1)
		if s, err := f.Settle(t.Context(), good, ordertest.Notified); err != nil || s.Settled != order.SettledApplied {
			t.Fatalf("coupon: %+v %v", s, err)
		}
		for _, tr := range []payment.Trade{{State: payment.TradeNotPay}, {State: payment.TradeSuccess},
			{State: payment.TradeSuccess, TransactionID: "x y", Total: 1}} {
			if _, err := f.Settle(t.Context(), tr, ordertest.Notified); err == nil {
				t.Errorf("settled %+v", tr)
			}
		}
	})
}

// looklook's bug (peers 32, 36): several payable trades of one order, and prepaying a closed number again.
func TestOnePayableTradePerOrder(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 10)
		o := f.PlaceOne(t, "r", "mug", 1)
		native := f.Prepaid(t, o.OrderNo)
		if again := f.Prepaid(t, o.OrderNo); again != native || f.WeChat.Prepays != 1 {
			t.Fatalf("the same click again: %s after %s, %d calls", again, native, f.WeChat.Prepays)
		}
		r := order.PrepayRequest{OrderNo: o.OrderNo, CustomerID: "c", TradeType: payment.JSAPI, OpenID: "o1",
			Cause: ordertest.Customer}
		f.WeChat.Before = loseAll("close", "query")
		if _, err := f.Prepay(t.Context(), r); payment.KindOf(err) != payment.KindUnknown {
			t.Fatalf("another type while the first may be payable: %v", err)
		}
		f.WeChat.Before = nil
		p, err := f.Prepay(t.Context(), r)
		if err != nil || p.OutTradeNo == native {
			t.Fatalf("%+v %v", p, err)
		}
		if tr, _ := f.WeChat.Trade(native); tr.State != payment.TradeClosed {
			t.Fatalf("the first trade is still %s", tr.State)
		}
		if _, err := f.Prepay(t.Context(), order.PrepayRequest{OrderNo: o.OrderNo, CustomerID: "other",
			TradeType: payment.Native}); !errors.Is(err, order.ErrNotFound) {
			t.Fatalf("another customer: %v", err)
		}
		f.Clock.Advance(30 * time.Minute)
		var notPayable *order.NotPayableError
		if _, err := f.Prepay(t.Context(), r); !errors.As(err, &notPayable) || !notPayable.Expired {
			t.Fatalf("after the deadline: %v", err)
		}
	})
}

// A repeat whose parameters differ is refused by WeChat for ever: a lost answer must be asked for again with the stored
// ones.
func TestPrepayRepeatsItsParameters(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 10)
		o := f.PlaceOne(t, "r", "mug", 1)
		f.WeChat.After = loseAll("prepay")
		r := order.PrepayRequest{OrderNo: o.OrderNo, CustomerID: "c", TradeType: payment.Native,
			Cause: ordertest.Customer}
		if _, err := f.Prepay(t.Context(), r); payment.KindOf(err) != payment.KindUnknown {
			t.Fatal(err)
		}
		f.WeChat.After = nil
		f.Clock.Advance(time.Minute)
		if p, err := f.Prepay(t.Context(), r); err != nil || p.OutTradeNo != o.OrderNo+"-01" {
			t.Fatalf("%+v %v", p, err)
		}
	})
}

// A prepay answer that comes after the order was closed must not be handed out, nor stay payable (W5).
func TestLatePrepayAnswerIsNotHandedOut(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "r", "mug", 1)
		f.WeChat.After = func(op, _ string) error {
			if op != "prepay" {
				return nil
			}
			f.WeChat.After = nil
			_, err := f.Cancel(t.Context(), cancel(o.OrderNo))
			return err
		}
		_, err := f.Prepay(t.Context(), order.PrepayRequest{OrderNo: o.OrderNo, CustomerID: "c",
			TradeType: payment.Native, Cause: ordertest.Customer})
		if !errors.As(err, new(*order.NotPayableError)) {
			t.Fatal(err)
		}
		if tr, _ := f.WeChat.Trade(o.OrderNo + "-01"); tr.State != payment.TradeClosed {
			t.Fatalf("the trade is %s", tr.State)
		}
	})
}

// "No such trade" proves nothing while a prepay may still be on its way (wechatpay §5.3).
func TestCloseWaitsForAPrepayInFlight(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "r", "mug", 1)
		f.WeChat.Before = loseAll("prepay")
		if _, err := f.Prepay(t.Context(), order.PrepayRequest{OrderNo: o.OrderNo, CustomerID: "c",
			TradeType: payment.Native, Cause: ordertest.Customer}); err == nil {
			t.Fatal("prepaid")
		}
		if got, err := f.Cancel(t.Context(), cancel(o.OrderNo)); err != nil || got.State != order.StateClosing {
			t.Fatalf("closed while the prepay was on its way: %s %v", got.State, err)
		}
		f.Clock.Advance(time.Minute)
		if err := f.Expire(t.Context(), o.OrderNo, ordertest.Scheduler); err != nil ||
			f.State(t, o.OrderNo) != order.StateClosed {
			t.Fatal(err, f.State(t, o.OrderNo))
		}
	})
}

// Saleor's bug (peers 9): minutes and days mixed up let orders of more than a day expire early or never.
func TestDeadlinesBeyondADay(t *testing.T) {
	for _, within := range []time.Duration{25 * time.Hour, 49 * time.Hour} {
		db := sqldbtest.SQLite(t)
		f := ordertest.New(t, db)
		f.SKU(t, "mug", 1)
		s, err := order.New(order.Config{DB: db, Gateway: f.WeChat, Now: f.Clock.Now, MchID: ordertest.MchID,
			AppID: ordertest.AppID, NotifyURL: "https://x.example/n", PayWithin: within, Grace: -1})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		placed, err := s.Place(t.Context(), order.Placement{CustomerID: "c", RequestID: within.String()[:2],
			Lines: []stock.Line{{SkuID: "mug", Quantity: 1}}})
		if err != nil {
			t.Fatal(err)
		}
		f.Clock.Advance(within - time.Second)
		err = s.Expire(t.Context(), placed.Order.OrderNo, ordertest.Scheduler)
		if !errors.As(err, new(*order.NotDueError)) {
			t.Fatalf("%s: a second early: %v", within, err)
		}
		f.Clock.Advance(time.Second)
		if err := s.Expire(t.Context(), placed.Order.OrderNo, ordertest.Scheduler); err != nil ||
			f.State(t, placed.Order.OrderNo) != order.StateClosed {
			t.Fatalf("%s: %v", within, err)
		}
	}
}

// Another customer's order must not be seen or moved by anybody else (peers 38).
func TestOwnership(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "r", "mug", 1)
		if _, err := f.FindOwn(t.Context(), "other", o.OrderNo); !errors.Is(err, order.ErrNotFound) {
			t.Error(err)
		}
		if _, err := f.Cancel(t.Context(), order.CancelRequest{OrderNo: o.OrderNo, CustomerID: "other",
			Cause: ordertest.Customer}); !errors.Is(err, order.ErrNotFound) {
			t.Error(err)
		}
		if _, err := f.Cancel(t.Context(), order.CancelRequest{OrderNo: o.OrderNo, IfVersion: 9,
			Cause: ordertest.Customer}); !errors.Is(err, order.ErrVersion) {
			t.Error(err)
		}
		if f.State(t, o.OrderNo) != order.StatePending {
			t.Error("moved")
		}
	})
}

// A page full of orders that cannot be helped must not hide the one after it (River #1318, peers 34).
func TestDueOrdersPageByKey(t *testing.T) {
	each(t, func(t *testing.T, f *ordertest.Fixture) {
		f.SKU(t, "mug", 100)
		want := map[string]bool{}
		for i := range 7 { // all due at the same millisecond
			want[f.PlaceOne(t, fmt.Sprint("r", i), "mug", 1).OrderNo] = true
		}
		f.Clock.Advance(time.Hour)
		var cursor order.DueCursor
		for pages := 0; ; pages++ {
			due, err := f.DueOrders(t.Context(), order.StatePending, cursor, f.Clock.Now(), 3)
			if err != nil || pages > 3 {
				t.Fatal(err, pages)
			}
			for _, d := range due {
				if !want[d.Key] {
					t.Fatal("seen twice", d.Key)
				}
				delete(want, d.Key)
				cursor = order.DueCursor{At: d.At, Key: d.Key}
			}
			if len(due) == 0 {
				break
			}
		}
		if len(want) != 0 {
			t.Fatal("hidden:", want)
		}
	})
}

// Everything at once against WeChat's own truth: places, repeats, payments, cancels, timeouts, lost answers. Whoever
// won at WeChat must have won here, and every invariant must hold at the end.
func TestEveryRaceAgainstWeChatsTruth(t *testing.T) {
	sqldbtest.Races(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.New(t, db)
		f.SKU(t, "mug", 80)
		seed := uint64(time.Now().UnixNano())
		t.Log("seed", seed)
		var mu sync.Mutex
		rnd := rand.New(rand.NewPCG(seed, 1))
		chance := func(percent int) bool {
			mu.Lock()
			defer mu.Unlock()
			return rnd.IntN(100) < percent
		}
		lose := func(op, _ string) error {
			if op != "prepay" && chance(15) {
				return ordertest.ErrLost(op)
			}
			return nil
		}
		f.WeChat.Before, f.WeChat.After = lose, lose
		var orders []string
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				placed, err := f.Place(t.Context(), order.Placement{CustomerID: "c", RequestID: fmt.Sprint("r", i),
					Lines: []stock.Line{{SkuID: "mug", Quantity: 1}}})
				if err != nil {
					return
				}
				no := placed.Order.OrderNo
				mu.Lock()
				orders = append(orders, no)
				mu.Unlock()
				if _, err := f.Prepay(t.Context(), order.PrepayRequest{OrderNo: no, CustomerID: "c",
					TradeType: payment.Native, Cause: ordertest.Customer}); err != nil {
					return
				}
				var race sync.WaitGroup
				race.Go(func() {
					if trade, err := f.WeChat.Pay(no+"-01", false); err == nil && chance(70) {
						_, _ = f.Settle(context.Background(), trade, ordertest.Notified)
					}
				})
				for range 2 {
					race.Go(func() { _, _ = f.Cancel(context.Background(), cancel(no)) })
				}
				race.Wait()
			})
		}
		wg.Wait()
		f.WeChat.Before, f.WeChat.After = nil, nil
		for range 3 { // deadlines and asks come due
			f.Clock.Advance(time.Hour)
			for _, no := range orders {
				if err := f.Expire(t.Context(), no, ordertest.Scheduler); err != nil {
					t.Fatal(err)
				}
			}
		}
		held := int64(0)
		for _, no := range orders {
			trade, known := f.WeChat.Trade(no + "-01")
			switch st := f.State(t, no); {
			case known && trade.Paid():
				held++
				if st != order.StatePaid {
					t.Errorf("%s: WeChat has the money, the order is %s", no, st)
				}
			case st != order.StateClosed:
				t.Errorf("%s: nobody paid, the order is %s", no, st)
			}
		}
		if left := f.Available(t, "mug"); left != 80-held {
			t.Errorf("%d left, %d sold", left, held)
		}
	})
}

// The database away must be an error that says "come again", quickly, with nothing half done (F1, F9).
func TestDatabaseAway(t *testing.T) {
	server := sqldbtest.MariaDBServer(t)
	if err := server.Create(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	f := ordertest.New(t, sqldbtest.Open(t, server.DSN("shop")))
	f.SKU(t, "mug", 5)
	server.Pause()
	p := order.Placement{CustomerID: "c", RequestID: "k", Lines: []stock.Line{{SkuID: "mug", Quantity: 1}}}
	start := time.Now()
	_, err := f.Place(t.Context(), p)
	if took := time.Since(start); !errors.Is(err, sqldb.ErrUnavailable) || took > 10*time.Second {
		t.Errorf("after %s: %v", took, err)
	}
	server.Resume()
	server.Kill()
	start = time.Now()
	if _, err := f.Place(t.Context(), p); !errors.Is(err, sqldb.ErrUnavailable) || time.Since(start) > 10*time.Second {
		t.Errorf("after %s: %v", time.Since(start), err)
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Place(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if f.Available(t, "mug") != 4 {
		t.Fatal("the key did not keep the three tries to one order")
	}
}

// A row of an attempt that was lost leaves a gap, and the number of the next one is that of a row that is there: a
// prepay that begins again at every duplicate never ends. The next number is the one after the newest.
func TestPrepayBesideALostAttempt(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.NewUnverified(t, db, func(*order.Config) {})
		f.SKU(t, "mug", 1)
		o := f.PlaceOne(t, "a", "mug", 1)
		reopened(t, f, o.OrderNo)
		if err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.Update(ctx, "DELETE FROM payment_attempts WHERE out_trade_no = ?", o.OrderNo+"-01")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		p, err := f.Prepay(ctx, order.PrepayRequest{OrderNo: o.OrderNo, CustomerID: "c", TradeType: payment.Native,
			Cause: ordertest.Customer})
		if err != nil || p.OutTradeNo != o.OrderNo+"-03" {
			t.Errorf("%q, %v", p.OutTradeNo, err)
		}
	})
}
