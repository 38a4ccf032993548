package reconcile

import (
	"encoding/csv"
	"fmt"
	"io"
	"strings"
	"time"

	"orderd/migrations/bounds"
	"orderd/payment"
)

// cell is one value of a spreadsheet: text, or yuan, or a count. One is set; a cell
// without any is empty text. Money must not be text there, or a sum over its column
// would be 0.
type cell struct {
	text  string
	yuan  *payment.Fen
	count *int64
}

// exportHeader names the columns of both exports. Spreadsheets of finance departments rely on
// names and order.
func exportHeader() []string {
	return []string{"bill_date", "bill_type", "type", "label", "status", "order_no", "out_trade_no", "transaction_id",
		"ref", "bill_line", "bill_yuan", "ours_yuan", "difference_yuan", "bill_state", "ours_state", "opened_at",
		"resolution", "resolved_by", "resolved_why", "resolved_at", "id", "source", "given_by", "waits_for",
		"other_currency"}
}

// headerInChinese names the columns for whoever reads them, in the order of exportHeader.
func headerInChinese() []string {
	return []string{"账单日期", "账单类型", "类型", "说明", "状态", "订单号", "商户订单号", "微信支付单号", "单号", "账单行",
		"账单金额(元)", "本方金额(元)", "差额(元)", "账单状态", "本方状态", "发现时间", "处理方式", "处理人", "处理原因", "处理时间",
		"差异号", "来源", "提供人", "等待账单", "其他币种"}
}

// exportRow gives the cells of a difference, in the order of exportHeader. A side that does
// not exist has no amount: 0.00 would say that it is there.
func exportRow(d *Difference) []cell {
	t := func(s string) cell { return cell{text: s} }
	y := func(f payment.Fen) cell { return cell{yuan: &f} }
	bill, ours := y(d.BillFen), y(d.OursFen)
	if d.BillState == "" && d.BillFen == 0 {
		bill = cell{}
	}
	if d.OursState == "" && d.OursFen == 0 {
		ours = cell{}
	}
	return []cell{t(d.Date), t(string(d.Type)), t(string(d.Kind)), t(d.Kind.Label()), t(string(d.Status)),
		t(d.OrderNo), t(d.OutTradeNo), t(d.TransactionID), t(d.Ref), {count: &d.Line}, bill, ours,
		y(d.Diff()), t(d.BillState), t(d.OursState), t(stamp(d.OpenedAt)), t(d.Resolution), t(d.ResolvedBy),
		t(d.ResolvedWhy), t(stamp(d.ResolvedAt)), t(d.ID), t(string(d.Source)), t(d.GivenBy), t(d.WaitsFor),
		t(otherCurrency(&d.Facts))}
}

// otherCurrency is what a row of the bill says that is not in yuan, "398.00 HKD".
func otherCurrency(f *Facts) string {
	if f.Foreign == 0 {
		return ""
	}
	return f.Foreign.String() + " " + f.Currency
}

// stamp prints a time, "" for none.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(time.RFC3339)
}

// WriteCSV writes differences for a spreadsheet: a BOM, so that it reads UTF-8, and
// numbers of orders behind a tab, so that it keeps their 28 digits as text. Text that
// it would take for a formula gets an apostrophe (OWASP, "CSV Injection"): a reason or
// an id may come from outside.
func WriteCSV(w io.Writer, all []Difference) error {
	if _, err := io.WriteString(w, "\ufeff"); err != nil {
		return err
	}
	out := csv.NewWriter(w)
	if err := out.Write(exportHeader()); err != nil {
		return err
	}
	for i := range all {
		var line []string
		for _, c := range exportRow(&all[i]) {
			switch {
			case c.yuan != nil:
				line = append(line, c.yuan.String())
			case c.count != nil:
				line = append(line, fmt.Sprint(*c.count))
			default:
				line = append(line, csvText(c.text))
			}
		}
		if err := out.Write(line); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

// csvText keeps a spreadsheet from misreading text, and its reader too (bounds.Shown): a
// formula gets an apostrophe before it, a number of more than 15 digits (all that a
// spreadsheet keeps) a tab.
func csvText(s string) string {
	switch s = bounds.Shown(s); {
	case s == "":
		return s
	case strings.ContainsRune("=+-@\t\r", rune(s[0])):
		return "'" + s
	case len(s) > 15 && payment.MadeOf(s, payment.Digits):
		return "\t" + s
	}
	return s
}
