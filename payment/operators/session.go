package operators

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
)

// How long sessions are good.
const (
	// SessionIdle ends a session that nobody uses: whoever walks away from the desk.
	SessionIdle = 30 * time.Minute
	// SessionMost ends every session: a working day, and the next one begins with a login.
	SessionMost = 12 * time.Hour
	// SessionsKept is how long sessions that ended can be read.
	SessionsKept = 30 * 24 * time.Hour
	// ProvedFor is how long the password need not be given again for what moves much.
	ProvedFor = 5 * time.Minute
	// seenEvery is how often the use of a session is written down: a page is no write.
	seenEvery = time.Minute
	// secretBytes is how many random bytes a session or a link has. 256 bits cannot be guessed,
	// so its plain SHA-256 may be stored.
	secretBytes = 32
)

// Session is somebody's browser that has logged in.
type Session struct {
	// ID is the hash of its secret: it names a session in lists and lets nobody in.
	ID                string
	Person            string
	Role              Role
	CreatedAt, SeenAt time.Time
	ProvedAt          time.Time // when the password was last given
	Address, Agent    string
	TOTP              bool // the person's logins take a one-time code
}

// Proved reports that the password was given within ProvedFor.
func (s Session) Proved(now time.Time) bool { return now.Before(s.ProvedAt.Add(ProvedFor)) }

// Also is what a caller writes in the transaction that makes a session, as the last of it; it may be run
// twice. nil: nothing.
type Also func(ctx context.Context, tx *sqldb.Tx, s Session) error

// Browser is what is known of a browser: where it is and what it calls itself. Both are for
// people, who shall know their own; the address also bounds wrong logins.
type Browser struct{ Address, Agent string }

// newSecret gives a secret and its hash.
func newSecret() (secret, sum string) {
	raw := make([]byte, secretBytes)
	rand.Read(raw) // never fails, says its documentation
	secret = base64.RawURLEncoding.EncodeToString(raw)
	return secret, hashOf(secret)
}

// hashOf is what is stored of a secret of 256 bits.
func hashOf(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// live is the condition that a session s of an account o is good. A role that has changed ends
// it here too: the program before logins changes roles and ends no session.
const live = `s.ended_at = 0
  AND s.created_at > ?
  AND s.seen_at > ?
  AND o.disabled_at = 0
  AND o.role = s.role`

// liveArgs are the arguments of live.
func liveArgs(now time.Time) []any {
	return []any{now.Add(-SessionMost).UnixMilli(), now.Add(-SessionIdle).UnixMilli()}
}

// Who gives the session of a secret, nil for one that has ended or never was. It is looked up
// each time: a session that was ended lets nobody in, in any process. A database that does not
// answer is sqldb.ErrUnavailable.
func (l *Logins) Who(ctx context.Context, secret string) (*Session, error) {
	now, id := l.now(), hashOf(secret)
	var found []Session
	err := l.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		found, err = sessions(ctx, tx, "s.sha256 = ?", id, now)
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("look a session up: %w", err), sqldb.ErrUnavailable)
	}
	if len(found) == 0 {
		return nil, nil
	}
	s := &found[0]
	if now.Sub(s.SeenAt) >= seenEvery {
		// That it was seen is no reason to refuse: unwritten, it ends a little earlier.
		_ = l.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.Update(ctx, `UPDATE operator_sessions
SET seen_at = ?
WHERE sha256 = ?
  AND ended_at = 0
  AND seen_at < ?`, now.UnixMilli(), id, now.UnixMilli())
			return err
		})
	}
	return s, nil
}

