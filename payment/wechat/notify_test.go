package wechat

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"orderd/payment"
)

// Without this, no payment would ever be booked by callback.
func TestNotificationIsRead(t *testing.T) {
	g := mustNew(t, testConfig())
	for name, change := range map[string]func(top, res map[string]any){
		"as documented": nil,
		"empty associated data": func(_, res map[string]any) {
			res["associated_data"], res["ciphertext"] = "", seal(tradeBody(nil), "fdasfjihihih", "")
		},
		"a new field": func(top, _ map[string]any) { top["next_year"] = []int{1} },
	} {
		n := notice(tradeBody(nil), change)
		got, err := g.ParseNotification(signedHeader(n), []byte(n))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := payment.Trade{
			OutTradeNo: testNo, State: payment.TradeSuccess, TransactionID: "4200001234202611201234567890",
			AppID: "wxd678efh567hg6787", MchID: "1900007291", TradeType: "JSAPI",
			Total: 39800, PayerTotal: payment.Said(39700), Currency: "CNY",
			SuccessTime: time.Date(2026, 11, 20, 14, 1, 5, 0, time.UTC),
		}
		if got.ID != "1f0b3203-e4b1-5385-82f1-f773da9d4e5d" || got.Trade != want {
			t.Errorf("%s: %+v", name, got)
		}
	}
	// Another merchant's trade is returned as it is: the caller compares and holds it.
	n := notice(tradeBody(map[string]any{"mchid": "1900000001", "appid": "wxother"}), nil)
	if got, err := g.ParseNotification(signedHeader(n), []byte(n)); err != nil || got.Trade.MchID != "1900000001" ||
		got.Trade.AppID != "wxother" {
		t.Errorf("other merchant: %+v, %v", got, err)
	}
}

// One flipped bit that is accepted is a hole for a forger: every bit of the
// body and of each header that the signature depends on is tried.
func TestEveryFlippedBitIsRefused(t *testing.T) {
	g := mustNew(t, testConfig())
	body := []byte(notice(tradeBody(nil), nil))
	for _, kind := range []string{testPubID, testSerial} {
		key := theWorld().public
		if kind == testSerial {
			key = theWorld().cert
		}
		header := http.Header{}
		signInto(header, key, kind, time.Now(), string(body))
		if _, err := g.ParseNotification(header, body); err != nil {
			t.Fatal(err)
		}
		tried := 0
		refused := func(h http.Header, b []byte, what string, bit int) {
			tried++
			if _, err := g.ParseNotification(h, b); !errors.Is(err, payment.ErrBadSignature) {
				t.Errorf("%s bit %d of %s: %v", kind, bit, what, err)
			}
		}
		for _, name := range []string{headerSerial, headerSignature, headerSignatureType, headerTimestamp,
			headerNonce} {
			v := []byte(header.Get(name))
			for bit := range len(v) * 8 {
				h := header.Clone()
				h[name] = []string{flipped(v, bit)}
				refused(h, body, name, bit)
			}
		}
		for bit := range len(body) * 8 {
			refused(header, []byte(flipped(body, bit)), "body", bit)
		}
		if tried < 8000 {
			t.Errorf("only %d bits were tried", tried)
		}
	}
}

func flipped(b []byte, bit int) string {
	c := slices.Clone(b)
	c[bit/8] ^= 1 << (bit % 8)
	return string(c)
}

