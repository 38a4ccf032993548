package console

import (
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/order"
	"orderd/order/bulk"
	"orderd/order/orderhttp"
	"orderd/payment"
)

// uiOrders is the page of orders; its two files have the extension behind it.
const uiOrders = "/ui/orders"

// ordersView is a page of orders.
type ordersView struct {
	Orders []order.Order
	Filter orderForm
	States []order.State
	Trades []payment.TradeType
	Total  order.Total
	// Columns are those that can be left out, and Rows the orders without those that are.
	Columns []columnLink
	Rows    orderRows
	// Saved are the filters that this person has saved, and Query those of the page, to save; SignedIn says
	// that there is somebody to save them for.
	Saved    []savedLink
	Query    string
	SignedIn bool
	// Bulk are the acts on all of the list, HasBulk says that there are runs.
	Bulk    []link
	HasBulk bool
	// First and Next are this list from its beginning and after this page, "" when this is the first or
	// the last; CSV and XLSX are all of it.
	First, Next, CSV, XLSX string
}

// orderForm is a filter as its form has it: days of Beijing, money in yuan.
type orderForm struct {
	State, Customer, SKU, Trade, From, To, Min, Max string
	Stuck                                           bool
}

// ordersPage is GET /ui/orders: a page of the orders that the filters mean, which are those of the API.
// In place of a time a day of Beijing may stand, from its beginning and to its end; and money is in
// yuan where it is named so.
func (c *console) ordersPage(ctx echo.Context) error {
	f, form, err := c.orderFilters(ctx)
	if err != nil {
		return err
	}
	q := query{Context: ctx}
	hide := q.hidden()
	if err := q.err(); err != nil {
		return err
	}
	orders, next, err := c.Orders.List(ctx.Request().Context(), f)
	if err != nil {
		return err
	}
	total, err := c.Orders.Total(ctx.Request().Context(), f)
	if err != nil {
		return err
	}
	asked := url.Values{}
	for name, v := range ctx.QueryParams() {
		if v[0] != "" && name != "cursor" && name != "hide" {
			asked.Set(name, v[0])
		}
	}
	v := ordersView{Orders: orders, Filter: form, States: order.States(), Trades: payment.TradeTypes(),
		CSV: withQuery(uiOrders+".csv", asked), XLSX: withQuery(uiOrders+".xlsx", asked),
		Total: total, Columns: columnsOf(asked, hide), Rows: orderRows{orders, hide},
		Bulk: c.bulkLinks(ctx, asked, bulk.KindAsk, bulk.KindClose), HasBulk: c.Bulk != nil}
	if len(hide) > 0 {
		asked.Set("hide", strings.Join(hide, ","))
	}
	v.Query, v.SignedIn = asked.Encode(), sessionOf(ctx).Person != ""
	if v.Saved, err = c.viewsOf(ctx); err != nil {
		return err
	}
	if f.Cursor != "" {
		v.First = withQuery(uiOrders, asked)
	}
	if next != "" {
		asked.Set("cursor", next)
		v.Next = withQuery(uiOrders, asked)
	}
	return c.show(ctx, "orders", v)
}

// orderColumns are the columns of orders that a list can do without.
var orderColumns = []string{"items", "amount", "customer", "created", "expire"}

// orderRows are the orders of a table, without the columns that are hidden.
type orderRows struct {
	Orders []order.Order
	Hidden []string
}

// Shows reports that the table has a column.
func (r orderRows) Shows(column string) bool { return !slices.Contains(r.Hidden, column) }

// Columns is how many the table has.
func (r orderRows) Columns() int { return 2 + len(orderColumns) - len(r.Hidden) }

// columnLink shows a column, or hides it.
type columnLink struct {
	Word, Path string
	Shown      bool
}

// columnsOf are the links of the columns, beside the filters that were asked for.
func columnsOf(asked url.Values, hide []string) (all []columnLink) {
	for _, name := range orderColumns {
		rest := slices.DeleteFunc(slices.Clone(hide), func(h string) bool { return h == name })
		shown := len(rest) == len(hide)
		if shown {
			rest = append(rest, name)
		}
		q := maps.Clone(asked)
		if len(rest) > 0 {
			q.Set("hide", strings.Join(rest, ","))
		}
		all = append(all, columnLink{"c." + name, withQuery(uiOrders, q), shown})
	}
	return all
}

// hidden reads ?hide=, the columns that a table does without, with commas between.
func (q *query) hidden() (all []string) {
	text := q.QueryParam("hide")
	if text == "" {
		return nil
	}
	for _, name := range strings.Split(text, ",") {
		if !slices.Contains(orderColumns, name) || slices.Contains(all, name) {
			q.wrong("hide", "ENUM", orderhttp.WantOneOf+strings.Join(orderColumns, ", "))
			return nil
		}
		all = append(all, name)
	}
	return all
}

// ordersFile is GET /ui/orders.csv and /ui/orders.xlsx: all orders of the filters, as the API's file.
func (c *console) ordersFile(ctx echo.Context) error {
	f, _, err := c.orderFilters(ctx)
	if err != nil {
		return err
	}
	f.Cursor = ""
	media, ext := csvType, "csv"
	if strings.HasSuffix(ctx.Path(), ".xlsx") {
		media, ext = xlsxType, "xlsx"
	}
	return c.sendTable(ctx, media, ext, "created_from", c.orderTable(ctx.Request().Context(), f))
}

// withQuery is a path with parameters, if there are any.
func withQuery(path string, q url.Values) string {
	if len(q) == 0 {
		return path
	}
	return path + "?" + q.Encode()
}

// orderFilters reads the filters of the page's address.
func (c *console) orderFilters(ctx echo.Context) (order.Filter, orderForm, error) {
	q := query{Context: ctx}
	f := q.orders(q.dayOrTime)
	form := orderForm{State: string(f.State), Customer: f.CustomerID, SKU: f.SkuID, Trade: string(f.TradeType),
		Stuck: f.Stuck, From: day(f.CreatedFrom), Min: plain(f.AmountMin), Max: plain(f.AmountMax)}
	if !f.CreatedTo.IsZero() {
		form.To = day(f.CreatedTo.Add(-time.Millisecond))
	}
	return f, form, q.err()
}

// day is the day of Beijing that a time is in, "" without one.
func day(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.In(beijing).Format(time.DateOnly)
}

// plain is an amount as a field has it, "" for none.
func plain(f payment.Fen) string {
	if f == 0 {
		return ""
	}
	return f.String()
}

// dayOrTime reads a time of RFC 3339, or a day of Beijing: its beginning, or of a parameter that ends
// with _to its end.
func (q *query) dayOrTime(name string) time.Time {
	d, err := time.ParseInLocation(time.DateOnly, q.QueryParam(name), beijing)
	switch {
	case err != nil:
		return q.time(name)
	case strings.HasSuffix(name, "_to"):
		return d.AddDate(0, 0, 1)
	}
	return d
}

// yuan reads an amount in yuan, more than 0; 0 stands for no bound.
func (q *query) yuan(name string) payment.Fen {
	text := q.QueryParam(name)
	if text == "" {
		return 0
	}
	f, err := payment.ParseYuan(strings.ReplaceAll(text, ",", ""))
	if err != nil || f < 1 {
		q.wrong(name, "FORMAT", "want an amount in yuan such as 149.00")
	}
	return f
}
