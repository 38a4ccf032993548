package console

import (
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/order"
	"orderd/order/orderhttp"
	"orderd/payment"
)

// HeldView is a payment that fits no order of ours; reason says what does not fit.
type HeldView struct {
	TransactionID string      `json:"transaction_id"`
	OrderNo       string      `json:"order_no"` // "" when its number names none of ours
	OutTradeNo    string      `json:"out_trade_no"`
	Amount        payment.Fen `json:"amount_fen"`
	Reason        string      `json:"reason"`
	AppID         string      `json:"appid"`
	MchID         string      `json:"mchid"`
	PaidAt        time.Time   `json:"paid_at"`
	ReceivedAt    time.Time   `json:"received_at"`
	// WriteOff is what was said of writing it off; absent when nobody has proposed that.
	WriteOff *WriteOffView `json:"write_off,omitempty"`
}

// WriteOffView is what people have said of writing a held payment off: the first of them, and
// the second once it is written off.
type WriteOffView struct {
	Amount        payment.Fen `json:"amount_fen"` // the payment, less what went back elsewhere
	ProposedBy    string      `json:"proposed_by"`
	ProposedWhy   string      `json:"proposed_why"`
	ProposedAt    time.Time   `json:"proposed_at"`
	WrittenOffBy  string      `json:"written_off_by,omitempty"`
	WrittenOffWhy string      `json:"written_off_why,omitempty"`
	WrittenOffAt  *time.Time  `json:"written_off_at,omitempty"`
}

// listHeld is GET /admin/v1/held, and /admin/v1/payments/held: a page of held payments by their
// numbers, or with ?written_off=true of those that were held and are written off.
func (c *console) listHeld(ctx echo.Context) error {
	q := query{Context: ctx}
	limit, list := q.limit(), c.Orders.ListHeld
	if q.yes("written_off") {
		list = c.Orders.ListWrittenOff
	}
	if err := q.err(); err != nil {
		return err
	}
	rows, next, err := list(ctx.Request().Context(), ctx.QueryParam("cursor"), limit)
	if err != nil {
		return err
	}
	return ctx.JSON(http.StatusOK, orderhttp.PageOf(rows, next, ViewHeld))
}

// ViewHeld shows a payment that is held.
func ViewHeld(h *order.HeldPayment) HeldView {
	v := HeldView{h.TransactionID, h.OrderNo, h.OutTradeNo, h.Total, h.Reason, h.AppID, h.MchID, h.SuccessTime,
		h.ReceivedAt, nil}
	if w := &h.WriteOff; w.ProposedBy != "" {
		v.WriteOff = &WriteOffView{Amount: w.Amount, ProposedBy: w.ProposedBy, ProposedWhy: w.ProposedWhy,
			ProposedAt: w.ProposedAt, WrittenOffBy: w.WrittenOffBy, WrittenOffWhy: w.WrittenOffWhy}
		if w.Done() {
			v.WriteOff.WrittenOffAt = &w.WrittenOffAt
		}
	}
	return v
}

// ResolvedHeldView is what became of a payment that was held: applied, owed (it goes back),
// written_off (it stays, and is nobody's), waits (a second person has to do the same).
type ResolvedHeldView struct {
	TransactionID string            `json:"transaction_id"`
	OrderNo       string            `json:"order_no"`
	Outcome       order.HeldOutcome `json:"outcome"`
	Reason        string            `json:"reason,omitempty"` // why it goes back and was not applied
}

// ViewResolvedHeld shows what became of a payment.
func ViewResolvedHeld(r *order.ResolvedHeld) ResolvedHeldView {
	return ResolvedHeldView{r.TransactionID, r.OrderNo, r.Outcome, r.Reason}
}

// resolveHeld is POST /admin/v1/held/:id: a person decides about a payment that is held. 202
// says that a second person has to do the same.
func (c *console) resolveHeld(ctx echo.Context) error {
	var body struct {
		Action order.HeldAction `json:"action"`
		Reason string           `json:"reason"`
	}
	if err := decodeReasoned(ctx, &body, &body.Reason); err != nil {
		return err
	}
	done, err := c.Orders.ResolveHeld(ctx.Request().Context(), order.ResolveHeld{TransactionID: ctx.Param("id"),
		Action: body.Action, Reason: body.Reason, Cause: cause(ctx)})
	if err != nil {
		return err
	}
	c.Log.Info("held payment resolved", "transaction_id", done.TransactionID, "by", operator(ctx), "action",
		body.Action, "outcome", done.Outcome, "reason", body.Reason) // money without an order has no timeline
	status := http.StatusOK
	if done.Outcome == order.HeldWaits {
		status = http.StatusAccepted
	}
	return ctx.JSON(status, ViewResolvedHeld(&done))
}

// SettlementView is what became of a payment that was judged again.
type SettlementView struct {
	OrderNo string        `json:"order_no"`
	Outcome order.Settled `json:"outcome"` // applied, or owed: it goes back
	Reason  string        `json:"reason,omitempty"`
	State   order.State   `json:"state"` // of the order
}

// judgeHeld is POST /admin/v1/payments/held/:id/judge-again: once the configuration is
// mended, a payment that was held goes the way of every payment. It moves no money out;
// a payment that still does not fit is refused and stays held.
func (c *console) judgeHeld(ctx echo.Context) error {
	var body struct {
		Reason string `json:"reason"`
	}
	if err := decodeReasoned(ctx, &body, &body.Reason); err != nil {
		return err
	}
	s, err := c.Orders.JudgeHeld(ctx.Request().Context(), ctx.Param("id"), body.Reason, cause(ctx))
	if err != nil {
		return err
	}
	return ctx.JSON(http.StatusOK, ViewSettlement(&s))
}

// ViewSettlement shows what became of a payment.
func ViewSettlement(s *order.Settlement) SettlementView {
	return SettlementView{s.OrderNo, s.Settled, s.Reason, s.State}
}

// vouchUnpaid is POST /admin/v1/orders/:no/vouch-unpaid: a person says that nothing was
// paid for an order which WeChat Pay gives no usable answer about. 202 says that a second
// person has to say so too.
func (c *console) vouchUnpaid(ctx echo.Context) error {
	var body struct {
		Reason string `json:"reason"`
	}
	if err := decodeReasoned(ctx, &body, &body.Reason); err != nil {
		return err
	}
	v, err := c.Orders.VouchUnpaid(ctx.Request().Context(), order.VouchRequest{
		OrderNo: ctx.Param("no"), Reason: body.Reason, Cause: cause(ctx)})
	switch {
	case err != nil:
		return err
	case !v.Closed:
		return c.showOrder(ctx, http.StatusAccepted, &v.Order)
	}
	return c.showOrder(ctx, http.StatusOK, &v.Order)
}
