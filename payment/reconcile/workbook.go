package reconcile

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/xuri/excelize/v2"

	"orderd/migrations/bounds"
)

// The sheets of a workbook.
const (
	summarySheet     = "Summary"
	differencesSheet = "Differences"
)

// Formats of cells that Excel has built in (ECMA-376, 18.8.30), by their numbers.
const (
	formatYuan = 4  // #,##0.00
	formatText = 49 // @
)

// WriteXLSX writes a workbook: the bridge of the day, and every difference with
// typed cells: numbers of orders as text, money as numbers of yuan. The header of each
// sheet stays in sight, and can be filtered by.
func WriteXLSX(w io.Writer, r Result, all []Difference) (err error) {
	book, err := newWorkbook()
	if err != nil {
		return fmt.Errorf("write the workbook: %w", err)
	}
	defer func() { err = errors.Join(err, book.file.Close()) }()
	head := []string{"", "payments", "payments_yuan", "refunds", "refunds_yuan"}
	err = book.sheet(summarySheet, head, summaryRows(r))
	if err == nil {
		err = book.sheet(differencesSheet, workbookHeader(), func(yield func([]cell) bool) {
			for i := range all {
				if !yield(exportRow(&all[i])) {
					return
				}
			}
		})
	}
	if err == nil {
		_, err = book.file.WriteTo(w)
	}
	if err != nil {
		return fmt.Errorf("write the workbook: %w", err)
	}
	return nil
}

// workbookHeader names the columns for people and for programs: "账单日期 bill_date".
func workbookHeader() []string {
	titles := headerInChinese()
	for i, name := range exportHeader() {
		titles[i] += " " + name
	}
	return titles
}

// workbook is a file with the formats of its cells.
type workbook struct {
	file             *excelize.File
	yuan, text, bold int
}

// newWorkbook makes one with its two sheets, empty.
func newWorkbook() (*workbook, error) {
	b := &workbook{file: excelize.NewFile()}
	err := b.file.SetSheetName(b.file.GetSheetName(0), summarySheet)
	if err == nil {
		_, err = b.file.NewSheet(differencesSheet)
	}
	for _, format := range []struct {
		into *int
		of   excelize.Style
	}{
		{&b.yuan, excelize.Style{NumFmt: formatYuan}}, {&b.text, excelize.Style{NumFmt: formatText}},
		{&b.bold, excelize.Style{Font: &excelize.Font{Bold: true}}},
	} {
		if err == nil {
			*format.into, err = b.file.NewStyle(&format.of)
		}
	}
	if err != nil {
		return nil, errors.Join(err, b.file.Close())
	}
	return b, nil
}

// sheet writes one sheet row by row: of a large one most is in a temporary file, not in memory.
func (b *workbook) sheet(name string, header []string, rows func(yield func([]cell) bool)) error {
	s, err := b.file.NewStreamWriter(name)
	if err != nil {
		return err
	}
	err = errors.Join(
		s.SetPanes(&excelize.Panes{Freeze: true, YSplit: 1, TopLeftCell: "A2", ActivePane: "bottomLeft"}),
		b.widths(s, header))
	if err != nil {
		return err
	}
	titles := make([]any, len(header))
	for i, title := range header {
		titles[i] = excelize.Cell{StyleID: b.bold, Value: title}
	}
	last := 1
	if err := s.SetRow("A1", titles); err != nil {
		return err
	}
	for cells := range rows {
		last++
		values := make([]any, len(cells))
		for i, c := range cells {
			values[i] = b.cell(c)
		}
		if err := s.SetRow(at(1, last), values); err != nil {
			return err
		}
	}
	if err := b.file.AutoFilter(name, "A1:"+at(len(header), last), nil); err != nil {
		return err
	}
	return s.Flush()
}

// at names a cell by its column and row, both from 1.
func at(column, row int) string {
	name, _ := excelize.ColumnNumberToName(column) // a sheet of ours has few
	return name + strconv.Itoa(row)
}

// widths of columns, in characters: those of numbers of orders and payments show them whole.
const (
	leastWidth  = 12
	numberWidth = 36
)

// widths makes the columns as wide as what stands in them.
func (b *workbook) widths(s *excelize.StreamWriter, header []string) error {
	for i, title := range header {
		width := max(leastWidth, len(title)+2) // a Chinese character has three bytes and two places
		switch name := title[strings.LastIndexByte(title, ' ')+1:]; name {
		case "", "order_no", "out_trade_no", "transaction_id", "ref", "id", "resolved_why":
			width = numberWidth
		}
		if err := s.SetColWidth(i+1, i+1, float64(width)); err != nil {
			return err
		}
	}
	return nil
}

// cell gives a value as a spreadsheet has it. There numbers are binary64: the one nearest to the
// decimal, of which it shows two places. Text is never a number nor a formula; what cannot be
// seen, and what XML cannot have, is written out (bounds.Shown).
func (b *workbook) cell(c cell) any {
	switch {
	case c.yuan != nil:
		if yuan, err := strconv.ParseFloat(c.yuan.String(), 64); err == nil {
			return excelize.Cell{StyleID: b.yuan, Value: yuan}
		}
	case c.count != nil:
		return *c.count
	}
	return excelize.Cell{StyleID: b.text, Value: bounds.Shown(c.text)}
}

// summaryRows are the rows of the first sheet: the bridge of the day.
func summaryRows(r Result) func(yield func([]cell) bool) {
	row := func(name string, p, f Sum) []cell {
		return []cell{{text: name}, {count: &p.Count}, {yuan: &p.Fen}, {count: &f.Count}, {yuan: &f.Fen}}
	}
	p, f := r.Payments, r.Refunds
	rows := [][]cell{
		{{text: r.Date + " " + string(r.Type)}, {text: "sha1 " + r.SHA1}, {text: "source " + string(r.Source)},
			{text: "given by " + r.GivenBy}, {text: "confirmed by " + r.ConfirmedBy}},
		row("ours", Sum{p.OursCount, p.OursFen}, Sum{f.OursCount, f.OursFen}),
		row("+ 长款", p.BillOnly, f.BillOnly),
		row("- 短款", p.LocalOnly, f.LocalOnly),
		row("± 金额不符", p.Amounts, f.Amounts),
		row("+ 重复", p.Duplicates, f.Duplicates),
		row("+ 日切", p.AcrossBill, f.AcrossBill),
		row("- 日切", p.AcrossOurs, f.AcrossOurs),
		row("+ 其他业务", p.Other, f.Other),
		row("= bill", Sum{p.BillCount, p.BillFen}, Sum{f.BillCount, f.BillFen}),
		{{text: "matched"}, {count: &p.Matched}, {}, {count: &f.Matched}},
		{{text: "healed"}, {count: &r.Healed}},
		{{text: "open"}, {count: &r.Open}},
		{{text: "waiting"}, {count: &r.Pending}},
		{{text: "fees"}, {text: r.Totals.Fees()}},
	}
	return func(yield func([]cell) bool) {
		for _, cells := range rows {
			if !yield(cells) {
				return
			}
		}
	}
}