// sessions reads those that are good, by a condition with one argument, the newest first.
func sessions(ctx context.Context, tx *sqldb.Tx, where, arg string, now time.Time) ([]Session, error) {
	var all []Session
	err := sqldb.Each(ctx, tx, `SELECT s.sha256, s.person, s.role, s.created_at, s.seen_at, s.proved_at, s.address,
  s.agent, p.totp
FROM operator_sessions s
JOIN operators o ON o.name = s.person
JOIN operator_passwords p ON p.person = s.person
WHERE `+where+`
  AND `+live+`
ORDER BY s.created_at DESC, s.sha256`, append([]any{arg}, liveArgs(now)...), func(rows *sql.Rows) error {
		var s Session
		var created, seen, proved int64
		var totp string
		err := rows.Scan(&s.ID, &s.Person, &s.Role, &created, &seen, &proved, &s.Address, &s.Agent, &totp)
		s.CreatedAt, s.SeenAt, s.ProvedAt = sqldb.FromMillis(created), sqldb.FromMillis(seen),
			sqldb.FromMillis(proved)
		s.TOTP = totp != ""
		all = append(all, s)
		return err
	})
	return all, err
}

// Sessions gives the sessions of a person that are good, the newest first.
func (l *Logins) Sessions(ctx context.Context, person string) (all []Session, err error) {
	err = l.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		all, err = sessions(ctx, tx, "s.person = ?", person, l.now())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list sessions of %.64s: %w", person, err)
	}
	return all, nil
}

// insertSession writes a session of a person with a role; the password was just given. It is the last of
// its transaction, but for what is written also.
func (l *Logins) insertSession(ctx context.Context, tx *sqldb.Tx, id, person string, role Role, b Browser,
	also Also) error {
	now := l.now().UnixMilli()
	_, err := tx.ExecContext(ctx, `INSERT INTO operator_sessions
  (sha256, person, role, created_at, seen_at, proved_at, address, agent)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)`, id, person, string(role), now, now, now, b.Address, bounds.Agent.Fitted(b.Agent))
	if err != nil || also == nil {
		return err
	}
	return also(ctx, tx, Session{ID: id, Person: person, Role: role})
}

// made says that a session was written by a run of the same call before this one.
func made(ctx context.Context, tx *sqldb.Tx, id string) (bool, error) {
	if !tx.MayBeDone() {
		return false, nil
	}
	return sqldb.Known(ctx, tx, `SELECT sha256
FROM operator_sessions
WHERE sha256 = ?`, id)
}

// endAll ends the sessions of a person in a transaction, but for the one with the id given.
func (l *Logins) endAll(ctx context.Context, tx *sqldb.Tx, person, but string) error {
	return endSessions(ctx, tx, person, but, l.now())
}

// endSessions ends the sessions of a person, but for one; "" for all.
func endSessions(ctx context.Context, tx *sqldb.Tx, person, but string, now time.Time) error {
	_, err := tx.Update(ctx, `UPDATE operator_sessions
SET ended_at = ?
WHERE person = ?
  AND ended_at = 0
  AND sha256 <> ?`, now.UnixMilli(), person, but)
	return err
}

// endOld ends the session that a browser had before it got another one, by its secret; "" for none.
func (l *Logins) endOld(ctx context.Context, tx *sqldb.Tx, secret string) error {
	if secret == "" {
		return nil
	}
	_, err := tx.Update(ctx, `UPDATE operator_sessions
SET ended_at = ?
WHERE sha256 = ?
  AND ended_at = 0`, l.now().UnixMilli(), hashOf(secret))
	return err
}

// End ends a session of a person by its id. One that has ended, or is another's, is no error:
// it lets nobody in that the caller asked about.
func (l *Logins) End(ctx context.Context, person, id string) error {
	err := l.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Update(ctx, `UPDATE operator_sessions
SET ended_at = ?
WHERE sha256 = ?
  AND person = ?
  AND ended_at = 0`, l.now().UnixMilli(), id, person)
		return err
	})
	if err != nil {
		return fmt.Errorf("end a session of %.64s: %w", person, err)
	}
	return nil
}

// EndAll ends the sessions of a person, but for the one with the id given, "" for all.
func (l *Logins) EndAll(ctx context.Context, person, but string) error {
	err := l.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		return l.endAll(ctx, tx, person, but)
	})
	if err != nil {
		return fmt.Errorf("end the sessions of %.64s: %w", person, err)
	}
	return nil
}
