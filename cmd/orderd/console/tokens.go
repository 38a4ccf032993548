package console

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/migrations/sqldb"
	"orderd/order/orderhttp"
	"orderd/payment/operators"
)

// Bounds of operators' tokens.
const (
	// tokenPrefix is how every secret begins, so that one that leaked can be searched for
	// in code and logs.
	tokenPrefix = "ord_"
	// tokenBytes is how many random bytes a secret has: 256 bits cannot be guessed, so
	// its plain SHA-256 may be stored.
	tokenBytes = 32
	// DefaultTokenLife is how long an operator's token lets in from its making, where nothing
	// else is set: a quarter of a year, as long as people remember that they have one.
	DefaultTokenLife = 90 * 24 * time.Hour
	// tokenFor is how long a look-up is remembered: another process accepts a revoked
	// token for no longer than this, and an operator's page costs the database one
	// look-up.
	tokenFor = 2 * time.Second
	// maxRemembered bounds how many look-ups are remembered, those of wrong secrets too:
	// some 100 KB.
	maxRemembered = 1000
)

// Errors of tokens.
var (
	// ErrTokenExists: a token's name is used once and never again, because the log names
	// tokens by it.
	ErrTokenExists = errors.New("a token of this name exists or existed; take another name")
	// ErrNoToken: no token of this name is in use.
	ErrNoToken = errors.New("no token of this name is in use")
)

// OperatorToken is a token as it is listed: never its secret, of which there is no copy.
// RevokedAt is null while it is in use.
//
// Person is whose it is. Role is that person's.
type OperatorToken struct {
	Name      string     `json:"name"`
	Person    string     `json:"person"`
	Role      Role       `json:"role"`
	CreatedBy string     `json:"created_by"`
	CreatedAt time.Time  `json:"created_at"`
	RevokedAt *time.Time `json:"revoked_at"`
	ExpiresAt time.Time  `json:"expires_at"`
	// UsedAt is when it was last used, to the minute (operators.NotedEvery); null: never, or before this was noted.
	UsedAt *time.Time `json:"used_at"`
}

// TokenStore keeps operators' tokens in the table operator_tokens, by the hash of their
// secrets. It is safe for concurrent use.
type TokenStore struct {
	db   *sqldb.DB
	now  func() time.Time
	life time.Duration
	uses *operators.Uses

	mu sync.Mutex
	// seen is what was looked up, by the hash of the secret, at most maxRemembered; what
	// is older than tokenFor is not believed.
	seen map[[sha256.Size]byte]lookedUp
}

// lookedUp is what a look-up in the database found, and when. Wrong secrets are
// remembered too: whoever tries one again and again does not reach the database each
// time.
type lookedUp struct {
	token *Token // nil: nobody's
	at    time.Time
}

// NewTokenStore makes a store on a database, whose schema must be there.
func NewTokenStore(db *sqldb.DB, now func() time.Time) *TokenStore {
	return &TokenStore{db: db, now: now, life: DefaultTokenLife, seen: map[[sha256.Size]byte]lookedUp{},
		uses: operators.NewUses(db, now, `UPDATE operator_tokens
SET used_at = ?
WHERE sha256 = ?
  AND used_at < ?`)}
}

// Bound ends every token so long after it was made, those of before too; 0 leaves
// DefaultTokenLife. It gives s, and is called before s is used.
func (s *TokenStore) Bound(life time.Duration) *TokenStore {
	if life != 0 {
		s.life = life
	}
	return s
}

// Create makes the account of a person and its first token, which has the person's name,
// and gives its secret, which nobody can read again. by is who made it: see
// operators.Second. Errors: operators.ErrName, operators.ErrRole, operators.ErrExists,
// database errors.
func (s *TokenStore) Create(ctx context.Context, name string, role Role, by string) (string, error) {
	return s.insert(ctx, name, name, by, func(ctx context.Context, tx *sqldb.Tx) error {
		return operators.Insert(ctx, tx, name, role, by, s.now())
	})
}

// CreateFor makes a token of a person who has an account, named person:label, or as the
// person for their first one, with label "". Errors: operators.ErrNoAccount,
// operators.ErrName, ErrTokenExists, database errors.
func (s *TokenStore) CreateFor(ctx context.Context, person, label, by string) (name, secret string, err error) {
	if name, err = operators.TokenName(person, label); err == nil {
		secret, err = s.insert(ctx, name, person, by, func(context.Context, *sqldb.Tx) error { return nil })
	}
	return name, secret, err
}

