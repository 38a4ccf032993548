package wechatsim_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wechatpay-apiv3/wechatpay-go/core"
	"github.com/wechatpay-apiv3/wechatpay-go/core/auth/validators"
	"github.com/wechatpay-apiv3/wechatpay-go/core/auth/verifiers"
	"github.com/wechatpay-apiv3/wechatpay-go/core/downloader"
	"github.com/wechatpay-apiv3/wechatpay-go/core/notify"
	"github.com/wechatpay-apiv3/wechatpay-go/core/option"
	"github.com/wechatpay-apiv3/wechatpay-go/services/payments"
	"github.com/wechatpay-apiv3/wechatpay-go/utils"
	"go.uber.org/goleak"

	"orderd/payment/wechatsim"
)

const (
	mchID = "1900000001"
	appID = "wx0000000000000001"
	// patience is how long a condition may take on a busy machine before a test fails.
	patience = 2 * time.Minute
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sharedKeys are made once: four RSA keys take most of a second.
var sharedKeys = sync.OnceValues(func() (*wechatsim.Keys, error) { return wechatsim.GenerateKeys(mchID, appID) })

func keys(t *testing.T) *wechatsim.Keys {
	t.Helper()
	k, err := sharedKeys()
	must(t, err)
	return k
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// clock is a clock that tests set.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// bench is a simulator behind a real listener, with a raw client of the test's own.
type bench struct {
	t      *testing.T
	sim    *wechatsim.Sim
	keys   *wechatsim.Keys
	url    string
	client *http.Client
	now    func() time.Time
}

func start(t *testing.T, o wechatsim.Options) *bench {
	t.Helper()
	if o.Keys == nil {
		o.Keys = keys(t)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	sim, err := wechatsim.New(o)
	must(t, err)
	server := httptest.NewServer(sim.Handler())
	transport := &http.Transport{}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		server.CloseClientConnections()
		sim.Close()
		server.Close()
	})
	return &bench{t: t, sim: sim, keys: o.Keys, url: server.URL, client: &http.Client{Transport: transport,
		Timeout: patience}, now: o.Now}
}

// request is one signed call of a merchant, with every part open to tampering.
type request struct {
	method, target, body string
	serialWanted         string                  // Wechatpay-Serial
	at                   time.Time               // zero: now
	nonce                string                  // empty: random
	authorization        func(string) string     // changes the header
	afterSigning         func(*http.Request)     // changes the request
	parts                func(map[string]string) // changes the parameters before they are written
}

type reply struct {
	status int
	header http.Header
	body   []byte
	code   string
	err    error
}

func (b *bench) do(r request) reply {
	b.t.Helper()
	if r.at.IsZero() {
		r.at = b.now()
	}
	if r.nonce == "" {
		raw := make([]byte, 16)
		_, _ = rand.Read(raw)
		r.nonce = fmt.Sprintf("%x", raw)
	}
	c := b.keys.Client()
	key, err := utils.LoadPrivateKey(c.PrivateKeyPEM)
	must(b.t, err)
	ts := strconv.FormatInt(r.at.Unix(), 10)
	digest := sha256.Sum256([]byte(r.method + "\n" + r.target + "\n" + ts + "\n" + r.nonce + "\n" + r.body + "\n"))
	sig, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
	must(b.t, err)
	parts := map[string]string{
		"mchid": c.MchID, "nonce_str": r.nonce, "timestamp": ts, "serial_no": c.SerialNo,
		"signature": base64.StdEncoding.EncodeToString(sig),
	}
	if r.parts != nil {
		r.parts(parts)
	}
	var list []string
	for name, value := range parts { // in random order: it must not matter
		list = append(list, name+`="`+value+`"`)
	}
	header := "WECHATPAY2-SHA256-RSA2048 " + strings.Join(list, ",")
	if r.authorization != nil {
		header = r.authorization(header)
	}
	req, err := http.NewRequestWithContext(b.t.Context(), r.method, b.url+r.target, strings.NewReader(r.body))
	must(b.t, err)
	req.Header.Set("Authorization", header)
	req.Header.Set("Wechatpay-Serial", r.serialWanted)
	req.Header.Set("Accept", "*/*")
	if r.afterSigning != nil {
		r.afterSigning(req)
	}
	return b.send(req)
}

func (b *bench) send(req *http.Request) reply {
	res, err := b.client.Do(req)
	if err != nil {
		return reply{err: err}
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return reply{err: err}
	}
	var e struct{ Code string }
	_ = json.Unmarshal(body, &e)
	return reply{status: res.StatusCode, header: res.Header, body: body, code: e.Code}
}

// want fails the test unless the answer has this status and code.
func (r reply) want(t *testing.T, status int, code string) reply {
	t.Helper()
	if r.err != nil {
		t.Fatalf("want %d %s, got no answer: %v", status, code, r.err)
	}
	if r.status != status || r.code != code {
		t.Fatalf("want %d %q, got %d %q: %s", status, code, r.status, r.code, r.body)
	}
	return r
}

// params are those of a valid Native prepay; change them by edit.
func params(no string, edit func(map[string]any)) string {
	p := map[string]any{
		"appid": appID, "mchid": mchID, "description": "一斤苹果", "out_trade_no": no,
		"notify_url": "https://shop.example/wechat/v3/notify/payment", "amount": map[string]any{"total": 14900,
			"currency": "CNY"},
	}
	if edit != nil {
		edit(p)
	}
	raw, err := json.Marshal(p)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

func (b *bench) prepay(no string, edit func(map[string]any)) reply {
	b.t.Helper()
	return b.do(request{method: "POST", target: "/v3/pay/transactions/native", body: params(no, edit)})
}

func (b *bench) query(no string) reply {
	b.t.Helper()
	return b.do(request{method: "GET", target: "/v3/pay/transactions/out-trade-no/" + no + "?mchid=" + mchID})
}

func (b *bench) close(no string) reply {
	b.t.Helper()
	return b.do(request{method: "POST", target: "/v3/pay/transactions/out-trade-no/" + no + "/close",
		body: `{"mchid":"` + mchID + `"}`})
}

func (b *bench) trade(no string) wechatsim.Trade {
	b.t.Helper()
	v, found := b.sim.Trade(no)
	if !found {
		b.t.Fatalf("trade %s is not known", no)
	}
	return v
}

// control calls the control surface.
func (b *bench) control(method, path, body string) reply {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), method, b.url+"/control"+path, strings.NewReader(body))
	must(b.t, err)
	req.Header.Set("Content-Type", "application/json")
	return b.send(req)
}

