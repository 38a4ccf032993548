package reconcile

import (
	"cmp"
	"compress/flate"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
	"orderd/payment"
	"orderd/payment/trail"
)

// Closing a day is a person's word that it is done: reconciled with a bill that counts, nothing
// open, nothing waiting. With it the proof of the day is kept as it is then (package zip of
// pack.go), and names that of the day before. Nothing of it is ever changed: a day that comes to
// something else later is shown as reopened, and is closed once more.

// Closing is what somebody said of a day, and the proof that was kept with it.
type Closing struct {
	Date string    `json:"bill_date"`
	Seq  int64     `json:"seq"` // from 1: how often the day was closed
	Who  string    `json:"closed_by"`
	How  string    `json:"how"`
	Why  string    `json:"reason"`
	At   time.Time `json:"closed_at"`
	SHA1 string    `json:"bill_sha1"` // of the bill, "" for a day without one
	// Manifest is the SHA-256 of the list of files of the proof; Previous is that of the day
	// before, "" for the first day of the chain.
	Manifest string `json:"manifest_sha256"`
	Previous string `json:"previous_sha256,omitempty"`
	// Reopened says that the day does not stand any more as it did, or that a day before the
	// first one of the chain was closed since: it has to be closed once more.
	Reopened bool `json:"reopened,omitempty"`

	found string // what foundOf gave then, with how the differences had ended
	// trailSeq and trailSum are the newest row of the audit trail then: the proof says what it was.
	trailSeq int64
	trailSum string
}

// ErrNotClosable: the day cannot be closed as it stands.
var ErrNotClosable = errors.New("this day cannot be closed")

// CloseDay is a person's word that a day is done.
type CloseDay struct {
	Date   string
	Reason string // 1–200 characters
	Cause  Cause  // of a person: ByOperator
}

// endings are how the differences of a day stand, of all of its bills.
type endings struct {
	open, pending int64
	ends          string // SHA-256 of how each of them has ended, "" without any
}

// endingsStatement reads the differences of some days, along the index of bills.
const endingsStatement = `SELECT bill_date, bill_type, id, status, resolution, resolved_by, resolved_why, resolved_at
FROM differences /*! FORCE INDEX (ix_differences_bill) */
WHERE bill_date >= ?
  AND bill_date <= ?
ORDER BY bill_date, bill_type, id`

