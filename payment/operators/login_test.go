package operators_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/payment/operators"
)

// cheap is what tests can afford.
var cheap = operators.Cost{Passes: 1, KiB: 8, Threads: 1}

const (
	right = "correct horse battery"
	other = "another horse battery"
)

// hall is a house whose people log in; its clock is moved by hand.
type hall struct {
	*operators.Logins
	t      *testing.T
	db     *sqldb.DB
	at     atomic.Int64 // ms
	hashed atomic.Int64
}

// here is a browser.
var here = operators.Browser{Address: "192.0.2.7", Agent: "Firefox"}

func newHall(t *testing.T, db *sqldb.DB) *hall {
	t.Helper()
	h := &hall{t: t, db: db}
	h.at.Store(now.UnixMilli())
	h.Logins = h.another()
	return h
}

// another is another process on the same database.
func (h *hall) another() *operators.Logins {
	return h.keyed(testKey)
}

// testKey is long enough for a key.
const testKey = "0123456789abcdef0123456789abcdef"

// keyed is another process with another key for secrets, "" for none.
func (h *hall) keyed(key string) *operators.Logins {
	l := operators.NewLogins(operators.LoginConfig{DB: h.db, Now: h.now, Cost: cheap, Key: key,
		Hashed: func() { h.hashed.Add(1) }})
	l.Keyed("the bootstrap token")
	return l
}

func (h *hall) now() time.Time          { return time.UnixMilli(h.at.Load()).UTC() }
func (h *hall) advance(d time.Duration) { h.at.Add(d.Milliseconds()) }

// person makes an account with the password right, and gives a session of it.
func (h *hall) person(name string, role operators.Role) string {
	h.t.Helper()
	err := operators.Create(h.t.Context(), h.db, name, role, operators.Bootstrap, h.now())
	if err != nil {
		h.t.Fatal(err)
	}
	link, err := h.LinkOf(h.t.Context(), name, operators.Bootstrap)
	if err != nil {
		h.t.Fatal(err)
	}
	secret, err := h.UseLink(h.t.Context(), link, "", right, "", here, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	return secret
}

// try logs in by name and password.
func (h *hall) try(name, password, code string) (string, error) {
	return h.Login(h.t.Context(), operators.Login{Name: name, Password: password, Code: code, Browser: here})
}

// who gives the session of a secret, nil for none.
func (h *hall) who(secret string) *operators.Session {
	h.t.Helper()
	s, err := h.Who(h.t.Context(), secret)
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

// Whoever guesses learns nothing from the answer nor from how long it took: a name that nobody has, one without a
// password and one that was disabled are answered as a wrong password is, after the same computations of a hash.
func TestLoginSaysNothing(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		h := newHall(t, db)
		h.person("anna", operators.Admin)
		h.person("gone", operators.Admin)
		account(t, db, "bare", operators.Bootstrap)
		if err := operators.Disable(t.Context(), db, "gone", "anna", h.now()); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct{ name, password string }{{"anna", other}, {"nobody", right}, {"bare", right},
			{"gone", right}, {"", ""}, {strings.Repeat("x", 5000), right}, {"ANNA", right}} {
			h.advance(operators.WrongWithin)
			before := h.hashed.Load()
			if _, err := h.try(c.name, c.password, ""); err != operators.ErrLogin {
				t.Errorf("%.20q: %v", c.name, err)
			}
			if n := h.hashed.Load() - before; n != 1 {
				t.Errorf("%.20q: %d hashes", c.name, n)
			}
		}
		before := h.hashed.Load()
		secret, err := h.try("anna", right, "")
		if s := h.who(secret); err != nil || s == nil || s.Person != "anna" || s.Role != operators.Admin ||
			s.Agent != "Firefox" || h.hashed.Load() != before+1 {
			t.Error(s, err)
		}
	})
}

