package order_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/payment/feed"
	"orderd/stock"
)

// feedOf gives the whole feed, a line per event.
func feedOf(t *testing.T, db *sqldb.DB) (lines []string) {
	t.Helper()
	events, err := feed.New(db).Tail(0, time.Now).Next(t.Context(), feed.MaxPage)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		lines = append(lines, fmt.Sprint(e.Type, " ", e.OrderNo, " ", e.Version, " ", e.State, " ", e.Ref))
	}
	return lines
}

// The shop is told of everything that it has to act on, in the order in which it happened, once; what is refused or
// repeated tells nothing. That nothing else is missing is the check events.told, which every walk of this package asks.
func TestWhatTheShopIsTold(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.New(t, db)
		f.SKU(t, "mug", 10)
		paid, closed := f.PlaceOne(t, "a", "mug", 1).OrderNo, f.PlaceOne(t, "b", "mug", 2).OrderNo
		trade, err := f.WeChat.Pay(f.Prepaid(t, paid), false)
		if err != nil {
			t.Fatal(err)
		}
		stranger := trade
		stranger.TransactionID, stranger.OutTradeNo = "42-stranger", "nobodys-01"
		for _, tr := range []payment.Trade{trade, trade, stranger, stranger} { // each twice
			if _, err := f.Settle(t.Context(), tr, ordertest.Notified); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := f.Cancel(t.Context(), order.CancelRequest{OrderNo: closed, CustomerID: "c",
			Cause: ordertest.Customer}); err != nil {
			t.Fatal(err)
		}
		want := []string{
			"order.created " + paid + " 1 pending ",
			"order.created " + closed + " 1 pending ",
			"order.paid " + paid + " 3 paid " + trade.TransactionID,
			"payment.held  0  42-stranger",
			"order.closed " + closed + " 3 closed ",
		}
		if got := feedOf(t, db); !slices.Equal(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
	})
}

// What is undone is not told: the feed is written in the transaction of what it tells.
func TestWhatIsUndoneIsNotTold(t *testing.T) {
	db := sqldbtest.SQLite(t)
	undone := fmt.Errorf("undone")
	err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		if err := feed.Insert(ctx, tx, []feed.Event{{Type: feed.OrderPaid}}); err != nil {
			return err
		}
		return undone
	})
	if got := feedOf(t, db); err == nil || len(got) > 0 {
		t.Errorf("%v, told %q", err, got)
	}
}

// Every type of an order and of a refund comes from some event, and none but a move to paid is told as paid.
func TestToldTypes(t *testing.T) {
	told := map[feed.Type]bool{feed.OrderCreated: true, feed.ReconcileDone: true, feed.EndpointClosed: true,
		feed.StockLow: true}
	for _, from := range order.States() {
		for _, to := range order.States() {
			for _, kind := range order.Told("", from, to) {
				told[kind] = true
				if kind == feed.OrderPaid && from == order.StateRefunding {
					t.Error("a refund in part is told as a payment")
				}
			}
		}
	}
	for _, kind := range order.ToldByName {
		told[kind] = true
	}
	for _, kind := range feed.Types() {
		if !told[kind] {
			t.Errorf("%s is never told", kind)
		}
	}
}

// The shop's own trace ends at our door unless what it hears of its request has the trace of that request, whatever
// came before or after; what nobody asked for has none.
func TestTracesOfWhatTheShopIsTold(t *testing.T) {
	const first, second = "4bf92f3577b34da6a3ce929d0e0e4736", "5bf92f3577b34da6a3ce929d0e0e4736"
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.New(t, db)
		f.SKU(t, "mug", 10)
		placed, err := f.Place(t.Context(), order.Placement{CustomerID: "c", RequestID: "traced",
			Lines: []stock.Line{{SkuID: "mug", Quantity: 1}}, Cause: "web/request/" + first + "-01"})
		if err != nil {
			t.Fatal(err)
		}
		plain, paid := f.PlaceOne(t, "plain", "mug", 1), f.PaidOne(t, "paid", "mug", 1)
		by := ordertest.Customer
		by.ID = "request/" + second + "-00"
		for _, no := range []string{placed.Order.OrderNo, plain.OrderNo} {
			if _, err := f.Cancel(t.Context(), order.CancelRequest{OrderNo: no, CustomerID: "c",
				Cause: by}); err != nil {
				t.Fatal(err)
			}
		}
		events, err := feed.New(db).Tail(0, time.Now).Next(t.Context(), feed.MaxPage)
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, feed.Event{Type: feed.ReconcileDone, Ref: "2026-11-20 ALL"}, feed.Event{
			Type: feed.OrderPaid, OrderNo: "none", Version: 3})
		traces, err := f.Traces(t.Context(), events)
		if err != nil || len(traces) != len(events) {
			t.Fatal(traces, err)
		}
		want := map[string]string{"order.created " + placed.Order.OrderNo: first,
			"order.closed " + placed.Order.OrderNo: second, "order.closed " + plain.OrderNo: second}
		for i, e := range events {
			if got := traces[i].ID; got != want[string(e.Type)+" "+e.OrderNo] {
				t.Errorf("%s of %s is of %q", e.Type, e.OrderNo, got)
			}
		}
		if none, err := f.Traces(t.Context(), events[len(events)-2:len(events)-1]); err != nil || len(none) != 1 ||
			none[0] != (payment.Trace{}) {
			t.Error(none, err)
		}
		nos := []any{placed.Order.OrderNo, paid.OrderNo}
		sqldbtest.ReadsByIndex(t, db, order.CausesQuery(2), nos[0], nos[1], 2, 3, 1, nos[0], nos[1])
	})
}
