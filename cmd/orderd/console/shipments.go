package console

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/migrations/bounds"
	"orderd/order/orderhttp"
	"orderd/payment/shipping"
)

// Shipments is what operators need of shipments; *shipping.Service implements it, and
// documents its errors.
type Shipments interface {
	// Put says what was sent; a worker reports it.
	Put(ctx context.Context, p shipping.Put) (shipping.Shipment, error)
	Find(ctx context.Context, orderNo string) (shipping.Shipment, bool, error)
	List(ctx context.Context, s shipping.State, cursor string, limit int) ([]shipping.Shipment, string, error)
	// Backlog counts what is open: for gauges and the first page.
	Backlog(ctx context.Context) (shipping.Backlog, error)
}

// ShipmentView is a shipment as operators see it.
type ShipmentView struct {
	OrderNo       string            `json:"order_no"`
	State         string            `json:"state"` // in capitals, as those of orders
	TransactionID string            `json:"transaction_id"`
	PaidAt        time.Time         `json:"paid_at"`
	LeftSeconds   int64             `json:"left_seconds"` // of the 48 hours, below 0 when they are over
	Way           string            `json:"way,omitempty"`
	Parcels       []shipping.Parcel `json:"parcels"`
	Partial       bool              `json:"partial"`
	PutAt         *time.Time        `json:"put_at"`
	PutBy         string            `json:"put_by,omitempty"`
	Tries         int64             `json:"tries"`
	DueAt         *time.Time        `json:"due_at"`
	// Code and Message are WeChat's last answer; 0 is ok, or none yet.
	Code    int64  `json:"wechat_code"`
	Message string `json:"wechat_message,omitempty"`
	Version int64  `json:"version"`
}

// ViewShipment shows a shipment to operators.
func ViewShipment(s *shipping.Shipment, now time.Time) ShipmentView {
	return ShipmentView{
		OrderNo: s.OrderNo, State: strings.ToUpper(string(s.State)), TransactionID: s.TransactionID, PaidAt: s.PaidAt,
		LeftSeconds: int64(s.Left(now).Seconds()), Way: s.Content.Way.String(),
		Parcels: append([]shipping.Parcel{}, s.Content.Parcels...), Partial: s.Content.Partial,
		PutAt: optional(s.PutAt),
		PutBy: s.By, Tries: s.Tries, DueAt: optional(s.DueAt), Code: s.Code, Message: s.Message, Version: s.Version,
	}
}

// viewShipment is ViewShipment now.
func (c *console) viewShipment(s *shipping.Shipment) ShipmentView { return ViewShipment(s, c.Now()) }

// shipmentRoutes are those of a mini program's shop.
func (c *console) shipmentRoutes() []route {
	return []route{
		{http.MethodGet, "/admin/v1/shipments", Viewer, c.listShipments},
		{http.MethodGet, "/admin/v1/orders/:no/shipment", Viewer, c.getShipment},
		{http.MethodPost, "/admin/v1/orders/:no/shipment", Operator, c.putShipment},
		{http.MethodGet, "/ui/shipments", Viewer, c.shipmentsPage},
	}
}

// listShipments is GET /admin/v1/shipments: a page of those of one state, OWED without
// one, the longest paid first.
func (c *console) listShipments(ctx echo.Context) error {
	q := query{Context: ctx}
	state := shipping.State(strings.ToLower(q.QueryParam("state")))
	if state == "" {
		state = shipping.StateOwed
	}
	if !slices.Contains(shipping.States, state) {
		q.wrong("state", "ENUM", "a shipment is OWED, DUE, REPORTED, REFUSED or VOID")
	}
	limit := q.limit()
	if err := q.err(); err != nil {
		return err
	}
	rows, next, err := c.Shipments.List(ctx.Request().Context(), state, q.QueryParam("cursor"), limit)
	if err != nil {
		return err
	}
	return ctx.JSON(http.StatusOK, orderhttp.PageOf(rows, next, c.viewShipment))
}

// getShipment is GET /admin/v1/orders/:no/shipment.
func (c *console) getShipment(ctx echo.Context) error {
	s, ok, err := c.Shipments.Find(ctx.Request().Context(), ctx.Param("no"))
	if err != nil {
		return err
	}
	if !ok {
		return fail(orderhttp.CodeNotFound, "No shipment is owed for this order, or nothing was sent for it.")
	}
	return c.showShipment(ctx, http.StatusOK, &s)
}

// showShipment answers with a shipment and its version as ETag.
func (c *console) showShipment(ctx echo.Context, status int, s *shipping.Shipment) error {
	ctx.Response().Header().Set("ETag", etag(s.Version))
	return ctx.JSON(status, c.viewShipment(s))
}

// putShipment is POST /admin/v1/orders/:no/shipment: what was sent. The same again is the
// same; 202, because WeChat is told after it. It needs no If-Match: a shop's own system says what it knows. One that
// is sent must be the shipment's version, "v0" while nothing was said.
func (c *console) putShipment(ctx echo.Context) error {
	var body struct {
		Way     string            `json:"way"`
		Parcels []shipping.Parcel `json:"parcels"`
		Partial bool              `json:"partial"`
	}
	if err := decode(ctx, &body); err != nil {
		return err
	}
	put := shipping.Put{OrderNo: ctx.Param("no"), By: operator(ctx), Content: shipping.Content{
		Way: shipping.ParseWay(body.Way), Parcels: body.Parcels, Partial: body.Partial}}
	if ctx.Request().Header.Get("If-Match") != "" {
		v, err := versionFrom(ctx, 0)
		if err != nil {
			return err
		}
		put.IfVersion = &v
	}
	s, err := c.Shipments.Put(ctx.Request().Context(), put)
	var bad *shipping.InvalidError
	switch {
	case errors.As(err, &bad):
		pointer := "#/" + strings.NewReplacer("[", "/", "].", "/").Replace(bad.Field)
		return invalid(pointer, bounds.CodeFormat, bad.Why)
	case errors.Is(err, shipping.ErrNotOwed), errors.Is(err, shipping.ErrReshipped):
		return fail(orderhttp.CodeShipmentNotPossible, err.Error())
	case errors.Is(err, shipping.ErrVersion):
		return &orderhttp.Failure{Code: orderhttp.CodeVersionMismatch, Text: orderhttp.Text{
			En: "What was sent has been changed since it was read.", Zh: "发货信息已被他人修改。"}}
	case err != nil:
		return err
	}
	return c.showShipment(ctx, http.StatusAccepted, &s)
}

// shipmentsPage is GET /ui/shipments: what nobody has sent, what WeChat refuses and what
// it is told next, up to defaultRows of each.
func (c *console) shipmentsPage(ctx echo.Context) error {
	type row struct {
		ShipmentView
		Acts []link
	}
	var all []row
	for _, s := range []shipping.State{shipping.StateRefused, shipping.StateOwed, shipping.StateDue} {
		rows, _, err := c.Shipments.List(ctx.Request().Context(), s, "", defaultRows)
		if err != nil {
			return err
		}
		for i := range rows {
			all = append(all, row{c.viewShipment(&rows[i]), c.links(ctx, []string{rows[i].OrderNo}, "shipment.put")})
		}
	}
	return c.show(ctx, "shipments", all)
}

// LeftHours says for a page how long there is to send it, or for how long that is over, in hours.
func (v ShipmentView) LeftHours() int64 {
	d := (time.Duration(v.LeftSeconds) * time.Second).Round(time.Hour)
	return int64(d.Abs() / time.Hour)
}