// Five wrong ones of a name, and five from an address, whichever process they come to and however many at once; a sixth
// is not looked at, be it right. Restarts change nothing: nothing is in memory.
func TestWrongLoginsAreThrottled(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		h := newHall(t, db)
		h.person("anna", operators.Admin)
		h.hashed.Store(0)
		var wrong, throttled atomic.Int64
		var all sync.WaitGroup
		for i := range 12 {
			process := h.another()
			all.Go(func() {
				b := operators.Browser{Address: fmt.Sprint("192.0.2.", i)}
				_, err := process.Login(t.Context(), operators.Login{Name: "anna", Password: other, Browser: b})
				var held *operators.ThrottledError
				switch {
				case err == operators.ErrLogin:
					wrong.Add(1)
				case errors.As(err, &held):
					throttled.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		all.Wait()
		if wrong.Load() != operators.MostWrong || throttled.Load() != 12-operators.MostWrong ||
			h.hashed.Load() != operators.MostWrong {
			t.Errorf("%d were looked at, %d not, %d hashes", wrong.Load(), throttled.Load(), h.hashed.Load())
		}
		var held *operators.ThrottledError
		if _, err := h.try("anna", right, ""); !errors.As(err, &held) || held.Wait != operators.WrongWithin {
			t.Errorf("the right one: %v", err)
		}
		if _, err := h.try("Anna", right, ""); !errors.As(err, &held) { // one that looks like it
			t.Errorf("another spelling: %v", err)
		}
		h.advance(operators.WrongWithin - time.Millisecond)
		if _, err := h.try("anna", right, ""); !errors.As(err, &held) {
			t.Errorf("too early: %v", err)
		}
		h.advance(time.Millisecond)
		if _, err := h.try("anna", right, ""); err != nil {
			t.Errorf("in time: %v", err)
		}
		for i := range operators.MostWrongAddress { // one address, many names
			if _, err := h.try(fmt.Sprint("guess", i), right, ""); err != operators.ErrLogin {
				t.Error(err)
			}
		}
		if _, err := h.try("anna", right, ""); !errors.As(err, &held) {
			t.Errorf("an address that guessed: %v", err)
		}
		elsewhere := operators.Login{Name: "anna", Password: right, Browser: operators.Browser{Address: "198.51.100.1"}}
		if _, err := h.Login(t.Context(), elsewhere); err != nil {
			t.Errorf("another address: %v", err)
		}
	})
}

// A right login takes nothing away from its person, and four mistakes before it do not count for the next day.
func TestRightLoginsAreNotCounted(t *testing.T) {
	h := newHall(t, sqldbtest.SQLite(t))
	h.person("anna", operators.Admin)
	for range 3 * operators.MostWrong {
		if _, err := h.try("anna", right, ""); err != nil {
			t.Fatal(err)
		}
	}
	for round := range 3 {
		h.advance(operators.WrongWithin) // for the address
		for range operators.MostWrong - 1 {
			if _, err := h.try("anna", other, ""); err != operators.ErrLogin {
				t.Fatal(round, err)
			}
		}
		if _, err := h.try("anna", right, ""); err != nil {
			t.Fatal(round, err)
		}
	}
}

// A session that goes on after its person went, was given other work or set another password lets somebody act who may
// not.
func TestSessionsEnd(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		h := newHall(t, db)
		first, process := h.person("anna", operators.Finance), h.another()
		login := func() string {
			t.Helper()
			secret, err := h.try("anna", right, "")
			if err != nil || h.who(secret) == nil {
				t.Fatal("no session: ", err)
			}
			return secret
		}
		ended := func(what string, secrets ...string) {
			t.Helper()
			for _, secret := range secrets {
				if h.who(secret) != nil {
					t.Errorf("%s: a session goes on", what)
				}
				if s, err := process.Who(t.Context(), secret); s != nil || err != nil {
					t.Errorf("%s: a session goes on in another process: %v", what, err)
				}
			}
		}
		role := func(r operators.Role) {
			t.Helper()
			if err := operators.SetRole(t.Context(), db, "anna", r, h.now()); err != nil {
				t.Fatal(err)
			}
		}
		for range 3 { // used, it goes on
			h.advance(operators.SessionIdle - time.Minute)
			if h.who(first) == nil {
				t.Fatal("in use")
			}
		}
		h.advance(operators.SessionIdle)
		ended("idle", first)
		second := login()
		for range operators.SessionMost / (20 * time.Minute) {
			h.who(second)
			h.advance(20 * time.Minute)
		}
		ended("a day later", second)
		a, b := login(), login()
		role(operators.Viewer)
		ended("another role", a, b)
		role(operators.Finance)
		ended("the role of before", a, b)
		a, b = login(), login()
		if _, err := h.ChangePassword(t.Context(), *h.who(a), other, other, here); !errors.Is(err, operators.ErrLogin) {
			t.Errorf("another old password: %v", err)
		}
		if _, err := h.ChangePassword(t.Context(), *h.who(a), right, "short", here); err != operators.ErrPassword {
			t.Errorf("a short one: %v", err)
		}
		c, err := h.ChangePassword(t.Context(), *h.who(a), right, other, here)
		if err != nil || h.who(c) == nil {
			t.Fatal(err)
		}
		ended("another password", a, b)
		if _, err := h.try("anna", right, ""); err != operators.ErrLogin {
			t.Errorf("the password of before: %v", err)
		}
		if err := h.End(t.Context(), "bea", h.who(c).ID); err != nil || h.who(c) == nil {
			t.Errorf("somebody else ends it: %v", err)
		}
		if err := h.End(t.Context(), "anna", h.who(c).ID); err != nil {
			t.Error(err)
		}
		ended("ended", c)
		d, err := h.try("anna", other, "")
		if err != nil {
			t.Fatal(err)
		}
		if err := operators.Disable(t.Context(), db, "anna", "boss", h.now()); err != nil {
			t.Fatal(err)
		}
		ended("disabled", d)
	})
}

