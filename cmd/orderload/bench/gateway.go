package bench

import (
	"context"
	"io"
	"sync/atomic"
	"time"

	"orderd/migrations/sqldb"
	"orderd/payment"
)

// Gateway is a WeChat Pay in memory, and implements payment.Gateway and
// reconcile.Bills. A trade that it knows becomes closed or paid, whichever comes
// first, and stays so; a close of any other trade is accepted. Everything else
// answers ErrNoAnswer: no measurement needs it.
type Gateway struct {
	o      GatewayOptions
	calls  atomic.Int64
	trades []trade // by their number, from 1 on
}

// GatewayOptions say what a Gateway knows, and how slow it is.
type GatewayOptions struct {
	Delay  time.Duration               // a close answers after this time
	Trades int                         // trades 1 to Trades are known
	Number func(outTradeNo string) int // the number of a trade, 0 for an unknown one; nil: all are unknown
}

type trade struct{ state, closes atomic.Uint32 }

// The states of a known trade.
const (
	tradeOpen   uint32 = iota // can be closed or paid
	tradeClosed               // and can never be paid
	tradePaid                 // and can never be closed
)

// ErrNoAnswer is the answer to every call that the Gateway does not play: nothing
// is known of what it did.
var ErrNoAnswer = &payment.GatewayError{Op: "bench", Kind: payment.KindUnknown}

// NewGateway makes a Gateway whose known trades are all open.
func NewGateway(o GatewayOptions) *Gateway {
	return &Gateway{o: o, trades: make([]trade, o.Trades+1)}
}

// find gives a known trade, or nil.
func (g *Gateway) find(outTradeNo string) *trade {
	if g.o.Number == nil {
		return nil
	}
	if n := g.o.Number(outTradeNo); n > 0 && n < len(g.trades) {
		return &g.trades[n]
	}
	return nil
}

// Close closes a trade unless it was paid.
func (g *Gateway) Close(ctx context.Context, outTradeNo string) (payment.CloseReply, error) {
	g.calls.Add(1)
	if !sqldb.Sleep(ctx, g.o.Delay) {
		return payment.CloseReply{}, &payment.GatewayError{Op: "close", Kind: payment.KindUnknown, Err: ctx.Err()}
	}
	if t := g.find(outTradeNo); t != nil {
		t.closes.Add(1)
		if !t.state.CompareAndSwap(tradeOpen, tradeClosed) && t.state.Load() == tradePaid {
			return payment.CloseReply{Answer: payment.ClosePaid, Status: 400, Code: "ORDERPAID"}, nil
		}
	}
	return payment.CloseReply{Answer: payment.CloseAccepted, Status: 204}, nil
}

// Query answers for a paid trade only: orderd asks about no other.
func (g *Gateway) Query(_ context.Context, outTradeNo string) (payment.Trade, error) {
	if t := g.find(outTradeNo); t != nil && t.state.Load() == tradePaid {
		return PaidTrade(outTradeNo[:len(outTradeNo)-len(firstAttempt)]), nil
	}
	return payment.Trade{}, ErrNoAnswer
}

// Prepay is not played.
func (*Gateway) Prepay(context.Context, payment.Attempt) (payment.Prepaid, error) {
	return payment.Prepaid{}, ErrNoAnswer
}

// Refund is not played.
func (*Gateway) Refund(context.Context, payment.RefundRequest) (payment.Refund, error) {
	return payment.Refund{}, ErrNoAnswer
}

// QueryRefund is not played.
func (*Gateway) QueryRefund(context.Context, string) (payment.Refund, error) {
	return payment.Refund{}, ErrNoAnswer
}

// AbnormalRefund is not played.
func (*Gateway) AbnormalRefund(context.Context, payment.AbnormalRequest) (payment.Refund, error) {
	return payment.Refund{}, ErrNoAnswer
}

// FetchBill is not played: bills come from files.
func (*Gateway) FetchBill(context.Context, string, payment.BillType, io.Writer) (payment.Bill, error) {
	return payment.Bill{}, ErrNoAnswer
}

// Pay is the buyer of known trade n. False when WeChat Pay has closed it before.
func (g *Gateway) Pay(n int) bool { return g.trades[n].state.CompareAndSwap(tradeOpen, tradePaid) }

// IsClosed reports whether known trade n is closed.
func (g *Gateway) IsClosed(n int) bool { return g.trades[n].state.Load() == tradeClosed }

// Calls is how many closes were asked for.
func (g *Gateway) Calls() int64 { return g.calls.Load() }

// ClosedTwice counts the known trades whose close was asked for more than once.
func (g *Gateway) ClosedTwice() (n int) {
	for i := range g.trades {
		if g.trades[i].closes.Load() > 1 {
			n++
		}
	}
	return n
}