// endingsOf gives how the differences of each day from one to another stand; a day without any has
// none.
func endingsOf(ctx context.Context, q sqldb.Reader, from, to time.Time) (map[string]endings, error) {
	all, sums := map[string]endings{}, map[string]hash.Hash{}
	err := sqldb.Each(ctx, q, endingsStatement, []any{Day(from), Day(to)}, func(rows *sql.Rows) error {
		var date, kind, id, resolution, by, why string
		var status Status
		var at int64
		err := rows.Scan(&date, &kind, &id, &status, &resolution, &by, &why, &at)
		s := all[date]
		switch status {
		case StatusOpen:
			s.open++
		case StatusPending:
			s.pending++
		case StatusResolved, StatusWrittenOff:
		}
		all[date] = s
		if sums[date] == nil {
			sums[date] = sha256.New()
		}
		fmt.Fprintf(sums[date], "%s\x00%s\x00%s\x00%s\x00%s\x00%s\x00%d\n", kind, id, status, resolution, by, why, at)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read how differences stand: %w", err)
	}
	for date, sum := range sums {
		s := all[date]
		s.ends = hex.EncodeToString(sum.Sum(nil))
		all[date] = s
	}
	return all, nil
}

// sum256 is a SHA-256 in hex.
func sum256(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// weigh says whether a closing still holds, by how its day and the differences stand now, and by
// the closing of the day before, nil for none: one that names none was made before that one.
func (c *Closing) weigh(now *Stored, of endings, before *Closing) {
	c.Reopened = true
	if now == nil || now.Result == nil || now.State != "done" || !now.Counts || of.open > 0 || of.pending > 0 {
		return
	}
	found, err := foundOf(now.Result, of)
	c.Reopened = err != nil || found != c.found || c.Previous == "" && before != nil
}

// CloseDay closes a day: finance's word, with the proof of it as it is now. A day that is closed,
// and stands as it did, stays as it is. Days are closed in their order: the day before has to be
// closed, unless no earlier one ever was. Errors: ErrNotFound, ErrRequest, ErrNotClosable with
// why, and those of the database.
func (r *Reconciler) CloseDay(ctx context.Context, q CloseDay) (Closing, error) {
	if wrong := bounds.Reason.Check(q.Reason); wrong != nil {
		return Closing{}, fmt.Errorf("%w: %s", ErrRequest, wrong.Detail)
	}
	day, err := dayStart(q.Date)
	if err != nil {
		return Closing{}, err
	}
	s, err := r.showNow(ctx, ID(q.Date, payment.BillAll))
	if err != nil {
		return Closing{}, err
	}
	c := Closing{Date: q.Date, Who: bounds.Operator.Cut(q.Cause.ActorID), How: q.Cause.Type, Why: q.Reason,
		At: r.cfg.Now().UTC().Truncate(time.Millisecond), SHA1: s.SHA1}
	bill := billSum{sha1: s.SHA1}
	for range closeTries {
		now := &made{Closing: c}
		err := r.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := r.toClose(ctx, tx, now, day, bill)
			return err
		})
		if err != nil || now.stands {
			return now.Closing, err
		}
		if bill.sha256 == "" { // outside of the transaction: a bill may be large
			if bill, err = r.billToKeep(ctx, &s); err != nil {
				return c, err
			}
		}
		made, err := r.makeProof(ctx, c, day, bill)
		switch {
		case errors.Is(err, ErrNotClosable) || err == nil && made.stands: // of a moment before, where it is shown from
			continue
		case err != nil:
			return c, err
		}
		if r.proofMade != nil {
			r.proofMade()
		}
		err = r.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			return r.closeIn(ctx, tx, made, day, bill)
		})
		if !errors.Is(err, errMoved) {
			return made.Closing, err
		}
	}
	return c, fmt.Errorf("%w: it changes at this moment; try once more", ErrNotClosable)
}

// Closable says whether CloseDay would succeed now, by the same rule: nil, or its error. Pages offer what it allows. It
// does not read the stored bill, which may be large: what is damaged within its pieces CloseDay alone finds.
func (r *Reconciler) Closable(ctx context.Context, date string) error {
	day, err := dayStart(date)
	if err != nil {
		return err
	}
	s, err := r.showNow(ctx, ID(date, payment.BillAll))
	if err != nil {
		return err
	}
	return r.db.Snapshot(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := r.toClose(ctx, tx, &made{Closing: Closing{Date: date}}, day, billSum{sha1: s.SHA1})
		return err
	})
}

// closeTries is how often the files of a proof are made for one closing: again when the day has changed meanwhile.
const closeTries = 3

// errMoved: the day is not what the files of its proof were made of.
var errMoved = errors.New("the day has changed while its proof was made")

// made is a closing with the files that are to be kept with it, and all that they were made of.
type made struct {
	Closing
	files  proof
	of     string // toClose.of
	stands bool   // it is the last one, and there is nothing to close
}

// makeProof makes the files of the proof of a day that can be closed. It is no part of the transaction that closes the
// day, because a large day takes longer than that may; it decides nothing. Errors as CloseDay's.
func (r *Reconciler) makeProof(ctx context.Context, c Closing, day time.Time, bill billSum) (*made, error) {
	m := &made{Closing: c}
	return m, r.db.Snapshot(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		st, err := r.toClose(ctx, tx, m, day, bill)
		if err != nil || m.stands {
			return err
		}
		m.of = st.of
		if m.trailSeq, m.trailSum, err = trail.HeadIn(ctx, tx); err != nil {
			return err
		}
		if m.files, err = r.proof(ctx, tx, &st.Stored, &m.Closing, st.before, bill); err != nil {
			return err
		}
		m.Manifest = m.files.manifest()
		return nil
	})
}

