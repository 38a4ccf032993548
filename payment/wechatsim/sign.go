package wechatsim

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// signatureType is the only scheme that WeChat uses for RSA merchants: the first word
// of Authorization, and the value of Wechatpay-Signature-Type.
const signatureType = "WECHATPAY2-SHA256-RSA2048"

// signTestPrefix marks WeChat's deliberately wrong signatures, its probes of whether
// merchants verify: from its document of the answer's signature.
const signTestPrefix = "WECHATPAY/SIGNTEST/"

// staleAge is how old an "old timestamp" is: far beyond the five minutes that
// are allowed, so that no clock difference makes it fresh again.
const staleAge = time.Hour

// signer is one of WeChat's keys with the id that it is known by.
type signer struct {
	id  string
	key *rsa.PrivateKey
}

// sealMode says how an answer or a callback is signed.
type sealMode int

const (
	sealGood    sealMode = iota // as WeChat does
	sealBad                     // signature of another text
	sealProbe                   // WECHATPAY/SIGNTEST/…
	sealNone                    // no signature headers at all
	sealOld                     // right signature, time-stamp an hour old
	sealForged                  // right id, signed with a key that is not WeChat's
	sealUnknown                 // id and key that nobody has heard of
)

// seal puts WeChat's signature headers for body onto h. It costs one RSA signature
// (about a millisecond) and holds no lock. The text is time-stamp, nonce and raw body,
// each ended by a line feed: of a 204 the third line is empty. Nonce and time-stamp are
// new for every answer.
func (s *Sim) seal(h http.Header, body []byte, by signer, mode sealMode) {
	at := s.o.Now()
	key, id, signed := by.key, by.id, body
	switch mode {
	case sealGood, sealProbe:
	case sealNone:
		return
	case sealBad:
		signed = append([]byte("another text"), body...)
	case sealOld:
		at = at.Add(-staleAge)
	case sealForged:
		key = s.o.Keys.merchant // any key that is not WeChat's will do
	case sealUnknown:
		key, id = s.o.Keys.merchant, "7E57AAAABBBBCCCCDDDDEEEEFFFF000011112222"
	}
	timestamp, nonce := strconv.FormatInt(at.Unix(), 10), randomText(32)
	signature := sign(key, timestamp+"\n"+nonce+"\n"+string(signed)+"\n")
	if mode == sealProbe {
		signature = signTestPrefix + signature[len(signTestPrefix):]
	}
	h.Set("Wechatpay-Timestamp", timestamp)
	h.Set("Wechatpay-Nonce", nonce)
	h.Set("Wechatpay-Signature", signature)
	h.Set("Wechatpay-Serial", id)
	h.Set("Wechatpay-Signature-Type", signatureType)
}

// answerSigner picks the key of an answer: the one that the request asks for,
// else what a callback would be signed with.
func (s *Sim) answerSigner(asked, outTradeNo string) signer {
	for _, k := range s.ring {
		if asked != "" && k.id == asked {
			return k
		}
	}
	return s.usualSigner(outTradeNo)
}

// usualSigner is the first key of the ring or, in a rotation, one of the others.
func (s *Sim) usualSigner(outTradeNo string) signer {
	ratio := max(s.o.GreyRatio, s.nasty.GreyKeys)
	if len(s.ring) == 1 || !s.roll("grey", outTradeNo, ratio) {
		return s.ring[0]
	}
	rest := s.ring[1:]
	return rest[int(s.fraction("which key", outTradeNo)*float64(len(rest)))]
}

// sign makes a signature as both sides do: PKCS #1 v1.5 over SHA-256, in base64.
func sign(key *rsa.PrivateKey, text string) string {
	digest := sha256.Sum256([]byte(text))
	raw, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
	if err != nil {
		panic("RSA signature with our own key: " + err.Error())
	}
	return base64.StdEncoding.EncodeToString(raw)
}

// newAEAD prepares the cipher of the APIv3 key once for all messages.
func newAEAD(apiV3Key string) (cipher.AEAD, error) {
	block, err := aes.NewCipher([]byte(apiV3Key))
	if err != nil {
		return nil, fmt.Errorf("APIv3 key: %w", err)
	}
	return cipher.NewGCM(block)
}

// sealed is an encrypted resource as WeChat writes it, in callbacks and in the list of
// certificates. ciphertext is the text with the 16 bytes of the tag behind it, in
// base64.
type sealed struct {
	OriginalType   string `json:"original_type,omitempty"`
	Algorithm      string `json:"algorithm"`
	Ciphertext     string `json:"ciphertext"`
	AssociatedData string `json:"associated_data"`
	Nonce          string `json:"nonce"`
}

// encrypt seals a resource with the APIv3 key: AES-256-GCM with a nonce of 12
// characters. associated is authenticated and not secret.
func (s *Sim) encrypt(plaintext []byte, associated string) sealed {
	nonce := randomText(s.aead.NonceSize())
	return sealed{
		Algorithm: "AEAD_AES_256_GCM",
		Ciphertext: base64.StdEncoding.EncodeToString(s.aead.Seal(nil, []byte(nonce), plaintext,
			[]byte(associated))),
		AssociatedData: associated,
		Nonce:          nonce,
	}
}

// randomText returns n characters of [0-9A-Za-z]; randomDigits n digits. Both
// come from the system's generator, not from the seed: a restarted simulator
// with the same seed must not hand out the same transaction ids again.
func randomText(n int) string {
	return randomFrom("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", n)
}

// randomDigits is n digits, likewise.
func randomDigits(n int) string { return randomFrom("0123456789", n) }

// randomFrom draws n characters of an alphabet. The first characters of one whose length does
// not divide 256 are a little likelier, which no id minds.
func randomFrom(alphabet string, n int) string {
	raw := make([]byte, n)
	_, _ = rand.Read(raw) // never fails since Go 1.24: it crashes instead
	for i := range raw {
		raw[i] = alphabet[int(raw[i])%len(alphabet)]
	}
	return string(raw)
}
