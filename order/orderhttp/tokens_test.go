package orderhttp

import (
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// A token that was right once would be right for ever, or for whoever alters it.
func TestKnownTokensAreHeldAgainstTheClock(t *testing.T) {
	secret := []byte("a secret of at least thirty-two bytes")
	begin := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	now := begin
	v, err := NewSecretVerifier(secret, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.RegisteredClaims{Subject: "c1",
		Audience: jwt.ClaimStrings{audience}, NotBefore: jwt.NewNumericDate(begin),
		ExpiresAt: jwt.NewNumericDate(begin.Add(time.Hour))}).SignedString(secret)
	if err != nil {
		t.Fatal(err)
	}
	forged := []byte(token)
	forged[len(forged)-10] ^= 1
	for _, c := range []struct {
		why   string
		at    time.Duration // after begin
		token string
		valid bool
	}{
		{"it is not known", 0, token, true},
		{"it is known", time.Minute, token, true},
		{"its signature is another one's", time.Minute, string(forged), false},
		{"the last moment", time.Hour + leeway - time.Nanosecond, token, true},
		{"it has ended", time.Hour + leeway, token, false},
		{"the clock was set back", -leeway, token, true},
		{"it has not begun", -leeway - time.Second, token, false},
	} {
		now = begin.Add(c.at)
		customer, err := v.Customer(c.token)
		if valid := err == nil; valid != c.valid || valid && customer != "c1" {
			t.Errorf("%s: %q, %v", c.why, customer, err)
		}
	}
	if n := len(v.known.young) + len(v.known.aged); n != 1 {
		t.Errorf("%d tokens are remembered of one that is right", n)
	}
}

// Every visitor of a shop would be remembered until the process is out of memory.
func TestKnownTokensAreBounded(t *testing.T) {
	var k knownTokens
	now := time.Now()
	digest := func(i int) [sha256.Size]byte { return sha256.Sum256([]byte(fmt.Sprint(i))) }
	for i := range 3 * tokensKept {
		k.put(digest(i), knownToken{customer: fmt.Sprint("c", i), expires: now.Add(time.Hour)})
		if i%1000 == 0 {
			k.find(digest(0), now) // comes again and again
		}
	}
	if n := len(k.young) + len(k.aged); n > 2*tokensKept {
		t.Errorf("%d are remembered", n)
	}
	if customer, found := k.find(digest(0), now); !found || customer != "c0" {
		t.Error("who comes again and again is forgotten")
	}
	if _, found := k.find(digest(1), now); found {
		t.Error("who came once is still remembered")
	}
}

// BenchmarkCustomer: "first" is a token that is not known, "again" one that is.
func BenchmarkCustomer(b *testing.B) {
	secret := []byte("a secret of at least thirty-two bytes")
	token, err := MintToken(secret, "c1", time.Now(), time.Hour)
	if err != nil {
		b.Fatal(err)
	}
	for _, side := range []struct {
		name  string
		known bool
	}{{"first", false}, {"again", true}} {
		v, err := NewSecretVerifier(secret, time.Now)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(side.name, func(b *testing.B) {
			for b.Loop() {
				if !side.known {
					v.known = knownTokens{}
				}
				if _, err := v.Customer(token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
