package scheduler

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
	"unicode"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
)

// Bounds of what is kept of failed tasks.
const (
	// failedPage is how many rows one transaction takes: locks are held for
	// milliseconds, however many tasks failed.
	failedPage = 1000
	// mostHeld is how many rows that others hold are looked for in one call.
	mostHeld = 64
	// maxListed is how many tasks one page of a list has at most.
	maxListed = 200
)

// DeadLetters keeps failed tasks in the table failed_tasks, so that they delay no
// other task and are not forgotten. All SQL of that table is here.
type DeadLetters struct {
	db  *sqldb.DB
	now func() time.Time
}

// NewDeadLetters keeps failed tasks in db. now should be the database's clock
// (sqldb.Clock), which all replicas share.
func NewDeadLetters(db *sqldb.DB, now func() time.Time) *DeadLetters {
	return &DeadLetters{db: db, now: now}
}

// failedRow is a row of failed_tasks as it is written.
type failedRow struct {
	typ, key, state, cause, payload string
	tries                           int64 // runs that failed
	first, last, next               int64 // Unix time in milliseconds
}

// Record counts failed runs, also several of one task, and sets when each task is
// tried next (pauseAfter). It returns how many tasks died by it: those of a
// Failure with Poison, and those whose runs reached maxFailures. A dead one stays
// dead. With an error, those whose rows somebody else holds (sqldb.ErrLocked) were
// not counted, the others were; with any other, some may not have been.
func (f *DeadLetters) Record(ctx context.Context, failed []Failure) (died int, err error) {
	now := f.now().UnixMilli()
	held, err := apart(gather(failed), func(part []failedRow, noWait bool) error {
		return f.recordPart(ctx, part, now, &died, func(ctx context.Context, run txFunc) error {
			return f.db.InTxOfMany(ctx, noWait, run)
		})
	})
	if err == nil && len(held) > 0 { // last, and with patience: nobody waits for them any more
		err = f.recordPart(ctx, held, now, &died, f.db.InTx)
	}
	return died, err
}

// txFunc is what runs in a transaction.
type txFunc = func(ctx context.Context, tx *sqldb.Tx) error

// recordPart is Record for some rows in one transaction of inTx, and adds those that
// died by it.
func (f *DeadLetters) recordPart(ctx context.Context, rows []failedRow, now int64, died *int,
	inTx func(ctx context.Context, run txFunc) error) error {
	var wrote []failedRow // by the run before this one, of the same transaction
	dead := 0
	err := inTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if tx.MayBeDone() && len(wrote) > 0 {
			if done, err := isRecorded(ctx, tx, &wrote[0], now); err != nil || done {
				return err // it was counted once, and dead is of that run
			}
		}
		wrote = slices.Clone(rows)
		var err error
		dead, err = record(ctx, tx, wrote, now)
		return err
	})
	if err == nil {
		*died += dead
	}
	return err
}

// apart is sqldb.Apart for rows that wait for nobody in the end: it gives those that
// somebody else holds, and past mostHeld those that were not sought.
func apart[T any](rows []T, write func(part []T, noWait bool) error) (held []T, err error) {
	err = sqldb.Apart(rows, false, mostHeld, write, func(part []T, _ error) error {
		held = append(held, part...)
		return nil
	})
	return held, err
}

// isRecorded reports that a row is as a run of Record wrote it at now: its COMMIT had no
// answer, and was done.
func isRecorded(ctx context.Context, tx *sqldb.Tx, r *failedRow, now int64) (bool, error) {
	return sqldb.Known(ctx, tx, `SELECT state
FROM failed_tasks
WHERE task_type = ?
  AND task_key = ?
  AND state = ?
  AND tries = ?
  AND last_at = ?`, r.typ, r.key, r.state, r.tries, now)
}

// record writes rows, in statements of one type and of failedPage rows at most, and
// makes them what it has written.
func record(ctx context.Context, tx *sqldb.Tx, rows []failedRow, now int64) (died int, err error) {
	for len(rows) > 0 {
		n := 1
		for n < min(len(rows), failedPage) && rows[n].typ == rows[0].typ {
			n++
		}
		d, err := recordRows(ctx, tx, rows[:n], now)
		if err != nil {
			return died, fmt.Errorf("record failed tasks: %w", err)
		}
		died, rows = died+d, rows[n:]
	}
	return died, nil
}

