package operators

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"orderd/migrations/sqldb"
)

// Names of what is no account.
const (
	// Bootstrap is the name of the token in the configuration.
	Bootstrap = "bootstrap"
	// shell is how the names begin of what is done at the machine: cli, or cli: and the
	// user's name there, which is no proof. All of them are one.
	shell = "cli"
)

// Bounds of looking up who stands behind whom.
const (
	// maxChain is how many generations of makers are followed. A shop has three; a longer
	// chain is no proof of anything, and nobody in it is a second person.
	maxChain = 32
	// FreshFor is how long an account or a token counts as new: a day, in which somebody
	// else has looked at the list of accounts and at the alarm.
	FreshFor = 24 * time.Hour
)

// SameError: Acting is no second person beside Other.
type SameError struct {
	Acting, Other string
	Why           string
}

func (e *SameError) Error() string {
	return fmt.Sprintf("this takes two people, and %s is no second one beside %s: %s", e.Acting, e.Other, e.Why)
}

// ErrShell: neither the shell of the machine nor the bootstrap token, which can be read there,
// is anybody's second person.
var ErrShell = errors.New("this takes two people, and neither the shell nor the bootstrap token is one of them: " +
	"give a person's token (--token-file or ORDERD_OPERATOR_TOKEN_FILE)")

// ErrNoLonger: the account was disabled, or has lost the role that this takes.
var ErrNoLonger = errors.New("this person's account is disabled or no longer has the role that this takes")

// Shell reports that an operator of this name is the shell of the machine and no account.
func Shell(name string) bool { return name == shell || strings.HasPrefix(name, shell+":") }

// Known is what the database knows of some operators and of everybody who stands behind
// them. The zero value knows nobody; it cannot be asked.
type Known struct {
	people map[string]*person // by name
	owner  map[string]string  // the person of a token that has another name
}

// person is an account, or what is known of a name without one.
type person struct {
	account  bool
	role     Role
	disabled bool
	youngest time.Time       // when the account, its newest token or link was made
	makers   map[string]bool // of the account, of its tokens and links
}

// Second looks names up and judges, in one call, whether acting is a person of its own
// beside each of the others, who have acted before: nil, or a *SameError, ErrShell,
// ErrNoLonger or an error of the database. fresh says that the account of acting or of one
// of the others, or a token of it, is younger than FreshFor, in whatever order they acted:
// the act stands, and an alarm is raised.
//
// Names are those of order.Actor and of columns such as proposed_by. A name that the
// database does not know stands for itself alone. It is called in the transaction that
// writes the act, so that what it goes by is true then.
func Second(ctx context.Context, q sqldb.Querier, now time.Time, acting string,
	others ...string) (fresh bool, err error) {
	known, err := Find(ctx, q, append([]string{acting}, others...)...)
	if err != nil {
		return false, err
	}
	if !known.May(acting, Finance) {
		return false, ErrNoLonger
	}
	fresh = known.Fresh(acting, now)
	for _, other := range others {
		if err := known.Second(acting, other); err != nil {
			return false, err
		}
		fresh = fresh || known.Fresh(other, now)
	}
	return fresh, nil
}

// Find reads what there is about operators and about everybody behind them, by a query for
// each generation and table.
func Find(ctx context.Context, q sqldb.Querier, names ...string) (Known, error) {
	k := Known{people: map[string]*person{}, owner: map[string]string{}}
	next := map[string]bool{}
	for _, n := range names {
		next[n] = true
	}
	for range maxChain {
		wanted := slices.DeleteFunc(slices.Sorted(maps.Keys(next)), func(n string) bool {
			return n == "" || Shell(n) || k.people[n] != nil
		})
		if len(wanted) == 0 {
			return k, nil
		}
		next = map[string]bool{}
		if err := k.read(ctx, q, wanted, next); err != nil {
			return Known{}, fmt.Errorf("look up who stands behind whom: %w", err)
		}
	}
	return Known{}, fmt.Errorf("look up who stands behind whom: more than %d generations", maxChain)
}

