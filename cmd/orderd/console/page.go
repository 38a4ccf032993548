package console

import (
	"bytes"
	"html/template"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/order"
	"orderd/payment"
)

func fen(n int64) payment.Fen { return payment.Fen(n) }

// strictCSP allows this page's own style and nothing else.
const strictCSP = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

var pages = template.Must(template.New("").Funcs(template.FuncMap{
	"yuan": func(f payment.Fen) string { return f.String() },
	"clock": func(t time.Time) string {
		if t.IsZero() {
			return "–"
		}
		return t.Format("01-02 15:04:05.000")
	},
}).Parse(`{{define "head"}}<!doctype html><html lang="en"><meta charset="utf-8"><title>orderd</title>
<style>body{font:14px/1.5 system-ui,sans-serif;margin:2em auto;max-width:70em;padding:0 1em}table{border-collapse:collapse;width:100%}
td,th{padding:.3em .6em;text-align:left;border-bottom:1px solid #ddd}.n{text-align:right;font-variant-numeric:tabular-nums}
.badge{padding:.1em .5em;border-radius:.3em;color:#fff;background:#b00}.sim{background:#080}code{font-size:13px}</style>
<h1><a href="/">orderd</a> {{if .Simulated}}<span class="badge sim">SIM</span>{{else}}<span class="badge">LIVE</span>{{end}}</h1>{{end}}
{{define "index"}}{{template "head" .}}
<p>pending <b>{{index .Backlog.Open "pending"}}</b> · closing <b>{{index .Backlog.Open "closing"}}</b> · overdue <b>{{.Backlog.Overdue}}</b>
{{if not .Backlog.Oldest.IsZero}}(oldest since {{clock .Backlog.Oldest}}){{end}} · tasks that failed: dead <b>{{.Dead}}</b>, tried again <b>{{.Failing}}</b></p>
<p>needs you: <a href="/ui/refunds">refunds to approve <b>{{.Approve}}</b> ({{yuan .ApproveFen}})</a> · refused or abnormal <b>{{.Stuck}}</b>
· <a href="/ui/reconciliations">open differences <b>{{.Differences}}</b></a></p>
<table><tr><th>order</th><th>state</th><th class="n">amount</th><th>created</th><th>pay until</th></tr>
{{range .Orders}}<tr><td><a href="/ui/orders/{{.OrderNo}}"><code>{{.OrderNo}}</code></a></td><td>{{.State}}</td>
<td class="n">{{yuan .Total}}</td><td>{{clock .CreatedAt}}</td><td>{{clock .ExpireAt}}</td></tr>{{else}}<tr><td colspan="5">no orders yet</td></tr>{{end}}</table>{{end}}
{{define "order"}}{{template "head" .}}
<h2><code>{{.Order.OrderNo}}</code> {{.Order.State}} · {{yuan .Order.Total}} yuan · v{{.Order.Version}}</h2>
<table><tr><th>SKU</th><th class="n">quantity</th><th class="n">price</th></tr>
{{range .Order.Items}}<tr><td>{{.SkuID}}</td><td class="n">{{.Quantity}}</td><td class="n">{{yuan .UnitPrice}}</td></tr>{{end}}</table>
{{with .Order.Payment}}<p>payment <code>{{.TransactionID}}</code> {{yuan .Total}} {{.Outcome}} {{.Reason}}</p>{{end}}
{{range .Order.Refunds}}<p>refund {{yuan .Amount}} <code>{{.OutRefundNo}}</code> <b>{{.State}}</b> ({{.Reason}}, asked {{clock .CreatedAt}}) {{.Problem}}</p>{{end}}
<h3>Timeline</h3><table><tr><th class="n">#</th><th>at</th><th>actor</th><th>event</th><th>from → to</th><th>cause</th><th>detail</th><th class="n">took</th></tr>
{{range .Events}}<tr><td class="n">{{.Seq}}</td><td>{{clock .At}}</td><td>{{.Actor.Type}} {{.Actor.ID}}</td><td>{{.Event}}</td><td>{{.From}} → {{.To}}</td>
<td>{{.Cause.Type}} {{.Cause.ID}}</td><td>{{range $k, $v := .Detail}}{{$k}}={{$v}} {{end}}</td><td class="n">{{.Took}}</td></tr>{{end}}</table>{{end}}
{{define "refunds"}}{{template "head" .}}<h2>Refunds under way</h2>
<table><tr><th>refund</th><th>state</th><th class="n">amount</th><th class="n">of</th><th>why</th><th>asked by</th><th>asked</th><th>problem</th></tr>
{{range .Refunds}}<tr><td><a href="/ui/orders/{{.OrderNo}}"><code>{{.OutRefundNo}}</code></a></td><td>{{.State}}</td><td class="n">{{yuan .Amount}}</td><td class="n">{{yuan .PaymentTotal}}</td>
<td>{{.Reason}}</td><td>{{.Requester.Type}} {{.Requester.ID}}</td><td>{{clock .CreatedAt}}</td><td>{{.Problem}}</td></tr>{{else}}<tr><td colspan="8">none</td></tr>{{end}}</table>
<p>Decide with <code>orderd refund approve|reject|retry|cancel|by-hand NO</code> or the admin API.</p>{{end}}
{{define "diffs"}}<table><tr><th>type</th><th></th><th>status</th><th>order</th><th>number</th><th class="n">ours</th><th class="n">bill</th><th class="n">difference</th><th>resolution</th></tr>
{{range .Differences}}<tr><td>{{.Kind}}</td><td>{{.Kind.Label}}</td><td>{{.Status}}</td><td>{{if .OrderNo}}<a href="/ui/orders/{{.OrderNo}}"><code>{{.OrderNo}}</code></a>{{end}}</td>
<td><code>{{.Ref}}</code></td><td class="n">{{yuan .OursFen}} {{.OursState}}</td><td class="n">{{yuan .BillFen}} {{.BillState}}</td><td class="n">{{yuan .Diff}}</td>
<td>{{.Resolution}} {{.ResolvedBy}} {{.ResolvedWhy}}</td></tr>{{else}}<tr><td colspan="9">none</td></tr>{{end}}</table>{{end}}
{{define "books"}}{{template "head" .}}<h2>Reconciliation</h2>
<table><tr><th>day</th><th>bill</th><th>state</th><th class="n">bill, yuan</th><th class="n">ours, yuan</th><th class="n">open</th><th class="n">healed</th><th>problem</th></tr>
{{range .Days}}<tr><td><a href="/ui/reconciliations/{{.ID}}">{{.Date}}</a></td><td>{{.Type}}</td><td>{{.State}}</td>
{{with .Result}}<td class="n">{{yuan .Payments.BillFen}} − {{yuan .Refunds.BillFen}}</td><td class="n">{{yuan .Payments.OursFen}} − {{yuan .Refunds.OursFen}}</td><td class="n">{{.Open}}</td><td class="n">{{.Healed}}</td>{{else}}<td></td><td></td><td></td><td></td>{{end}}
<td>{{.Problem}}</td></tr>{{else}}<tr><td colspan="8">no day yet</td></tr>{{end}}</table><h3>Open differences</h3>{{template "diffs" .}}{{end}}
{{define "day"}}{{template "head" .}}<h2>{{.Day.Date}} {{.Day.Type}} {{.Day.State}}</h2><p>{{.Day.Problem}}</p><pre>{{.Text}}</pre>
{{if .Day.SHA1}}<p><a href="/admin/v1/reconciliations/{{.Day.ID}}/bill">the bill as WeChat Pay made it</a>, SHA-1 <code>{{.Day.SHA1}}</code></p>{{end}}{{template "diffs" .}}{{end}}`))

