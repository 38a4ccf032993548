package operators_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"orderd/migrations"
	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/payment/operators"
)

var now = time.Date(2026, 11, 29, 9, 0, 0, 0, time.UTC)

// account makes an account, long ago.
func account(t *testing.T, db *sqldb.DB, name, by string) {
	t.Helper()
	if err := operators.Create(t.Context(), db, name, operators.Finance, by, now.Add(-48*time.Hour)); err != nil {
		t.Fatal(err)
	}
}

// token writes a token's row; person "" is what the program before accounts writes.
func token(t *testing.T, db *sqldb.DB, name, person, by string, age time.Duration) {
	t.Helper()
	err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO operator_tokens
  (name, person, role, sha256, created_by, created_at)
VALUES (?, ?, 'finance', ?, ?, ?)`, name, person, "sha of "+name, by, now.Add(-age).UnixMilli())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// An admin who asks and approves by accounts of his own making moves any sum alone, however many accounts stand between
// him and the one that approves, whichever of the two came first, and through whichever token.
func TestWhoMadeTheOtherIsNoSecondPerson(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		account(t, db, "boss", operators.Bootstrap)
		account(t, db, "fin1", "boss")
		account(t, db, "fin2", "boss")
		account(t, db, "deputy", "boss")
		account(t, db, "fin3", "deputy")
		account(t, db, "anna", "cli:root")
		account(t, db, "bea", "cli:lena")
		account(t, db, "carl", operators.Bootstrap)
		token(t, db, "carl:laptop", "carl", "anna", 48*time.Hour)
		token(t, db, "old", "", "boss", 48*time.Hour)
		token(t, db, "ring1", "", "ring2", 48*time.Hour)
		token(t, db, "ring2", "", "ring1", 48*time.Hour)
		for _, c := range []struct {
			acting, other string
			two           bool
		}{
			{"fin1", "fin2", true}, // a shop whose admin made both: marked while fresh, and no more can be known
			{"fin1", "fin3", true},
			{"fin1", "anna", true},
			{"anna", "bea", true}, // made at the shell, which acts in neither
			{"fin1", "never heard of", true},
			{"fin1", "fin1", false},
			{"fin1", "FIN1", false},
			{"boss", "fin1", false},
			{"fin1", "boss", false},
			{"deputy", "boss", false},
			{"fin3", "boss", false}, // made by one whom he made
			{"boss", "fin3", false},
			{"fin3", operators.Bootstrap, false},
			{operators.Bootstrap, "fin3", false},
			{operators.Bootstrap, "cli:root", false}, // whoever has the machine has its configuration
			{operators.Bootstrap, "anna", false},
			{"anna", operators.Bootstrap, false},
			{operators.Bootstrap, "never heard of", false},
			{"old", "boss", false},
			{"old", "fin1", true},
			{"carl", "carl:laptop", false}, // one person with two tokens
			{"carl:laptop", "carl", false},
			{"carl", "anna", false}, // she has had a secret of his in hand
			{"anna", "carl:laptop", false},
			{"carl", "bea", true},
			{"carl", "cli:root", false}, // behind anna, the shell
			{"cli:root", "fin1", false},
			{"cli", "fin1", false},
			{"fin1", "cli:root", true}, // the shell proposes, somebody else confirms
			{"anna", "cli:root", false},
			{"anna", "cli:somebody", false}, // a name at the shell proves nothing
			{"ring1", "ring2", false},
			{"ring1", "fin1", true},
		} {
			_, err := operators.Second(t.Context(), db, now, c.acting, c.other)
			var same *operators.SameError
			if (err == nil) != c.two || !c.two && !errors.As(err, &same) && !errors.Is(err, operators.ErrShell) {
				t.Errorf("%s beside %s: %v, two people: %v", c.acting, c.other, err, c.two)
			}
		}
	})
}

// Somebody whose account was disabled, or who is no finance any more, must not be the second person for as long as a
// look-up is remembered.
func TestWhoMayNoLongerIsNoSecondPerson(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		account(t, db, "anna", operators.Bootstrap)
		account(t, db, "bea", operators.Bootstrap)
		token(t, db, "bea", "bea", operators.Bootstrap, 48*time.Hour)
		second := func() error {
			_, err := operators.Second(t.Context(), db, now, "bea", "anna")
			return err
		}
		if err := second(); err != nil {
			t.Fatal(err)
		}
		if err := operators.SetRole(t.Context(), db, "bea", operators.Viewer, now); err != nil {
			t.Fatal(err)
		}
		if err := second(); !errors.Is(err, operators.ErrNoLonger) {
			t.Errorf("a viewer: %v", err)
		}
		if err := operators.SetRole(t.Context(), db, "bea", operators.Admin, now); err != nil || second() != nil {
			t.Errorf("an admin: %v", err)
		}
		if err := operators.Disable(t.Context(), db, "bea", "anna", now); err != nil {
			t.Fatal(err)
		}
		if err := second(); !errors.Is(err, operators.ErrNoLonger) {
			t.Errorf("disabled: %v", err)
		}
		for _, again := range []error{operators.Disable(t.Context(), db, "bea", "anna", now),
			operators.SetRole(t.Context(), db, "bea", operators.Finance, now),
			operators.Disable(t.Context(), db, "nobody-at-all", "anna", now)} {
			if !errors.Is(again, operators.ErrNoAccount) {
				t.Errorf("of no account in use: %v", again)
			}
		}
	})
}

// Two accounts that were made for one occasion are the one thing that the rule does not see: it is marked.
func TestFreshAccountsAndTokensAreMarked(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		account(t, db, "anna", operators.Bootstrap)
		account(t, db, "bea", operators.Bootstrap)
		token(t, db, "bea", "bea", operators.Bootstrap, operators.FreshFor)
		fresh := func() bool {
			f, err := operators.Second(t.Context(), db, now, "bea", "anna")
			if err != nil {
				t.Fatal(err)
			}
			return f
		}
		if fresh() {
			t.Error("a day old, and marked")
		}
		token(t, db, "bea:new", "bea", operators.Bootstrap, operators.FreshFor-time.Millisecond)
		if !fresh() {
			t.Error("a new token of an old account is not marked")
		}
	})
}

// A second Anna, or one called as the service itself is, would be taken for somebody else in every list.
func TestNamesThatLookAlikeAreRefused(t *testing.T) {
	for _, name := range []string{"", " ", "a b", "anna ", ".anna", "anna.", "-", "_", "anna\u200b",
		"аnna" /* Cyrillic */, "ａｎｎａ" /* full width */, "anna\n",
		"an\x00na", "\u202eanna", "café", "anna:x", strings.Repeat("a", 65),
		"bootstrap", "Bootstrap", "BOOTSTRAP", "b00tstrap", "boot-strap", "cli", "CLI", "c1i", "Reconciler",
		"reconci1er", "SCHEDULER", "schedu1er", "WeChat", "we.chat", "vvechat", "system",
		"customer", "orderd", "nu11", "5cheduler", "5y5tem", "8ootstrap"} {
		if err := operators.CheckName(name); !errors.Is(err, operators.ErrName) {
			t.Errorf("%q is a name: %v", name, err)
		}
	}
	for _, name := range []string{"a", "7", "li.na", "Di", "Anna_B", "anna@shop.cn", "finance", "admin", "operator",
		strings.Repeat("a", 64)} {
		if err := operators.CheckName(name); err != nil {
			t.Errorf("%q is none: %v", name, err)
		}
	}
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		account(t, db, "Arni.Moll-10", operators.Bootstrap)
		account(t, db, "Cleo.Sz-8", operators.Bootstrap)
		// One from before the rule of names has no key, and its name all the same.
		if err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO operators (name, role, created_by, created_at)
VALUES ('Old', 'finance', 'x', 1)`)
			if err == nil { // and this one the key of the program that made it
				_, err = tx.ExecContext(ctx, `INSERT INTO operators (name, name_key, role, created_by, created_at)
VALUES ('Bob5', 'bob5', 'finance', 'x', 1)`)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"Arni.Moll-10", "arni.moll-10", "ARNIMOLL10", "ami.moll-10", "arnl.moii-lo",
			"old",
			"o1d", "o.l.d", "c1eo52B", "deo.sz.8", "CLEO5Z8", "bobs", "Bob5"} {
			err := operators.Create(t.Context(), db, name, operators.Viewer, "x", now)
			if !errors.Is(err, operators.ErrExists) {
				t.Errorf("%s beside Arni.Moll-10, Cleo.Sz-8, Bob5 and Old: %v", name, err)
			}
		}
		if err := operators.Create(t.Context(), db, "x", "root", "x", now); !errors.Is(err, operators.ErrRole) {
			t.Errorf("role root: %v", err)
		}
		all, err := operators.List(t.Context(), db)
		if err != nil || len(all) != 4 || all[0].Name != "Arni.Moll-10" || all[0].CreatedBy != operators.Bootstrap {
			t.Errorf("%+v %v", all, err)
		}
	})
}

