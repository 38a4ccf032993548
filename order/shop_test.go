package order_test

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/order/ordertest/gatetest"
	"orderd/payment/feed"
)

// ofShop is one of a SKU that a shop places for a customer.
func ofShop(shop, customer, key, sku, reference string) order.Placement {
	p := one(customer, key, sku)
	p.Shop, p.Reference = shop, reference
	return p
}

// A shop that repeats an order under another key, such as after a crash that forgot the key, would sell it twice: its
// own number is of one order, across its customers, beside one another and in one batch. Another shop's is another.
func TestReferenceIsOfOneOrder(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.New(t, db)
		f.SKU(t, "mug", 100)
		first, err := f.Place(t.Context(), ofShop("web", "c", "k", "mug", "A-1"))
		if err != nil || first.Order.Shop != "web" || first.Order.Reference != "A-1" {
			t.Fatalf("%+v, %v", first, err)
		}
		again, err := f.Place(t.Context(), ofShop("web", "c", "k", "mug", "A-1"))
		if err != nil || !again.Replayed || again.Order.OrderNo != first.Order.OrderNo ||
			again.Order.Reference != "A-1" || again.Order.Shop != "web" {
			t.Errorf("the repeat: %+v, %v", again, err)
		}
		for name, p := range map[string]order.Placement{
			"another key":      ofShop("web", "c", "k2", "mug", "A-1"),
			"another customer": ofShop("web", "d", "k", "mug", "A-1"),
		} {
			_, err := f.Place(t.Context(), p)
			var taken *order.ReferenceTakenError
			if !errors.As(err, &taken) || taken.OrderNo != first.Order.OrderNo {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, other := range []order.Placement{ofShop("web", "c", "k", "mug", "A-2"),
			ofShop("web", "c", "k", "mug", ""), ofShop("app", "c", "k", "mug", "A-1")} {
			if _, err := f.Place(t.Context(), other); !errors.Is(err, order.ErrRequestReused) {
				t.Errorf("the key with another reference: %v", err)
			}
		}
		for _, p := range []order.Placement{ofShop("app", "c", "k3", "mug", "A-1"),
			ofShop("web", "c", "k4", "mug", "a-1"), ofShop("web", "c", "k5", "mug", ""),
			ofShop("web", "c", "k6", "mug", "")} {
			if _, err := f.Place(t.Context(), p); err != nil {
				t.Errorf("%q of %s: %v", p.Reference, p.Shop, err)
			}
		}
		if left := f.Available(t, "mug"); left != 95 {
			t.Errorf("%d left of 100, 5 orders", left)
		}
	})
}

// Beside one another nobody has looked yet: of many that come at once with one number, one is an order.
func TestReferenceBesideItself(t *testing.T) {
	sqldbtest.Races(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.New(t, db)
		f.SKU(t, "mug", 100)
		const callers = 16
		errs := make([]error, callers)
		var all sync.WaitGroup
		for i := range callers {
			all.Go(func() {
				_, errs[i] = f.Place(t.Context(), ofShop("web", fmt.Sprint("c", i), "k", "mug", fmt.Sprint("A-", i%2)))
			})
		}
		all.Wait()
		placed := 0
		for i, err := range errs {
			if err == nil {
				placed++
			} else if !errors.As(err, new(*order.ReferenceTakenError)) {
				t.Errorf("%d: %v", i, err)
			}
		}
		if left := f.Available(t, "mug"); placed != 2 || left != 98 {
			t.Errorf("%d placed, %d left", placed, left)
		}
	})
}

