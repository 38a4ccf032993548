package bulk

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
	"orderd/payment/operators"
)

const runColumns = `id, kind, actor, reason, filter, total, sum_fen, state, done, changed, failed, note, created_at,
  ended_at`

// scanRun reads runColumns.
func scanRun(rows *sql.Rows) (r Run, err error) {
	var created, ended int64
	err = rows.Scan(&r.ID, &r.Kind, &r.Actor, &r.Reason, &r.Filter, &r.Total, &r.Sum, &r.State, &r.Done, &r.Changed,
		&r.Failed, &r.Note, &created, &ended)
	r.CreatedAt = sqldb.FromMillis(created)
	if ended > 0 {
		r.EndedAt = sqldb.FromMillis(ended)
	}
	return r, err
}

// Find gives a run. Errors: ErrNotFound, database errors.
func (r *Runs) Find(ctx context.Context, id string) (Run, error) {
	var run Run
	err := r.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		run, err = read(ctx, tx, id, "")
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return Run{}, ErrNotFound
	}
	return run, sqldb.Wrap("read a bulk run", err)
}

// Most rows of a page of a list.
const (
	defaultPage = 50
	maxPage     = 200
)

// pageOf is the size of a page that asks for n rows.
func pageOf(n int) int {
	if n <= 0 {
		return defaultPage
	}
	return min(n, maxPage)
}

const listQuery = `SELECT ` + runColumns + `
FROM bulk_runs
WHERE id < ?
ORDER BY id DESC
LIMIT ?`

// List gives runs, the newest ids first, and the cursor of the next page, "" at the end. Errors: bounds.ErrCursor,
// database errors.
func (r *Runs) List(ctx context.Context, cursor string, limit int) ([]Run, string, error) {
	if err := bounds.BulkID.Cursor(cursor); err != nil {
		return nil, "", err
	}
	limit = pageOf(limit)
	if cursor == "" {
		cursor = lastID
	}
	all, err := sqldb.Decided(ctx, r.db, listQuery, []any{cursor, limit + 1}, scanRun)
	if err != nil {
		return nil, "", sqldb.Wrap("list bulk runs", err)
	}
	if len(all) <= limit {
		return all, "", nil
	}
	return all[:limit], all[limit-1].ID, nil
}

// lastID is not below any id.
const lastID = "~"

// scanRow reads the columns of a row.
func scanRow(rows *sql.Rows) (x Row, err error) {
	err = rows.Scan(&x.Seq, &x.Ref, &x.Version, &x.Amount, &x.State, &x.Detail)
	return x, err
}

const rowsQuery = `SELECT seq, ref, version, amount_fen, state, detail
FROM bulk_rows
WHERE run_id = ?
  AND seq > ?
ORDER BY seq
LIMIT ?`

const rowsInQuery = `SELECT seq, ref, version, amount_fen, state, detail
FROM bulk_rows /*! FORCE INDEX (ix_bulk_rows_state) */
WHERE run_id = ?
  AND state = ?
  AND seq > ?
ORDER BY seq
LIMIT ?`

// Rows gives rows of a run in their order, of one state or of all (""), and the place of the last one for the next
// page, 0 at the end.
func (r *Runs) Rows(ctx context.Context, id string, state RowState, after int64, limit int) ([]Row, int64, error) {
	limit = pageOf(limit)
	query, args := rowsQuery, []any{id, after, limit + 1}
	if state != "" {
		query, args = rowsInQuery, []any{id, string(state), after, limit + 1}
	}
	all, err := sqldb.Decided(ctx, r.db, query, args, scanRow)
	if err != nil {
		return nil, 0, sqldb.Wrap("list the rows of a bulk run", err)
	}
	if len(all) <= limit {
		return all, 0, nil
	}
	return all[:limit], all[limit-1].Seq, nil
}

