package wechat

import (
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-pay/gopay/pkg/xhttp"
	wechatv3 "github.com/go-pay/gopay/wechat/v3"

	"orderd/migrations/bounds"
	"orderd/payment"
)

const (
	// productionURL is WeChat Pay's main entry, secondURL its other one (hosts.go).
	productionURL = "https://api.mch.weixin.qq.com"
	secondURL     = "https://api2.mch.weixin.qq.com"
	// defaultTimeout bounds one call: WeChat answers in well under a second,
	// and whoever waits longer keeps a worker from other orders.
	defaultTimeout = 5 * time.Second
	// maxTimeout keeps a call shorter than the task that makes it.
	maxTimeout = 30 * time.Second
	// apiV3KeyBytes is the length of an AES-256 key, which the APIv3 key is.
	apiV3KeyBytes = 32
)

// Config is the merchant, as New needs it. It prints itself with the secrets
// masked, whether by %v, %+v, %#v, slog or JSON.
type Config struct {
	MchID         string // merchant number
	AppID         string // of the official account, mini program or app
	SerialNo      string // serial number of the merchant's own certificate
	PrivateKeyPEM string // of that certificate, PKCS #8 or PKCS #1
	APIv3Key      string // 32 bytes, decrypts notifications

	// VerifyKeys are WeChat's keys by id: PUB_KEY_ID_… for a public key, the
	// serial number for a platform certificate. Both kinds may be mixed;
	// during a rotation old and new belong here together.
	VerifyKeys map[string][]byte
	// ResponseKeyID is the key under which answers are asked for; "" means the
	// public key if there is one, else the certificate that is valid longest.
	ResponseKeyID string

	BaseURL string // "" = WeChat Pay itself; http:// only for a loopback address
	// SecondURL is the entry for calls that BaseURL does not answer; "" = WeChat Pay's when
	// BaseURL is, else none.
	SecondURL string
	Timeout   time.Duration // of one call, at one entry or two; 0 = 5 s

	// Now is the clock for time-stamps of answers, notifications and downloads
	// of bills. All other requests are stamped by gopay, from the machine's clock.
	Now func() time.Time
	Log *slog.Logger // may be nil; one debug line per call
	// Observe is called after each call: op is prepay, query, close, refund,
	// refund_query, abnormal_refund, bill, bill_file or echo, outcome one of a closed set of words
	// (see docs/wechat.md). May be nil; called concurrently.
	Observe func(op, outcome string, took time.Duration)
	// Signature is called after each check of a signature: on is answer or callback,
	// result one of SignatureResults. May be nil; called concurrently.
	Signature func(on, result string)
	// Tried is called after each request of a call: host is the scheme and host of its
	// entry, result answered, unreachable, unanswered or failed. May be nil; called
	// concurrently.
	Tried func(host, result string)
	// Alarm is called, at most once an hour for the same thing, when answers or callbacks
	// are not believed or not readable, for a reason to be mended, and when WeChat Pay refuses
	// our credentials, the merchant or every prepay. detail says what to do. May be nil; must be quick.
	Alarm func(what, detail string)
}

