package reconcile

import (
	"cmp"
	"compress/gzip"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/failpoint"
	"orderd/payment"
	"orderd/payment/feed"
)

const (
	// chunkSize is a part of a stored bill, in compressed bytes. It stays far below
	// max_allowed_packet: by default 4 MiB in MySQL 5.7, 16 MiB in MariaDB, 64 MiB in MySQL 8.
	chunkSize = 512 << 10
)

// acquire takes the lease of the bill for this run, or says that somebody has it.
// Making the row is a transaction of its own, so that its duplicate, which is the usual
// case, ends nothing else. A run that was killed keeps the bill until lease_until. The
// holder itself may take it again: InTx repeats a transaction whose COMMIT had no
// answer, and the repeat must not find itself in the way.
func (r *Reconciler) acquire(ctx context.Context, u *run) error {
	err := r.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO reconciliations
  (bill_date, bill_type, state, result)
VALUES (?, ?, 'new', '')`, u.date, string(u.kind))
		if sqldb.IsDuplicate(err) {
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("take the bill: %w", err)
	}
	return r.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		now := r.cfg.Now().UnixMilli()
		was, holder, err := standingOf(ctx, tx, u)
		if err != nil {
			return fmt.Errorf("take the bill: %w", err)
		}
		if holder != u.holder { // not the repeat of a transaction that was committed
			u.was = was
		}
		n, err := tx.Update(ctx, `UPDATE reconciliations
SET state = 'running', run_no = run_no + 1, holder = ?, lease_until = ?, started_at = ?, problem = ''
WHERE bill_date = ?
  AND bill_type = ?
  AND (state <> 'running' OR lease_until < ? OR holder = ?)`, u.holder, now+leaseFor.Milliseconds(), now,
			u.date, string(u.kind), now, u.holder)
		switch {
		case err != nil:
			return fmt.Errorf("take the bill: %w", err)
		case n == 0:
			return ErrRunning
		}
		return tx.QueryRowContext(ctx, `SELECT run_no
FROM reconciliations
WHERE bill_date = ?
  AND bill_type = ?`, u.date, string(u.kind)).Scan(&u.no)
	})
}

// nextRun gives a pass a number of its own: what a pass sees is marked with it, and what has an
// older number afterwards was not seen.
func (r *Reconciler) nextRun(ctx context.Context, u *run) error {
	return r.updateRun(ctx, u, `run_no = run_no + 1`, func(tx *sqldb.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT run_no
FROM reconciliations
WHERE bill_date = ?
  AND bill_type = ?`, u.date, string(u.kind)).Scan(&u.no)
	})
}

// updateRun changes the row of a run while the run still holds its lease, and runs then
// in the same transaction. A run that lost its lease must write nothing more: another
// has taken over, and ErrRunning ends this one. set is SQL of this package, whose
// placeholders are args; then may be nil.
func (r *Reconciler) updateRun(ctx context.Context, u *run, set string, then func(*sqldb.Tx) error, args ...any) error {
	return r.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		n, err := tx.Update(ctx, `UPDATE reconciliations
SET `+set+`
WHERE bill_date = ?
  AND bill_type = ?
  AND state = 'running'
  AND holder = ?`, append(args, u.date, string(u.kind), u.holder)...)
		switch {
		case err != nil:
			return fmt.Errorf("keep the bill: %w", err)
		case n == 0:
			return fmt.Errorf("%w: this run was too slow to say that it lives, another has taken over", ErrRunning)
		case then != nil:
			return then(tx)
		}
		return nil
	})
}

// renew keeps the lease as long as the run lives. A run that lost it ends: the context
// that renew gives is cancelled with ErrRunning. Any other error is tried again at the
// next tick; should the lease end meanwhile, another run may take the bill, and
// updateRun stops this one. The function that renew gives stops the renewing and waits
// for it.
func (r *Reconciler) renew(ctx context.Context, u *run) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(renewEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			err := r.updateRun(ctx, u, `lease_until = ?`, nil, r.cfg.Now().Add(leaseFor).UnixMilli())
			if errors.Is(err, ErrRunning) {
				cancel(err)
			}
		}
	}()
	return ctx, func() { cancel(nil); <-done }
}

