package reconcile

import (
	"io"

	"orderd/payment/sheet"
)

// The sheets of a workbook.
const (
	summarySheet     = "Summary"
	differencesSheet = "Differences"
)

// WriteXLSX writes a workbook: the bridge of the day, and every difference with
// typed cells: sheet.WriteXLSX.
func WriteXLSX(w io.Writer, r Result, all []Difference) error {
	summary := sheet.Table{Name: summarySheet, Wide: []string{""},
		Header: []string{"", "payments", "payments_yuan", "refunds", "refunds_yuan"}, Rows: sheet.Rows(summaryRows(r))}
	return sheet.WriteXLSX(w, summary, table(all))
}

// workbookHeader names the columns for people and for programs: "账单日期 bill_date".
func workbookHeader() []string {
	titles := headerInChinese()
	for i, name := range exportHeader() {
		titles[i] += " " + name
	}
	return titles
}

// summaryRows are the rows of the first sheet: the bridge of the day.
func summaryRows(r Result) func(yield func([]sheet.Cell) bool) {
	row := func(name string, p, f Sum) []sheet.Cell {
		return []sheet.Cell{{Text: name}, {Count: &p.Count}, {Yuan: &p.Fen}, {Count: &f.Count}, {Yuan: &f.Fen}}
	}
	p, f := r.Payments, r.Refunds
	rows := [][]sheet.Cell{
		{{Text: r.Date + " " + string(r.Type)}, {Text: "sha1 " + r.SHA1}, {Text: "source " + string(r.Source)},
			{Text: "given by " + r.GivenBy}, {Text: "confirmed by " + r.ConfirmedBy}},
		row("ours", Sum{p.OursCount, p.OursFen}, Sum{f.OursCount, f.OursFen}),
		row("+ 长款", p.BillOnly, f.BillOnly),
		row("- 短款", p.LocalOnly, f.LocalOnly),
		row("± 金额不符", p.Amounts, f.Amounts),
		row("+ 重复", p.Duplicates, f.Duplicates),
		row("+ 日切", p.AcrossBill, f.AcrossBill),
		row("- 日切", p.AcrossOurs, f.AcrossOurs),
		row("+ 其他业务", p.Other, f.Other),
		row("= bill", Sum{p.BillCount, p.BillFen}, Sum{f.BillCount, f.BillFen}),
		{{Text: "matched"}, {Count: &p.Matched}, {}, {Count: &f.Matched}},
		{{Text: "healed"}, {Count: &r.Healed}},
		{{Text: "open"}, {Count: &r.Open}},
		{{Text: "waiting"}, {Count: &r.Pending}},
		{{Text: "fees"}, {Text: r.Totals.Fees()}},
	}
	return func(yield func([]sheet.Cell) bool) {
		for _, cells := range rows {
			if !yield(cells) {
				return
			}
		}
	}
}
