package operators

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"orderd/migrations/sqldb"
)

// Errors of accounts.
var (
	// ErrExists: a name is used once and never again, because timelines and flows name
	// people by it; nor is one that looks like it.
	ErrExists = errors.New("a person of this name, or of one that looks like it, exists or existed; take another name")
	// ErrRole: there is no such role.
	ErrRole = errors.New("a role is viewer, operator, finance or admin")
	// ErrNoAccount: no account of this name is in use.
	ErrNoAccount = errors.New("no account of this name is in use")
)

// Account is a person who works at the shop. DisabledAt is null while the account is in use.
type Account struct {
	Name       string     `json:"name"`
	Role       Role       `json:"role"`
	CreatedBy  string     `json:"created_by"`
	CreatedAt  time.Time  `json:"created_at"`
	DisabledAt *time.Time `json:"disabled_at"`
	DisabledBy string     `json:"disabled_by,omitempty"`
}

// Insert makes an account in a transaction. by is who makes it: see Second. Errors: ErrName,
// ErrRole, ErrExists, database errors.
func Insert(ctx context.Context, tx *sqldb.Tx, name string, role Role, by string, now time.Time) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if !slices.Contains(Roles(), role) {
		return ErrRole
	}
	// By their names and not by the stored keys: those are of the rule of the program that
	// made the account, and accounts from before the rule have none. They are few.
	alike := false
	err := sqldb.Each(ctx, tx, `SELECT name
FROM operators`, nil, func(rows *sql.Rows) error {
		var other string
		err := rows.Scan(&other)
		alike = alike || Key(other) == Key(name)
		return err
	})
	if err != nil {
		return fmt.Errorf("find names that look alike: %w", err)
	}
	if alike {
		return ErrExists
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO operators
  (name, name_key, role, created_by, created_at)
VALUES (?, ?, ?, ?, ?)`, name, Key(name), string(role), by, now.UnixMilli())
	if sqldb.IsDuplicate(err) {
		return ErrExists
	}
	return err
}

// Create makes an account without a token. Errors: those of Insert.
func Create(ctx context.Context, db *sqldb.DB, name string, role Role, by string, now time.Time) error {
	err := db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if tx.MayBeDone() {
			done, err := sqldb.Known(ctx, tx, `SELECT name
FROM operators
WHERE name = ?
  AND role = ?
  AND created_by = ?
  AND created_at = ?`, name, string(role), by, now.UnixMilli())
			if err != nil || done {
				return err
			}
		}
		return Insert(ctx, tx, name, role, by, now)
	})
	if err != nil {
		// The name is what the caller sent: no more of it than a name may have.
		return fmt.Errorf("create account %.64s: %w", name, err)
	}
	return nil
}

// Disable ends an account, all its tokens and sessions, also in the program before accounts. What the
// person has approved and what is not sent yet counts no more. There is no way back: a name
// that was used is somebody's in the audit. Errors: ErrNoAccount, also for one that was
// disabled before, and database errors.
func Disable(ctx context.Context, db *sqldb.DB, name, by string, now time.Time) error {
	err := db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		n, err := tx.Update(ctx, `UPDATE operators
SET disabled_at = ?, disabled_by = ?
WHERE name = ?
  AND disabled_at = 0`, now.UnixMilli(), by, name)
		if err == nil && n == 0 && tx.MayBeDone() {
			done, err := sqldb.Known(ctx, tx, `SELECT name
FROM operators
WHERE name = ?
  AND disabled_at = ?
  AND disabled_by = ?`, name, now.UnixMilli(), by)
			if err != nil || done {
				return err
			}
		}
		if err == nil && n == 0 {
			err = ErrNoAccount
		}
		if err != nil {
			return err
		}
		_, err = tx.Update(ctx, `UPDATE operator_tokens
SET revoked_at = ?
WHERE person = ?
  AND revoked_at = 0`, now.UnixMilli(), name)
		if err != nil {
			return err
		}
		return endSessions(ctx, tx, name, "", now)
	})
	if err != nil {
		return fmt.Errorf("disable account %.64s: %w", name, err)
	}
	return nil
}

// SetRole gives an account another role, and its tokens with it, and ends its sessions. Errors:
// ErrRole, ErrNoAccount, database errors.
func SetRole(ctx context.Context, db *sqldb.DB, name string, role Role, now time.Time) error {
	if !slices.Contains(Roles(), role) {
		return ErrRole
	}
	err := db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		was, err := lockAccount(ctx, tx, name)
		if err == nil && was == "" {
			err = ErrNoAccount
		}
		if err != nil {
			return err
		}
		if _, err = tx.Update(ctx, `UPDATE operators
SET role = ?
WHERE name = ?`, string(role), name); err != nil {
			return err
		}
		// The program before accounts reads the role of the token.
		_, err = tx.Update(ctx, `UPDATE operator_tokens
SET role = ?
WHERE person = ?`, string(role), name)
		if err != nil {
			return err
		}
		// A role that comes back brings no session back.
		if err := endSessions(ctx, tx, name, "", now); err != nil {
			return err
		}
		return endLinks(ctx, tx, name) // a link was made for the role of before
	})
	if err != nil {
		return fmt.Errorf("give account %.64s a role: %w", name, err)
	}
	return nil
}

// Exists reports that somebody has or had an account of this name.
func Exists(ctx context.Context, tx *sqldb.Tx, name string) (bool, error) {
	return sqldb.Known(ctx, tx, `SELECT name
FROM operators
WHERE name = ?`, name)
}

// List gives all accounts, disabled ones too, by name.
func List(ctx context.Context, db *sqldb.DB) ([]Account, error) {
	all := []Account{}
	err := sqldb.Each(ctx, db, `SELECT name, role, created_by, created_at, disabled_at, disabled_by
FROM operators
ORDER BY name`, nil, func(rows *sql.Rows) error {
		var a Account
		var created, disabled int64
		if err := rows.Scan(&a.Name, &a.Role, &a.CreatedBy, &created, &disabled, &a.DisabledBy); err != nil {
			return err
		}
		a.CreatedAt = time.UnixMilli(created).UTC()
		if disabled != 0 {
			at := time.UnixMilli(disabled).UTC()
			a.DisabledAt = &at
		}
		all = append(all, a)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	return all, nil
}