// gather makes one row of all failures of a task. The rows are in the order of the
// primary key: all transactions lock in that order and do not deadlock.
func gather(failed []Failure) []failedRow {
	var rows []failedRow
	at := make(map[[2]string]int, len(failed))
	for _, x := range failed {
		r := failedRow{typ: bounded(x.Type, &bounds.TaskType), key: bounded(x.Key, &bounds.TaskKey),
			state: StateFailing, cause: "no cause was given"}
		if x.Cause != nil {
			r.cause = bounded(x.Cause.Error(), &bounds.TaskCause)
		}
		if x.Payload != nil {
			r.payload = bounded(strconv.Quote(string(x.Payload)), &bounds.TaskPayload)
		}
		i, ok := at[[2]string{r.typ, r.key}]
		if !ok {
			i = len(rows)
			rows, at[[2]string{r.typ, r.key}] = append(rows, r), i
		}
		r.tries, r.state = rows[i].tries+1, rows[i].state
		if x.Poison {
			r.state = StateDead
		}
		rows[i] = r
	}
	sort.Slice(rows, func(i, j int) bool {
		return rows[i].typ < rows[j].typ || (rows[i].typ == rows[j].typ && rows[i].key < rows[j].key)
	})
	return rows
}

// bounded makes text that every engine keeps as it is and that is safe to print:
// n characters at most, a space in place of each that cannot be seen, and no
// spaces at its end, which MySQL ignores when it compares.
func bounded(s string, f *bounds.Field) string {
	var b strings.Builder
	for _, r := range f.Cut(strings.ToValidUTF8(s, "\uFFFD")) {
		if !unicode.IsPrint(r) {
			r = ' '
		}
		b.WriteRune(r)
	}
	return strings.TrimRight(b.String(), " ")
}

// recordRows writes rows of one type, at now in milliseconds. Those that are in the
// table are locked and replaced, the others inserted: somebody who inserts the
// same one at the same time is noticed by the primary key, and the whole
// transaction is done again, so that no run is lost.
func recordRows(ctx context.Context, tx *sqldb.Tx, rows []failedRow, now int64) (died int, err error) {
	before := make(map[string]failedRow, len(rows))
	err = sqldb.Each(ctx, tx, `SELECT task_key, state, tries, first_at
FROM failed_tasks /*! FORCE INDEX (PRIMARY) */
WHERE task_type = ?
  AND task_key IN (`+sqldb.In(len(rows))+`)
FOR UPDATE`, keyArgs(rows), func(r *sql.Rows) error {
		var b failedRow
		err := r.Scan(&b.key, &b.state, &b.tries, &b.first)
		before[b.key] = b
		return err
	})
	if err != nil {
		return 0, err
	}
	// Nine columns; REPLACE and INSERT are the same in all engines.
	const columns = ` INTO failed_tasks
  (task_type, task_key, state, tries, cause, payload, first_at, last_at, next_at)
VALUES`
	var fresh, again []any
	for i := range rows {
		r := &rows[i]
		b, known := before[r.key]
		if r.first = now; known {
			r.first, r.tries = b.first, r.tries+b.tries
		}
		if b.state == StateDead || r.tries >= maxFailures {
			r.state = StateDead
		}
		if r.state == StateDead && b.state != StateDead {
			died++
		}
		r.next = now + pauseAfter(r.tries).Milliseconds()
		args := []any{r.typ, r.key, r.state, r.tries, r.cause, r.payload, r.first, now, r.next}
		if known {
			again = append(again, args...)
		} else {
			fresh = append(fresh, args...)
		}
	}
	if err := tx.InsertRows(ctx, "REPLACE"+columns, 9, again); err != nil {
		return 0, err
	}
	err = tx.InsertRows(ctx, "INSERT"+columns, 9, fresh)
	if sqldb.IsDuplicate(err) {
		return 0, fmt.Errorf("%w: %w", sqldb.ErrLostRace, err)
	}
	return died, err
}

// keyArgs are the arguments for task_type = ? and task_key IN (…) of rows of one
// type.
func keyArgs(rows []failedRow) []any {
	args := []any{rows[0].typ}
	for _, r := range rows {
		args = append(args, r.key)
	}
	return args
}

