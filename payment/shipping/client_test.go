package shipping_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"orderd/order/ordertest"
	"orderd/payment"
	"orderd/payment/shipping"
	"orderd/payment/wechat"
	"orderd/payment/wechatsim"
)

const secret = "app-secret-canary"

// makeKeys makes the simulator's keys once.
var makeKeys = sync.OnceValues(func() (*wechatsim.Keys, error) {
	return wechatsim.GenerateKeys(ordertest.MchID, ordertest.AppID)
})

// server is a simulator whose server of mini programs is open.
type server struct {
	*wechatsim.Sim
	url string
	now time.Time
}

func serve(t *testing.T) *server {
	t.Helper()
	keys, err := makeKeys()
	if err != nil {
		t.Fatal(err)
	}
	s := &server{now: time.Now()}
	if s.Sim, err = wechatsim.New(wechatsim.Options{Keys: keys, Now: func() time.Time { return s.now },
		AppSecret: secret}); err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s.Handler())
	s.url = h.URL
	t.Cleanup(func() { h.CloseClientConnections(); s.Close(); h.Close() })
	return s
}

// client is one that leaves no connection behind.
func (s *server) client(t *testing.T, change func(*shipping.ClientConfig)) *shipping.Client {
	t.Helper()
	keys, _ := makeKeys()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c := shipping.ClientConfig{AppID: keys.AppID, AppSecret: secret, BaseURL: s.url,
		HTTP: &http.Client{Transport: transport, Timeout: 5 * time.Second}}
	change(&c)
	client, err := shipping.NewClient(c)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// paid gives a payment in the mini program, known to its server.
func (s *server) paid(t *testing.T) string {
	t.Helper()
	keys, _ := makeKeys()
	k := keys.Client()
	g, err := wechat.New(wechat.Config{MchID: k.MchID, AppID: k.AppID, SerialNo: k.SerialNo, APIv3Key: k.APIv3Key,
		PrivateKeyPEM: k.PrivateKeyPEM, VerifyKeys: k.VerifyKeys, BaseURL: s.url, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.CloseIdleConnections)
	const no = "ORDER1-01"
	if _, err = g.Prepay(t.Context(), payment.Attempt{OutTradeNo: no, TradeType: payment.JSAPI, Description: "杯",
		Amount: 100, OpenID: "buyer", NotifyURL: "https://shop.example/notify",
		TimeExpire: s.now.Add(time.Hour).Format(time.RFC3339)}); err == nil {
		err = s.Pay(no, wechatsim.PayOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	s.now = s.now.Add(time.Minute)
	v, _ := s.Trade(no)
	return v.TransactionID
}

func (s *server) upload(id, number string) shipping.Upload {
	return shipping.Upload{TransactionID: id, OpenID: "buyer", At: s.now, Content: parcel("", number).Content}
}

func as(*shipping.ClientConfig) {}

// The server takes part after part up to 15 parcels, and then one replacement of the whole and no second.
func TestClientReportsParts(t *testing.T) {
	s := serve(t)
	c := s.client(t, as)
	id := s.paid(t)
	for i, step := range []struct {
		content shipping.Content
		code    int64
	}{
		{parts(1, true), 0}, {parts(2, true), 0}, {parts(2, true), 10060023}, {parts(3, true), 0},
		{parts(16, false), 10060024}, {parts(15, false), 0}, {parts(14, false), 0}, {parts(13, false), 10060003},
	} {
		v, err := c.Upload(t.Context(), shipping.Upload{TransactionID: id, OpenID: "buyer", At: s.now,
			Content: step.content})
		if err != nil || v.Code != step.code {
			t.Errorf("step %d: %+v, %v, want %d", i, v, err, step.code)
		}
	}
}

// The server takes a report, knows it again, takes one replacement and no second.
func TestClientReports(t *testing.T) {
	s := serve(t)
	c := s.client(t, as)
	id := s.paid(t)
	if st, err := c.Status(t.Context(), id); st != shipping.StatusWaiting || err != nil {
		t.Error(st, err)
	}
	for _, step := range []struct {
		u    shipping.Upload
		code int64
		want shipping.Meaning
	}{
		{s.upload("4200000000000000000", "YT1"), 10060001, shipping.Later},
		{shipping.Upload{TransactionID: id, OpenID: "other", At: s.now, Content: s.upload(id, "YT1").Content}, 10060031,
			shipping.Refused},
		{s.upload(id, "YT1"), 0, shipping.Taken},
		{s.upload(id, "YT1"), 10060023, shipping.Taken},
		{s.upload(id, "YT2"), 0, shipping.Taken},
		{s.upload(id, "YT3"), 10060003, shipping.Look},
	} {
		v, err := c.Upload(t.Context(), step.u)
		if err != nil || v.Code != step.code || v.Means != step.want {
			t.Errorf("%s: %+v, %v; want %d", step.u.Content.Parcels[0].Number, v, err, step.code)
		}
	}
	if st, err := c.Status(t.Context(), id); st != shipping.StatusSent || err != nil {
		t.Error(st, err)
	}
	if got, ok := s.Shipped(id); !ok || got.ShippingList[0].TrackingNo != "YT2" || got.Payer.OpenID != "buyer" {
		t.Errorf("%+v", got)
	}
}

// An access token is kept while it lasts, whoever gave it, and fetched again when it has ended.
func TestClientKeepsItsToken(t *testing.T) {
	s := serve(t)
	id := s.paid(t)
	asked := 0
	shops := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		_, _ = io.WriteString(w, `{"access_token":"`+s.ShippingToken()+`","expires_in":7200}`)
	}))
	t.Cleanup(func() { shops.CloseClientConnections(); shops.Close() })
	own, theirs := s.client(t, as), s.client(t, func(c *shipping.ClientConfig) {
		c.AppSecret, c.TokenURL = "", shops.URL
	})
	for _, c := range []*shipping.Client{own, theirs} {
		for i, want := range []shipping.Meaning{shipping.Taken, shipping.Taken, shipping.Stale, shipping.Taken} {
			if i == 2 {
				s.DropShippingToken()
			}
			if v, err := c.Upload(t.Context(), s.upload(id, "YT1")); err != nil || v.Means != want {
				t.Fatalf("call %d: %+v, %v", i, v, err)
			}
		}
	}
	if asked != 2 {
		t.Errorf("the shop's service was asked %d times for two tokens", asked)
	}
}

// No secret and no token is in an error, whatever goes wrong.
func TestClientErrorsHaveNoSecrets(t *testing.T) {
	s := serve(t)
	id := s.paid(t)
	c := s.client(t, as)
	if _, err := c.Upload(t.Context(), s.upload(id, "YT1")); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	var all []error
	_, err := c.Upload(ended, s.upload(id, "YT1"))
	all = append(all, err)
	for _, f := range []wechatsim.Fault{
		{Endpoint: "shipping", Kind: wechatsim.FaultCutBefore, Count: 1},
		{Endpoint: "shipping", Kind: wechatsim.FaultCutAfter, Count: 1},
		{Endpoint: "shipping", Kind: wechatsim.FaultStatus, Status: 502, Count: 1},
	} {
		if err := s.AddFault(f); err != nil {
			t.Fatal(err)
		}
		_, err := c.Upload(t.Context(), s.upload(id, "YT1"))
		all = append(all, err)
	}
	_, err = s.client(t, func(c *shipping.ClientConfig) { c.AppSecret = "wrong-" + secret }).
		Upload(t.Context(), s.upload(id, "YT1"))
	var refused *shipping.TokenError
	if !errors.As(err, &refused) || refused.Code != 40125 {
		t.Errorf("a wrong secret: %v", err)
	}
	all = append(all, err)
	_, err = s.client(t, func(c *shipping.ClientConfig) {
		c.AppSecret, c.TokenURL = "", "http://user:"+secret+"@127.0.0.1:1/token"
	}).Upload(t.Context(), s.upload(id, "YT1"))
	all = append(all, err)
	for i, err := range all {
		if err == nil {
			t.Errorf("%d: no error", i)
			continue
		}
		if text := err.Error(); strings.Contains(text, secret) || strings.Contains(text, "access_token=") {
			t.Errorf("%d: %s", i, text)
		}
	}
}

// A code of a fault is an answer as any other.
func TestCodesOfTheServer(t *testing.T) {
	s := serve(t)
	id := s.paid(t)
	c := s.client(t, as)
	for code, want := range map[string]shipping.Meaning{"-1": shipping.Later, "45009": shipping.Later,
		"48001": shipping.Setting, "10060009": shipping.Refused, "99999": shipping.Refused} {
		if err := s.AddFault(wechatsim.Fault{Endpoint: "shipping", Kind: wechatsim.FaultStatus, Status: 500, Code: code,
			Count: 1, OutTradeNo: "ORDER1-01"}); err != nil {
			t.Fatal(err)
		}
		if v, err := c.Upload(t.Context(), s.upload(id, "YT1")); err != nil || v.Means != want {
			t.Errorf("%s: %+v, %v", code, v, err)
		}
	}
}
