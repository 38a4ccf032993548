package operators

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"orderd/migrations/sqldb"
)

// LinkFor is how long a link is good: whoever it is for sits beside, or is called.
const LinkFor = 30 * time.Minute

// Errors of links.
var (
	// ErrLink: the link was used, has ended, or never was.
	ErrLink = errors.New("this link was used, has ended, or never was; have another one made")
	// ErrBegun: somebody has an account, so that no link makes the first person any more.
	ErrBegun = errors.New("somebody has an account already; 'orderd operator link NAME' makes a link for a person")
)

// Link is a link by which a password is set, once, without the one of before and without a
// one-time code. Whoever made it had it in hand: see Second.
type Link struct {
	// Person is whose it is; "" for the one that makes the first person, an admin.
	Person  string
	EndsAt  time.Time
	by, sum string
}

// FirstLink makes a link for the first person, while nobody has an account: by is the machine's
// shell. A shop whose people work by tokens has people already, and they are let in by LinkOf. Links
// of before that nobody used end. Errors: ErrBegun, database errors.
func (l *Logins) FirstLink(ctx context.Context, by string) (secret string, err error) {
	return l.insertLink(ctx, "", by, func(ctx context.Context, tx *sqldb.Tx) error {
		begun, err := anybody(ctx, tx)
		if err == nil && begun {
			err = ErrBegun
		}
		return err
	})
}

// LinkOf makes a link for a person who has an account. by is who made it. Links of the same
// person that nobody used end. Errors: ErrNoAccount, database errors.
func (l *Logins) LinkOf(ctx context.Context, person, by string) (secret string, err error) {
	return l.insertLink(ctx, person, by, func(ctx context.Context, tx *sqldb.Tx) error {
		role, err := lockAccount(ctx, tx, person)
		if err == nil && role == "" {
			err = ErrNoAccount
		}
		return err
	})
}

// insertLink writes a link, after what has to be found before.
func (l *Logins) insertLink(ctx context.Context, person, by string,
	before func(ctx context.Context, tx *sqldb.Tx) error) (string, error) {
	secret, sum := newSecret()
	err := l.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if tx.MayBeDone() {
			done, err := sqldb.Known(ctx, tx, `SELECT sha256
FROM operator_links
WHERE sha256 = ?`, sum)
			if err != nil || done {
				return err
			}
		}
		if err := before(ctx, tx); err != nil {
			return err
		}
		if err := endLinks(ctx, tx, person); err != nil {
			return err
		}
		now := l.now()
		_, err := tx.ExecContext(ctx, `INSERT INTO operator_links
  (sha256, person, created_by, created_at, ends_at)
VALUES (?, ?, ?, ?, ?)`, sum, person, by, now.UnixMilli(), now.Add(LinkFor).UnixMilli())
		return err
	})
	if err != nil {
		return "", fmt.Errorf("make a link of %.64s: %w", person, err)
	}
	return secret, nil
}

// endLinks ends the links of a person that nobody used.
func endLinks(ctx context.Context, tx *sqldb.Tx, person string) error {
	_, err := tx.Update(ctx, `UPDATE operator_links
SET ends_at = 0
WHERE person = ?
  AND used_at = 0`, person)
	return err
}

// anybody reports that somebody has an account that is in use, or a password.
func anybody(ctx context.Context, tx *sqldb.Tx) (bool, error) {
	return sqldb.Known(ctx, tx, `SELECT name
FROM operators
WHERE disabled_at = 0
UNION ALL
SELECT person
FROM operator_passwords`)
}

// lockAccount gives the role of an account that is in use, "" for none, and keeps it so.
func lockAccount(ctx context.Context, tx *sqldb.Tx, name string) (role Role, err error) {
	err = sqldb.Each(ctx, tx, `SELECT role
FROM operators
WHERE name = ?
  AND disabled_at = 0
FOR UPDATE`, []any{name}, func(rows *sql.Rows) error { return rows.Scan(&role) })
	return role, err
}

// FindLink gives a link that is good, for showing whose it is. Errors: ErrLink, database errors.
func (l *Logins) FindLink(ctx context.Context, secret string) (Link, error) {
	k := Link{sum: hashOf(secret)}
	var found bool
	err := l.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		found = false
		return sqldb.Each(ctx, tx, `SELECT person, created_by, ends_at
FROM operator_links
WHERE sha256 = ?
  AND used_at = 0
  AND ends_at > ?`, []any{k.sum, l.now().UnixMilli()}, func(rows *sql.Rows) error {
			var ends int64
			err := rows.Scan(&k.Person, &k.by, &ends)
			k.EndsAt, found = sqldb.FromMillis(ends), true
			return err
		})
	})
	switch {
	case err != nil:
		return Link{}, fmt.Errorf("look a link up: %w", err)
	case !found:
		return Link{}, ErrLink
	}
	return k, nil
}

