package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sort"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"
)

// Reader is what gives rows and takes nothing: a DB, a Tx, a Shown or a View.
type Reader interface {
	Querier
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Shown reads what is only shown: lists, exports, reports. It reads from the replica that
// ShowFrom named while that is fresh enough, else where DB.QueryContext reads; a replica
// that fails at a statement is left for it at once. What it gives may be as old as the
// bound. No Tx comes out of it, so that what decides, which takes one, cannot be given it.
type Shown struct {
	db *DB
	r  *replica // nil: the primary's side
}

// Shown chooses where to read from, for the statements of one list.
func (db *DB) Shown() Shown {
	if r := db.replica; r != nil && r.fresh() {
		return Shown{db, r}
	}
	return Shown{db: db}
}

// FromReplica reports that it reads from the replica.
func (s Shown) FromReplica() bool { return s.r != nil }

// QueryContext reads what was committed a moment ago.
func (s Shown) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if s.r != nil {
		rows, err := s.r.pool.QueryContext(ctx, query, args...)
		if !s.r.failed(ctx, err) {
			return rows, err
		}
	}
	return s.db.QueryContext(ctx, query, args...)
}

// QueryRowContext is QueryContext for at most one row.
func (s Shown) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if s.r != nil {
		row := s.r.pool.QueryRowContext(ctx, query, args...)
		if !s.r.failed(ctx, row.Err()) {
			return row
		}
	}
	return s.db.QueryRowContext(ctx, query, args...)
}

// View is one moment of what is shown: it reads, and is no Tx.
type View struct{ tx *sql.Tx }

// QueryContext reads as of the moment.
func (v View) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return v.tx.QueryContext(ctx, query, args...)
}

// QueryRowContext is QueryContext for at most one row.
func (v View) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	return v.tx.QueryRowContext(ctx, query, args...)
}

// Snapshot is DB.Snapshot for what is only shown. read runs once: a replica that is lost in
// the middle of it is an error, and the next Shown is the primary's.
func (s Shown) Snapshot(ctx context.Context, read func(ctx context.Context, v View) error) error {
	if s.r != nil {
		tx, err := s.db.moment(ctx, s.r.pool)
		if !s.r.failed(ctx, err) {
			return s.db.readMoment(ctx, tx, err, read, s.r)
		}
	}
	tx, err := s.db.moment(ctx, s.db.show)
	return s.db.readMoment(ctx, tx, err, read, nil)
}

// readMoment reads in a transaction that moment has begun, and ends it.
func (db *DB) readMoment(ctx context.Context, tx *sql.Tx, err error, read func(context.Context, View) error,
	of *replica) error {
	if err != nil {
		return unavailable(err)
	}
	defer func() { _ = tx.Rollback() }() // nothing was written
	err = read(ctx, View{tx})
	if of != nil && of.failed(ctx, err) {
		return unavailable(err) // no alarm about the database: it is the replica's
	}
	if class := Classify(err); class == ClassDown || class == ClassRefused {
		err = db.tell(unavailable(err))
	}
	return err
}

// Bounds of a replica.
const (
	// LeastLag is the least bound of what is shown: five looks at the replica fit into it.
	LeastLag = 500 * time.Millisecond
	// looksInLag is how often a replica is looked at within its bound.
	looksInLag = 5
	// lookEvery is how often it is looked at the most seldom.
	lookEvery = time.Second
	// firstLooks is for how long ShowFrom waits for the replica, which is milliseconds
	// behind in most cases: a verb that shows one thing would find none fresh.
	firstLooks = 500 * time.Millisecond
	// maxMarks bounds the places that a replica has not come to yet.
	maxMarks = 128
)