// insert writes a run and its rows. Of two at once with one id the second finds the first's.
func (r *Runs) insert(ctx context.Context, a *Ask, rows []Row) error {
	now := sqldb.Millis(r.cfg.Now())
	state, note, ended := StateRunning, "", int64(0)
	if r.TakesTwo(a.Kind, sum(rows)) {
		state, note, ended = StateStopped, ErrSecond.Error(), now
	}
	err := r.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO bulk_runs
  (id, kind, actor, reason, filter, total, sum_fen, state, done, changed, failed, note, holder, held_until, created_at,
  ended_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, 0, 0, ?, '', 0, ?, ?)`, a.ID, string(a.Kind), a.Actor, a.Reason, a.Filter.Text(),
			len(rows), int64(sum(rows)), string(state), bounds.BulkNote.Cut(note), now, ended)
		if err != nil {
			return err
		}
		const cols = 7
		args := make([]any, 0, cols*len(rows))
		for i := range rows {
			x := &rows[i]
			args = append(args, a.ID, x.Seq, x.Ref, x.Version, int64(x.Amount), string(x.State), "")
		}
		return tx.InsertRows(ctx, `INSERT INTO bulk_rows
  (run_id, seq, ref, version, amount_fen, state, detail)
VALUES`, cols, args)
	})
	if sqldb.IsDuplicate(err) { // the caller compares
		return nil
	}
	return sqldb.Wrap("start a bulk run", err)
}

// Resume has a run that was stopped go on, in the name of whoever has started it, and gives it as it is: it stops again
// if they may not do this any more. One that is under way or at its end stays as it is. One that TakesTwo goes on by
// the word of a second person alone, whenever it was stopped, and for as long as they may. Errors: ErrNotFound,
// ErrSecond, *operators.SameError, operators.ErrShell, operators.ErrNoLonger, database errors.
func (r *Runs) Resume(ctx context.Context, id, by, reason string) (Run, error) {
	var was Run
	var fresh bool
	err := r.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		fresh = false
		if was, err = read(ctx, tx, id, "\nFOR UPDATE"); err != nil || was.State != StateStopped {
			return err
		}
		if r.TakesTwo(was.Kind, was.Sum) {
			if fresh, err = r.second(ctx, tx, &was, by); err != nil {
				return err
			}
		}
		return tx.UpdateRows(ctx, 1, `UPDATE bulk_runs
SET state = 'running', note = ?, ended_at = 0
WHERE id = ?
  AND state = 'stopped'`, noteOf(by, reason), id)
	})
	if err != nil {
		return Run{}, sqldb.Wrap("go on with a bulk run", err)
	}
	if fresh {
		r.alarm("a bulk approval goes on by two of whom one has an account or token of less than a day",
			id+": "+by+", after "+was.Actor)
	}
	r.ring()
	return r.Find(ctx, id)
}

// read gives a run as a transaction sees it, or ErrNotFound; lock is the end of the statement.
func read(ctx context.Context, tx *sqldb.Tx, id, lock string) (run Run, err error) {
	err = sqldb.Each(ctx, tx, `SELECT `+runColumns+`
FROM bulk_runs
WHERE id = ?`+lock, []any{id}, func(rows *sql.Rows) (err error) {
		run, err = scanRun(rows)
		return err
	})
	if err == nil && run.ID == "" {
		err = ErrNotFound
	}
	return run, err
}

// alarm tells an operator of what must not happen unseen.
func (r *Runs) alarm(what, detail string) {
	r.cfg.Log.Error("alarm", "what", what, "detail", detail)
	if r.cfg.Alarm != nil {
		r.cfg.Alarm(what, detail)
	}
}

// noteSep ends the name in noteOf: no name has a space.
const noteSep = ": "

// noteOf is the note of a run that somebody has stopped, or had go on; wentOnBy reads it.
func noteOf(by, reason string) string { return bounds.BulkNote.Cut(by + noteSep + reason) }

// wentOnBy is who had a run go on that is under way, whose note is that of Resume: "" before anybody had to.
func (r *Run) wentOnBy() string {
	by, _, said := strings.Cut(r.Note, noteSep)
	if !said || strings.Contains(by, " ") {
		return ""
	}
	return by
}

// second refuses whoever cannot be the second person of a run that takes two; fresh: of the two one is new.
func (r *Runs) second(ctx context.Context, tx *sqldb.Tx, run *Run, by string) (fresh bool, err error) {
	who, err := operators.Find(ctx, tx, by, run.Actor)
	switch {
	case err != nil:
		return false, err
	case by == run.Actor:
		return false, ErrSecond
	case !who.May(by, run.Kind.Role()):
		return false, operators.ErrNoLonger
	}
	now := r.cfg.Now()
	return who.Fresh(by, now) || who.Fresh(run.Actor, now), who.Second(by, run.Actor)
}

// Stop ends a run that is under way after the row that is being done, and gives it as it is. One that has ended stays
// as it is. Errors: ErrNotFound, database errors.
func (r *Runs) Stop(ctx context.Context, id, by, reason string) (Run, error) {
	err := r.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		return stop(ctx, tx, id, noteOf(by, reason), r.cfg.Now())
	})
	if err != nil {
		return Run{}, sqldb.Wrap("stop a bulk run", err)
	}
	return r.Find(ctx, id)
}

// stop ends a run before its last row, and says why.
func stop(ctx context.Context, tx *sqldb.Tx, id, note string, now time.Time) error {
	_, err := tx.Update(ctx, `UPDATE bulk_runs
SET state = 'stopped', note = ?, ended_at = ?
WHERE id = ?
  AND state = 'running'`, note, sqldb.Millis(now), id)
	return err
}

const freeQuery = `SELECT ` + runColumns + `
FROM bulk_runs /*! FORCE INDEX (ix_bulk_runs_state) */
WHERE state = 'running'
  AND (holder = ? OR held_until < ?)
ORDER BY id
LIMIT ?`

// free gives runs that this process has or may have, the oldest first.
func (r *Runs) free(ctx context.Context) ([]Run, error) {
	all, err := sqldb.Decided(ctx, r.db, freeQuery, []any{r.holder, sqldb.Millis(r.cfg.Now()), maxPage}, scanRun)
	return all, sqldb.Wrap("find bulk runs", err)
}

// claimed is what came of asking for the next row of a run.
type claimed struct {
	run Run
	row Row // its Seq is 0: there is none for this process now
}

// claim takes the run, or keeps it, and writes that this process does its next row: those that wait, and at the end
// those of which nobody knows what came of them. A run whose person may not do this any more is stopped.
func (r *Runs) claim(ctx context.Context, id string) (c claimed, err error) {
	err = r.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		c = claimed{}
		held, err := r.hold(ctx, tx, id, &c.run)
		if err != nil || !held {
			return err
		}
		return next(ctx, tx, &c, r.passed.place(id), r.cfg.Now())
	})
	if c.run.State == StateRunning && c.row.Seq == 0 || err != nil {
		r.passed.forget(id)
	}
	return c, sqldb.Wrap("take a row of a bulk run", err)
}

// keeps reports that this process may do the row that it has claimed, after a time in which the run may have been
// stopped, or its person have lost the role; and has the run for another holdFor.
func (r *Runs) keeps(ctx context.Context, c *claimed) (held bool, err error) {
	err = r.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		held, err = r.hold(ctx, tx, c.run.ID, &c.run)
		return err
	})
	return held, sqldb.Wrap("keep a bulk run", err)
}

// hold takes a run that is under way, or keeps it, and reads it. One that nobody may work at any more is stopped.
func (r *Runs) hold(ctx context.Context, tx *sqldb.Tx, id string, run *Run) (bool, error) {
	now := r.cfg.Now()
	n, err := tx.Update(ctx, `UPDATE bulk_runs
SET holder = ?, held_until = ?
WHERE id = ?
  AND state = 'running'
  AND (holder = ? OR held_until < ?)`, r.holder, sqldb.Millis(now.Add(holdFor)), id, r.holder, sqldb.Millis(now))
	if err != nil || n == 0 {
		return false, err
	}
	if *run, err = read(ctx, tx, id, ""); err != nil {
		return false, err
	}
	why, err := r.against(ctx, tx, run)
	if err != nil {
		return false, err
	}
	if why != nil {
		return false, stop(ctx, tx, id, why.Error(), now)
	}
	return true, nil
}

// against gives what stops a run that is under way, or nil: whoever started it may not do this any more; or it takes
// two, and nobody who is the second, and still may, has had it go on. It is so also if a process of before has started
// it, or the limit was higher then. err is the database's.
func (r *Runs) against(ctx context.Context, tx *sqldb.Tx, run *Run) (why, err error) {
	second := run.wentOnBy()
	who, err := operators.Find(ctx, tx, run.Actor, second)
	switch {
	case err != nil:
	case !who.May(run.Actor, run.Kind.Role()):
		why = operators.ErrNoLonger
	case !r.TakesTwo(run.Kind, run.Sum):
	case second == "" || second == run.Actor:
		why = ErrSecond
	case !who.May(second, run.Kind.Role()) || who.Second(second, run.Actor) != nil:
		why = errLeft
	}
	return why, err
}

// next takes the next row, or ends the run that has none: the first that waits, else the one that was passed by after
// the place after, else the first that was passed by.
func next(ctx context.Context, tx *sqldb.Tx, c *claimed, after int64, now time.Time) error {
	for _, from := range []struct {
		state RowState
		after int64
	}{{RowWaiting, 0}, {RowDoing, after}, {RowDoing, 0}} {
		if err := sqldb.Each(ctx, tx, rowsInQuery, []any{c.run.ID, string(from.state), from.after, 1},
			func(rows *sql.Rows) (err error) {
				c.row, err = scanRow(rows)
				return err
			}); err != nil {
			return err
		}
		if c.row.Seq > 0 {
			break
		}
	}
	switch {
	case c.row.Seq == 0:
		return tx.UpdateRows(ctx, 1, `UPDATE bulk_runs
SET state = 'done', holder = '', held_until = 0, ended_at = ?
WHERE id = ?
  AND state = 'running'`, sqldb.Millis(now), c.run.ID)
	case c.row.State == RowDoing:
		return nil
	}
	return tx.UpdateRows(ctx, 1, `UPDATE bulk_rows
SET state = 'doing'
WHERE run_id = ?
  AND seq = ?
  AND state = 'waiting'`, c.run.ID, c.row.Seq)
}

// settle writes what came of a row, once: who was taken for dead may settle it too.
func (r *Runs) settle(ctx context.Context, id string, seq int64, state RowState, detail string) error {
	column := map[RowState]string{RowDone: "done", RowChanged: "changed", RowFailed: "failed"}[state]
	err := r.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		n, err := tx.Update(ctx, `UPDATE bulk_rows
SET state = ?, detail = ?
WHERE run_id = ?
  AND seq = ?
  AND state = 'doing'`, string(state), bounds.BulkNote.Cut(detail), id, seq)
		if err != nil || n == 0 {
			return err
		}
		return tx.UpdateRows(ctx, 1, fmt.Sprintf(`UPDATE bulk_runs
SET %[1]s = %[1]s + 1
WHERE id = ?`, column), id)
	})
	return sqldb.Wrap("write what came of a row of a bulk run", err)
}

// passBy leaves a row to be asked for again at the end, and says why.
func (r *Runs) passBy(ctx context.Context, c *claimed, why string) error {
	r.passed.at(c.run.ID, c.row.Seq)
	err := r.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Update(ctx, `UPDATE bulk_rows
SET detail = ?
WHERE run_id = ?
  AND seq = ?
  AND state = 'doing'`, bounds.BulkNote.Cut(why), c.run.ID, c.row.Seq)
		return err
	})
	return sqldb.Wrap("pass by a row of a bulk run", err)
}

// putBack has a row wait again that was claimed and not begun; one that was begun before stays as it is.
func (r *Runs) putBack(ctx context.Context, c *claimed) {
	if c.row.State != RowWaiting {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeFor)
	defer cancel()
	err := r.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Update(ctx, `UPDATE bulk_rows
SET state = 'waiting'
WHERE run_id = ?
  AND seq = ?
  AND state = 'doing'
  AND EXISTS (SELECT 1
FROM bulk_runs
WHERE id = ?
  AND holder = ?)`, c.run.ID, c.row.Seq, c.run.ID, r.holder)
		return err
	})
	if err != nil {
		r.cfg.Log.Warn("a row of a bulk run that was not begun is done at the end", "run", c.run.ID, "err", err)
	}
}

const askedAgainQuery = `SELECT COUNT(*)
FROM bulk_rows /*! FORCE INDEX (ix_bulk_rows_state) */
WHERE run_id = ?
  AND state = 'doing'
  AND detail <> ''`

// Passed counts the rows that could not be done in their turn, and are asked for again at the end: Rows of RowDoing,
// whose Detail says why.
func (r *Runs) Passed(ctx context.Context, id string) (int64, error) {
	n, err := sqldb.Decided(ctx, r.db, askedAgainQuery, []any{id}, sqldb.Column[int64])
	if err != nil || len(n) == 0 {
		return 0, sqldb.Wrap("count the rows of a bulk run that were passed by", err)
	}
	return n[0], nil
}

// release lets another process have a run at once, also when this one stops.
func (r *Runs) release(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeFor)
	defer cancel()
	err := r.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Update(ctx, `UPDATE bulk_runs
SET holder = '', held_until = 0
WHERE id = ?
  AND holder = ?`, id, r.holder)
		return err
	})
	if err != nil {
		r.cfg.Log.Warn("another process goes on with a bulk run later", "run", id, "err", err)
	}
}