// A session that can be guessed, or read out of the database or a copy of it, is somebody else's, too.
func TestSessionsCannotBeGuessedOrRead(t *testing.T) {
	h := newHall(t, sqldbtest.SQLite(t))
	secret := h.person("anna", operators.Admin)
	raw, err := base64.RawURLEncoding.DecodeString(secret)
	if err != nil || len(raw) != 32 {
		t.Errorf("%d bytes: %v", len(raw), err)
	}
	sum := sha256.Sum256([]byte(secret))
	rows := strings.Join(sqldbtest.Contents(t, h.db)["operator_sessions"], "\n")
	if id := hex.EncodeToString(sum[:]); !strings.Contains(rows, id) || strings.Contains(rows, secret) ||
		h.who(id) != nil || h.who("") != nil {
		t.Errorf("%s", rows)
	}
}

// The program of before logins changes roles and disables, and knows no session to end.
func TestSessionsEndWithWhatTheProgramBeforeDoes(t *testing.T) {
	h := newHall(t, sqldbtest.SQLite(t))
	for name, did := range map[string]string{"anna": "SET role = 'viewer'", "bert": "SET disabled_at = 1"} {
		secret := h.person(name, operators.Admin)
		if h.who(secret) == nil {
			t.Fatal(did)
		}
		if _, err := h.db.Pool().ExecContext(t.Context(), "UPDATE operators "+did+" WHERE name = ?", name); err != nil {
			t.Fatal(err)
		}
		if h.who(secret) != nil {
			t.Errorf("%s: the session goes on", did)
		}
	}
}

// A browser that was given a session before the login, by whoever wants to use it after, has another one after it.
func TestLoginEndsTheSessionOfBefore(t *testing.T) {
	h := newHall(t, sqldbtest.SQLite(t))
	planted := h.person("eve", operators.Viewer)
	h.person("anna", operators.Admin)
	secret, err := h.Login(t.Context(), operators.Login{Name: "anna", Password: right, Browser: here, Old: planted})
	if err != nil || secret == planted || h.who(secret).Person != "anna" || h.who(planted) != nil {
		t.Errorf("%v, %+v", err, h.who(planted))
	}
}

// As after a login; and of two people who share a browser the first is out when the second sets a password by a link.
func TestALinkEndsTheSessionOfBefore(t *testing.T) {
	h := newHall(t, sqldbtest.SQLite(t))
	eve, bea := h.person("eve", operators.Viewer), h.person("bea", operators.Viewer)
	link, err := h.LinkOf(t.Context(), "bea", "cli")
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.UseLink(t.Context(), link, "", other, eve, here, nil)
	if err != nil || h.who(eve) != nil || h.who(bea) != nil {
		t.Errorf("%v, %+v %+v", err, h.who(eve), h.who(bea))
	}
}