// closeIn writes a closing, behind the lock of the day's row: errMoved when the day is not any more what the files were
// made of.
func (r *Reconciler) closeIn(ctx context.Context, tx *sqldb.Tx, m *made, day time.Time, bill billSum) error {
	if _, err := sqldb.Known(ctx, tx, `SELECT bill_date
FROM reconciliations
WHERE bill_date = ?
  AND bill_type = 'ALL'
FOR UPDATE`, m.Date); err != nil {
		return fmt.Errorf("close a day: %w", err)
	}
	now := &made{Closing: m.Closing}
	st, err := r.toClose(ctx, tx, now, day, bill)
	switch {
	case err != nil:
		return err
	case now.stands: // somebody has closed it, or this did, before its COMMIT had no answer
		*m = *now
		return nil
	case st.of != m.of:
		return errMoved
	}
	return insertClosing(ctx, tx, &m.Closing, m.files)
}

// toClose is how a day stands that is to be closed.
type toClose struct {
	Stored
	before *Closing // of the day before, nil for none
	of     string   // a hash of all that its proof is made of
}

// toClose says how a day stands, and what its closing is to say of that; a day that is closed and stands as it did
// has its last closing. Errors: ErrNotClosable with why.
func (r *Reconciler) toClose(ctx context.Context, tx *sqldb.Tx, m *made, day time.Time,
	bill billSum) (st toClose, err error) {
	if st.Stored, err = findStored(ctx, tx, ID(m.Date, payment.BillAll)); err != nil {
		return st, err
	}
	now, err := endingsOf(ctx, tx, day.AddDate(0, 0, -1), day)
	if err != nil {
		return st, err
	}
	if err := closable(&st.Stored, now[m.Date], day, bill); err != nil {
		return st, err
	}
	if err := billIsWhole(ctx, tx, &st.Stored); err != nil {
		return st, err
	}
	if m.found, err = foundOf(st.Result, now[m.Date]); err != nil {
		return st, err
	}
	var last *Closing
	if st.before, last, err = r.chain(ctx, tx, day, now); err != nil {
		return st, err
	}
	m.Seq, m.Previous = 1, ""
	if st.before != nil {
		m.Previous = st.before.Manifest
	}
	if last != nil {
		if last.weigh(&st.Stored, now[m.Date], st.before); !last.Reopened {
			m.Closing, m.stands = *last, true
			return st, nil
		}
		m.Seq = last.Seq + 1
	}
	moves, err := movesOf(ctx, tx, m.Date)
	st.of = keyOf(m.found, m.Previous, strconv.FormatInt(m.Seq, 10), moves)
	return st, err
}

// movesOf gives what changes with every run of a bill of a day, and with every note on its differences: both are only
// added. What a difference comes to otherwise is in foundOf.
func movesOf(ctx context.Context, tx *sqldb.Tx, date string) (string, error) {
	var b strings.Builder
	err := sqldb.Each(ctx, tx, `SELECT bill_type, run_no, state, finished_at
FROM reconciliations
WHERE bill_date = ?
ORDER BY bill_type`, []any{date}, func(rows *sql.Rows) error {
		var kind, state string
		var run, finished int64
		err := rows.Scan(&kind, &run, &state, &finished)
		fmt.Fprintf(&b, "%s %d %s %d\n", kind, run, state, finished)
		return err
	})
	var notes int64
	if err == nil {
		err = tx.QueryRowContext(ctx, `SELECT COUNT(*)
FROM differences d /*! FORCE INDEX (ix_differences_bill) */
JOIN difference_notes n ON n.difference_id = d.id
WHERE d.bill_date = ?`, date).Scan(&notes)
	}
	if err != nil {
		return "", fmt.Errorf("read how a day moved: %w", err)
	}
	fmt.Fprintf(&b, "%d", notes)
	return b.String(), nil
}

// closable says why a day cannot be closed, nil when it can.
func closable(s *Stored, of endings, day time.Time, bill billSum) error {
	no := func(why string, of ...any) error {
		return fmt.Errorf("%w: "+why, append([]any{ErrNotClosable}, of...)...)
	}
	switch {
	case s.State != "done" || s.Result == nil:
		return no("%s is %s", s.ID(), s.State)
	case s.FinishedAt.Before(day.AddDate(0, 0, 1)):
		return no("it was reconciled before it was over; run it again")
	case !s.Counts:
		return no("it has a file only, which a second person has to confirm")
	case of.open > 0:
		return no("%d differences are open, of all bills of the day", of.open)
	case of.pending > 0:
		return no("%d differences wait for the bill of another day", of.pending)
	case s.SHA1 != bill.sha1:
		return no("it was reconciled again at this moment; try once more")
	}
	return nil
}