// Who takes a customer's word for a shop's could name another's order, or hold stock for a week.
func TestOnlyAShopGivesReferenceAndTime(t *testing.T) {
	f := ordertest.New(t, sqldbtest.SQLite(t))
	f.SKU(t, "mug", 10)
	for pointer, p := range map[string]order.Placement{
		"#/reference":  {Reference: "A-1"},
		"#/expires_in": {ExpiresIn: 10 * time.Minute},
	} {
		p.CustomerID, p.RequestID, p.Lines = "c", "k", one("c", "k", "mug").Lines
		_, err := f.Place(t.Context(), p)
		var bad *order.ValidationError
		if !errors.As(err, &bad) || bad.Fields[0].Pointer != pointer || bad.Fields[0].Code != order.CodeShopOnly {
			t.Errorf("%s: %v", pointer, err)
		}
	}
	for _, reference := range []string{"a b", "订单", "x\n", strings.Repeat("x", 65)} {
		_, err := f.Place(t.Context(), ofShop("web", "c", "k", "mug", reference))
		if !errors.As(err, new(*order.ValidationError)) {
			t.Errorf("%q: %v", reference, err)
		}
	}
}

// The time to pay that a shop gives is the deadline, WeChat Pay's time_expire and when the order is looked at; what is
// out of bounds is refused, and not made to fit.
func TestTimeToPayOfAShop(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.NewWith(t, db, func(c *order.Config) {
			c.PayWithinLeast, c.PayWithinMost = 2*time.Minute, 3*time.Hour
		})
		f.SKU(t, "mug", 10)
		place := func(key string, d time.Duration) (order.Placed, error) {
			p := ofShop("web", "c", key, "mug", "")
			p.ExpiresIn = d
			return f.Place(t.Context(), p)
		}
		for _, d := range []time.Duration{2*time.Minute - time.Second, 3*time.Hour + time.Second, -time.Second} {
			var bad *order.ValidationError
			if _, err := place("bad", d); !errors.As(err, &bad) || bad.Fields[0].Pointer != "#/expires_in" ||
				bad.Fields[0].Code != "RANGE" {
				t.Errorf("%s: %v", d, err)
			}
		}
		for i, d := range []time.Duration{2 * time.Minute, 3 * time.Hour, 0} {
			placed, err := place(fmt.Sprint("k", i), d)
			if err != nil {
				t.Fatal(err)
			}
			o, want := placed.Order, f.Clock.Now().Add(cmp.Or(d, 30*time.Minute))
			if !o.ExpireAt.Equal(want) || !o.DueAt.Equal(want) || !f.Tasks.WakesAt(o.DueAt) {
				t.Errorf("%s: until %s, looked at %s", d, o.ExpireAt, o.DueAt)
			}
			f.Prepaid(t, o.OrderNo)
			sent := whole(t, f, o).Attempts[0].TimeExpire
			if until, err := time.Parse(time.RFC3339, sent); err != nil || !until.Equal(want) {
				t.Errorf("%s: WeChat Pay was told %s", d, sent)
			}
		}
		if _, err := place("k0", 4*time.Minute); !errors.Is(err, order.ErrRequestReused) {
			t.Errorf("the key with another time: %v", err)
		}
		f.Clock.Advance(2*time.Minute + 21*time.Second)
		due, err := f.DueOrders(t.Context(), order.StatePending, order.DueCursor{}, f.Clock.Now(), 10)
		if err != nil || len(due) != 1 {
			t.Errorf("%d due, %v", len(due), err)
		}
	})
}

// What waits in the queue of a sale would lose whose it is, and what it was promised: its order has all of it, and its
// time to pay begins when it is made. A number that was taken meanwhile is its refusal.
func TestQueueKeepsWhatAShopSays(t *testing.T) {
	eachStall(t, func(s *stall) {
		p := ofShop("web", "c", "k", "hot", "A-1")
		p.ExpiresIn = 2 * time.Hour
		q := s.queue(p)
		other := s.queue(ofShop("web", "d", "k", "hot", "A-1"))
		s.Clock.Advance(time.Minute)
		s.drain()
		o, err := s.Find(t.Context(), q.OrderNo)
		if err != nil || o.Shop != "web" || o.Reference != "A-1" || !o.ExpireAt.Equal(s.Clock.Now().Add(2*time.Hour)) {
			t.Errorf("%+v, %v", o, err)
		}
		if placed, err := s.Place(t.Context(), p); err != nil || !placed.Replayed || placed.Order.OrderNo != q.OrderNo {
			t.Errorf("the repeat: %+v, %v", placed, err)
		}
		var taken *order.ReferenceTakenError
		if _, err := s.FindQueued(t.Context(), "d", other.OrderNo); !errors.As(err, &taken) ||
			taken.OrderNo != q.OrderNo {
			t.Errorf("the other: %v", err)
		}
		if n := gatetest.Count(t, s.DB, "SELECT COUNT(*) FROM orders"); n != 1 {
			t.Errorf("%d orders", n)
		}
	})
}

