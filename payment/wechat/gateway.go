package wechat

import (
	"context"
	"crypto/cipher"
	"crypto/rsa"
	"log/slog"
	"net/http"
	"time"

	"github.com/go-pay/gopay"
	wechatv3 "github.com/go-pay/gopay/wechat/v3"

	"orderd/payment"
)

// Gateway speaks to WeChat Pay for one merchant. It is made by New, never
// changes, and may be used by any number of goroutines.
type Gateway struct {
	client      calls
	pool        *http.Transport
	files       *http.Client // for bills, which are not signed and have no size
	signed      *http.Client // for what WeChat Pay signs and gopay does not have
	hosts       *hosts
	merchantKey *rsa.PrivateKey // signs what gopay does not
	serialNo    string
	keys        keyRing
	watch       *watcher
	responseKey string
	aead        cipher.AEAD // under the APIv3 key, for notifications
	mchID       string
	appID       string
	loopback    bool // the other side is a simulator on this machine
	timeout     time.Duration
	stall       time.Duration // ends a download of a bill in which nothing comes
	now         func() time.Time
	log         *slog.Logger
	observe     func(op, outcome string, took time.Duration)
}

// Package order knows the gateway by this interface alone.
var _ payment.Gateway = (*Gateway)(nil)

// calls are the methods of gopay's client that are used, without the client: a
// field of its type would keep all five hundred of its methods in the binary,
// because some of our libraries look methods up by name.
type calls struct {
	native       func(context.Context, gopay.BodyMap) (*wechatv3.NativeRsp, error)
	h5           func(context.Context, gopay.BodyMap) (*wechatv3.H5Rsp, error)
	jsapi, app   func(context.Context, gopay.BodyMap) (*wechatv3.PrepayRsp, error)
	signJSAPI    func(appID, prepayID string) (*wechatv3.JSAPIPayParams, error)
	signApp      func(appID, prepayID string) (*wechatv3.AppPayParams, error)
	query        func(context.Context, wechatv3.OrderNoType, string) (*wechatv3.QueryOrderRsp, error)
	close        func(context.Context, string) (*wechatv3.EmptyRsp, error)
	refund       func(context.Context, gopay.BodyMap) (*wechatv3.RefundRsp, error)
	abnormal     func(context.Context, string, gopay.BodyMap) (*wechatv3.RefundRsp, error)
	refundQuery  func(context.Context, string, gopay.BodyMap) (*wechatv3.RefundQueryRsp, error)
	tradeBill    func(context.Context, gopay.BodyMap) (*wechatv3.BillRsp, error)
	fundFlowBill func(context.Context, gopay.BodyMap) (*wechatv3.BillRsp, error)
}

// callsOf takes the methods that are used from a client.
func callsOf(c *wechatv3.ClientV3) calls {
	return calls{
		native: c.V3TransactionNative, h5: c.V3TransactionH5, jsapi: c.V3TransactionJsapi, app: c.V3TransactionApp,
		signJSAPI: c.PaySignOfJSAPI, signApp: c.PaySignOfApp, query: c.V3TransactionQueryOrder,
		close: c.V3TransactionCloseOrder, refund: c.V3Refund, refundQuery: c.V3RefundQuery,
		abnormal: c.V3AbnormalRefund, tradeBill: c.V3BillTradeBill, fundFlowBill: c.V3BillFundFlowBill,
	}
}

// Close asks WeChat to make a trade unpayable for good. It may be repeated:
// closing twice is accepted twice. Only a signed 204 and the signed codes of
// the table are answers; everything else is an error, and then the trade may
// be open, closed or paid.
func (g *Gateway) Close(ctx context.Context, outTradeNo string) (payment.CloseReply, error) {
	if !payment.ValidOutTradeNo(outTradeNo) {
		return payment.CloseReply{}, refusal(opClose, "the order number is not 6 to 32 of 0-9 A-Z a-z _ -")
	}
	f, v, err := g.call(ctx, opClose, outTradeNo, func(ctx context.Context) error {
		_, err := g.client.close(ctx, outTradeNo)
		return err
	})
	if err != nil {
		return payment.CloseReply{}, err
	}
	return payment.CloseReply{Answer: v.closed, Status: f.status, Code: f.code, RequestID: f.requestID}, nil
}

// Query asks for the present state of a trade. A number that WeChat has never
// seen is an answer, State TradeNotFound, and not an error. The answer is
// about the number asked for or it is an error; merchant and app id are
// returned for the caller to compare.
func (g *Gateway) Query(ctx context.Context, outTradeNo string) (payment.Trade, error) {
	if !payment.ValidOutTradeNo(outTradeNo) {
		return payment.Trade{}, refusal(opQuery, "the order number is not 6 to 32 of 0-9 A-Z a-z _ -")
	}
	var trade payment.Trade
	f, v, err := g.call(ctx, opQuery, outTradeNo, func(ctx context.Context) error {
		_, err := g.client.query(ctx, wechatv3.OutTradeNo, outTradeNo)
		var q tradeAnswer
		if ok, err := readAnswer(ctx, err, &q); !ok {
			return err
		}
		if q.OutTradeNo != outTradeNo {
			return otherAnswer("order number")
		}
		trade, err = tradeOf(&q)
		return err
	})
	if err != nil {
		return payment.Trade{}, err
	}
	if v.absent {
		trade = payment.Trade{OutTradeNo: outTradeNo, State: payment.TradeNotFound}
	}
	trade.RequestID = f.requestID
	return trade, nil
}

// Keys lists the configured keys of WeChat Pay's with their dates, for doctor
// and readyz.
func (g *Gateway) Keys() []KeyState { return g.keys.states(g.responseKey) }

// Trust says whether WeChat Pay's answers are believed, and if not what to do. It asks
// nobody: it is what the calls so far have shown.
func (g *Gateway) Trust() Trust {
	g.watch.mu.Lock()
	defer g.watch.mu.Unlock()
	return g.watch.trust
}

// CloseIdleConnections ends the connections that no call is using. Call it
// after the last call; the gateway has nothing else to release.
func (g *Gateway) CloseIdleConnections() { g.pool.CloseIdleConnections() }

// String names the gateway without its keys.
func (g *Gateway) String() string { return "wechat pay gateway of merchant " + g.mchID }

// call makes one network call within the time-out, at one or both entries, and judges
// the answer. send runs gopay and decodes a success, each time anew; its error counts only as "the success
// could not be used", for everything else the facts decide. A nil error means
// a verdict that is not an error kind.
func (g *Gateway) call(ctx context.Context, op, number string, send func(context.Context) error) (*facts, verdict,
	error) {
	began := g.now()
	ctx, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	a := g.send(ctx, op, send)
	f, cause := a.facts, a.cause
	v := judge(op, f)
	if cause != nil {
		cause = safeCause(cause)
		if v.done || v.closed == payment.CloseAccepted {
			v = verdict{kind: payment.KindUnknown}
		}
	}
	if f.doubt && v.kind == payment.KindRejected {
		v = verdict{kind: payment.KindUnknown} // no to this try is not no to the one before
	}
	took := g.now().Sub(began)
	g.observe(op, v.String(), took)
	g.log.DebugContext(ctx, "wechat pay call", "op", op, "number", number, "outcome", v.String(),
		"status", f.status, "code", f.code, "request_id", f.requestID, "took", took)
	if v.kind != 0 {
		err := errorOf(op, v.kind, f, cause)
		g.watch.failed(number, err)
		return f, v, err
	}
	if op == opPrepay {
		g.watch.sold()
	}
	return f, v, nil
}