// finish records the result. It is written even when the caller has gone: the work is
// done. day_from, day_to and ours_fen say what the run has seen of our payments, for
// doneDays and for the check books.day_is_whole of package audit. A file that does not
// count leaves a day as it stood when a bill that counts is there.
func (r *Reconciler) finish(ctx context.Context, u *run, res Result) error {
	if u.was.counts && !u.counts {
		return r.restore(context.WithoutCancel(ctx), u, "")
	}
	text, err := encode(res)
	if err != nil {
		return err
	}
	from, err := dayStart(u.date)
	if err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	done := []feed.Event{{At: r.cfg.Now(), Type: feed.ReconcileDone, Ref: u.date + " " + string(u.kind)}}
	return r.updateRun(ctx, u, `state = 'done', sha1 = ?, finished_at = ?, problem = '', result = ?, day_from = ?,`+
		` day_to = ?, ours_fen = ?`, func(tx *sqldb.Tx) error { return feed.Insert(ctx, tx, done) },
		u.sha1, r.cfg.Now().UnixMilli(), text, from.UnixMilli(), from.AddDate(0, 0, 1).UnixMilli(),
		int64(res.Payments.OursFen))
}

// restore gives a day back as it stood before a bill was held against it that does not count,
// or could not be read; problem says why, "" for none. When a file has added to our side,
// the day waits for its own bill once more: that has not been held against what is new, and
// CatchUp looks at no old day that is done.
func (r *Reconciler) restore(ctx context.Context, u *run, problem string) error {
	u.was.problem = cmp.Or(problem, u.was.problem)
	if u.healed > 0 {
		u.was.state, u.was.problem = "waiting", "a file has added to it: run it again with WeChat Pay's bill"
	}
	return r.updateRun(ctx, u, `state = ?, started_at = ?, finished_at = ?, problem = ?`, nil, u.was.state,
		u.was.started, u.was.finished, u.was.problem)
}

// fail keeps why a run ended. What it wrote is right and stays. A bill that is not made
// yet is waiting and not failed: nobody has to do anything. A day that was done stays done
// when the run has compared nothing: the bill that it rests on is as good as before.
func (r *Reconciler) fail(ctx context.Context, u *run, why error) {
	state := "failed"
	if errors.Is(why, payment.ErrBillNotReady) {
		state = "waiting"
	}
	problem := bounds.DayProblem.Cut(why.Error())
	keep := func() error {
		switch { // the new bill was bad, not that of the day
		case u.fromFile && u.was.counts:
			return r.restore(ctx, u, "") // who gave it was told
		case u.pass == 0 && u.was.state == "done":
			return r.restore(ctx, u, problem)
		}
		return r.updateRun(ctx, u, `state = ?, finished_at = ?, problem = ?`, nil, state, r.cfg.Now().UnixMilli(),
			problem)
	}
	if err := keep(); err != nil {
		r.log.Warn("the end of a reconciliation is not recorded", "bill_date", u.date, "err", err)
	}
}

// saveBill stores the bill as it came, compressed, chunk by chunk; its row, which
// comes last, says that all of it is there. A bill that is stored already (the
// same SHA-1) is left as it is. Bills of other hashes stay beside it; the row of
// the reconciliation names the one that its last run read.
func (r *Reconciler) saveBill(ctx context.Context, u *run, bill *os.File) error {
	var known int
	err := r.decideRow(ctx, `SELECT COUNT(*)
FROM bill_files
WHERE bill_date = ?
  AND bill_type = ?
  AND sha1 = ?`, []any{u.date, string(u.kind), u.sha1}, &known)
	if err != nil || known > 0 {
		return err
	}
	if _, err := bill.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("store the bill: %w", err)
	}
	w := &chunks{save: func(seq int64, body []byte) error { return r.saveChunk(ctx, u, seq, body) }}
	z, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return fmt.Errorf("store the bill: %w", err)
	}
	size, err := io.Copy(z, bill)
	if err = errors.Join(err, z.Close(), w.flush()); err != nil {
		return fmt.Errorf("store the bill: %w", err)
	}
	return r.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO bill_files
  (bill_date, bill_type, sha1, source, size_bytes, chunks, received_at)
