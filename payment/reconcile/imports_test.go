package reconcile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xuri/excelize/v2"

	"orderd/migrations/sqldb/sqldbtest"
	"orderd/payment"
	"orderd/payment/reconcile"
	"orderd/payment/sheet"
)

// filled is the workbook of what is open, with what somebody has put into it: of the row of a number, by column.
func (d *desk) filled(t *testing.T, fill map[string]map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := d.WriteWork(t.Context(), &b, reconcile.DifferenceFilter{Status: reconcile.StatusOpen}); err != nil {
		t.Fatal(err)
	}
	return refilled(t, b.Bytes(), fill)
}

// refilled fills a workbook in and saves it, by another program's way.
func refilled(t *testing.T, file []byte, fill map[string]map[string]string) []byte {
	t.Helper()
	book, err := excelize.OpenReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = book.Close() }()
	rows, err := book.GetRows("Work")
	if err != nil {
		t.Fatal(err)
	}
	column := map[string]int{}
	for i, title := range rows[0] {
		column[title[strings.LastIndex(title, " ")+1:]] = i
	}
	for i, row := range rows[1:] {
		for name, text := range fill[row[column["ref"]]] {
			cell, err := excelize.CoordinatesToCellName(column[name]+1, i+2)
			if err != nil {
				t.Fatal(err)
			}
			if formula, is := strings.CutPrefix(text, "="); is {
				err = book.SetCellFormula("Work", cell, formula)
			} else {
				err = book.SetCellValue("Work", cell, text)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	var b bytes.Buffer
	if err := book.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// steps are the outcomes of an import, "REF WHAT OUTCOME", in their order.
func (d *desk) steps(t *testing.T, done reconcile.Imported) (all []string) {
	t.Helper()
	for _, row := range done.Rows {
		x, err := d.Difference(t.Context(), row.ID)
		if err != nil {
			x.Ref = row.ID
		}
		for _, s := range row.Steps {
			all = append(all, fmt.Sprintf("%s %s %s", x.Ref, s.What, s.Outcome))
		}
	}
	slices.Sort(all)
	return all
}

// imported gives a workbook back.
func (d *desk) imported(t *testing.T, file []byte, apply bool, who reconcile.Cause) reconcile.Imported {
	t.Helper()
	done, err := d.Import(t.Context(), reconcile.Import{File: file, Apply: apply, Cause: who})
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// Three hundred differences are not resolved on a page one by one; a sheet that is given back must do what single acts
// do, by their rules, and nothing twice.
func TestAFilledWorkbookIsDoneOnce(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		d.finance(t, "bea", "carl")
		bea, carl := reconcile.ByOperator("bea", "request", "r"), reconcile.ByOperator("carl", "request", "r")
		d.bills.bills[day] = billOf(revoked("4271", 5), revoked("4272", 6), revoked("4273", 7), revoked("4274", 8))
		d.run(t, day)
		off := map[string]string{"action": "核销 WRITE_OFF", "reason": "bank fee"}
		file := d.filled(t, map[string]map[string]string{
			"4271": {"assignee": "carl", "comment": "asked the bank", "action": off["action"], "reason": off["reason"]},
			"4272": off, "4273": {"comment": "seen"}})
		before := sqldbtest.Contents(t, d.DB)
		dry := d.imported(t, file, false, bea)
		if changed := sqldbtest.Changed(before, sqldbtest.Contents(t, d.DB)); changed != nil {
			t.Fatalf("a dry run has changed %v", changed)
		}
		if want := []string{"4271 act planned", "4271 assign planned", "4271 comment planned", "4272 act planned",
			"4273 comment planned"}; !slices.Equal(d.steps(t, dry), want) || !dry.DryRun || dry.Idle != 1 {
			t.Errorf("%v, %+v", d.steps(t, dry), dry)
		}
		first := d.imported(t, file, true, bea)
		if want := []string{"4271 act waits", "4271 assign done", "4271 comment done", "4272 act waits",
			"4273 comment done"}; !slices.Equal(d.steps(t, first), want) {
			t.Errorf("%v", d.steps(t, first))
		}
		before = sqldbtest.Contents(t, d.DB)
		if again := d.imported(t, file, true, bea); again.Counts[reconcile.OutcomeAlready] != 5 ||
			len(again.Counts) != 1 {
			t.Errorf("again: %v", d.steps(t, again))
		}
		if changed := sqldbtest.Changed(before, sqldbtest.Contents(t, d.DB)); changed != nil {
			t.Errorf("the same file twice has changed %v", changed)
		}
		// The second person gives the same file: what takes two takes two, and what was said is said once.
		second := d.imported(t, file, true, carl)
		if want := []string{"4271 act done", "4271 assign already", "4271 comment already", "4272 act done",
			"4273 comment already"}; !slices.Equal(d.steps(t, second), want) {
			t.Errorf("%v", d.steps(t, second))
		}
		for _, x := range d.diffs(t, day) {
			if ended := x.Ref == "4271" || x.Ref == "4272"; (x.Status == reconcile.StatusWrittenOff) != ended {
				t.Errorf("%s is %s", x.Ref, x.Status)
			}
		}
		third := d.imported(t, file, true, reconcile.ByOperator("fin", "request", "r"))
		if third.Counts[reconcile.OutcomeRefused] != 2 || third.Counts[reconcile.OutcomeDone] != 0 {
			t.Errorf("%v", d.steps(t, third))
		}
		d.AssertVerified(t)
	})
}

// A row that is wrong must hold back no other, and say what is wrong with it.
func TestAWorkbookIsRefusedRowByRow(t *testing.T) {
	d := newDesk(t, sqldbtest.SQLite(t))
	d.finance(t, "bea")
	d.bills.bills[day] = billOf(revoked("4271", 5), revoked("4272", 6), revoked("4273", 7), revoked("4274", 8),
		revoked("4275", 9), revoked("4276", 1), revoked("4277", 2), revoked("4278", 3), revoked("4279", 4))
	d.run(t, day)
	file := d.filled(t, map[string]map[string]string{
		"4271": {"action": "退款 REFUND", "reason": "x"},
		"4272": {"action": "WRITE_OFF"},
		"4273": {"action": `=UPPER("write_off")`, "reason": "x"},
		"4274": {"action": "WRITE_OFF", "reason": "x"},
		"4275": {"id": strings.Repeat("f", 32), "comment": "x"},
		"4276": {"id": "1", "comment": "x"},
		"4277": {"assignee": "nobody-here"},
		"4278": {"comment": strings.Repeat("x", 501)},
		"4279": {"action": "DELETE", "reason": "x"}})
	changed := d.diffs(t, day)["BILL_ONLY 4274"]
	d.hand(t, "UPDATE differences SET bill_state = 'CLOSED' WHERE id = ?", changed.ID)
	done := d.imported(t, file, true, reconcile.ByOperator("bea", "request", "r"))
	if done.Counts[reconcile.OutcomeRefused] != 9 || len(done.Counts) != 1 {
		t.Fatalf("%+v", done)
	}
	want := map[string]string{"REFUND": "cannot be done", "WRITE_OFF ": "reason is missing", "formula": "formula",
		"changed": "changed since", "unknown": "no such", "id": "no number", "assignee": "no account", "comment": "500",
		"DELETE": "no action"}
	for name, why := range want {
		if !slices.ContainsFunc(done.Rows, func(r reconcile.ImportRow) bool {
			return strings.Contains(r.Steps[0].Why, why)
		}) {
			t.Errorf("%s: nothing says %q: %+v", name, why, done.Rows)
		}
	}
}

// A call to WeChat Pay that takes too long is of one row: the two thousand behind it must not be left undone for it.
// What ends the import is whoever has asked for it.
func TestATimeOutOfOneRowEndsNoImport(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		d.bills.bills[day] = billOf(revoked("4271", 5), revoked("4272", 6))
		d.run(t, day)
		apply := map[string]string{"action": "APPLY_PAYMENT", "reason": "asked", "comment": "seen"}
		file := d.filled(t, map[string]map[string]string{"4271": apply, "4272": apply})
		d.WeChat.Before = func(string, string) error {
			return &payment.GatewayError{Op: "query", Kind: payment.KindUnknown, Err: context.DeadlineExceeded}
		}
		done := d.imported(t, file, true, fin)
		want := []string{"4271 act failed", "4271 comment done", "4272 act failed", "4272 comment done"}
		if !slices.Equal(d.steps(t, done), want) {
			t.Errorf("%v", d.steps(t, done))
		}
		ctx, cancel := context.WithCancel(t.Context())
		d.WeChat.Before = func(string, string) error { cancel(); return ctx.Err() }
		if _, err := d.Import(ctx, reconcile.Import{File: file, Apply: true, Cause: fin}); err == nil {
			t.Error("nobody waits for it, and it goes on")
		}
	})
}