// A message that is not proven, too old, or from a key we do not know must not
// be believed, and a probe must be told apart so that it raises no alarm.
func TestNotificationSignature(t *testing.T) {
	w := theWorld()
	now := time.Now()
	c := testConfig()
	c.Now = func() time.Time { return now.Truncate(time.Second) }
	g := mustNew(t, c)
	n := notice(tradeBody(nil), nil)
	sign := func(at time.Time) http.Header {
		h := http.Header{}
		signInto(h, w.public, testPubID, at, n)
		return h
	}
	with := func(name string, values ...string) http.Header {
		h := sign(now)
		h[name] = values
		return h
	}
	cases := map[string]struct {
		header http.Header
		want   error // nil = believed
	}{
		"now":             {sign(now), nil},
		"empty type":      {with(headerSignatureType, ""), nil}, // as a proxy may make of an absent one
		"5 minutes old":   {sign(now.Add(-5 * time.Minute)), nil},
		"5 minutes ahead": {sign(now.Add(5 * time.Minute)), nil},
		"5:01 old":        {sign(now.Add(-301 * time.Second)), errSkew},
		"5:01 ahead":      {sign(now.Add(301 * time.Second)), errSkew},
		"of 2014":         {sign(time.Unix(1414561699, 0)), errSkew},
		"of 2125":         {sign(time.Unix(4891334400, 0)), errSkew},
		"far beyond":      {with(headerTimestamp, "9223372036854775807"), errSkew},
		"far before":      {with(headerTimestamp, "-9223372036854775808"), errSkew},
		"overflow":        {with(headerTimestamp, "92233720368547758070"), errHeaders},
		"padded time":     {with(headerTimestamp, "+"+strconv.FormatInt(now.Unix(), 10)), errHeaders},
		"no headers":      {http.Header{}, errHeaders},
		"other type":      {with(headerSignatureType, "WECHATPAY2-SM2-WITH-SM3"), errSigType},
		"unknown key":     {with(headerSerial, "PUB_KEY_ID_1"), &payment.UnknownKeyError{Serial: "PUB_KEY_ID_1"}},
		"no key's name":   {with(headerSerial, "PUB_KEY_ID_1\x1b[2J"), errHeaders},
		"type twice":      {with(headerSignatureType, signatureType, signatureType), errHeaders},
		"other known key": {with(headerSerial, testSerial), errBadSig},
		"signature twice": {with(headerSignature, sign(now).Get(headerSignature), "x"), errHeaders},
		"long nonce":      {with(headerNonce, strings.Repeat("n", maxNonce+1)), errHeaders},
		"no signature":    {with(headerSignature, ""), errHeaders},
		"line in signature": {with(headerSignature,
			sign(now).Get(headerSignature)[:4]+"\n"+sign(now).Get(headerSignature)[4:]), errBadSig},
		"probe":     {with(headerSignature, "WECHATPAY/SIGNTEST/MqyH0kLcUVtVYS1qSv"), payment.ErrProbe},
		"old probe": {probe(sign(now.Add(-time.Hour))), errSkew},
	}
	for _, name := range []string{headerSerial, headerSignature, headerTimestamp, headerNonce} {
		cases["without "+name] = struct {
			header http.Header
			want   error
		}{with(name), errHeaders}
	}
	for name, tc := range cases {
		got, err := g.ParseNotification(tc.header, []byte(n))
		if tc.want == nil {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if !errors.Is(err, tc.want) || !errors.Is(err, payment.ErrBadSignature) || got != (payment.Notification{}) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
		if errors.Is(err, payment.ErrProbe) != (name == "probe") {
			t.Errorf("%s: counted as the wrong thing: %v", name, err)
		}
	}
}

func probe(h http.Header) http.Header {
	h.Set(headerSignature, probePrefix+"x")
	return h
}

// A signed message that is not a payment (a refund notice, an unpaid trade, a
// form of next year) must be refused before it books money, and its refusal
// must not print the buyer's data.
func TestMalformedNotifications(t *testing.T) {
	log, logged := watchLog()
	c := testConfig()
	c.Log = log
	g := mustNew(t, c)
	cases := map[string]string{
		"empty": "", "null": "null", "array": "[]", "text": `"canary"`, "cut": notice(tradeBody(nil), nil)[:200],
		"two values": notice(tradeBody(nil), nil) + "{}",
		"too long":   notice(tradeBody(map[string]any{"attach": strings.Repeat("canary", 11000)}), nil),
	}
	for name, change := range map[string]func(top, res map[string]any){
		"refund event":      func(top, _ map[string]any) { top["event_type"] = "REFUND.SUCCESS" },
		"other event":       func(top, _ map[string]any) { top["event_type"] = "canary" },
		"no event":          func(top, _ map[string]any) { delete(top, "event_type") },
		"resource type":     func(top, _ map[string]any) { top["resource_type"] = "plain" },
		"no id":             func(top, _ map[string]any) { top["id"] = "" },
		"odd id":            func(top, _ map[string]any) { top["id"] = "a\ncanary" },
		"long id":           func(top, _ map[string]any) { top["id"] = strings.Repeat("a", 65) },
		"no resource":       func(top, _ map[string]any) { delete(top, "resource") },
		"null resource":     func(top, _ map[string]any) { top["resource"] = nil },
		"text resource":     func(top, _ map[string]any) { top["resource"] = "canary" },
		"refund resource":   func(_, res map[string]any) { res["original_type"] = "refund" },
		"algorithm":         func(_, res map[string]any) { res["algorithm"] = "AEAD_SM4_GCM" },
		"short nonce":       func(_, res map[string]any) { res["nonce"] = "short" },
		"other nonce":       func(_, res map[string]any) { res["nonce"] = "fdasfjihihiX" },
		"associated data":   func(_, res map[string]any) { res["associated_data"] = "refund" },
		"not base64":        func(_, res map[string]any) { res["ciphertext"] = "canary***" },
		"short ciphertext":  func(_, res map[string]any) { res["ciphertext"] = "AAAA" },
		"no ciphertext":     func(_, res map[string]any) { res["ciphertext"] = "" },
		"number ciphertext": func(_, res map[string]any) { res["ciphertext"] = 5 },
	} {
		cases[name] = notice(tradeBody(nil), change)
	}
	for name, plain := range map[string]string{
		"plain not JSON": "canary-openid", "plain null": "null", "plain array": "[]", "plain two": tradeBody(nil) +
			"{}",
		"not paid":         tradeBody(map[string]any{"trade_state": "NOTPAY"}),
		"refunded":         tradeBody(map[string]any{"trade_state": "REFUND"}),
		"unknown state":    tradeBody(map[string]any{"trade_state": "canary"}),
		"refund plaintext": `{"mchid":"1900007291","out_trade_no":"` + testNo + `","refund_status":"SUCCESS"}`,
		"total is text":    tradeBody(map[string]any{"amount": map[string]any{"total": "canary"}}),
		"total overflows":  tradeBody(map[string]any{"amount": map[string]any{"total": 1e19}}),
		"total zero":       tradeBody(map[string]any{"amount": map[string]any{"total": 0}}),
		"total over limit": tradeBody(map[string]any{"amount": map[string]any{"total": int64(payment.MaxFen) + 1}}),
		"no transaction":   tradeBody(map[string]any{"transaction_id": ""}),
		"foreign number":   tradeBody(map[string]any{"out_trade_no": "canary/../x"}),
		"odd time":         tradeBody(map[string]any{"success_time": "canary"}),
	} {
		cases[name] = notice(plain, nil)
	}
	for name, n := range cases {
		got, err := g.ParseNotification(signedHeader(n), []byte(n))
		if !errors.Is(err, payment.ErrMalformed) || got != (payment.Notification{}) {
			t.Errorf("%s: %+v, %v", name, got, err)
			continue
		}
		noCanary(t, name, everyText(err)+logged())
	}
}

// Resource sealed under another APIv3 key: every payment callback is lost, and nobody but WeChat Pay can cause it. The
// operator must learn which setting to look at, and neither key may be in the text.
func TestWrongAPIv3Key(t *testing.T) {
	var alarms []string
	c := testConfig()
	c.APIv3Key = strings.Repeat("k", 32)
	c.Alarm = func(what, detail string) { alarms = append(alarms, what+": "+detail) }
	now := time.Now()
	c.Now = func() time.Time { return now }
	g := mustNew(t, c)
	ask := func() {
		n := notice(tradeBody(nil), nil)
		h := http.Header{}
		signInto(h, theWorld().public, testPubID, now, n)
		_, err := g.ParseNotification(h, []byte(n))
		if !errors.Is(err, payment.ErrMalformed) || !strings.Contains(err.Error(), "APIv3 key") ||
			strings.Contains(err.Error(), c.APIv3Key) {
			t.Errorf("got %v", err)
		}
	}
	ask()
	ask()
	if len(alarms) != 1 || !strings.Contains(alarms[0], "wechat APIv3Key") || strings.Contains(alarms[0], c.APIv3Key) {
		t.Errorf("alarms %q, want one that names the setting", alarms)
	}
	now = now.Add(alarmEvery)
	if ask(); len(alarms) != 2 {
		t.Errorf("alarms %q, want one an hour", alarms)
	}
}

// What WeChat Pay signed and cannot be read is lost: of a refund, a test and a payment alike somebody is told. What is
// not signed can be anybody's, and says nothing.
func TestSignedCallbacksThatCannotBeReadAlarm(t *testing.T) {
	alarms := 0
	c := testConfig()
	c.Alarm = func(string, string) { alarms++ }
	g := mustNew(t, c)
	payments := func(h http.Header, n []byte) error { _, err := g.ParseNotification(h, n); return err }
	refunds := func(h http.Header, n []byte) error { _, err := g.ParseRefund(h, n); return err }
	echoes := func(h http.Header, n []byte) error { _, err := g.ParseEcho(h, n); return err }
	good, event := notice(tradeBody(nil), nil), func(event, original string) func(top, res map[string]any) {
		return func(top, res map[string]any) { top["event_type"], res["original_type"] = event, original }
	}
	for i, tc := range []struct {
		name   string
		parse  func(http.Header, []byte) error
		n      string
		alarms int // at the end of this case
	}{
		{"good", payments, good, 0},
		{"a payment at the address of refunds", refunds, good, 1},
		{"the same once more", refunds, good, 1},
		{"a trade that is none", payments, notice("[]", nil), 2},
		{"a refund that is none", refunds, notice("[]", event(eventRefunded, originalRefund)), 3},
		{"a test that is none", echoes, notice("[]", event(eventEcho, originalEcho)), 4},
	} {
		h := signedHeader(tc.n)
		if err := tc.parse(h, []byte(tc.n)); (err == nil) != (i == 0) || alarms != tc.alarms {
			t.Errorf("%s: %v, %d alarms, want %d", tc.name, err, alarms, tc.alarms)
		}
		h.Set(headerSignature, rsaSign(theWorld().stranger, tc.n))
		if err := tc.parse(h, []byte(tc.n+" ")); err == nil || alarms != tc.alarms {
			t.Errorf("%s, not signed: %v, %d alarms, want %d", tc.name, err, alarms, tc.alarms)
		}
	}
}

// WeChat's documents call these fields optional; event_type says what a callback is.
func TestOptionalFieldsOfAnEnvelope(t *testing.T) {
	g := mustNew(t, testConfig())
	for name, change := range map[string]func(top, res map[string]any){
		"no original_type":    func(_, res map[string]any) { delete(res, "original_type") },
		"empty original_type": func(_, res map[string]any) { res["original_type"] = "" },
		"no create_time":      func(top, _ map[string]any) { delete(top, "create_time") },
		"no summary":          func(top, _ map[string]any) { delete(top, "summary") },
		"no associated_data": func(_, res map[string]any) {
			delete(res, "associated_data")
			res["ciphertext"] = seal(tradeBody(nil), "fdasfjihihih", "")
		},
	} {
		n := notice(tradeBody(nil), change)
		if _, err := g.ParseNotification(signedHeader(n), []byte(n)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Arbitrary bytes from a sender with WeChat's key (the worst case) must end as
// ErrMalformed or as a complete payment, never in a panic. The signature is
// left out here, because it would take all the fuzzer's time; that unsigned
// bytes are not read at all is TestEveryFlippedBitIsRefused's. Run it with
// -fuzzminimizetime 10x: JSON's map order makes coverage vary, and the default
// spends a minute on minimising each find.
func FuzzNotification(f *testing.F) {
	f.Add([]byte(notice(tradeBody(nil), nil)), []byte(tradeBody(nil)), "transaction")
	f.Add([]byte("{}"), []byte("{}"), "")
	f.Add([]byte(`{"resource":null}`), []byte(`{"amount":null,"trade_state":"SUCCESS"}`), "x")
	aead, err := newAEAD(testAPIKey)
	if err != nil {
		f.Fatal(err)
	}
	g := &Gateway{aead: aead}
	f.Fuzz(func(t *testing.T, raw, plain []byte, aad string) {
		wrapped := []byte(notice("", func(_, res map[string]any) {
			res["associated_data"], res["ciphertext"] = aad, seal(string(plain), "fdasfjihihih", aad)
		}))
		for _, n := range [][]byte{raw, wrapped} {
			got, err := g.readPayment(n)
			switch {
			case err != nil:
				if got != (payment.Notification{}) || !errors.Is(err, payment.ErrMalformed) || len(err.Error()) > 200 {
					t.Fatalf("%+v, %v", got, err)
				}
			case got.ID == "" || got.Trade.State != payment.TradeSuccess || got.Trade.Total < 1 ||
				!payment.ValidOutTradeNo(got.Trade.OutTradeNo) || got.Trade.TransactionID == "":
				t.Fatalf("believed %+v", got)
			}
		}
	})
}

// A header map that a proxy filled in another order or case of iteration must
// not matter: the same five headers, cloned and shuffled, verify alike.
func TestNotificationVerifiesRepeatedly(t *testing.T) {
	g := mustNew(t, testConfig())
	n := notice(tradeBody(nil), nil)
	h := signedHeader(n)
	before := maps.Clone(h)
	for range 3 {
		if _, err := g.ParseNotification(h, []byte(n)); err != nil {
			t.Fatal(err)
		}
	}
	if !maps.EqualFunc(before, h, slices.Equal) {
		t.Error("parsing changed the headers")
	}
}
