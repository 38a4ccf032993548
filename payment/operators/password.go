package operators

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
)

// ErrPassword: not a password that this service takes.
var ErrPassword = errors.New("a password has 12 to 128 characters and not the own name in it")

// Cost is what computing a hash of a password takes. It is stored with each hash, so that a
// change holds for the next one, and a login makes the hash anew when it is of another cost.
// The zero value is DefaultCost.
type Cost struct {
	Passes  uint32
	KiB     uint32 // of memory
	Threads uint8
}

// DefaultCost is RFC 9106's second recommended set, for where 2 GiB are too much.
var DefaultCost = Cost{Passes: 3, KiB: 64 << 10, Threads: 4}

// Sizes of hashes.
const (
	saltBytes = 16 // RFC 9106, 3.1
	// nameCounts is how long a name is that no password has in it: shorter ones are in words.
	nameCounts = 4
	hashBytes  = 32
	// hashesAtOnce bounds the memory that logins take: twice DefaultCost.KiB.
	hashesAtOnce = 2
)

// mostCost bounds what a hash in the database may ask for: who could write one there could
// else end the process.
var mostCost = Cost{Passes: 16, KiB: 1 << 20, Threads: 16}

// CheckPassword judges a new password of a person: nil, or ErrPassword.
func CheckPassword(person, password string) error {
	own := len(person) >= nameCounts && strings.Contains(Key(password), Key(person))
	if own || !bounds.Password.Fits(password) {
		return ErrPassword
	}
	return nil
}

// passwordHash is a stored hash: argon2id, in the form of its reference implementation.
type passwordHash struct {
	cost      Cost
	salt, sum []byte
}

// unknown is the hash that a password is compared with when there is none: it takes as long,
// and nothing fits, because it is not of argon2's.
func unknown(c Cost) passwordHash { return passwordHash{c, make([]byte, saltBytes), nil} }

// String gives the hash as it is stored.
func (h passwordHash) String() string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.cost.KiB, h.cost.Passes, h.cost.Threads,
		b64.EncodeToString(h.salt), b64.EncodeToString(h.sum))
}

// parseHash reads what String gives.
func parseHash(text string) (h passwordHash, err error) {
	errHash := errors.New("the stored hash of a password cannot be read")
	parts := strings.Split(text, "$")
	if len(parts) != 6 || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return h, errHash
	}
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &h.cost.KiB, &h.cost.Passes, &h.cost.Threads); n != 3 ||
		err != nil {
		return h, errHash
	}
	if h.cost.Passes < 1 || h.cost.Threads < 1 || h.cost.Passes > mostCost.Passes || h.cost.KiB > mostCost.KiB ||
		h.cost.Threads > mostCost.Threads {
		return h, errHash
	}
	if h.salt, err = base64.RawStdEncoding.DecodeString(parts[4]); err != nil || len(h.salt) == 0 {
		return h, errHash
	}
	if h.sum, err = base64.RawStdEncoding.DecodeString(parts[5]); err != nil || len(h.sum) != hashBytes {
		return h, errHash
	}
	return h, nil
}

// compute is the one place that computes a hash; a few at a time. Whoever waits longer than ctx
// is told sqldb.ErrUnavailable.
func (l *Logins) compute(ctx context.Context, password string, c Cost, salt []byte) ([]byte, error) {
	select {
	case l.slots <- struct{}{}:
		defer func() { <-l.slots }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for other logins: %w", errors.Join(ctx.Err(), sqldb.ErrUnavailable))
	}
	if l.hashed != nil {
		l.hashed()
	}
	return argon2.IDKey([]byte(password), salt, c.Passes, c.KiB, c.Threads, hashBytes), nil
}

// hash makes the hash of a new password.
func (l *Logins) hash(ctx context.Context, password string) (string, error) {
	h := passwordHash{cost: l.cost, salt: make([]byte, saltBytes)}
	rand.Read(h.salt) // never fails, says its documentation
	var err error
	h.sum, err = l.compute(ctx, password, h.cost, h.salt)
	return h.String(), err
}

// fits says whether a password is the one of a stored hash, "" for nobody's, which takes as
// long. dated says that the stored one was made at another cost.
func (l *Logins) fits(ctx context.Context, stored, password string) (ok, dated bool, err error) {
	h := unknown(l.cost)
	if stored != "" {
		if h, err = parseHash(stored); err != nil {
			return false, false, err
		}
	}
	sum, err := l.compute(ctx, password, h.cost, h.salt)
	return err == nil && subtle.ConstantTimeCompare(sum, h.sum) == 1, h.cost != l.cost, err
}
