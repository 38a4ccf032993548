package order_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"orderd/migrations"
	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/stock"
)

// A shop sells two mugs: Place reserves them, Prepay gives the buyer a QR code of
// WeChat Pay, and Settle takes in the payment that WeChat Pay notifies of. WeChat
// Pay is a scripted one here; in production it is payment/wechat.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "shop-")
	check(err)
	defer func() { check(os.RemoveAll(dir)) }()
	db, err := sqldb.Open(ctx, "sqlite:"+filepath.Join(dir, "shop.db"))
	check(err)
	defer db.Close()
	_, err = migrations.Up(ctx, db)
	check(err)

	clock := ordertest.NewClock(ordertest.Began())
	weChat := ordertest.NewWeChat(clock.Now)
	five := int64(5)
	_, _, err = stock.NewAdmin(db, clock.Now).Put(ctx,
		stock.Put{SkuID: "mug", Title: "A mug", PriceFen: 1990, Quantity: &five})
	check(err)

	orders, err := order.New(order.Config{DB: db, Gateway: weChat, Now: clock.Now,
		MchID: ordertest.MchID, AppID: ordertest.AppID, NotifyURL: "https://shop.example/wechat/notify"})
	check(err)
	defer orders.Close()

	placed, err := orders.Place(ctx, order.Placement{CustomerID: "alice", RequestID: "cart-1",
		Lines: []stock.Line{{SkuID: "mug", Quantity: 2}}})
	check(err)
	fmt.Println("placed:", placed.Order.State, placed.Order.Total, "yuan, to be paid by",
		placed.Order.ExpireAt.UTC().Format("15:04"))

	// A Cause says who did it, for the order's timeline.
	alice := order.Cause{Actor: order.Actor{Type: order.ActorCustomer, ID: "alice"}, Type: "request", ID: "req-2"}
	prepaid, err := orders.Prepay(ctx, order.PrepayRequest{OrderNo: placed.Order.OrderNo, CustomerID: "alice",
		TradeType: payment.Native, Cause: alice})
	check(err)

	trade, err := weChat.Pay(prepaid.OutTradeNo, false) // the buyer scans the code and pays
	check(err)
	notified := order.Cause{Actor: order.Actor{Type: order.ActorWeChat}, Type: "notification", ID: "event-1"}
	for range 2 { // WeChat Pay may notify more than once
		settled, err := orders.Settle(ctx, trade, notified)
		check(err)
		fmt.Println("settled:", settled.Settled, settled.State)
	}
	// Output:
	// placed: pending 39.80 yuan, to be paid by 08:30
	// settled: applied paid
	// settled: repeated paid
}

// A request that is sent again is answered with the order of the first one, and
// nobody is sold what is not there.
func ExampleService_Place() {
	ctx := context.Background()
	shop, remove, err := ordertest.Open(ctx)
	check(err)
	defer remove()
	three := int64(3)
	_, _, err = shop.Admin.Put(ctx, stock.Put{SkuID: "mug", Title: "A mug", PriceFen: 1990, Quantity: &three})
	check(err)

	cart := order.Placement{CustomerID: "alice", RequestID: "cart-1",
		Lines: []stock.Line{{SkuID: "mug", Quantity: 2}}}
	first, err := shop.Place(ctx, cart)
	check(err)
	again, err := shop.Place(ctx, cart) // the answer was lost on its way, so the client asks again
	check(err)
	fmt.Println("the same order:", again.Replayed && again.Order.OrderNo == first.Order.OrderNo)

	_, err = shop.Place(ctx, order.Placement{CustomerID: "bob", RequestID: "cart-1",
		Lines: []stock.Line{{SkuID: "mug", Quantity: 2}}})
	var short *order.InsufficientError
	if errors.As(err, &short) {
		fmt.Printf("bob wants %d, there is %d\n", short.Items[0].Requested, short.Items[0].Available)
	}
	// Output:
	// the same order: true
	// bob wants 2, there is 1
}

// An order that is not paid is closed at WeChat Pay first, and only then does its
// stock come back: nobody can pay any more for what is sold to somebody else. A
// paid order is not cancelled but refunded.
func ExampleService_Cancel() {
	ctx := context.Background()
	shop, remove, err := ordertest.Open(ctx)
	check(err)
	defer remove()
	five := int64(5)
	_, _, err = shop.Admin.Put(ctx, stock.Put{SkuID: "mug", Title: "A mug", PriceFen: 1990, Quantity: &five})
	check(err)

	alice := order.Cause{Actor: order.Actor{Type: order.ActorCustomer, ID: "alice"}, Type: "request", ID: "req-1"}
	for _, cart := range []string{"unpaid", "paid"} {
		placed, err := shop.Place(ctx, order.Placement{CustomerID: "alice", RequestID: cart,
			Lines: []stock.Line{{SkuID: "mug", Quantity: 1}}})
		check(err)
		no := placed.Order.OrderNo
		prepaid, err := shop.Prepay(ctx, order.PrepayRequest{OrderNo: no, CustomerID: "alice",
			TradeType: payment.Native, Cause: alice})
		check(err)
		if cart == "paid" {
			_, err = shop.WeChat.Pay(prepaid.OutTradeNo, false) // and the notification is on its way
			check(err)
		}

		o, err := shop.Cancel(ctx, order.CancelRequest{OrderNo: no, CustomerID: "alice", Cause: alice})
		var refused *order.RefusedError
		if errors.As(err, &refused) {
			fmt.Println(cart+":", refused.Order.State+",", refused.Why)
			continue
		}
		check(err)
		mugs, err := shop.Admin.Find(ctx, "mug")
		check(err)
		_, err = shop.WeChat.Pay(prepaid.OutTradeNo, false)
		fmt.Printf("%s: %s, %d mugs on the shelf; to pay now: %v\n", cart, o.State, mugs.Available, err)
	}
	// Output:
	// unpaid: closed, 5 mugs on the shelf; to pay now: the trade cannot be paid
	// paid: paid, the order is paid; ask for a refund instead
}

// check ends an example that did not go as it should.
func check(err error) {
	if err != nil {
		panic(err)
	}
}