// insert writes a token of a person, after what has to be written before.
func (s *TokenStore) insert(ctx context.Context, name, person, by string,
	before func(ctx context.Context, tx *sqldb.Tx) error) (string, error) {
	random := make([]byte, tokenBytes)
	if _, err := rand.Read(random); err != nil {
		return "", fmt.Errorf("make a token: %w", err)
	}
	secret := tokenPrefix + base64.RawURLEncoding.EncodeToString(random)
	sum := sha256.Sum256([]byte(secret))
	err := s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if tx.MayBeDone() { // by the run before this one: nobody else has its secret
			done, err := sqldb.Known(ctx, tx, `SELECT name
FROM operator_tokens
WHERE name = ?
  AND sha256 = ?`, name, hex.EncodeToString(sum[:]))
			if err != nil || done {
				return err
			}
		}
		if err := before(ctx, tx); err != nil {
			return err
		}
		// Locked: an account that is being disabled gets no token any more.
		role := Role("")
		err := sqldb.Each(ctx, tx, `SELECT role
FROM operators
WHERE name = ?
  AND disabled_at = 0
FOR UPDATE`, []any{person}, func(rows *sql.Rows) error { return rows.Scan(&role) })
		if err == nil && role == "" {
			err = operators.ErrNoAccount
		}
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO operator_tokens
  (name, person, role, sha256, created_by, created_at)
VALUES (?, ?, ?, ?, ?, ?)`, name, person, string(role), hex.EncodeToString(sum[:]), by, s.now().UnixMilli())
		if sqldb.IsDuplicate(err) {
			return ErrTokenExists
		}
		return err
	})
	if err != nil {
		// The name is what the caller sent: no more of it than a name may have.
		return "", fmt.Errorf("create token %.64s: %w", name, err)
	}
	return secret, nil
}

// Revoke ends a token: at once in this process, within tokenFor in others. The row stays,
// because timelines name people by it. Errors: ErrNoToken, also for one that was revoked
// before, and database errors.
func (s *TokenStore) Revoke(ctx context.Context, name string) error {
	now := s.now().UnixMilli()
	err := s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		n, err := tx.Update(ctx, `UPDATE operator_tokens
SET revoked_at = ?
WHERE name = ?
  AND revoked_at = 0`, now, name)
		if err == nil && n == 0 && tx.MayBeDone() {
			done, err := sqldb.Known(ctx, tx, `SELECT name
FROM operator_tokens
WHERE name = ?
  AND revoked_at = ?`, name, now)
			if err != nil || done {
				return err
			}
		}
		if err == nil && n == 0 {
			err = ErrNoToken
		}
		return err
	})
	if err != nil {
		// The name is what the caller sent: no more of it than a name may have.
		return fmt.Errorf("revoke token %.64s: %w", name, err)
	}
	s.Forget()
	return nil
}

// Forget lets the next use of every token be looked up: after an account was changed.
func (s *TokenStore) Forget() {
	s.mu.Lock()
	clear(s.seen)
	s.mu.Unlock()
}

// List gives all tokens, revoked ones too, by name.
func (s *TokenStore) List(ctx context.Context) ([]OperatorToken, error) { return s.list(ctx, "1 = 1") }

// ListOf gives the tokens of a person, revoked ones too, by name. One of the program before accounts
// has no person, and is its own.
func (s *TokenStore) ListOf(ctx context.Context, person string) ([]OperatorToken, error) {
	return s.list(ctx, "person = ? OR name = ? AND person = ''", person, person)
}

// list gives tokens by name.
func (s *TokenStore) list(ctx context.Context, where string, args ...any) ([]OperatorToken, error) {
	all := []OperatorToken{}
	err := sqldb.Each(ctx, s.db, `SELECT name, CASE person WHEN '' THEN name ELSE person END, role, created_by,
  created_at, revoked_at, used_at
FROM operator_tokens
WHERE `+where+`
ORDER BY name`, args, func(rows *sql.Rows) error {
		var t OperatorToken
		var created, revoked, used int64
		err := rows.Scan(&t.Name, &t.Person, &t.Role, &t.CreatedBy, &created, &revoked, &used)
		t.CreatedAt = time.UnixMilli(created).UTC()
		t.ExpiresAt = t.CreatedAt.Add(s.life)
		if revoked != 0 {
			at := time.UnixMilli(revoked).UTC()
			t.RevokedAt = &at
		}
		if used != 0 {
			t.UsedAt = new(time.UnixMilli(used).UTC())
		}
		all = append(all, t)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	return all, nil
}

// Who gives the person of a secret, nil for nobody's: for verbs that act in a person's name.
func (s *TokenStore) Who(ctx context.Context, secret string) (*Token, error) {
	return s.find(ctx, sha256.Sum256([]byte(secret)))
}

// find gives the owner of a secret by its hash, nil for nobody's and for one that is too old
// (Bound). The secret has 256
// random bits and only its hash is compared, by the database's index: how long that takes
// tells nothing of another token. A database that does not answer is
// sqldb.ErrUnavailable, a 503.
func (s *TokenStore) find(ctx context.Context, sum [sha256.Size]byte) (*Token, error) {
	now := s.now()
	s.mu.Lock()
	known, ok := s.seen[sum]
	s.mu.Unlock()
	if ok && now.Sub(known.at) < tokenFor && !now.Before(known.at) {
		return s.noted(ctx, known.token), nil
	}
	t := &Token{SHA256: sum}
	var disabled int64
	// A token without a person is of the program before accounts: its person has its name.
	err := s.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT CASE t.person WHEN '' THEN t.name ELSE t.person END,
  COALESCE(o.role, t.role), COALESCE(o.disabled_at, 0)
FROM operator_tokens t
LEFT JOIN operators o ON o.name = CASE t.person WHEN '' THEN t.name ELSE t.person END
WHERE t.sha256 = ?
  AND t.revoked_at = 0
  AND t.created_at > ?`, hex.EncodeToString(sum[:]), now.Add(-s.life).UnixMilli()).Scan(&t.Name, &t.Role, &disabled)
	})
	if errors.Is(err, sql.ErrNoRows) || disabled != 0 {
		t = nil
	}
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("look a token up: %w", err), sqldb.ErrUnavailable)
	}
	s.mu.Lock()
	// All at once: they are not believed for longer than tokenFor anyway.
	if len(s.seen) >= maxRemembered {
		clear(s.seen)
	}
	s.seen[sum] = lookedUp{t, now}
	s.mu.Unlock()
	return s.noted(ctx, t), nil
}

