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
	"orderd/payment/operators"
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
	// knownFor is how long the keys that were read are believed: a revoked key lets in for no
	// longer, and one that was just made elsewhere does not wait longer to be known.
	knownFor = 2 * time.Second
	// readFor bounds a read of the keys, which all who ask meanwhile wait for.
	readFor = 2 * time.Second
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
	// UsedAt is when it was last used, to the minute (operators.NotedEvery); null: never, or before this was noted.
	UsedAt *time.Time `json:"used_at"`
}

// May reports that a key has a scope.
func (k *Key) May(s Scope) bool { return slices.Contains(k.Scopes, s) }

// Store is the table, in one database. It is safe for concurrent use.
type Store struct {
	db   *sqldb.DB
	now  func() time.Time
	uses *operators.Uses

	mu    sync.Mutex
	valid map[[sha256.Size]byte]*Key // all valid keys, by their hashes, as of at
	at    time.Time                  // zero: they have to be read
	// changes counts what this process changed: keys that were read before do not count.
	changes int
	reading *reading // nil: nobody reads
}

// reading is a read of all keys that is under way, by the first who needs it.
type reading struct {
	done chan struct{}
	err  error // once done
}

// New gives the keys of a database.
func New(db *sqldb.DB, now func() time.Time) *Store {
	return &Store{db: db, now: now, uses: operators.NewUses(db, now, `UPDATE shop_keys
SET used_at = ?
WHERE sha256 = ?
  AND used_at < ?`)}
}

// Create makes a key and gives its secret, which nobody can read again. It is valid at once in
// this process, and within knownFor everywhere. Errors: ErrName, ErrScope, ErrTwoKeys.
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
	s.changed()
	return k, secret, err
}

// changed has the keys read again.
func (s *Store) changed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = time.Time{}
	s.changes++
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
	err = each(ctx, q, where, args, func(k Key, _ string) error {
		all = append(all, k)
		return nil
	})
	return all, err
}

// each calls do with keys and the hashes of their secrets, the oldest first.
func each(ctx context.Context, q sqldb.Querier, where string, args []any, do func(k Key, hash string) error) error {
	err := sqldb.Each(ctx, q, `SELECT name, shop, scopes, created_by, created_at, revoked_at, used_at, sha256
FROM shop_keys
WHERE `+where+`
ORDER BY created_at, name`, args, func(rows *sql.Rows) error {
		var k Key
		var scopes, hash string
		var created, revoked, used int64
		if err := rows.Scan(&k.Name, &k.Shop, &scopes, &k.CreatedBy, &created, &revoked, &used, &hash); err != nil {
			return err
		}
		for word := range strings.FieldsSeq(scopes) {
			k.Scopes = append(k.Scopes, Scope(word))
		}
		k.CreatedAt = sqldb.FromMillis(created)
		if revoked != 0 {
			at := sqldb.FromMillis(revoked)
			k.RevokedAt = &at
		}
		if used != 0 {
			k.UsedAt = new(sqldb.FromMillis(used))
		}
		return do(k, hash)
	})
	if err != nil {
		return fmt.Errorf("read keys of shops: %w", err)
	}
	return nil
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
	s.changed()
	return err
}

// Who gives the key of a secret, nil for nobody's. It is looked for among the valid keys in
// memory, which are few, so that a secret that is nobody's costs the database nothing: they are
// read once in knownFor at most, whoever asks. Only hashes are compared. Errors match
// sqldb.ErrUnavailable: keys that are older than knownFor let nobody in.
func (s *Store) Who(ctx context.Context, secret string) (*Key, error) {
	sum := sha256.Sum256([]byte(secret))
	for {
		s.mu.Lock()
		if now := s.now(); !s.at.IsZero() && now.Sub(s.at) < knownFor && !now.Before(s.at) {
			key := s.valid[sum]
			s.mu.Unlock()
			if key != nil {
				s.uses.Note(ctx, hex.EncodeToString(sum[:]))
			}
			return key, nil
		}
		r, first := s.reading, s.reading == nil
		if first {
			r = &reading{done: make(chan struct{})}
			s.reading = r
		}
		s.mu.Unlock()
		if first {
			s.read(ctx, r)
		}
		select {
		case <-r.done:
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), sqldb.ErrUnavailable)
		}
		if r.err != nil {
			return nil, errors.Join(r.err, sqldb.ErrUnavailable)
		}
	}
}

// read reads the valid keys for all who wait for r, also when the one who asks goes away.
func (s *Store) read(ctx context.Context, r *reading) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readFor)
	defer cancel()
	s.mu.Lock()
	at, changes := s.now(), s.changes // before the read: what happens after it may be missing
	s.mu.Unlock()
	var valid map[[sha256.Size]byte]*Key
	r.err = s.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		valid = map[[sha256.Size]byte]*Key{}
		return each(ctx, tx, "revoked_at = 0", nil, func(k Key, hash string) error {
			var sum [sha256.Size]byte
			if n, err := hex.Decode(sum[:], []byte(hash)); err != nil || n != len(sum) {
				return nil //nolint:nilerr // no secret has such a hash
			}
			valid[sum] = &k
			return nil
		})
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reading = nil; r.err == nil && changes == s.changes {
		s.valid, s.at = valid, at
	}
	close(r.done)
}
