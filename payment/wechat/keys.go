package wechat

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"sort"
	"strconv"
	"strings"
	"time"

	"orderd/payment"
)

// The headers that carry WeChat's signature, on answers and notifications.
const (
	headerSerial        = "Wechatpay-Serial"         // id of the key that signed
	headerSignature     = "Wechatpay-Signature"      // base64, PKCS #1 v1.5 over SHA-256
	headerSignatureType = "Wechatpay-Signature-Type" // the scheme, signatureType; may be absent
	headerTimestamp     = "Wechatpay-Timestamp"      // seconds since 1970
	headerNonce         = "Wechatpay-Nonce"          // part of the text that is signed

	// signatureType is the scheme of merchants with RSA keys. The other one that
	// WeChat has, for SM2 keys, is not supported.
	signatureType = "WECHATPAY2-SHA256-RSA2048"
	// probePrefix begins the deliberately wrong signatures by which WeChat
	// tests whether a merchant verifies at all.
	probePrefix = "WECHATPAY/SIGNTEST/"
	// PublicKeyPrefix begins the id of a WeChat Pay public key; any other id
	// is the serial number of a platform certificate.
	PublicKeyPrefix = "PUB_KEY_ID_"

	// maxClockSkew is WeChat's own rule for requests, and the one that its document
	// of verifying signatures asks of merchants. Older messages may be replays.
	maxClockSkew = 5 * time.Minute
	// maxNonce bounds a header that is hashed before anything is known about
	// the sender. WeChat sends 32 characters.
	maxNonce = 128
	// minKeyBits: WeChat's keys have 2048 bits; a smaller one is a mistake or an attack.
	minKeyBits = 2048
)

// Why something is not believed. The texts are fixed: nothing of the message
// may get into a log by way of an error.
var (
	errHeaders  = errors.New("signature headers are missing, repeated or malformed")
	errSigType  = errors.New("signature type is not " + signatureType)
	errSkew     = errors.New("time-stamp is more than 5 minutes off")
	errKeyDates = errors.New("signed with a certificate outside its validity")
	errBadSig   = errors.New("signature does not verify")
)

// KeyState describes one configured key of WeChat Pay's, for doctor and readyz.
type KeyState struct {
	ID          string
	Certificate bool      // a platform certificate; otherwise a WeChat Pay public key
	NotBefore   time.Time // zero for a public key
	NotAfter    time.Time // zero for a public key, which never expires
	Response    bool      // answers are asked for under this key
}

// verifyKey is one key of WeChat Pay's and what is known of it.
type verifyKey struct {
	state  KeyState
	public *rsa.PublicKey
}

// keyRing holds every key that WeChat may sign with. It never changes after
// New, so concurrent reads need no lock; during a rotation old and new keys
// are configured side by side and WeChat picks one per message.
type keyRing map[string]verifyKey

// verify checks that a message was signed by WeChat Pay, now, with a known
// key. body is the raw message. The checks are in the order of their cost.
//
// A message without a signature type is RSA with SHA-256, which is checked anyway:
// WeChat's pages of callbacks list four headers, and its own SDK takes an absent fifth
// so (wechatpay-go v0.2.21, core/notify). Another type is refused.
func (r keyRing) verify(h http.Header, body []byte, now time.Time) error {
	serial, ok1 := only(h, headerSerial)
	signature, ok2 := only(h, headerSignature)
	stamp, ok3 := only(h, headerTimestamp)
	nonce, ok4 := only(h, headerNonce)
	kind, ok5 := only(h, headerSignatureType)
	if untyped(h) {
		kind, ok5 = signatureType, true
	}
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || len(nonce) > maxNonce {
		return errHeaders
	}
	if kind != signatureType {
		return errSigType
	}
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || strconv.FormatInt(seconds, 10) != stamp {
		return errHeaders
	}
	if skew := now.Sub(time.Unix(seconds, 0)); skew > maxClockSkew || skew < -maxClockSkew {
		return errSkew
	}
	key, ok := r[wholeID(serial)]
	if !ok && !validID(serial) {
		return errHeaders
	} else if !ok {
		return &payment.UnknownKeyError{Serial: serial}
	}
	if key.state.Certificate && (now.Before(key.state.NotBefore) || now.After(key.state.NotAfter)) {
		return errKeyDates
	}
	if strings.HasPrefix(signature, probePrefix) {
		return payment.ErrProbe
	}
	return key.check(signature, stamp, nonce, body)
}

