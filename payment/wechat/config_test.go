package wechat

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"orderd/payment"
)

// A setting that is wrong must be named at the start, not found by the first
// customer, and its error must not print a key.
func TestNewNamesTheWrongSetting(t *testing.T) {
	w := theWorld()
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	old := certificatePEM(w.cert, testSerial, time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour))
	const canaryPEM = "-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----\n"
	keys := func(id string, text []byte) func(*Config) {
		return func(c *Config) { c.VerifyKeys = map[string][]byte{id: text} }
	}
	for name, tc := range map[string]struct {
		change func(*Config)
		says   string
	}{
		"no mchid":              {func(c *Config) { c.MchID = "" }, "MchID"},
		"mchid with letters":    {func(c *Config) { c.MchID = "19000x7291" }, "MchID"},
		"no appid":              {func(c *Config) { c.AppID = "" }, "AppID"},
		"appid with a space":    {func(c *Config) { c.AppID = "wx d678" }, "AppID"},
		"no serial":             {func(c *Config) { c.SerialNo = "" }, "SerialNo"},
		"serial with colons":    {func(c *Config) { c.SerialNo = "40:8B:07:E7:9B" }, "SerialNo"},
		"key is not PEM":        {func(c *Config) { c.PrivateKeyPEM = "canary" }, "PrivateKeyPEM"},
		"key is broken PEM":     {func(c *Config) { c.PrivateKeyPEM = canaryPEM }, "PrivateKeyPEM"},
		"key is public":         {func(c *Config) { c.PrivateKeyPEM = string(w.publicPEM) }, "PrivateKeyPEM"},
		"key is small":          {func(c *Config) { c.PrivateKeyPEM = pkcs1PEM(small) }, "PrivateKeyPEM"},
		"APIv3 key short":       {func(c *Config) { c.APIv3Key = testAPIKey[1:] }, "APIv3Key"},
		"APIv3 key and a blank": {func(c *Config) { c.APIv3Key = testAPIKey[1:] + " " }, "APIv3Key"},
		"APIv3 key and a line":  {func(c *Config) { c.APIv3Key = testAPIKey[1:] + "\n" }, "APIv3Key"},
		"APIv3 key in Chinese":  {func(c *Config) { c.APIv3Key = strings.Repeat("密", 10) + "xx" }, "APIv3Key"},
		"our own certificate": {func(c *Config) {
			c.VerifyKeys = map[string][]byte{c.SerialNo: certificatePEM(w.merchant, c.SerialNo,
				time.Now().Add(-time.Hour), time.Now().Add(time.Hour))}
		}, "VerifyKeys: 408B07E79B8269FEC3D5D3E6AB8ED163A6A380DB is the merchant's own"},
		"our own public key":   {keys(testPubID, publicPEM(&w.merchant.PublicKey)), "VerifyKeys: " + testPubID},
		"a serial of WeChat's": {func(c *Config) { c.SerialNo = strings.ToLower(testSerial) }, "SerialNo"},
		"no keys":              {func(c *Config) { c.VerifyKeys = nil }, "VerifyKeys"},
		"key text as id":       {keys(w.merchantPEM, w.publicPEM), "VerifyKeys"},
		"empty key":            {keys(testPubID, nil), "VerifyKeys"},
		"private key there":    {keys(testPubID, []byte(w.merchantPEM)), "VerifyKeys"},
		"broken public key": {keys(testPubID, []byte(strings.ReplaceAll(canaryPEM, "PRIVATE", "PUBLIC"))),
			"VerifyKeys"},
		"two blocks":          {keys(testPubID, append(slices.Clone(w.publicPEM), w.publicPEM...)), "VerifyKeys"},
		"small public key":    {keys(testPubID, publicPEM(&small.PublicKey)), "VerifyKeys"},
		"serial not its own":  {keys("5157F09EFDC096DE15EBE81A47057A7232F1B8E1", w.certPEM), testSerial},
		"certificate expired": {keys(testSerial, old), "VerifyKeys"},
		"same key twice": {func(c *Config) {
			c.VerifyKeys = map[string][]byte{testSerial: w.certPEM, strings.ToLower(testSerial): w.certPEM}
		}, "twice"},
		"two public keys": {func(c *Config) {
			c.VerifyKeys = map[string][]byte{"PUB_KEY_ID_1": w.publicPEM, "PUB_KEY_ID_2": w.publicPEM}
		}, "ResponseKeyID"},
		"response key unknown": {func(c *Config) { c.ResponseKeyID = "PUB_KEY_ID_2" }, "ResponseKeyID"},
		"plain http":           {func(c *Config) { c.BaseURL = "http://api.mch.weixin.qq.com" }, "BaseURL"},
		"http in disguise":     {func(c *Config) { c.BaseURL = "http://127.0.0.1.example.com" }, "BaseURL"},
		"path in base":         {func(c *Config) { c.BaseURL = "https://example.com/wechat" }, "BaseURL"},
		"query in base":        {func(c *Config) { c.BaseURL = "https://example.com?canary" }, "BaseURL"},
		"password in base":     {func(c *Config) { c.BaseURL = "https://u:canary@example.com" }, "BaseURL"},
		"ftp":                  {func(c *Config) { c.BaseURL = "ftp://127.0.0.1" }, "BaseURL"},
		"no scheme":            {func(c *Config) { c.BaseURL = "127.0.0.1:7070" }, "BaseURL"},
		"one entry twice": {func(c *Config) {
			c.BaseURL, c.SecondURL = "https://api.mch.weixin.qq.com", "https://API.mch.weixin.qq.com:443/"
		}, "BaseURL"},
		"negative time-out": {func(c *Config) { c.Timeout = -1 }, "Timeout"},
		"long time-out":     {func(c *Config) { c.Timeout = time.Hour }, "Timeout"},
		"no clock":          {func(c *Config) { c.Now = nil }, "Now"},
	} {
		c := testConfig()
		tc.change(&c)
		g, err := New(c)
		if err == nil || g != nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v, want it to name %s", name, err, tc.says)
			continue
		}
		noCanary(t, name, everyText(err)+everyText(c))
	}
}