// New checks the whole configuration and builds the gateway. It makes no
// network call. Errors name the setting and what to do about it, and never
// hold a key's text.
func New(c Config) (*Gateway, error) {
	if err := c.checkNames(); err != nil {
		return nil, err
	}
	entries, loopback, err := c.entries()
	if err != nil {
		return nil, err
	}
	merchantKey, err := privateKey(c.PrivateKeyPEM)
	if err != nil {
		return nil, err
	}
	aead, err := newAEAD(c.APIv3Key)
	if err != nil {
		return nil, err
	}
	ring, err := newKeyRing(c.VerifyKeys)
	if err != nil {
		return nil, err
	}
	if err := ring.notOurs(&merchantKey.PublicKey, c.SerialNo); err != nil {
		return nil, err
	}
	response, err := ring.responseKey(c.ResponseKeyID, c.Now())
	if err != nil {
		return nil, err
	}
	client, err := wechatv3.NewClientV3(c.MchID, c.SerialNo, c.APIv3Key, c.PrivateKeyPEM)
	if err != nil {
		// gopay's text would hold the whole private key.
		return nil, errors.New("wechat PrivateKeyPEM: gopay cannot read it; export the merchant key again as PKCS #8")
	}
	c.silence()
	watch := &watcher{keys: ring, now: c.Now, alarm: c.Alarm, result: c.Signature, raised: map[string]time.Time{},
		unsold: map[string]bool{}}
	pool := newTransport()
	// Both are set once, before the first call, and only read from then on.
	client.WxSerialNo = response
	client.SetProxyHost(entries[0]) // the transport sends it to the entry whose turn it is
	// A redirected POST would be signed for one place and sent to another.
	noRedirect := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	signed := &http.Client{
		// No Timeout here: every call's context has one.
		Transport:     &verifyingTransport{next: pool, keys: ring, now: c.Now, watch: watch},
		CheckRedirect: noRedirect,
	}
	client.SetHttpClient(&xhttp.Client{HttpClient: signed})
	client.SetBodySize(maxAnswer >> 20)
	return &Gateway{
		client: callsOf(client), pool: pool, keys: ring, watch: watch,
		files:       &http.Client{Transport: pool, CheckRedirect: noRedirect},
		signed:      signed,
		hosts:       &hosts{list: entries, now: c.Now, log: c.Log, tried: c.Tried},
		merchantKey: merchantKey, serialNo: c.SerialNo, responseKey: response, aead: aead,
		mchID: c.MchID, appID: c.AppID, loopback: loopback,
		timeout: c.Timeout, stall: stallTimeout, now: c.Now, log: c.Log, observe: c.Observe,
	}, nil
}

// silence puts one who hears nothing wherever nobody wants to be told.
func (c *Config) silence() {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Observe == nil {
		c.Observe = func(string, string, time.Duration) {}
	}
	if c.Signature == nil {
		c.Signature = func(string, string) {}
	}
	if c.Tried == nil {
		c.Tried = func(string, string) {}
	}
	if c.Alarm == nil {
		c.Alarm = func(string, string) {}
	}
}

// checkNames checks the plain settings and fills in the time-out's default. The
// lengths are wide around what WeChat issues (merchant numbers of 10 digits, app
// ids of 18 characters, serial numbers of 40 digits): they catch a value that was
// pasted into the wrong setting.
func (c *Config) checkNames() error {
	switch {
	case !bounds.MchID.Fits(c.MchID) || !payment.MadeOf(c.MchID, payment.Digits):
		return errors.New("wechat MchID: must be the merchant number, digits only; it is on the merchant " +
			"platform's account page")
	case !bounds.AppID.Fits(c.AppID):
		return errors.New("wechat AppID: must be the app id that is bound to the merchant number, wx…")
	case len(c.SerialNo) < 8 || len(c.SerialNo) > 64 || !payment.MadeOf(c.SerialNo, payment.HexDigits):
		return errors.New("wechat SerialNo: must be the hexadecimal serial number of the merchant's own " +
			"certificate; openssl x509 -in apiclient_cert.pem -noout -serial prints it")
	case c.Timeout < 0 || c.Timeout > maxTimeout:
		return fmt.Errorf("wechat Timeout: must be between 0 (the default, %s) and %s", defaultTimeout, maxTimeout)
	case c.Now == nil:
		return errors.New("wechat Now: a clock is needed to judge time-stamps")
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	return nil
}

// entries gives the addresses of WeChat Pay, the main one first, and whether they are on
// this machine.
func (c *Config) entries() (list []string, loopback bool, err error) {
	second := c.SecondURL
	if c.BaseURL == "" {
		second = cmp.Or(second, secondURL)
	}
	for _, address := range []string{c.BaseURL, second} {
		if address == "" && len(list) > 0 {
			break
		}
		base, local, err := checkBaseURL(address)
		if err != nil {
			return nil, false, err
		}
		if len(list) > 0 && local != loopback {
			return nil, false, errors.New("wechat BaseURL: one entry is on this machine and the other is not")
		}
		if slices.Contains(list, base) {
			return nil, false, errors.New("wechat BaseURL: both entries are the same; give WeChat Pay's two " +
				"addresses, or one alone")
		}
		list, loopback = append(list, base), local
	}
	return list, loopback, nil
}

// checkBaseURL returns the base without a trailing slash and whether it is a
// simulator on this machine. Everything else must be https: a call carries
// the merchant's signature and openids.
func checkBaseURL(base string) (clean string, loopback bool, err error) {
	if base == "" {
		return productionURL, false, nil
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" ||
		strings.Trim(u.Path, "/") != "" {
		return "", false, errors.New("wechat BaseURL: must be scheme and host only, such as " +
			"https://api.mch.weixin.qq.com")
	}
	loopback = isLoopback(u.Hostname())
	switch u.Scheme {
	case "https":
	case "http":
		if !loopback {
			return "", false, errors.New("wechat BaseURL: plain http is refused except for a loopback address; use " +
				"https")
		}
	default:
		return "", false, errors.New("wechat BaseURL: must begin with https://")
	}
	return bounds.Origin(u), loopback, nil
}

// isLoopback reports that a host name can only be this machine.
func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// privateKey reads the merchant key before gopay does, because gopay's error
// would print it.
func privateKey(text string) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("wechat PrivateKeyPEM: is not PEM; use the whole apiclient_key.pem, with its BEGIN " +
			"and END lines")
	}
	key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		any8, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		rsaKey, ok := any8.(*rsa.PrivateKey)
		if err != nil || !ok {
			return nil, errors.New("wechat PrivateKeyPEM: is not an unencrypted RSA private key; use " +
				"apiclient_key.pem of the merchant certificate")
		}
		key = rsaKey
	}
	if key.N.BitLen() < minKeyBits {
		return nil, fmt.Errorf("wechat PrivateKeyPEM: has fewer than %d bits, which WeChat Pay does not issue",
			minKeyBits)
	}
	return key, nil
}

