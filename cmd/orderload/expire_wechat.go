package main

import (
	"context"
	"sync/atomic"
	"time"

	"orderd/payment"
)

// scripted is WeChat Pay for the seeded orders, in memory: a trade becomes
// closed or paid, whoever comes first, and stays so.
type scripted struct {
	noGateway
	delay  time.Duration
	calls  atomic.Int64
	trades []scriptedTrade // by the order's number; empty: nobody pays
}

type scriptedTrade struct{ state, asks atomic.Uint32 }

const (
	tradeOpen uint32 = iota
	tradeClosed
	tradePaid
)

// newScripted knows n orders.
func newScripted(n int, delay time.Duration) *scripted {
	return &scripted{delay: delay, trades: make([]scriptedTrade, n+1)}
}

// Close closes a trade unless it was paid.
func (g *scripted) Close(ctx context.Context, outTradeNo string) (payment.CloseReply, error) {
	g.calls.Add(1)
	t := time.NewTimer(g.delay)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return payment.CloseReply{}, &payment.GatewayError{Op: "close", Kind: payment.KindUnknown, Err: ctx.Err()}
	}
	if n := seqOf(outTradeNo); n > 0 && n < len(g.trades) {
		trade := &g.trades[n]
		trade.asks.Add(1)
		if !trade.state.CompareAndSwap(tradeOpen, tradeClosed) && trade.state.Load() == tradePaid {
			return payment.CloseReply{Answer: payment.ClosePaid, Status: 400, Code: "ORDERPAID"}, nil
		}
	}
	return payment.CloseReply{Answer: payment.CloseAccepted, Status: 204}, nil
}

// Query tells of a paid trade; of others nobody asks.
func (g *scripted) Query(_ context.Context, outTradeNo string) (payment.Trade, error) {
	if n := seqOf(outTradeNo); n > 0 && n < len(g.trades) && g.trades[n].state.Load() == tradePaid {
		return paidTrade(outTradeNo[:26]), nil
	}
	return payment.Trade{}, errNoGateway
}

// pay is the buyer of order n; false when WeChat Pay has closed the trade.
func (g *scripted) pay(n int) bool { return g.trades[n].state.CompareAndSwap(tradeOpen, tradePaid) }

// twice counts the orders that were asked about more than once.
func (g *scripted) twice() (n int) {
	for i := range g.trades {
		if g.trades[i].asks.Load() > 1 {
			n++
		}
	}
	return n
}
