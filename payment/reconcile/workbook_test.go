package reconcile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/thedatashed/xlsxreader"
	"github.com/xuri/excelize/v2"

	"orderd/payment"
	"orderd/payment/sheet"
)

// workbookOf is a workbook of a day.
func workbookOf(t *testing.T, all []Difference) []byte {
	t.Helper()
	var b bytes.Buffer
	res := Result{Date: "2026-11-20", Type: payment.BillAll, SHA1: "ab", Payments: Bridge{BillFen: 14900, BillCount: 1}}
	if err := WriteXLSX(&b, res, all); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// column is where a column of the export stands.
func column(name string) int { return slices.Index(exportHeader(), name) }

// A number of 28 digits that is a number has 15 right ones, a sum over money that is text is 0, and a formula that a
// buyer wrote would be run. Read by somebody else's reader.
func TestXLSXKeepsItsTypes(t *testing.T) {
	book, err := xlsxreader.NewReader(workbookOf(t, sample()))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(book.Sheets, []string{summarySheet, differencesSheet}) {
		t.Fatal(book.Sheets)
	}
	var rows [][]xlsxreader.Cell
	for row := range book.ReadRows(differencesSheet) {
		if row.Error != nil {
			t.Fatal(row.Error)
		}
		rows = append(rows, row.Cells)
	}
	if len(rows) != 2 {
		t.Fatal(rows)
	}
	of := func(name string) xlsxreader.Cell {
		i := slices.IndexFunc(rows[1], func(c xlsxreader.Cell) bool { return c.ColumnIndex() == column(name) })
		if i < 0 {
			t.Fatal(name, "has no cell")
		}
		return rows[1][i]
	}
	for _, want := range []struct {
		name, value string
		as          xlsxreader.CellType
	}{
		{"ref", "4200001234202611201234567890", xlsxreader.TypeString},
		{"order_no", "01JD4ZKX0000000000000000AB", xlsxreader.TypeString},
		{"bill_yuan", "149", xlsxreader.TypeNumerical},
		{"bill_line", "181", xlsxreader.TypeNumerical},
		{"id", "0123", xlsxreader.TypeString},
		{"label", "长款", xlsxreader.TypeString},
		{"resolved_why", `=HYPERLINK("http://evil","x") <&>`, xlsxreader.TypeString},
	} {
		if c := of(want.name); c.Value != want.value || c.Type != want.as {
			t.Errorf("%s is %q, a %s", want.name, c.Value, c.Type)
		}
	}
}

// Of a long list nobody would know which column is which, and numbers of orders would be cut off.
func TestXLSXCanBeWorkedIn(t *testing.T) {
	book, err := excelize.OpenReader(bytes.NewReader(workbookOf(t, slices.Repeat(sample(), 3))))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = book.Close() }()
	panes, err := book.GetPanes(differencesSheet)
	if err != nil || !panes.Freeze || panes.YSplit != 1 {
		t.Errorf("the header scrolls away: %+v, %v", panes, err)
	}
	for _, name := range []string{"order_no", "out_trade_no", "transaction_id"} {
		letter, err := excelize.ColumnNumberToName(column(name) + 1)
		if err != nil {
			t.Fatal(err)
		}
		width, err := book.GetColWidth(differencesSheet, letter)
		if err != nil || width < 32 {
			t.Errorf("%s has a width of %v, %v", name, width, err)
		}
	}
	wanted := "$A$1:$" + strings.TrimRight(at(len(exportHeader()), 4), "4") + "$4"
	if !slices.ContainsFunc(book.GetDefinedName(), func(d excelize.DefinedName) bool {
		return d.Name == "_xlnm._FilterDatabase" && d.Scope == differencesSheet &&
			strings.HasSuffix(d.RefersTo, wanted)
	}) {
		t.Errorf("no filter over all rows (%s): %+v", wanted, book.GetDefinedName())
	}
	style, err := book.GetCellStyle(differencesSheet, at(column("bill_yuan")+1, 2))
	if err != nil {
		t.Fatal(err)
	}
	if s, err := book.GetStyle(style); err != nil || s.NumFmt != formatYuan {
		t.Errorf("money is shown as %+v, %v", s, err)
	}
}

// foreignReaders is the folder of programs that read what this service writes. .ci/run installs what they need.
const foreignReaders = "../../.ci/readers"

