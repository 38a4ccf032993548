package trail

import (
	"context"
	"database/sql"
	"strconv"
	"strings"
	"time"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
)

// Filter says which rows List gives; what is empty asks for nothing.
type Filter struct {
	Actor, Action, Target string
	From, To              time.Time // To is excluded
	Cursor                string    // of the page before
	Limit                 int
}

// List gives a page of the trail, newest first, and the cursor of the next, "" on the last. Errors:
// bounds.ErrCursor, database errors.
func (t *Trail) List(ctx context.Context, f Filter) ([]Entry, string, error) {
	q := t.db.Shown()
	where, args, err := f.where(ctx, q)
	if err != nil {
		return nil, "", err
	}
	var all []Entry
	err = sqldb.Each(ctx, q, `SELECT `+columns+`
FROM trail
WHERE `+strings.Join(where, "\n  AND ")+`
ORDER BY seq DESC
LIMIT ?`, append(args, f.Limit+1), func(rows *sql.Rows) error {
		e, err := scan(rows)
		all = append(all, e)
		return err
	})
	if err != nil {
		return nil, "", sqldb.Wrap("list the audit trail", err)
	}
	next := ""
	if len(all) > f.Limit {
		all = all[:f.Limit]
		next = strconv.FormatInt(all[f.Limit-1].Seq, 10)
	}
	return all, next, nil
}

// where makes the conditions. Times become numbers, so that one index serves each filter with the order.
func (f *Filter) where(ctx context.Context, q sqldb.Querier) (where []string, args []any, err error) {
	add := func(condition string, arg any) {
		where, args = append(where, condition), append(args, arg)
	}
	add("seq > ?", 0)
	if f.Cursor != "" {
		before, err := strconv.ParseInt(f.Cursor, 10, 64)
		if err != nil || before < 1 || strconv.FormatInt(before, 10) != f.Cursor {
			return nil, nil, bounds.ErrCursor
		}
		add("seq < ?", before)
	}
	for condition, value := range map[string]string{"actor = ?": f.Actor, "action = ?": f.Action,
		"target = ?": f.Target} {
		if value != "" {
			add(condition, value)
		}
	}
	for condition, at := range map[string]time.Time{"seq >= ?": f.From, "seq < ?": f.To} {
		if at.IsZero() {
			continue
		}
		first, err := firstSince(ctx, q, at)
		if err != nil {
			return nil, nil, err
		}
		if first > 0 || condition == "seq >= ?" {
			add(condition, first)
		}
		if first == 0 && condition == "seq >= ?" {
			add("seq < ?", 0) // nothing is that new
		}
	}
	return where, args, nil
}

// firstSince gives the number of the first row at or after a time, 0 for none. Clocks of processes differ by
// little, so a row beside the edge of a range may be on its other side.
func firstSince(ctx context.Context, q sqldb.Querier, at time.Time) (seq int64, err error) {
	err = sqldb.Each(ctx, q, `SELECT seq
FROM trail
WHERE at >= ?
ORDER BY at, seq
LIMIT 1`, []any{at.UnixMilli()}, func(rows *sql.Rows) error { return rows.Scan(&seq) })
	return seq, sqldb.Wrap("list the audit trail", err)
}

// Head gives the newest row's number and hash, 0 and "" while there is none: for whoever wants to prove
// later what the trail was.
func (t *Trail) Head(ctx context.Context) (seq int64, sum string, err error) {
	return HeadIn(ctx, t.db)
}

// HeadIn is Head of whoever reads in a transaction of its own, such as for the proof of a day.
func HeadIn(ctx context.Context, q sqldb.Querier) (seq int64, sum string, err error) {
	err = sqldb.Each(ctx, q, `SELECT seq, sha256
FROM trail
ORDER BY seq DESC
LIMIT 1`, nil, func(rows *sql.Rows) error { return rows.Scan(&seq, &sum) })
	return seq, sum, sqldb.Wrap("read the audit trail", err)
}

// All gives every row of a range of time in their order, one after the other, for an export. to is excluded. No page is
// of a replica: a file that lacks the newest rows does not have the head by which its end is proven.
func (t *Trail) All(ctx context.Context, from, to time.Time, do func(*Entry) error) error {
	first := int64(1)
	if !from.IsZero() {
		var err error
		if first, err = firstSince(ctx, t.db, from); err != nil || first == 0 {
			return err
		}
	}
	return sqldb.Wrap("export the audit trail", t.pages(ctx, first, to, do))
}

// exportRows is how many rows one statement of an export reads.
const exportRows = 1000

// pages reads rows from a number on, page by page: a transaction over a long export would keep old rows alive.
func (t *Trail) pages(ctx context.Context, next int64, to time.Time, do func(*Entry) error) error {
	for {
		var page []Entry
		err := sqldb.Each(ctx, t.db, `SELECT `+columns+`
FROM trail
WHERE seq >= ?
ORDER BY seq
LIMIT ?`, []any{next, exportRows}, func(rows *sql.Rows) error {
			e, err := scan(rows)
			page = append(page, e)
			return err
		})
		if err != nil {
			return err
		}
		for i := range page {
			if !to.IsZero() && !page[i].At.Before(to) {
				return nil
			}
			if err := do(&page[i]); err != nil {
				return err
			}
		}
		if len(page) < exportRows {
			return nil
		}
		next = page[len(page)-1].Seq + 1
	}
}
