package trail

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/oklog/ulid/v2"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
)

// The two rows of an act.
const (
	StepAsked = 0
	StepEnded = 1
)

// How acts end; a refusal has its code behind a colon, such as refused:CONFLICT.
const (
	Done    = "done"
	Refused = "refused"
	Failed  = "failed" // it may have been done: what it was done to says
)

// maxAppends is how often a row is tried that others are written beside: each try means that one of
// them was written.
const maxAppends = 100

// Widths of columns, in characters; what is longer is cut.
const (
	maxTarget  = 64 // and names, sessions, requests
	maxAsked   = 1000
	maxState   = 500
	maxWord    = 40
	maxRole    = 12
	maxAddress = 45 // the longest text of an IPv6 address
)

// Who is whoever acts, and from where.
type Who struct {
	Actor   string // the name of a person, or of the shell: cli:NAME
	Role    string // "" for the shell
	Address string // "" for the shell
	Session string // the beginning of the hash of a browser's session, "" for a token
	// RequestID is that of the log and of the answer's X-Request-Id.
	RequestID string
}

// What is what somebody wants to do.
type What struct {
	Action string // NOUN.VERB: refund.approve
	Target string // the number, id or name of what it is done to
	Reason string
	Asked  string // the parameters, as JSON
}

// Entry is a row of the trail.
type Entry struct {
	Seq  int64
	Act  string // both rows of an act have it
	Step int
	At   time.Time
	Who
	What
	// Outcome is "" at StepAsked.
	Outcome string
	// Was and Became are what it was done to, before and after, where the program knows them.
	Was, Became string
	Prev        string // the Sum of the row before it, "" for the first
	SHA256      string
}

// Sum is the SHA-256 of all that an entry says and of Prev, in hexadecimal: over every field in the
// order of the columns, as its length in bytes, a colon, the text and a line feed. A script of the
// standard tools can make it.
func (e *Entry) Sum() string {
	var b strings.Builder
	for _, text := range []string{strconv.FormatInt(e.Seq, 10), e.Act, strconv.Itoa(e.Step),
		strconv.FormatInt(e.At.UnixMilli(), 10), e.Actor, e.Role, e.Address, e.Session, e.Action, e.Target, e.Reason,
		e.Asked, e.Outcome, e.Was, e.Became, e.RequestID, e.Prev} {
		b.WriteString(strconv.Itoa(len(text)) + ":" + text + "\n")
	}
	sum := sha256.Sum256([]byte(b.String()))
	return hex.EncodeToString(sum[:])
}

// Trail writes and reads the trail. All methods are safe for concurrent use.
type Trail struct {
	db  *sqldb.DB
	now func() time.Time
	log *slog.Logger
}

// New makes the trail of a database, whose schema must be there. log has every head; nil: none.
func New(db *sqldb.DB, now func() time.Time, log *slog.Logger) *Trail {
	return &Trail{db, now, cmp.Or(log, slog.New(slog.DiscardHandler))}
}

// Act is something that has begun; End says how it ended.
type Act struct {
	t    *Trail
	id   string
	who  Who
	what What
}

// Begin commits that somebody wants to do something, before it is done. Whoever has an error does not
// do it.
func (t *Trail) Begin(ctx context.Context, who Who, what What) (*Act, error) {
	a := &Act{t: t, id: NewID(t.now()), who: who, what: what}
	return a, t.Append(ctx, &Entry{Act: a.id, Step: StepAsked, Who: who, What: what, At: t.now()}, nil)
}

// End says how the act ended, by whom if another name acted than began it, and what it was done to before
// and after. An error means that the trail has no end of the act; the act is what it is.
func (a *Act) End(ctx context.Context, actor, outcome, was, became string) error {
	who := a.who
	who.Actor = cmp.Or(actor, who.Actor)
	return a.t.Append(ctx, &Entry{Act: a.id, Step: StepEnded, Who: who, At: a.t.now(),
		What:    What{Action: a.what.Action, Target: a.what.Target, Reason: a.what.Reason},
		Outcome: outcome, Was: was, Became: became}, nil)
}

// Append writes one row in a transaction of its own, once, and completes it; the caller gives what Insert wants. fill
// puts into it what that transaction reads; nil: nothing.
func (t *Trail) Append(ctx context.Context, e *Entry, fill func(ctx context.Context, tx *sqldb.Tx) error) error {
	err := t.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if tx.MayBeDone() {
			done, err := sqldb.Known(ctx, tx, `SELECT seq
FROM trail
WHERE act = ?
  AND step = ?`, e.Act, e.Step)
			if err != nil || done {
				return err
			}
		}
		if fill != nil {
			if err := fill(ctx, tx); err != nil {
				return err
			}
		}
		return Insert(ctx, tx, e)
	})
	if err != nil {
		return sqldb.Wrap("write the audit trail", err)
	}
	t.Told(e)
	return nil
}

// Told makes a row that is committed a line of the log, with its hash: whoever takes rows off the end of the table has
// not the log. What Insert wrote its caller tells, after its transaction.
func (t *Trail) Told(e *Entry) {
	t.log.Info("trail", "seq", e.Seq, "action", e.Action, "target", e.Target, "actor", e.Actor, "outcome", e.Outcome,
		"sha256", e.SHA256)
}

