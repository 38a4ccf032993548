package wechat

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"orderd/migrations/bounds"
	"orderd/payment"
)

const (
	// MaxNotification bounds the body of a notification. WeChat's are about
	// 1.5 KiB; orderhttp refuses longer ones before reading them.
	MaxNotification = 64 << 10

	// The fixed words of a payment notification, from WeChat's document of it.
	eventPaid       = "TRANSACTION.SUCCESS"
	originalPayment = "transaction"
	resourceType    = "encrypt-resource"
	algorithm       = "AEAD_AES_256_GCM"
)

// ParseNotification believes a payment notification or says why not. h and
// body are the request's headers and raw body, unchanged by any middleware.
//
// The order is fixed: length, headers, time-stamp, key, signature, and only
// then the content. The error is one of payment.ErrBadSignature, ErrProbe
// (which is also ErrBadSignature) and ErrMalformed, with a fixed text that
// holds nothing of the message but the id of a key (*payment.UnknownKeyError, which is an
// ErrBadSignature too). Parsing changes nothing and may be repeated;
// a replay within five minutes is believed again, and the caller's unique
// transaction_id makes it harmless. Merchant, app id, currency and amount are
// the caller's to compare with the order.
func (g *Gateway) ParseNotification(h http.Header, body []byte) (payment.Notification, error) {
	if err := g.believe(h, body); err != nil {
		return payment.Notification{}, err
	}
	n, err := g.readPayment(body)
	g.watch.read(err)
	return n, err
}

// believe checks length and signature. Payments and refunds share it.
func (g *Gateway) believe(h http.Header, body []byte) error {
	if len(body) > MaxNotification {
		return malformed("longer than 64 KiB")
	}
	err := g.keys.verify(h, body, g.now())
	g.watch.heard(h, err)
	if err == nil || errors.Is(err, payment.ErrProbe) {
		return err
	}
	return fmt.Errorf("%w: %w", payment.ErrBadSignature, err)
}

// readPayment reads a believed body as a payment.
func (g *Gateway) readPayment(body []byte) (payment.Notification, error) {
	e, plain, err := g.open(body, originalPayment, eventPaid)
	if err != nil {
		return payment.Notification{}, err
	}
	var q tradeAnswer
	if !decodeOne(plain, &q) {
		return payment.Notification{}, malformed("the decrypted resource is not the JSON of a trade")
	}
	trade, err := tradeOf(&q)
	if err != nil {
		return payment.Notification{}, malformed(err.Error())
	}
	if trade.State != payment.TradeSuccess {
		return payment.Notification{}, malformed("a payment event without trade_state SUCCESS")
	}
	return payment.Notification{ID: e.ID, Trade: trade}, nil
}

// envelope is the signed outside of every notification.
type envelope struct {
	ID           string `json:"id"`
	EventType    string `json:"event_type"`
	ResourceType string `json:"resource_type"`
	Resource     struct {
		OriginalType   string `json:"original_type"`
		Algorithm      string `json:"algorithm"`
		Ciphertext     string `json:"ciphertext"`
		AssociatedData string `json:"associated_data"`
		Nonce          string `json:"nonce"`
	} `json:"resource"`
}

// open checks the envelope of a believed notification, which must be of one of
// the given events, and decrypts its resource. Payments and refunds share it;
// they differ in original type and events.
func (g *Gateway) open(body []byte, original string, events ...string) (e *envelope, plain []byte, err error) {
	e = new(envelope)
	if !decodeOne(body, e) {
		return nil, nil, malformed("not one JSON object")
	}
	switch {
	case !slices.Contains(events, e.EventType):
		return nil, nil, malformed("event_type is not expected at this address")
	case e.ResourceType != resourceType:
		return nil, nil, malformed("resource_type is not " + resourceType)
	case e.Resource.OriginalType != "" && e.Resource.OriginalType != original: // optional; the event says it
		return nil, nil, malformed("original_type is not " + original)
	case e.Resource.Algorithm != algorithm:
		return nil, nil, malformed("algorithm is not " + algorithm)
	case !bounds.NotificationID.Fits(e.ID):
		return nil, nil, malformed("id is not a plain word")
	}
	plain, err = g.decrypt(e)
	return e, plain, err
}

// decrypt opens the resource with the APIv3 key. That the signature was
// checked before is what makes this safe to believe: the key alone proves
// neither freshness nor sender.
func (g *Gateway) decrypt(e *envelope) ([]byte, error) {
	sealed, err := base64.StdEncoding.Strict().DecodeString(e.Resource.Ciphertext)
	if err != nil || len(e.Resource.Nonce) != g.aead.NonceSize() {
		return nil, malformed("ciphertext or nonce has the wrong form")
	}
	plain, err := g.aead.Open(nil, []byte(e.Resource.Nonce), sealed, []byte(e.Resource.AssociatedData))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", payment.ErrMalformed, errSealed)
	}
	return plain, nil
}

// errSealed, of a message that WeChat Pay signed, proves that our APIv3 key is wrong.
var errSealed = errors.New("the resource does not decrypt; the APIv3 key configured here may not be the merchant's")

// decodeOne decodes exactly one JSON value. It returns no error, because the
// decoder's errors quote the text.
func decodeOne(text []byte, into any) bool {
	d := json.NewDecoder(bytes.NewReader(text))
	if d.Decode(into) != nil {
		return false
	}
	_, err := d.Token()
	return errors.Is(err, io.EOF)
}

// malformed is the error of a message that WeChat signed and that is not what it should be. why
// is one of our own fixed texts, never a part of the message.
func malformed(why string) error { return fmt.Errorf("%w: %s", payment.ErrMalformed, why) }
