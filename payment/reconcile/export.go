package reconcile

import (
	"archive/zip"
	"encoding/csv"
	"encoding/xml"
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

// exportRow gives the cells of a difference, in the order of exportHeader.
func exportRow(d *Difference) []cell {
	t := func(s string) cell { return cell{text: s} }
	y := func(f payment.Fen) cell { return cell{yuan: &f} }
	return []cell{t(d.Date), t(string(d.Type)), t(string(d.Kind)), t(d.Kind.Label()), t(string(d.Status)),
		t(d.OrderNo), t(d.OutTradeNo), t(d.TransactionID), t(d.Ref), {count: &d.Line}, y(d.BillFen), y(d.OursFen),
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

// The fixed parts of a workbook with two sheets, after ECMA-376 (Office Open XML):
// a zip of XML parts. The styles are general, text, yuan with two decimals, and a bold
// header. Written by hand: the libraries that can do this can do a hundred things more
// and are a tenth of the binary.
const (
	// ooxml begins the names of all namespaces; relTypes those of the kinds of links
	// between parts, contentTypes those of the kinds of spreadsheet parts.
	ooxml        = "http://schemas.openxmlformats.org/"
	relTypes     = ooxml + "officeDocument/2006/relationships"
	contentTypes = "application/vnd.openxmlformats-officedocument.spreadsheetml."

	// xlsxTypes says what kind each part of the zip is, xlsxRels where the workbook is,
	// xlsxBookRels which file each rId of xlsxBook means. A part that is missing from
	// one of them is not opened, and Excel calls the file damaged.
	xlsxTypes = xml.Header + `<Types xmlns="` + ooxml + `package/2006/content-types">` +
		`<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>` +
		`<Default Extension="xml" ContentType="application/xml"/>` +
		`<Override PartName="/xl/workbook.xml" ContentType="` + contentTypes + `sheet.main+xml"/>` +
		`<Override PartName="/xl/worksheets/sheet1.xml" ContentType="` + contentTypes + `worksheet+xml"/>` +
		`<Override PartName="/xl/worksheets/sheet2.xml" ContentType="` + contentTypes + `worksheet+xml"/>` +
		`<Override PartName="/xl/styles.xml" ContentType="` + contentTypes + `styles+xml"/></Types>`
	xlsxRels = xml.Header + `<Relationships xmlns="` + ooxml + `package/2006/relationships">` +
		`<Relationship Id="rId1" Type="` + relTypes + `/officeDocument" Target="xl/workbook.xml"/></Relationships>`
	xlsxBook = xml.Header + `<workbook xmlns="` + ooxml + `spreadsheetml/2006/main" xmlns:r="` + relTypes + `">` +
		`<sheets><sheet name="Summary" sheetId="1" r:id="rId1"/><sheet name="Differences" sheetId="2" r:id="rId2"/>` +
		`</sheets></workbook>`
	xlsxBookRels = xml.Header + `<Relationships xmlns="` + ooxml + `package/2006/relationships">` +
		`<Relationship Id="rId1" Type="` + relTypes + `/worksheet" Target="worksheets/sheet1.xml"/>` +
		`<Relationship Id="rId2" Type="` + relTypes + `/worksheet" Target="worksheets/sheet2.xml"/>` +
		`<Relationship Id="rId3" Type="` + relTypes + `/styles" Target="styles.xml"/></Relationships>`
	// xlsxStyles: a cell's s is its place in cellXfs, from 0: general, text (format 49,
	// "@"), yuan (format 4, "#,##0.00"), bold. The two fills must be there, because
	// readers take the first two for none and gray125 whatever stands there.
	xlsxStyles = xml.Header + `<styleSheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">` +
		`<fonts count="2"><font><sz val="11"/><name val="Calibri"/></font><font><b/><sz val="11"/>` +
		`<name val="Calibri"/></font></fonts>` +
		`<fills count="2"><fill><patternFill patternType="none"/></fill><fill><patternFill patternType="gray125"/>` +
		`</fill></fills>` +
		`<borders count="1"><border/></borders><cellStyleXfs count="1"><xf/></cellStyleXfs>` +
		`<cellXfs count="4"><xf/><xf numFmtId="49" applyNumberFormat="1"/><xf numFmtId="4" applyNumberFormat="1"/>` +
		`<xf fontId="1" applyFont="1"/></cellXfs></styleSheet>`
	// sheetHead and sheetTail stand around the rows of a sheet. Cells have no address:
	// their order is their place.
	sheetHead = xml.Header + `<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>`
	sheetTail = `</sheetData></worksheet>`
)

// sheetBuffer is how much of a sheet is gathered before it is compressed, in bytes.
const sheetBuffer = 64 << 10

// WriteXLSX writes a workbook: the bridge of the day, and every difference with
// typed cells: numbers of orders as text, money as numbers of yuan.
func WriteXLSX(w io.Writer, r Result, all []Difference) error {
	z := zip.NewWriter(w)
	for _, part := range []struct{ name, body string }{
		{"[Content_Types].xml", xlsxTypes}, {"_rels/.rels", xlsxRels}, {"xl/workbook.xml", xlsxBook},
		{"xl/_rels/workbook.xml.rels", xlsxBookRels}, {"xl/styles.xml", xlsxStyles},
	} {
		f, err := z.Create(part.name)
		if err == nil {
			_, err = io.WriteString(f, part.body)
		}
		if err != nil {
			return fmt.Errorf("write the workbook: %w", err)
		}
	}
	head := []string{"", "payments", "payments_yuan", "refunds", "refunds_yuan"}
	if err := writeSheet(z, "xl/worksheets/sheet1.xml", head, summaryRows(r)); err != nil {
		return err
	}
	if err := writeSheet(z, "xl/worksheets/sheet2.xml", exportHeader(), func(yield func([]cell) bool) {
		for i := range all {
			if !yield(exportRow(&all[i])) {
				return
			}
		}
	}); err != nil {
		return err
	}
	return z.Close()
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
		{{text: "fees"}, {text: decimal(r.Totals.FeeX100000, 5)}},
	}
	return func(yield func([]cell) bool) {
		for _, cells := range rows {
			if !yield(cells) {
				return
			}
		}
	}
}

// writeSheet writes one sheet, row by row, so that a large export is never in memory as a
// whole.
func writeSheet(z *zip.Writer, name string, header []string, rows func(yield func([]cell) bool)) error {
	f, err := z.Create(name)
	if err != nil {
		return fmt.Errorf("write the workbook: %w", err)
	}
	var b strings.Builder
	b.WriteString(sheetHead + "<row>")
	for _, h := range header {
		writeText(&b, h, 3)
	}
	b.WriteString("</row>")
	for cells := range rows {
		b.WriteString("<row>")
		for _, c := range cells {
			switch {
			case c.yuan != nil:
				b.WriteString(`<c s="2"><v>` + c.yuan.String() + `</v></c>`)
			case c.count != nil:
				fmt.Fprintf(&b, `<c><v>%d</v></c>`, *c.count)
			default:
				writeText(&b, c.text, 1)
			}
		}
		b.WriteString("</row>")
		if b.Len() > sheetBuffer {
			if _, err := io.WriteString(f, b.String()); err != nil {
				return fmt.Errorf("write the workbook: %w", err)
			}
			b.Reset()
		}
	}
	b.WriteString(sheetTail)
	if _, err := io.WriteString(f, b.String()); err != nil {
		return fmt.Errorf("write the workbook: %w", err)
	}
	return nil
}

// writeText writes a cell of text. style is the place of its format in xlsxStyles. The
// text stands in the cell (inlineStr) and not in the table of shared strings, which
// would have to be known before the first row is written. What cannot be seen, and what XML
// cannot have, is written out (bounds.Shown).
func writeText(b *strings.Builder, s string, style int) {
	fmt.Fprintf(b, `<c s="%d" t="inlineStr"><is><t xml:space="preserve">`, style)
	_ = xml.EscapeText(b, []byte(bounds.Shown(s))) // a Builder does not fail
	b.WriteString(`</t></is></c>`)
}
