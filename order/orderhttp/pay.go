package orderhttp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"
	"rsc.io/qr"

	"orderd/migrations/bounds"
	"orderd/order"
	"orderd/payment"
)

// prepay is POST /v1/orders/:order_no/prepay: the parameters that the client hands to
// WeChat Pay. The same request again is answered with the same trade, while that can
// still be paid.
func (a *api) prepay(c echo.Context) error {
	no, r, err := ofOrder(c, func(c echo.Context) (order.PrepayRequest, error) { return read(c, decodePrepay) })
	if err != nil {
		return err
	}
	r.CustomerID, r.Cause = customerOf(c), causeOf(c)
	if r.TradeType == payment.H5 && r.ClientIP == "" {
		r.ClientIP = payerIP(c.Request(), a.TrustedProxies)
	}
	return a.onOrder(c, no, func(no string) error {
		r.OrderNo = no
		p, err := a.Orders.Prepay(c.Request().Context(), r)
		if err != nil {
			return a.withOrder(c, no, err)
		}
		return c.JSON(http.StatusOK, prepayViewOf(p))
	})
}

// decodePrepay reads the body of a prepay: trade_type, payer.openid for JSAPI,
// scene_info for H5, named as WeChat names them.
func decodePrepay(body []byte) (order.PrepayRequest, error) {
	var r order.PrepayRequest
	var bad invalid
	err := decode(body, fields{
		{"trade_type", func(d *decoder) { r.TradeType = payment.TradeType(d.str()) }},
		{"payer", func(d *decoder) {
			d.object(fields{{"openid", func(d *decoder) { r.OpenID = bad.text(d, &bounds.OpenID) }}})
		}},
		{"scene_info", func(d *decoder) {
			d.object(fields{
				{"payer_client_ip", func(d *decoder) { r.ClientIP = bad.text(d, &bounds.PayerIP) }},
				{"h5_info", func(d *decoder) {
					d.object(fields{{"type", func(d *decoder) { r.H5Type = bad.text(d, &bounds.H5Type) }}})
				}},
			})
		}},
	})
	if err != nil {
		return r, err
	}
	return r, bad.err()
}

// paymentQuery is POST /v1/orders/:order_no/payment-query. It asks WeChat Pay now,
// because a buyer is often back from paying before the notification has come; a payment
// that is there is recorded. It answers with the order, paid or not.
func (a *api) paymentQuery(c echo.Context) error {
	no, err := orderNo(c)
	if err != nil {
		return err
	}
	if err := NoBody(c); err != nil {
		return err
	}
	return a.onOrder(c, no, func(no string) error {
		ctx, customer := c.Request().Context(), customerOf(c)
		if _, err := a.Orders.FindOwn(ctx, customer, no); err != nil {
			return err
		}
		// The limit is looked at last: whoever guesses an order number must not use up its
		// owner's question.
		if wait := a.limits.query.take(no); wait > 0 {
			return &Failure{Code: CodeRateLimited, RetryAfter: wait}
		}
		o, err := a.Orders.Sync(ctx, no, causeOf(c))
		if err != nil {
			return err
		}
		return a.showOrder(c, http.StatusOK, &o)
	})
}

// cancel is POST /v1/orders/:order_no/cancel. 200 says how it ended, 202 that WeChat Pay
// has not answered yet and the order is still on its way to closed: its stock stays
// reserved until then. What waited in the queue of a sale is withdrawn there, and is 200 too.
// An order that is paid is 409 ORDER_ALREADY_PAID with the order.
func (a *api) cancel(c echo.Context) error {
	no, reason, err := ofOrder(c, readReason)
	if err != nil {
		return err
	}
	o, err := a.Orders.Cancel(c.Request().Context(), order.CancelRequest{
		OrderNo: no, CustomerID: customerOf(c), Reason: reason, Cause: causeOf(c),
	})
	var queued *order.QueuedError
	if errors.As(err, &queued) && queued.Withdrawn {
		return a.showQueued(c, http.StatusOK, &queued.Queued)
	}
	if err != nil {
		return a.withOrder(c, no, err)
	}
	switch o.State {
	case order.StateClosing:
		return a.showOrder(c, http.StatusAccepted, &o)
	case order.StateClosed, order.StateLate:
		return a.showOrder(c, http.StatusOK, &o)
	case order.StatePending, order.StatePaid, order.StateRefunding, order.StateRefunded:
	}
	return fmt.Errorf("cancel left order %s %s", no, o.State)
}