// What is no workbook of ours is refused by what it is: half of finance's files are a CSV that Excel has saved in GBK.
func TestWhatIsNoWorkbookIsNamed(t *testing.T) {
	d := newDesk(t, sqldbtest.SQLite(t))
	d.bills.bills[day] = billOf(revoked("4271", 5))
	d.run(t, day)
	good := d.filled(t, nil)
	var other bytes.Buffer
	table := sheet.Table{Name: "Work", Header: []string{"id"}, Rows: sheet.Rows(func(func([]sheet.Cell) bool) {})}
	if err := sheet.WriteXLSX(&other, table); err != nil {
		t.Fatal(err)
	}
	book, err := excelize.OpenReader(bytes.NewReader(good))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = book.Close() }()
	var twice bytes.Buffer
	if err := errors.Join(book.SetCellValue("Work", "Z1", "我的 comment"), book.Write(&twice)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		file []byte
		why  string
	}{
		"twice":   {twice.Bytes(), "column comment twice"},
		"nothing": {nil, "empty"}, "GBK": {[]byte("\xb4\xa6\xc0\xed\xc8\xcb,id\r\n"), "GBK"},
		"CSV": {[]byte("处理人,id\r\n"), "CSV"}, "xls": {[]byte("\xd0\xcf\x11\xe0\xa1\xb1"), ".xls"},
		"cut": {good[:len(good)/2], "unpacked"}, "other": {other.Bytes(), "no column"},
		"large": {make([]byte, reconcile.MaxImport+1), "bytes"},
	} {
		_, err := d.Import(t.Context(), reconcile.Import{File: c.file, Cause: fin})
		if err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: %v", name, err)
		}
		if !errors.Is(err, reconcile.ErrRequest) && !errors.Is(err, sheet.ErrNoWorkbook) {
			t.Errorf("%s is no mistake of whoever gives it: %v", name, err)
		}
	}
	d.Clock.Advance(time.Hour)
	if done := d.imported(t, good, true, fin); len(done.Rows) != 0 || done.Idle != 1 {
		t.Errorf("nothing was filled in: %+v", done)
	}
}