func pkcs1PEM(k *rsa.PrivateKey) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k)}))
}

// Both encodings of the merchant key are in use; gopay and our check must agree.
func TestNewTakesBothKeyFormats(t *testing.T) {
	for _, text := range []string{pkcs1PEM(theWorld().merchant), theWorld().merchantPEM} {
		c := testConfig()
		c.PrivateKeyPEM = text
		for _, base := range []string{"", "https://api2.mch.weixin.qq.com", "http://127.0.0.1:7070/",
			"http://[::1]:7070", "http://localhost:7070"} {
			c.BaseURL = base
			if _, err := New(c); err != nil {
				t.Errorf("%q: %v", base, err)
			}
		}
	}
}

// A configuration is printed by every verb and crash dump: the two secrets
// must be masked in every form, and the rest must still be readable.
func TestSecretsAreMasked(t *testing.T) {
	log, logged := watchLog()
	c := testConfig()
	c.BaseURL = "https://user:canary@example.com"
	c.VerifyKeys["canary text in the wrong place"] = nil
	log.Info("start", "config", c, "pointer", &c, "group", slog.GroupValue(slog.Any("config", c)))
	text := everyText(c) + everyText(&c) + logged() + fmt.Sprintf("%v", struct{ Wechat Config }{c})
	noCanary(t, "config", text)
	for _, want := range []string{"1900007291", testPubID, "***"} {
		if !strings.Contains(text, want) {
			t.Errorf("the printed configuration lacks %s", want)
		}
	}
	g := mustNew(t, testConfig())
	noCanary(t, "gateway", everyText(g))
	noCanary(t, "gateway by value", fmt.Sprintf("%+v", *g))
}

// Wherever WeChat, a forger or the network puts personal data or a key of
// ours, no error and no log line may repeat it (gopay's errors would).
func TestNoSecretReachesErrorsOrLogs(t *testing.T) {
	log, logged := watchLog()
	var all strings.Builder
	secretBody := `{"code":"X","detail":{"value":"canary-openid ` + testAPIKey +
		`"},"code_url":5,"out_trade_no":["canary"],"prepay_id":{}}`
	for _, status := range []int{200, 202, 204, 302, 400, 401, 403, 404, 429, 500, 502} {
		for _, r := range []reply{{status: status, body: secretBody}, {status: status, body: secretBody,
			unsigned: true}, {status: status, body: "canary" + secretBody}} {
			s := newSham(t, func(seen) reply { return r })
			c := testConfig()
			c.BaseURL, c.Log = s.URL, log
			g := mustNew(t, c)
			_, err1 := g.Prepay(t.Context(), testAttempt(payment.JSAPI))
			_, err2 := g.Query(t.Context(), testNo)
			_, err3 := g.Close(t.Context(), testNo)
			fmt.Fprint(&all, everyText(err1), everyText(err2), everyText(err3))
		}
	}
	if !strings.Contains(logged(), testNo) || !strings.Contains(logged(), "outcome=rejected") {
		t.Error("calls leave no line in the log")
	}
	noCanary(t, "errors", all.String())
	noCanary(t, "log", logged())
}

