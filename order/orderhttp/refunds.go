package orderhttp

import (
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"orderd/migrations/bounds"
	"orderd/order"
	"orderd/payment"
)

// RefundView is a refund as a customer sees it. Who decided it, what WeChat Pay
// complained about and when it is tried again are for operators (package console).
type RefundView struct {
	OutRefundNo string `json:"out_refund_no"`
	OrderNo     string `json:"order_no"`
	// RefundID is WeChat Pay's own number, absent until it has answered.
	RefundID string `json:"refund_id,omitempty"`
	// RefundStatus is our state in upper case, such as PENDING_APPROVAL, PROCESSING or
	// SUCCESS; the latter two are WeChat Pay's words too.
	RefundStatus string `json:"refund_status"`
	// Kind is why it exists: aftersale was asked for; late, duplicate and held are money
	// that no order could take.
	Kind   string           `json:"kind"`
	Amount RefundAmount     `json:"amount"`
	Items  []RefundItemView `json:"items"`
	// Restock says that Items go back to the shelf when the money has gone back.
	Restock bool   `json:"restock"`
	Reason  string `json:"reason"`
	// DecidedWhy is why it was rejected; no other decision is the customer's business.
	DecidedWhy  string `json:"decided_why,omitempty"`
	CreatedAt   string `json:"created_at"`
	SuccessTime string `json:"success_time,omitempty"`
}

// RefundAmount is what goes back, of how much that was paid, in fen. The shape is that of
// WeChat Pay's amount of a refund.
type RefundAmount struct {
	Refund payment.Fen `json:"refund"`
	// Total is absent of a refund that was made elsewhere, where WeChat Pay did not say it.
	Total    payment.Fen `json:"total,omitzero"`
	Currency string      `json:"currency"`
}

// RefundItemView is a line of a refund.
type RefundItemView struct {
	SkuID    string `json:"sku_id"`
	Quantity int64  `json:"quantity"`
}

// RefundViewOf shows a refund as the customers' API does; package console adds to it.
func RefundViewOf(r *order.Refund) RefundView {
	v := RefundView{
		OutRefundNo:  r.OutRefundNo,
		OrderNo:      r.OrderNo,
		RefundID:     r.RefundID,
		RefundStatus: strings.ToUpper(string(r.State)),
		Kind:         r.Reason,
		Amount:       RefundAmount{Refund: r.Amount, Total: r.PaymentTotal, Currency: payment.CNY},
		Items:        []RefundItemView{},
		Restock:      r.Restock,
		Reason:       r.Note,
		CreatedAt:    rfc3339(r.CreatedAt),
	}
	for _, l := range r.Items {
		v.Items = append(v.Items, RefundItemView{l.SkuID, l.Quantity})
	}
	if !r.SucceededAt.IsZero() {
		v.SuccessTime = rfc3339(r.SucceededAt)
	}
	if r.State == order.RefundStateRejected {
		v.DecidedWhy = r.DecidedWhy
	}
	return v
}

// askRefund is POST /v1/orders/:order_no/refunds. The same key with the same content is
// answered with the refund as it was when it was asked for. Whether goods come back is the
// shop's word: a customer cannot say it, and one who wants money and names no goods is
// answered by a person, whatever the amount.
func (a *api) askRefund(c echo.Context) error {
	no, ask, err := ofOrder(c, func(c echo.Context) (order.AskRefund, error) {
		key, ask, err := readKeyed(c, decodeRefund)
		ask.RequestID, ask.NeedsPerson = key, ask.Amount != nil && len(ask.Lines) == 0
		return ask, err
	})
	if err != nil {
		return err
	}
	ask.CustomerID, ask.Cause = customerOf(c), causeOf(c)
	return a.onPlaced(c, no, func(no string) error {
		ask.OrderNo = no
		asked, err := a.Orders.AskRefund(c.Request().Context(), ask)
		if err != nil {
			return err
		}
		return ShowAsked(c, asked, "/v1/refunds/")
	})
}

// ReadRefund reads the key and the body of an operator's request for a refund: that of a
// customer, and whether the goods go back to the shelf. The caller fills in OrderNo and
// Cause.
func ReadRefund(c echo.Context) (order.AskRefund, error) {
	key, ask, err := readKeyed(c, func(body []byte) (order.AskRefund, error) {
		var ask order.AskRefund
		return readRefund(body, &ask, fields{{"restock", func(d *decoder) {
			ask.Restock = d.boolean()
			ask.NoRestock = !ask.Restock
		}}})
	})
	ask.RequestID = key
	return ask, err
}

// decodeRefund reads the body of a customer's request for a refund. Whether so much can go
// back is decided by order.AskRefund.
func decodeRefund(body []byte) (order.AskRefund, error) {
	return readRefund(body, new(order.AskRefund), nil)
}

// readRefund reads a request for a refund into ask, with the fields that only operators have.
func readRefund(body []byte, ask *order.AskRefund, more fields) (order.AskRefund, error) {
	var bad invalid
	err := decode(body, append(fields{
		{"items", func(d *decoder) { ask.Lines = readLines(d, &bad) }},
		{"amount", func(d *decoder) { ask.Amount = readFen(d, &bad, "refund", 1, "a refund is 1 fen") }},
		{"reason", func(d *decoder) { ask.Reason = d.str() }},
	}, more...))
	if err != nil {
		return *ask, err
	}
	if wrong := bounds.Reason.Check(ask.Reason); wrong != nil {
		bad = append(bad, order.FieldError{Pointer: "#/reason", Code: wrong.Code, Detail: wrong.Detail})
	}
	if int64(len(ask.Lines)) > bounds.Lines.Most {
		bad = append(bad, order.FieldError{Pointer: "#/items", Code: codeLength, Detail: "too many lines"})
	}
	return *ask, bad.err()
}

// ShowAsked answers a request for a refund with 201, also when the same key asked before.
// Its Location is the refund number below the path given: each listener has its own.
func ShowAsked(c echo.Context, asked order.AskedRefund, below string) error {
	h := c.Response().Header()
	h.Set("Location", below+asked.Refund.OutRefundNo)
	if asked.Replayed {
		h.Set(headerReplayed, "true")
	}
	return c.JSON(http.StatusCreated, RefundViewOf(&asked.Refund))
}

// listRefunds is GET /v1/orders/:order_no/refunds: all of them on one page, oldest first.
// WeChat Pay takes at most 50 refunds of a payment, so that there is no cursor.
func (a *api) listRefunds(c echo.Context) error {
	no, err := orderNo(c)
	if err != nil {
		return err
	}
	return a.onPlaced(c, no, func(no string) error {
		o, err := a.Orders.FindOwn(c.Request().Context(), customerOf(c), no)
		if err != nil {
			return err
		}
		return c.JSON(http.StatusOK, PageOf(o.Refunds, "", RefundViewOf))
	})
}

// showRefund is GET /v1/refunds/:out_refund_no, and the same under an order's address,
// where only that order's are found.
func (a *api) showRefund(c echo.Context) error {
	no := c.Param("out_refund_no")
	if !payment.ValidOutRefundNo(no) {
		return order.ErrRefundNotFound
	}
	r, err := a.Orders.FindOwnRefund(c.Request().Context(), customerOf(c), no)
	if err != nil {
		return err
	}
	if of := c.Param("order_no"); of != "" && of != r.OrderNo {
		return order.ErrRefundNotFound
	}
	return c.JSON(http.StatusOK, RefundViewOf(&r))
}
