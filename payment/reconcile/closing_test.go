package reconcile_test

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/payment"
	"orderd/payment/reconcile"
)

// closed closes a day.
func (d *desk) closed(t *testing.T, date string) reconcile.Closing {
	t.Helper()
	if err := d.Closable(t.Context(), date); err != nil {
		t.Error(date, "is closed all the same:", err)
	}
	c, err := d.CloseDay(t.Context(), reconcile.CloseDay{Date: date, Reason: "all is well", Cause: fin})
	if err != nil {
		t.Fatal(date, err)
	}
	return c
}

// zipped is the proof of a day.
func (d *desk) zipped(t *testing.T, date string, seq int64) []byte {
	t.Helper()
	p, err := d.Pack(t.Context(), date, seq)
	if err != nil {
		t.Fatal(date, err)
	}
	var b bytes.Buffer
	if err := p.WriteZIP(t.Context(), &b); err != nil {
		t.Fatal(date, err)
	}
	return b.Bytes()
}

// A day that is shown as one to be closed, and then cannot be, is asked about by whoever has the month to close: a
// stored bill that is not whole is seen before, and said alike.
func TestADayWithADamagedBillIsNotClosable(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		d.bills.bills[day] = billOf(payRow(d.paid(t)))
		d.Clock.Advance(24 * time.Hour)
		d.run(t, day)
		var body []byte
		if err := d.DB.Decide(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			return tx.QueryRowContext(ctx, `SELECT body FROM bill_chunks WHERE seq = 0`).Scan(&body)
		}); err != nil {
			t.Fatal(err)
		}
		refused := func(what string, seen bool) {
			t.Helper()
			_, err := d.CloseDay(t.Context(), reconcile.CloseDay{Date: day, Reason: "x", Cause: fin})
			if !errors.Is(err, reconcile.ErrNotClosable) || !strings.Contains(err.Error(), "stored bill is damaged") {
				t.Errorf("%s: %v", what, err)
			}
			if told := d.Closable(t.Context(), day); (told != nil) != seen || seen && told.Error() != err.Error() {
				t.Errorf("%s: said to be %v, and is %v", what, told, err)
			}
		}
		put := `UPDATE bill_chunks SET body = ? WHERE seq = 0`
		d.hand(t, put, body[:len(body)-9])
		refused("without its end", true)
		flipped := bytes.Clone(body)
		flipped[len(flipped)/2] ^= 0xff
		d.hand(t, put, flipped)
		refused("another within", false) // reading it would cost a page what a large bill takes
		d.hand(t, put, body)
		d.hand(t, `UPDATE bill_chunks SET seq = 1 WHERE seq = 0`)
		d.hand(t, `UPDATE bill_files SET chunks = 2 WHERE bill_date = ?`, day)
		refused("without its first piece", true)
		d.hand(t, `UPDATE bill_files SET chunks = 1 WHERE bill_date = ?`, day)
		d.hand(t, `UPDATE bill_chunks SET seq = 0 WHERE seq = 1`)
		d.closed(t, day)
	})
}

// threeDays are three days, the bill of each of which has its payment.
func (d *desk) threeDays(t *testing.T) {
	t.Helper()
	for i := range 3 {
		d.Clock.Set(noon.AddDate(0, 0, i))
		date := reconcile.Day(d.Clock.Now())
		d.bills.bills[date] = billOf(payRow(d.paid(t)))
	}
	d.Clock.Set(noon.AddDate(0, 0, 3))
	for i := range 3 {
		d.run(t, reconcile.Day(noon.AddDate(0, 0, i)))
	}
}

// strangeBill is a bill of a day with a payment that nobody here knows, and nothing else.
func strangeBill(date, transaction string, amount payment.Fen) []byte {
	row := revoked(transaction, amount)
	row.at, _ = time.ParseInLocation(time.DateTime, date+" 12:00:00", beijing)
	return billOf(row)
}

