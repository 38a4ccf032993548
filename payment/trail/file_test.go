package trail_test

import (
	"bytes"
	"encoding/csv"
	"errors"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/payment/sheet"
	"orderd/payment/trail"
)

// strangeTexts are what a spreadsheet, a terminal or CSV itself would not leave as they are.
var strangeTexts = []string{"=1+1", "'=1+1", "''", "'", "-2", "+86 138", "@x", "20261130123456789", `\n`, `\`,
	`\\u202e`, "a\nb", "a\r\nb", "\tx", "\r", "a\u202eb", "\u00a0", "a,\"b\"", `{"why":"因为\n\\"}`, "\x00",
	"x\U000e0001", "\u0085", "�"}

// fileOf is the trail from a time on as its readers get it.
func fileOf(t *testing.T, tr *trail.Trail, from time.Time) []byte {
	t.Helper()
	var b bytes.Buffer
	err := sheet.WriteCSV(&b, trail.Table(func(do func(*trail.Entry) error) error {
		return tr.All(t.Context(), from, time.Time{}, do)
	}))
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// checked is what CheckFile says of a file.
func checked(file []byte) (of trail.Part, found []string, err error) {
	of, err = trail.CheckFile(bytes.NewReader(file), "", func(row string) { found = append(found, row) })
	return of, found, err
}

// An auditor has the file and not the database: one whose hashes cannot be made again from it proves nothing, and one
// of which a cell can be changed proves what somebody wants.
func TestTheFileOfTheTrailIsItsOwnProof(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		now := begun
		tr := trail.New(db, func() time.Time { now = now.Add(time.Second); return now }, nil)
		for i, text := range strangeTexts {
			act, err := tr.Begin(t.Context(), trail.Who{Actor: "fin", Role: "finance"}, trail.What{Action: "order.note",
				Target: "O1", Reason: text, Asked: strangeTexts[len(strangeTexts)-1-i]})
			if err == nil && i%2 == 0 {
				err = act.End(t.Context(), "", trail.Done, text, "")
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		file := fileOf(t, tr, time.Time{})
		seq, sum, err := tr.Head(t.Context())
		of, found, fileErr := checked(file)
		if err != nil || fileErr != nil || len(found) > 0 || of != (trail.Part{First: 1, Last: seq, Sum: sum}) {
			t.Fatalf("%+v %q %v, want 1 to %d, %s %v", of, found, fileErr, seq, sum, err)
		}
		part := fileOf(t, tr, begun.Add(9*time.Second))
		if of, found, err := checked(part); err != nil || len(found) > 0 || of.First < 5 || of.Sum != sum {
			t.Errorf("a part: %+v %q %v", of, found, err)
		}
		if len(broken(t, db)) > 0 {
			t.Error("the table itself is not whole")
		}
		everyCell(t, file)
	})
}

// everyCell changes each cell of a file, and takes out each row.
func everyCell(t *testing.T, file []byte) {
	t.Helper()
	rows, err := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(file, []byte("\ufeff")))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	written := func(rows [][]string) []byte {
		var b bytes.Buffer
		if err := csv.NewWriter(&b).WriteAll(rows); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	if _, found, err := checked(written(rows)); err != nil || len(found) > 0 {
		t.Fatalf("the file written again: %q %v", found, err)
	}
	for i := 1; i < len(rows); i++ {
		for j, was := range rows[i] {
			for _, cell := range []string{was + "0", strings.TrimPrefix(was, "'"), "'" + was, "\t" + was, ""} {
				if cell == was {
					continue
				}
				rows[i][j] = cell
				if _, found, err := checked(written(rows)); err == nil && len(found) == 0 {
					t.Errorf("row %d, %s: %q for %q is not found", i, rows[0][j], cell, was)
				}
			}
			rows[i][j] = was
		}
		if i > 1 && i < len(rows)-1 {
			without := append(append([][]string{}, rows[:i]...), rows[i+1:]...)
			if _, found, err := checked(written(without)); err != nil || len(found) == 0 {
				t.Errorf("row %d taken out: %q %v", i, found, err)
			}
		}
	}
}

// What is no file of the trail is said to be none, and not a chain of no rows.
func TestAnotherFileIsNoTrail(t *testing.T) {
	for _, text := range []string{"", "seq\n1\n", "\ufeffa,b\n", "seq,act\n\"", strings.Repeat("x", 1<<10)} {
		if _, _, err := checked([]byte(text)); !errors.Is(err, trail.ErrFile) {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}
