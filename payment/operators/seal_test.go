package operators_test

import (
	"encoding/base32"
	"errors"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/payment/operators"
)

// stored gives what the database has of one-time codes.
func (h *hall) stored() string {
	return strings.Join(sqldbtest.Contents(h.t, h.db)["operator_passwords"], "\n")
}

// set writes a secret as a program of before did, or as whoever can write to the database does.
func (h *hall) set(person, secret string) {
	h.t.Helper()
	if _, err := h.db.Pool().ExecContext(h.t.Context(), "UPDATE operator_passwords SET totp = ? WHERE person = ?",
		secret, person); err != nil {
		h.t.Fatal(err)
	}
}

// Whoever reads the database or a copy of it makes no one-time codes; nor does a secret work for another person.
func TestSecretsOfCodesAreSealed(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		h := newHall(t, db)
		anna := h.person("anna", operators.Admin)
		h.person("bea", operators.Admin)
		begun, err := h.BeginTOTP(t.Context(), *h.who(anna))
		if err != nil || strings.Contains(h.stored(), begun) {
			t.Errorf("begun: %v", err)
		}
		secret := h.enrol(anna)
		raw, _ := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(secret)
		if rows := h.stored(); strings.Contains(rows, secret) || strings.Contains(rows, string(raw)) {
			t.Errorf("%s", rows)
		}
		var sealed string
		if err := db.Pool().QueryRowContext(t.Context(), "SELECT totp FROM operator_passwords WHERE person = 'anna'").
			Scan(&sealed); err != nil || sealed == "" {
			t.Fatal(err)
		}
		h.set("bea", sealed)
		h.advance(time.Minute)
		if _, err := h.try("bea", right, code(t, secret, h.now())); !errors.Is(err, operators.ErrLogin) ||
			!errors.Is(err, operators.ErrSealed) {
			t.Errorf("another's secret: %v", err)
		}
		if _, err := h.try("anna", right, code(t, secret, h.now())); err != nil {
			t.Errorf("the own: %v", err)
		}
	})
}

// A shop whose people have one-time codes from a program that did not seal them goes on, before and after they are
// sealed, and nobody is asked for a code that is not looked at.
func TestSecretsOfBeforeAreSealed(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		h := newHall(t, db)
		h.person("anna", operators.Admin)
		secret := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString([]byte("12345678901234567890"))
		h.set("anna", secret)
		in := func(l *operators.Logins, what string) {
			t.Helper()
			h.advance(30 * time.Second)
			login := operators.Login{Name: "anna", Password: right, Code: code(t, secret, h.now()), Browser: here}
			if _, err := l.Login(t.Context(), login); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			login.Code = "000000"
			if _, err := l.Login(t.Context(), login); err != operators.ErrLogin {
				t.Errorf("%s, a wrong code: %v", what, err)
			}
		}
		in(h.Logins, "before")
		without := h.keyed("")
		in(without, "without a key")
		if n, err := without.Seal(t.Context()); n != 0 || !errors.Is(err, operators.ErrNoKey) ||
			!strings.Contains(err.Error(), "ORDERD_WEBHOOK_KEY") {
			t.Errorf("sealed without a key: %d %v", n, err)
		}
		if n, err := h.Seal(t.Context()); n != 1 || err != nil || strings.Contains(h.stored(), secret) {
			t.Errorf("sealed: %d %v", n, err)
		}
		in(h.Logins, "sealed")
		if n, err := h.another().Seal(t.Context()); n != 0 || err != nil {
			t.Errorf("sealed again: %d %v", n, err)
		}
		in(h.another(), "by another process")
	})
}

// A lost key, and one that was never set, is said to whoever runs the service; whoever asks to come in learns nothing,
// and has a way back by a link.
func TestALostKeyIsSaid(t *testing.T) {
	h := newHall(t, sqldbtest.SQLite(t))
	session := h.person("anna", operators.Admin)
	if _, err := h.keyed("").BeginTOTP(t.Context(), *h.who(session)); !errors.Is(err, operators.ErrNoKey) ||
		!strings.Contains(err.Error(), "ORDERD_WEBHOOK_KEY") || h.keyed("").CanSeal() || !h.CanSeal() {
		t.Errorf("begun without a key: %v", err)
	}
	secret := h.enrol(session)
	for what, l := range map[string]*operators.Logins{"another key": h.keyed(strings.Repeat("y", 32)),
		"no key": h.keyed("")} {
		if n, err := l.Seal(t.Context()); n != 0 || !errors.Is(err, operators.ErrSealed) ||
			!strings.Contains(err.Error(), "ORDERD_WEBHOOK_KEY") || !strings.Contains(err.Error(), "operator link") {
			t.Errorf("%s: %d %v", what, n, err)
		}
		for _, password := range []string{right, other} {
			_, err := l.Login(t.Context(), operators.Login{Name: "anna", Password: password,
				Code: code(t, secret, h.now()), Browser: here})
			if !errors.Is(err, operators.ErrLogin) || !errors.Is(err, operators.ErrSealed) {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	link, err := h.LinkOf(t.Context(), "anna", "cli")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.keyed("").UseLink(t.Context(), link, "", other, "", here, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := h.keyed("").Login(t.Context(), operators.Login{Name: "anna", Password: other, Browser: here}); err !=
		nil {
		t.Errorf("after a link: %v", err)
	}
}
