package operators

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // G505: RFC 6238 as authenticator apps have it
	"crypto/subtle"
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
func totpMatch(secret, code string, now time.Time) (step int64, ok bool) {
	key, err := totpSecrets.DecodeString(secret)
	if err != nil || len(key) == 0 {
		return 0, false
	}
	middle := now.Unix() / int64(totpStep/time.Second)
	for s := middle - totpSkew; s <= middle+totpSkew; s++ {
		if subtle.ConstantTimeCompare([]byte(totpCode(key, s)), []byte(code)) == 1 {
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
// was begun is forgotten; one that counts goes on counting.
func (l *Logins) BeginTOTP(ctx context.Context, s Session) (secret string, err error) {
	raw := make([]byte, totpBytes)
	rand.Read(raw) // never fails, says its documentation
	secret = totpSecrets.EncodeToString(raw)
	err = l.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		return tx.UpdateRows(ctx, 1, `UPDATE operator_passwords
SET totp_new = ?
WHERE person = ?`, secret, s.Person)
	})
	if err != nil {
		return "", fmt.Errorf("begin one-time codes of %s: %w", s.Person, err)
	}
	return secret, nil
}

// ConfirmTOTP makes the secret that was begun the one that logins ask for, after a code of it,
// and ends the other sessions of the person. Wrong codes are counted as wrong logins are.
// Errors: ErrLogin, ErrNoTOTP, a *ThrottledError, database errors.
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
		step, ok := totpMatch(c.begun, code, l.now())
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
