package wechat

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"orderd/payment"
)

// TestMain fails the package if gopay, the pool or a test leaves a goroutine:
// gopay's key refresh, for one, can never be stopped.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// unknown is what most tables of answers want: nothing is known, nothing may move.
const unknown = payment.KindUnknown

const (
	testPubID  = "PUB_KEY_ID_0114232134912410000000000000"
	testSerial = "7132D72A03E93CDDF8C03BBD1F37EEDF5A4F5E6A"
	testAPIKey = "canary-APIv3-key-0123456789abcde"
	testNo     = "01JD4ZKX0000000000000000AB-01"
)

// world holds the keys of both sides. They are made once: an RSA key costs
// more than all tests that use it.
type world struct {
	merchant, public, cert, stranger *rsa.PrivateKey
	merchantPEM                      string
	publicPEM, certPEM               []byte
}

var theWorld = sync.OnceValue(func() *world {
	w := new(world)
	for _, k := range []**rsa.PrivateKey{&w.merchant, &w.public, &w.cert, &w.stranger} {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		*k = key
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(w.merchant)
	if err != nil {
		panic(err)
	}
	w.merchantPEM = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
	w.publicPEM = publicPEM(&w.public.PublicKey)
	w.certPEM = certificatePEM(w.cert, testSerial, time.Now().Add(-time.Hour), time.Now().Add(1000*time.Hour))
	return w
})

func publicPEM(k *rsa.PublicKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(k)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func certificatePEM(k *rsa.PrivateKey, serial string, from, to time.Time) []byte {
	n, _ := new(big.Int).SetString(serial, 16)
	tmpl := &x509.Certificate{SerialNumber: n, Subject: pkix.Name{CommonName: "Tenpay.com Root CA"}, NotBefore: from,
		NotAfter: to}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func testConfig() Config {
	w := theWorld()
	return Config{
		MchID: "1900007291", AppID: "wxd678efh567hg6787", SerialNo: "408B07E79B8269FEC3D5D3E6AB8ED163A6A380DB",
		PrivateKeyPEM: w.merchantPEM, APIv3Key: testAPIKey,
		VerifyKeys: map[string][]byte{testPubID: w.publicPEM, testSerial: w.certPEM},
		Now:        time.Now,
	}
}

func mustNew(t testing.TB, c Config) *Gateway {
	t.Helper()
	g, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.CloseIdleConnections)
	return g
}

// reply is one scripted answer. The zero value of the signing fields means
// "as WeChat signs": now, with the public key, correctly.
type reply struct {
	status   int
	body     string
	age      time.Duration // of the time-stamp
	serial   string        // other than testPubID
	key      *rsa.PrivateKey
	unsigned bool
	spoil    func(http.Header) // last change to the signed headers
	location string
	cut      bool          // hang up without an answer
	short    bool          // hang up in the middle of the body
	hang     chan struct{} // no answer until it is closed
}

// seen is one request as it reached the server.
type seen struct {
	method, uri string
	header      http.Header
	body        []byte
	from        string // the client's end of the connection
}

// sham is a WeChat Pay that says what it is told to, over real HTTP.
type sham struct {
	*httptest.Server
	mu    sync.Mutex
	reply func(r seen) reply
	all   []seen
}

func newSham(t testing.TB, say func(seen) reply) *sham {
	t.Helper()
	s := &sham{reply: say}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *sham) requests() []seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]seen(nil), s.all...)
}

