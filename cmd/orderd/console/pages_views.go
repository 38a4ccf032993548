package console

import (
	"errors"
	"net/http"
	"net/url"
	"slices"

	"github.com/labstack/echo/v4"

	"orderd/migrations/bounds"
	"orderd/payment/operators"
)

// viewRoutes keep the filters that a person looks by often. They are the person's own, and change nothing
// of the shop: the audit trail has none of them.
func (c *console) viewRoutes() []route {
	return []route{
		{http.MethodPost, "/ui/views", Viewer, c.saveView},
		{http.MethodPost, "/ui/views/drop", Viewer, c.dropView},
	}
}

// viewOfOrders names the page of orders in what is saved.
const viewOfOrders = "orders"

// saveView is POST /ui/views: it saves the filters of the list of orders under a name, and goes back to it.
func (c *console) saveView(ctx echo.Context) error {
	form, err := fields(ctx, "name", "query")
	if err != nil {
		return err
	}
	asked, err := url.ParseQuery(form["query"])
	for name, values := range asked {
		if len(values) != 1 || name == "cursor" || !slices.Contains(parameters[uiOrders], name) {
			err = errors.Join(err, operators.ErrView)
		}
	}
	if err != nil {
		return invalid("#/query", bounds.CodeFormat, "want the filters of a list of orders")
	}
	v := operators.View{Name: form["name"], Query: asked.Encode()}
	switch err := c.Logins.SaveView(ctx.Request().Context(), sessionOf(ctx).Person, viewOfOrders, v); {
	case errors.Is(err, operators.ErrView):
		return invalid("#/name", bounds.CodeLength, err.Error())
	case errors.Is(err, operators.ErrViews):
		return invalid("#/name", "LIMIT", operators.ErrViews.Error())
	case err != nil:
		return err
	}
	return see(ctx, withQuery(uiOrders, asked))
}

// dropView is POST /ui/views/drop: it forgets what was saved under a name.
func (c *console) dropView(ctx echo.Context) error {
	form, err := fields(ctx, "name")
	if err != nil {
		return err
	}
	err = c.Logins.DropView(ctx.Request().Context(), sessionOf(ctx).Person, viewOfOrders, form["name"])
	if err != nil {
		return err
	}
	return see(ctx, uiOrders)
}

// savedLink leads to what a person looks for often.
type savedLink struct{ Name, Path string }

// viewsOf are the saved filters of whoever looks at the list of orders, none for a token.
func (c *console) viewsOf(ctx echo.Context) (all []savedLink, err error) {
	person := sessionOf(ctx).Person
	if person == "" || c.Logins == nil {
		return nil, nil
	}
	views, err := c.Logins.Views(ctx.Request().Context(), person, viewOfOrders)
	for _, v := range views {
		asked, err := url.ParseQuery(v.Query)
		if err != nil {
			return nil, err
		}
		all = append(all, savedLink{v.Name, withQuery(uiOrders, asked)})
	}
	return all, err
}
