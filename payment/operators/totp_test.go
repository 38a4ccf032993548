package operators_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/payment/operators"
)

type ctx = context.Context

// code is what a telephone shows, written once more from RFC 4226, 5.3.
func code(t *testing.T, secret string, at time.Time) string {
	t.Helper()
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(secret)
	if err != nil {
		t.Fatal(err)
	}
	var counter [8]byte
	binary.BigEndian.PutUint64(counter[:], uint64(at.Unix()/30))
	mac := hmac.New(sha1.New, key)
	mac.Write(counter[:])
	sum := mac.Sum(nil)
	offset := sum[19] & 15
	bits := uint32(sum[offset]&127)<<24 | uint32(sum[offset+1])<<16 | uint32(sum[offset+2])<<8 | uint32(sum[offset+3])
	return fmt.Sprintf("%06d", bits%1_000_000)
}

// enrol switches one-time codes on for the person of a session, and gives their secret. A step later they can be used.
func (h *hall) enrol(session string) string {
	h.t.Helper()
	secret, err := h.BeginTOTP(h.t.Context(), *h.who(session))
	if err == nil {
		err = h.ConfirmTOTP(h.t.Context(), *h.who(session), code(h.t, secret, h.now()))
	}
	if err != nil {
		h.t.Fatal(err)
	}
	h.advance(30 * time.Second)
	return secret
}

// The codes are those of RFC 6238, appendix B, as authenticator apps show them: the last six digits.
func TestCodesAreTheStandards(t *testing.T) {
	secret := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString([]byte("12345678901234567890"))
	for at, want := range map[int64]string{59: "287082", 1111111109: "081804", 1111111111: "050471",
		1234567890: "005924", 2000000000: "279037", 20000000000: "353130"} {
		if got := code(t, secret, time.Unix(at, 0)); got != want {
			t.Errorf("this test at %d: %s, want %s", at, got, want)
		}
		if got := operators.TOTPCode([]byte("12345678901234567890"), at/30); got != want {
			t.Errorf("at %d: %s, want %s", at, got, want)
		}
	}
	if a := operators.TOTPAddress("anna", "ABC"); a != "otpauth://totp/orderd:anna?issuer=orderd&secret=ABC" {
		t.Error(a)
	}
}

// Whoever sees a code typed, in a log or over a shoulder, must not be let in by it, in this process or another.
func TestACodeIsUsedOnce(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		h := newHall(t, db)
		first, second := h.person("anna", operators.Admin), ""
		var err error
		if second, err = h.try("anna", right, ""); err != nil {
			t.Fatal(err)
		}
		if _, err := h.BeginTOTP(t.Context(), *h.who(first)); err != nil {
			t.Fatal(err)
		}
		if err := h.ConfirmTOTP(t.Context(), *h.who(first), "000000"); !errors.Is(err, operators.ErrLogin) {
			t.Errorf("a wrong code confirms: %v", err)
		}
		if _, err := h.try("anna", right, ""); err != nil {
			t.Errorf("what is not confirmed is asked for: %v", err)
		}
		secret := h.enrol(first)
		if h.who(second) != nil || h.who(first) == nil || !h.who(first).TOTP {
			t.Error("a session without a code goes on")
		}
		// The code by which it was confirmed is used, too.
		h.advance(-30 * time.Second)
		for _, wrong := range []string{"", "12345", code(t, secret, h.now()),
			code(t, secret, h.now().Add(-60*time.Second)), code(t, secret, h.now().Add(60*time.Second))} {
			if _, err := h.try("anna", right, wrong); !errors.Is(err, operators.ErrLogin) {
				t.Errorf("%q: %v", wrong, err)
			}
		}
		h.advance(operators.WrongWithin)
		if err := h.ConfirmTOTP(t.Context(), *h.who(first), code(t, secret, h.now())); !errors.Is(err,
			operators.ErrNoTOTP) {
			t.Errorf("confirmed twice: %v", err)
		}
		good := code(t, secret, h.now())
		if _, err := h.try("anna", other, good); !errors.Is(err, operators.ErrLogin) {
			t.Errorf("without the password: %v", err)
		}
		if _, err := h.try("anna", right, good); err != nil {
			t.Fatal(err)
		}
		login := operators.Login{Name: "anna", Password: right, Code: good, Browser: here}
		if _, err := h.another().Login(t.Context(), login); !errors.Is(err, operators.ErrLogin) {
			t.Errorf("the same code again: %v", err)
		}
		if _, err := h.try("anna", right, code(t, secret, h.now().Add(-30*time.Second))); !errors.Is(err,
			operators.ErrLogin) {
			t.Errorf("a code of before: %v", err)
		}
		if _, err := h.try("anna", right, code(t, secret, h.now().Add(30*time.Second))); err != nil {
			t.Errorf("a telephone that is ahead: %v", err)
		}
		if s := h.who(first); s != nil {
			if err := h.EndTOTP(t.Context(), *s); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := h.try("anna", right, ""); err != nil {
			t.Errorf("switched off: %v", err)
		}
	})
}

// No secret of a login is in an error, whatever goes wrong.
func TestErrorsOfLoginsHaveNoSecret(t *testing.T) {
	h := newHall(t, sqldbtest.SQLite(t))
	session := h.person("anna", operators.Admin)
	s := *h.who(session)
	secret, err := h.BeginTOTP(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	link, err := h.LinkOf(t.Context(), "anna", "cli")
	if err != nil {
		t.Fatal(err)
	}
	gone, end := context.WithCancel(t.Context())
	end()
	said := func(err error) {
		t.Helper()
		if err == nil {
			t.Error("no error")
			return
		}
		for _, text := range []string{right, other, session, link, secret, "000000"} {
			if strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), text) {
				t.Errorf("%q has a secret", err)
			}
		}
	}
	for _, c := range []ctx{t.Context(), gone} {
		_, err = h.Login(c, operators.Login{Name: "anna", Password: other, Code: "000000", Browser: here})
		said(err)
		_, err = h.UseLink(c, link+"x", "anna", other, "", here, nil)
		said(err)
		_, err = h.ChangePassword(c, s, other, other, here)
		said(err)
		said(h.Prove(c, s, other))
		said(h.ConfirmTOTP(c, s, "000000"))
	}
	if _, err := h.Who(gone, session); !errors.Is(err, sqldb.ErrUnavailable) {
		t.Errorf("a database that is away: %v", err)
	} else {
		said(err)
	}
}
