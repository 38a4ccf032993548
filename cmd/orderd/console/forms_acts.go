package console

import (
	"net/url"
	"slices"
	"strconv"

	"github.com/labstack/echo/v4"
)

// formActs are all acts of the pages.
func (c *console) formActs() []act {
	return slices.Concat(c.orderActs(), c.refundActs(), c.heldActs(), c.oneTaskActs(), c.taskActs(),
		c.stockActs(), c.skuActs(), c.shipActs(), c.hookActs(), c.bookActs(),
		c.bulkActs())
}

// Forms are the pages of acts, each with the route of the API (METHOD PATH) that it asks: for lists of who may do
// what.
func Forms() map[string]string {
	all := map[string]string{}
	for _, a := range (&console{}).formActs() {
		all[a.path] = a.route
	}
	return all
}

// always has the password given again, whatever the act is about.
func always(echo.Context) (bool, error) { return true, nil }

// stockActs move units: what came in is anybody's at the shelf, what a count found an admin's.
func (c *console) stockActs() []act {
	return []act{
		{name: "stock.replenish", path: "/ui/stock/:id/replenish", route: "POST /admin/v1/skus/:id/replenish",
			fields: []field{{name: "quantity", kind: asWhole, need: true},
				{name: "reference_no", kind: asText, most: 64}, withReason, withKey}, show: c.skuSubject},
		{name: "stock.adjust", path: "/ui/stock/:id/adjust", route: "POST /admin/v1/skus/:id/adjust", danger: true,
			fields: []field{{name: "delta", kind: asWhole, need: true},
				{name: "expected_available", kind: asWhole, need: true}, withReason, withKey},
			show: c.skuSubject, stepUp: always},
	}
}

// skuSubject is a SKU as what an act is about.
func (c *console) skuSubject(ctx echo.Context) (subject, error) {
	s, err := c.Stock.Find(ctx.Request().Context(), ctx.Param("id"))
	if err != nil {
		return subject{}, stockError(err)
	}
	left := strconv.FormatInt(s.Available+s.Allocated, 10)
	return subject{back: "/ui/stock/" + url.PathEscape(s.SkuID), values: map[string]string{"expected_available": left},
		facts: []fact{{"c.sku", s.SkuID, true}, {"c.title", s.Title, false}, {"c.amount", yuan(fen(s.PriceFen)), false},
			{"c.left", left, false}}}, nil
}
