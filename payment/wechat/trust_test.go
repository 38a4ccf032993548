package wechat

import (
	"cmp"
	"crypto/rsa"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"orderd/payment"
)

// Official callbacks list four headers and WeChat's own SDK takes an absent signature type as RSA. Without this every
// callback and answer that lacks the fifth is refused, and with it all money.
func TestSignatureTypeMayBeAbsent(t *testing.T) {
	n := notice(tradeBody(nil), nil)
	h := signedHeader(n)
	h.Del(headerSignatureType)
	var results []string
	c := testConfig()
	c.Signature = func(on, result string) { results = append(results, on+" "+result) }
	g := mustNew(t, c)
	if _, err := g.ParseNotification(h, []byte(n)); err != nil {
		t.Errorf("callback: %v", err)
	}
	h.Set(headerSignatureType, "WECHATPAY2-SM2-WITH-SM3")
	if _, err := g.ParseNotification(h, []byte(n)); !errors.Is(err, errSigType) {
		t.Errorf("another type: %v", err)
	}
	h.Del(headerSignatureType)
	h.Set(headerSignature, probePrefix+h.Get(headerSignature))
	if _, err := g.ParseNotification(h, []byte(n)); !errors.Is(err, payment.ErrProbe) {
		t.Errorf("a probe without a type: %v", err)
	}
	want := "[callback ok_untyped callback type callback probe]"
	if got := fmt.Sprint(results); got != want {
		t.Errorf("counted %s, want %s", got, want)
	}
	g, _ = against(t, reply{status: 200, body: tradeBody(nil),
		spoil: func(h http.Header) { h.Del(headerSignatureType) }})
	if tr, err := g.Query(t.Context(), testNo); err != nil || tr.State != payment.TradeSuccess {
		t.Errorf("answer: %+v, %v", tr, err)
	}
}

// Whatever makes answers incredible is named with its next step, once an hour; what says nothing of keys is not.
func TestTrustNamesTheTrouble(t *testing.T) {
	w := theWorld()
	forgotten := strings.Repeat("AB", 20)
	for name, tc := range map[string]struct {
		reply reply
		says  []string // of Trouble and of the alarm; none: no trouble
	}{
		"good":     {reply{status: 200, body: tradeBody(nil)}, nil},
		"unsigned": {reply{status: 503, unsigned: true}, nil},
		"probe":    {reply{status: 200, body: "{}", spoil: probeInto}, nil},
		"unknown key": {reply{status: 200, serial: "PUB_KEY_ID_7"},
			[]string{"PUB_KEY_ID_7=FILE", testPubID, "public key"}},
		"unknown certificate": {reply{status: 200, serial: forgotten}, []string{forgotten + "=FILE", testSerial,
			"platform certificate"}},
		"wrong file":    {reply{status: 200, key: w.stranger}, []string{testPubID, "download it again"}},
		"another clock": {reply{status: 200, age: 7 * time.Minute}, []string{"7m", "NTP"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, alarms := watched(t, tc.reply)
			for range 3 {
				_, _ = g.Query(t.Context(), testNo)
			}
			got := g.Trust()
			if (got.Trouble != "") != (tc.says != nil) || len(alarms()) != min(len(tc.says), 1) {
				t.Fatalf("%+v, alarms %q", got, alarms())
			}
			for _, s := range tc.says {
				if !strings.Contains(got.Trouble, s) || !strings.Contains(alarms()[0], s) {
					t.Errorf("%q is not in %q and %q", s, got.Trouble, alarms())
				}
			}
			if name == "good" && (got.Serial != testPubID || got.Verified.IsZero()) {
				t.Errorf("%+v", got)
			}
		})
	}
}

// probeInto makes a signature WeChat's deliberate probe.
func probeInto(h http.Header) { h.Set(headerSignature, probePrefix+h.Get(headerSignature)) }

// watched is against with the alarms that were raised.
func watched(t *testing.T, a reply) (*Gateway, func() []string) {
	t.Helper()
	var mu sync.Mutex
	var all []string
	c := testConfig()
	c.BaseURL = newSham(t, func(seen) reply { return a }).URL
	c.Alarm = func(what, detail string) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, what+": "+detail)
	}
	return mustNew(t, c), func() []string { mu.Lock(); defer mu.Unlock(); return all }
}

// Anybody can name any key on a callback: that is one alarm an hour, not one for each name.
func TestForgedKeysAreOneAlarm(t *testing.T) {
	c := testConfig()
	alarms := 0
	c.Alarm = func(string, string) { alarms++ }
	g := mustNew(t, c)
	n := notice(tradeBody(nil), nil)
	for i := range 200 {
		h := signedHeader(n)
		h.Set(headerSerial, fmt.Sprintf("PUB_KEY_ID_%d", i))
		_, err := g.ParseNotification(h, []byte(n))
		if u := (*payment.UnknownKeyError)(nil); !errors.As(err, &u) || u.Serial != h.Get(headerSerial) {
			t.Fatal(err)
		}
	}
	if alarms != 1 || g.Trust() != (Trust{}) {
		t.Errorf("%d alarms, trust %+v: a callback says nothing of answers", alarms, g.Trust())
	}
}

