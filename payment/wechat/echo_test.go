package wechat

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"orderd/payment"
)

var testEcho = strings.Repeat("E", 26)

// A live check that believes what nobody has signed, or an answer about another question, says of wrong keys that they
// are right.
func TestEchoAnswers(t *testing.T) {
	w := theWorld()
	said := fmt.Sprintf(`{"echo_message":%q,"next_year":1}`, testEcho)
	for name, c := range map[string]struct {
		reply    reply
		kind     payment.Kind // 0: believed
		signedBy string
	}{
		"as it should":        {reply{status: 200, body: said}, 0, testPubID},
		"under another key":   {reply{status: 200, body: said, key: w.cert, serial: testSerial}, 0, testSerial},
		"unsigned":            {reply{status: 200, body: said, unsigned: true}, unknown, ""},
		"signed by strangers": {reply{status: 200, body: said, key: w.stranger}, unknown, ""},
		"another message":     {reply{status: 200, body: `{"echo_message":"x"}`}, unknown, ""},
		"no message":          {reply{status: 200, body: `{}`}, unknown, ""},
		"no JSON":             {reply{status: 200, body: `<html>`}, unknown, ""},
		"204":                 {reply{status: 204}, unknown, ""},
		"refused":             {reply{status: 400, body: body("PARAM_ERROR")}, payment.KindRejected, ""},
		"401":                 {reply{status: 401, unsigned: true}, payment.KindMisconfigured, ""},
		"not permitted":       {reply{status: 403, body: body("NO_AUTH")}, payment.KindMisconfigured, ""},
		"cut":                 {reply{cut: true}, unknown, ""},
	} {
		t.Run(name, func(t *testing.T) {
			g, s := against(t, c.reply)
			signedBy, err := g.Echo(t.Context(), testPubID, testEcho, "http://127.0.0.1:1/notify")
			if signedBy != c.signedBy || (err == nil) != (c.kind == 0) || err != nil && payment.KindOf(err) != c.kind {
				t.Errorf("signed by %q, %v", signedBy, err)
			}
			all := s.requests()
			if len(all) != 1 {
				t.Fatalf("%d requests", len(all))
			}
			var asked map[string]string
			if err := json.Unmarshal(all[0].body, &asked); err != nil || len(asked) != 2 ||
				asked["echo_message"] != testEcho || asked["notify_url"] != "http://127.0.0.1:1/notify" {
				t.Errorf("%v %s", err, all[0].body)
			}
			if got := all[0].header.Get(headerSerial); got != testPubID {
				t.Errorf("asked for an answer under %q", got)
			}
		})
	}
}

// What cannot be meant is not sent.
func TestEchoRefusesBeforeItAsks(t *testing.T) {
	g, s := against(t, reply{status: 200})
	for name, c := range map[string][3]string{
		"message": {testPubID, "hello", ""}, "key": {"PUB_KEY_ID_9", testEcho, ""},
		"address": {testPubID, testEcho, "http://192.0.2.1/x?y=z"},
	} {
		var ge *payment.GatewayError
		if _, err := g.Echo(t.Context(), c[0], c[1], c[2]); !errors.As(err, &ge) || !ge.NotSent {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := len(s.requests()); n != 0 {
		t.Errorf("%d requests were made", n)
	}
}

// echoNotice is the callback of a test as WeChat Pay sends it.
func echoNotice(change func(top, resource map[string]any)) string {
	plain := fmt.Sprintf(`{"echo_message":%q}`, testEcho)
	return notice(plain, func(top, resource map[string]any) {
		top["event_type"], resource["original_type"] = eventEcho, originalEcho
		if change != nil {
			change(top, resource)
		}
	})
}

// The callback is held against the same checks as money is: a test that is easier to pass proves less than it says.
func TestEchoCallbacks(t *testing.T) {
	g := mustNew(t, testConfig())
	ok := echoNotice(nil)
	got, err := g.ParseEcho(signedHeader(ok), []byte(ok))
	if err != nil || got.Message != testEcho || got.ID == "" || !g.IsEcho([]byte(ok)) {
		t.Fatalf("%+v %v", got, err)
	}
	if _, err := g.ParseNotification(signedHeader(ok), []byte(ok)); !errors.Is(err, payment.ErrMalformed) {
		t.Errorf("a test is believed as a payment: %v", err)
	}
	h := signedHeader(ok)
	h.Set(headerSignature, rsaSign(theWorld().stranger, "x"))
	if got, err := g.ParseEcho(h, []byte(ok)); !errors.Is(err, payment.ErrBadSignature) || got.ID != "" {
		t.Errorf("forged: %+v %v", got, err)
	}
	if got, err := g.ParseEcho(http.Header{}, []byte(ok)); !errors.Is(err, payment.ErrBadSignature) || got.ID != "" {
		t.Errorf("unsigned: %+v %v", got, err)
	}
	sealed := echoNotice(func(_, resource map[string]any) { resource["nonce"] = "0123456789ab" })
	if got, err := g.ParseEcho(signedHeader(sealed), []byte(sealed)); !errors.Is(err, payment.ErrMalformed) ||
		got.ID == "" || got.Message != "" {
		t.Errorf("under another APIv3 key: %+v %v", got, err)
	}
	money := echoNotice(func(_, resource map[string]any) { resource["original_type"] = originalPayment })
	got, err = g.ParseEcho(signedHeader(money), []byte(money))
	if !errors.Is(err, payment.ErrMalformed) || got.ID != "" {
		t.Errorf("of another kind: %+v %v", got, err)
	}
	for _, other := range []string{notice(tradeBody(nil), nil), `"SECURITY_ECHO.SUCCESS"`, `SECURITY_ECHO.SUCCESS`,
		strings.Repeat(" ", MaxNotification) + ok, `{"summary":"SECURITY_ECHO.SUCCESS"}`} {
		if g.IsEcho([]byte(other)) {
			t.Errorf("taken for a test: %.80s", other)
		}
	}
}
