package operators_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/payment/operators"
)

// work is what a login has a server of databases and this machine do.
type work map[string]int64

// workOf counts what the server was told to do, by the kind of statement, and the hashes of passwords.
func (h *hall) workOf(do func()) work {
	h.t.Helper()
	read := func() work {
		counts := work{"hashes": h.hashed.Load()}
		rows, err := h.db.Pool().QueryContext(h.t.Context(), `SHOW GLOBAL STATUS
WHERE Variable_name IN ('Com_select', 'Com_insert', 'Com_update', 'Com_delete', 'Com_commit', 'Com_rollback',
  'Handler_commit', 'Handler_update', 'Handler_write', 'Handler_delete')`)
		if err != nil {
			h.t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var name string
			var n int64
			if err := rows.Scan(&name, &n); err != nil {
				h.t.Fatal(err)
			}
			counts[name] = n
		}
		if rows.Err() != nil || len(counts) < 8 {
			h.t.Fatal(rows.Err(), counts)
		}
		return counts
	}
	before := read()
	do()
	after := read()
	for name := range after {
		after[name] -= before[name]
	}
	return after
}

// How long a refusal takes tells whether a name is somebody's, or a password was right and only the code was not, as
// soon as one of them has more to do. So it is the work that is counted: statements, writes and hashes.
func TestEveryRefusalIsTheSameWork(t *testing.T) {
	h := newHall(t, sqldbtest.MariaDB(t))
	h.person("plain", operators.Admin)
	secret := h.enrol(h.person("coded", operators.Admin))
	used := code(t, secret, h.now())
	if _, err := h.try("coded", right, used); err != nil {
		t.Fatal(err)
	}
	h.person("gone", operators.Admin)
	account(t, h.db, "bare", operators.Bootstrap)
	if err := operators.Disable(t.Context(), h.db, "gone", "plain", h.now()); err != nil {
		t.Fatal(err)
	}
	dated := operators.NewLogins(operators.LoginConfig{DB: h.db, Now: h.now, Key: testKey,
		Cost: operators.Cost{Passes: 2, KiB: 8, Threads: 1}, Hashed: func() { h.hashed.Add(1) }})
	next := code(t, secret, h.now().Add(30*time.Second))
	var first work
	for _, c := range []struct {
		what, name, password, code string
		logins                     *operators.Logins
	}{
		{"a wrong password", "plain", other, "", h.Logins}, {"nobody", "nobody", right, "", h.Logins},
		{"no password", "bare", right, "", h.Logins}, {"disabled", "gone", right, "", h.Logins},
		{"a wrong password, and no code", "coded", other, "", h.Logins},
		{"the right password, and no code", "coded", right, "", h.Logins},
		{"the right password, and a wrong code", "coded", right, "000000", h.Logins},
		{"the right password, and a used code", "coded", right, used, h.Logins},
		{"a wrong password, and the right code", "coded", other, next, h.Logins},
		{"the right password of before a new cost, and no code", "coded", right, "", dated},
	} {
		if _, err := h.db.Pool().ExecContext(t.Context(), "DELETE FROM login_failures"); err != nil {
			t.Fatal(err)
		}
		done := h.workOf(func() {
			_, err := c.logins.Login(t.Context(), operators.Login{Name: c.name, Password: c.password, Code: c.code,
				Browser: here})
			if err != operators.ErrLogin {
				t.Errorf("%s: %v", c.what, err)
			}
		})
		if first == nil {
			first = done
		}
		if !maps.Equal(done, first) || done["hashes"] != 1 || done["Com_select"] == 0 {
			t.Errorf("%s is known by its work:\n%v\n%v", c.what, done, first)
		}
	}
	if _, err := h.try("coded", right, next); err != nil {
		t.Errorf("the code that came with a wrong password: %v", err)
	}
}