// until waits for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain: %s", patience, what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// events picks the entries of one trade and kind, as "event" strings.
func events(sim *wechatsim.Sim, no, kind string) []string {
	var list []string
	for _, e := range sim.Log(0) {
		if e.OutTradeNo == no && e.Kind == kind {
			list = append(list, e.Event)
		}
	}
	return list
}

// redirect sends the official SDK, whose hosts are fixed, to the simulator.
type redirect struct {
	to   *url.URL
	next http.RoundTripper
}

func (r redirect) RoundTrip(req *http.Request) (*http.Response, error) {
	clone := req.Clone(req.Context())
	clone.URL.Scheme, clone.URL.Host, clone.Host = r.to.Scheme, r.to.Host, ""
	return r.next.RoundTrip(clone)
}

// sdk is Tencent's client in one of its two key modes, and the verifiers that go
// with it.
type sdk struct {
	client    *core.Client
	responses *validators.WechatPayResponseValidator
	notices   *notify.Handler
}

func (b *bench) officialClient(publicKeyMode bool) sdk {
	b.t.Helper()
	ctx := context.Background()
	c := b.keys.Client()
	key, err := utils.LoadPrivateKey(c.PrivateKeyPEM)
	must(b.t, err)
	pub, err := utils.LoadPublicKey(string(c.VerifyKeys[c.PublicKeyID]))
	must(b.t, err)
	to, err := url.Parse(b.url)
	must(b.t, err)
	// no Timeout: the SDK leaves bodies open, and their timers would leak
	hc := &http.Client{Transport: redirect{to, b.client.Transport}}
	if publicKeyMode {
		client, err := core.NewClient(ctx, option.WithWechatPayPublicKeyAuthCipher(c.MchID, c.SerialNo, key,
			c.PublicKeyID, pub), option.WithHTTPClient(hc))
		must(b.t, err)
		verifier := verifiers.NewSHA256WithRSAPubkeyVerifier(c.PublicKeyID, *pub)
		handler, err := notify.NewRSANotifyHandler(c.APIv3Key, verifier)
		must(b.t, err)
		return sdk{client, validators.NewWechatPayResponseValidator(verifier), handler}
	}
	boot, err := core.NewClient(ctx, option.WithMerchantCredential(c.MchID, c.SerialNo, key),
		option.WithoutValidator(), option.WithHTTPClient(hc))
	must(b.t, err)
	d, err := downloader.NewCertificateDownloaderWithClient(ctx, boot, c.APIv3Key)
	must(b.t, err)
	verifier := verifiers.NewSHA256WithRSAVerifier(d)
	client, err := core.NewClient(ctx, option.WithMerchantCredential(c.MchID, c.SerialNo, key),
		option.WithVerifier(verifier), option.WithHTTPClient(hc))
	must(b.t, err)
	combined := verifiers.NewSHA256WithRSACombinedVerifier(d, c.PublicKeyID, *pub)
	handler, err := notify.NewRSANotifyHandler(c.APIv3Key, combined)
	must(b.t, err)
	return sdk{client, validators.NewWechatPayResponseValidator(verifier), handler}
}

