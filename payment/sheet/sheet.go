// Package sheet writes tables for spreadsheets, as CSV and as workbooks (XLSX), row by row: what
// people of a shop open beside their own figures. It knows no table: who has one gives its rows.
package sheet

import (
	"archive/zip"
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/xuri/excelize/v2"

	"orderd/migrations/bounds"
	"orderd/payment"
)

// Cell is one value: text, or yuan, or a count. One is set; a cell without any is empty text.
// Money must not be text there, or a sum over its column would be 0.
type Cell struct {
	Text  string
	Yuan  *payment.Fen
	Count *int64
	// Number is a decimal with more places than yuan have, "0.60000"; "" for none.
	Number string
	// Exact says that a program reads Text out of a CSV file again, every character of it: ReadExact.
	Exact bool
	// OneOf is what can be put into the cell in a workbook, which offers it as a list; nil:
	// anything.
	OneOf []string
}

// Text is a cell of text.
func Text(s string) Cell { return Cell{Text: s} }

// Exact is a cell of text that ReadExact gives again from a CSV file, whatever it has.
func Exact(s string) Cell { return Cell{Text: s, Exact: true} }

// Yuan is a cell of money.
func Yuan(f payment.Fen) Cell { return Cell{Yuan: &f} }

// Number is a cell of a decimal.
func Number(decimal string) Cell { return Cell{Number: decimal} }

// Count is a cell of a number.
func Count(n int64) Cell { return Cell{Count: &n} }

// Table is what is written. Rows end with the first error, which is that of the writer.
type Table struct {
	Name   string   // of the sheet in a workbook
	Header []string // names of the columns, for programs
	Titles []string // what stands in a workbook instead, for people too; nil: Header
	Wide   []string // of Header, the columns whose text is long
	Rows   iter.Seq2[[]Cell, error]
}

// Rows gives rows that cannot fail.
func Rows(rows iter.Seq[[]Cell]) iter.Seq2[[]Cell, error] {
	return func(yield func([]Cell, error) bool) {
		for row := range rows {
			if !yield(row, nil) {
				return
			}
		}
	}
}

