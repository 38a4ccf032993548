package console

import (
	"errors"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"orderd/migrations/bounds"
	"orderd/order"
	"orderd/order/orderhttp"
)

// noteRoutes are what people write down of an order, and who paid it, which is theirs to know with a reason alone.
func (c *console) noteRoutes() []route {
	return []route{
		{http.MethodPost, "/admin/v1/orders/:no/notes", operatorOrFinance, c.addNote},
		{http.MethodPost, "/admin/v1/orders/:no/payer", operatorOrFinance, c.showPayer},
	}
}

// addNote is POST /admin/v1/orders/:no/notes: a line of the timeline, which moves nothing. It needs If-Match: the
// same note sent twice is one.
func (c *console) addNote(ctx echo.Context) error {
	v, err := version(ctx)
	if err != nil {
		return err
	}
	var body struct {
		Note string `json:"note"`
	}
	if err := decode(ctx, &body); err != nil {
		return err
	}
	if wrong := bounds.Reason.Check(body.Note); wrong != nil {
		return invalid("#/note", wrong.Code, wrong.Detail)
	}
	o, err := c.Orders.AddNote(ctx.Request().Context(), order.Note{OrderNo: ctx.Param("no"), Text: body.Note,
		IfVersion: v, Cause: cause(ctx)})
	if errors.Is(err, order.ErrVersion) {
		return &orderhttp.Failure{Code: orderhttp.CodeVersionMismatch}
	}
	if err != nil {
		return err
	}
	return c.showOrder(ctx, http.StatusOK, &o)
}

// PayerView is who opened the attempts of an order, by WeChat's ids.
type PayerView struct {
	OrderNo string `json:"order_no"`
	OpenID  string `json:"openid"` // several with commas between them
}

// showPayer is POST /admin/v1/orders/:no/payer: whole what pages mask. It changes nothing, and takes a reason,
// because the audit trail has to say who looked and why.
func (c *console) showPayer(ctx echo.Context) error {
	if _, err := reasoned(ctx); err != nil {
		return err
	}
	o, err := c.Orders.Find(ctx.Request().Context(), ctx.Param("no"))
	if err != nil {
		return err
	}
	return ctx.JSON(http.StatusOK, PayerView{o.OrderNo, strings.Join(o.Payers(), ", ")})
}
