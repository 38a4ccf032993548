package console

import (
	"net/http"
	"net/url"

	"github.com/labstack/echo/v4"

	"orderd/order"
)

// HitView is one thing that a search found. Path is where the API has it.
type HitView struct {
	Kind    order.HitKind `json:"kind"`
	ID      string        `json:"id"`
	OrderNo string        `json:"order_no,omitempty"`
	Title   string        `json:"title,omitempty"` // of a SKU that was found by it
	Path    string        `json:"path"`
}

// FoundView is what a search found, by kind. Only is the one hit when there is one: whoever
// searched means it.
type FoundView struct {
	Query string    `json:"q"`
	Only  *HitView  `json:"only"`
	Data  []HitView `json:"data"`
}

// ViewFound shows the hits of a search.
func ViewFound(text string, hits []order.Hit) FoundView {
	v := FoundView{Query: text, Data: make([]HitView, len(hits))}
	for i, h := range hits {
		v.Data[i] = HitView{h.Kind, h.ID, h.OrderNo, h.Title, hitPath(h)}
	}
	if len(v.Data) == 1 {
		v.Only = &v.Data[0]
	}
	return v
}

// hitPath is where the API has what was found.
func hitPath(h order.Hit) string {
	switch h.Kind {
	case order.HitRefund:
		return "/admin/v1/refunds/" + url.PathEscape(h.ID)
	case order.HitCustomer:
		return "/admin/v1/orders?customer_id=" + url.QueryEscape(h.ID)
	case order.HitSKU:
		return "/admin/v1/skus/" + url.PathEscape(h.ID)
	case order.HitOrder, order.HitAttempt, order.HitPayment, order.HitReference, order.HitAttach:
	}
	switch {
	case h.OrderNo != "":
		return "/admin/v1/orders/" + url.PathEscape(h.OrderNo)
	case h.Outcome == order.SettledHeld: // money that names no order of ours
		return "/admin/v1/held"
	case h.Outcome == order.SettledWrittenOff:
		return "/admin/v1/held?written_off=true"
	}
	return "/admin/v1/refunds?transaction_id=" + url.QueryEscape(h.ID) // it was held, and went back
}

// search is GET /admin/v1/search?q=: whatever has this number or id. Nothing found is an
// empty list.
func (c *console) search(ctx echo.Context) error {
	text := ctx.QueryParam("q")
	hits, err := c.Orders.Search(ctx.Request().Context(), text)
	if err != nil {
		return err
	}
	return ctx.JSON(http.StatusOK, ViewFound(text, hits))
}