// Done forgets tasks of a type that ended well. Keys that are not kept are passed
// over, and so are those whose rows somebody else holds: such a task is run again at
// its time, finds nothing to do, and is forgotten then.
func (f *DeadLetters) Done(ctx context.Context, typ string, keys []string) error {
	for _, page := range pagesOf(keys) {
		_, err := apart(page, func(part []string, noWait bool) error {
			return f.db.InTxOfMany(ctx, noWait, func(ctx context.Context, tx *sqldb.Tx) error {
				return forget(ctx, tx, typ, part)
			})
		})
		if err != nil {
			return sqldb.Wrap("forget failed tasks", err)
		}
	}
	return nil
}

// forget deletes tasks of a type.
func forget(ctx context.Context, tx *sqldb.Tx, typ string, keys []string) error {
	const where = `
WHERE task_type = ?
  AND task_key IN (`
	args := boundedArgs(typ, keys)
	if tx.NoWait() { // a DELETE would wait
		err := sqldb.Each(ctx, tx, `SELECT task_key
FROM failed_tasks /*! FORCE INDEX (PRIMARY) */`+where+sqldb.In(len(keys))+`)
FOR UPDATE`, args, func(r *sql.Rows) error {
			var key string
			return r.Scan(&key)
		})
		if err != nil {
			return err
		}
	}
	_, err := tx.ExecContext(ctx, `DELETE /*! failed_tasks */
FROM failed_tasks /*! FORCE INDEX (PRIMARY) */`+where+sqldb.In(len(keys))+")", args...)
	return err
}

// dead returns the keys of at most limit dead tasks of a type, those after a key.
func (f *DeadLetters) dead(ctx context.Context, typ, after string, limit int) ([]string, error) {
	keys, err := sqldb.Decided(ctx, f.db, `SELECT task_key
FROM failed_tasks
WHERE task_type = ?
  AND task_key > ?
  AND state = 'dead'
  AND payload = ''
ORDER BY task_key
LIMIT ?`, []any{typ, after, limit}, sqldb.Column[string])
	if err != nil {
		return nil, sqldb.Wrap("look for dead tasks", err)
	}
	return keys, nil
}

// forgetUnreadable forgets the dead tasks that nobody can run: of a content that cannot
// be read, or of a type that this program does not have, once they are old.
func (f *DeadLetters) forgetUnreadable(ctx context.Context) (n int, err error) {
	err = f.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		did, err := tx.Update(ctx, `DELETE FROM failed_tasks
WHERE state = 'dead'
  AND last_at < ?
  AND (payload <> '' OR task_type NOT IN (?, ?))`, f.now().Add(-rememberUnreadable).UnixMilli(),
			TypeExpire, TypeRefund)
		n = int(did)
		return err
	})
	return n, sqldb.Wrap("forget tasks that cannot be read", err)
}

// Known returns those of the keys of a type that failed, and the time before which
// each must not be tried: in the year 9999 for a dead one.
func (f *DeadLetters) Known(ctx context.Context, typ string, keys []string) (map[string]time.Time, error) {
	known := map[string]time.Time{}
	for _, page := range pagesOf(keys) {
		rows, err := sqldb.Decided(ctx, f.db, `SELECT task_key, state, next_at
FROM failed_tasks
WHERE task_type = ?
  AND task_key IN (`+sqldb.In(len(page))+`)`, boundedArgs(typ, page), func(r *sql.Rows) (x failedRow, err error) {
			err = r.Scan(&x.key, &x.state, &x.next)
			return x, err
		})
		if err != nil {
			return nil, sqldb.Wrap("look for failed tasks", err)
		}
		if len(rows) == 0 {
			continue
		}
		at := map[string]time.Time{}
		for _, x := range rows {
			if at[x.key] = time.UnixMilli(x.next).UTC(); x.state == StateDead {
				at[x.key] = never
			}
		}
		for _, k := range page {
			if t, ok := at[bounded(k, &bounds.TaskKey)]; ok {
				known[k] = t
			}
		}
	}
	return known, nil
}

// pagesOf cuts keys into pages of failedPage.
func pagesOf(keys []string) [][]string {
	var pages [][]string
	for len(keys) > 0 {
		n := min(len(keys), failedPage)
		pages, keys = append(pages, keys[:n]), keys[n:]
	}
	return pages
}

