package webhooks

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"time"

	"orderd/migrations/seal"
)

// Secrets of endpoints, as the specification wants them: whsec_ and base64 of 24 to 64 bytes.
const (
	secretPrefix = "whsec_"
	secretBytes  = 32
)

// errSealed: the key of the configuration is not the one that a secret was kept under.
var errSealed = errors.New("the secret of the endpoint was kept under another ORDERD_WEBHOOK_KEY; " +
	"give the old key back, or make a new secret: orderd webhook rotate")

// open gives a secret of an endpoint back.
func open(b *seal.Box, sealed, endpoint string) ([]byte, error) {
	secret, err := b.Open(sealed, endpoint)
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