// ShowFrom names a server that follows this database's, to show from: see Shown. Its DSN
// is that of Open. What it lacks is measured by GTIDs, several times in bound: a place of
// the primary's log is noted, and the replica is fresh as of then when it has come there.
// Beyond bound, or when it cannot be reached or measured, the primary shows. same is a
// statement whose one value only copies of one database have in common. It waits for
// the replica a moment and no longer; only a DSN that cannot be used is an error. Close
// ends it.
func (db *DB) ShowFrom(ctx context.Context, dsn, same string, bound time.Duration) error {
	if db.engine != MySQL {
		return fmt.Errorf("%w: only a database of MySQL or MariaDB has a replica to read from", ErrDSN)
	}
	pool, err := openFollower(dsn)
	if err != nil {
		return err
	}
	r := &replica{pool: pool, of: db, same: same, bound: bound, ended: make(chan struct{})}
	watch, stop := context.WithCancel(context.WithoutCancel(ctx))
	r.stop = stop
	db.replica = r
	for begin := time.Now(); ; {
		r.look(ctx)
		if r.fresh() || time.Since(begin) > firstLooks || !Sleep(ctx, firstLooks/10) {
			break
		}
	}
	go r.watch(watch)
	return nil
}

// Lag is how old what a replica shows can be.
type Lag struct {
	Age   time.Duration // since the newest moment of which it is known to have everything
	Known bool          // false: there has been no such moment
	Fresh bool          // within the bound: it shows
	Err   error         // what was wrong at the last look: ErrNoCopy, ErrBehind, or it did not answer
}

// Lag gives how far behind the replica of ShowFrom is; ok is false without one.
func (db *DB) Lag() (l Lag, ok bool) {
	r := db.replica
	if r == nil {
		return Lag{}, false
	}
	if as := r.asOf.Load(); as != nil {
		l.Known, l.Age = true, time.Since(*as)
	}
	if err := r.err.Load(); err != nil {
		l.Err = *err
	}
	l.Fresh = r.fresh()
	return l, true
}

// replica is a server to show from.
type replica struct {
	pool  *sql.DB
	of    *DB
	same  string
	bound time.Duration
	stop  context.CancelFunc
	ended chan struct{} // the watch has

	marks []mark // places of the primary that it has not come to yet, oldest first
	known bool   // it is a copy of the database

	asOf atomic.Pointer[time.Time] // it has everything of before
	away atomic.Bool               // it failed since the last look, or at it
	err  atomic.Pointer[error]
}

// mark is a place of the primary's log, and a time at which it was no further.
type mark struct {
	at    time.Time
	place string
}

// fresh reports that it may show.
func (r *replica) fresh() bool {
	as := r.asOf.Load()
	return as != nil && !r.away.Load() && time.Since(*as) <= r.bound
}

// failed reports that an error is the replica's and not the caller's, who reads from the
// primary then; until the next look so does everybody.
func (r *replica) failed(ctx context.Context, err error) bool {
	if class := Classify(err); class != ClassDown && class != ClassRefused || ctx.Err() != nil {
		return false
	}
	r.away.Store(true)
	return true
}

// close ends the watch and the pool.
func (r *replica) close() error {
	r.stop()
	<-r.ended
	return r.pool.Close()
}

// watch looks at the replica until it is closed.
func (r *replica) watch(ctx context.Context) {
	defer close(r.ended)
	for Sleep(ctx, min(lookEvery, r.bound/looksInLag)) {
		r.look(ctx)
	}
}

// look notes where the primary is, and how far the replica has come.
func (r *replica) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, ioTimeout)
	defer cancel()
	err := r.measure(ctx)
	r.away.Store(err != nil && !errors.Is(err, ErrBehind))
	if !r.known { // what was measured may be of another
		r.asOf.Store(nil)
		r.marks = nil
	}
	r.err.Store(&err)
}

// Why a replica does not show, or soon will not.
var (
	ErrNoGTIDs = errors.New("the primary's log has no GTIDs, by which a replica is measured")
	ErrNoCopy  = errors.New("it is no copy of the database")
	ErrBehind  = errors.New("it has not come to where the primary is yet")
	// errAstray: the log of a primary that died led further than that of the one that follows it.
	errAstray = fmt.Errorf("%w: it has what the primary has not", ErrNoCopy)
)

