package webhooks

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"time"
)

// Secrets of endpoints, as the specification wants them: whsec_ and base64 of 24 to 64 bytes.
const (
	secretPrefix = "whsec_"
	secretBytes  = 32
	// MinKey is the least length of Config.Key, in bytes.
	MinKey = 32
)

// errSealed: the key of the configuration is not the one that a secret was kept under.
var errSealed = errors.New("the secret of the endpoint was kept under another ORDERD_WEBHOOK_KEY; " +
	"give the old key back, or make a new secret: orderd webhook rotate")

// box keeps secrets in the database: whoever reads it, or a copy of it, cannot sign.
type box struct{ aead cipher.AEAD }

// newBox is a box under a key of the configuration, of MinKey bytes or more.
func newBox(key string) (*box, error) {
	if len(key) < MinKey {
		return nil, errors.New("webhooks: the key of secrets needs 32 bytes")
	}
	sum := sha256.Sum256([]byte("orderd webhooks\n" + key))
	block, err := aes.NewCipher(sum[:])
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	return &box{aead}, err
}

// seal gives a secret as it is stored. It opens for its endpoint alone.
func (b *box) seal(secret []byte, endpoint string) string {
	nonce := make([]byte, b.aead.NonceSize())
	_, _ = rand.Read(nonce) // never fails
	return base64.StdEncoding.EncodeToString(b.aead.Seal(nonce, nonce, secret, []byte(endpoint)))
}

// open gives a secret back.
func (b *box) open(sealed, endpoint string) ([]byte, error) {
	raw, err := base64.StdEncoding.DecodeString(sealed)
	if err != nil || len(raw) < b.aead.NonceSize() {
		return nil, errSealed
	}
	n := b.aead.NonceSize()
	secret, err := b.aead.Open(nil, raw[:n], raw[n:], []byte(endpoint))
	if err != nil {
		return nil, errSealed
	}
	return secret, nil
}

// newSecret makes a secret, and gives it as the receiver is told it.
func newSecret() (secret []byte, shown string) {
	secret = make([]byte, secretBytes)
	_, _ = rand.Read(secret) // never fails
	return secret, secretPrefix + base64.StdEncoding.EncodeToString(secret)
}

// sign gives the header webhook-signature: a signature per secret, with a space between.
func sign(secrets [][]byte, id string, at time.Time, body []byte) string {
	signatures := make([]string, len(secrets))
	for i, secret := range secrets {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(id + "." + strconv.FormatInt(at.Unix(), 10) + "."))
		mac.Write(body)
		signatures[i] = "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	return strings.Join(signatures, " ")
}
