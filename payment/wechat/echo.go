package wechat

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"

	"orderd/migrations/bounds"
	"orderd/payment"
)

// WeChat Pay's test of a merchant's signatures, which moves no money and opens no trade: its
// documents merchant/4014551946 (the call) and merchant/4015164042 (its callback).
const (
	echoPath     = "/v3/security/echo"
	eventEcho    = "SECURITY_ECHO.SUCCESS"
	originalEcho = "security"
)

// Echo asks WeChat Pay to say a message again, for doctor, and to send it to notifyURL as a
// callback, "" for none. keyID is one of VerifyKeys: the key that the answer is asked for
// under. A nil error says that WeChat Pay believed our signature and that its answer
// verified, under the key signedBy; before a merchant's switch to public keys that is
// another one than was asked for.
func (g *Gateway) Echo(ctx context.Context, keyID, message, notifyURL string) (signedBy string, err error) {
	if !bounds.Echo.Fits(message) {
		return "", refusal(opEcho, "%s", bounds.Echo.Check(message).Detail)
	}
	if _, ok := g.keys[keyID]; !ok {
		return "", refusal(opEcho, "the key is not one of VerifyKeys")
	}
	if wrong := bounds.CheckNotifyURL(notifyURL, g.loopback); wrong != nil && notifyURL != "" {
		return "", refusal(opEcho, "%s", wrong.Detail)
	}
	body, err := json.Marshal(struct {
		Message   string `json:"echo_message"`
		NotifyURL string `json:"notify_url,omitempty"`
	}{message, notifyURL})
	if err != nil {
		return "", refusal(opEcho, "the request cannot be written")
	}
	f, _, err := g.call(ctx, opEcho, "", func(ctx context.Context) error {
		return g.askEcho(ctx, keyID, message, body)
	})
	if err != nil {
		return "", err
	}
	return f.serial, nil
}

// askEcho makes one request of an echo. As with gopay, a refusal is no error of its own: the
// transport has noted it.
func (g *Gateway) askEcho(ctx context.Context, keyID, message string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.hosts.list[0]+echoPath, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if err := g.authorize(opEcho, req, string(body)); err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Wechatpay-Serial", keyID)
	res, err := g.signed.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil
	}
	raw, err := io.ReadAll(res.Body) // the transport has bounded it
	if err != nil {
		return err
	}
	var said echoed
	if !decodeOne(raw, &said) {
		return badAnswer("it is not the JSON of an echo")
	}
	if said.Message != message {
		return otherAnswer("message")
	}
	return nil
}

// echoed is what the answer and the callback say.
type echoed struct {
	Message string `json:"echo_message"`
}

// IsEcho reports that a body says that it is the callback of an echo. It proves nothing:
// ParseEcho does.
func (g *Gateway) IsEcho(body []byte) bool {
	if len(body) > MaxNotification || !bytes.Contains(body, []byte(eventEcho)) {
		return false
	}
	var e envelope
	return decodeOne(body, &e) && e.EventType == eventEcho
}

// ParseEcho believes the callback of an echo or says why not, with the checks and errors of
// ParseNotification. With an ErrMalformed the Echo has its ID when WeChat Pay signed it and
// it does not decrypt.
func (g *Gateway) ParseEcho(h http.Header, body []byte) (payment.Echo, error) {
	if err := g.believe(h, body); err != nil {
		return payment.Echo{}, err
	}
	said, err := g.readEcho(body)
	g.watch.read(err)
	return said, err
}

// readEcho reads a believed body as the callback of an echo.
func (g *Gateway) readEcho(body []byte) (payment.Echo, error) {
	e, plain, err := g.open(body, originalEcho, eventEcho)
	if err != nil && e != nil {
		return payment.Echo{ID: e.ID}, err
	} else if err != nil {
		return payment.Echo{}, err
	}
	var said echoed
	if !decodeOne(plain, &said) {
		return payment.Echo{}, malformed("the decrypted resource is not the JSON of an echo")
	}
	return payment.Echo{ID: e.ID, Message: said.Message}, nil
}
