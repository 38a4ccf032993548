package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"orderd/cmd/orderload/bench"
	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/payment"
	"orderd/scheduler"
)

// lostOptions shape "orderload callback --lost".
type lostOptions struct {
	Open    int           `default:"1000" help:"With --lost: open trades, all prepaid at once."`
	Paid    int           `default:"300" help:"With --lost: how many of them are paid, each at a moment of its own."`
	During  time.Duration `default:"2m" help:"With --lost: these moments lie within that time."`
	Rate    float64       `default:"50" help:"With --lost: calls a second to WeChat Pay (ORDERD_CLOSE_RATE)."`
	Workers int           `default:"2" help:"With --lost: workers that share the rate."`
}

const (
	// lostDelay is what a query takes at WeChat Pay.
	lostDelay = 100 * time.Millisecond
	// lostPatience is how long after the last payment the run waits for all to be known.
	lostPatience = 10 * time.Minute
	// lostPrepays is how many prepays are under way at once.
	lostPrepays = 64
)

// lostGateway is a WeChat Pay whose notifications never come.
type lostGateway struct {
	*bench.Gateway // answers what is not asked here
	mu             sync.Mutex
	paid           map[string]time.Time // by order number
	second         map[int64]int        // queries by second
}

// Prepay opens a trade.
func (*lostGateway) Prepay(_ context.Context, a payment.Attempt) (payment.Prepaid, error) {
	return payment.Prepaid{PrepayID: "wx" + a.OutTradeNo, CodeURL: "weixin://wxpay/" + a.OutTradeNo}, nil
}

// Query says whether a trade was paid.
func (g *lostGateway) Query(ctx context.Context, outTradeNo string) (payment.Trade, error) {
	if !sqldb.Sleep(ctx, lostDelay) {
		return payment.Trade{}, &payment.GatewayError{Op: "query", Kind: payment.KindUnknown, Err: ctx.Err()}
	}
	no := order.OrderNoOf(outTradeNo)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.second[time.Now().Unix()]++
	if _, ok := g.paid[no]; ok {
		return bench.PaidTrade(no), nil
	}
	return payment.Trade{OutTradeNo: outTradeNo, State: payment.TradeNotPay}, nil
}

// pay is the buyer of an order.
func (g *lostGateway) pay(orderNo string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.paid[orderNo] = time.Now()
}

// load gives how many queries there were, and the most of one second.
func (g *lostGateway) load() (all, most int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, n := range g.second {
		all, most = all+n, max(most, n)
	}
	return all, most
}

// lost measures how long after its payment an order is known as paid when no
// notification comes: open trades are prepaid at once, some are paid at moments of
// their own, and workers without Redis find them by asking.
func (k *callbackCmd) lost(ctx context.Context, server *bench.Server) error {
	shop, err := server.NewShop(ctx, bench.ShopOptions{SKUs: 1})
	if err != nil {
		return err
	}
	defer shop.Close()
	g := &lostGateway{Gateway: bench.NewGateway(bench.GatewayOptions{}), paid: map[string]time.Time{},
		second: map[int64]int{}}
	orders, err := bench.NewService(order.Config{DB: shop.DB.DB, Gateway: g})
	if err != nil {
		return err
	}
	defer orders.Close()
	nos, err := shop.PlaceMany(ctx, k.Open)
	if err == nil {
		err = prepayAll(ctx, orders, nos)
	}
	if err != nil {
		return err
	}
	for range k.Workers {
		w, err := scheduler.NewWorker(scheduler.Options{Orders: orders, Now: time.Now, CloseRate: k.Rate,
			Log:    slog.New(slog.DiscardHandler),
			Closes: scheduler.NewBucket(shop.DB.DB, "close", k.Rate, scheduler.Burst(k.Rate), time.Now)})
		if err == nil {
			err = w.Start()
		}
		if err != nil {
			return err
		}
		defer w.Stop()
	}
	began := time.Now()
	h, err := k.payAndWait(ctx, shop, g, nos)
	if err != nil {
		return err
	}
	asks, most := g.load()
	q := h.Quantiles()
	bench.Header("paid, callback lost", "open trades", "paid", "known after p50", "p99", "max", "asks a second",
		"most in one second")
	bench.Row(fmt.Sprintf("rate %.0f, %d workers", k.Rate, k.Workers), k.Open, k.Paid, q.P50, q.P99, q.Max,
		float64(asks)/time.Since(began).Seconds(), most)
	return shop.Verify(ctx)
}

// prepayAll opens a trade for each order.
func prepayAll(ctx context.Context, orders *order.Service, nos []string) error {
	customer := order.Cause{Actor: order.Actor{Type: order.ActorCustomer, ID: "c"}, Type: "request", ID: "prepay"}
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(lostPrepays)
	for _, no := range nos {
		all.Go(func() error {
			_, err := orders.Prepay(ctx, order.PrepayRequest{OrderNo: no, TradeType: payment.Native, Cause: customer})
			return err
		})
	}
	return all.Wait()
}

// payAndWait pays some orders, each at a moment of its own, waits until all of them are
// known as paid, and gives how long each took.
func (k *callbackCmd) payAndWait(ctx context.Context, shop *bench.Shop, g *lostGateway,
	nos []string) (bench.Histogram, error) {
	var buyers sync.WaitGroup
	for _, i := range rand.Perm(len(nos))[:min(k.Paid, len(nos))] {
		buyers.Go(func() {
			if sqldb.Sleep(ctx, rand.N(k.During)) {
				g.pay(nos[i])
			}
		})
	}
	buyers.Wait()
	defer bench.Progress.End()
	for end := time.Now().Add(lostPatience); ; {
		h := bench.Histogram{}
		const known = "SELECT order_no, received_at FROM payments"
		err := sqldb.Each(ctx, shop.DB.DB, known, nil, func(rows *sql.Rows) error {
			var no string
			var at int64
			err := rows.Scan(&no, &at)
			h[max(at-g.paid[no].UnixMilli(), 0)]++
			return err
		})
		found := int64(0)
		for _, n := range h {
			found += n
		}
		switch {
		case err != nil || found == int64(len(g.paid)):
			return h, err
		case time.Now().After(end):
			return h, errors.New("payments are still unknown: asking does not find them")
		}
		bench.Progress.Show("%d of %d payments are known", found, len(g.paid))
		if !sqldb.Sleep(ctx, time.Second) {
			return h, ctx.Err()
		}
	}
}