// noted notes that a token is used, if it is somebody's, and gives it.
func (s *TokenStore) noted(ctx context.Context, t *Token) *Token {
	if t != nil {
		s.uses.Note(ctx, hex.EncodeToString(t.SHA256[:]))
	}
	return t
}

// tokenRoutes are there when there is a TokenStore. They are an admin's: whoever can make
// a token can make one of any role.
func (c *console) tokenRoutes() []route {
	return []route{
		{http.MethodGet, "/admin/v1/tokens", Admin, c.listTokens},
		{http.MethodPost, "/admin/v1/tokens", Admin, c.createToken},
		{http.MethodDelete, "/admin/v1/tokens/:name", Admin, c.revokeToken},
		{http.MethodGet, "/admin/v1/operators", Admin, c.listAccounts},
		{http.MethodPost, "/admin/v1/operators", Admin, c.createAccount},
		{http.MethodPost, "/admin/v1/operators/:name/disable", Admin, c.disableAccount},
		{http.MethodPost, "/admin/v1/operators/:name/role", Admin, c.changeRole},
	}
}

// listTokens shows all tokens, never their secrets.
func (c *console) listTokens(ctx echo.Context) error {
	all, err := c.TokenStore.List(ctx.Request().Context())
	if err != nil {
		return err
	}
	return ctx.JSON(http.StatusOK, orderhttp.Page[OperatorToken]{Data: all})
}

// createToken is POST /admin/v1/tokens. With name and role it makes a person's account and
// its first token; with person it makes a token of an account that there is, whose name is
// then the label, such as laptop, "" for the first. The secret is in this answer, 201, and
// can never be read again.
func (c *console) createToken(ctx echo.Context) error {
	var body struct {
		Name   string `json:"name"`
		Role   Role   `json:"role"`
		Person string `json:"person"`
		Reason string `json:"reason"`
	}
	if err := decodeReasoned(ctx, &body, &body.Reason); err != nil {
		return err
	}
	var err error
	name, person, secret := body.Name, body.Name, ""
	switch {
	case body.Person == "":
		secret, err = c.TokenStore.Create(ctx.Request().Context(), name, body.Role, operator(ctx))
	case body.Role != "":
		return invalidField("#/role", "a token has the role of its person; leave it out")
	default:
		person = body.Person
		name, secret, err = c.TokenStore.CreateFor(ctx.Request().Context(), person, body.Name, operator(ctx))
	}
	if err != nil {
		return accountError(err)
	}
	c.Log.Info("token created", "name", name, "person", person, "role", body.Role, "by", operator(ctx),
		"reason", body.Reason)
	answer := map[string]string{"name": name, "person": person, "token": secret}
	if body.Role != "" {
		answer["role"] = string(body.Role)
	}
	return ctx.JSON(http.StatusCreated, answer)
}

// revokeToken is DELETE /admin/v1/tokens/:name, 204. An admin may revoke his own; the
// bootstrap token is in the configuration and cannot be revoked here.
func (c *console) revokeToken(ctx echo.Context) error {
	if err := c.TokenStore.Revoke(ctx.Request().Context(), ctx.Param("name")); err != nil {
		return accountError(err)
	}
	c.Log.Info("token revoked", "name", ctx.Param("name"), "by", operator(ctx))
	return ctx.NoContent(http.StatusNoContent)
}