// A link that works twice, or beside another one, gives an account to two people.
func TestLinksWorkOnce(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		h := newHall(t, db)
		old, err := h.FirstLink(t.Context(), "cli:root")
		if err != nil {
			t.Fatal(err)
		}
		link, err := h.FirstLink(t.Context(), "cli:root")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.UseLink(t.Context(), old, "eve", right, "", here, nil); !errors.Is(err, operators.ErrLink) {
			t.Errorf("the link of before: %v", err)
		}
		for _, wrong := range []struct{ name, password string }{{"x y", right}, {"anna", "short"},
			{"anna", "i am anna of old"}} {
			if _, err := h.UseLink(t.Context(), link, wrong.name, wrong.password, "", here, nil); err == nil ||
				errors.Is(err, operators.ErrLink) {
				t.Errorf("%v: %v", wrong, err)
			}
		}
		var in, out atomic.Int64
		var all sync.WaitGroup
		for i := range 6 {
			process := h.another()
			all.Go(func() {
				_, err := process.UseLink(t.Context(), link, fmt.Sprint("admin", i), right, "", here, nil)
				switch {
				case err == nil:
					in.Add(1)
				case errors.Is(err, operators.ErrLink):
					out.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		all.Wait()
		people, err := h.People(t.Context())
		if err != nil || in.Load() != 1 || out.Load() != 5 || len(people) != 1 || people[0].Role != operators.Admin ||
			people[0].CreatedBy != "cli:root" || !people[0].HasPassword || people[0].Sessions != 1 {
			t.Fatalf("%d used it, %d did not: %+v, %v", in.Load(), out.Load(), people, err)
		}
		if _, err := h.FirstLink(t.Context(), "cli:root"); !errors.Is(err, operators.ErrBegun) {
			t.Errorf("another first one: %v", err)
		}
		if _, err := h.LinkOf(t.Context(), "nobody", "x"); !errors.Is(err, operators.ErrNoAccount) {
			t.Errorf("nobody's: %v", err)
		}
		who := people[0].Name
		link, err = h.LinkOf(t.Context(), who, "cli:root")
		if err != nil {
			t.Fatal(err)
		}
		h.advance(operators.LinkFor)
		if _, err := h.UseLink(t.Context(), link, "", other, "", here, nil); err != operators.ErrLink {
			t.Errorf("too late: %v", err)
		}
	})
}

// A shop whose people work by tokens has people: a link in the output of each start would make an admin of whoever
// reads it, for ever.
func TestFirstLinkIsOfAShopWithoutPeople(t *testing.T) {
	h := newHall(t, sqldbtest.SQLite(t))
	link, err := h.FirstLink(t.Context(), "cli:root")
	if err != nil {
		t.Fatal(err)
	}
	account(t, h.db, "bare", operators.Bootstrap)
	if _, err := h.FirstLink(t.Context(), "cli:root"); !errors.Is(err, operators.ErrBegun) {
		t.Error(err)
	}
	if _, err := h.UseLink(t.Context(), link, "eve", right, "", here, nil); !errors.Is(err, operators.ErrLink) {
		t.Errorf("the link of before: %v", err)
	}
	if err := operators.Disable(t.Context(), h.db, "bare", "anna", h.now()); err != nil {
		t.Fatal(err)
	}
	if _, err := h.FirstLink(t.Context(), "cli:root"); err != nil {
		t.Errorf("nobody is there any more: %v", err)
	}
}

// A link that was made for a person as it was, and is in somebody's hands, would give the role that came later.
func TestLinksEndWithRoleAndPassword(t *testing.T) {
	h := newHall(t, sqldbtest.SQLite(t))
	secret := h.person("anna", operators.Viewer)
	ends := func(what string, do func() error) {
		t.Helper()
		link, err := h.LinkOf(t.Context(), "anna", "cli:root")
		if err != nil {
			t.Fatal(err)
		}
		if err := do(); err != nil {
			t.Fatal(err)
		}
		if _, err := h.UseLink(t.Context(), link, "", other, "", here, nil); !errors.Is(err, operators.ErrLink) {
			t.Errorf("%s: %v", what, err)
		}
	}
	ends("another password", func() (err error) {
		secret, err = h.ChangePassword(t.Context(), *h.who(secret), right, other, here)
		return err
	})
	ends("another role", func() error { return operators.SetRole(t.Context(), h.db, "anna", operators.Admin, h.now()) })
}

// Who guesses at the door would keep those out of their work who are in; and all who come by a tunnel are one address.
func TestGuessesAtTheDoorStopNobodyInside(t *testing.T) {
	h := newHall(t, sqldbtest.SQLite(t))
	secret := h.person("anna", operators.Admin)
	h.person("bea", operators.Admin)
	tunnel := operators.Browser{Address: "127.0.0.1"}
	for range operators.MostWrong {
		_, err := h.Login(t.Context(), operators.Login{Name: "anna", Password: other, Browser: tunnel})
		if err != operators.ErrLogin {
			t.Fatal(err)
		}
	}
	if err := h.Prove(t.Context(), *h.who(secret), right); err != nil {
		t.Errorf("who is in: %v", err)
	}
	_, err := h.Login(t.Context(), operators.Login{Name: "bea", Password: right, Browser: tunnel})
	if err != nil {
		t.Errorf("another one by the same tunnel: %v", err)
	}
}

// A session that somebody stole would take the machine's memory by wrong old passwords, each of which was hashed twice.
func TestWrongOldPasswordIsOneHash(t *testing.T) {
	h := newHall(t, sqldbtest.SQLite(t))
	secret := h.person("anna", operators.Admin)
	before := h.hashed.Load()
	if _, err := h.ChangePassword(t.Context(), *h.who(secret), other, "another good password", here); err !=
		operators.ErrLogin || h.hashed.Load() != before+1 {
		t.Errorf("%v, %d hashes", err, h.hashed.Load()-before)
	}
}

// Two links for the first person that are used at one moment, each printed by a process, make one first person.
func TestTwoFirstLinksMakeOnePerson(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		h := newHall(t, db)
		var links [2]string
		for i := range links {
			var err error
			if links[i], err = h.FirstLink(t.Context(), "cli"); err != nil {
				t.Fatal(err)
			}
		}
		// As of a process that made its own at the same moment.
		if _, err := db.Pool().ExecContext(t.Context(), "UPDATE operator_links SET ends_at = ?",
			h.now().Add(time.Minute).UnixMilli()); err != nil {
			t.Fatal(err)
		}
		var in atomic.Int64
		var all sync.WaitGroup
		for i, link := range links {
			process := h.another()
			all.Go(func() {
				_, err := process.UseLink(t.Context(), link, fmt.Sprint("admin", i), right, "", here, nil)
				if err == nil {
					in.Add(1)
				} else if !errors.Is(err, operators.ErrLink) {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if in.Load() != 1 {
			t.Errorf("%d first people", in.Load())
		}
	})
}

// Whoever makes a link for somebody could use it: the two are one person for what takes two, used or not, and it is
// seen for a day.
func TestWhoMadeALinkStandsBehind(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		h := newHall(t, db)
		for _, name := range []string{"anna", "bea", "carl"} {
			account(t, db, name, operators.Bootstrap)
		}
		ask := func(acting, other string) (fresh bool, err error) {
			err = db.Decide(t.Context(), func(ctx ctx, tx *sqldb.Tx) (err error) {
				fresh, err = operators.Second(ctx, tx, h.now(), acting, other)
				return err
			})
			return fresh, err
		}
		if fresh, err := ask("anna", "bea"); fresh || err != nil {
			t.Fatal(fresh, err)
		}
		if _, err := h.LinkOf(t.Context(), "anna", "bea"); err != nil {
			t.Fatal(err)
		}
		var same *operators.SameError
		for _, pair := range [][2]string{{"anna", "bea"}, {"bea", "anna"}} {
			if _, err := ask(pair[0], pair[1]); !errors.As(err, &same) {
				t.Errorf("%v: %v", pair, err)
			}
		}
		if fresh, err := ask("anna", "carl"); !fresh || err != nil {
			t.Error("a link of today is not seen: ", err)
		}
		h.advance(operators.FreshFor)
		if fresh, err := ask("anna", "carl"); fresh || err != nil {
			t.Error("a link of yesterday: ", fresh, err)
		}
	})
}

// A link is for whoever has lost password or telephone; whoever was in by the old ones is out.
func TestALinkSetsThePasswordAnew(t *testing.T) {
	h := newHall(t, sqldbtest.SQLite(t))
	old := h.person("anna", operators.Admin)
	h.enrol(old)
	link, err := h.LinkOf(t.Context(), "anna", "cli")
	if err != nil {
		t.Fatal(err)
	}
	if k, err := h.FindLink(t.Context(), link); err != nil || k.Person != "anna" {
		t.Fatal(k, err)
	}
	secret, err := h.UseLink(t.Context(), link, "ignored", other, "", here, nil)
	if err != nil || h.who(old) != nil || h.who(secret).TOTP {
		t.Error(err)
	}
	if _, err := h.try("anna", other, ""); err != nil {
		t.Error(err)
	}
}

// What an act of weight asks for is the password of now, and it is asked for again after a while.
func TestThePasswordIsGivenAgain(t *testing.T) {
	h := newHall(t, sqldbtest.SQLite(t))
	secret := h.person("anna", operators.Admin)
	proved := func() bool { return h.who(secret).Proved(h.now()) }
	if h.advance(operators.ProvedFor - 1); !proved() {
		t.Error("not after the login")
	}
	if h.advance(time.Millisecond); proved() {
		t.Error("for ever")
	}
	if err := h.Prove(t.Context(), *h.who(secret), other); err != operators.ErrLogin || proved() {
		t.Error(err)
	}
	second, err := h.try("anna", right, "")
	if err != nil {
		t.Fatal(err)
	}
	h.advance(operators.ProvedFor)
	if err := h.Prove(t.Context(), *h.who(second), right); err != nil || proved() {
		t.Error("by another browser of the same person: ", err)
	}
	if err := h.Prove(t.Context(), *h.who(secret), right); err != nil || !proved() {
		t.Error(err)
	}
	for range operators.MostWrong {
		_ = h.Prove(t.Context(), *h.who(secret), other)
	}
	var held *operators.ThrottledError
	if err := h.Prove(t.Context(), *h.who(secret), right); !errors.As(err, &held) {
		t.Errorf("a stolen session may guess the password: %v", err)
	}
}

// A hash of less work than today's is made anew by the next login, and one that would take all of the machine is not
// computed.
func TestHashesAreKeptUp(t *testing.T) {
	h := newHall(t, sqldbtest.SQLite(t))
	h.person("anna", operators.Admin)
	dear := operators.Cost{Passes: 2, KiB: 16, Threads: 1}
	process := operators.NewLogins(operators.LoginConfig{DB: h.db, Now: h.now, Cost: dear})
	login := operators.Login{Name: "anna", Password: right, Browser: here}
	if _, err := process.Login(t.Context(), login); err != nil {
		t.Fatal(err)
	}
	var hash string
	if err := h.db.Pool().QueryRowContext(t.Context(), "SELECT hash FROM operator_passwords").Scan(&hash); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(hash, "$argon2id$v=19$m=16,t=2,p=1$") || strings.Contains(hash, right) {
		t.Errorf("%q", hash)
	}
	if _, err := process.Login(t.Context(), login); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"x", strings.Replace(hash, "m=16", "m=99999999", 1),
		strings.Replace(hash, "t=2", "t=0", 1),
		strings.Replace(hash, "argon2id", "argon2i", 1), hash[:len(hash)-2]} {
		if _, err := h.db.Pool().ExecContext(t.Context(), "UPDATE operator_passwords SET hash = ?", bad); err != nil {
			t.Fatal(err)
		}
		if _, err := h.try("anna", right, ""); err == nil || errors.Is(err, operators.ErrLogin) {
			t.Errorf("%q: %v", bad, err)
		}
		h.advance(operators.WrongWithin)
	}
}