// verified reports whether Tencent's code accepts the signature of an answer.
func (s sdk) verified(r reply) bool {
	return s.responses.Validate(context.Background(), &http.Response{Header: r.header,
		Body: io.NopCloser(bytes.NewReader(r.body))}) == nil
}

// notice is one callback as a merchant with Tencent's SDK sees it.
type notice struct {
	id     string
	serial string
	trade  payments.Transaction
	err    error // of the SDK: not believed
	at     time.Time
}

// shop is a merchant's callback address. It answers 204 to what the SDK accepts
// and 401 to the rest, unless answer says otherwise.
type shop struct {
	url string

	mu      sync.Mutex
	got     []notice
	answer  func(n int, w notice) int // n counts from 1; 0 keeps the usual status
	handler *notify.Handler
}

func openShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{}
	server := httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	s.url = server.URL + "/wechat/v3/notify/payment"
	return s
}

func (s *shop) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := notice{serial: r.Header.Get("Wechatpay-Serial"), at: time.Now()}
	parsed, err := s.handler.ParseNotifyRequest(r.Context(), r, &n.trade)
	n.err = err
	if parsed != nil {
		n.id = parsed.ID
	}
	s.got = append(s.got, n)
	status := http.StatusNoContent
	if err != nil {
		status = http.StatusUnauthorized
	}
	if s.answer != nil {
		if other := s.answer(len(s.got), n); other != 0 {
			status = other
		}
	}
	w.WriteHeader(status)
}

func (s *shop) notices() []notice {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]notice(nil), s.got...)
}

// withShop starts a simulator and a shop that verifies with the given mode.
func withShop(t *testing.T, o wechatsim.Options, publicKeyMode bool) (*bench, *shop) {
	t.Helper()
	s := openShop(t)
	b := start(t, o)
	s.handler = b.officialClient(publicKeyMode).notices
	return b, s
}

// open prepays a trade whose callbacks go to the shop.
func (b *bench) open(no string, s *shop) {
	b.t.Helper()
	b.prepay(no, func(p map[string]any) { p["notify_url"] = s.url }).want(b.t, 200, "")
}
