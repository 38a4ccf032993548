package bench

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sync/errgroup"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/order/audit"
	"orderd/payment"
	"orderd/payment/feed"
	"orderd/stock"
)

// The merchant of all measurements: numbers of the right form that WeChat Pay has
// given to nobody.
const (
	MchID     = "1900000001"
	AppID     = "wx0000000000000001"
	NotifyURL = "https://shop.example/notify" // never called: the gateways are in this process
)

// Fen is the price of every SKU and so of every order of one unit.
const Fen = 100

// SKU is the id of SKU number i; they are numbered from 0.
func SKU(i int) string { return fmt.Sprintf("sku%04d", i) }

// NewService is the service of a measurement: c, with the merchant filled in, and
// with a Gateway that knows no trade and the wall clock where c names none.
func NewService(c order.Config) (*order.Service, error) {
	c.MchID, c.AppID, c.NotifyURL = MchID, AppID, NotifyURL
	if c.Gateway == nil {
		c.Gateway = NewGateway(GatewayOptions{})
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return order.New(c)
}

// Verify checks every invariant over all rows. Broken ones are an error.
func Verify(ctx context.Context, db *sqldb.DB, o audit.VerifyOptions) error {
	r, err := Report(ctx, db, o)
	if err == nil && !r.OK() {
		err = fmt.Errorf("invariants broken: %+v", r.Broken())
	}
	return err
}

// Report checks every invariant over all rows and gives the result of each.
func Report(ctx context.Context, db *sqldb.DB, o audit.VerifyOptions) (audit.Report, error) {
	a, err := audit.New(audit.Config{DB: db, Now: time.Now, MchID: MchID, AppID: AppID})
	if err != nil {
		return audit.Report{}, err
	}
	return a.VerifyWith(ctx, o)
}

// Shop is a database with stock on which orderd and the naive peer take turns.
// Close ends all three.
type Shop struct {
	DB     *Database
	Orders *order.Service
	Naive  *Naive
	Config order.Config // what Orders was made of, for another service of this shop
}

// ShopOptions shape a shop.
type ShopOptions struct {
	SKUs       int // at least 1; each has all the stock that orderd allows, so that nothing sells out
	NaiveConns int // connections of the naive peer; default DefaultNaiveConns

	// Lanes and MaxOpen are order.Config's Lanes and MaxOpenOrders; 0 for its
	// default and for no limit.
	Lanes, MaxOpen int
	MaxUnits       int64 // MaxOpenUnits

	// Tell is order.Config's; nil: placements are written into the feed.
	Tell func(ctx context.Context, tx *sqldb.Tx, events []feed.Event) error
}

// NewShop makes a shop in a database of its own.
func (s *Server) NewShop(ctx context.Context, o ShopOptions) (_ *Shop, err error) {
	shop := &Shop{}
	defer func() {
		if err != nil {
			shop.Close()
		}
	}()
	if shop.DB, err = s.NewDatabase(ctx); err != nil {
		return nil, err
	}
	shop.Config = order.Config{DB: shop.DB.DB, Lanes: o.Lanes, MaxOpenOrders: o.MaxOpen, MaxOpenUnits: o.MaxUnits,
		Tell: o.Tell}
	if shop.Orders, err = NewService(shop.Config); err != nil {
		return nil, err
	}
	admin := stock.NewAdmin(shop.DB.DB, time.Now)
	many := bounds.Stock.Most
	for i := range o.SKUs {
		put := stock.Put{SkuID: SKU(i), Title: "bench", PriceFen: Fen, Quantity: &many}
		if _, _, err := admin.Put(ctx, put); err != nil {
			return nil, err
		}
	}
	shop.Naive, err = NewNaive(shop.DB.DSN, cmp.Or(o.NaiveConns, DefaultNaiveConns))
	return shop, err
}

// Close ends what NewShop began; the database stays on its server.
func (s *Shop) Close() {
	if s.Naive != nil {
		s.Naive.Close()
	}
	if s.Orders != nil {
		s.Orders.Close()
	}
	if s.DB != nil {
		_ = s.DB.Close() // what was measured is committed
	}
}

// Verify checks every invariant over all orders placed.
func (s *Shop) Verify(ctx context.Context) error {
	return Verify(ctx, s.DB.DB, audit.VerifyOptions{})
}

// placers is how many placements PlaceMany has under way: enough that group
// commits are full.
const placers = 256

// PlaceMany places n unpaid orders of one unit of SKU 0 and gives their numbers.
func (s *Shop) PlaceMany(ctx context.Context, n int) ([]string, error) {
	nos := make([]string, n)
	run := ulid.Make().String()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(placers)
	for i := range nos {
		g.Go(func() error {
			placed, err := s.Orders.Place(ctx, order.Placement{CustomerID: "c", RequestID: fmt.Sprint(run, "-", i),
				Lines: []stock.Line{{SkuID: SKU(0), Quantity: 1}}})
			nos[i] = placed.Order.OrderNo
			return err
		})
	}
	return nos, g.Wait()
}

// PaidTrade is what WeChat Pay says of an order of one unit that was paid just now
// by its first attempt.
func PaidTrade(orderNo string) payment.Trade {
	return payment.Trade{OutTradeNo: outTradeNo(orderNo), State: payment.TradeSuccess, TransactionID: "42" + orderNo,
		AppID: AppID, MchID: MchID, TradeType: "NATIVE", Total: Fen, PayerTotal: payment.Said(Fen),
		Currency: payment.CNY, SuccessTime: time.Now()}
}

// firstAttempt is what orderd adds to an order's number for the out_trade_no of
// its first payment attempt.
const firstAttempt = "-01"

// outTradeNo is the out_trade_no of an order's first attempt.
func outTradeNo(orderNo string) string { return orderNo + firstAttempt }

// Settle pays an order of one unit through the service, as its callback would.
func Settle(ctx context.Context, s *order.Service, orderNo string) error {
	got, err := s.Settle(ctx, PaidTrade(orderNo), CallbackOf(orderNo))
	if err == nil && got.Settled != order.SettledApplied {
		err = fmt.Errorf("settled %+v", got)
	}
	return err
}

// CallbackOf is the cause of a settlement by the callback of an order.
func CallbackOf(orderNo string) order.Cause {
	return order.Cause{Actor: order.Actor{Type: order.ActorWeChat}, Type: "notification", ID: orderNo}
}
