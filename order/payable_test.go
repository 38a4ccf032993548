package order_test

import (
	"errors"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment"
)

// A buyer whose address, openid, kind of phone or app has changed cannot pay the attempt that was opened for the old
// one, which was repeated for ever. The old one is closed first: two open trades of one order could both be paid.
func TestChangedPrepayIsAnotherAttempt(t *testing.T) {
	h5 := order.PrepayRequest{TradeType: payment.H5, ClientIP: "203.0.113.7", H5Type: "Wap"}
	jsapi := order.PrepayRequest{TradeType: payment.JSAPI, OpenID: "o1"}
	for _, tt := range []struct {
		name   string
		first  order.PrepayRequest
		change func(*order.PrepayRequest)
		app    string
		same   bool
	}{
		{name: "payer's address", first: h5, change: func(r *order.PrepayRequest) { r.ClientIP = "203.0.113.8" }},
		{name: "kind of client", first: h5, change: func(r *order.PrepayRequest) { r.H5Type = "iOS" }},
		{name: "openid", first: jsapi, change: func(r *order.PrepayRequest) { r.OpenID = "o2" }},
		{name: "app", first: jsapi, change: func(*order.PrepayRequest) {}, app: "wx0000000000000002"},
		{name: "nothing", first: h5, change: func(*order.PrepayRequest) {}, same: true},
		{name: "spelling of the address", first: h5, same: true,
			change: func(r *order.PrepayRequest) { r.ClientIP = "::ffff:203.0.113.7" }},
		{name: "address of a JSAPI payer", first: jsapi, same: true,
			change: func(r *order.PrepayRequest) { r.ClientIP = "203.0.113.8" }},
		{name: "what another trade type sends", first: jsapi, same: true,
			change: func(r *order.PrepayRequest) { r.H5Type = "iOS" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
				f := ordertest.New(t, db)
				f.SKU(t, "A", 1)
				o := f.PlaceOne(t, "r", "A", 1)
				ask := func(f *ordertest.Fixture, r order.PrepayRequest) order.Prepayment {
					t.Helper()
					r.OrderNo, r.CustomerID, r.Cause = o.OrderNo, "c", ordertest.Customer
					p, err := f.Prepay(t.Context(), r)
					if err != nil {
						t.Fatal(err)
					}
					return p
				}
				first := ask(f, tt.first)
				g := f
				if tt.app != "" {
					// The old app stays known: what WeChat Pay says of a stranger's trade proves nothing.
					g = f.Restarted(t, func(c *order.Config) {
						c.AppID, c.OtherAppIDs = tt.app, []string{ordertest.AppID}
					})
				}
				r := tt.first
				tt.change(&r)
				second, calls := ask(g, r), f.WeChat.Prepays
				if tt.same {
					if second.OutTradeNo != first.OutTradeNo || calls != 1 {
						t.Errorf("%s after %s, %d calls", second.OutTradeNo, first.OutTradeNo, calls)
					}
					return
				}
				old, err := f.WeChat.Query(t.Context(), first.OutTradeNo)
				if err != nil || old.State != payment.TradeClosed || second.OutTradeNo == first.OutTradeNo {
					t.Errorf("%s is %s, then %s: %v", first.OutTradeNo, old.State, second.OutTradeNo, err)
				}
				if again := ask(g, r); again.OutTradeNo != second.OutTradeNo || f.WeChat.Prepays != calls {
					t.Errorf("the new one is not repeated: %s", again.OutTradeNo)
				}
			})
		})
	}
}

// While WeChat Pay does not say that the old attempt is closed, no other may be opened.
func TestChangedPrepayWaitsForTheClose(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		f := ordertest.New(t, db)
		f.SKU(t, "A", 1)
		o := f.PlaceOne(t, "r", "A", 1)
		r := order.PrepayRequest{OrderNo: o.OrderNo, CustomerID: "c", TradeType: payment.H5, ClientIP: "203.0.113.7",
			H5Type: "Wap", Cause: ordertest.Customer}
		if _, err := f.Prepay(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		f.WeChat.After = func(op, _ string) error {
			if op == "close" || op == "query" {
				return ordertest.ErrLost(op)
			}
			return nil
		}
		r.ClientIP = "203.0.113.8"
		if p, err := f.Prepay(t.Context(), r); err == nil || f.WeChat.Prepays != 1 {
			t.Errorf("%s was opened beside one that may be open: %v", p.OutTradeNo, err)
		}
		f.WeChat.After = nil
		if p, err := f.Prepay(t.Context(), r); err != nil || p.OutTradeNo != o.OrderNo+"-02" {
			t.Errorf("%s %v", p.OutTradeNo, err)
		}
	})
}

// A code two hours old, or an H5 page five minutes old, sends the buyer into an error: WeChat Pay's documents say when
// they end. Whatever shows one asks Payable.
func TestNothingExpiredIsPayable(t *testing.T) {
	for _, tt := range []struct {
		trade payment.TradeType
		valid time.Duration
	}{{payment.Native, 2 * time.Hour}, {payment.JSAPI, 2 * time.Hour}, {payment.App, 2 * time.Hour},
		{payment.H5, 5 * time.Minute}} {
		t.Run(string(tt.trade), func(t *testing.T) {
			sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
				f := ordertest.NewWith(t, db, func(c *order.Config) { c.PayWithin = 3 * time.Hour })
				f.SKU(t, "A", 1)
				o := f.PlaceOne(t, "r", "A", 1)
				payable := func() *order.Attempt {
					t.Helper()
					found, err := f.Find(t.Context(), o.OrderNo)
					if err != nil {
						t.Fatal(err)
					}
					return found.Payable(f.Clock.Now())
				}
				prepay := func() (order.Prepayment, error) {
					return f.Prepay(t.Context(), order.PrepayRequest{OrderNo: o.OrderNo, CustomerID: "c",
						TradeType: tt.trade, OpenID: "o1", ClientIP: "203.0.113.7", H5Type: "Wap",
						Cause: ordertest.Customer})
				}
				if payable() != nil {
					t.Error("payable before its prepay")
				}
				p, err := prepay()
				if err != nil || payable() == nil || !p.PayableUntil.Equal(payable().PayableUntil()) {
					t.Fatal("not payable after its prepay", err)
				}
				left := p.PayableUntil.Sub(f.Clock.Now())
				if left > tt.valid-20*time.Second || left < tt.valid-time.Minute {
					t.Errorf("handed out for %s of %s", left, tt.valid)
				}
				f.Clock.Set(p.PayableUntil.Add(-time.Millisecond))
				if _, err := prepay(); err != nil || payable() == nil || f.WeChat.Prepays != 1 {
					t.Errorf("asked again too early: %d %v", f.WeChat.Prepays, err)
				}
				f.Clock.Set(p.PayableUntil)
				if payable() != nil {
					t.Error("payable after its time")
				}
				if again, err := prepay(); err != nil || f.WeChat.Prepays != 2 || again.OutTradeNo != p.OutTradeNo {
					t.Errorf("%d calls, %s: %v", f.WeChat.Prepays, again.OutTradeNo, err)
				}
				f.Clock.Set(o.ExpireAt)
				var not *order.NotPayableError
				if _, err := prepay(); payable() != nil || !errors.As(err, &not) || !not.Expired {
					t.Errorf("payable after the order's time: %v", err)
				}
			})
		})
	}
}
