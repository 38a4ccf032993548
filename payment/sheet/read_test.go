package sheet

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/xuri/excelize/v2"
)

var readMost = Most{Rows: 100, Columns: 10, Bytes: 1 << 20, Cell: 100}

// packed is a workbook of parts that somebody has put together by hand.
func packed(t *testing.T, sheet, texts string) []byte {
	t.Helper()
	return packedBook(t, `<sheet name="Work" r:id="rId7"/>`, sheet, texts)
}

// packedBook is packed with other names of sheets.
func packedBook(t *testing.T, sheets, sheet, texts string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, text := range map[string]string{
		"xl/workbook.xml": `<workbook xmlns:r="r"><sheets>` + sheets + `</sheets></workbook>`,
		"xl/_rels/workbook.xml.rels": `<Relationships><Relationship Id="rId7" Type="x/worksheet" ` +
			`Target="/xl/worksheets/a.xml"/><Relationship Id="rId8" Type="x/sharedStrings" Target="texts.xml"/>` +
			`</Relationships>`,
		"xl/worksheets/a.xml": "<worksheet><sheetData>" + sheet + "</sheetData></worksheet>",
		"xl/texts.xml":        "<sst>" + texts + "</sst>",
	} {
		w, err := z.Create(name)
		if err == nil {
			_, err = w.Write([]byte(text))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// What people fill in comes back from Excel, WPS and LibreOffice, each with its own way to write a text; a cell that is
// read as that of the next column is somebody else's money.
func TestAWorkbookIsRead(t *testing.T) {
	file := packed(t, `<row r="1"><c r="A1" t="s"><v>0</v></c><c r="C1" t="inlineStr"><is><t>in</t></is></c></row>`+
		`<row r="3"><c r="B3" t="str"><f>A1&amp;"x"</f><v>one x</v></c><c><v>12.5</v></c>`+
		`<c r="ZZ3"><v>far</v></c></row>`,
		`<si><r><t>on</t></r><r><t>e</t></r><rPh sb="0" eb="1"><t>spoken</t></rPh></si>`)
	rows, err := ReadXLSX(file, "Work", readMost)
	if err != nil {
		t.Fatal(err)
	}
	want := [][]Read{{{Text: "one"}, {}, {Text: "in"}}, nil, {{}, {Text: "one x", Formula: true}, {Text: "12.5"}}}
	if got := fmt.Sprint(rows); got != fmt.Sprint(want) {
		t.Errorf("%v, not %v", got, want)
	}
	var b bytes.Buffer
	table := Table{Name: "Work", Header: []string{"a", "b"}, Rows: Rows(func(yield func([]Cell) bool) {
		yield([]Cell{Text("4200001234202611201234567890"), {OneOf: []string{"x", "y"}}})
		yield([]Cell{Text("=1+1"), {OneOf: []string{"x", "y"}}})
	})}
	if err := WriteXLSX(&b, table); err != nil {
		t.Fatal(err)
	}
	rows, err = ReadXLSX(b.Bytes(), "Work", readMost)
	if err != nil || len(rows) != 3 || rows[1][0].Text != "4200001234202611201234567890" ||
		rows[2][0] != (Read{Text: "=1+1"}) {
		t.Errorf("%v, %v", rows, err)
	}
	book, err := excelize.OpenReader(bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = book.Close() }()
	lists, err := book.GetDataValidations("Work")
	if err != nil || len(lists) != 1 || lists[0].Sqref != "B2:B3" || !strings.Contains(lists[0].Formula1, "x,y") {
		t.Errorf("the lists: %+v, %v", lists, err)
	}
}

// Excel writes a row for each that somebody has coloured, to the end of the sheet, and a formula that fills many cells
// into the first of them: such a sheet is not too long, and such a cell is no word of a person.
func TestRowsAndFormulasOfExcelAreRead(t *testing.T) {
	file := packed(t, `<row r="1"><c r="A1"><f t="array" ref="A1:B2">X()</f><v>1</v></c><c r="B1"><v>2</v></c>`+
		`<c r="C1"><v>3</v></c></row><row r="2"><c r="A2"/><c r="B2"><v>4</v></c><c r="C2">`+
		`<f t="array" ref="C2">Y()</f><v>5</v></c></row><row r="3"><c r="A3"><v>6</v></c><c r="B3">`+
		`<f t="shared" ref="A3:B3" si="0">A1</f><v>7</v></c></row><row r="5" ht="20"><c r="A5" s="3"/>`+
		`<c r="B5" t="inlineStr"><is><t/></is></c></row>`+
		strings.Repeat(`<row><c s="3"/></row>`, 1_000)+`<row r="1048576"><c r="A1048576" s="3"/></row>`, "")
	rows, err := ReadXLSX(file, "Work", readMost)
	want := [][]Read{{{"1", true}, {"2", true}, {"3", false}}, {{"", true}, {"4", true}, {"5", true}},
		{{"6", false}, {"7", true}}}
	if got := fmt.Sprint(rows); err != nil || got != fmt.Sprint(want) {
		t.Errorf("%v, %v", got, err)
	}
}

// A file of a few kilobytes must not become gigabytes, nor a row of a million hold the program up.
func TestAWorkbookIsReadWithinBounds(t *testing.T) {
	cell := func(ref string) string { return `<c r="` + ref + `" t="inlineStr"><is><t>x</t></is></c>` }
	for name, c := range map[string]struct {
		file []byte
		want error
	}{
		"unpacks to much":   {packed(t, strings.Repeat(" ", 2<<20), ""), ErrTooLong},
		"texts without end": {packed(t, `<row r="1"/>`, strings.Repeat("<si/>", 400_000)), ErrTooLong},
		"many rows":         {packed(t, strings.Repeat("<row>"+cell("A1")+"</row>", 101), ""), ErrTooLong},
		"deep":              {packed(t, strings.Repeat("<x>", 15)+strings.Repeat("</x>", 15), ""), ErrTooLong},
		"a tag without end": {packed(t, `<row`+strings.Repeat(` a=""`, 60_000)+`/>`, ""), ErrTooLong},
		"formulas on all": {packed(t, `<row r="1">`+strings.Repeat(`<c><f t="array" ref="A1:B2"/></c>`, 1_001)+`</row>`,
			""), ErrTooLong},
		"beyond all rows":    {packed(t, `<row r="1048577"/>`, ""), ErrNoWorkbook},
		"a row of a million": {packed(t, `<row r="1048576">`+cell("A1048576")+`</row>`, ""), ErrTooLong},
		"a long text": {packed(t, `<row r="1"><c r="A1"><v>`+strings.Repeat("x", 101)+`</v></c></row>`, ""),
			ErrTooLong},
		"rows backwards":   {packed(t, `<row r="2"/><row r="1"/>`, ""), ErrNoWorkbook},
		"a text not there": {packed(t, `<row r="1"><c r="A1" t="s"><v>9</v></c></row>`, ""), ErrNoWorkbook},
		"no XML":           {packed(t, `<row`, ""), ErrNoWorkbook},
		"a cell in no row": {packed(t, cell("A1"), ""), ErrNoWorkbook},
		"an entity": {packed(t, `<row r="1"><c r="A1"><v>&lol;</v></c></row>`, ""),
			ErrNoWorkbook},
	} {
		if _, err := ReadXLSX(c.file, "Work", readMost); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ReadXLSX(packed(t, "", ""), "Other", readMost); !errors.Is(err, ErrNoWorkbook) {
		t.Errorf("no such sheet: %v", err)
	}
	var many []string
	for i := range 500 {
		many = append(many, fmt.Sprintf(`<sheet name="another %d"/>`, i))
	}
	if _, err := ReadXLSX(packedBook(t, strings.Join(many, ""), "", ""), "Work", readMost); err == nil ||
		len(err.Error()) > 500 || !strings.Contains(err.Error(), "500") || !strings.Contains(err.Error(), "another 9") {
		t.Errorf("many sheets: %v", err)
	}
	far := packed(t, `<row r="1">`+cell("XFD1")+cell("A1")+`</row>`, "")
	if rows, err := ReadXLSX(far, "Work", readMost); err != nil || len(rows[0]) > readMost.Columns {
		t.Errorf("a far column: %d cells, %v", len(rows[0]), err)
	}
}

// What a workbook of some kilobytes becomes in memory is bounded: empty texts that nobody refers to, and the largest
// one that is read.
func TestASmallWorkbookDoesNotBecomeALargeOne(t *testing.T) {
	most := Most{Rows: 2001, Columns: 64, Bytes: 16 << 20, Cell: 8 << 10}
	many := packed(t, "", strings.Repeat("<si/>", mostTexts+1))
	if _, err := ReadXLSX(many, "Work", most); !errors.Is(err, ErrTooLong) {
		t.Errorf("too many texts: %v", err)
	}
	row := `<row>` + strings.Repeat(`<c t="s"><v>0</v></c>`, 64) + `</row>`
	file := packed(t, strings.Repeat(row, 2001), "<si><t>"+strings.Repeat("x", 8<<10)+"</t></si>"+
		strings.Repeat("<si/>", mostTexts-1))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	rows, err := ReadXLSX(file, "Work", most)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if err != nil || len(rows) != 2001 || len(rows[0]) != 64 || len(file) > 64<<10 {
		t.Fatalf("%d rows of %d bytes, %v", len(rows), len(file), err)
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 16<<20 {
		t.Errorf("it is %d bytes in memory", grown)
	}
	runtime.KeepAlive(rows)
}
