package orderhttp

import (
	"bytes"
	"errors"
	"testing"
	"time"
)

// Whoever changes the key of customers' tokens must not log every customer out, nor leave the old one good for what it
// was never for.
func TestTokensOfTheKeyBeforeAreGoodUntilTheyEnd(t *testing.T) {
	clock := &ticker{now: epoch}
	before := bytes.Repeat([]byte("b"), minSecret)
	verifier := func(key []byte) *Verifier {
		v, err := NewSecretVerifier(key, clock.Now)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	mint := func(key []byte, life time.Duration) string {
		tok, err := MintToken(key, "c1", clock.Now(), life)
		if err != nil {
			t.Fatal(err)
		}
		return tok
	}
	old := mint(before, time.Hour)
	if _, err := verifier(secret).Customer(old); err == nil {
		t.Fatal("another key's token is good without Also")
	}
	v := verifier(secret).Also(verifier(before)).Bound(2 * time.Hour)
	for range 2 { // the second time from memory
		for name, tok := range map[string]string{"old": old, "new": mint(secret, time.Hour)} {
			if c, err := v.Customer(tok); err != nil || c != "c1" {
				t.Errorf("%s: %q %v", name, c, err)
			}
		}
	}
	for name, tok := range map[string]string{"for too long": mint(before, 3*time.Hour),
		"of a third key": mint(bytes.Repeat([]byte("x"), minSecret), time.Hour), "no token": "x"} {
		if c, err := v.Customer(tok); err == nil {
			t.Errorf("%s: good for %q", name, c)
		}
	}
	clock.advance(time.Hour + leeway + time.Second)
	var f *Failure
	if _, err := v.Customer(old); !errors.As(err, &f) || f.Text.En != "The token has expired." {
		t.Errorf("an old token that has ended: %v", err)
	}
}
