package trail

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"time"

	"orderd/payment/sheet"
)

// fileColumns are those of a file of the trail: all that a hash is over in its order, the time for people beside that
// in milliseconds, and the hash.
var fileColumns = []string{"seq", "act", "step", "at_ms", "at", "actor", "role", "address", "session", "action",
	"target", "reason", "asked", "outcome", "was", "became", "request_id", "prev_sha256", "sha256"}

// errEnough ends an export whose reader has gone.
var errEnough = errors.New("no more rows are wanted")

// texts are the fields of an entry that stand in a file as text, in the order of fileColumns.
func (e *Entry) texts() []*string {
	return []*string{&e.Actor, &e.Role, &e.Address, &e.Session, &e.Action, &e.Target, &e.Reason, &e.Asked, &e.Outcome,
		&e.Was, &e.Became, &e.RequestID, &e.Prev, &e.SHA256}
}

// Table is a part of the trail as a table, whose CSV file CheckFile can read. rows gives the entries, as All does.
func Table(rows func(do func(*Entry) error) error) sheet.Table {
	return sheet.Table{Name: "Audit", Header: fileColumns, Rows: tableRows(rows)}
}

// tableRows are the rows of Table.
func tableRows(rows func(do func(*Entry) error) error) iter.Seq2[[]sheet.Cell, error] {
	return func(yield func([]sheet.Cell, error) bool) {
		err := rows(func(e *Entry) error {
			cells := []sheet.Cell{sheet.Count(e.Seq), sheet.Exact(e.Act), sheet.Count(int64(e.Step)),
				sheet.Count(e.At.UnixMilli()), sheet.Text(e.At.UTC().Format(time.RFC3339))}
			for _, text := range e.texts() {
				cells = append(cells, sheet.Exact(*text))
			}
			if !yield(cells, nil) {
				return errEnough
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			yield(nil, err)
		}
	}
}

// ErrFile: this is no file of the trail.
var ErrFile = errors.New("this is no file of the audit trail")

// Part is what of the trail a file has; zero for no rows.
type Part struct {
	First, Last int64
	Sum         string // of the last row
	Known       int64  // the row that has the hash that was looked for, 0: none
}

// CheckFile makes the hashes of a CSV file of Table again, and tells found of each row of which a cell was changed, or
// that does not follow the one before it. A part that begins later than the trail is taken to follow what its first
// row says. Whoever took rows off the end, or wrote all hashes anew, is found by Part.Sum alone: the log has it, and
// the proof of each day that is closed: known is one of those, "" for none. Errors: ErrFile, those of r.
func CheckFile(r io.Reader, known string, found func(row string)) (Part, error) {
	plain := bufio.NewReader(r)
	if mark, err := plain.Peek(3); err == nil && string(mark) == "\ufeff" {
		_, _ = plain.Discard(len(mark))
	}
	in := csv.NewReader(plain)
	head, err := in.Read()
	if err != nil || !slices.Equal(head, fileColumns) {
		return Part{}, errors.Join(ErrFile, err)
	}
	var of Part
	for {
		cells, err := in.Read()
		if errors.Is(err, io.EOF) {
			return of, nil
		}
		if err != nil {
			return of, fmt.Errorf("%w: %w", ErrFile, err)
		}
		e, whole := entryOf(cells)
		if of.First == 0 {
			of = Part{First: e.Seq, Last: e.Seq - 1, Sum: e.Prev}
			if e.Seq == 1 {
				of.Sum = ""
			}
		}
		why := e.wrong(of.Last+1, of.Sum)
		if why == "" && !whole {
			why = rowChanged
		}
		if why != "" {
			line, _ := in.FieldPos(0)
			found(fmt.Sprintf("line=%d %s", line, e.told(why)))
		}
		of.Last, of.Sum = e.Seq, e.SHA256
		if known == e.SHA256 {
			of.Known = e.Seq
		}
	}
}

// entryOf reads the cells of a row; false when there is one that Table never writes.
func entryOf(cells []string) (e Entry, whole bool) {
	whole = true
	number := func(text string) int64 {
		n, err := strconv.ParseInt(text, 10, 64)
		whole = whole && err == nil && strconv.FormatInt(n, 10) == text
		return n
	}
	text := func(cell string) string {
		s, ok := sheet.ReadExact(cell)
		whole = whole && ok
		return s
	}
	e.Seq, e.Act, e.Step = number(cells[0]), text(cells[1]), int(number(cells[2]))
	e.At = time.UnixMilli(number(cells[3]))
	whole = whole && cells[4] == e.At.UTC().Format(time.RFC3339)
	for i, into := range e.texts() {
		*into = text(cells[5+i])
	}
	return e, whole
}