// page is the first page: what is open, what is late, the newest orders.
func (c *console) page(ctx echo.Context) error {
	rctx := ctx.Request().Context()
	backlog, err := c.Orders.Backlog(rctx)
	if err != nil {
		return err
	}
	orders, _, err := c.Orders.List(rctx, order.Filter{Limit: 50})
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
	open, err := c.Books.Open(rctx)
	if err != nil {
		return err
	}
	var differences int64
	for _, n := range open.Count {
		differences += n
	}
	return show(ctx, "index", map[string]any{"Approve": refunds.Count[order.RefundStatePending], "ApproveFen": refunds.Amount[order.RefundStatePending],
		"Stuck": refunds.Count[order.RefundStateRefused] + refunds.Count[order.RefundStateAbnormal], "Differences": differences, "Simulated": c.Simulated, "Backlog": backlogView{openCounts(backlog), backlog.Overdue, backlog.Oldest}, "Orders": orders, "Dead": dead, "Failing": failing})
}

type backlogView struct {
	Open    map[string]int64
	Overdue int64
	Oldest  time.Time
}

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

func show(ctx echo.Context, name string, data any) error {
	var b bytes.Buffer
	if err := pages.ExecuteTemplate(&b, name, data); err != nil {
		return err
	}
	ctx.Response().Header().Set("Content-Security-Policy", strictCSP)
	ctx.Response().Header().Set("X-Content-Type-Options", "nosniff")
	return ctx.HTMLBlob(http.StatusOK, b.Bytes())
}