// chain gives the last closings of the day before a day and of the day itself, nil for none. The
// day before has to be closed, and stand, unless no earlier day ever was. now is how the differences
// of both stand.
func (r *Reconciler) chain(ctx context.Context, tx *sqldb.Tx, day time.Time,
	now map[string]endings) (before, last *Closing, err error) {
	yesterday, earlier := day.AddDate(0, 0, -1), day.AddDate(0, 0, -2)
	found, err := closingsOf(ctx, tx, earlier, day)
	if err != nil {
		return nil, nil, err
	}
	before, last = found[Day(yesterday)], found[Day(day)]
	if before == nil {
		any, err := sqldb.Known(ctx, tx, `SELECT bill_date
FROM day_closings
WHERE bill_date < ?
LIMIT 1`, Day(day))
		if err == nil && any {
			err = fmt.Errorf("%w: days are closed in their order, and %s is not closed", ErrNotClosable, Day(yesterday))
		}
		return nil, last, err
	}
	s, err := findStored(ctx, tx, ID(Day(yesterday), payment.BillAll))
	if err != nil {
		return nil, nil, err
	}
	if before.weigh(&s, now[before.Date], found[Day(earlier)]); before.Reopened {
		err = fmt.Errorf("%w: %s was closed and has changed since; close it again first", ErrNotClosable, before.Date)
	}
	return before, last, err
}

// insertClosing writes a closing and its files. A repeat of a transaction that was committed finds
// the closing that it wrote itself.
func insertClosing(ctx context.Context, tx *sqldb.Tx, c *Closing, files proof) error {
	if _, err := tx.ExecContext(ctx, `INSERT INTO day_closings
  (bill_date, seq, who, how, why, at, sha1, found_sha256, manifest_sha256, previous_sha256)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, c.Date, c.Seq, c.Who, c.How, c.Why, c.At.UnixMilli(), c.SHA1, c.found,
		c.Manifest, c.Previous); err != nil {
		return fmt.Errorf("close a day: %w", err)
	}
	for _, f := range files {
		parts := &chunks{save: func(seq int64, body []byte) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO day_closing_parts
  (bill_date, seq, name, part, body)
VALUES (?, ?, ?, ?, ?)`, c.Date, c.Seq, f.name, seq, body)
			return err
		}}
		_, err := parts.Write(f.packed)
		if err = cmp.Or(err, parts.flush()); err != nil {
			return fmt.Errorf("keep the proof of a day: %w", err)
		}
	}
	return nil
}

// closingColumns are those of scanClosing.
const closingColumns = `c.bill_date, c.seq, c.who, c.how, c.why, c.at, c.sha1, c.found_sha256, c.manifest_sha256,
  c.previous_sha256`

// scanClosing reads one row of closingColumns.
func scanClosing(rows *sql.Rows) (c Closing, err error) {
	var at int64
	err = rows.Scan(&c.Date, &c.Seq, &c.Who, &c.How, &c.Why, &at, &c.SHA1, &c.found, &c.Manifest, &c.Previous)
	c.At = sqldb.FromMillis(at)
	return c, err
}