// boundedArgs are the arguments for task_type = ? and task_key IN (…), as the
// columns have them.
func boundedArgs(typ string, keys []string) []any {
	args := []any{bounded(typ, &bounds.TaskType)}
	for _, k := range keys {
		args = append(args, bounded(k, &bounds.TaskKey))
	}
	return args
}

// Due returns at most limit failing tasks whose time has come, those that failed
// longest ago first. That is the order of the index, and nearly that of their
// times.
func (f *DeadLetters) Due(ctx context.Context, limit int) ([]FailedTask, error) {
	due, err := sqldb.Decided(ctx, f.db, `SELECT `+failedColumns+`
FROM failed_tasks
WHERE state = 'failing'
  AND next_at <= ?
ORDER BY last_at, task_type, task_key
LIMIT ?`, []any{f.now().UnixMilli(), limit}, scanFailed)
	if err != nil {
		return nil, sqldb.Wrap("look for failed tasks that are due", err)
	}
	return due, nil
}

// Empty reports that no task has failed. It reads one row at most, however many
// have.
func (f *DeadLetters) Empty(ctx context.Context) (bool, error) {
	failed := false
	err := f.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		failed, err = sqldb.Known(ctx, tx, "SELECT state FROM failed_tasks LIMIT 1")
		return err
	})
	if err != nil {
		return false, sqldb.Wrap("look for failed tasks", err)
	}
	return !failed, nil
}

// Count counts all failed tasks by state. It reads a row of the index for each.
func (f *DeadLetters) Count(ctx context.Context) (failing, dead int, err error) {
	err = sqldb.Each(ctx, f.db, `SELECT state, COUNT(*)
FROM failed_tasks
GROUP BY state`, nil, func(r *sql.Rows) error {
		var state string
		var n int
		err := r.Scan(&state, &n)
		if state == StateDead {
			dead = n
		} else {
			failing = n
		}
		return err
	})
	if err != nil {
		return 0, 0, sqldb.Wrap("count failed tasks", err)
	}
	return failing, dead, nil
}

// where is the filter as the terms of a WHERE, at least one, and their arguments. plus is "+" to
// keep SQLite from reading by the type, else "".
func (f *Filter) where(plus string) (string, []any) {
	terms, args := []string{"tries >= 0"}, []any{} // the first is always true
	add := func(set bool, term string, more ...any) {
		if set {
			terms, args = append(terms, term), append(args, more...)
		}
	}
	add(f.Type != "", plus+"task_type = ?", f.Type)
	add(f.State != "", "state = ?", f.State)
	add(!f.FailedAfter.IsZero(), "last_at >= ?", f.FailedAfter.UnixMilli())
	add(!f.FailedBefore.IsZero(), "last_at < ?", f.FailedBefore.UnixMilli())
	add(f.Cause != "", "INSTR(cause, ?) > 0", f.Cause)
	add(f.Error != "", "cause = ?", f.Error)
	if f.Keys != nil {
		add(true, "task_key IN ("+sqldb.In(len(f.Keys))+")", boundedArgs("", f.Keys)[1:]...)
	}
	return strings.Join(terms, "\n  AND "), args
}

