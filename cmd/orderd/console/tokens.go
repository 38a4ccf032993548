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
	"slices"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/migrations/sqldb"
	"orderd/order"
	"orderd/order/orderhttp"
)

// Bounds of operators' tokens.
const (
	// tokenPrefix is how every secret begins, so that one that leaked can be searched for
	// in code and logs.
	tokenPrefix = "ord_"
	// tokenBytes is how many random bytes a secret has: 256 bits cannot be guessed, so
	// its plain SHA-256 may be stored.
	tokenBytes = 32
	// maxName is in bytes, the length of the column operator_tokens.name.
	maxName = 64
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
	// ErrTokenName: not a name that an audit can carry.
	ErrTokenName = errors.New("a token's name is 1 to 64 of 0-9 A-Z a-z _ . @ -, and not bootstrap")
	// ErrTokenExists: a name is used once and never again, because timelines and flows
	// name people by it.
	ErrTokenExists = errors.New("a token of this name exists or existed; take another name")
	// ErrTokenRole: there is no such role.
	ErrTokenRole = errors.New("a role is viewer, operator, finance or admin")
	// ErrNoToken: no token of this name is in use.
	ErrNoToken = errors.New("no token of this name is in use")
)

// OperatorToken is a token as it is listed: never its secret, of which there is no copy.
// RevokedAt is null while it is in use.
type OperatorToken struct {
	Name      string     `json:"name"`
	Role      Role       `json:"role"`
	CreatedBy string     `json:"created_by"`
	CreatedAt time.Time  `json:"created_at"`
	RevokedAt *time.Time `json:"revoked_at"`
}

// TokenStore keeps operators' tokens in the table operator_tokens, by the hash of their
// secrets. It is safe for concurrent use.
type TokenStore struct {
	db  *sqldb.DB
	now func() time.Time

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
	return &TokenStore{db: db, now: now, seen: map[[sha256.Size]byte]lookedUp{}}
}

// Create makes a token and gives its secret, which nobody can read again. by is who made
// it, for the audit. Errors: ErrTokenName, ErrTokenRole, ErrTokenExists, database errors.
func (s *TokenStore) Create(ctx context.Context, name string, role Role, by string) (string, error) {
	if name == "bootstrap" || !orderhttp.Plain(name, maxName, "_.@-") {
		return "", ErrTokenName
	}
	if !slices.Contains([]Role{Viewer, Operator, Finance, Admin}, role) {
		return "", ErrTokenRole
	}
	random := make([]byte, tokenBytes)
	if _, err := rand.Read(random); err != nil {
		return "", fmt.Errorf("make a token: %w", err)
	}
	secret := tokenPrefix + base64.RawURLEncoding.EncodeToString(random)
	sum := sha256.Sum256([]byte(secret))
	err := s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO operator_tokens
  (name, role, sha256, created_by, created_at)
VALUES (?, ?, ?, ?, ?)`, name, string(role), hex.EncodeToString(sum[:]), by, s.now().UnixMilli())
		if sqldb.IsDuplicate(err) {
			return ErrTokenExists
		}
		return err
	})
	if err != nil {
		return "", fmt.Errorf("create token %s: %w", name, err)
	}
	return secret, nil
}

// Revoke ends a token: at once in this process, within tokenFor in others. The row stays,
// because timelines name people by it. Errors: ErrNoToken, also for one that was revoked
// before, and database errors.
func (s *TokenStore) Revoke(ctx context.Context, name string) error {
	err := s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		n, err := tx.Update(ctx, `UPDATE operator_tokens
SET revoked_at = ?
WHERE name = ?
  AND revoked_at = 0`, s.now().UnixMilli(), name)
		if err == nil && n == 0 {
			err = ErrNoToken
		}
		return err
	})
	if err != nil {
		// The name is what the caller sent: no more of it than a name may have.
		return fmt.Errorf("revoke token %.64s: %w", name, err)
	}
	s.mu.Lock()
	clear(s.seen)
	s.mu.Unlock()
	return nil
}

// List gives all tokens, revoked ones too, by name.
func (s *TokenStore) List(ctx context.Context) ([]OperatorToken, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT name, role, created_by, created_at, revoked_at
FROM operator_tokens
ORDER BY name`)
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	defer rows.Close()
	all := []OperatorToken{}
	for rows.Next() {
		var t OperatorToken
		var created, revoked int64
		if err := rows.Scan(&t.Name, &t.Role, &t.CreatedBy, &created, &revoked); err != nil {
			return nil, fmt.Errorf("list tokens: %w", err)
		}
		t.CreatedAt = time.UnixMilli(created).UTC()
		if revoked != 0 {
			at := time.UnixMilli(revoked).UTC()
			t.RevokedAt = &at
		}
		all = append(all, t)
	}
	return all, rows.Err()
}