// A day that is called closed while something is open, or that can be changed behind its closing without anybody seeing
// it, is worth nothing to whoever asks a year later.
func TestADayIsClosedOnceNothingIsOpen(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		d.threeDays(t)
		refused := func(date, why string) {
			t.Helper()
			_, err := d.CloseDay(t.Context(), reconcile.CloseDay{Date: date, Reason: "x", Cause: fin})
			if !errors.Is(err, reconcile.ErrNotClosable) || !strings.Contains(err.Error(), why) {
				t.Errorf("%s: %v", date, err)
			}
			if told := d.Closable(t.Context(), date); told == nil || told.Error() != err.Error() {
				t.Errorf("%s: said to be %v, and is %v", date, told, err)
			}
		}
		one, two, three := day, "2026-11-21", "2026-11-22"
		good := d.bills.bills[two]
		d.bills.bills[two] = strangeBill(two, "4277", 5)
		d.run(t, two)
		refused(two, "open")
		d.bills.bills[two] = good
		d.run(t, two)
		first := d.closed(t, one)
		refused(three, one[:8]+"21")
		if again := d.closed(t, one); again != first || first.Seq != 1 || first.Previous != "" {
			t.Errorf("%+v, and again %+v", first, again)
		}
		second := d.closed(t, two)
		third := d.closed(t, three)
		if second.Previous != first.Manifest || third.Previous != second.Manifest || first.Manifest == second.Manifest {
			t.Errorf("no chain: %+v %+v %+v", first, second, third)
		}
		m, err := d.Month(t.Context(), "2026-11")
		if err != nil || m.Closed || !m.Days[19].Closed() || !m.Days[21].Closed() || m.Days[22].Closed() {
			t.Errorf("%v %+v", err, m.Days[19:23])
		}
		// Reconciled again with the same bill, it stands; with another one, it is open again.
		d.run(t, two)
		if all, err := d.Closings(t.Context(), two); err != nil || len(all) != 1 || all[0].Reopened {
			t.Errorf("the same bill: %+v %v", all, err)
		}
		d.bills.bills[two] = strangeBill(two, "4278", 7)
		d.run(t, two)
		if all, err := d.Closings(t.Context(), two); err != nil || len(all) != 1 || !all[0].Reopened {
			t.Errorf("another bill: %+v %v", all, err)
		}
		if m, err := d.Month(t.Context(), "2026-11"); err != nil || m.Days[20].Closed() ||
			!m.Days[20].Closing.Reopened {
			t.Errorf("%v %+v", err, m.Days[20].Closing)
		}
		refused(two, "open")
		for _, x := range d.diffs(t, two) {
			for _, who := range []reconcile.Cause{fin, fin2} {
				if x.Status == reconcile.StatusOpen {
					if _, err := d.Resolve(t.Context(), reconcile.Resolve{ID: x.ID, Action: reconcile.WriteOff,
						Reason: "x", Cause: who}); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		if all, err := d.Closings(t.Context(), two); err != nil || !all[0].Reopened {
			t.Errorf("written off, and nobody has closed it again: %+v %v", all, err)
		}
		if c := d.closed(t, two); c.Seq != 2 || c.Previous != first.Manifest || c.Reopened {
			t.Errorf("%+v", c)
		}
		d.AssertVerified(t)
	})
}

// A day whose differences came and went after it was closed has another proof than the one that is kept; called closed
// again by itself, it is a day that nobody has looked at.
func TestADayThatWasReopenedIsNotClosedByItself(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		d.threeDays(t)
		two := "2026-11-21"
		d.closed(t, day)
		d.closed(t, two)
		stands := func(times int, reopened bool) {
			t.Helper()
			all, err := d.Closings(t.Context(), two)
			if err != nil || len(all) != times || all[times-1].Reopened != reopened {
				t.Errorf("%+v %v", all, err)
			}
			if m, err := d.Month(t.Context(), "2026-11"); err != nil || m.Days[20].Closed() == reopened {
				t.Errorf("in the month: %+v %v", m.Days[20].Closing, err)
			}
		}
		stands(1, false)
		d.Clock.Advance(time.Hour)
		good := d.bills.bills[two]
		d.bills.bills[two] = strangeBill(two, "4278", 7)
		d.run(t, two)
		stands(1, true)
		d.Clock.Advance(time.Hour)
		d.bills.bills[two] = good
		if res := d.run(t, two); res.Open != 0 {
			t.Fatalf("%+v", res)
		}
		stands(1, true)
		if _, err := d.CloseDay(t.Context(), reconcile.CloseDay{Date: "2026-11-22", Reason: "x",
			Cause: fin}); !errors.Is(err, reconcile.ErrNotClosable) {
			t.Errorf("the day after: %v", err)
		}
		if c := d.closed(t, two); c.Seq != 2 || c.Reopened {
			t.Errorf("%+v", c)
		}
		stands(2, false)
		if was, is := d.zipped(t, two, 1), d.zipped(t, two, 2); bytes.Contains(fileOf(t, was, two+"/differences.csv"),
			[]byte("4278")) || !bytes.Contains(fileOf(t, is, two+"/differences.csv"), []byte("4278")) {
			t.Error("the proofs are not those of their times")
		}
		d.hand(t, "UPDATE differences SET resolved_by = 'somebody' WHERE ref = '4278'")
		stands(2, true)
		d.hand(t, "UPDATE differences SET resolved_by = 'reconciler' WHERE ref = '4278'")
		stands(2, false)
	})
}