// measure is one look. What the primary had at a time, the replica has when it has come to
// the place that was asked for after that time.
func (r *replica) measure(ctx context.Context) error {
	at := time.Now()
	place, maria, err := r.of.place(ctx)
	if err != nil {
		return fmt.Errorf("the primary: %w", err)
	}
	if place == "" {
		return ErrNoGTIDs
	}
	if !r.known {
		if err := r.of.CopyOf(ctx, r.pool, r.same); err != nil {
			return err
		}
		r.known = true
	}
	if len(r.marks) == maxMarks { // so far behind, half as many tell how far
		for i := range maxMarks / 2 {
			r.marks[i] = r.marks[2*i]
		}
		r.marks = r.marks[:maxMarks/2]
	}
	r.marks = append(r.marks, mark{at, place})
	reached, err := r.reach(ctx, place, maria)
	has := func(m mark) (there bool) {
		if err == nil {
			there, err = reached(m.place)
		}
		return there
	}
	done := len(r.marks)
	if !has(r.marks[done-1]) { // in most cases it has come to the newest
		done = sort.Search(done, func(i int) bool { return !has(r.marks[i]) })
	}
	switch {
	case err != nil:
		r.known = false // whoever answers next may be another
		return err
	case done == 0:
		return ErrBehind
	}
	at = r.marks[done-1].at
	r.asOf.Store(&at)
	r.marks = slices.Delete(r.marks, 0, done)
	if len(r.marks) > 0 {
		return ErrBehind
	}
	return nil
}

// CopyOf asks this database, where it is written, and another one for what only copies of one have in common: same is
// a statement that gives one value, or NULL where there is none. ErrNoCopy says both values.
func (db *DB) CopyOf(ctx context.Context, other Reader, same string) error {
	var ours, theirs sql.NullString
	err := db.Decide(ctx, func(ctx context.Context, tx *Tx) error {
		return tx.QueryRowContext(ctx, same).Scan(&ours)
	})
	if err != nil {
		return fmt.Errorf("the primary: %w", err)
	}
	if err := other.QueryRowContext(ctx, same).Scan(&theirs); err != nil {
		return err
	}
	if !ours.Valid || ours != theirs {
		return fmt.Errorf("%w: it says %q where ours says %q", ErrNoCopy, theirs.String, ours.String)
	}
	return nil
}

// mysqlNoVariable is a system variable that a server does not have.
const mysqlNoVariable = 1193

// place gives where a server that leads is in its log, "" when it writes none or its changes have no
// GTIDs: then what it has from before, as a replica, stands still. MariaDB's GTIDs and MySQL's are two
// things (mariadb.com/kb/en/gtid, dev.mysql.com/doc/refman/8.4/en/gtid-functions.html).
func (db *DB) place(ctx context.Context) (place string, maria bool, err error) {
	ask := func(query string) error {
		return db.Decide(ctx, func(ctx context.Context, tx *Tx) error {
			return tx.QueryRowContext(ctx, query).Scan(&place)
		})
	}
	err = ask("SELECT IF(@@GLOBAL.log_bin, @@GLOBAL.gtid_current_pos, '')")
	if my := new(mysql.MySQLError); errors.As(err, &my) && my.Number == mysqlNoVariable {
		err = ask("SELECT IF(@@GLOBAL.log_bin AND @@GLOBAL.gtid_mode = 'ON', @@GLOBAL.gtid_executed, '')")
		return place, false, err
	}
	return place, true, err
}

// reach gives what says of a place of the primary's whether the replica has come there; newest is
// the one of a moment ago. MySQL's GTIDs name the server that wrote. MariaDB's are numbers that the
// replica of a primary which died may have of that one: see gtids.
func (r *replica) reach(ctx context.Context, newest string, maria bool) (has func(string) (bool, error), err error) {
	if !maria {
		return func(place string) (there bool, err error) {
			err = r.pool.QueryRowContext(ctx, "SELECT GTID_SUBSET(?, @@GLOBAL.gtid_executed)", place).Scan(&there)
			return there, err
		}, nil
	}
	var at string
	if err := r.pool.QueryRowContext(ctx, "SELECT @@GLOBAL.gtid_slave_pos").Scan(&at); err != nil {
		return nil, err
	}
	is := gtidsOf(at)
	if is.beyond(gtidsOf(newest)) { // by what was written since, or by what this primary does not have
		if newest, _, err = r.of.place(ctx); err != nil {
			return nil, fmt.Errorf("the primary: %w", err)
		}
		if is.beyond(gtidsOf(newest)) {
			return nil, errAstray
		}
	}
	return func(place string) (bool, error) { return is.has(gtidsOf(place)), nil }, nil
}