VALUES (?, ?, ?, ?, ?, ?, ?)`, u.date, string(u.kind), u.sha1, string(u.source()), size, w.seq, r.cfg.Now().UnixMilli())
		if sqldb.IsDuplicate(err) {
			return nil
		}
		return err
	})
}

// saveChunk stores one part of a bill, also over the part that a killed run left.
func (r *Reconciler) saveChunk(ctx context.Context, u *run, seq int64, body []byte) error {
	return r.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM bill_chunks
WHERE bill_date = ?
  AND bill_type = ?
  AND sha1 = ?
  AND seq = ?`, u.date, string(u.kind), u.sha1, seq); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO bill_chunks
  (bill_date, bill_type, sha1, seq, body)
VALUES (?, ?, ?, ?, ?)`, u.date, string(u.kind), u.sha1, seq, body)
		return err
	})
}

// chunks cuts a stream into pieces of chunkSize and saves each under its number, from
// 0.
type chunks struct {
	buf []byte
	// seq is the number of the next chunk and, after flush, how many there are.
	seq  int64
	save func(seq int64, body []byte) error
}

// Write gathers bytes and saves every whole chunk.
func (c *chunks) Write(p []byte) (int, error) {
	c.buf = append(c.buf, p...)
	for len(c.buf) >= chunkSize {
		if err := c.save(c.seq, c.buf[:chunkSize]); err != nil {
			return 0, err
		}
		c.seq++
		c.buf = slices.Delete(c.buf, 0, chunkSize)
	}
	return len(p), nil
}

// flush saves what is left.
func (c *chunks) flush() error {
	if len(c.buf) == 0 {
		return nil
	}
	err := c.save(c.seq, c.buf)
	c.seq++
	return err
}

// OpenBill gives the bill of a reconciliation as WeChat made it, uncompressed, piece by
// piece from the database. It is the bill that the last run which ended well has read;
// ErrNotFound when there was none. The caller closes it, whole or not: until then a
// goroutine waits to give the next piece.
func (r *Reconciler) OpenBill(ctx context.Context, id string) (io.ReadCloser, Stored, error) {
	s, err := r.showNow(ctx, id)
	if err != nil {
		return nil, s, err
	}
	if s.SHA1 == "" {
		return nil, s, ErrNotFound
	}
	f, err := r.openStored(ctx, s)
	return f, s, err
}

// openStored gives a stored bill by its day, type and hash, as OpenBill does.
func (r *Reconciler) openStored(ctx context.Context, s Stored) (io.ReadCloser, error) {
	from, to := io.Pipe()
	go func() {
		_ = to.CloseWithError(r.copyBill(ctx, s, to)) // the reader gets the error
	}()
	z, err := gzip.NewReader(from)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("stored bill: %w", err), from.Close())
	}
	return &billReader{z, from}, nil
}

// billReader unpacks a stored bill while it is read.
type billReader struct {
	*gzip.Reader
	from io.Closer
}

// Close ends the reading of the chunks, too.
func (b *billReader) Close() error { return errors.Join(b.Reader.Close(), b.from.Close()) }

// copyBill sends the chunks of a bill in their order; it ends with io.EOF, for CloseWithError.
func (r *Reconciler) copyBill(ctx context.Context, s Stored, to io.Writer) error {
	for seq := 0; ; seq++ {
		var body []byte
		err := r.decideRow(ctx, `SELECT body
FROM bill_chunks
WHERE bill_date = ?
  AND bill_type = ?
  AND sha1 = ?
  AND seq = ?`, []any{s.Date, string(s.Type), s.SHA1, seq}, &body)
		if errors.Is(err, sql.ErrNoRows) {
			return io.EOF
		}
		if err == nil {
			_, err = to.Write(body)
		}
		if err != nil {
			return err
		}
	}
}

// ownRow is a row of ours as it is looked for by its number. Between since and until, in
// milliseconds, WeChat Pay took it: a refund between our first call and our last one, or
// the word that it was taken. recorded is when it came here.
type ownRow struct {
	item
	since, until, recorded int64
}

// findOurs finds payments and refunds of ours by number, whatever their day, at most
// lookups of them. A held refund is not ours: it is WeChat's word about one that we
// never asked for.
func (r *Reconciler) findOurs(ctx context.Context, rows []item) (map[sideKey]ownRow, error) {
	found := make(map[sideKey]ownRow, len(rows))
	for refund, query := range map[bool]string{
		false: `SELECT transaction_id, amount_fen, outcome, paid_at, paid_at, paid_at, received_at
