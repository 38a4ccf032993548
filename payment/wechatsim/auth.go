package wechatsim

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// maxSkew is how far a time-stamp may be off, either way: WeChat's rules of the API
	// answer 401 beyond it.
	maxSkew = 5 * time.Minute
	// maxNonces bounds one generation of remembered nonces; a generation that is
	// full ends early, so under heavy load a very late replay may pass.
	maxNonces = 100_000
	// truncatedSignMessage is how much of the signed text a 401 repeats, in bytes:
	// enough for a developer to see which line is wrong, as WeChat does.
	truncatedSignMessage = 40
)

// credentials are the parameters of an Authorization header, by WeChat's document of
// how to build the signature.
type credentials struct {
	mchID, nonce, timestamp, serial, signature string
}

// authenticate checks the merchant's signature over the raw bytes of the request; nil
// means that it is right. A refusal is 401, unsigned as WeChat's.
//
// The text is method, request target as it was sent, time-stamp, nonce and body, each
// ended by a line feed, the last one too. RequestURI and not the parsed URL: parsing
// would repair an escape that the merchant signed otherwise, and hide the fault. The
// bytes of the body, likewise: clients write JSON each in their own way.
func (s *Sim) authenticate(x *exchange) *answer {
	c, problem := parseAuthorization(x.r.Header.Get("Authorization"))
	if problem != "" {
		return unauthorized(x, problem, "")
	}
	seconds, err := strconv.ParseInt(c.timestamp, 10, 64)
	if err != nil {
		return unauthorized(x, "Authorization值格式错误", "")
	}
	if off := s.o.Now().Sub(time.Unix(seconds, 0)); off > maxSkew || off < -maxSkew {
		return unauthorized(x, "Http头Authorization中的timestamp与发起请求的时间不得超过5分钟", "")
	}
	if c.mchID != s.o.Keys.MchID {
		return unauthorized(x, "商户未申请过证书", "")
	}
	if !strings.EqualFold(c.serial, s.o.Keys.MerchantSerial) {
		return unauthorized(x, "商户证书序列号有误", "")
	}
	text := x.r.Method + "\n" + x.r.RequestURI + "\n" + c.timestamp + "\n" + c.nonce + "\n" + string(x.body) + "\n"
	signature, err := base64.StdEncoding.DecodeString(c.signature)
	if err != nil {
		return unauthorized(x, "签名错误", text)
	}
	digest := sha256.Sum256([]byte(text))
	if rsa.VerifyPKCS1v15(&s.o.Keys.merchant.PublicKey, crypto.SHA256, digest[:], signature) != nil {
		return unauthorized(x, "签名错误", text)
	}
	if s.o.RefuseReplay && !s.nonces.fresh(c.nonce, s.o.Now()) {
		return unauthorized(x, "nonce_str重复", "")
	}
	return nil
}

// parseAuthorization reads the scheme and its parameters in any order; problem
// is WeChat's message when it cannot.
func parseAuthorization(header string) (c credentials, problem string) {
	scheme, list, _ := strings.Cut(header, " ")
	if scheme != signatureType {
		return c, "认证类型不正确"
	}
	fields := map[string]*string{
		"mchid": &c.mchID, "nonce_str": &c.nonce, "timestamp": &c.timestamp, "serial_no": &c.serial,
		"signature": &c.signature,
	}
	for _, part := range strings.Split(list, ",") {
		name, value, found := strings.Cut(strings.TrimSpace(part), "=")
		field := fields[name]
		if !found || field == nil || len(value) < 2 || value[0] != '"' || value[len(value)-1] != '"' {
			return c, "Authorization值格式错误"
		}
		*field = value[1 : len(value)-1]
	}
	for _, field := range fields {
		if *field == "" {
			return c, "Authorization值格式错误"
		}
	}
	return c, ""
}

// unauthorized is 401 SIGN_ERROR. For a wrong signature the body has the nested detail
// that WeChat sends, on which decoders with a fixed type break. The shape is that of a
// captured answer. signed is the text that was checked, "" when it did not come so far.
func unauthorized(x *exchange, message, signed string) *answer {
	body := map[string]any{"code": "SIGN_ERROR", "message": message}
	if signed != "" {
		body["detail"] = map[string]any{
			"detail": map[string]any{"issue": "sign not match"}, "field": "signature", "location": "authorization",
			"sign_information": map[string]any{
				"method": x.r.Method, "sign_message_length": len(signed),
				"truncated_sign_message": signed[:min(len(signed), truncatedSignMessage)], "url": x.r.URL.Path,
			},
			"value": "",
		}
	}
	return &answer{status: http.StatusUnauthorized, code: "SIGN_ERROR", tail: tailSignature, body: mustJSON(body),
		unsigned: true}
}

// nonces remembers what was seen in the last five to ten minutes, in two generations:
// older requests are refused by their time-stamp anyway. Whether WeChat refuses a
// repeated nonce is not known, hence Options.RefuseReplay.
type nonces struct {
	mu       sync.Mutex
	now, old map[string]struct{}
	since    time.Time
}

// fresh records a nonce and reports whether it is new. A generation that is over
// becomes the old one, and the old one is forgotten whole, so that no nonce has to be
// aged by itself.
func (n *nonces) fresh(nonce string, at time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.now == nil || at.Sub(n.since) > 2*maxSkew || len(n.now) >= maxNonces {
		n.now, n.old, n.since = make(map[string]struct{}), n.now, at
	}
	_, inNow := n.now[nonce]
	_, inOld := n.old[nonce]
	n.now[nonce] = struct{}{}
	return !inNow && !inOld
}
