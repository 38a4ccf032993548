package orderhttp

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"orderd/migrations/bounds"
)

// Bounds of tokens.
const (
	// audience is the aud that a token must name: a token that the shop's login made for
	// another service is not accepted here.
	audience = "orderd"
	// leeway is how far the clock of whoever made a token may be off, both ways. Machines
	// that run NTP differ by milliseconds; half a minute bears one that does not.
	leeway = 30 * time.Second
	// minSecret is in bytes, the output of SHA-256: RFC 7518, 3.2 demands it for HS256.
	minSecret = 32
	// minRSABits is what NIST SP 800-57 allows until 2030, and RFC 7518, 3.3 demands for
	// RS256.
	minRSABits = 2048
	// DefaultTokenLife is how long a customer's token may still be valid where nothing else
	// is set: a month of a shop that asks its customers to log in once a month.
	DefaultTokenLife = 31 * 24 * time.Hour
	// maxToken is in bytes: a quarter of maxHeaderBytes, and twenty times what a token of
	// three claims needs. A longer one is refused before its signature is computed.
	maxToken = 4 << 10
)

// Verifier says which customer a token is of: a JWT (RFC 7519) that the shop's own login
// made. It is safe for concurrent use. The algorithm is fixed by the key that it was made
// with, never by the token: a token that names another one, or "none", is not valid
// whatever its signature (RFC 8725, 3.1). Otherwise a public key, which everybody knows,
// could be used as the secret of an HS256 token.
type Verifier struct {
	key    any
	parser *jwt.Parser
	now    func() time.Time
	life   time.Duration
	known  knownTokens
	old    *Verifier // of before a change of the key, or nil
}

// Also accepts what old accepts, too: the key of before a change, of either kind, whose
// tokens are good until they end. Each key keeps its own algorithm. nil changes nothing. It
// gives v, and is called before v is used and before Bound.
func (v *Verifier) Also(old *Verifier) *Verifier {
	v.old = old
	return v
}

// Bound refuses tokens that are still valid for longer than life: one that leaks cannot be
// revoked, and ends by itself alone. 0 leaves DefaultTokenLife. It gives v, and is called
// before v is used.
func (v *Verifier) Bound(life time.Duration) *Verifier {
	if life != 0 {
		v.life = life
	}
	if v.old != nil {
		v.old.Bound(life)
	}
	return v
}

// NewSecretVerifier accepts HS256 tokens made with this secret, of minSecret bytes or
// more: a shorter one is an error. now is the clock that exp and nbf are held against.
func NewSecretVerifier(secret []byte, now func() time.Time) (*Verifier, error) {
	if len(secret) < minSecret {
		return nil, fmt.Errorf("the secret of customers' tokens has %d bytes, it needs %d", len(secret), minSecret)
	}
	return newVerifier(secret, jwt.SigningMethodHS256.Alg(), now), nil
}

// NewPublicKeyVerifier accepts tokens signed with the other half of a PEM public key
// ("BEGIN PUBLIC KEY", RFC 5280's SubjectPublicKeyInfo): RS256 for RSA, ES256 for P-256.
// With it orderd cannot make tokens itself, so that whoever reads its configuration
// cannot either.
func NewPublicKeyVerifier(pemKey []byte, now func() time.Time) (*Verifier, error) {
	block, _ := pem.Decode(pemKey)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, errors.New("the key of customers' tokens is not a PEM block PUBLIC KEY")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the key of customers' tokens: %w", err)
	}
	switch k := key.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() < minRSABits {
			return nil, fmt.Errorf("the key of customers' tokens has %d bits, it needs %d", k.N.BitLen(), minRSABits)
		}
		return newVerifier(k, jwt.SigningMethodRS256.Alg(), now), nil
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return nil, errors.New("the key of customers' tokens is on another curve than P-256")
		}
		return newVerifier(k, jwt.SigningMethodES256.Alg(), now), nil
	}
	return nil, fmt.Errorf("the key of customers' tokens is a %T; RSA and P-256 are understood", key)
}