FROM payments
WHERE transaction_id IN (`,
		true: `SELECT out_refund_no, amount_fen, state, accepted_at,
  CASE WHEN sent_at > 0 AND sent_at < accepted_at THEN sent_at ELSE accepted_at END,
  CASE WHEN asked_at > accepted_at THEN asked_at ELSE accepted_at END, created_at
FROM refunds
WHERE state <> 'held'
  AND out_refund_no IN (`} {
		keys := keysOf(rows, refund)
		if len(keys) == 0 {
			continue
		}
		err := r.decide(ctx, query+sqldb.In(len(keys))+`)`, sqldb.Args(keys), func(rows *sql.Rows) error {
			it := ownRow{item: item{facts: facts{refund: refund}}}
			err := rows.Scan(&it.key, &it.amount, &it.state, &it.at, &it.since, &it.until, &it.recorded)
			found[sideKey{refund, it.key}] = it
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("find rows of the bill among ours: %w", err)
		}
	}
	return found, nil
}

// keysOf gives the numbers of the payments, or of the refunds, among rows.
func keysOf(rows []item, refund bool) []string {
	var keys []string
	for _, it := range rows {
		if it.refund == refund {
			keys = append(keys, it.key)
		}
	}
	return keys
}

// saveDifferences inserts what is new and marks what was seen again with the
// number of this pass. What two people wrote off stays so; whatever else was called
// resolved and is found again by a bill that counts opens again. The known rows are
// locked first, so that a person who resolves one at the same moment is not overwritten.
func (r *Reconciler) saveDifferences(ctx context.Context, u *run, found []Difference) error {
	if err := r.fillOrders(ctx, found); err != nil {
		return err
	}
	ids := make([]string, len(found))
	for i, d := range found {
		ids[i] = d.ID
	}
	return r.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		known := map[string]bool{}
		stored := map[string]said{}
		err := sqldb.Each(ctx, tx, `SELECT id, source, kind, ref, order_no, out_trade_no, transaction_id, bill_line,
  bill_fen, ours_fen, bill_state, facts, healable
FROM differences /*! FORCE INDEX (PRIMARY) */
WHERE id IN (`+sqldb.In(len(ids))+`)
FOR UPDATE`, sqldb.Args(ids), func(rows *sql.Rows) error {
			var id string
			var is said
			err := rows.Scan(&id, &is.source, &is.kind, &is.ref, &is.orderNo, &is.outTradeNo, &is.transactionID,
				&is.line, &is.billFen, &is.oursFen, &is.state, &is.facts, &is.healable)
			known[id], stored[id] = true, is
			return err
		})
		if err != nil {
			return fmt.Errorf("find differences: %w", err)
		}
		if len(known) > 0 {
			if _, err := tx.Update(ctx, `UPDATE differences
SET run_no = ?
WHERE id IN (`+sqldb.In(len(ids))+`)`, append([]any{u.no}, sqldb.Args(ids)...)...); err != nil {
				return fmt.Errorf("mark differences: %w", err)
			}
			if !u.fromFile {
				if err := takeOver(ctx, tx, found, stored); err != nil {
					return err
				}
			}
			if u.counts {
				if err := reopen(ctx, tx, found, known); err != nil {
					return err
				}
			}
		}
		err = r.insertDifferences(ctx, tx, u, found, known)
		failpoint.Hit("recon.written")
		return err
	})
}

// said is what a difference says of the bill and of our row, and from which bill.
type said struct {
	source                             Source
	kind                               Kind
	ref                                string
	orderNo, outTradeNo, transactionID string
	line, billFen, oursFen             int64
	state, facts                       string
	healable                           int64 // 0 or 1
}

// saidBy is what the bill of a pass says of a difference, as WeChat Pay's own.
func saidBy(d *Difference) (said, error) {
	facts, err := json.Marshal(d.Facts)
	if err != nil {
		return said{}, fmt.Errorf("encode a difference: %w", err)
	}
	is := said{SourceWeChat, d.Kind, d.Ref, d.OrderNo, d.OutTradeNo, d.TransactionID, d.Line, int64(d.BillFen),
		int64(d.OursFen), bounds.BillState.Cut(d.BillState), string(facts), 0}
	if d.healable {
		is.healable = 1
	}
	return is, nil
}

// takeOver lets WeChat Pay's own bill speak for the differences that are known: healing goes
// by what is stored, so that a made-up state, time or order of a file, or of a hand on the
// row, would be recorded in the signed bill's name. Where a file had said something else of
// what is behind the number, what people decided was about something else, too.
func takeOver(ctx context.Context, tx *sqldb.Tx, found []Difference, stored map[string]said) error {
	for i := range found {
		d := &found[i]
		was, ok := stored[d.ID]
		is, err := saidBy(d)
		switch {
		case err != nil:
			return err
		case !ok || was == is:
			continue
		}
		set := `kind = ?, ref = ?, order_no = ?, out_trade_no = ?, transaction_id = ?, bill_line = ?, bill_fen = ?,
  ours_fen = ?, bill_state = ?, facts = ?, healable = ?, source = ?, given_by = ''`
		args := []any{string(is.kind), is.ref, is.orderNo, is.outTradeNo, is.transactionID, is.line, is.billFen,
			is.oursFen, is.state, is.facts, is.healable, string(is.source)}
		if was.source != SourceWeChat && (was.outTradeNo != is.outTradeNo || was.transactionID != is.transactionID ||
			was.state != is.state || was.facts != is.facts) {
			set += `, status = ?, waits_for = ?, pending_until = ?, proposed_by = '', proposed_why = '',
  resolution = '', resolved_by = '', resolved_why = '', resolved_at = 0`
			args = append(args, string(d.Status), d.WaitsFor, sqldb.Millis(d.PendingUntil))
		}
		if _, err := tx.Update(ctx, `UPDATE differences
SET `+set+`
WHERE id = ?`, append(args, d.ID)...); err != nil {
			return fmt.Errorf("take over what the bill says of differences: %w", err)
		}
	}
	return nil
}

// forgotten is the SET of what was decided about a difference that is open again, and stillWaits of one that waits
// for another bill: whose word that is stays. Who had proposed to write it off spoke of what has ended since; what
// only waited is the same. It comes before the status is set: MySQL sets from left to right.
const (
	unproposed = `proposed_by = CASE status WHEN 'RESOLVED' THEN '' ELSE proposed_by END,
  proposed_why = CASE status WHEN 'RESOLVED' THEN '' ELSE proposed_why END`
	forgotten  = unproposed + `, resolution = '', resolved_by = '', resolved_why = '', resolved_at = 0`
	stillWaits = unproposed + `, resolution = '',
  resolved_by = CASE status WHEN 'RESOLVED' THEN '' ELSE resolved_by END,
  resolved_why = CASE status WHEN 'RESOLVED' THEN '' ELSE resolved_why END, resolved_at = 0`
)

// reopen goes by what this bill, which counts, has: what was resolved, by whomever, and is
// found again is open again (a bill that was short, then whole, then short once more),
// and what waited for another bill and may not wait any longer is open too.
func reopen(ctx context.Context, tx *sqldb.Tx, found []Difference, known map[string]bool) error {
	for i := range found {
		d := &found[i]
		if d.Status != StatusPending || !known[d.ID] {
			continue
		}
		if _, err := tx.Update(ctx, `UPDATE differences
SET `+stillWaits+`, status = ?, waits_for = ?, pending_until = ?
WHERE id = ?
  AND status IN ('RESOLVED', 'PENDING_NEXT_DAY')`, string(d.Status), d.WaitsFor, sqldb.Millis(d.PendingUntil),
			d.ID); err != nil {
			return fmt.Errorf("open differences again: %w", err)
		}
	}
	var ids []string
	for i := range found {
		if known[found[i].ID] && found[i].Status == StatusOpen {
			ids = append(ids, found[i].ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	_, err := tx.Update(ctx, `UPDATE differences
SET `+forgotten+`, status = 'OPEN', pending_until = 0
WHERE status IN ('RESOLVED', 'PENDING_NEXT_DAY')
  AND id IN (`+sqldb.In(len(ids))+`)`, sqldb.Args(ids)...)
	if err != nil {
		return fmt.Errorf("open differences again: %w", err)
	}
	return nil
}

// insertDifferences writes the differences that are not known, many rows at once.
func (r *Reconciler) insertDifferences(ctx context.Context, tx *sqldb.Tx, u *run, found []Difference,
	known map[string]bool) error {
	const cols = 22 // of the INSERT below
	var args []any
	for _, d := range found {
		if known[d.ID] {
			continue
		}
		is, err := saidBy(&d)
		if err != nil {
			return err
		}
		args = append(args, d.ID, d.Date, string(d.Type), u.no, string(d.Kind), d.Ref, d.OrderNo, d.OutTradeNo,
			d.TransactionID, d.Line, int64(d.BillFen), int64(d.OursFen), is.state, bounds.BillState.Cut(d.OursState),
			is.facts, is.healable, string(d.Status), r.cfg.Now().UnixMilli(), string(u.source()),
			bounds.Operator.Cut(u.giver()), d.WaitsFor, sqldb.Millis(d.PendingUntil))
	}
	err := tx.InsertRows(ctx, `INSERT INTO differences
  (id, bill_date, bill_type, run_no, kind, ref, order_no, out_trade_no, transaction_id, bill_line,
   bill_fen, ours_fen, bill_state, ours_state, facts, healable, status, opened_at, source, given_by, waits_for,
   pending_until)
VALUES`, cols, args)
	if err != nil {
		return fmt.Errorf("write differences: %w", err)
	}
	return nil
}

// fillOrders adds the order to differences of rows that we have: a row of ours knows
// its order even where its number does not name one, such as the out_refund_no of a
// refund. It only reads, before the transaction that writes.
func (r *Reconciler) fillOrders(ctx context.Context, found []Difference) error {
	at := map[string][]*Difference{}
	var payments, refunds []string
	for i := range found {
		d := &found[i]
		if d.OrderNo != "" && d.TransactionID != "" {
			continue
		}
		at[d.Ref] = append(at[d.Ref], d)
		if strings.HasPrefix(string(d.Kind), "REFUND") || d.Kind == DuplicateRefund {
			refunds = append(refunds, d.Ref)
		} else {
			payments = append(payments, d.Ref)
		}
	}
	fill := func(query string, keys []string) error {
		if len(keys) == 0 {
			return nil
		}
		return r.decide(ctx, query+sqldb.In(len(keys))+`)`, sqldb.Args(keys), func(rows *sql.Rows) error {
			var key, orderNo, trade, transaction string
			err := rows.Scan(&key, &orderNo, &trade, &transaction)
			for _, d := range at[key] {
				d.OrderNo, d.OutTradeNo, d.TransactionID = orderNo, trade, transaction
			}
			return err
		})
	}
	return errors.Join(
		fill(`SELECT transaction_id, order_no, out_trade_no, transaction_id