// Who closes the second day first and the first one after it, maybe within a moment, has a chain that begins twice; no
// day may be put on top of that.
func TestAChainThatBeginsTwiceIsMended(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		d.threeDays(t)
		two, three := "2026-11-21", "2026-11-22"
		d.closed(t, two)
		first := d.closed(t, day)
		if all, err := d.Closings(t.Context(), two); err != nil || !all[0].Reopened {
			t.Errorf("%+v %v", all, err)
		}
		if _, err := d.CloseDay(t.Context(), reconcile.CloseDay{Date: three, Reason: "x",
			Cause: fin}); !errors.Is(err, reconcile.ErrNotClosable) || !strings.Contains(err.Error(), two) {
			t.Errorf("on top of a day that is reopened: %v", err)
		}
		second := d.closed(t, two)
		if second.Seq != 2 || second.Previous != first.Manifest {
			t.Errorf("%+v", second)
		}
		if third := d.closed(t, three); third.Previous != second.Manifest {
			t.Errorf("%+v", third)
		}
	})
}

// A shop that also reconciles the bill of payments alone has differences of that bill: while they are open, so is the
// day, and its proof has them.
func TestADayIsClosedWithAllOfItsBills(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		d.threeDays(t)
		good := d.bills.bills[day]
		d.bills.bills[day] = strangeBill(day, "4277", 5)
		d.run(t, day)
		d.hand(t, "UPDATE differences SET bill_type = 'SUCCESS' WHERE ref = '4277'")
		d.bills.bills[day] = good
		if res := d.run(t, day); res.Open != 0 {
			t.Fatalf("%+v", res)
		}
		if _, err := d.CloseDay(t.Context(), reconcile.CloseDay{Date: day, Reason: "x",
			Cause: fin}); !errors.Is(err, reconcile.ErrNotClosable) ||
			!strings.Contains(err.Error(), "1 differences are open") {
			t.Errorf("closed with an open difference: %v", err)
		}
		id := d.diffs(t, day)["BILL_ONLY 4277"].ID
		for _, who := range []reconcile.Cause{fin, fin2} {
			if _, err := d.Resolve(t.Context(), reconcile.Resolve{ID: id, Action: reconcile.WriteOff, Reason: "x",
				Cause: who}); err != nil {
				t.Fatal(err)
			}
		}
		d.closed(t, day)
		if text := fileOf(t, d.zipped(t, day, 0), day+"/differences.csv"); !bytes.Contains(text, []byte("4277")) {
			t.Errorf("the proof lacks it: %s", text)
		}
		d.hand(t, "UPDATE differences SET bill_type = 'ALL' WHERE ref = '4277'") // no bill of that type was stored
	})
}

// A month is closed when each of its days is, from our first payment on, and none has changed since.
func TestAMonthIsClosedWithItsDays(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		d.Clock.Set(time.Date(2026, 11, 28, 4, 0, 0, 0, time.UTC))
		d.bills.bills["2026-11-28"] = billOf(payRow(d.paid(t)))
		d.Clock.Set(time.Date(2026, 12, 1, 4, 0, 0, 0, time.UTC))
		for _, date := range []string{"2026-11-28", "2026-11-29", "2026-11-30"} {
			d.run(t, date)
			if m, err := d.Month(t.Context(), "2026-11"); err != nil || m.Closed {
				t.Errorf("before %s: %v %v", date, m.Closed, err)
			}
			d.closed(t, date)
		}
		if m, err := d.Month(t.Context(), "2026-11"); err != nil || !m.Closed || m.Missing != 0 {
			t.Errorf("%v %v", m.Closed, err)
		}
		if m, err := d.Month(t.Context(), "2026-10"); err != nil || m.Closed {
			t.Errorf("a month before there was anything: %v %v", m.Closed, err)
		}
	})
}

