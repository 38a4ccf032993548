// Package canary has secrets that are recognised wherever they leak: configure
// a service with them, let it work and fail, and scan what it wrote, its log and
// its answers, with Set.Find. Named after the birds of miners.
package canary

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Secrets of a service's configuration that are free text, and a buyer's openid.
// New adds the merchant's private key.
const (
	JWTSecret    = "canary-jwt-secret-0123456789abcdef"  //nolint:gosec // no secret: ORDERD_CUSTOMER_JWT_SECRET
	AdminToken   = "canary-admin-token-0123456789abcdef" // ORDERD_BOOTSTRAP_ADMIN_TOKEN
	APIv3Key     = "canary-apiv3-key-0123456789abcde"    // ORDERD_WECHAT_APIV3_KEY, 32 bytes
	DatabasePass = "canary-database-password"            // in ORDERD_DSN
	RedisPass    = "canary-redis-password"               //nolint:gosec // no secret: in ORDERD_REDIS
	AppSecret    = "canary-app-secret-0123456789abcdef"  //nolint:gosec // no secret: ORDERD_SHIPPING_APP_SECRET
	Password     = "canary password of a person"         //nolint:gosec // no secret: of the console
	OpenID       = "o6_canary_openid_of_a_buyer"         // personal data, from a request
)

// minKeyLine is how many characters a line of a PEM file must have to be watched
// for: shorter ones, such as the last, may stand in any text.
const minKeyLine = 40

// Set is a number of secrets in all the spellings in which they may appear.
type Set struct{ words map[string]string } // name by spelling

// New gives the canaries above and the merchant's private key; a nil key is
// left out.
func New(privateKeyPEM []byte) *Set {
	s := &Set{words: map[string]string{}}
	for name, secret := range map[string]string{
		"customers' JWT secret": JWTSecret, "admin token": AdminToken, "APIv3 key": APIv3Key,
		"database password": DatabasePass, "Redis password": RedisPass, "app secret": AppSecret,
		"openid": OpenID, "a person's password": Password} {
		s.Add(name, secret)
	}
	if block, _ := pem.Decode(privateKeyPEM); block != nil {
		for line := range strings.SplitSeq(string(privateKeyPEM), "\n") {
			if len(line) >= minKeyLine && !strings.Contains(line, "-----") {
				s.words[line] = "private key"
			}
		}
		// 32 bytes from the middle, where the key's own numbers are.
		s.words[hex.EncodeToString(block.Bytes[len(block.Bytes)/2:][:32])] = "private key"
	}
	return s
}

// Add watches for one more secret: as it is, as JSON and a URL escape it, in hex, in
// base64 of both alphabets, and as Go prints a []byte.
func (s *Set) Add(name, secret string) {
	quoted, err := json.Marshal(secret)
	if err != nil {
		panic(err) // a string
	}
	for _, spelling := range []string{secret, strings.Trim(string(quoted), `"`), url.QueryEscape(secret),
		hex.EncodeToString([]byte(secret)), fmt.Sprintf("%d", []byte(secret)),
		base64.StdEncoding.EncodeToString([]byte(secret)), base64.RawURLEncoding.EncodeToString([]byte(secret))} {
		s.words[spelling] = name
	}
}

// Find names the secrets that a text has, sorted.
func (s *Set) Find(text []byte) []string {
	var found []string
	for spelling, name := range s.words {
		if bytes.Contains(text, []byte(spelling)) && !slices.Contains(found, name) {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	return found
}