// check verifies one signature. The length is compared first because the
// decoder skips line breaks, and strict decoding refuses stray bits in the
// padding: one message has exactly one accepted signature text.
func (k verifyKey) check(signature, stamp, nonce string, body []byte) error {
	if len(signature) != base64.StdEncoding.EncodedLen(k.public.Size()) {
		return errBadSig
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(signature)
	if err != nil {
		return errBadSig
	}
	hash := sha256.New()
	hash.Write([]byte(stamp + "\n" + nonce + "\n"))
	hash.Write(body)
	hash.Write([]byte("\n"))
	if rsa.VerifyPKCS1v15(k.public, crypto.SHA256, hash.Sum(nil), raw) != nil {
		return errBadSig
	}
	return nil
}

// untyped reports that a message does not say how it was signed: by no header, or by the
// empty one that a proxy may make of none.
func untyped(h http.Header) bool {
	v := h.Values(headerSignatureType)
	return len(v) == 0 || len(v) == 1 && v[0] == ""
}

// only returns a header that was sent exactly once and is not empty. Two
// values would let two readers see two messages.
func only(h http.Header, name string) (string, bool) {
	v := h.Values(name)
	if len(v) != 1 || v[0] == "" {
		return "", false
	}
	return v[0], true
}

// newKeyRing reads the configured keys. Errors name the key and the remedy,
// never its text.
func newKeyRing(keys map[string][]byte) (keyRing, error) {
	if len(keys) == 0 {
		return nil, errors.New("wechat VerifyKeys: none given; download the WeChat Pay public key from the " +
			"merchant platform and configure it as PUB_KEY_ID_…=file")
	}
	ring := make(keyRing, len(keys))
	for id, text := range keys {
		k, err := parseVerifyKey(id, text)
		if err != nil {
			return nil, err
		}
		if _, dup := ring[k.state.ID]; dup {
			return nil, fmt.Errorf("wechat VerifyKeys: %s is given twice", k.state.ID)
		}
		ring[k.state.ID] = k
	}
	return ring, nil
}

// parseVerifyKey reads one configured key: a public key under its PUB_KEY_ID_…, or a
// certificate under its serial number.
func parseVerifyKey(id string, text []byte) (verifyKey, error) {
	if !validID(id) {
		return verifyKey{}, errors.New("wechat VerifyKeys: an id is not PUB_KEY_ID_… or the hexadecimal serial " +
			"number of a certificate")
	}
	block, rest := pem.Decode(text)
	if block == nil || len(bytes.TrimSpace(rest)) != 0 {
		return verifyKey{}, fmt.Errorf("wechat VerifyKeys: %s must be exactly one PEM block, a public key or a "+
			"certificate", id)
	}
	var (
		k      verifyKey
		public any
		err    error
	)
	k.state.ID = fileID(id)
	switch block.Type {
	case "PUBLIC KEY":
		public, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		public, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		var cert *x509.Certificate
		if cert, err = x509.ParseCertificate(block.Bytes); err == nil {
			public = cert.PublicKey
			k.state, err = certificateState(id, cert)
			if err != nil {
				return verifyKey{}, err
			}
		}
	default:
		return verifyKey{}, fmt.Errorf("wechat VerifyKeys: %s holds neither a public key nor a certificate; a "+
			"private key of yours must never be configured here", id)
	}
	rsaKey, ok := public.(*rsa.PublicKey)
	if err != nil || !ok || rsaKey.N.BitLen() < minKeyBits {
		return verifyKey{}, fmt.Errorf("wechat VerifyKeys: %s is not a readable RSA key of at least %d bits; "+
			"download it again from the merchant platform", id, minKeyBits)
	}
	k.public = rsaKey
	return k, nil
}

// certificateState checks that a certificate stands under its own serial
// number: under another one, no message would ever be believed.
func certificateState(id string, cert *x509.Certificate) (KeyState, error) {
	serial := fileID(cert.SerialNumber.Text(16))
	if fileID(id) != serial {
		return KeyState{}, fmt.Errorf("wechat VerifyKeys: the certificate given as %s has the serial number %s; "+
			"use that as its id", id, serial)
	}
	return KeyState{
		ID:          serial,
		Certificate: true,
		NotBefore:   cert.NotBefore,
		NotAfter:    cert.NotAfter,
	}, nil
}

// fileID is the form in which a configured id is filed: a serial number in upper case, as
// WeChat sends it.
func fileID(id string) string {
	if strings.HasPrefix(id, PublicKeyPrefix) {
		return id
	}
	return wholeID(strings.ToUpper(id))
}

// wholeID gives an id that a message names, or that is filed, its zeros. A serial number is
// bytes: openssl and WeChat's own SDK write two digits of each, and other programs leave a
// leading 0 out.
func wholeID(id string) string {
	if strings.HasPrefix(id, PublicKeyPrefix) {
		return id
	}
	id = strings.TrimLeft(id, "0")
	if len(id)%2 == 1 {
		id = "0" + id
	}
	return id
}

// responseKey chooses the key under which answers are asked for: the
// configured one, else the only public key, else of the certificates in force the one that
// is valid longest. The next certificate may stand beside the present one.
func (r keyRing) responseKey(configured string, now time.Time) (string, error) {
	if configured != "" {
		configured = fileID(configured)
		if _, ok := r[configured]; !ok {
			return "", errors.New("wechat ResponseKeyID: is not one of VerifyKeys; answers signed with it could " +
				"not be verified")
		}
		return configured, r.inForce(configured, now)
	}
	var public, newest string
	var none error // what is wrong with a certificate, where none is in force
	for _, s := range r.states("") {
		switch {
		case s.Certificate:
			if err := r.inForce(s.ID, now); err != nil {
				none = errors.Join(none, err)
			} else if newest == "" || s.NotAfter.After(r[newest].state.NotAfter) {
				newest = s.ID
			}
		case public != "":
			return "", errors.New("wechat ResponseKeyID: several public keys are configured; say which one answers " +
				"are asked for")
		default:
			public = s.ID
		}
	}
	switch {
	case public != "":
		return public, nil
	case newest != "":
		return newest, nil
	}
	return "", none
}

// inForce refuses to start with a certificate that is not valid now: no answer could be
// verified.
func (r keyRing) inForce(id string, now time.Time) error {
	s := r[id].state
	if s.Certificate && (now.Before(s.NotBefore) || now.After(s.NotAfter)) {
		return fmt.Errorf("wechat VerifyKeys: certificate %s is valid from %s to %s and the clock says %s; "+
			"configure the new certificate or the WeChat Pay public key",
			id, s.NotBefore.UTC().Format(time.DateOnly), s.NotAfter.UTC().Format(time.DateOnly),
			now.UTC().Format(time.DateOnly))
	}
	return nil
}

// notOurs refuses the merchant's own key in the place of WeChat Pay's, and the serial number
// of a certificate of WeChat Pay's in the place of the merchant's: the two are mixed up
// easily, and then nothing that WeChat Pay says is believed, or nothing of ours by it.
func (r keyRing) notOurs(own *rsa.PublicKey, ownSerial string) error {
	for _, s := range r.states("") {
		if r[s.ID].public.Equal(own) {
			return fmt.Errorf("wechat VerifyKeys: %s is the merchant's own key; the public key or certificate of "+
				"WeChat Pay belongs there, download it from the merchant platform (API security)", s.ID)
		}
		if s.ID == fileID(ownSerial) {
			return errors.New("wechat SerialNo: is that of a key in VerifyKeys; it must be of the merchant's own " +
				"certificate: openssl x509 -in apiclient_cert.pem -noout -serial prints it")
		}
	}
	return nil
}

// states lists the keys by id; response marks the one answers are asked for.
func (r keyRing) states(response string) []KeyState {
	list := make([]KeyState, 0, len(r))
	for _, k := range r {
		s := k.state
		s.Response = s.ID == response
		list = append(list, s)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].ID < list[j].ID })
	return list
}

// validID accepts what WeChat uses as ids and what may stand in a header and a log: PUB_KEY_ID_
// with up to 64 letters and digits, or a serial number of up to 40 hexadecimal digits (20
// bytes, the most that RFC 5280 allows).
func validID(id string) bool {
	rest, isPublic := strings.CutPrefix(id, PublicKeyPrefix)
	if isPublic {
		return len(rest) > 0 && len(rest) <= 64 && payment.MadeOf(rest, payment.Digits+payment.Letters)
	}
	return len(id) > 0 && len(id) <= 40 && payment.MadeOf(id, payment.HexDigits)
}