// Whoever guesses at a person's name, or sits behind the same gateway, would keep them out of their work for as long as
// they like; a browser that they have come in by before counts for itself, and for them alone.
func TestGuessesElsewhereKeepNobodyOutOfTheirBrowser(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		h := newHall(t, db)
		h.person("anna", operators.Admin)
		h.person("bea", operators.Admin)
		known := h.Know("anna")
		login := func(l *operators.Logins, name, password, known string) error {
			_, err := l.Login(t.Context(), operators.Login{Name: name, Password: password, Known: known, Browser: here})
			return err
		}
		var held *operators.ThrottledError
		for i := range operators.MostWrongAddress {
			if err := login(h.Logins, fmt.Sprint("anna", i%2*i), other, ""); err != operators.ErrLogin &&
				!errors.As(err, &held) {
				t.Fatal(err)
			}
		}
		for i := 0; !errors.As(login(h.Logins, "bea", right, ""), &held); i++ {
			if _ = login(h.Logins, fmt.Sprint("guess", i), other, ""); i > operators.MostWrongAddress {
				t.Fatal("the address is not held")
			}
		}
		if err := login(h.another(), "anna", right, known); err != nil { // another process
			t.Errorf("the own browser: %v", err)
		}
		elsewhere := operators.NewLogins(operators.LoginConfig{DB: db, Now: h.now, Cost: cheap})
		at := strings.LastIndexByte(known, '.')
		for what, made := range map[string]string{"another's": h.Know("bea"), "made up": elsewhere.Know("anna"),
			"without a sign": known[:at], "with another time": strings.Replace(known, ".", ".9", 1), "empty": "",
			"of dots": "..", "cut": known[:len(known)-1]} {
			if err := login(h.Logins, "anna", right, made); !errors.As(err, &held) {
				t.Errorf("a browser that is %s: %v", what, err)
			}
		}
		for range operators.MostWrong { // whoever stole the browser's cookie
			if err := login(h.another(), "anna", other, known); err != operators.ErrLogin {
				t.Error(err)
			}
		}
		if err := login(h.Logins, "anna", right, known); !errors.As(err, &held) {
			t.Errorf("guesses by the own browser: %v", err)
		}
		if err := login(h.Logins, "anna", right, h.Know("anna")); err != nil {
			t.Errorf("another browser of the same person: %v", err)
		}
		h.advance(operators.BrowserFor)
		for range operators.MostWrong {
			if err := login(h.Logins, "anna", other, ""); err != operators.ErrLogin {
				t.Error(err)
			}
		}
		if err := login(h.Logins, "anna", right, known); !errors.As(err, &held) {
			t.Errorf("a browser of long ago: %v", err)
		}
	})
}

// One who forgets a password takes a fifth of what the gateway's address has, and nobody else's way in.
func TestOneForgetfulPersonKeepsNobodyOut(t *testing.T) {
	h := newHall(t, sqldbtest.SQLite(t))
	h.person("bea", operators.Viewer)
	for range 3 * operators.MostWrong {
		_, _ = h.try("anna", other, "")
	}
	if _, err := h.try("bea", right, ""); err != nil {
		t.Error(err)
	}
}

// What somebody types where the name should stand may be a password: from what is stored of it nobody who has the
// database alone can try passwords.
func TestMistypedNamesCannotBeGuessed(t *testing.T) {
	h := newHall(t, sqldbtest.SQLite(t))
	if _, err := h.try(right, right, ""); err != operators.ErrLogin {
		t.Fatal(err)
	}
	rows := strings.Join(sqldbtest.Contents(t, h.db)["login_failures"], "\n")
	if !strings.Contains(rows, " ") {
		t.Fatalf("nothing was counted: %q", rows)
	}
	for _, kind := range []string{"", "name:", "name"} {
		for _, text := range []string{right, operators.Key(right)} {
			sum := sha256.Sum256([]byte(kind + text))
			if strings.Contains(rows, hex.EncodeToString(sum[:])) || strings.Contains(rows, text) {
				t.Errorf("a hash without a key: %q", rows)
			}
		}
	}
	// Under the same key another process finds the same row, under another one it does not.
	for secret, same := range map[string]bool{"the bootstrap token": true, "another one": false} {
		l := operators.NewLogins(operators.LoginConfig{DB: h.db, Now: h.now, Cost: cheap})
		l.Keyed(secret)
		before := len(sqldbtest.Contents(t, h.db)["login_failures"])
		if _, err := l.Login(t.Context(), operators.Login{Name: right, Browser: here}); err != operators.ErrLogin {
			t.Fatal(err)
		}
		if after := len(sqldbtest.Contents(t, h.db)["login_failures"]); (after == before) != same {
			t.Errorf("under %q: %d rows, then %d", secret, before, after)
		}
	}
}