// newAEAD prepares the cipher of notifications once for all of them.
func newAEAD(apiV3Key string) (cipher.AEAD, error) {
	if len(apiV3Key) != apiV3KeyBytes {
		return nil, fmt.Errorf("wechat APIv3Key: has %d bytes and must have %d; it is set on the merchant platform "+
			"under API security", len(apiV3Key), apiV3KeyBytes)
	}
	if !payment.Visible(apiV3Key, apiV3KeyBytes) {
		return nil, errors.New("wechat APIv3Key: has a blank, a line end or a character that is not ASCII; it is the " +
			"32 letters and digits that are set on the merchant platform under API security")
	}
	block, err := aes.NewCipher([]byte(apiV3Key))
	if err != nil {
		return nil, errors.New("wechat APIv3Key: cannot be used as an AES key")
	}
	return cipher.NewGCM(block)
}

// masked is a Config as it may be shown.
type masked struct {
	MchID         string        `json:"mchid"`
	AppID         string        `json:"appid"`
	SerialNo      string        `json:"serial_no"`
	PrivateKeyPEM string        `json:"private_key"`
	APIv3Key      string        `json:"apiv3_key"`
	VerifyKeys    []string      `json:"verify_keys"`
	ResponseKeyID string        `json:"response_key_id"`
	BaseURL       string        `json:"base_url"`
	Timeout       time.Duration `json:"timeout_ns"`
}

// masked is what may be shown: a secret that is set is ***, one that is missing is "", so that
// a person sees which it is.
func (c Config) masked() masked {
	hide := func(s string) string {
		if s == "" {
			return ""
		}
		return "***"
	}
	m := masked{
		MchID: c.MchID, AppID: c.AppID, SerialNo: c.SerialNo,
		PrivateKeyPEM: hide(c.PrivateKeyPEM), APIv3Key: hide(c.APIv3Key),
		ResponseKeyID: c.ResponseKeyID, Timeout: c.Timeout,
	}
	if u, err := url.Parse(c.BaseURL); err == nil && u.Host != "" {
		m.BaseURL = u.Scheme + "://" + u.Host // whatever else is there does not belong there
	}
	for id := range c.VerifyKeys {
		if !validID(id) {
			id = "***" // perhaps a key's text in the wrong place
		}
		m.VerifyKeys = append(m.VerifyKeys, id)
	}
	slices.Sort(m.VerifyKeys)
	return m
}

// String shows the configuration with its secrets masked.
func (c Config) String() string { return fmt.Sprintf("%+v", c.masked()) }

// GoString keeps %#v from showing what %v masks.
func (c Config) GoString() string { return c.String() }

// LogValue keeps slog from showing what %v masks.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalJSON keeps JSON from showing what %v masks.
func (c Config) MarshalJSON() ([]byte, error) { return json.Marshal(c.masked()) }
