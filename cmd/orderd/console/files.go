package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/order"
	"orderd/order/orderhttp"
	"orderd/payment/sheet"
)

// csvType is the media type of a table as text (RFC 7111); xlsxType that of a workbook.
const csvType = "text/csv; charset=utf-8"

// asFile reports that a request wants a file and not JSON, by Accept, and which: its media type
// and the extension of its name.
func asFile(r *http.Request) (media, ext string, file bool) {
	accept := r.Header.Get(echo.HeaderAccept)
	switch {
	case strings.Contains(accept, "text/csv"):
		return csvType, "csv", true
	case strings.Contains(accept, xlsxType):
		return xlsxType, "xlsx", true
	}
	return "", "", false
}

// fileOf is which file a page's address names: its media type and extension.
func fileOf(ctx echo.Context) (media, ext string) {
	if strings.HasSuffix(ctx.Path(), ".xlsx") {
		return xlsxType, "xlsx"
	}
	return csvType, "csv"
}

// Bounds of workbooks.
const (
	// workbooksAtOnce is how many are made and sent at a time: each takes 16 MiB of memory and
	// more of the temporary folder (see sheet.WriteXLSX), and reads every row behind it.
	workbooksAtOnce = 2
	// workbookRetry is when who is refused comes again: a big one takes a minute or so.
	workbookRetry = 30 * time.Second
)

// sendFile sends what write writes, a file of a media type that the client may take its time
// for. What goes wrong before the first byte is a problem as everywhere; afterwards the
// connection is cut (orderhttp.Edge), so that nobody takes the beginning for the whole. narrow
// is the parameter by which there are fewer rows, when they are too many for a workbook.
func (c *console) sendFile(ctx echo.Context, media, name, narrow string, write func(io.Writer) error) error {
	if media == xlsxType {
		select {
		case c.workbooks <- struct{}{}:
			defer func() { <-c.workbooks }()
		default:
			return &orderhttp.Failure{Code: orderhttp.CodeRateLimited, RetryAfter: workbookRetry, Text: orderhttp.Text{
				En: "Other workbooks are being made. Come again, or take text/csv.",
				Zh: "正在生成其他工作簿，请稍后再试，或改用 text/csv。"}}
		}
	}
	h := ctx.Response().Header()
	h.Set(echo.HeaderContentType, media)
	h.Set(echo.HeaderContentDisposition, fmt.Sprintf(`attachment; filename="%s"`, name))
	err := write(ctx.Response())
	if err != nil && !ctx.Response().Committed { // a problem has its own
		h.Del(echo.HeaderContentType)
		h.Del(echo.HeaderContentDisposition)
	}
	if errors.Is(err, sheet.ErrTooLong) {
		return invalid("?"+narrow, "NEEDS_RANGE", "it is more than a sheet of a workbook holds: "+
			"narrow it down, or take text/csv")
	}
	return err
}

// sendTable is sendFile of one table.
func (c *console) sendTable(ctx echo.Context, media, ext, narrow string, t sheet.Table) error {
	write := func(w io.Writer) error { return sheet.WriteCSV(w, t) }
	if media == xlsxType {
		write = func(w io.Writer) error { return sheet.WriteXLSX(w, t) }
	}
	return c.sendFile(ctx, media, strings.ToLower(t.Name)+"."+ext, narrow, write)
}

// orderTable is the orders of a filter, all of them, read page by page.
func (c *console) orderTable(ctx context.Context, f order.Filter) sheet.Table {
	return sheet.Table{Name: "Orders",
		Header: []string{"order_no", "state", "close_reason", "customer_id", "amount_yuan", "items", "created_at",
			"time_expire", "due_at", "remark", "attach", "version", "shop", "reference",
			"state_zh", "close_reason_zh", "created_at_beijing", "time_expire_beijing", "due_at_beijing"},
		Titles: []string{"订单号 order_no", "状态 state", "关闭原因 close_reason", "客户 customer_id",
			"金额(元) amount_yuan", "商品 items", "下单时间(UTC) created_at", "支付截止(UTC) time_expire",
			"下次处理(UTC) due_at", "备注 remark", "附加数据 attach", "版本 version", "店铺 shop", "店铺单号 reference",
			"状态说明 state_zh", "关闭原因说明 close_reason_zh", "下单时间(北京 UTC+8) created_at_beijing",
			"支付截止(北京 UTC+8) time_expire_beijing", "下次处理(北京 UTC+8) due_at_beijing"},
		Wide: []string{"order_no", "items", "customer_id", "reference"},
		Rows: c.orderRows(ctx, f)}
}

// orderRows reads a page when the one before is written.
func (c *console) orderRows(ctx context.Context, f order.Filter) iter.Seq2[[]sheet.Cell, error] {
	return func(yield func([]sheet.Cell, error) bool) {
		for f.Limit = maxRows; ; {
			page, next, err := c.Orders.List(ctx, f)
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range page {
				if !yield(orderCells(&page[i]), nil) {
					return
				}
			}
			if f.Cursor = next; next == "" {
				return
			}
		}
	}
}

// orderCells are the cells of an order, in the order of orderTable.
func orderCells(o *order.Order) []sheet.Cell {
	var items []string
	for _, it := range o.Items {
		items = append(items, fmt.Sprintf("%s × %d", it.SkuID, it.Quantity))
	}
	return []sheet.Cell{sheet.Text(o.OrderNo), sheet.Text(string(o.State)), sheet.Text(string(o.CloseReason)),
		sheet.Text(o.CustomerID), sheet.Yuan(o.Total), sheet.Text(strings.Join(items, "; ")), timeCell(o.CreatedAt),
		timeCell(o.ExpireAt), timeCell(o.DueAt), sheet.Text(o.Remark), sheet.Text(o.Attach), sheet.Count(o.Version),
		sheet.Text(o.Shop), sheet.Text(o.Reference), sheet.Text(zh.look("order", o.State).Word),
		closeCell(o.CloseReason), zoneCell(o.CreatedAt), zoneCell(o.ExpireAt), zoneCell(o.DueAt)}
}

// closeCell is why an order was closed, in words; empty for one that was not.
func closeCell(why order.CloseReason) sheet.Cell {
	if why == "" {
		return sheet.Cell{}
	}
	return sheet.Text(zh.word("close." + string(why)))
}

// zoneCell is a time of Beijing, as people of the shop have it, behind those of UTC that scripts read; empty for none.
func zoneCell(t time.Time) sheet.Cell {
	if t.IsZero() {
		return sheet.Cell{}
	}
	return sheet.Text(clock(t))
}

// timeCell is a time in UTC, empty for none.
func timeCell(t time.Time) sheet.Cell {
	if t.IsZero() {
		return sheet.Cell{}
	}
	return sheet.Text(t.UTC().Format(time.RFC3339))
}
