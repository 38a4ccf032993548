package orderhttp

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/labstack/echo/v4"

	"orderd/order"
)

type echoContext = echo.Context

func jwtWith(t testing.TB, method jwt.SigningMethod, key any, claims jwt.MapClaims) string {
	t.Helper()
	s, err := jwt.NewWithClaims(method, claims).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func claims(change ...any) jwt.MapClaims {
	c := jwt.MapClaims{"sub": "c1", "aud": "orderd", "exp": epoch.Add(time.Hour).Unix()}
	for i := 0; i < len(change); i += 2 {
		if change[i+1] == nil {
			delete(c, change[i].(string))
			continue
		}
		c[change[i].(string)] = change[i+1]
	}
	return c
}

func badTokens(t testing.TB) map[string]string {
	hs := jwt.SigningMethodHS256
	good := jwtWith(t, hs, secret, claims())
	return map[string]string{
		"none":          "",
		"not a token":   "Bearer x",
		"basic":         "Basic " + good,
		"other secret":  "Bearer " + jwtWith(t, hs, []byte(strings.Repeat("x", 32)), claims()),
		"cut":           "Bearer " + good[:len(good)-2],
		"expired":       "Bearer " + jwtWith(t, hs, secret, claims("exp", epoch.Add(-time.Minute).Unix())),
		"no expiry":     "Bearer " + jwtWith(t, hs, secret, claims("exp", nil)),
		"not yet":       "Bearer " + jwtWith(t, hs, secret, claims("nbf", epoch.Add(time.Hour).Unix())),
		"wrong aud":     "Bearer " + jwtWith(t, hs, secret, claims("aud", "other")),
		"no aud":        "Bearer " + jwtWith(t, hs, secret, claims("aud", nil)),
		"no sub":        "Bearer " + jwtWith(t, hs, secret, claims("sub", nil)),
		"number as sub": "Bearer " + jwtWith(t, hs, secret, claims("sub", 7)),
		"blank in sub":  "Bearer " + jwtWith(t, hs, secret, claims("sub", "c1 ")),
		"long sub":      "Bearer " + jwtWith(t, hs, secret, claims("sub", strings.Repeat("c", 65))),
		"other alg":     "Bearer " + jwtWith(t, jwt.SigningMethodHS512, secret, claims()),
		"alg none":      "Bearer " + jwtWith(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims()),
		"huge":          "Bearer " + jwtWith(t, hs, secret, claims("x", strings.Repeat("x", maxToken))),
	}
}

// access says who may use a route. A route without a row fails the test below.
var access = map[string]struct {
	public bool
	body   string
	owned  bool // names an order, which must be the caller's
}{
	"POST /v1/orders":                                 {body: goodBody},
	"GET /v1/orders":                                  {},
	"GET /v1/orders/:order_no":                        {owned: true},
	"POST /v1/orders/:order_no/prepay":                {body: `{"trade_type":"NATIVE"}`, owned: true},
	"POST /v1/orders/:order_no/payment-query":         {owned: true},
	"POST /v1/orders/:order_no/cancel":                {owned: true},
	"GET /v1/orders/:order_no/qrcode.svg":             {owned: true},
	"POST /v1/orders/:order_no/refunds":               {body: `{"reason":"x"}`, owned: true},
	"GET /v1/orders/:order_no/refunds":                {owned: true},
	"GET /v1/orders/:order_no/refunds/:out_refund_no": {owned: true},
	"GET /v1/refunds/:out_refund_no":                  {owned: true},
	"GET /v1/skus/:sku_id/stock":                      {},
	"GET /v1/stock":                                   {},
	"GET /v1/skus":                                    {},
	"GET /v1/events":                                  {},
	"GET /openapi.yaml":                               {public: true},
	"GET /problems/:slug":                             {public: true},
	"GET /healthz":                                    {public: true},
}

func pathOf(pattern string) string {
	return strings.NewReplacer(":order_no", someOrder, ":sku_id", "1001", ":slug", "internal", ":out_refund_no",
		someOrder+"-R01").Replace(pattern)
}

// missing is the code of what is not there.
func missing(pattern string) Code {
	if strings.HasSuffix(pattern, ":out_refund_no") {
		return CodeRefundNotFound
	}
	return CodeOrderNotFound
}

// A route that forgets to ask who is there gives everybody's orders away.
func TestEveryRouteAsksWhoIsThere(t *testing.T) {
	tokens := badTokens(t)
	left := maps.Clone(access)
	for _, r := range newWorld(t).echo.Routes() {
		name := r.Method + " " + r.Path
		row, ok := access[name]
		if !ok {
			t.Errorf("%s has no row in the table of access", name)
			continue
		}
		delete(left, name)
		for who, authorization := range tokens {
			w := newWorld(t)
			rec := w.ask(t, r.Method, pathOf(r.Path), row.body, "Authorization", authorization)
			if row.public {
				if rec.Code != http.StatusOK {
					t.Errorf("%s, %s: %d", name, who, rec.Code)
				}
				continue
			}
			wantProblem(t, rec, http.StatusUnauthorized, CodeUnauthenticated)
			if w.count() > 0 || rec.Header().Get("WWW-Authenticate") == "" {
				t.Errorf("%s, %s: called %v, WWW-Authenticate %q", name, who, w.calls,
					rec.Header().Get("WWW-Authenticate"))
			}
		}
	}
	if len(left) > 0 {
		t.Errorf("rows without a route: %v", slices.Collect(maps.Keys(left)))
	}
}

// A foreign order must look exactly like one that never was, or numbers can be probed.
func TestForeignOrderIsNotThere(t *testing.T) {
	for name, row := range access {
		if !row.owned {
			continue
		}
		method, pattern, _ := strings.Cut(name, " ")
		var bodies []string
		for _, why := range []string{"foreign", "unknown"} {
			w := newWorld(t)
			var asked string
			w.found = func(customer, _ string) (order.Order, error) {
				asked = customer
				return order.Order{}, order.ErrNotFound
			}
			w.prepaid = func(r order.PrepayRequest) (order.Prepayment, error) {
				asked = r.CustomerID
				return order.Prepayment{}, order.ErrNotFound
			}
			w.canceled = func(r order.CancelRequest) (order.Order, error) {
				asked = r.CustomerID
				return order.Order{}, order.ErrNotFound
			}
			w.asked = func(r order.AskRefund) (order.AskedRefund, error) {
				asked = r.CustomerID
				return order.AskedRefund{}, order.ErrNotFound
			}
			w.refund = func(customer, _ string) (order.Refund, error) {
				asked = customer
				return order.Refund{}, order.ErrRefundNotFound
			}
			rec := w.ask(t, method, pathOf(pattern), row.body, "Authorization", "Bearer "+token(t, "mallory", epoch),
				headerRequestID, "r1", headerKey, "k")
			wantProblem(t, rec, 404, missing(pattern))
			if asked != "mallory" {
				t.Errorf("%s, %s: the customer asked for was %q", name, why, asked)
			}
			bodies = append(bodies, rec.Body.String())
		}
		if bodies[0] != bodies[1] {
			t.Errorf("%s: %s\n%s", name, bodies[0], bodies[1])
		}
	}
}

// Tricks with paths and methods must not find a way around the router.
func TestNoWayAroundTheRoutes(t *testing.T) {
	for _, c := range []struct{ method, path string }{
		{"GET", "/v1/orders/" + someOrder + "/"}, {"GET", "/V1/orders"},
		{"GET", "/v1/orders/" + someOrder + "%2fprepay"},
		{"DELETE", "/v1/orders/" + someOrder}, {"PUT", "/v1/orders"}, {"TRACE", "/v1/orders"},
		{"GET", "/v1/../metrics"},
		{"GET", "/metrics"}, {"GET", "/admin/v1/orders"}, {"GET", "/debug/pprof/"}, {"POST", PathNotifyPayment},
		{"GET", "/v1"},
		{"GET", "/v1/orders/short"}, {"GET", "/v1/orders/" + strings.ToLower(someOrder)},
		{"GET", "/v1/orders/" + someOrder[:25] + "%00"},
		{"POST", "/v1/orders/" + someOrder}, {"GET", "/v1/skus/1001%20/stock"},
		{"GET", "/v1/skus/%27%20OR%201=1/stock"},
	} {
		w := newWorld(t)
		rec := w.ask(t, c.method, c.path, "", "X-HTTP-Method-Override", "GET")
		if rec.Code != 404 && rec.Code != 405 {
			t.Errorf("%s %s: %d", c.method, c.path, rec.Code)
		}
		problemOf(t, rec)
		if w.count() > 0 {
			t.Errorf("%s %s called %v", c.method, c.path, w.calls)
		}
	}
}

func pemOf(t testing.TB, public any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// With a public key configured, a token "signed" by HMAC with that public key would open everything.
func TestAlgorithmIsFixedByTheKey(t *testing.T) {
	now := func() time.Time { return epoch }
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaPEM, ecPEM := pemOf(t, &rsaKey.PublicKey), pemOf(t, &ecKey.PublicKey)
	rs, err := NewPublicKeyVerifier(rsaPEM, now)
	if err != nil {
		t.Fatal(err)
	}
	es, err := NewPublicKeyVerifier(ecPEM, now)
	if err != nil {
		t.Fatal(err)
	}
	hs, err := NewSecretVerifier(secret, now)
	if err != nil {
		t.Fatal(err)
	}
	tokens := map[string]string{
		"RS256":                  jwtWith(t, jwt.SigningMethodRS256, rsaKey, claims()),
		"PS256":                  jwtWith(t, jwt.SigningMethodPS256, rsaKey, claims()),
		"ES256":                  jwtWith(t, jwt.SigningMethodES256, ecKey, claims()),
		"HS256":                  jwtWith(t, jwt.SigningMethodHS256, secret, claims()),
		"HS256 with the RSA key": jwtWith(t, jwt.SigningMethodHS256, rsaPEM, claims()),
		"HS256 with the EC key":  jwtWith(t, jwt.SigningMethodHS256, ecPEM, claims()),
		"none":                   jwtWith(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims()),
	}
	for alg, v := range map[string]*Verifier{"RS256": rs, "ES256": es, "HS256": hs} {
		for name, tok := range tokens {
			customer, err := v.Customer(tok)
			if (err == nil) != (name == alg) || (err == nil && customer != "c1") {
				t.Errorf("a verifier of %s, a token of %s: %q, %v", alg, name, customer, err)
			}
		}
	}
}

// A weak key is worse than a missing one: it looks as if it protected something.
func TestWeakKeysAreRefused(t *testing.T) {
	now := func() time.Time { return epoch }
	small := rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 1023, 1), E: 65537}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewSecretVerifier(secret[:31], now); err == nil {
		t.Error("a secret of 31 bytes was taken")
	}
	if _, err := MintToken(secret[:31], "c1", epoch, time.Hour); err == nil {
		t.Error("a token was made with a secret of 31 bytes")
	}
	for _, id := range []string{"", "c 1", "c1 ", strings.Repeat("c", 65), "c\n1"} {
		if _, err := MintToken(secret, id, epoch, time.Hour); err == nil {
			t.Errorf("a token for %q was made", id)
		}
	}
	private, err := x509.MarshalPKCS8PrivateKey(p384)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string][]byte{
		"RSA 1024": pemOf(t, &small), "P-384": pemOf(t, &p384.PublicKey), "nothing": nil, "rubbish": []byte("x"),
		"a private key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		"bad DER":       pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")}),
	} {
		if _, err := NewPublicKeyVerifier(key, now); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

// Two Authorization headers may mean two different people to two programs.
func TestTwoAuthorizationsAreNone(t *testing.T) {
	w := newWorld(t)
	r := httptest.NewRequest("GET", "/v1/orders", nil)
	r.Header.Add("Authorization", "Bearer "+token(t, "c1", epoch))
	r.Header.Add("Authorization", "Bearer "+token(t, "c2", epoch))
	rec := httptest.NewRecorder()
	w.echo.ServeHTTP(rec, r)
	wantProblem(t, rec, 401, CodeUnauthenticated)
}