// Insert adds a row as the last statement of a transaction of the caller's, for what is done in that same
// transaction, and completes it. The caller gives Act (NewID), Step, At, who, what and the outcome. What is
// longer than its column is cut. Two transactions that add at once add one after the other.
func Insert(ctx context.Context, tx *sqldb.Tx, e *Entry) error {
	e.At = e.At.UTC().Truncate(time.Millisecond)
	e.Actor, e.Role = cut(e.Actor, maxTarget), cut(e.Role, maxRole)
	e.Address, e.Session = cut(e.Address, maxAddress), cut(e.Session, maxTarget)
	e.Action, e.Target, e.Reason = cut(e.Action, maxWord), cut(e.Target, maxTarget), cut(e.Reason, bounds.Reason.Most)
	e.Asked, e.Outcome, e.RequestID = cut(e.Asked, maxAsked), cut(e.Outcome, maxWord), cut(e.RequestID, maxTarget)
	e.Was, e.Became = cut(e.Was, maxState), cut(e.Became, maxState)
	for range maxAppends {
		e.Seq, e.Prev = 1, ""
		err := sqldb.Each(ctx, tx, `SELECT seq + 1, sha256
FROM trail
ORDER BY seq DESC
LIMIT 1`, nil, func(rows *sql.Rows) error { return rows.Scan(&e.Seq, &e.Prev) })
		if err != nil {
			return err
		}
		e.SHA256 = e.Sum()
		_, err = tx.ExecContext(ctx, `INSERT INTO trail
  (seq, act, step, at, actor, role, address, session, action, target, reason, asked, outcome, was, became,
  request_id, prev_sha256, sha256)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, e.Seq, e.Act, e.Step, e.At.UnixMilli(), e.Actor,
			e.Role, e.Address, e.Session, e.Action, e.Target, e.Reason, e.Asked, e.Outcome, e.Was, e.Became,
			e.RequestID, e.Prev, e.SHA256)
		if !sqldb.IsDuplicate(err) {
			return err
		}
		if known, err := sqldb.Known(ctx, tx, `SELECT seq
FROM trail
WHERE act = ?
  AND step = ?`, e.Act, e.Step); err != nil || known {
			return err
		}
	}
	return errors.New("the audit trail: others write faster than this row")
}

// NewID gives the number of an act: a ULID.
func NewID(now time.Time) string {
	return ulid.MustNew(ulid.Timestamp(now), rand.Reader).String()
}

// cut gives at most so many characters, and none that would not be stored as it is.
func cut(text string, most int) string {
	text = strings.ToValidUTF8(text, "�")
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:most-1]) + "…"
}

// Target gives a target as its column has it, for a log beside the trail.
func Target(text string) string { return cut(text, maxTarget) }

// columns are those of an Entry, as scan reads them.
const columns = `seq, act, step, at, actor, role, address, session, action, target, reason, asked, outcome, was, became,
  request_id, prev_sha256, sha256`

// scan reads a row of columns.
func scan(rows *sql.Rows) (Entry, error) {
	var e Entry
	var at int64
	err := rows.Scan(&e.Seq, &e.Act, &e.Step, &at, &e.Actor, &e.Role, &e.Address, &e.Session, &e.Action, &e.Target,
		&e.Reason, &e.Asked, &e.Outcome, &e.Was, &e.Became, &e.RequestID, &e.Prev, &e.SHA256)
	e.At = time.UnixMilli(at).UTC()
	return e, err
}

// Check reads the whole trail and tells found of each row that does not fit the one before it, has another
// number than it should, or is not what its hash says; as "name=value" pairs for a person.
func Check(ctx context.Context, q sqldb.Querier, found func(row string)) error {
	seq, prev := int64(0), ""
	return sqldb.Each(ctx, q, `SELECT `+columns+`
FROM trail
ORDER BY seq`, nil, func(rows *sql.Rows) error {
		e, err := scan(rows)
		if err != nil {
			return err
		}
		if why := e.wrong(seq+1, prev); why != "" {
			found(e.told(why))
		}
		seq, prev = e.Seq, e.SHA256
		return nil
	})
}

// rowChanged is what is wrong with a row that says something else than was written.
const rowChanged = "the row was changed"

// wrong says what is wrong with an entry that should have a number and follow a hash, "" for nothing.
func (e *Entry) wrong(seq int64, prev string) string {
	switch {
	case e.Seq > seq:
		return fmt.Sprintf("rows %d to %d are missing", seq, e.Seq-1)
	case e.Seq < seq:
		return fmt.Sprintf("row %d should be here", seq)
	case e.Prev != prev:
		return "the row before it is another"
	case e.SHA256 != e.Sum():
		return rowChanged
	}
	return ""
}

// told is a wrong row as "name=value" pairs for a person.
func (e *Entry) told(why string) string {
	return fmt.Sprintf("seq=%d act=%s action=%s target=%s why=%s", e.Seq, e.Act, e.Action, e.Target, why)
}