FROM payments
WHERE transaction_id IN (`, payments),
		fill(`SELECT out_refund_no, order_no, out_trade_no, transaction_id
FROM refunds
WHERE out_refund_no IN (`, refunds))
}

// settleSeen resolves what this pass did not find any more (its run_no is an older
// one), and opens what waited for this bill. It renews the lease with the statement
// that proves that the run still has it, in the same transaction: a run that another
// has taken over resolves nothing. A file that does not count ends nothing.
func (r *Reconciler) settleSeen(ctx context.Context, u *run) error {
	then := func(tx *sqldb.Tx) error {
		if _, err := tx.Update(ctx, `UPDATE differences
SET status = 'RESOLVED', resolved_by = 'reconciler', resolved_why = '', resolved_at = ?, pending_until = 0,
  resolution = CASE WHEN healable = 1 THEN '`+healed+`' ELSE '`+agreed+`' END
WHERE bill_date = ?
  AND bill_type = ?
  AND run_no < ?
  AND status IN ('OPEN', 'PENDING_NEXT_DAY')`, r.cfg.Now().UnixMilli(), u.date, string(u.kind), u.no); err != nil {
			return fmt.Errorf("resolve differences: %w", err)
		}
		if err := r.forgetAcross(ctx, tx, u); err != nil {
			return err
		}
		// What waited for this bill and is not in it.
		_, err := tx.Update(ctx, `UPDATE differences
SET status = 'OPEN', pending_until = 0
WHERE bill_type = ?
  AND status = 'PENDING_NEXT_DAY'
  AND waits_for = ?`, string(u.kind), u.date)
		return err
	}
	if !u.counts {
		then = nil
	}
	return r.updateRun(ctx, u, `lease_until = ?`, then, r.cfg.Now().Add(leaseFor).UnixMilli())
}

// decide gives every row of a query to do, where our rows are written: what a bill is held
// against, and what is done about it, is not decided by a copy. do may be given a row
// twice, when the database goes away in between.
func (r *Reconciler) decide(ctx context.Context, query string, args []any, do func(*sql.Rows) error) error {
	return r.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		return sqldb.Each(ctx, tx, query, args, do)
	})
}

// decideRow is decide for one row, into one value; sql.ErrNoRows without.
func (r *Reconciler) decideRow(ctx context.Context, query string, args []any, into any) error {
	return r.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		return tx.QueryRowContext(ctx, query, args...).Scan(into)
	})
}

// countOpen counts the differences of a bill by where they stand now: what is left from
// earlier runs counts as what this one found.
func countOpen(ctx context.Context, q sqldb.Querier, res *Result) error {
	res.Open, res.Pending, res.Healed, res.Differences = 0, 0, 0, map[Kind]int64{}
	err := sqldb.Each(ctx, q, `SELECT kind, status, resolution, COUNT(*)
FROM differences
WHERE bill_date = ?
  AND bill_type = ?
GROUP BY kind, status, resolution
ORDER BY kind, status, resolution`, []any{res.Date, string(res.Type)}, func(rows *sql.Rows) error {
		var kind Kind
		var status Status
		var resolution string
		var n int64
		if err := rows.Scan(&kind, &status, &resolution, &n); err != nil {
			return err
		}
		switch status {
		case StatusOpen:
			res.Open += n
			res.Differences[kind] += n
		case StatusPending:
			res.Pending += n
			res.Differences[kind] += n
		case StatusResolved:
			if resolution == healed {
				res.Healed += n
			}
		case StatusWrittenOff:
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("count differences: %w", err)
	}
	return nil
}

// firstDay gives the moment of our first payment; false without any. Days before it
// have nothing of ours to compare.
func (r *Reconciler) firstDay(ctx context.Context) (time.Time, bool, error) {
	var first sql.NullInt64
	err := r.decideRow(ctx, `SELECT MIN(paid_at)
FROM payments
WHERE paid_at > 0`, nil, &first)
	if err != nil {
		return time.Time{}, false, fmt.Errorf("find the first payment: %w", err)
	}
	return time.UnixMilli(first.Int64).In(beijing), first.Valid, nil
}

// doneDays are the days from a date on that need no other run: their run had WeChat Pay's
// own bill, came after their end and, for those from recent on, no payment of that day was recorded since.
// Older days are left to verify, so that a run does not read months. from and recent
// are days of Beijing, as Day gives them.
func (r *Reconciler) doneDays(ctx context.Context, from, recent string) (map[string]bool, error) {
	done := map[string]bool{}
	err := r.decide(ctx, `SELECT r.bill_date
FROM reconciliations r
WHERE r.bill_type = 'ALL'
  AND r.state = 'done'
  AND `+signedRow+`
  AND r.finished_at >= r.day_to
  AND r.bill_date >= ?
  AND (r.bill_date < ? OR r.ours_fen = (
    SELECT COALESCE(SUM(p.amount_fen), 0)
    FROM payments p
    WHERE p.paid_at >= r.day_from
      AND p.paid_at < r.day_to))`, []any{from, recent}, func(rows *sql.Rows) error {
		var d string
		err := rows.Scan(&d)
		done[d] = true
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("find the days that are done: %w", err)
	}
	return done, nil
}