// checked runs the script of a proof, unzipped, with the day before; it gives what it says.
func checked(t *testing.T, dir, date, before string) (string, error) {
	t.Helper()
	args := []string{filepath.Join(dir, date, "verify.sh")}
	if before != "" {
		args = append(args, before)
	}
	out, err := exec.CommandContext(t.Context(), "sh", args...).CombinedOutput()
	return string(out), err
}

// unzip writes the files of an archive into a folder.
func unzip(t *testing.T, archive []byte, dir string) {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dir, z); err != nil {
		t.Fatal(err)
	}
}

// needTools skips a test on a machine without what checks a proof.
func needTools(t *testing.T) {
	t.Helper()
	for _, tool := range []string{"sh", "sha256sum", "unzip"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("ORDERD_TEST_REQUIRE") == "1" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
}

// Whoever doubts a day has a ZIP and the tools of every machine: a byte that was changed, a file that was put beside,
// and a day that does not follow from the day before must be seen without this program.
func TestAProofIsCheckedBySha256sum(t *testing.T) {
	needTools(t)
	d := newDesk(t, sqldbtest.SQLite(t))
	d.threeDays(t)
	for i := range 3 {
		d.closed(t, reconcile.Day(noon.AddDate(0, 0, i)))
	}
	first, second := d.zipped(t, day, 0), d.zipped(t, "2026-11-21", 0)
	folder := func() (dir, before string) {
		dir = t.TempDir()
		unzip(t, second, dir)
		before = filepath.Join(t.TempDir(), "first.zip")
		if err := os.WriteFile(before, first, 0o600); err != nil {
			t.Fatal(err)
		}
		return dir, before
	}
	dir, before := folder()
	if out, err := checked(t, dir, "2026-11-21", before); err != nil || !strings.Contains(out, "named by this day") ||
		!strings.Contains(out, "bill.csv: OK") || !strings.Contains(out, "closing.json: OK") {
		t.Fatalf("%v: %s", err, out)
	}
	files, err := os.ReadDir(filepath.Join(dir, "2026-11-21"))
	if err != nil || len(files) != 10 {
		t.Errorf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		if f.Name() == "verify.sh" {
			continue // whoever changes it is seen by the day after
		}
		dir, before := folder()
		at := filepath.Join(dir, "2026-11-21", f.Name())
		text, err := os.ReadFile(at)
		if err != nil {
			t.Fatal(err)
		}
		if text[len(text)/2] ^= 1; text[len(text)/2] == '\n' {
			text[len(text)/2] ^= 3
		}
		if err := os.WriteFile(at, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := checked(t, dir, "2026-11-21", before); err == nil {
			t.Errorf("a byte of %s was changed: %s", f.Name(), out)
		}
	}
	dir, before = folder()
	if err := os.WriteFile(filepath.Join(dir, "2026-11-21", "more.csv"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := checked(t, dir, "2026-11-21", before); err == nil || !strings.Contains(out, "was not there") {
		t.Errorf("a file more: %s", out)
	}
	dir, _ = folder()
	other := filepath.Join(t.TempDir(), "third.zip")
	if err := os.WriteFile(other, d.zipped(t, "2026-11-22", 0), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := checked(t, dir, "2026-11-21", other); err == nil || !strings.Contains(out, "does not name") {
		t.Errorf("another day as the one before: %s", out)
	}
}

// A file that was put beside a proof is taken for a part of it, if the check passes it over: its name may begin with a
// dot, or fit a name of the list as a pattern. And what VERIFY.txt says to type must work.
func TestAFileBesideAProofIsSeen(t *testing.T) {
	needTools(t)
	d := newDesk(t, sqldbtest.SQLite(t))
	d.threeDays(t)
	d.closed(t, day)
	d.closed(t, "2026-11-21")
	first, second := d.zipped(t, day, 0), d.zipped(t, "2026-11-21", 0)
	for _, name := range []string{"more.csv", ".more.csv", "..more.csv", "notes.cs[v]", ".*", "*", "t.txt", "-q",
		"notes.csv\nbill.csv"} {
		dir := t.TempDir()
		unzip(t, second, dir)
		if err := os.WriteFile(filepath.Join(dir, "2026-11-21", name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := checked(t, dir, "2026-11-21", ""); err == nil || !strings.Contains(out, "was not there") {
			t.Errorf("%q: %v: %s", name, err, out)
		}
	}
	dir := t.TempDir()
	unzip(t, second, dir)
	p, err := d.Pack(t.Context(), day, 0)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, p.Name()), first, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	_, line, there := strings.Cut(string(fileOf(t, second, "2026-11-21/VERIFY.txt")), "sh verify.sh ")
	line, _, _ = strings.Cut(strings.ReplaceAll(line, "2026-11-19", day), "\n")
	cmd := exec.CommandContext(t.Context(), "sh", "verify.sh", line)
	cmd.Dir = filepath.Join(dir, "2026-11-21")
	if out, err := cmd.CombinedOutput(); err != nil || !there || !strings.Contains(string(out), "named by this day") {
		t.Errorf("%s: %v: %s", line, err, out)
	}
}

// What stands in the database can be changed by whoever may write there: a proof that is not the one that was closed
// must not leave the shop as if it were.
func TestAProofThatWasTouchedIsNotGiven(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		d.threeDays(t)
		d.closed(t, day)
		var other bytes.Buffer
		z := gzip.NewWriter(&other)
		if _, err := z.Write([]byte("nothing was open\n")); err != nil || z.Close() != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			date, name string
			body       []byte
		}{
			{day, "notes.csv", other.Bytes()}, {"2026-11-21", "SHA256SUMS", other.Bytes()},
			{"2026-11-22", "result.txt", []byte("no gzip")},
		} {
			d.closed(t, c.date)
			d.zipped(t, c.date, 0)
			d.hand(t, "UPDATE day_closing_parts SET body = ? WHERE bill_date = ? AND name = ?", c.body, c.date, c.name)
			if _, err := d.Pack(t.Context(), c.date, 0); !errors.Is(err, reconcile.ErrProof) ||
				!strings.Contains(err.Error(), c.name) {
				t.Errorf("%s of %s: %v", c.name, c.date, err)
			}
		}
		for _, table := range []string{"day_closing_parts", "day_closings"} { // what is there at the end is verified
			if _, err := d.DB.Pool().ExecContext(t.Context(), "DELETE FROM "+table); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// The proof of a closed day is that of then, whatever the day has become; and the same state gives the same bytes, by
// which two copies are known to be one.
func TestAProofStaysAsItWasClosed(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		d.threeDays(t)
		open := d.zipped(t, day, 0)
		if again := d.zipped(t, day, 0); !bytes.Equal(open, again) {
			t.Error("the same state gives other bytes")
		}
		c := d.closed(t, day)
		kept := d.zipped(t, day, 0)
		sums := fileOf(t, kept, day+"/SHA256SUMS")
		sum := sha256.Sum256(sums)
		if hex.EncodeToString(sum[:]) != c.Manifest {
			t.Errorf("the closing names %s", c.Manifest)
		}
		if text := string(fileOf(t, kept, day+"/closing.json")); !strings.Contains(text, `"closed_by": "fin"`) ||
			!strings.Contains(text, "all is well") {
			t.Error(text)
		}
		if bill := fileOf(t, kept, day+"/bill.csv"); !bytes.Equal(bill, d.bills.bills[day]) {
			t.Error("the bill is another one")
		}
		d.Clock.Advance(time.Hour)
		d.bills.bills[day] = strangeBill(day, "4278", 7)
		d.run(t, day)
		if again := d.zipped(t, day, 0); !bytes.Equal(kept, again) {
			t.Error("what was closed has changed")
		}
		if _, err := d.Pack(t.Context(), day, 2); !errors.Is(err, reconcile.ErrNotFound) {
			t.Errorf("a closing that never was: %v", err)
		}
	})
}

// fileOf is a file of an archive.
func fileOf(t *testing.T, archive []byte, name string) []byte {
	t.Helper()
	dir := t.TempDir()
	unzip(t, archive, dir)
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}
