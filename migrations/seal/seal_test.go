package seal_test

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"orderd/migrations/seal"
)

func box(t *testing.T, key, purpose string) *seal.Box {
	t.Helper()
	b, err := seal.New(key, purpose)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A secret that opens for another row, for another purpose or under another key is one that whoever writes to the
// database can exchange.
func TestSecretsOpenForTheirOwnAlone(t *testing.T) {
	key := strings.Repeat("k", seal.MinKey)
	b := box(t, key, "tests")
	sealed := b.Seal([]byte("secret"), "anna")
	if again := b.Seal([]byte("secret"), "anna"); again == sealed || strings.Contains(sealed, "secret") {
		t.Error("the same twice, or not sealed")
	}
	if got, err := box(t, key, "tests").Open(sealed, "anna"); err != nil || string(got) != "secret" {
		t.Errorf("%q %v", got, err)
	}
	raw, _ := base64.StdEncoding.DecodeString(sealed)
	raw[len(raw)-1] ^= 1
	for what, open := range map[string]func() ([]byte, error){
		"another row":     func() ([]byte, error) { return b.Open(sealed, "bea") },
		"another purpose": func() ([]byte, error) { return box(t, key, "webhooks").Open(sealed, "anna") },
		"another key":     func() ([]byte, error) { return box(t, key+"x", "tests").Open(sealed, "anna") },
		"a changed bit":   func() ([]byte, error) { return b.Open(base64.StdEncoding.EncodeToString(raw), "anna") },
		"cut":             func() ([]byte, error) { return b.Open(sealed[:8], "anna") },
		"nothing":         func() ([]byte, error) { return b.Open("", "anna") },
		"no base64":       func() ([]byte, error) { return b.Open("?", "anna") },
	} {
		if got, err := open(); !errors.Is(err, seal.ErrKey) || got != nil {
			t.Errorf("%s: %q %v", what, got, err)
		}
	}
	if _, err := seal.New(key[1:], "tests"); err == nil {
		t.Error("a short key")
	}
}

// What programs before this package have sealed opens still.
func TestSecretsOfWebhooksBeforeOpen(t *testing.T) {
	const sealed = "N6Uhcf1eQCLmn7hZXxJPCi0DO3R+NiuhSGOALrxcqSg1R9BTHrRAkYwbDs7G7g=="
	got, err := box(t, "0123456789abcdef0123456789abcdef", "webhooks").Open(sealed, "we_1")
	if err != nil || string(got) != "a secret of before" {
		t.Errorf("%q %v", got, err)
	}
}