// readReason reads {"reason":"…"}; no body at all is no reason. Customers need not give
// one; operators do.
func readReason(c echo.Context) (string, error) {
	if c.Request().ContentLength == 0 {
		return "", nil
	}
	body, err := readBody(c)
	if err != nil {
		return "", err
	}
	if len(body) == 0 { // sent in chunks, of which there was none
		return "", nil
	}
	var reason string
	var bad invalid
	err = decode(body, fields{{"reason", func(d *decoder) { reason = bad.text(d, &bounds.Note) }}})
	if err != nil {
		return "", err
	}
	return reason, bad.err()
}

// NoBody wants an empty body or an empty object, which some HTTP clients send with every
// POST. A field in it is refused: it would be without effect.
func NoBody(c echo.Context) error {
	if c.Request().ContentLength == 0 {
		return nil
	}
	body, err := readBody(c)
	if err != nil || len(body) == 0 {
		return err
	}
	return decode(body, nil)
}

// withOrder adds the order as it is now to an error of the state machine, so that the
// client can offer a refund without asking again. Other errors are passed on as they are.
// The read has storeBudget at most: the refusal is known, and must not wait for a slow
// database as long as a call of WeChat Pay.
func (a *api) withOrder(c echo.Context, no string, err error) error {
	var refused *order.RefusedError
	if !errors.As(err, &refused) {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Request().Context(), storeBudget)
	defer cancel()
	o, findErr := a.Orders.FindOwn(ctx, customerOf(c), no)
	if findErr != nil {
		return err // the refusal is the answer with or without the order
	}
	f := refusal(refused)
	view := viewOf(&o, a.Now())
	f.Order, f.Err = &view, err
	return &f
}

// qrcode is GET /v1/orders/:order_no/qrcode.svg: the code_url of the order's Native
// payment as a picture. It opens no trade, because reading changes nothing: without one
// that is payable now it is 409 ORDER_NOT_PAYABLE.
func (a *api) qrcode(c echo.Context) error {
	no, err := orderNo(c)
	if err != nil {
		return err
	}
	return a.onOrder(c, no, func(no string) error { return a.drawCode(c, no) })
}

// drawCode is qrcode of an order.
func (a *api) drawCode(c echo.Context, no string) error {
	o, err := a.Orders.FindOwn(c.Request().Context(), customerOf(c), no)
	if err != nil {
		return err
	}
	now := a.Now()
	if o.State != order.StatePending || !now.Before(o.ExpireAt) {
		return &order.NotPayableError{State: o.State, Expired: o.State == order.StatePending}
	}
	if t := o.Payable(now); t != nil && t.TradeType == payment.Native && t.Answer.CodeURL != "" {
		code, err := qr.Encode(t.Answer.CodeURL, qr.M)
		if err != nil {
			return fmt.Errorf("draw the code of %s: %w", t.OutTradeNo, err)
		}
		return c.Blob(http.StatusOK, "image/svg+xml", svg(code))
	}
	return &Failure{Code: CodeOrderNotPayable, Text: Text{
		"No Native payment of this order is open: ask prepay for one first.", "该订单没有可用的 Native 支付,请先调用 prepay。"}}
}

// quietZone is the white margin in modules that ISO/IEC 18004 demands around a QR code.
const quietZone = 4

// svg draws a code, one rectangle per run of dark modules. A module is one unit of the
// picture, which the page scales as it likes.
func svg(code *qr.Code) []byte {
	side := code.Size + 2*quietZone
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" shape-rendering="crispEdges">`+
		`<rect width="%d" height="%d" fill="#fff"/><path d="`, side, side, side, side)
	for y := range code.Size {
		for x := 0; x < code.Size; x++ {
			run := 0
			for x+run < code.Size && code.Black(x+run, y) {
				run++
			}
			if run > 0 {
				fmt.Fprintf(&b, "M%d %dh%dv1h-%dz", x+quietZone, y+quietZone, run, run)
				x += run
			}
		}
	}
	b.WriteString(`"/></svg>`)
	return []byte(b.String())
}