// WeChat's message is the only thing that says why a shop takes no money; what it repeats of a request stays out.
func TestRefusalsKeepWeChatsWords(t *testing.T) {
	const restricted = "此商家的收款功能已被限制，暂无法支付。商家可登录微信商户平台查看原因"
	say := func(message string) reply {
		return reply{status: 403, body: `{"code":"NO_AUTH","message":"` + message + `"}`}
	}
	g, alarms := watched(t, say(restricted))
	_, err := g.Prepay(t.Context(), testAttempt(payment.Native))
	if err == nil || !strings.Contains(err.Error(), restricted) || !strings.Contains(err.Error(), "NO_AUTH") {
		t.Errorf("error: %v", err)
	}
	for range 5 {
		_, _ = g.Close(t.Context(), testNo)
	}
	if all := alarms(); len(all) != 2 || !strings.Contains(all[0], restricted) ||
		!strings.Contains(all[0], "prepay") || !strings.Contains(all[1], "close") {
		t.Errorf("alarms: %q; want one of the prepay and one of five closes", all)
	}
	for sent, want := range map[string]string{
		"a\nb\u202ec\x00d\xff":                  "a b c d",
		"key canaryabcdefghijklmnop0123 no":     "key … no",
		"openid:oUpF8uMuAJO_M2pxb1Q9zNjWeS6o不符": "…不符",
		"输入源“/body/payer/openid”":               "输入源“/body/payer/openid”",
		strings.Repeat("长", 300):                strings.Repeat("长", maxMessage),
	} {
		if got := cleaned(sent); got != want {
			t.Errorf("%q became %q, want %q", sent, got, want)
		}
	}
}

// In a change of keys two public keys, or two certificates, or one of each sign side by side: each is found by its
// id, on answers and callbacks alike, and answers are asked for under the one that is named.
func TestSeveralKeysAtOnce(t *testing.T) {
	w := theWorld()
	const otherPub, otherCert = "PUB_KEY_ID_02", "00AB12CD34EF56AB12CD34EF56AB12CD34EF56AB"
	dated := certificatePEM(w.stranger, otherCert, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	for name, ids := range map[string][2]string{
		"two public keys": {testPubID, otherPub}, "two certificates": {testSerial, strings.TrimLeft(otherCert, "0")},
		"one of each": {testPubID, testSerial},
	} {
		t.Run(name, func(t *testing.T) {
			pem := map[string][]byte{testPubID: w.publicPEM, testSerial: w.certPEM,
				otherPub: publicPEM(&w.stranger.PublicKey), strings.TrimLeft(otherCert, "0"): dated}
			private := map[string]*rsa.PrivateKey{testPubID: w.public, testSerial: w.cert}
			c := testConfig()
			c.VerifyKeys = map[string][]byte{ids[0]: pem[ids[0]], ids[1]: pem[ids[1]]}
			for _, id := range ids {
				key := cmp.Or(private[id], w.stranger)
				s := newSham(t, func(seen) reply {
					return reply{status: 200, body: tradeBody(nil), serial: id, key: key}
				})
				c.BaseURL, c.ResponseKeyID = s.URL, id
				g := mustNew(t, c)
				if _, err := g.Query(t.Context(), testNo); err != nil || g.Trust().Serial != id {
					t.Errorf("answer under %s: %v, %+v", id, err, g.Trust())
				}
				if asked := s.requests()[0].header.Get(headerSerial); asked != id {
					t.Errorf("asked under %q, want %s", asked, id)
				}
				n, h := notice(tradeBody(nil), nil), http.Header{}
				signInto(h, key, id, time.Now(), n)
				if _, err := g.ParseNotification(h, []byte(n)); err != nil {
					t.Errorf("callback under %s: %v", id, err)
				}
			}
		})
	}
}

// A notify_url that WeChat Pay does not take, or a limit of the merchant's, is refused prepay by prepay under codes
// that are a buyer's fault otherwise: no income, and nobody was told. One order's own trouble is none of everybody's.
func TestPrepaysThatAreAllRefusedAlarm(t *testing.T) {
	const limit = `{"code":"RULE_LIMIT","message":"业务规则限制"}`
	no := func(body string) reply { return reply{status: 403, body: body} }
	yes := reply{status: 200, body: `{"code_url":"weixin://wxpay/bizpayurl?pr=x"}`}
	for name, tc := range map[string]struct {
		say    func(i int) reply // to the i-th prepay
		orders int               // that they are of, in turn
		alarms int
	}{
		"all of them":  {func(int) reply { return no(limit) }, 100, 1},
		"one order's":  {func(int) reply { return no(limit) }, 1, 0},
		"four orders'": {func(int) reply { return no(limit) }, refusedOrders - 1, 0},
		"every fifth is good": {func(i int) reply {
			if i%5 == 4 {
				return yes
			}
			return no(limit)
		}, 100, 0},
		"good ones": {func(int) reply { return yes }, 100, 0},
		"paid, closed, used": {func(i int) reply {
			code := []string{"ORDERPAID", "ORDER_CLOSED", "OUT_TRADE_NO_USED"}[i%3]
			return no(`{"code":"` + code + `","message":"x"}`)
		}, 100, 0},
		"not known": {func(int) reply {
			return reply{status: 500, body: `{"code":"SYSTEM_ERROR","message":"x"}`}
		}, 100, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var alarms []string
			var asked atomic.Int64
			c := testConfig()
			c.BaseURL = newSham(t, func(seen) reply { return tc.say(int(asked.Add(1)) - 1) }).URL
			c.Alarm = func(what, detail string) { alarms = append(alarms, what+": "+detail) }
			g := mustNew(t, c)
			for i := range 20 {
				a := testAttempt(payment.Native)
				a.OutTradeNo = fmt.Sprintf("01JD4ZKX00000000000000%04d-01", i%tc.orders)
				_, _ = g.Prepay(t.Context(), a)
			}
			if len(alarms) != tc.alarms || tc.alarms > 0 && !strings.Contains(alarms[0], "业务规则限制") {
				t.Errorf("alarms %q, want %d", alarms, tc.alarms)
			}
		})
	}
}
