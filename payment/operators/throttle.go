package operators

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"orderd/migrations/sqldb"
)

// Bounds of wrong logins.
const (
	// MostWrong is how many wrong logins a name has within WrongWithin, and a browser that is known:
	// a password of CheckPassword is not guessed at twenty an hour.
	MostWrong = 5
	// MostWrongAddress is how many an address has, over all names. It is more, because all who work
	// behind one gateway are one address, and the mistakes of one must not keep the others out.
	MostWrongAddress = 30
	// WrongWithin is how long a wrong login counts.
	WrongWithin = 15 * time.Minute
	// BrowserFor is how long a browser is known that somebody has come in by.
	BrowserFor = 90 * 24 * time.Hour
	// browserBytes is how many random bytes tell known browsers apart.
	browserBytes = 16
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

// bucket is what wrong logins are counted under, and how many it takes.
type bucket struct {
	who  string
	most int
}

// bucketOf is that of a name, an address or such. It stands in the database as a hash, because a
// password may stand where the name should; under a key that is not there, because what people type
// by mistake is guessed in no time.
func (l *Logins) bucketOf(kind, value string, most int) bucket {
	return bucket{l.mac(kind, value), most}
}

// mac is a hash of something of a kind under the key of Keyed.
func (l *Logins) mac(kind, value string) string {
	h := hmac.New(sha256.New, l.key)
	h.Write([]byte(kind + ":" + value))
	return hex.EncodeToString(h.Sum(nil))
}

// reserveLogin is reserve of a login. A browser that its person has come in by before counts for
// itself: whoever guesses elsewhere, by that name or from the same address, does not keep them out.
func (l *Logins) reserveLogin(ctx context.Context, in Login) (attempt, error) {
	if nonce, ok := l.known(in.Known, in.Name); ok {
		return l.reserve(ctx, l.bucketOf("browser", nonce, MostWrong))
	}
	return l.reserve(ctx, l.bucketOf("name", Key(in.Name), MostWrong),
		l.bucketOf("address", in.Browser.Address, MostWrongAddress))
}

// Know gives what a browser keeps that a person has come in by, for Login.Known. It lets nobody in:
// its guesses at that person's password are counted apart, and no others.
func (l *Logins) Know(person string) string {
	raw := make([]byte, browserBytes)
	rand.Read(raw) // never fails, says its documentation
	text := base64.RawURLEncoding.EncodeToString(raw) + "." + strconv.FormatInt(l.now().Add(BrowserFor).Unix(), 10)
	return text + "." + l.mac("known browser", text+" "+Key(person))
}

// known gives what tells a browser from others of which Know said that the person came in by it.
func (l *Logins) known(value, name string) (nonce string, ok bool) {
	at := strings.LastIndexByte(value, '.')
	if at < 0 {
		return "", false
	}
	nonce, until, _ := strings.Cut(value[:at], ".")
	end, err := strconv.ParseInt(until, 10, 64)
	fits := hmac.Equal([]byte(value[at+1:]), []byte(l.mac("known browser", value[:at]+" "+Key(name))))
	return nonce, fits && err == nil && l.now().Unix() < end
}

// reserveProof is reserve of a password or code that the person of a session gives again. It counts
// for the session: who guesses at the door does not keep those out of their work who are in.
func (l *Logins) reserveProof(ctx context.Context, s Session) (attempt, error) {
	return l.reserve(ctx, l.bucketOf("session", s.ID, MostWrong))
}

// reserve counts something as wrong before it is looked at. Errors: a *ThrottledError, database
// errors.
func (l *Logins) reserve(ctx context.Context, own bucket, others ...bucket) (attempt, error) {
	var a attempt
	var wait time.Duration
	isNew := false
	all := append([]bucket{own}, others...)
	slices.SortFunc(all, func(a, b bucket) int { return strings.Compare(a.who, b.who) }) // locks of two in one order
	err := l.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		now := l.now()
		a = attempt{at: now.UnixMilli(), own: own.who}
		wait = 0
		rows := make([]*tries, len(all))
		for i, b := range all {
			t, err := lockTries(ctx, tx, b.who, now)
			if err != nil {
				return err
			}
			rows[i] = t
			isNew = isNew || !t.there
			wait = max(wait, t.wait(now, b.most))
		}
		if wait > 0 {
			return nil
		}
		for i, b := range all {
			a.keys = append(a.keys, b.who)
			rows[i].at = append(rows[i].at, a.at)
			if err := rows[i].write(ctx, tx, b.who); err != nil {
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

// wait gives how long until another login is looked at, of which there are most at a time; 0 for none.
func (t *tries) wait(now time.Time, most int) time.Duration {
	if len(t.at) < most {
		return 0
	}
	oldest := sqldb.FromMillis(t.at[len(t.at)-most])
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