// find gives the owner of a secret by its hash, nil for nobody's. The secret has 256
// random bits and only its hash is compared, by the database's index: how long that takes
// tells nothing of another token. A database that does not answer is
// sqldb.ErrUnavailable, a 503.
func (s *TokenStore) find(ctx context.Context, sum [sha256.Size]byte) (*Token, error) {
	now := s.now()
	s.mu.Lock()
	known, ok := s.seen[sum]
	s.mu.Unlock()
	if ok && now.Sub(known.at) < tokenFor && !now.Before(known.at) {
		return known.token, nil
	}
	t := &Token{SHA256: sum}
	err := s.db.QueryRowContext(ctx, `SELECT name, role
FROM operator_tokens
WHERE sha256 = ?
  AND revoked_at = 0`, hex.EncodeToString(sum[:])).Scan(&t.Name, &t.Role)
	if errors.Is(err, sql.ErrNoRows) {
		t, err = nil, nil
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
	return t, nil
}

// tokenRoutes are there when there is a TokenStore. They are an admin's: whoever can make
// a token can make one of any role.
func (c *console) tokenRoutes() []route {
	return []route{
		{http.MethodGet, "/admin/v1/tokens", Admin, c.listTokens},
		{http.MethodPost, "/admin/v1/tokens", Admin, c.createToken},
		{http.MethodDelete, "/admin/v1/tokens/:name", Admin, c.revokeToken},
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

// createToken is POST /admin/v1/tokens. The secret is in this answer, 201, and can never
// be read again.
func (c *console) createToken(ctx echo.Context) error {
	var body struct {
		Name   string `json:"name"`
		Role   Role   `json:"role"`
		Reason string `json:"reason"`
	}
	if err := decodeReasoned(ctx, &body, &body.Reason); err != nil {
		return err
	}
	secret, err := c.TokenStore.Create(ctx.Request().Context(), body.Name, body.Role, operator(ctx))
	if err != nil {
		return tokenError(err)
	}
	c.Log.Info("token created", "name", body.Name, "role", body.Role, "by", operator(ctx), "reason", body.Reason)
	return ctx.JSON(http.StatusCreated, map[string]string{"name": body.Name, "role": string(body.Role),
		"token": secret})
}

// revokeToken is DELETE /admin/v1/tokens/:name, 204. An admin may revoke his own; the
// bootstrap token is in the configuration and cannot be revoked here.
func (c *console) revokeToken(ctx echo.Context) error {
	if err := c.TokenStore.Revoke(ctx.Request().Context(), ctx.Param("name")); err != nil {
		return tokenError(err)
	}
	c.Log.Info("token revoked", "name", ctx.Param("name"), "by", operator(ctx))
	return ctx.NoContent(http.StatusNoContent)
}

// tokenError gives the errors of a TokenStore their codes; what it does not know is left
// to the table of package orderhttp.
func tokenError(err error) error {
	invalid := func(pointer string, why error) error {
		return &orderhttp.Failure{Code: orderhttp.CodeValidation,
			Fields: []order.FieldError{{Pointer: pointer, Code: "INVALID", Detail: why.Error()}}}
	}
	switch {
	case errors.Is(err, ErrTokenName):
		return invalid("#/name", ErrTokenName)
	case errors.Is(err, ErrTokenExists):
		return invalid("#/name", ErrTokenExists)
	case errors.Is(err, ErrTokenRole):
		return invalid("#/role", ErrTokenRole)
	case errors.Is(err, ErrNoToken):
		return &orderhttp.Failure{Code: orderhttp.CodeNotFound}
	}
	return err
}
