package operators

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"orderd/migrations/sqldb"
)

// Bounds of wrong logins.
const (
	// MostWrong is how many wrong logins a name and an address have within WrongWithin, each: a
	// password of CheckPassword is not guessed at twenty an hour.
	MostWrong = 5
	// WrongWithin is how long a wrong login counts.
	WrongWithin = 15 * time.Minute
)

// ThrottledError: too many wrong logins of this name or from this address. It is the same for a
// name that nobody has, and no password was looked at.
type ThrottledError struct{ Wait time.Duration }

func (e *ThrottledError) Error() string {
	return fmt.Sprintf("too many wrong logins; wait %s", e.Wait.Round(time.Second))
}

// attempt is a login that counts as wrong until it is forgiven. So many processes, and many
// requests at the same moment, have no more tries together than one after the other.
type attempt struct {
	at   int64    // in ms
	own  string   // of the person alone: forgiven, it forgets the others, too
	keys []string // all that it counts for, ascending
}

// throttled gives what failures of a kind are counted under: a hash, because a password may stand
// where the name should, and because names have no bound here.
func throttled(kind, value string) string {
	sum := sha256.Sum256([]byte(kind + ":" + value))
	return hex.EncodeToString(sum[:])
}

// reserveLogin is reserve of a login of a name from an address. A loopback address is whoever comes
// by a tunnel or a proxy on this machine, and counts for nobody.
func (l *Logins) reserveLogin(ctx context.Context, name, address string) (attempt, error) {
	own := throttled("name", Key(name))
	if ip, err := netip.ParseAddr(address); err == nil && ip.Unmap().IsLoopback() {
		return l.reserve(ctx, own)
	}
	return l.reserve(ctx, own, throttled("address", address))
}

// reserveProof is reserve of a password or code that the person of a session gives again. It counts
// for the session: who guesses at the door does not keep those out of their work who are in.
func (l *Logins) reserveProof(ctx context.Context, s Session) (attempt, error) {
	return l.reserve(ctx, throttled("session", s.ID))
}

// reserve counts something as wrong before it is looked at. Errors: a *ThrottledError, database
// errors.
func (l *Logins) reserve(ctx context.Context, own string, others ...string) (attempt, error) {
	var a attempt
	var wait time.Duration
	isNew := false
	err := l.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		now := l.now()
		a = attempt{now.UnixMilli(), own, append([]string{own}, others...)}
		wait = 0
		rows := map[string]*tries{}
		slices.Sort(a.keys) // two logins lock in the same order
		for _, who := range a.keys {
			t, err := lockTries(ctx, tx, who, now)
			if err != nil {
				return err
			}
			rows[who] = t
			isNew = isNew || !t.there
			wait = max(wait, t.wait(now))
		}
		if wait > 0 {
			return nil
		}
		for _, who := range a.keys {
			t := rows[who]
			t.at = append(t.at, a.at)
			if err := t.write(ctx, tx, who); err != nil {
				return err
			}
		}
		return nil
	})
	switch {
	case err != nil:
		return a, fmt.Errorf("count a login: %w", err)
	case wait > 0:
		return a, &ThrottledError{wait}
	case isNew:
		l.prune(ctx)
	}
	return a, nil
}

// tries are the wrong logins of a name or an address that count still, in ms.
type tries struct {
	at    []int64
	there bool // it has a row
}

// lockTries reads them under lock.
func lockTries(ctx context.Context, tx *sqldb.Tx, who string, now time.Time) (*tries, error) {
	var text string
	err := tx.QueryRowContext(ctx, `SELECT tries
FROM login_failures
WHERE who = ?
FOR UPDATE`, who).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return &tries{}, nil
	}
	t := &tries{there: true}
	for word := range strings.FieldsSeq(text) {
		at, wrong := strconv.ParseInt(word, 10, 64)
		if wrong == nil && at > now.Add(-WrongWithin).UnixMilli() {
			t.at = append(t.at, at)
		}
	}
	return t, err
}

// wait gives how long until another login is looked at, 0 for none.
func (t *tries) wait(now time.Time) time.Duration {
	if len(t.at) < MostWrong {
		return 0
	}
	oldest := sqldb.FromMillis(t.at[len(t.at)-MostWrong])
	return max(oldest.Add(WrongWithin).Sub(now), time.Second)
}

// write stores them.
func (t *tries) write(ctx context.Context, tx *sqldb.Tx, who string) error {
	words := make([]string, len(t.at))
	for i, at := range t.at {
		words[i] = strconv.FormatInt(at, 10)
	}
	text, last := strings.Join(words, " "), int64(0)
	if len(t.at) > 0 {
		last = slices.Max(t.at)
	}
	if t.there {
		return tx.UpdateRows(ctx, 1, `UPDATE login_failures
SET tries = ?, at = ?
WHERE who = ?`, text, last, who)
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO login_failures (who, tries, at)
VALUES (?, ?, ?)`, who, text, last)
	if sqldb.IsDuplicate(err) { // another login of the same moment: the row is there now
		return sqldb.ErrLostRace
	}
	return err
}

// forgive takes a login that was right out of the count, and with it those of the same name: its
// person is here. What others did from the same address counts on.
func (a attempt) forgive(ctx context.Context, tx *sqldb.Tx) error {
	for _, who := range a.keys {
		t, err := lockTries(ctx, tx, who, time.UnixMilli(a.at))
		if err != nil {
			return err
		}
		if !t.there {
			continue
		}
		if i := slices.Index(t.at, a.at); i >= 0 {
			t.at = slices.Delete(t.at, i, i+1)
		}
		if who == a.own {
			t.at = nil
		}
		if err := t.write(ctx, tx, who); err != nil {
			return err
		}
	}
	return nil
}

// prune forgets failures and sessions that count no more. Where it fails the next one does it.
func (l *Logins) prune(ctx context.Context) {
	now := l.now()
	_ = l.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if _, err := tx.Update(ctx, `DELETE FROM login_failures
WHERE at < ?`, now.Add(-WrongWithin).UnixMilli()); err != nil {
			return err
		}
		_, err := tx.Update(ctx, `DELETE FROM operator_sessions
WHERE created_at < ?`, now.Add(-SessionsKept).UnixMilli())
		return err
	})
}
