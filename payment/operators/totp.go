package operators

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // G505: RFC 6238 as authenticator apps have it
	"database/sql"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"time"

	"orderd/migrations/sqldb"
)

// What authenticator apps take for granted (RFC 6238).
const (
	totpStep   = 30 * time.Second
	totpDigits = 6
	// totpBytes is the length of a secret: that of SHA-1 (RFC 4226, 4).
	totpBytes = 20
	// totpSkew is how many steps a telephone's clock may be away, in either direction.
	totpSkew = 1
)

// Errors of the key that secrets of one-time codes are kept under.
var (
	// ErrNoKey: there is none, so that no one-time codes begin.
	ErrNoKey = errors.New("one-time codes need a key that their secrets are kept under: set ORDERD_WEBHOOK_KEY to at " +
		"least 32 random bytes ('openssl rand -hex 32'), the same for all processes")
	// ErrSealed: it is not the one of before. Whoever has one-time codes does not come in.
	ErrSealed = errors.New("one-time codes are kept under another ORDERD_WEBHOOK_KEY, or it is not set: give the old " +
		"key back, or take the codes away by a link for each of these people ('orderd operator link NAME')")
)

// ErrNoTOTP: there is no secret that could be confirmed; begin again.
var ErrNoTOTP = errors.New("there is no one-time code to confirm; begin again")

// totpSecrets is how secrets are written.
var totpSecrets = base32.StdEncoding.WithPadding(base32.NoPadding)

// totpCode gives the code of a step.
func totpCode(secret []byte, step int64) string {
	mac := hmac.New(sha1.New, secret)
	_ = binary.Write(mac, binary.BigEndian, step) // a hash takes everything
	sum := mac.Sum(nil)
	at := sum[len(sum)-1] & 0xf
	n := binary.BigEndian.Uint32(sum[at:]) & 0x7fffffff
	return fmt.Sprintf("%0*d", totpDigits, n%1_000_000)
}

// totpMatch gives the step whose code this is, within totpSkew; ok is false for none.
func totpMatch(key []byte, code string, now time.Time) (step int64, ok bool) {
	middle := now.Unix() / int64(totpStep/time.Second)
	for s := middle - totpSkew; s <= middle+totpSkew; s++ {
		if hmac.Equal([]byte(totpCode(key, s)), []byte(code)) {
			step, ok = s, true
		}
	}
	return step, ok
}

// TOTPAddress is what an authenticator app reads: as a QR code, or as a link on the telephone.
func TOTPAddress(person, secret string) string {
	u := url.URL{Scheme: "otpauth", Host: "totp", Path: "/orderd:" + person,
		RawQuery: url.Values{"secret": {secret}, "issuer": {"orderd"}}.Encode()}
	return u.String()
}

// BeginTOTP makes a secret that counts when ConfirmTOTP has seen a code of it. Another one that
// was begun is forgotten; one that counts goes on counting. Errors: ErrNoKey, database errors.
func (l *Logins) BeginTOTP(ctx context.Context, s Session) (secret string, err error) {
	if l.box == nil {
		return "", ErrNoKey
	}
	raw := make([]byte, totpBytes)
	rand.Read(raw) // never fails, says its documentation
	secret = totpSecrets.EncodeToString(raw)
	sealed := l.box.Seal(raw, s.Person)
	err = l.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		return tx.UpdateRows(ctx, 1, `UPDATE operator_passwords
SET totp_new = ?
WHERE person = ?`, sealed, s.Person)
	})
	if err != nil {
		return "", fmt.Errorf("begin one-time codes of %s: %w", s.Person, err)
	}
	return secret, nil
}

// BegunTOTP gives the secret that was begun and not confirmed, "" for none, to a session whose password was given a
// moment ago, as BeginTOTP wants it: a session alone gets none. Errors: ErrSealed, database errors.
func (l *Logins) BegunTOTP(ctx context.Context, s Session) (secret string, err error) {
	if !s.Proved(l.now()) {
		return "", nil
	}
	var c credential
	err = l.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return c.read(ctx, tx, s.Person, "") })
	if err != nil {
		return "", fmt.Errorf("find the one-time codes of %s that were begun: %w", s.Person, err)
	}
	if c.begun == "" {
		return "", nil
	}
	key, err := l.openCode(c.begun, s.Person)
	return totpSecrets.EncodeToString(key), err
}