// Two at once who take names that look alike must not both have one.
func TestLookAlikesAtOnceAreOne(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		made := make(chan error)
		for _, name := range []string{"lina", "LINA", "1ina", "li.na", "iina", "l-i-n-a"} {
			go func() { made <- operators.Create(t.Context(), db, name, operators.Finance, "x", now) }()
		}
		ok := 0
		for range 6 {
			if err := <-made; err == nil {
				ok++
			} else if !errors.Is(err, operators.ErrExists) {
				t.Error(err)
			}
		}
		if ok != 1 {
			t.Errorf("%d accounts of one look", ok)
		}
	})
}

// A chain that is too long is no proof: it must not be cut, with whoever stands at its end left out.
func TestTooLongAChainIsRefused(t *testing.T) {
	db := sqldbtest.SQLite(t)
	account(t, db, "p0", operators.Bootstrap)
	for i := range 40 {
		account(t, db, fmt.Sprint("p", i+1), fmt.Sprint("p", i))
	}
	if _, err := operators.Second(t.Context(), db, now, "p40", "p0"); err == nil ||
		!strings.Contains(err.Error(), "generations") {
		t.Errorf("40 generations: %v", err)
	}
}

// Tokens of before accounts must go on working: each is a person of its name, with its role, made by whom it was made.
func TestTokensOfBeforeAreAccounts(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		for {
			m, err := migrations.Down(t.Context(), db)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(m.Name, "00006") {
				break
			}
		}
		if err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO operator_tokens
  (name, role, sha256, created_by, created_at, revoked_at)
VALUES ('boss', 'admin', 'a', 'bootstrap', 1, 0), ('Fin', 'finance', 'b', 'boss', 2, 0),
  ('fin', 'finance', 'c', 'x', 2, 0),
  ('gone', 'finance', 'd', 'bootstrap', 3, 4)`)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := migrations.Up(t.Context(), db); err != nil {
			t.Fatal(err)
		}
		all, err := operators.List(t.Context(), db)
		if err != nil || len(all) != 4 {
			t.Fatalf("%+v %v", all, err)
		}
		for _, a := range all {
			if a.Name == "Fin" && (a.Role != operators.Finance || a.CreatedBy != "boss" || a.DisabledAt != nil) ||
				a.Name == "gone" && a.DisabledAt == nil {
				t.Errorf("%+v", a)
			}
		}
		for _, pair := range [][2]string{{"Fin", "boss"}, {"fin", "Fin"}} {
			var same *operators.SameError
			if _, err := operators.Second(t.Context(), db, now, pair[0], pair[1]); !errors.As(err, &same) {
				t.Errorf("%s beside %s: %v", pair[0], pair[1], err)
			}
		}
	})
}
