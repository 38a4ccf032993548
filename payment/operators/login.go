package operators

import (
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"orderd/migrations/seal"
	"orderd/migrations/sqldb"
)

// ErrLogin: name, password or one-time code is not right. It does not say which, and it takes
// the same work for a name that nobody has.
var ErrLogin = errors.New("name, password or one-time code is not right")

// LoginConfig is what NewLogins needs; DB and Now are required.
type LoginConfig struct {
	DB   *sqldb.DB
	Now  func() time.Time
	Cost Cost
	// Key keeps the secrets of one-time codes in the database, of seal.MinKey bytes or more; "": none
	// begin, and those that are sealed let nobody in.
	Key string
	// Hashed is called for each computation of a hash; nil: nobody counts.
	Hashed func()
}

// Logins are the passwords, one-time codes, links and sessions by which people come into the
// console. It is safe for concurrent use, and nothing of it is kept in memory: processes on one
// database are one.
type Logins struct {
	db     *sqldb.DB
	now    func() time.Time
	cost   Cost
	hashed func()
	slots  chan struct{}
	key    []byte    // see Keyed
	box    *seal.Box // nil without a key
	// nobody is a secret that stands for those that people do not have.
	nobody string
}

// NewLogins makes the logins of a database, whose schema must be there. A key that is too short is
// the caller's to refuse, and panics.
func NewLogins(c LoginConfig) *Logins {
	l := &Logins{db: c.DB, now: c.Now, cost: cmp.Or(c.Cost, DefaultCost), hashed: c.Hashed,
		slots: make(chan struct{}, hashesAtOnce), nobody: totpSecrets.EncodeToString(make([]byte, totpBytes))}
	random, _ := newSecret()
	l.Keyed(random)
	if c.Key != "" {
		var err error
		if l.box, err = seal.New(c.Key, "one-time codes"); err != nil {
			panic(err)
		}
		l.nobody = l.box.Seal(make([]byte, totpBytes), "")
	}
	return l
}

// Keyed has wrong logins counted, and browsers known, under a secret that is not in the database: the
// bootstrap token, which all processes with a console have. Before it, or with another one, a process
// counts for itself alone. It is called before the first login.
func (l *Logins) Keyed(secret string) {
	sum := sha256.Sum256([]byte("orderd logins\n" + secret))
	l.key = sum[:]
}

// credential is what a login of a person is held against; the zero value is nobody's.
type credential struct {
	hash, totp, begun string
	step              int64 // of the last code that was used
	role              Role
}

// Login is one.
type Login struct {
	Name, Password string
	Code           string // of TOTP, "" for none
	Browser        Browser
	// Known is what Know gave the browser, "" for nothing.
	Known string
	// Old is the secret of the session that the browser had, which ends: "" for none.
	Old  string
	Also Also
}

// Login lets a person in and gives the secret of the session, which is always a new one. Whatever is
// not right, the same is done until it says so. Errors: ErrLogin, with ErrSealed where the code could
// not be looked at; a *ThrottledError, database errors.
func (l *Logins) Login(ctx context.Context, in Login) (secret string, err error) {
	try, err := l.reserveLogin(ctx, in)
	if err != nil {
		return "", err
	}
	var c credential
	err = l.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return c.read(ctx, tx, in.Name, "") })
	if err != nil {
		return "", fmt.Errorf("log in: %w", err)
	}
	ok, dated, err := l.fits(ctx, c.hash, in.Password)
	if err != nil {
		return "", err
	}
	step, coded, err := l.judgeCode(c, in)
	if !ok || !coded {
		if err != nil {
			return "", errors.Join(ErrLogin, err)
		}
		return "", ErrLogin
	}
	again := ""
	if dated {
		if again, err = l.hash(ctx, in.Password); err != nil {
			return "", err
		}
	}
	secret, id := newSecret()
	err = l.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if done, err := made(ctx, tx, id); done || err != nil {
			return err
		}
		var now credential
		if err := now.lock(ctx, tx, in.Name); err != nil {
			return err
		}
		if now.hash != c.hash || now.totp != c.totp { // changed since it was compared
			return ErrLogin
		}
		if err := useCode(ctx, tx, in.Name, now, step); err != nil {
			return err
		}
		if again != "" {
			if err := tx.UpdateRows(ctx, 1, `UPDATE operator_passwords
SET hash = ?
WHERE person = ?`, again, in.Name); err != nil {
				return err
			}
		}
		if err := l.endOld(ctx, tx, in.Old); err != nil {
			return err
		}
		if err := try.forgive(ctx, tx); err != nil {
			return err
		}
		return l.insertSession(ctx, tx, id, in.Name, now.role, in.Browser, in.Also)
	})
	if err != nil {
		return "", fmt.Errorf("log in: %w", err)
	}
	l.prune(ctx)
	return secret, nil
}