// WriteCSV writes a table: a BOM, so that a spreadsheet reads UTF-8, and long numbers behind a
// tab, so that it keeps their digits as text. Text that it would take for a formula gets an
// apostrophe (OWASP, "CSV Injection"): a reason or an id may come from outside.
func WriteCSV(w io.Writer, t Table) error {
	buffer := bufio.NewWriter(w) // so that what fails at its first row writes nothing
	_, _ = buffer.WriteString("\ufeff")
	out := csv.NewWriter(buffer)
	if err := out.Write(t.Header); err != nil {
		return err
	}
	for row, err := range t.Rows {
		if err != nil {
			return err
		}
		line := make([]string, len(row))
		for i, c := range row {
			switch {
			case c.Yuan != nil:
				line[i] = c.Yuan.String()
			case c.Count != nil:
				line[i] = strconv.FormatInt(*c.Count, 10)
			case c.Number != "":
				line[i] = c.Number
			case c.Exact:
				line[i] = csvExact(c.Text)
			default:
				line[i] = csvText(c.Text)
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
func csvText(s string) string { return marked(bounds.Shown(s), "=+-@\t\r") }

// marked puts the apostrophe before a text that begins with one of formulas, and the tab before a long number.
func marked(s, formulas string) string {
	switch {
	case s == "":
		return s
	case strings.ContainsRune(formulas, rune(s[0])):
		return "'" + s
	case len(s) > 15 && payment.MadeOf(s, payment.Digits):
		return "\t" + s
	}
	return s
}

// csvExact is csvText of which nothing is lost: a backslash of the text is two, and an apostrophe that it begins with
// has the mark too.
func csvExact(s string) string {
	return marked(bounds.Shown(strings.ReplaceAll(s, `\`, `\\`)), "=+-@'\t\r")
}

// ReadExact gives the text of a cell that Exact made; false for a cell that it never makes.
func ReadExact(cell string) (string, bool) {
	rest, is := strings.CutPrefix(cell, "'")
	if !is {
		rest = strings.TrimPrefix(cell, "\t")
	}
	var b strings.Builder
	for rest != "" {
		r, wide, after, err := strconv.UnquoteChar(rest, 0)
		if err != nil {
			return "", false
		}
		if wide || r < utf8.RuneSelf {
			b.WriteRune(r)
		} else {
			b.WriteByte(byte(r)) //nolint:gosec // UnquoteChar: a byte of a text that is not UTF-8
		}
		rest = after
	}
	return b.String(), csvExact(b.String()) == cell
}

// Formats of cells that Excel has built in (ECMA-376, 18.8.30), by their numbers.
const (
	formatYuan = 4  // #,##0.00
	formatText = 49 // @
)

// ErrTooLong: a table has more rows, or more text, than a sheet of a workbook can have.
var ErrTooLong = errors.New("more than a sheet of a workbook holds")

// limits are those of a sheet.
type limits struct {
	rows  int // the header is one
	bytes int // of its XML
	spill int // after so many rows there must be room for temporary files
}

// sheetLimits are those of every spreadsheet program: 2^20 rows (ECMA-376, 18.3.1.73 has the
// grammar of their names, Excel the number), and 4 GiB of XML, beyond which the archive would
// need a form that Excel takes for damage. The library keeps 16 MiB of a sheet in memory, which
// 10,000 rows of ours are about; what is more goes into temporary files, or silently stays in
// memory where none can be made.
var sheetLimits = limits{rows: excelize.TotalRows, bytes: math.MaxUint32, spill: 10_000}

// WriteXLSX writes a workbook with a sheet for each table: numbers of orders as text, money as
// numbers of yuan. The header of each sheet stays in sight, and can be filtered by. Nothing is
// written to w before all rows are there, so that an error of theirs is not the end of half a
// file: most of many are in temporary files, some 1.5 KB a row, and go from there into w. Memory
// is that of some 16 MiB of each sheet, however many rows there are. Errors match ErrTooLong,
// and are those of the rows and of w.
func WriteXLSX(w io.Writer, tables ...Table) error { return writeXLSX(w, sheetLimits, tables) }

// writeXLSX is WriteXLSX within limits.
func writeXLSX(w io.Writer, most limits, tables []Table) (err error) {
	b, err := newWorkbook(tables)
	if err != nil {
		return fmt.Errorf("write the workbook: %w", err)
	}
	b.most = most
	defer func() { err = errors.Join(err, b.file.Close()) }()
	for i := range tables {
		if err = b.sheet(&tables[i]); err != nil {
			return fmt.Errorf("write the workbook: %w", err)
		}
	}
	// The library would make the whole archive in memory and then write it. It goes into w piece
	// by piece instead, and its buffer stays empty.
	b.file.SetZipWriter(func(io.Writer) excelize.ZipWriter { return zip.NewWriter(w) })
	if _, err = b.file.WriteTo(io.Discard); err != nil {
		return fmt.Errorf("write the workbook: %w", err)
	}
	return nil
}

// workbook is a file with the formats of its cells.
type workbook struct {
	file             *excelize.File
	yuan, text, bold int
	most             limits
}

// newWorkbook makes one with a sheet for each table, empty.
func newWorkbook(tables []Table) (*workbook, error) {
	b := &workbook{file: excelize.NewFile()}
	var err error
	for i := range tables {
		if i == 0 {
			err = b.file.SetSheetName(b.file.GetSheetName(0), tables[0].Name)
		} else if err == nil {
			_, err = b.file.NewSheet(tables[i].Name)
		}
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

// sheet writes one sheet row by row.
func (b *workbook) sheet(t *Table) error {
	s, err := b.file.NewStreamWriter(t.Name)
	if err != nil {
		return err
	}
	err = errors.Join(
		s.SetPanes(&excelize.Panes{Freeze: true, YSplit: 1, TopLeftCell: "A2", ActivePane: "bottomLeft"}),
		t.widths(s))
	if err != nil {
		return err
	}
	titles := make([]any, len(t.Header))
	for i, title := range t.titles() {
		titles[i] = excelize.Cell{StyleID: b.bold, Value: title}
	}
	if err := s.SetRow("A1", titles); err != nil {
		return err
	}
	last, size, lists := 1, 0, offers{}
	for row, err := range t.Rows {
		if err != nil {
			return err
		}
		last++
		values := make([]any, len(row))
		for i, c := range row {
			values[i] = b.cell(c)
			lists.add(i, last, c.OneOf)
			size += cellBytes + escaped*len(c.Text)
		}
		if last > b.most.rows || size > b.most.bytes {
			return fmt.Errorf("%w: %s has more than %d rows", ErrTooLong, t.Name, last-2)
		}
		if last == b.most.spill {
			if err := spills(); err != nil {
				return err
			}
		}
		if err := s.SetRow(at(1, last), values); err != nil {
			return err
		}
	}
	if err := b.file.AutoFilter(t.Name, "A1:"+at(len(t.Header), last), nil); err != nil {
		return err
	}
	if err := lists.write(b.file, t.Name); err != nil {
		return err
	}
	return s.Flush()
}

// offers are the cells of a sheet that offer a list, by column and list: those that follow one
// another are one range.
type offers map[string]*offer

// offer is the cells of a column that offer the same list.
type offer struct {
	options []string
	column  int // from 1
	ranges  [][2]int
}

// add notes that a cell, by its column from 0 and its row from 1, offers a list.
func (o offers) add(column, row int, options []string) {
	if options == nil {
		return
	}
	key := strconv.Itoa(column) + "\x00" + strings.Join(options, "\x00")
	if o[key] == nil {
		o[key] = &offer{options: options, column: column + 1}
	}
	of := o[key]
	if n := len(of.ranges); n > 0 && of.ranges[n-1][1] == row-1 {
		of.ranges[n-1][1] = row
		return
	}
	of.ranges = append(of.ranges, [2]int{row, row})
}

// write adds the lists to a sheet. What is none of them is not refused by the program, which a
// paste would go around: whoever reads the sheet judges it.
func (o offers) write(f *excelize.File, sheet string) error {
	for _, key := range slices.Sorted(maps.Keys(o)) {
		of := o[key]
		list := excelize.NewDataValidation(true)
		var refs []string
		for _, r := range of.ranges {
			refs = append(refs, at(of.column, r[0])+":"+at(of.column, r[1]))
		}
		list.Sqref = strings.Join(refs, " ")
		if err := list.SetDropList(of.options); err != nil {
			return err
		}
		if err := f.AddDataValidation(sheet, list); err != nil {
			return err
		}
	}
	return nil
}

// Sizes in the XML of a sheet, in bytes: cellBytes is a cell without its text, escaped the most
// that a byte of text becomes.
const (
	cellBytes = 100
	escaped   = 6
)

// spills makes sure that temporary files can be made.
func spills() error {
	f, err := os.CreateTemp("", "orderd-sheet-")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// titles are what stands over the columns in a workbook.
func (t *Table) titles() []string {
	if t.Titles == nil {
		return t.Header
	}
	return t.Titles
}

// at names a cell by its column and row, both from 1.
func at(column, row int) string {
	name, _ := excelize.ColumnNumberToName(column) // a sheet of ours has few
	return name + strconv.Itoa(row)
}

// widths of columns, in characters: those of numbers of orders and payments show them whole.
const (
	leastWidth = 12
	wideWidth  = 36
)

// widths makes the columns as wide as what stands in them.
func (t *Table) widths(s *excelize.StreamWriter) error {
	for i, title := range t.titles() {
		width := max(leastWidth, len(title)+2) // a Chinese character has three bytes and two places
		if slices.Contains(t.Wide, t.Header[i]) {
			width = wideWidth
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
func (b *workbook) cell(c Cell) any {
	switch {
	case c.Yuan != nil:
		if yuan, err := strconv.ParseFloat(c.Yuan.String(), 64); err == nil {
			return excelize.Cell{StyleID: b.yuan, Value: yuan}
		}
	case c.Count != nil:
		return *c.Count
	case c.Number != "":
		if n, err := strconv.ParseFloat(c.Number, 64); err == nil {
			return n
		}
	}
	return excelize.Cell{StyleID: b.text, Value: bounds.Shown(c.Text)}
}
