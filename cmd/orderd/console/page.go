package console

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"net/http"
	"text/template/parse"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/migrations/bounds"
	"orderd/order"
	"orderd/payment"
	"orderd/payment/shipping"
)

// fen makes an amount of what package stock has as a number of fen.
func fen(n int64) payment.Fen { return payment.Fen(n) }

// strictCSP allows these pages' own style and nothing else: no script, no form, no frame,
// nothing from elsewhere.
const strictCSP = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; " +
	"form-action 'none'"

// pagesHTML are the templates: head, index, order, refunds, gates, sale, diffs, books, day.
//
//go:embed pages.html
var pagesHTML string

// pages are the parsed templates. html/template escapes by where a value stands: what
// customers wrote cannot become markup. Every value passes shown, because what is no markup
// can still turn a line around.
var pages = allShown(template.Must(template.New("").Funcs(template.FuncMap{
	"shown": shown,
	"yuan":  func(f payment.Fen) string { return f.String() },
	// of a refund's payment, which WeChat Pay need not have said of one made elsewhere
	"total": func(f payment.Fen) string {
		if f == 0 {
			return payment.MaybeFen{}.String()
		}
		return f.String()
	},
	"clock": func(t time.Time) string {
		if t.IsZero() {
			return "–"
		}
		return t.Format("01-02 15:04:05.000")
	},
}).Parse(pagesHTML)))

// lines is text of several lines, for a page to show as they are.
type lines string

// shown is a value as a page shows it.
func shown(v any) string {
	if text, ok := v.(lines); ok {
		return bounds.ShownLines(string(text), "")
	}
	return bounds.Shown(fmt.Sprint(v))
}

// allShown puts every value that the templates write through shown, so that none of them can
// forget to.
func allShown(all *template.Template) *template.Template {
	for _, t := range all.Templates() {
		if t.Tree != nil {
			showNodes(t.Tree.Root)
		}
	}
	return all
}

// showNodes adds shown to the end of each action below a node that writes something.
func showNodes(n parse.Node) {
	var branch *parse.BranchNode
	switch n := n.(type) {
	case *parse.ListNode:
		if n != nil {
			for _, inner := range n.Nodes {
				showNodes(inner)
			}
		}
	case *parse.ActionNode:
		if len(n.Pipe.Decl) == 0 {
			last := parse.NewIdentifier("shown").SetPos(n.Pos)
			n.Pipe.Cmds = append(n.Pipe.Cmds, &parse.CommandNode{NodeType: parse.NodeCommand, Pos: n.Pos,
				Args: []parse.Node{last}})
		}
	case *parse.IfNode:
		branch = &n.BranchNode
	case *parse.RangeNode:
		branch = &n.BranchNode
	case *parse.WithNode:
		branch = &n.BranchNode
	}
	if branch != nil {
		showNodes(branch.List)
		showNodes(branch.ElseList)
	}
}

// page is GET /: what is open, what is late, what waits for a person, the newest orders.
// The pages only show; what changes something has the API and the command line, where a
// reason is given.
func (c *console) page(ctx echo.Context) error {
	rctx := ctx.Request().Context()
	backlog, err := c.Orders.Backlog(rctx)
	if err != nil {
		return err
	}
	orders, _, err := c.Orders.List(rctx, order.Filter{Limit: defaultRows})
	if err != nil {
		return err
	}
	failing, dead, err := c.Failures.Count(rctx)
	if err != nil {
		return err
	}
	refunds, err := c.Refunds.RefundBacklog(rctx)
	if err != nil {
		return err
	}
	open, err := c.Reconciler.Open(rctx)
	if err != nil {
		return err
	}
	var differences int64
	for _, n := range open.Count {
		differences += n
	}
	var ship shipping.Backlog
	if c.Shipments != nil {
		if ship, err = c.Shipments.Backlog(rctx); err != nil {
			return err
		}
	}
	return show(ctx, "index", map[string]any{
		"Ships": c.Shipments != nil, "Ship": ship,
		"Simulated":   c.Simulated,
		"Backlog":     backlogView{openCounts(backlog), backlog.Overdue, backlog.Oldest},
		"Orders":      orders,
		"Dead":        dead,
		"Failing":     failing,
		"Approve":     refunds.Count[order.RefundStatePending],
		"ApproveFen":  refunds.Amount[order.RefundStatePending],
		"Stuck":       refunds.Count[order.RefundStateRefused] + refunds.Count[order.RefundStateAbnormal],
		"Differences": differences,
	})
}

// backlogView is order.Backlog with states as text: the function index of html/template
// looks a key up only by its own type.
type backlogView struct {
	Open    map[string]int64
	Overdue int64
	Oldest  time.Time
}

// openCounts gives the numbers of open orders by the text of their state.
func openCounts(b order.Backlog) map[string]int64 {
	counts := map[string]int64{}
	for st, n := range b.Open {
		counts[string(st)] = n
	}
	return counts
}

// orderPage is one order with everything that happened to it.
func (c *console) orderPage(ctx echo.Context) error {
	o, err := c.Orders.Find(ctx.Request().Context(), ctx.Param("no"))
	if err != nil {
		return err
	}
	events, err := c.Orders.Timeline(ctx.Request().Context(), o.OrderNo)
	if err != nil {
		return err
	}
	return show(ctx, "order", map[string]any{"Simulated": c.Simulated, "Order": o, "Events": events})
}

// show answers with a page. It is rendered first, so that an error in a template is a 500
// and no half page.
func show(ctx echo.Context, name string, data any) error {
	var b bytes.Buffer
	if err := pages.ExecuteTemplate(&b, name, data); err != nil {
		return err
	}
	ctx.Response().Header().Set("Content-Security-Policy", strictCSP)
	ctx.Response().Header().Set("X-Content-Type-Options", "nosniff")
	return ctx.HTMLBlob(http.StatusOK, b.Bytes())
}