// closingsOf gives the last closing of each day from one to another.
func closingsOf(ctx context.Context, q sqldb.Reader, from, to time.Time) (map[string]*Closing, error) {
	all := map[string]*Closing{}
	err := sqldb.Each(ctx, q, `SELECT `+closingColumns+`
FROM day_closings c
WHERE c.bill_date >= ?
  AND c.bill_date <= ?
ORDER BY c.bill_date, c.seq`, []any{Day(from), Day(to)}, func(rows *sql.Rows) error {
		c, err := scanClosing(rows)
		all[c.Date] = &c
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read who closed days: %w", err)
	}
	return all, nil
}

// Closings gives who closed a day, each time, in their order; the last one says whether it still
// holds. A day that nobody has closed has none.
func (r *Reconciler) Closings(ctx context.Context, date string) (all []Closing, err error) {
	day, err := dayStart(date)
	if err != nil {
		return nil, err
	}
	err = r.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		all = []Closing{}
		err := sqldb.Each(ctx, tx, `SELECT `+closingColumns+`
FROM day_closings c
WHERE c.bill_date = ?
ORDER BY c.seq`, []any{date}, func(rows *sql.Rows) error {
			c, err := scanClosing(rows)
			all = append(all, c)
			return err
		})
		if err != nil || len(all) == 0 {
			return err
		}
		s, err := findStored(ctx, tx, ID(date, payment.BillAll))
		if err != nil {
			return err
		}
		now, err := endingsOf(ctx, tx, day, day)
		if err != nil {
			return err
		}
		yesterday := day.AddDate(0, 0, -1)
		before, err := closingsOf(ctx, tx, yesterday, yesterday)
		all[len(all)-1].weigh(&s, now[date], before[Day(yesterday)])
		return err
	})
	return all, err
}

// billIsWhole refuses a day whose stored bill lacks a piece, or its end: its proof could not have it. It reads one
// piece, whatever the bill's size.
func billIsWhole(ctx context.Context, tx *sqldb.Tx, s *Stored) error {
	if s.SHA1 == "" {
		return nil
	}
	var size, chunks, found int64
	var end []byte
	err := tx.QueryRowContext(ctx, `SELECT b.size_bytes, b.chunks, COALESCE(SUBSTR(c.body, -4), ''), (
  SELECT COUNT(*)
  FROM bill_chunks e
  WHERE e.bill_date = b.bill_date
    AND e.bill_type = b.bill_type
    AND e.sha1 = b.sha1)
FROM bill_files b
LEFT JOIN bill_chunks c ON c.bill_date = b.bill_date AND c.bill_type = b.bill_type AND c.sha1 = b.sha1
  AND c.seq = b.chunks - 1
WHERE b.bill_date = ?
  AND b.bill_type = ?
  AND b.sha1 = ?`, s.Date, string(s.Type), s.SHA1).Scan(&size, &chunks, &end, &found)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return errBillDamaged
	case err != nil:
		return fmt.Errorf("look for the stored bill: %w", err)
	case found != chunks, len(end) == gzipSize && int64(binary.LittleEndian.Uint32(end)) != size&math.MaxUint32:
		return errBillDamaged
	}
	return nil
}

// gzipSize is how many bytes a gzip file ends with that say how large its content is (RFC 1952, 2.3.1).
const gzipSize = 4

// errBillDamaged: the proof of a day cannot have its bill.
var errBillDamaged = fmt.Errorf("%w: its stored bill is damaged: put bill_files and bill_chunks of the day back from "+
	"a backup ('orderd verify' names them)", ErrNotClosable)

// billToKeep is billSum of a bill that goes into a proof: errBillDamaged for one that cannot be read to its end.
func (r *Reconciler) billToKeep(ctx context.Context, s *Stored) (billSum, error) {
	bill, err := r.billSum(ctx, s)
	if errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, io.EOF) || errors.As(err, new(flate.CorruptInputError)) {
		return bill, errBillDamaged
	}
	return bill, err
}

// billSum is a bill by its two hashes; without a bill both are "".
type billSum struct{ sha1, sha256 string }

// billSum reads the bill of a day, and gives its hashes.
func (r *Reconciler) billSum(ctx context.Context, s *Stored) (billSum, error) {
	if s.SHA1 == "" {
		return billSum{}, nil
	}
	f, err := r.openStored(ctx, *s)
	if err != nil {
		return billSum{}, err
	}
	sum := sha256.New()
	_, err = io.Copy(sum, f)
	return billSum{s.SHA1, hex.EncodeToString(sum.Sum(nil))}, errors.Join(err, f.Close())
}

// summed adds up what is written through it.
type summed struct {
	io.Writer
	sum hash.Hash
}

// newSummed writes to w.
func newSummed(w io.Writer) *summed {
	s := &summed{sum: sha256.New()}
	s.Writer = io.MultiWriter(w, s.sum)
	return s
}

// hex is the SHA-256 of what was written.
func (s *summed) hex() string { return hex.EncodeToString(s.sum.Sum(nil)) }