// List returns a page of failed tasks, the one that failed last first, and the
// cursor of the next page, "" at the end. cursor is "" for the first page; one that
// List did not return is bounds.ErrCursor. limit is 1 to 200, and is brought into
// that range.
func (f *DeadLetters) List(ctx context.Context, filter Filter, cursor string, limit int) ([]FailedTask, string, error) {
	limit = min(max(limit, 1), maxListed)
	states := []string{filter.State}
	if filter.State == "" { // the index is by state: a page of each has the page of both
		states = []string{StateFailing, StateDead}
	}
	var all []FailedTask
	err := f.db.Snapshot(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		all = nil
		for _, filter.State = range states {
			query, args, err := filter.page(cursor, limit+1)
			if err == nil {
				err = sqldb.Each(ctx, tx, query, args, func(r *sql.Rows) error {
					x, err := scanFailed(r)
					all = append(all, x)
					return err
				})
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, bounds.ErrCursor) {
		return nil, "", bounds.ErrCursor
	} else if err != nil {
		return nil, "", sqldb.Wrap("list failed tasks", err)
	}
	slices.SortFunc(all, func(a, b FailedTask) int {
		return cmp.Or(b.LastAt.Compare(a.LastAt), strings.Compare(b.Type, a.Type), strings.Compare(b.Key, a.Key))
	})
	if len(all) <= limit {
		return all, "", nil
	}
	last := &all[limit-1]
	return all[:limit], strconv.FormatInt(last.LastAt.UnixMilli(), 10) + "." + last.ID, nil
}

// Bounds of groups.
const (
	// groupedTasks is how many failed tasks are looked at for groups: those that failed last.
	groupedTasks = 10_000
	// maxGroups is how many groups there are at most: with more of them a list by cause is of no use.
	maxGroups = 50
)

// Group is the failed tasks of one type that failed by one error.
type Group struct {
	Type    string    `json:"type"`
	State   string    `json:"state"`
	Error   string    `json:"error"` // the whole of it, as Filter.Error wants it
	Count   int       `json:"count"`
	FirstAt time.Time `json:"first_at"` // when the first of them failed first
	LastAt  time.Time `json:"last_at"`  // when one of them failed last
}

// groupQuery is the statement of Groups.
const groupQuery = `SELECT task_type, cause, COUNT(*) AS n, MIN(first_at), MAX(last_at)
FROM (
    SELECT task_type, cause, first_at, last_at
    FROM failed_tasks /*! FORCE INDEX (ix_failed_tasks) */
    WHERE state = ?
    ORDER BY last_at DESC, task_type DESC, task_key DESC
    LIMIT ?) newest
GROUP BY task_type, cause
ORDER BY n DESC, task_type, cause
LIMIT ?`

// Groups gives the failed tasks of a state by type and error, the largest group first, at most maxGroups. whole
// reports that all tasks are in them; else they are of the groupedTasks that failed last, or some groups are left out.
func (f *DeadLetters) Groups(ctx context.Context, state string) (groups []Group, whole bool, err error) {
	n := 0
	err = sqldb.Each(ctx, f.db, groupQuery, []any{state, groupedTasks, maxGroups + 1}, func(r *sql.Rows) error {
		g := Group{State: state}
		var first, last int64
		err := r.Scan(&g.Type, &g.Error, &g.Count, &first, &last)
		g.FirstAt, g.LastAt = time.UnixMilli(first).UTC(), time.UnixMilli(last).UTC()
		groups, n = append(groups, g), n+g.Count
		return err
	})
	if err != nil {
		return nil, false, sqldb.Wrap("group failed tasks", err)
	}
	whole = n < groupedTasks && len(groups) <= maxGroups
	return groups[:min(len(groups), maxGroups)], whole, nil
}

// page is the statement of a page of a filter with a state, behind a cursor, and its arguments.
func (f *Filter) page(cursor string, rows int) (string, []any, error) {
	where, args := f.where("+")
	if cursor != "" {
		ms, id, _ := strings.Cut(cursor, ".")
		at, err := strconv.ParseInt(ms, 10, 64)
		typ, key, err2 := ParseFailedID(id)
		if err != nil || err2 != nil {
			return "", nil, bounds.ErrCursor
		}
		where += "\n  AND last_at <= ?\n  AND (last_at < ? OR task_type < ? OR (task_type = ? AND task_key < ?))"
		args = append(args, at, at, typ, typ, key)
	}
	return `SELECT ` + failedColumns + `
FROM failed_tasks /*! FORCE INDEX (ix_failed_tasks) */
WHERE ` + where + `
ORDER BY last_at DESC, task_type DESC, task_key DESC
LIMIT ?`, append(args, rows), nil
}

// failedColumns are what scanFailed reads.
const failedColumns = "task_type, task_key, state, tries, cause, payload, first_at, last_at, next_at"

// scanFailed reads a failed task from its failedColumns.
func scanFailed(rows *sql.Rows) (FailedTask, error) {
	var x FailedTask
	var first, last, next int64
	err := rows.Scan(&x.Type, &x.Key, &x.State, &x.Tried, &x.Error, &x.Payload, &first, &last, &next)
	x.ID = failedID(x.Type, x.Key)
	x.FirstAt, x.LastAt = time.UnixMilli(first).UTC(), time.UnixMilli(last).UTC()
	if x.State == StateDead {
		x.DiedAt = &x.LastAt
	} else {
		at := time.UnixMilli(next).UTC()
		x.NextAt = &at
	}
	switch {
	case x.Payload != "": // the key is the id of the task in the queue
	case x.Type == TypeExpire:
		x.OrderNo = x.Key
	case x.Type == TypeRefund:
		x.OutRefundNo = x.Key
	}
	return x, err
}

// Match counts the failed tasks that a filter means, without changing them.
func (f *DeadLetters) Match(ctx context.Context, filter Filter) (int, error) {
	where, args := filter.where("")
	n := 0
	err := sqldb.Each(ctx, f.db, `SELECT COUNT(*)
FROM failed_tasks
WHERE `+where, args, func(r *sql.Rows) error { return r.Scan(&n) })
	if err != nil {
		return 0, sqldb.Wrap("count failed tasks", err)
	}
	return n, nil
}

// Run makes failed tasks due now, dead ones too, as if they had not failed before,
// and returns their number. Those that fail meanwhile keep the time that Record
// gives them. With an error, the number is of those that were done before it.
func (f *DeadLetters) Run(ctx context.Context, filter Filter) (int, error) {
	now := f.now().UnixMilli()
	return f.walk(ctx, filter, `UPDATE failed_tasks
SET state = 'failing',
    tries = 0,
    next_at = ?
WHERE `, now)
}

// Discard forgets failed tasks and returns their number; with an error, that of
// those that were forgotten before it. Orders and refunds are not touched: one
// that is still due is tried again, and may fail again.
func (f *DeadLetters) Discard(ctx context.Context, filter Filter) (int, error) {
	return f.walk(ctx, filter, `DELETE FROM failed_tasks
WHERE `)
}

// walk applies statement, an UPDATE or DELETE up to its WHERE with the arguments
// set, to all tasks that matched when it began, page by page of the index. The
// failing ones go first: dead ones that Run has made failing are not met again.
func (f *DeadLetters) walk(ctx context.Context, filter Filter, statement string, set ...any) (int, error) {
	if begin := f.now().Add(time.Millisecond); filter.FailedBefore.IsZero() || filter.FailedBefore.After(begin) {
		filter.FailedBefore = begin
	}
	states := []string{filter.State}
	if filter.State == "" {
		states = []string{StateFailing, StateDead}
	}
	total := 0
	for _, filter.State = range states {
		n, err := f.walkState(ctx, &filter, statement, set)
		total += n
		if err != nil {
			return total, sqldb.Wrap("act on failed tasks", err)
		}
	}
	return total, nil
}

// walkState is walk for one state, which filter names.
func (f *DeadLetters) walkState(ctx context.Context, filter *Filter, statement string,
	set []any) (total int, err error) {
	where, args := filter.where("")
	var at int64
	for typ, key, n := "", "", failedPage; n == failedPage; {
		rows, err := sqldb.Decided(ctx, f.db, `SELECT last_at, task_type, task_key
FROM failed_tasks
WHERE `+where+`
  AND last_at >= ?
  AND (last_at > ? OR task_type > ? OR (task_type = ? AND task_key > ?))
ORDER BY last_at, task_type, task_key
LIMIT ?`, append(append([]any{}, args...), at, at, typ, typ, key, failedPage),
			func(r *sql.Rows) (x failedRow, err error) {
				err = r.Scan(&x.last, &x.typ, &x.key)
				return x, err
			})
		if err != nil {
			return total, err
		}
		n = len(rows)
		keys := map[string][]string{} // by type
		for _, x := range rows {
			at, typ, key = x.last, x.typ, x.key
			keys[typ] = append(keys[typ], key)
		}
		for typ, keys := range keys {
			var did int64
			err := f.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
				all := append(append(append([]any{}, set...), args...), boundedArgs(typ, keys)...)
				before := did
				did, err = tx.Update(ctx, statement+where+`
  AND task_type = ?
  AND task_key IN (`+sqldb.In(len(keys))+`)`, all...)
				if tx.MayBeDone() { // the run before has done the others
					did = max(did, before)
				}
				return err
			})
			if err != nil {
				return total, err
			}
			total += int(did)
		}
	}
	return total, nil
}