// UseLink sets the password of a link's person, takes away their one-time codes, ends their
// sessions and the one that the browser had, whose secret is old ("" for none), and gives the secret
// of a new one. The link that makes the first person makes the
// account of name; other links have their person, and name is not looked at. A link works once,
// whoever else has it at the same moment. Errors: ErrLink, ErrPassword, those of Insert,
// database errors.
func (l *Logins) UseLink(ctx context.Context, secret, name, password, old string, b Browser,
	also Also) (string, error) {
	k, err := l.FindLink(ctx, secret)
	if err != nil {
		return "", err
	}
	if k.Person != "" {
		name = k.Person
	} else if err := CheckName(name); err != nil {
		return "", err
	}
	if err := CheckPassword(name, password); err != nil {
		return "", err
	}
	hash, err := l.hash(ctx, password)
	if err != nil {
		return "", err
	}
	session, id := newSecret()
	err = l.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if done, err := made(ctx, tx, id); done || err != nil {
			return err
		}
		role, err := l.takeLink(ctx, tx, k, name)
		if err != nil {
			return err
		}
		if err := l.setPassword(ctx, tx, name, hash); err != nil {
			return err
		}
		if err := l.endAll(ctx, tx, name, ""); err != nil {
			return err
		}
		if err := l.endOld(ctx, tx, old); err != nil {
			return err
		}
		return l.insertSession(ctx, tx, id, name, role, b, also)
	})
	if err != nil {
		return "", fmt.Errorf("use a link of %.64s: %w", name, err)
	}
	return session, nil
}

// takeLink uses a link up and gives the role of its person, whose account it makes if it is the
// first.
func (l *Logins) takeLink(ctx context.Context, tx *sqldb.Tx, k Link, name string) (Role, error) {
	now := l.now()
	n, err := tx.Update(ctx, `UPDATE operator_links
SET used_at = ?
WHERE sha256 = ?
  AND used_at = 0
  AND ends_at > ?`, now.UnixMilli(), k.sum, now.UnixMilli())
	if err == nil && n == 0 {
		err = ErrLink
	}
	if err != nil {
		return "", err
	}
	// Of two links for the first person that are used at one moment one waits here for the other,
	// and finds its own ended when it is tried again.
	if err := endLinks(ctx, tx, k.Person); err != nil {
		return "", err
	}
	if k.Person == "" {
		begun, err := anybody(ctx, tx)
		if err == nil && begun {
			err = ErrLink
		}
		if err != nil {
			return "", err
		}
		return Admin, Insert(ctx, tx, name, Admin, k.by, now)
	}
	role, err := lockAccount(ctx, tx, name)
	if err == nil && role == "" {
		err = ErrLink
	}
	return role, err
}

// setPassword writes a person's password, the first or another one, and takes one-time codes
// away.
func (l *Logins) setPassword(ctx context.Context, tx *sqldb.Tx, person, hash string) error {
	now := l.now().UnixMilli()
	n, err := tx.Update(ctx, `UPDATE operator_passwords
SET hash = ?, set_at = ?, totp = '', totp_new = ''
WHERE person = ?`, hash, now, person)
	if err != nil || n > 0 {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO operator_passwords
  (person, hash, set_at)
VALUES (?, ?, ?)`, person, hash, now)
	return err
}

// Person is an account and how it comes into the console.
type Person struct {
	Account
	HasPassword, TOTP bool
	Sessions          int64 // that are good now
}

// People gives all accounts by name, those that were disabled too.
func (l *Logins) People(ctx context.Context) ([]Person, error) { return l.people(ctx, "1 = 1") }

// Person gives one, disabled or not. Errors: ErrNoAccount, database errors.
func (l *Logins) Person(ctx context.Context, name string) (Person, error) {
	found, err := l.people(ctx, "o.name = ?", name)
	if err != nil || len(found) == 0 {
		return Person{}, cmp.Or(err, ErrNoAccount)
	}
	return found[0], nil
}

// people gives accounts by name.
func (l *Logins) people(ctx context.Context, where string, args ...any) ([]Person, error) {
	var all []Person
	err := l.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		all = nil
		return sqldb.Each(ctx, tx, `SELECT o.name, o.role, o.created_by, o.created_at, o.disabled_at, o.disabled_by,
  COALESCE(p.hash, ''), COALESCE(p.totp, ''), (
    SELECT COUNT(*)
    FROM operator_sessions s
    WHERE s.person = o.name
      AND `+live+`)
FROM operators o
LEFT JOIN operator_passwords p ON p.person = o.name
WHERE `+where+`
ORDER BY o.name`, append(liveArgs(l.now()), args...), func(rows *sql.Rows) error {
			var p Person
			var created, disabled int64
			var hash, totp string
			err := rows.Scan(&p.Name, &p.Role, &p.CreatedBy, &created, &disabled, &p.DisabledBy, &hash, &totp,
				&p.Sessions)
			p.CreatedAt, p.HasPassword, p.TOTP = sqldb.FromMillis(created), hash != "", totp != ""
			if disabled != 0 {
				at := sqldb.FromMillis(disabled)
				p.DisabledAt = &at
			}
			all = append(all, p)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list people: %w", err)
	}
	return all, nil
}