// A file that one program opens and another calls damaged is a day of finance lost: found with exceljs and
// read-excel-file, which need what Excel does without.
func TestXLSXIsReadByOthers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "day.xlsx")
	if err := os.WriteFile(file, workbookOf(t, sample()), 0o600); err != nil {
		t.Fatal(err)
	}
	for reader, sheets := range readByOthers(t, file) {
		rows := sheets[differencesSheet]
		if len(rows) != 2 || len(sheets[summarySheet]) != 16 {
			t.Fatalf("%s: %v", reader, sheets)
		}
		for name, want := range map[string]any{"ref": "4200001234202611201234567890", "bill_yuan": 149.0,
			"bill_line": 181.0, "label": "长款", "resolved_why": `=HYPERLINK("http://evil","x") <&>`} {
			if got := rows[1][column(name)]; got != want {
				t.Errorf("%s reads %s as %#v", reader, name, got)
			}
		}
		if got := rows[1][column("ours_yuan")]; got != nil && got != "" {
			t.Errorf("%s reads %#v on the side that does not exist", reader, got)
		}
		if header := fmt.Sprint(rows[0]...); header != fmt.Sprint(anyOf(workbookHeader())...) {
			t.Errorf("%s reads the header %s", reader, header)
		}
	}
}

// readByOthers is what each of the other readers makes of a workbook: rows by sheet.
func readByOthers(t *testing.T, file string) map[string]map[string][][]any {
	t.Helper()
	if _, err := os.Stat(filepath.Join(foreignReaders, "node_modules")); err != nil {
		if os.Getenv("ORDERD_TEST_REQUIRE") == "1" {
			t.Fatal("the readers are not installed: run npm ci in .ci/readers: ", err)
		}
		t.Skip("the readers are not installed: run npm ci in .ci/readers (Node 20)")
	}
	out, err := exec.CommandContext(t.Context(), "node", filepath.Join(foreignReaders, "workbook.mjs"), file).Output()
	if err != nil {
		t.Fatal(err, stderrOf(err))
	}
	var read map[string]map[string][][]any
	if err := json.Unmarshal(out, &read); err != nil {
		t.Fatal(err, string(out))
	}
	if len(read) != 3 {
		t.Fatal(read)
	}
	return read
}

// The workbook that finance fills in has lists in its cells, and that of a month fees with five places: both have to
// open where finance opens them.
func TestFinancesWorkbooksAreReadByOthers(t *testing.T) {
	at := time.Date(2026, 11, 23, 4, 0, 0, 0, time.UTC)
	r := &Reconciler{cfg: Config{Now: func() time.Time { return at }}}
	all := sample()
	all[0].allowed, all[0].OpenedAt = 1|8, at.AddDate(0, 0, -3)
	m := &Month{Month: "2026-11", Missing: 1, Days: []MonthDay{{Date: "2026-11-01", State: DayMissing},
		{Date: "2026-11-02", State: DayBalanced, Figures: &Figures{PaidFen: 10_000, FeeX100000: 53_70012}}},
		Sums: Figures{PaidFen: 10_000, FeeX100000: 53_70012}}
	file := filepath.Join(t.TempDir(), "work.xlsx")
	var b bytes.Buffer
	if err := sheet.WriteXLSX(&b, r.workTable(all), helpTable(), monthTable(m)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	for reader, sheets := range readByOthers(t, file) {
		work, month := sheets[workSheet], sheets["Month"]
		if len(work) != 2 || len(month) != 4 {
			t.Fatalf("%s: %v", reader, sheets)
		}
		of := func(rows [][]any, row int, name string) any {
			i := slices.IndexFunc(rows[0], func(v any) bool { return strings.HasSuffix(fmt.Sprint(v), " "+name) })
			return rows[row][i]
		}
		for name, want := range map[string]any{"ref": "4200001234202611201234567890", "age_days": 3.0,
			"allowed": "APPLY_PAYMENT WRITE_OFF", colID: all[0].ID} {
			if got := of(work, 1, name); got != want {
				t.Errorf("%s reads %s as %#v", reader, name, got)
			}
		}
		for name, want := range map[string]any{"fees_yuan": 53.70012, "net_yuan": 46.29988, "paid_yuan": 100.0} {
			if got := of(month, 2, name); got != want {
				t.Errorf("%s reads %s as %#v", reader, name, got)
			}
		}
		if got := of(month, 3, "state"); got != "SUM, 1 DAYS MISSING" {
			t.Errorf("%s reads the sums as %#v", reader, got)
		}
	}
}

// anyOf is a slice as one of any.
func anyOf(texts []string) []any {
	all := make([]any, len(texts))
	for i, s := range texts {
		all[i] = s
	}
	return all
}

// stderrOf is what a program said before it failed.
func stderrOf(err error) string {
	if e, ok := err.(*exec.ExitError); ok { //nolint:errorlint // Output gives no other
		return string(e.Stderr)
	}
	return ""
}

// formatYuan is #,##0.00 (ECMA-376, 18.8.30).
const formatYuan = 4

// at names a cell by its column and row, both from 1.
func at(column, row int) string {
	name, _ := excelize.CoordinatesToCellName(column, row)
	return name
}
