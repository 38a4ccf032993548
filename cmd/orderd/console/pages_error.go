package console

import (
	"github.com/labstack/echo/v4"

	"orderd/order/orderhttp"
)

// errorView is what the page of an error shows.
type errorView struct {
	*orderhttp.Problem
	Todo string
}

// problem answers for an error: a page for a browser, else problem+json.
func (c *console) problem(ctx echo.Context, err error) {
	if !asksForPage(ctx.Request()) {
		orderhttp.WriteOperatorProblem(ctx, err)
		return
	}
	orderhttp.WriteOperatorPage(ctx, err, languageOf(ctx.Request()) == en, func(p *orderhttp.Problem,
		todo string) ([]byte, error) {
		return c.render(ctx, "error", errorView{p, todo})
	})
}
