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
	told := map[feed.Type]bool{feed.OrderCreated: true, feed.ReconcileDone: true, feed.EndpointClosed: true}
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
