package reconcile

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"database/sql"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"time"

	"orderd/migrations/sqldb"
	"orderd/payment"
	"orderd/payment/sheet"
)

// The texts that go with every proof.
var (
	//go:embed VERIFY.txt
	verifyText []byte
	//go:embed verify.sh
	verifyScript []byte
)

// Names of files of a proof. The bill is not kept with a closing: it is stored, by its hash.
const (
	billFile = "bill.csv"
	sumsFile = "SHA256SUMS"
)

// proofFile is a file of a proof, packed with gzip.
type proofFile struct {
	name   string
	packed []byte
	sum    string // SHA-256 of the plain text
}

// proof is the files of a day but for the bill, in the order of their names; the last one made is
// the list of all.
type proof []proofFile

// manifest is the SHA-256 of the list of files.
func (p proof) manifest() string {
	i := slices.IndexFunc(p, func(f proofFile) bool { return f.name == sumsFile })
	return p[i].sum
}

// pack packs a file that write writes: it is never whole in memory, and ten times smaller.
func (p *proof) pack(name string, write func(io.Writer) error) error {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	sum := newSummed(z)
	err := write(sum)
	if err = errors.Join(err, z.Close()); err != nil {
		return fmt.Errorf("make %s of a proof: %w", name, err)
	}
	*p = append(*p, proofFile{name, packed.Bytes(), sum.hex()})
	return nil
}

// text packs a file that is there.
func (p *proof) text(name string, text []byte) error {
	return p.pack(name, func(w io.Writer) error { _, err := w.Write(text); return err })
}

// proof makes the files of a day as it stands in this transaction. c is the closing that they are
// kept with, nil for a day that nobody closes; before is the closing of the day before.
func (r *Reconciler) proof(ctx context.Context, tx *sqldb.Tx, s *Stored, c, before *Closing,
	bill billSum) (proof, error) {
	result, err := json.MarshalIndent(s.Result, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the result: %w", err)
	}
	var text bytes.Buffer
	if err := WriteText(&text, *s.Result); err != nil {
		return nil, err
	}
	closing, err := closingText(c)
	if err != nil {
		return nil, err
	}
	var p proof
	err = errors.Join(
		p.text("VERIFY.txt", verifyText),
		p.text("verify.sh", verifyScript),
		p.text("chain.txt", chainText(s.Date, before)),
		p.text("closing.json", closing),
		p.text("result.json", append(result, '\n')),
		p.text("result.txt", text.Bytes()))
	if err != nil {
		return nil, err
	}
	all := &dayRows{r: r, ctx: ctx, tx: tx, date: s.Date}
	for name, rows := range map[string]sheet.Table{"differences.csv": all.differences(), "notes.csv": all.notes()} {
		if err := p.pack(name, func(w io.Writer) error { return sheet.WriteCSV(w, rows) }); err != nil {
			return nil, err
		}
	}
	var sums []string
	for _, f := range p {
		sums = append(sums, f.sum+"  "+f.name+"\n")
	}
	if bill.sha256 != "" {
		sums = append(sums, bill.sha256+"  "+billFile+"\n")
	}
	slices.SortFunc(sums, func(a, b string) int { return strings.Compare(a[64:], b[64:]) })
	return p, p.text(sumsFile, []byte(strings.Join(sums, "")))
}

// closingText says who closed the day. Its own hash cannot stand in it: it is in the day after.
func closingText(c *Closing) ([]byte, error) {
	if c == nil {
		return []byte("{\"closed\": false}\n"), nil
	}
	text, err := json.MarshalIndent(map[string]any{"closed": true, "bill_date": c.Date, "seq": c.Seq,
		"closed_by": c.Who, "closed_at": c.At.UTC().Format(time.RFC3339Nano), "how": c.How, "reason": c.Why,
		"bill_sha1": c.SHA1, "trail_seq": c.trailSeq, "trail_sha256": c.trailSum}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode a closing: %w", err)
	}
	return append(text, '\n'), nil
}

// chainText names the proof of the day before.
func chainText(date string, before *Closing) []byte {
	if before == nil {
		return []byte("day " + date + "\nprevious none\n")
	}
	return fmt.Appendf(nil, "day %s\nprevious %s\nprevious_seq %d\nprevious_sha256 %s\n", date, before.Date, before.Seq,
		before.Manifest)
}

