package reconcile

import (
	"fmt"
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

// monthColumns are those of a month's file: the name for programs, and that for people.
var monthColumns = [][2]string{{"bill_date", "账单日期"}, {"state", "状态"}, {"paid_count", "付款笔数"},
	{"paid_yuan", "付款(元)"}, {"refund_count", "退款笔数"}, {"refund_yuan", "退款(元)"}, {"bill_yuan", "账单净收(元)"},
	{"ours_yuan", "本方净收(元)"}, {"fees_yuan", "手续费(元)"}, {"net_yuan", "扣费后净额(元)"}, {"open", "未处理"},
	{"pending_next_day", "待次日"}, {"closed_by", "关账人"}, {"closed_at", "关账时间"}, {"bill_sha1", "账单SHA-1"},
	{"manifest_sha256", "证明SHA-256"}, {"problem", "问题"}}

// monthTable is a month as a table: a row for each of its days, whether it was reconciled or not,
// and one for the sums, which says how many days they lack.
func monthTable(m *Month) sheet.Table {
	t := sheet.Table{Name: "Month", Wide: []string{"bill_sha1", "manifest_sha256"},
		Rows: sheet.Rows(func(yield func([]sheet.Cell) bool) {
			for i := range m.Days {
				d := &m.Days[i]
				row := append([]sheet.Cell{sheet.Text(d.Date), sheet.Text(string(d.State))}, dayCells(d)...)
				var by, at, manifest string
				if d.Closing != nil {
					if by, at, manifest = d.Closing.Who, stamp(d.Closing.At), d.Closing.Manifest; d.Closing.Reopened {
						by += " (REOPENED)"
					}
				}
				if !yield(append(row, sheet.Text(by), sheet.Text(at), sheet.Text(d.SHA1), sheet.Text(manifest),
					sheet.Text(d.Problem))) {
					return
				}
			}
			state := "SUM"
			if m.Missing > 0 {
				state = fmt.Sprintf("SUM, %d DAYS MISSING", m.Missing)
			}
			row := append([]sheet.Cell{sheet.Text(m.Month), sheet.Text(state)}, figureCells(&m.Sums)...)
			yield(append(row, sheet.Cell{}, sheet.Cell{}, sheet.Cell{}, sheet.Cell{}, sheet.Cell{}))
		})}
	for _, c := range monthColumns {
		t.Header, t.Titles = append(t.Header, c[0]), append(t.Titles, c[1]+" "+c[0])
	}
	return t
}

// dayCells are the figures of a day; one without any has what is open of it alone.
func dayCells(d *MonthDay) []sheet.Cell {
	row := figureCells(d.Figures)
	if d.Figures == nil && d.Open+d.Pending > 0 {
		row[len(row)-2], row[len(row)-1] = sheet.Count(d.Open), sheet.Count(d.Pending)
	}
	return row
}

// figureCells are the cells of figures, empty without any. Fees and net have more places than an
// amount.
func figureCells(f *Figures) []sheet.Cell {
	if f == nil {
		return make([]sheet.Cell, 10)
	}
	return []sheet.Cell{sheet.Count(f.PaidCount), sheet.Yuan(f.PaidFen), sheet.Count(f.RefundCount),
		sheet.Yuan(f.RefundFen), sheet.Yuan(f.BillFen()), sheet.Yuan(f.OursFen()), sheet.Number(f.Fees()),
		sheet.Number(f.Net()), sheet.Count(f.Open), sheet.Count(f.Pending)}
}

// WriteMonthCSV writes a month for a spreadsheet: sheet.WriteCSV.
func WriteMonthCSV(w io.Writer, m *Month) error { return sheet.WriteCSV(w, monthTable(m)) }

// WriteMonthXLSX writes a month as a workbook: sheet.WriteXLSX.
func WriteMonthXLSX(w io.Writer, m *Month) error { return sheet.WriteXLSX(w, monthTable(m)) }