// Doctor warns before a certificate ends; without dates it could not, and an
// ended certificate must stop being believed.
func TestKeys(t *testing.T) {
	now := time.Now()
	c := testConfig()
	c.Now = func() time.Time { return now }
	g := mustNew(t, c)
	got := g.Keys()
	if len(got) != 2 || got[0].ID != testSerial || !got[0].Certificate || got[0].Response ||
		got[0].NotAfter.Before(now) ||
		got[1].ID != testPubID || got[1].Certificate || !got[1].Response || !got[1].NotAfter.IsZero() {
		t.Errorf("keys: %+v", got)
	}
	n := notice(tradeBody(nil), nil)
	h := signedHeader(n)
	signInto(h, theWorld().cert, testSerial, now, n)
	if _, err := g.ParseNotification(h, []byte(n)); err != nil {
		t.Error(err)
	}
	now = now.Add(2000 * time.Hour)
	signInto(h, theWorld().cert, testSerial, now, n)
	if _, err := g.ParseNotification(h, []byte(n)); err == nil {
		t.Error("an ended certificate is believed")
	}
}

// Without a public key, answers must be asked for under the newest
// certificate: the older one ends in the middle of a rotation.
func TestResponseKey(t *testing.T) {
	w := theWorld()
	const newer = "5157F09EFDC096DE15EBE81A47057A7232F1B8E1"
	c := testConfig()
	c.VerifyKeys = map[string][]byte{
		strings.ToLower(testSerial): w.certPEM,
		newer: certificatePEM(w.stranger, newer, time.Now().Add(-time.Hour),
			time.Now().Add(9000*time.Hour)),
	}
	g := mustNew(t, c)
	if g.responseKey != newer {
		t.Errorf("asks under %s", g.responseKey)
	}
	c.ResponseKeyID = strings.ToLower(testSerial)
	if g = mustNew(t, c); g.responseKey != testSerial {
		t.Errorf("asks under %s", g.responseKey)
	}
	c.Now = func() time.Time { return time.Now().Add(2000 * time.Hour) }
	if _, err := New(c); err == nil || !strings.Contains(err.Error(), "valid from") {
		t.Errorf("an ended response key: %v", err)
	}
}

// In a change of certificates the next one is configured before it is in force. Taken for answers, it kept the service
// from starting.
func TestNextCertificateBesideThePresentOne(t *testing.T) {
	w, now := theWorld(), time.Now()
	const next = "6132D72A03E93CDDF8C03BBD1F37EEDF5A4F5E6B"
	coming := certificatePEM(w.public, next, now.Add(24*time.Hour), now.Add(5*365*24*time.Hour))
	c := testConfig()
	c.VerifyKeys = map[string][]byte{testSerial: w.certPEM, next: coming}
	if g := mustNew(t, c); g.responseKey != testSerial {
		t.Errorf("answers are asked for under %s", g.responseKey)
	}
	for name, keys := range map[string]map[string][]byte{
		"none is in force": {next: coming},
		"none is any more": {testSerial: certificatePEM(w.cert, testSerial, now.Add(-2*time.Hour), now.Add(-time.Hour)),
			next: coming},
	} {
		c.VerifyKeys = keys
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), next+" is valid from") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A serial number is bytes: openssl writes 40 digits of twenty also when the first digit is 0, some programs drop it.
// Filed as 39, no message that names 40 was ever believed.
func TestSerialNumberWithALeadingZero(t *testing.T) {
	w := theWorld()
	const serial = "0132D72A03E93CDDF8C03BBD1F37EEDF5A4F5E6A"
	text := certificatePEM(w.cert, serial, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	for _, id := range []string{serial, serial[1:], strings.ToLower(serial), "00" + serial[2:]} {
		c := testConfig()
		c.VerifyKeys = map[string][]byte{id: text}
		if id == "00"+serial[2:] { // another number: the advice names one that works
			if _, err := New(c); err == nil || !strings.Contains(err.Error(), "serial number "+serial) {
				t.Errorf("%s: %v", id, err)
			}
			continue
		}
		for _, said := range []string{serial, serial[1:]} {
			s := newSham(t, func(seen) reply {
				return reply{status: 200, key: w.cert, serial: said, body: tradeBody(nil)}
			})
			c.BaseURL, c.ResponseKeyID = s.URL, id
			if _, err := mustNew(t, c).Query(t.Context(), testNo); err != nil {
				t.Errorf("configured as %s, signed as %s: %v", id, said, err)
			}
			if got := s.requests()[0].header.Get(headerSerial); got != serial {
				t.Errorf("configured as %s, answers are asked for under %s", id, got)
			}
		}
	}
}