// dayRows reads the differences of a day, of all its bills, and what was said of them, page by page.
type dayRows struct {
	r    *Reconciler
	ctx  context.Context //nolint:containedctx // of the transaction that it reads in
	tx   *sqldb.Tx
	date string
}

// each gives every difference of the day.
func (d *dayRows) each() iter.Seq2[*Difference, error] {
	return func(yield func(*Difference, error) bool) {
		for _, kind := range []payment.BillType{payment.BillAll, payment.BillSuccess, payment.BillRefund} {
			if !d.of(kind, yield) {
				return
			}
		}
	}
}

// of gives the differences of one bill, until yield wants no more: false.
func (d *dayRows) of(kind payment.BillType, yield func(*Difference, error) bool) bool {
	f := DifferenceFilter{Date: d.date, Type: kind, Limit: differencesPage}
	for {
		page, err := d.r.findDifferences(d.ctx, d.tx, &f)
		if err != nil {
			yield(nil, err)
			return false
		}
		for i := range page {
			if !yield(&page[i], nil) {
				return false
			}
		}
		if len(page) < f.Limit {
			return true
		}
		f.Cursor = page[len(page)-1].ID
	}
}

// differences are the rows of differences.csv.
func (d *dayRows) differences() sheet.Table {
	t := table(nil)
	t.Rows = func(yield func([]sheet.Cell, error) bool) {
		for x, err := range d.each() {
			var cells []sheet.Cell
			if err == nil {
				cells = exportRow(x)
			}
			if !yield(cells, err) || err != nil {
				return
			}
		}
	}
	return t
}

// notes are the rows of notes.csv, by difference and then by time.
func (d *dayRows) notes() sheet.Table {
	return sheet.Table{Name: "Notes", Header: []string{"difference_id", "at", "who", "what", "word", "text"},
		Rows: func(yield func([]sheet.Cell, error) bool) {
			var ids []string
			send := func() bool {
				notes, err := notesOf(d.ctx, d.tx, ids)
				if err != nil {
					yield(nil, err)
					return false
				}
				for _, id := range ids {
					for _, n := range notes[id] {
						at := n.At.UTC().Format(time.RFC3339Nano)
						if !yield([]sheet.Cell{sheet.Text(n.DifferenceID), sheet.Text(at), sheet.Text(n.Who),
							sheet.Text(n.What), sheet.Text(n.Word), sheet.Text(n.Text)}, nil) {
							return false
						}
					}
				}
				ids = ids[:0]
				return true
			}
			for x, err := range d.each() {
				if err != nil {
					yield(nil, err)
					return
				}
				if ids = append(ids, x.ID); len(ids) == lookups && !send() {
					return
				}
			}
			send()
		}}
}

// Pack is the proof of a day, to be written.
type Pack struct {
	Stored  Stored
	Closing *Closing // that it is of; nil: the day as it stands now, which nobody has closed

	r     *Reconciler
	files proof
}

// Pack gives the proof of a day: as it was closed last or, with seq, the time before; without a
// closing, as it stands now. Errors: ErrNotFound, ErrRequest, ErrProof.
func (r *Reconciler) Pack(ctx context.Context, date string, seq int64) (*Pack, error) {
	day, err := dayStart(date)
	if err != nil {
		return nil, err
	}
	s, err := r.showNow(ctx, ID(date, payment.BillAll))
	if err != nil {
		return nil, err
	}
	closings, err := r.Closings(ctx, date)
	if err != nil {
		return nil, err
	}
	p := &Pack{Stored: s, r: r}
	switch n := int64(len(closings)); {
	case seq < 0 || seq > n || s.Result == nil:
		return nil, ErrNotFound
	case seq == 0 && n > 0:
		seq = n
		fallthrough
	case seq > 0:
		p.Closing = &closings[seq-1]
		p.Stored.SHA1 = p.Closing.SHA1
		p.files, err = r.kept(ctx, p.Closing)
		return p, err
	}
	bill, err := r.billSum(ctx, &s)
	if err != nil {
		return nil, err
	}
	return p, r.db.Snapshot(ctx, func(ctx context.Context, tx *sqldb.Tx) error { // a large day takes its time
		found, err := closingsOf(ctx, tx, day.AddDate(0, 0, -1), day.AddDate(0, 0, -1))
		if err != nil {
			return err
		}
		p.files, err = r.proof(ctx, tx, &s, nil, found[Day(day.AddDate(0, 0, -1))], bill)
		return err
	})
}