// newVerifier fixes the algorithm, the audience, the leeway and the clock: nothing of
// them comes from a token.
func newVerifier(key any, alg string, now func() time.Time) *Verifier {
	return &Verifier{key: key, now: now, life: DefaultTokenLife, parser: jwt.NewParser(
		jwt.WithValidMethods([]string{alg}),
		jwt.WithAudience(audience),
		jwt.WithExpirationRequired(),
		jwt.WithLeeway(leeway),
		jwt.WithTimeFunc(now),
	)}
}

// Customer gives the customer id of a valid token: signed with the key, for this service,
// neither expired nor valid for too long (Bound). The error is a *Failure with
// CodeUnauthenticated that says which of the two it is, and nothing else: why a forged one
// was refused helps only whoever forged it.
func (v *Verifier) Customer(token string) (string, error) {
	customer, _, err := v.check(token)
	return customer, err
}

// check is Customer, and reports whether the token is one of the shop's login, which made it
// for too long or too long ago: whoever sends such a token guesses nothing.
func (v *Verifier) check(token string) (customer string, ours bool, err error) {
	if len(token) > maxToken {
		return "", false, &Failure{Code: CodeUnauthenticated}
	}
	digest, now := sha256.Sum256([]byte(token)), v.now()
	if customer, known := v.known.find(digest, now); known {
		return customer, true, nil
	}
	var claims jwt.RegisteredClaims
	_, err = v.parser.ParseWithClaims(token, &claims, func(*jwt.Token) (any, error) { return v.key, nil })
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return "", true, &Failure{Code: CodeUnauthenticated, Text: Text{En: "The token has expired.", Zh: "令牌已过期。"}}
	case err != nil && v.old != nil:
		return v.old.check(token)
	case err != nil || !validCustomer(claims.Subject):
		return "", false, &Failure{Code: CodeUnauthenticated}
	case claims.ExpiresAt.Sub(now) > v.life+leeway:
		return "", true, &Failure{Code: CodeUnauthenticated, Text: Text{
			En: "The token is valid for too long: its exp must be nearer.", Zh: "令牌有效期过长，exp 须更近。"}}
	}
	of := knownToken{customer: claims.Subject, expires: claims.ExpiresAt.Add(leeway)}
	if claims.NotBefore != nil {
		of.notBefore = claims.NotBefore.Add(-leeway)
	}
	v.known.put(digest, of)
	return claims.Subject, true, nil
}

// validCustomer wants visible ASCII. Spaces above all must not pass: some collations of
// MySQL compare "c1 " and "c1" as equal, and one customer would be another.
func validCustomer(id string) bool {
	return bounds.CustomerID.Fits(id)
}

// MintToken makes an HS256 token of a customer for the command line, the demo and tests;
// it is valid from now on for the time given. A shop makes its own with the same secret:
// sub is the customer, aud is "orderd", exp is needed.
func MintToken(secret []byte, customerID string, now time.Time, valid time.Duration) (string, error) {
	if len(secret) < minSecret {
		return "", fmt.Errorf("the secret of customers' tokens has %d bytes, it needs %d", len(secret), minSecret)
	}
	if !validCustomer(customerID) {
		return "", errors.New(bounds.CustomerID.Check(customerID).Detail)
	}
	if valid <= 0 {
		return "", errors.New("a token must be valid for some time")
	}
	return jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.RegisteredClaims{
		Subject:   customerID,
		Audience:  jwt.ClaimStrings{audience},
		IssuedAt:  jwt.NewNumericDate(now),
		ExpiresAt: jwt.NewNumericDate(now.Add(valid)),
	}).SignedString(secret)
}

// bearer gives the bearer token of a request (RFC 6750, 2.1), never one from the query or
// a form, where logs and histories would keep it. Of two Authorization headers none
// counts: a proxy in front may have checked the other one.
func bearer(h http.Header) (string, bool) {
	values := h.Values("Authorization")
	if len(values) != 1 {
		return "", false
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	return token, ok && strings.EqualFold(scheme, "Bearer") && token != ""
}
