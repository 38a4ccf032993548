// Package seal keeps secrets in the database: whoever reads it, or a copy of it, cannot use them.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
)

// MinKey is the least length of a key, in bytes.
const MinKey = 32

// ErrKey: the secret was kept under another key, for another purpose or of something else, or is not
// whole.
var ErrKey = errors.New("the secret was kept under another key")

// Box seals and opens secrets (AES-256-GCM).
type Box struct{ aead cipher.AEAD }

// New is a box under a key of the configuration, of MinKey bytes or more. What was sealed for one
// purpose opens for no other under the same key.
func New(key, purpose string) (*Box, error) {
	if len(key) < MinKey {
		return nil, errors.New("a key that secrets are kept under needs 32 bytes")
	}
	sum := sha256.Sum256([]byte("orderd " + purpose + "\n" + key))
	block, err := aes.NewCipher(sum[:])
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	return &Box{aead}, err
}

// Seal gives a secret as it is stored: base64 of 28 bytes more. It opens for what it is of alone.
func (b *Box) Seal(secret []byte, of string) string {
	nonce := make([]byte, b.aead.NonceSize())
	rand.Read(nonce) // never fails, says its documentation
	return base64.StdEncoding.EncodeToString(b.aead.Seal(nonce, nonce, secret, []byte(of)))
}

// Open gives a secret back. Errors: ErrKey.
func (b *Box) Open(sealed, of string) ([]byte, error) {
	raw, err := base64.StdEncoding.DecodeString(sealed)
	n := b.aead.NonceSize()
	if err != nil || len(raw) < n {
		return nil, ErrKey
	}
	secret, err := b.aead.Open(nil, raw[:n], raw[n:], []byte(of))
	if err != nil {
		return nil, ErrKey
	}
	return secret, nil
}