// ErrProof: the files that were kept with a closing are not those that were closed. Somebody had a
// hand on them, or the disk: the ZIP that was written then is the proof.
var ErrProof = errors.New("the proof that was kept is not the one that was closed")

// check holds the files against the hash that their closing has of their list: ErrProof.
func (p proof) check(c *Closing) error {
	wrong := func(name string) error {
		return fmt.Errorf("%w: %s of %s, the %d. time", ErrProof, name, c.Date, c.Seq)
	}
	var list strings.Builder
	sums := map[string]string{}
	for _, f := range p {
		to := io.Discard
		if f.name == sumsFile {
			to = &list
		}
		sum := newSummed(to)
		plain, err := gzip.NewReader(bytes.NewReader(f.packed))
		if err == nil {
			_, err = io.Copy(sum, plain) //nolint:gosec // G110: ours, and not kept in memory
		}
		if err != nil {
			return wrong(f.name)
		}
		sums[f.name] = sum.hex()
	}
	if sums[sumsFile] != c.Manifest {
		return wrong(sumsFile)
	}
	for line := range strings.Lines(list.String()) {
		sum, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		if name != billFile && sums[name] != sum { // the bill goes by its own hash
			return wrong(name)
		}
		delete(sums, name)
	}
	for name := range sums {
		if name != sumsFile {
			return wrong(name)
		}
	}
	return nil
}

// kept reads the files that were kept with a closing, and looks whether they are still those.
func (r *Reconciler) kept(ctx context.Context, c *Closing) (p proof, err error) {
	err = r.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		p = nil
		return sqldb.Each(ctx, tx, `SELECT name, body
FROM day_closing_parts
WHERE bill_date = ?
  AND seq = ?
ORDER BY name, part`, []any{c.Date, c.Seq}, func(rows *sql.Rows) error {
			var name string
			var body []byte
			err := rows.Scan(&name, &body)
			if n := len(p); n == 0 || p[n-1].name != name {
				p = append(p, proofFile{name: name})
			}
			p[len(p)-1].packed = append(p[len(p)-1].packed, body...)
			return err
		})
	})
	switch {
	case err != nil:
		return nil, err
	case len(p) == 0:
		return nil, ErrNotFound
	}
	return p, p.check(c)
}

// Name is that of the file.
func (p *Pack) Name() string { return "proof-" + p.Stored.Date + ".zip" }

// packed is the time of every file in a proof: the same state gives the same bytes.
var packed = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

// WriteZIP writes the proof as a ZIP, piece by piece: the bill is never whole in memory.
func (p *Pack) WriteZIP(ctx context.Context, w io.Writer) error {
	z := zip.NewWriter(w)
	put := func(name string, from io.Reader) error {
		f, err := z.CreateHeader(&zip.FileHeader{Name: p.Stored.Date + "/" + name, Method: zip.Deflate,
			Modified: packed})
		if err != nil {
			return err
		}
		_, err = io.Copy(f, from)
		return err
	}
	slices.SortFunc(p.files, func(a, b proofFile) int { return strings.Compare(a.name, b.name) })
	for _, f := range p.files {
		plain, err := gzip.NewReader(bytes.NewReader(f.packed))
		if err == nil {
			err = put(f.name, plain)
		}
		if err != nil {
			return fmt.Errorf("write the proof of a day: %w", err)
		}
	}
	if p.Stored.SHA1 != "" {
		bill, err := p.r.openStored(ctx, p.Stored)
		if err == nil {
			err = errors.Join(put(billFile, bill), bill.Close())
		}
		if err != nil {
			return fmt.Errorf("write the bill into the proof of a day: %w", err)
		}
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("write the proof of a day: %w", err)
	}
	return nil
}