// ConfirmTOTP makes the secret that was begun the one that logins ask for, after a code of it,
// and ends the other sessions of the person. Wrong codes are counted as wrong logins are.
// Errors: ErrLogin, ErrNoTOTP, ErrSealed, a *ThrottledError, database errors.
func (l *Logins) ConfirmTOTP(ctx context.Context, s Session, code string) error {
	try, err := l.reserveProof(ctx, s)
	if err != nil {
		return err
	}
	err = l.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		var c credential
		if err := c.lock(ctx, tx, s.Person); err != nil {
			return err
		}
		if c.begun == "" {
			if tx.MayBeDone() && c.totp != "" {
				return nil
			}
			return ErrNoTOTP
		}
		key, err := l.openCode(c.begun, s.Person)
		if err != nil {
			return err
		}
		step, ok := totpMatch(key, code, l.now())
		if !ok {
			return ErrLogin
		}
		if err := tx.UpdateRows(ctx, 1, `UPDATE operator_passwords
SET totp = totp_new, totp_new = '', totp_step = ?
WHERE person = ?`, step, s.Person); err != nil {
			return err
		}
		if err := try.forgive(ctx, tx); err != nil {
			return err
		}
		return l.endAll(ctx, tx, s.Person, s.ID)
	})
	if err != nil {
		return fmt.Errorf("confirm one-time codes of %s: %w", s.Person, err)
	}
	return nil
}

// EndTOTP lets the person log in by the password alone, and ends their other sessions.
func (l *Logins) EndTOTP(ctx context.Context, s Session) error {
	err := l.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if err := tx.UpdateRows(ctx, 1, `UPDATE operator_passwords
SET totp = '', totp_new = ''
WHERE person = ?`, s.Person); err != nil {
			return err
		}
		return l.endAll(ctx, tx, s.Person, s.ID)
	})
	if err != nil {
		return fmt.Errorf("end one-time codes of %s: %w", s.Person, err)
	}
	return nil
}

// sealed tells a secret that is sealed from one of a program before that, which is half as long.
func sealed(stored string) bool { return len(stored) > totpSecrets.EncodedLen(totpBytes) }

// openCode gives the secret of one-time codes of a person by what is stored. Errors: ErrSealed.
func (l *Logins) openCode(stored, person string) (key []byte, err error) {
	switch {
	case !sealed(stored): // until Seal
		key, err = totpSecrets.DecodeString(stored)
	case l.box == nil:
		err = ErrSealed
	default:
		key, err = l.box.Open(stored, person)
	}
	if err != nil || len(key) == 0 {
		return nil, ErrSealed
	}
	return key, nil
}

// CanSeal reports that there is a key that secrets of one-time codes are kept under.
func (l *Logins) CanSeal() bool { return l.box != nil }

// Seal seals the secrets of one-time codes that a program before sealing has written, and looks
// whether those that are sealed can be opened. Errors: ErrSealed, with how many cannot; ErrNoKey, where
// some stand there as they are and no key is set: these work all the same; database errors.
func (l *Logins) Seal(ctx context.Context) (done int, err error) {
	bare, shut := 0, 0
	err = l.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		done, bare, shut = 0, 0, 0
		type row struct{ person, totp, begun string }
		var rows []row
		err := sqldb.Each(ctx, tx, `SELECT person, totp, totp_new
FROM operator_passwords
WHERE totp <> ''
  OR totp_new <> ''
ORDER BY person
FOR UPDATE`, nil, func(r *sql.Rows) error {
			var one row
			err := r.Scan(&one.person, &one.totp, &one.begun)
			rows = append(rows, one)
			return err
		})
		if err != nil {
			return err
		}
		for _, r := range rows {
			now := r
			for _, stored := range []*string{&now.totp, &now.begun} {
				key, err := l.openCode(*stored, r.person)
				switch {
				case *stored == "":
				case err != nil:
					shut++
				case sealed(*stored):
				case l.box == nil:
					bare++
				default:
					*stored = l.box.Seal(key, r.person)
				}
			}
			if now == r {
				continue
			}
			done++
			if err := tx.UpdateRows(ctx, 1, `UPDATE operator_passwords
SET totp = ?, totp_new = ?
WHERE person = ?`, now.totp, now.begun, r.person); err != nil {
				return err
			}
		}
		return nil
	})
	switch {
	case err != nil:
		return 0, fmt.Errorf("seal one-time codes: %w", err)
	case shut > 0:
		return done, fmt.Errorf("of %d secrets: %w", shut, ErrSealed)
	case bare > 0:
		return done, fmt.Errorf("%d secrets stand in the database as they are: %w", bare, ErrNoKey)
	}
	return done, nil
}
