package reconcile

import (
	"io"
	"time"

	"orderd/payment/sheet"
)

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
func exportRow(d *Difference) []sheet.Cell {
	t, y := sheet.Text, sheet.Yuan
	bill, ours := y(d.BillFen), y(d.OursFen)
	if d.BillState == "" && d.BillFen == 0 {
		bill = sheet.Cell{}
	}
	if d.OursState == "" && d.OursFen == 0 {
		ours = sheet.Cell{}
	}
	return []sheet.Cell{t(d.Date), t(string(d.Type)), t(string(d.Kind)), t(d.Kind.Label()), t(string(d.Status)),
		t(d.OrderNo), t(d.OutTradeNo), t(d.TransactionID), t(d.Ref), sheet.Count(d.Line), bill, ours,
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

// table is the differences as a table.
func table(all []Difference) sheet.Table {
	return sheet.Table{Name: differencesSheet, Header: exportHeader(), Titles: workbookHeader(),
		Wide: []string{"order_no", "out_trade_no", "transaction_id", "ref", "id", "resolved_why"},
		Rows: sheet.Rows(func(yield func([]sheet.Cell) bool) {
			for i := range all {
				if !yield(exportRow(&all[i])) {
					return
				}
			}
		})}
}

// WriteCSV writes differences for a spreadsheet: sheet.WriteCSV.
func WriteCSV(w io.Writer, all []Difference) error { return sheet.WriteCSV(w, table(all)) }
