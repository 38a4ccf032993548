package scheduler

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"orderd/migrations/sqldb"
)

// Bounds of what is known of processes.
const (
	// BeatEvery is how often a process says that it runs.
	BeatEvery = 30 * time.Second
	// SilentAfter is after how long without a word a process is not taken to run any more: two of its beats were lost.
	SilentAfter = 100 * time.Second
	// forgottenAfter is how long one that was killed is listed. With a new one every second that is some 3,600 rows.
	forgottenAfter = time.Hour
	// mostProcesses bounds a list.
	mostProcesses = 200
	// processWidth is that of the columns of text.
	processWidth = 64
)

// Process is a process of the service, as it has said of itself.
type Process struct {
	ID       string // a ULID: in containers hosts have long names that begin alike, and every process is number 1
	Host     string
	PID      int
	Roles    string // with blanks between
	Version  string
	Revision string // of its source
	Began    time.Time
	Seen     time.Time // when it was last heard of
}

// Silent reports that nothing was heard of it for so long that it does not run, or not well.
func (p *Process) Silent(now time.Time) bool { return now.Sub(p.Seen) > SilentAfter }

// width is the beginning of a text that fits a column.
func width(text string, most int) string {
	if runes := []rune(strings.ToValidUTF8(text, "")); len(runes) > most {
		return string(runes[:most])
	}
	return text
}

// Processes is the table of the processes that run. It cleans itself.
type Processes struct {
	db  *sqldb.DB
	now func() time.Time
}

// NewProcesses makes it on a database.
func NewProcesses(db *sqldb.DB, now func() time.Time) *Processes { return &Processes{db: db, now: now} }

// Beat says that a process runs, and forgets those of which nothing was heard for an hour.
func (ps *Processes) Beat(ctx context.Context, p Process) error {
	now := ps.now()
	err := ps.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		seen, began := sqldb.Millis(now), sqldb.Millis(p.Began)
		n, err := tx.Update(ctx, `UPDATE processes
SET roles = ?, version = ?, revision = ?, began_at = ?, seen_at = ?
WHERE id = ?`, width(p.Roles, processWidth), width(p.Version, processWidth), width(p.Revision, processWidth), began,
			seen, p.ID)
		if err == nil && n == 0 {
			_, err = tx.ExecContext(ctx, `INSERT INTO processes
  (id, host, pid, roles, version, revision, began_at, seen_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)`, p.ID, width(p.Host, processWidth), p.PID, width(p.Roles, processWidth),
				width(p.Version, processWidth), width(p.Revision, processWidth), began, seen)
		}
		if sqldb.IsDuplicate(err) { // MySQL counts no row that has these values already
			err = nil
		}
		if err == nil {
			_, err = tx.Update(ctx, `DELETE FROM processes
WHERE seen_at < ?`, sqldb.Millis(now.Add(-forgottenAfter)))
		}
		return err
	})
	return sqldb.Wrap("say that this process runs", err)
}

// Gone says that a process ends.
func (ps *Processes) Gone(ctx context.Context, p Process) error {
	err := ps.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Update(ctx, `DELETE FROM processes
WHERE id = ?
  AND began_at = ?`, p.ID, sqldb.Millis(p.Began))
		return err
	})
	return sqldb.Wrap("say that this process ends", err)
}

// Keep beats until ctx ends, and then says that the process is gone. What cannot be written is told by tell.
func (ps *Processes) Keep(ctx context.Context, p Process, tell func(error)) {
	beat := time.NewTicker(BeatEvery)
	defer beat.Stop()
	for {
		if err := ps.Beat(ctx, p); err != nil && ctx.Err() == nil {
			tell(err)
		}
		select {
		case <-beat.C:
		case <-ctx.Done():
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			if err := ps.Gone(end, p); err != nil {
				tell(err)
			}
			return
		}
	}
}

// List gives the processes that were heard of within an hour, those of the same host beside one another.
func (ps *Processes) List(ctx context.Context) (all []Process, err error) {
	err = sqldb.Each(ctx, ps.db, `SELECT host, pid, roles, version, revision, began_at, seen_at
FROM processes
ORDER BY id
LIMIT ?`, []any{mostProcesses}, func(rows *sql.Rows) error {
		var p Process
		var began, seen int64
		err := rows.Scan(&p.Host, &p.PID, &p.Roles, &p.Version, &p.Revision, &began, &seen)
		p.Began, p.Seen = sqldb.FromMillis(began), sqldb.FromMillis(seen)
		all = append(all, p)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the processes: %w", err)
	}
	return all, nil
}
