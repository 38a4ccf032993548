package shops

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"orderd/migrations/sqldb"
)

// Scope is what a key may do.
type Scope string

// The scopes.
const (
	Place  Scope = "place"  // orders, and what pays and closes them
	Read   Scope = "read"   // orders, refunds, and the feed of events
	Refund Scope = "refund" // ask for refunds
	Stock  Scope = "stock"  // what can be bought
)

// Scopes lists all scopes.
func Scopes() []Scope { return []Scope{Place, Read, Refund, Stock} }

// Bounds of keys.
const (
	// Prefix is how every secret begins, so that one that leaked can be searched for, and
	// is told from a customer's token.
	Prefix = "shk_"
	// MaxKeys is how many keys of a shop are valid at a time: the one in use, and the one
	// that takes its place.
	MaxKeys = 2
	// secretBytes is how many random bytes a secret has: it cannot be guessed, so that its
	// plain SHA-256 may be stored.
	secretBytes = 32
	// knownFor is how long a look-up is remembered: a revoked key lets in for no longer.
	knownFor = 2 * time.Second
	// maxKnown bounds how many are remembered, those of wrong secrets too.
	maxKnown = 1000
)

// Errors of keys.
var (
	// ErrName: what a shop may not be called.
	ErrName = errors.New("a shop's name is 1 to 32 of a-z, 0-9 and -, and begins with a letter")
	// ErrScope: there is no such scope, or none was given.
	ErrScope = errors.New("scopes are some of place, read, refund and stock")
	// ErrTwoKeys: MaxKeys are valid.
	ErrTwoKeys = errors.New("this shop has two valid keys; revoke the older one first")
	// ErrNotFound: no key of this name is valid.
	ErrNotFound = errors.New("no key of this name is valid")
)

// shopName is the grammar of names: they stand in timelines and logs.
var shopName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

// Key is a key as it is listed: never its secret, of which there is no copy.
type Key struct {
	Name      string     `json:"name"` // SHOP/NUMBER
	Shop      string     `json:"shop"`
	Scopes    []Scope    `json:"scopes"`
	CreatedBy string     `json:"created_by"`
	CreatedAt time.Time  `json:"created_at"`
	RevokedAt *time.Time `json:"revoked_at"`
}

// May reports that a key has a scope.
func (k *Key) May(s Scope) bool { return slices.Contains(k.Scopes, s) }

// Store is the table, in one database. It is safe for concurrent use.
type Store struct {
	db  *sqldb.DB
	now func() time.Time

	mu   sync.Mutex
	seen map[[sha256.Size]byte]known
}

// known is what a look-up found, and when.
type known struct {
	key *Key // nil: nobody's
	at  time.Time
}

// New gives the keys of a database.
func New(db *sqldb.DB, now func() time.Time) *Store {
	return &Store{db: db, now: now, seen: map[[sha256.Size]byte]known{}}
}

// Create makes a key and gives its secret, which nobody can read again. Errors: ErrName,
// ErrScope, ErrTwoKeys.
func (s *Store) Create(ctx context.Context, shop string, scopes []Scope, by string) (k Key, secret string, err error) {
	if !shopName.MatchString(shop) {
		return k, "", ErrName
	}
	scopes = slices.Compact(slices.Sorted(slices.Values(scopes)))
	if len(scopes) == 0 || slices.ContainsFunc(scopes, func(s Scope) bool { return !slices.Contains(Scopes(), s) }) {
		return k, "", ErrScope
	}
	random := make([]byte, secretBytes)
	_, _ = rand.Read(random) // never fails
	secret = Prefix + base64.RawURLEncoding.EncodeToString(random)
	sum := sha256.Sum256([]byte(secret))
	err = s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		all, err := find(ctx, tx, "shop = ?", shop)
		if err != nil {
			return err
		}
		valid := 0
		for i := range all {
			if all[i].RevokedAt == nil {
				valid++
			}
		}
		if valid >= MaxKeys {
			return ErrTwoKeys
		}
		k = Key{Name: fmt.Sprintf("%s/%d", shop, len(all)+1), Shop: shop, Scopes: scopes, CreatedBy: by,
			CreatedAt: s.now().Truncate(time.Millisecond)}
		_, err = tx.ExecContext(ctx, `INSERT INTO shop_keys
  (name, shop, scopes, sha256, created_by, created_at)
VALUES (?, ?, ?, ?, ?, ?)`, k.Name, k.Shop, join(scopes), hex.EncodeToString(sum[:]), by, sqldb.Millis(k.CreatedAt))
		if sqldb.IsDuplicate(err) { // of a neighbour's number, or our own of a run that was committed
			err = fmt.Errorf("%w: another key was made", sqldb.ErrLostRace)
		}
		return err
	})
	return k, secret, err
}

// join is scopes as they are stored.
func join(scopes []Scope) string {
	words := make([]string, len(scopes))
	for i, s := range scopes {
		words[i] = string(s)
	}
	return strings.Join(words, " ")
}

// find gives keys, the oldest first.
func find(ctx context.Context, q sqldb.Querier, where string, args ...any) (all []Key, err error) {
	err = sqldb.Each(ctx, q, `SELECT name, shop, scopes, created_by, created_at, revoked_at
FROM shop_keys
WHERE `+where+`
ORDER BY created_at, name`, args, func(rows *sql.Rows) error {
		var k Key
		var scopes string
		var created, revoked int64
		err := rows.Scan(&k.Name, &k.Shop, &scopes, &k.CreatedBy, &created, &revoked)
		for word := range strings.FieldsSeq(scopes) {
			k.Scopes = append(k.Scopes, Scope(word))
		}
		k.CreatedAt = sqldb.FromMillis(created)
		if revoked != 0 {
			at := sqldb.FromMillis(revoked)
			k.RevokedAt = &at
		}
		all = append(all, k)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read keys of shops: %w", err)
	}
	return all, nil
}

// List gives all keys, those that ended too.
func (s *Store) List(ctx context.Context) (all []Key, err error) {
	err = s.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		all, err = find(ctx, tx, "1 = 1")
		return err
	})
	return all, err
}

// Revoke ends a key, within knownFor everywhere. Errors: ErrNotFound.
func (s *Store) Revoke(ctx context.Context, name string) error {
	err := s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		n, err := tx.Update(ctx, `UPDATE shop_keys
SET revoked_at = ?
WHERE name = ?
  AND revoked_at = 0`, sqldb.Millis(s.now()), name)
		if err == nil && n == 0 && !tx.MayBeDone() {
			err = ErrNotFound
		}
		return err
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.seen)
	return err
}

// Who gives the key of a secret, nil for nobody's. Only its hash is compared, by the
// database's index. Errors match sqldb.ErrUnavailable.
func (s *Store) Who(ctx context.Context, secret string) (*Key, error) {
	sum, now := sha256.Sum256([]byte(secret)), s.now()
	s.mu.Lock()
	of, ok := s.seen[sum]
	s.mu.Unlock()
	if ok && now.Sub(of.at) < knownFor && !now.Before(of.at) {
		return of.key, nil
	}
	var all []Key
	err := s.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		all, err = find(ctx, tx, "sha256 = ? AND revoked_at = 0", hex.EncodeToString(sum[:]))
		return err
	})
	if err != nil {
		return nil, errors.Join(err, sqldb.ErrUnavailable)
	}
	var key *Key
	if len(all) > 0 {
		key = &all[0]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.seen) >= maxKnown {
		clear(s.seen)
	}
	s.seen[sum] = known{key, now}
	return key, nil
}