// judgeCode says whether the one-time code of a login is right and was not used; where the person has
// none, any is. It does the same for everybody, whether or not they are there, have codes, or gave the
// right password. err is ErrSealed, with which no code is right.
func (l *Logins) judgeCode(c credential, in Login) (step int64, ok bool, err error) {
	stored, of := c.totp, in.Name
	if stored == "" {
		stored, of = l.nobody, ""
	}
	key, err := l.openCode(stored, of)
	if err != nil {
		key = make([]byte, totpBytes)
	}
	step, ok = totpMatch(key, in.Code, l.now())
	if c.totp == "" {
		return 0, true, nil
	}
	return step, ok && err == nil && step > c.step, err
}

// useCode marks the step of a right code as used, so that whoever saw it typed cannot use it again.
func useCode(ctx context.Context, tx *sqldb.Tx, person string, c credential, step int64) error {
	if c.totp == "" {
		return nil
	}
	n, err := tx.Update(ctx, `UPDATE operator_passwords
SET totp_step = ?
WHERE person = ?
  AND totp_step < ?`, step, person, step)
	if err == nil && n == 0 {
		return ErrLogin
	}
	return err
}

// lock reads what a person's logins are held against, and keeps it so until the transaction ends.
// Without a password, or with an account that was disabled, it is the zero value.
func (c *credential) lock(ctx context.Context, tx *sqldb.Tx, name string) error {
	*c = credential{}
	role, err := lockAccount(ctx, tx, name)
	if err != nil || role == "" {
		return err
	}
	return c.read(ctx, tx, name, "\nFOR UPDATE")
}

// read reads what a person's logins are held against; suffix may lock it.
func (c *credential) read(ctx context.Context, tx *sqldb.Tx, name, suffix string) error {
	*c = credential{}
	return sqldb.Each(ctx, tx, `SELECT p.hash, p.totp, p.totp_new, p.totp_step, o.role
FROM operator_passwords p
JOIN operators o ON o.name = p.person
WHERE p.person = ?
  AND o.disabled_at = 0`+suffix, []any{name}, func(rows *sql.Rows) error {
		return rows.Scan(&c.hash, &c.totp, &c.begun, &c.step, &c.role)
	})
}

// Prove notes that the person of a session has given the password again: see ProvedFor. Wrong
// ones are counted as wrong logins are. Errors: ErrLogin, a *ThrottledError, database errors.
func (l *Logins) Prove(ctx context.Context, s Session, password string) error {
	return l.with(ctx, s, password, nil, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Update(ctx, `UPDATE operator_sessions
SET proved_at = ?
WHERE sha256 = ?
  AND ended_at = 0`, l.now().UnixMilli(), s.ID)
		return err
	})
}

// ChangePassword gives the person of a session another password and ends all sessions; the
// secret is of a new one. Errors: ErrPassword, ErrLogin when the old password is not right, a
// *ThrottledError, database errors.
func (l *Logins) ChangePassword(ctx context.Context, s Session, old, password string, b Browser) (string, error) {
	if err := CheckPassword(s.Person, password); err != nil {
		return "", err
	}
	secret, id := newSecret()
	var hash string
	fits := func() (err error) { hash, err = l.hash(ctx, password); return err }
	err := l.with(ctx, s, old, fits, func(ctx context.Context, tx *sqldb.Tx) error {
		if done, err := made(ctx, tx, id); done || err != nil {
			return err
		}
		if err := tx.UpdateRows(ctx, 1, `UPDATE operator_passwords
SET hash = ?, set_at = ?
WHERE person = ?`, hash, l.now().UnixMilli(), s.Person); err != nil {
			return err
		}
		if err := l.endAll(ctx, tx, s.Person, ""); err != nil {
			return err
		}
		if err := endLinks(ctx, tx, s.Person); err != nil {
			return err
		}
		return l.insertSession(ctx, tx, id, s.Person, s.Role, b, nil)
	})
	return secret, err
}

// with does something in a transaction for the person of a session who has given their password. fits
// comes before it when the password was right, and may take long; nil: nothing does.
func (l *Logins) with(ctx context.Context, s Session, password string, fits func() error,
	do func(ctx context.Context, tx *sqldb.Tx) error) error {
	try, err := l.reserveProof(ctx, s)
	if err != nil {
		return err
	}
	var c credential
	err = l.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return c.read(ctx, tx, s.Person, "") })
	if err != nil {
		return fmt.Errorf("ask %s for the password: %w", s.Person, err)
	}
	ok, _, err := l.fits(ctx, c.hash, password)
	if err != nil || !ok {
		return cmp.Or(err, ErrLogin)
	}
	if fits != nil {
		if err := fits(); err != nil {
			return err
		}
	}
	err = l.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		var now credential
		if err := now.lock(ctx, tx, s.Person); err != nil {
			return err
		}
		if now.hash != c.hash && !tx.MayBeDone() {
			return ErrLogin
		}
		if err := do(ctx, tx); err != nil {
			return err
		}
		return try.forgive(ctx, tx)
	})
	if err != nil {
		return fmt.Errorf("ask %s for the password: %w", s.Person, err)
	}
	return nil
}
