package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"

	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/payment"
	"orderd/stock"
)

type callbackCmd struct {
	Callers int `default:"256" help:"Concurrent callbacks."`
	Lanes   int `help:"Group commits under way at once (default: the service's own)."`
	Orders  int `default:"60000" help:"Orders placed to be paid, per side and round."`
}

// Run measures Settle against a transaction per callback with the same rows.
func (k *callbackCmd) Run(ctx context.Context, c *cli) error {
	b, err := c.start(ctx)
	if err != nil {
		return err
	}
	defer b.server.Stop()
	db, err := b.fresh(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	s, err := service(db, k.Lanes, 0)
	if err != nil {
		return err
	}
	defer s.Close()
	many := int64(stock.MaxStock)
	if _, _, err := stock.NewAdmin(db, time.Now).Put(ctx, stock.Put{SkuID: sku(0), Title: "bench", PriceFen: 100, Quantity: &many}); err != nil {
		return err
	}
	naive, err := naivePool(b.server.DSN(fmt.Sprintf("bench%d", b.created)))
	if err != nil {
		return err
	}
	defer naive.Close()
	best, bestRate := 0, 0.0
	for _, callers := range []int{8, 16, 32, 64} {
		sample, err := k.drain(ctx, s, callers, k.Orders/10, b.length, func(ctx context.Context, no string) error { return naivePay(ctx, naive, no) })
		if err != nil {
			return err
		}
		if sample.rate() > bestRate {
			best, bestRate = callers, sample.rate()
		}
	}
	var ours, theirs []sample
	for range b.rounds {
		n, err := k.drain(ctx, s, best, k.Orders/4, b.length, func(ctx context.Context, no string) error { return naivePay(ctx, naive, no) })
		if err != nil {
			return err
		}
		o, err := k.drain(ctx, s, k.Callers, k.Orders, b.length, func(ctx context.Context, no string) error { return settle(ctx, s, no) })
		if err != nil {
			return err
		}
		theirs, ours = append(theirs, n), append(ours, o)
	}
	n, o := median(theirs), median(ours)
	fmt.Println("| paid callback, committed | callers | events/s | p50 | p99 | ratio |\n|---|---|---|---|---|---|")
	row("a transaction per callback (its best)", best, n.rate(), n.p50, n.p99, "1")
	row("**order.Service.Settle**", k.Callers, o.rate(), o.p50, o.p99, fmt.Sprintf("**%.1f ×**", o.rate()/n.rate()))
	return verified(ctx, db)
}

var errNoMoreOrders = errors.New("no more orders")

// drain places orders and measures how fast do brings each of them its payment.
func (k *callbackCmd) drain(ctx context.Context, s *order.Service, callers, orders int, length time.Duration, do func(context.Context, string) error) (sample, error) {
	nos, err := placeMany(ctx, s, orders)
	if err != nil {
		return sample{}, err
	}
	var next, lastDone atomic.Int64
	start := time.Now()
	got := closedLoop(ctx, callers, length, func(ctx context.Context, _ int64) error {
		i := next.Add(1) - 1
		if i >= int64(len(nos)) {
			time.Sleep(time.Millisecond) // the orders are used up: idle until the measurement ends
			return errNoMoreOrders
		}
		err := do(ctx, nos[i])
		lastDone.Store(int64(time.Since(start)))
		return err
	})
	got.took, got.failed = time.Duration(lastDone.Load()), 0
	return got, nil
}

func placeMany(ctx context.Context, s *order.Service, n int) ([]string, error) {
	nos := make([]string, n)
	errs := make([]error, 256)
	run := ulid.Make().String()
	var next atomic.Int64
	var wg sync.WaitGroup
	for c := range errs {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n || errs[c] != nil {
					return
				}
				placed, err := s.Place(ctx, order.Placement{CustomerID: "c", RequestID: fmt.Sprint(run, "-", i), Lines: []stock.Line{{SkuID: sku(0), Quantity: 1}}})
				nos[i], errs[c] = placed.Order.OrderNo, err
			}
		})
	}
	wg.Wait()
	return nos, errors.Join(errs...)
}

func paidTrade(no string) payment.Trade {
	return payment.Trade{OutTradeNo: no + "-01", State: payment.TradeSuccess, TransactionID: "42" + no, AppID: appID, MchID: mchID,
		TradeType: "NATIVE", Total: 100, PayerTotal: 100, Currency: payment.CNY, SuccessTime: time.Now()}
}

func settle(ctx context.Context, s *order.Service, no string) error {
	got, err := s.Settle(ctx, paidTrade(no), order.Cause{Actor: order.Actor{Type: order.ActorWeChat}, Type: "notification", ID: no})
	if err == nil && got.Settled != order.SettledApplied {
		err = fmt.Errorf("settled %+v", got)
	}
	return err
}

// naivePay is the baseline of a callback: one transaction with the same rows.
func naivePay(ctx context.Context, db *sql.DB, no string) error {
	for {
		err := naivePayTx(ctx, db, no)
		if sqldb.Classify(err) != sqldb.ClassRetry {
			return err
		}
	}
}

func naivePayTx(ctx context.Context, db *sql.DB, no string) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	now, t := time.Now().UnixMilli(), paidTrade(no)
	var state string
	var version, total int64
	if err := tx.QueryRowContext(ctx, "SELECT state, version, total_fen FROM orders WHERE order_no = ? FOR UPDATE", no).Scan(&state, &version, &total); err != nil {
		return err
	}
	if state != "pending" || total != int64(t.Total) {
		return errors.New("not payable")
	}
	if _, err := tx.ExecContext(ctx, `UPDATE orders
SET state = 'paid', version = version + 1, due_at = NULL, updated_at = ?
WHERE order_no = ? AND state = 'pending'`, now, no); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO payments
  (transaction_id, order_no, out_trade_no, amount_fen, payer_fen, currency, trade_type, appid, mchid,
   paid_at, received_at, source, outcome, reason)
VALUES (?, ?, ?, 100, 100, 'CNY', 'NATIVE', ?, ?, ?, ?, 'notification', 'applied', '')`, t.TransactionID, no, t.OutTradeNo, appID, mchID, now, now); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO order_events
  (order_no, seq, at, event, from_state, to_state, actor_type, actor_id, cause_type, cause_id, detail, took_ms)
VALUES (?, ?, ?, 'payment.applied', 'pending', 'paid', 'wechat', '', 'notification', ?, ?, 0)`, no, version+1, now, no,
		`{"out_trade_no":"`+t.OutTradeNo+`","total":"1.00","transaction_id":"`+t.TransactionID+`"}`); err != nil {
		return err
	}
	return tx.Commit()
}