// shopWeb is a shop's back end that acts for customer c.
var shopWeb = order.Cause{Actor: order.Actor{Type: order.ActorShop, ID: "web"}, Type: "request", ID: "r"}

// Who looks why an order was closed, or money went back, would blame the customer for what the shop did: the timeline
// and the refund name the shop. The order stays the customer's: his key is the same request, whoever sends it.
func TestTimelineNamesTheShop(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.New(t, db)
		f.SKU(t, "mug", 10)
		place := func(key string) order.Order {
			placed, err := f.Place(t.Context(), ofShop("web", "c", key, "mug", "A-"+key))
			if err != nil {
				t.Fatal(err)
			}
			return placed.Order
		}
		closed, paid := place("closed"), place("paid")
		o, err := f.Cancel(t.Context(), order.CancelRequest{OrderNo: closed.OrderNo, CustomerID: "c", Cause: shopWeb})
		if err != nil || o.State != order.StateClosed || o.CloseReason != order.CloseReasonCancel {
			t.Fatalf("%+v, %v", o, err)
		}
		if _, err := f.Cancel(t.Context(), order.CancelRequest{OrderNo: paid.OrderNo, CustomerID: "d",
			Cause: shopWeb}); !errors.Is(err, order.ErrNotFound) {
			t.Errorf("another customer's: %v", err)
		}
		trade, err := f.WeChat.Pay(f.Prepaid(t, paid.OrderNo), false)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Settle(t.Context(), trade, ordertest.Notified); err != nil {
			t.Fatal(err)
		}
		ask := order.AskRefund{OrderNo: paid.OrderNo, CustomerID: "c", RequestID: "r", Reason: "broken", Cause: shopWeb}
		asked, err := f.AskRefund(t.Context(), ask)
		if err != nil || asked.Refund.AskedBy() != shopWeb.Actor {
			t.Fatalf("%+v, %v", asked, err)
		}
		ask.Cause = ordertest.Customer
		if again, err := f.AskRefund(t.Context(), ask); err != nil || !again.Replayed ||
			again.Refund.OutRefundNo != asked.Refund.OutRefundNo {
			t.Errorf("the customer's own repeat: %+v, %v", again, err)
		}
		shown := whole(t, f, paid)
		if len(shown.Refunds) != 1 || shown.Refunds[0].AskedBy() != shopWeb.Actor ||
			shown.Refunds[0].Requester != (order.Actor{Type: order.ActorCustomer, ID: "c"}) {
			t.Errorf("%+v", shown.Refunds)
		}
		for no, events := range map[string][]string{closed.OrderNo: {"order.placed", "close.requested"},
			paid.OrderNo: {"order.placed", "refund.requested"}} {
			timeline, err := f.Timeline(t.Context(), no)
			if err != nil {
				t.Fatal(err)
			}
			by := map[string]order.Actor{}
			for _, e := range timeline {
				by[e.Event] = e.Actor
			}
			for _, e := range events {
				if by[e] != shopWeb.Actor {
					t.Errorf("%s by %+v", e, by[e])
				}
			}
		}
	})
}