func (s *sham) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	got := seen{r.Method, r.RequestURI, r.Header.Clone(), body, r.RemoteAddr}
	s.mu.Lock()
	s.all = append(s.all, got)
	s.mu.Unlock()
	a := s.reply(got)
	if a.hang != nil {
		<-a.hang
	}
	if a.cut {
		panic(http.ErrAbortHandler)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Request-ID", "08F5B8EDC405-268447914")
	if a.location != "" {
		h.Set("Location", a.location)
	}
	if !a.unsigned {
		key, serial := theWorld().public, testPubID
		if a.key != nil {
			key = a.key
		}
		if a.serial != "" {
			serial = a.serial
		}
		signInto(h, key, serial, time.Now().Add(-a.age), a.body)
	}
	if a.spoil != nil {
		a.spoil(h)
	}
	if a.short {
		h.Set("Content-Length", strconv.Itoa(len(a.body)))
		w.WriteHeader(a.status)
		_, _ = io.WriteString(w, a.body[:len(a.body)/2])
		_ = http.NewResponseController(w).Flush() // so that the half arrives
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(a.status)
	if a.status != http.StatusNoContent {
		_, _ = io.WriteString(w, a.body)
	}
}

// signInto puts WeChat's five headers on an answer or notification.
func signInto(h http.Header, key *rsa.PrivateKey, serial string, at time.Time, body string) {
	stamp, nonce := strconv.FormatInt(at.Unix(), 10), rand.Text()
	h.Set(headerTimestamp, stamp)
	h.Set(headerNonce, nonce)
	h.Set(headerSerial, serial)
	h.Set(headerSignatureType, signatureType)
	h.Set(headerSignature, rsaSign(key, stamp+"\n"+nonce+"\n"+body+"\n"))
}

func rsaSign(key *rsa.PrivateKey, text string) string {
	sum := sha256.Sum256([]byte(text))
	sig, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
	if err != nil {
		panic(err)
	}
	return base64.StdEncoding.EncodeToString(sig)
}

func rsaVerifies(k *rsa.PublicKey, text, signature string) bool {
	raw, err := base64.StdEncoding.DecodeString(signature)
	sum := sha256.Sum256([]byte(text))
	return err == nil && rsa.VerifyPKCS1v15(k, crypto.SHA256, sum[:], raw) == nil
}

// against returns a gateway that talks to a sham with this one answer.
func against(t testing.TB, a reply) (*Gateway, *sham) {
	t.Helper()
	s := newSham(t, func(seen) reply { return a })
	c := testConfig()
	c.BaseURL = s.URL
	return mustNew(t, c), s
}

func testAttempt(tt payment.TradeType) payment.Attempt {
	a := payment.Attempt{
		OutTradeNo: testNo, OrderNo: "01JD4ZKX0000000000000000AB", TradeType: tt, Description: "Blue mug ×2",
		Attach: "shop-7", NotifyURL: "https://pay.example.com/wechat/v3/notify/payment",
		TimeExpire: "2026-11-20T22:12:05+08:00", Amount: 39800,
	}
	switch tt {
	case payment.JSAPI:
		a.OpenID = "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"
	case payment.H5:
		a.ClientIP, a.H5Type = "203.0.113.7", "Wap"
	case payment.Native, payment.App:
	}
	return a
}

// tradeBody is a paid trade as WeChat prints it, with fields changed or (nil) removed.
func tradeBody(change map[string]any) string {
	m := map[string]any{
		"appid": "wxd678efh567hg6787", "mchid": "1900007291", "out_trade_no": testNo,
		"transaction_id": "4200001234202611201234567890", "trade_type": "JSAPI", "trade_state": "SUCCESS",
		"trade_state_desc": "支付成功", "bank_type": "OTHERS", "attach": "shop-7",
		"success_time": "2026-11-20T22:01:05+08:00", "payer": map[string]any{"openid": "canary-openid-o6_bmjrPTlm6"},
		"amount": map[string]any{"total": 39800, "payer_total": 39700, "currency": "CNY",
			"payer_currency": "CNY"},
		"promotion_detail": []any{}, "a_field_of_next_year": map[string]any{"x": 1},
	}
	for k, v := range change {
		if v == nil {
			delete(m, k)
			continue
		}
		m[k] = v
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// seal encrypts a notification's resource as WeChat does.
func seal(plain, nonce, aad string) string {
	block, err := aes.NewCipher([]byte(testAPIKey))
	if err != nil {
		panic(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return base64.StdEncoding.EncodeToString(gcm.Seal(nil, []byte(nonce), []byte(plain), []byte(aad)))
}

// notice is a notification before it is signed.
func notice(plain string, change func(top, resource map[string]any)) string {
	resource := map[string]any{
		"original_type": "transaction", "algorithm": "AEAD_AES_256_GCM", "associated_data": "transaction",
		"nonce": "fdasfjihihih", "ciphertext": seal(plain, "fdasfjihihih", "transaction"),
	}
	top := map[string]any{
		"id": "1f0b3203-e4b1-5385-82f1-f773da9d4e5d", "create_time": "2026-11-20T22:01:06+08:00",
		"event_type": "TRANSACTION.SUCCESS", "resource_type": "encrypt-resource", "summary": "支付成功",
		"resource": resource,
	}
	if change != nil {
		change(top, resource)
	}
	b, err := json.Marshal(top)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func signedHeader(body string) http.Header {
	h := http.Header{}
	signInto(h, theWorld().public, testPubID, time.Now(), body)
	return h
}

// canaries are what must never be seen in an error, a log or a printed value.
func canaries() []string {
	w := theWorld()
	return []string{testAPIKey, "canary", strings.Split(w.merchantPEM, "\n")[2], "PRIVATE KEY", "oUpF8uMuAJO"}
}

func noCanary(t *testing.T, where, text string) {
	t.Helper()
	for _, c := range canaries() {
		if strings.Contains(text, c) {
			t.Errorf("%s shows a secret or personal data (%.12s…): %.300s", where, c, text)
		}
	}
}

// watchLog collects what the gateway logs.
func watchLog() (*slog.Logger, func() string) {
	var (
		mu  sync.Mutex
		buf bytes.Buffer
	)
	w := writerFunc(func(p []byte) (int, error) { mu.Lock(); defer mu.Unlock(); return buf.Write(p) })
	log := slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
	return log, func() string { mu.Lock(); defer mu.Unlock(); return buf.String() }
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// everyText is all the ways in which a value may reach a log.
func everyText(v any) string {
	j, _ := json.Marshal(v)
	return fmt.Sprintf("%v\n%+v\n%#v\n%s\n%s", v, v, v, v, j)
}