// read adds people and says whom to read next: their makers, and the persons of tokens.
func (k *Known) read(ctx context.Context, q sqldb.Querier, names []string, next map[string]bool) error {
	for _, n := range names {
		k.people[n] = &person{makers: map[string]bool{}}
	}
	err := sqldb.Each(ctx, q, `SELECT name, role, created_by, created_at, disabled_at
FROM operators
WHERE name IN (`+sqldb.In(len(names))+`)`, sqldb.Args(names), func(rows *sql.Rows) error {
		var name, by string
		var made, disabled int64
		var role Role
		err := rows.Scan(&name, &role, &by, &made, &disabled)
		if p := k.people[name]; err == nil && p != nil {
			p.account, p.role, p.disabled = true, role, disabled != 0
			p.madeBy(by, made)
			next[by] = true
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := k.readLinks(ctx, q, names, next); err != nil {
		return err
	}
	// A revoked token had a secret, too.
	return sqldb.Each(ctx, q, `SELECT name, person, role, created_by, created_at
FROM operator_tokens
WHERE person IN (`+sqldb.In(len(names))+`)
  OR name IN (`+sqldb.In(len(names))+`)`, append(sqldb.Args(names), sqldb.Args(names)...),
		func(rows *sql.Rows) error {
			var name, owner, by string
			var role Role
			var made int64
			err := rows.Scan(&name, &owner, &role, &by, &made)
			if err != nil {
				return err
			}
			if owner == "" { // of the program before accounts
				owner = name
			}
			if owner != name {
				k.owner[name] = owner
				next[owner] = true
			}
			if p := k.people[owner]; p != nil {
				if !p.account {
					p.role = role
				}
				p.madeBy(by, made)
				next[by] = true
			}
			return nil
		})
}

// readLinks adds who made the links by which passwords were set: a link had its secret, too, used
// or not.
func (k *Known) readLinks(ctx context.Context, q sqldb.Querier, names []string, next map[string]bool) error {
	return sqldb.Each(ctx, q, `SELECT person, created_by, created_at
FROM operator_links
WHERE person IN (`+sqldb.In(len(names))+`)`, sqldb.Args(names), func(rows *sql.Rows) error {
		var owner, by string
		var made int64
		err := rows.Scan(&owner, &by, &made)
		if p := k.people[owner]; err == nil && p != nil {
			p.madeBy(by, made)
			next[by] = true
		}
		return err
	})
}

// madeBy notes who made the account, a token or a link of it, and when.
func (p *person) madeBy(by string, millis int64) {
	if Shell(by) {
		by = shell
	}
	if by != "" {
		p.makers[by] = true
	}
	if at := sqldb.FromMillis(millis); at.After(p.youngest) {
		p.youngest = at
	}
}

// of gives the name of the person whose name or token this is.
func (k Known) of(name string) string {
	if Shell(name) {
		return shell
	}
	if owner, ok := k.owner[name]; ok {
		return owner
	}
	return name
}

// Second reports that acting is a person of its own beside other: nil, or why not.
func (k Known) Second(acting, other string) error {
	if Shell(acting) || acting == Bootstrap {
		return ErrShell
	}
	a, b := k.of(acting), k.of(other)
	made := k.behind(a)
	switch {
	case Key(a) == Key(b):
		return &SameError{acting, other, "they are the same person"}
	case b == Bootstrap && made[Key(shell)]:
		return &SameError{acting, other, fmt.Sprintf("%s's account or a token of it comes from the shell, where the "+
			"bootstrap token can be read", a)}
	case made[Key(b)]:
		return &SameError{acting, other, fmt.Sprintf("%s's account or a token of it comes from %s", a, b)}
	case k.behind(b)[Key(a)]:
		return &SameError{acting, other, fmt.Sprintf("%s's account or a token of it comes from %s", b, a)}
	}
	return nil
}

// behind gives the keys of everybody who stands behind a person.
func (k Known) behind(name string) map[string]bool {
	found, todo := map[string]bool{}, []string{name}
	for len(todo) > 0 {
		p := k.people[todo[0]]
		todo = todo[1:]
		if p == nil {
			continue
		}
		for by := range p.makers {
			if maker := k.of(by); !found[Key(maker)] && maker != name {
				found[Key(maker)] = true
				todo = append(todo, maker)
			}
		}
	}
	return found
}

// May reports that an operator may still do what takes a role. Who has no account, such as
// the bootstrap token or the shell, was let in by other means, and may.
func (k Known) May(name string, need Role) bool {
	p := k.people[k.of(name)]
	return p == nil || !p.account && p.role == "" || !p.disabled && p.role.May(need)
}

// Fresh reports that the account of an operator, or its newest token or link, is younger than
// FreshFor.
func (k Known) Fresh(name string, now time.Time) bool {
	p := k.people[k.of(name)]
	return p != nil && !p.youngest.IsZero() && now.Before(p.youngest.Add(FreshFor))
}

// Has reports that there is an account or a token of this name.
func (k Known) Has(name string) bool {
	p := k.people[k.of(name)]
	return p != nil && (p.account || p.role != "")
}