// A back end that hears of an order would have to ask for it to know which of its own it is: every event has its
// reference, also one that a repair tells late.
func TestFeedHasTheReference(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.New(t, db)
		f.SKU(t, "mug", 10)
		placed, err := f.Place(t.Context(), ofShop("web", "c", "k", "mug", "A-1"))
		if err != nil {
			t.Fatal(err)
		}
		no := placed.Order.OrderNo
		f.Clock.Advance(time.Hour)
		f.PlaceOne(t, "other", "mug", 1)
		if err := f.Expire(t.Context(), no, ordertest.Scheduler); err != nil {
			t.Fatal(err)
		}
		references := func() map[feed.Type]string {
			t.Helper()
			events, err := feed.New(db).Tail(0, time.Now).Next(t.Context(), feed.MaxPage)
			if err != nil {
				t.Fatal(err)
			}
			got := map[feed.Type]string{}
			for i := range events {
				if e := &events[i]; e.OrderNo == no {
					got[e.Type] = e.Message().Data.Reference
				} else if e.Reference != "" {
					t.Errorf("%+v", e)
				}
			}
			return got
		}
		if got := references(); got[feed.OrderCreated] != "A-1" || got[feed.OrderClosed] != "A-1" || len(got) != 2 {
			t.Errorf("%+v", got)
		}
		if _, err := db.Pool().ExecContext(t.Context(), `DELETE FROM events_out
WHERE type = 'order.closed'`); err != nil {
			t.Fatal(err)
		}
		o := whole(t, f, placed.Order)
		done, err := f.Repair(t.Context(), order.RepairRequest{Check: "events.told", OrderNo: no,
			Key: fmt.Sprintf("%s/%d/order.closed", no, o.Version), Reason: "lost", Cause: ordertest.Finance})
		if got := references(); err != nil || !done || got[feed.OrderClosed] != "A-1" {
			t.Errorf("%+v, %v, %v", got, done, err)
		}
	})
}

// A shop's number that reads every order is a second of the database each time that somebody has one in hand.
func TestFoundByReference(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.New(t, db)
		f.SKU(t, "mug", 100)
		for i := range 20 {
			f.PlaceOne(t, fmt.Sprint("r", i), "mug", 1)
		}
		var nos []string
		for _, shop := range []string{"app", "web"} {
			placed, err := f.Place(t.Context(), ofShop(shop, "c", "of-"+shop, "mug", "A-1"))
			if err != nil {
				t.Fatal(err)
			}
			nos = append(nos, placed.Order.OrderNo)
		}
		for i, q := range []order.Filter{
			{Reference: "A-1"}, {Reference: "A-1", Shop: "web"}, {Reference: "A-1", CustomerID: "c", SkuID: "mug"},
			{Reference: "A-1", CustomerID: "d"}, {Reference: "a-1"}, {Reference: "A-1", State: order.StatePending},
		} {
			query, args := order.ListStatement(q, f.Clock.Now())
			if db.Engine() != sqldb.SQLite || i < 2 { // it takes no hint, and another index that is as good
				sqldbtest.ReadsPageBy(t, db, "u_orders_reference", true, query, args...)
			}
			sqldbtest.ReadsByIndex(t, db, query, args...)
			orders, _, err := f.List(t.Context(), q)
			var got []string
			for _, o := range orders {
				got = append(got, o.OrderNo)
			}
			want := [][]string{{nos[1], nos[0]}, {nos[1]}, {nos[1], nos[0]}, nil, nil, {nos[1], nos[0]}}[i]
			if fmt.Sprint(got) != fmt.Sprint(want) || err != nil {
				t.Errorf("%+v: %v, want %v, %v", q, got, want, err)
			}
		}
		hits, err := f.Search(t.Context(), " A-1 ")
		if err != nil || len(hits) != 2 || hits[0].Kind != order.HitReference || hits[0].ID != "A-1" ||
			hits[0].OrderNo != nos[0] || hits[1].OrderNo != nos[1] {
			t.Errorf("%+v, %v", hits, err)
		}
	})
}
