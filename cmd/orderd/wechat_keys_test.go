package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"orderd/order"
	"orderd/payment/wechatsim"
)

// shop is a service with a real merchant's settings on embedded parts, and the WeChat Pay that it speaks to.
type shop struct {
	*app
	sim *wechatsim.Sim
	log *lockedBuffer
	dir string
	ids []string // of WeChat Pay's keys: the public key first, then the certificates
}

// newShop starts one. change has the last word on the settings.
func newShop(t *testing.T, o wechatsim.Options, change func(*shop, *settings)) *shop {
	t.Helper()
	var err error
	o.Keys, o.Now = wechatKeys(t), time.Now
	m := &shop{log: &lockedBuffer{}, dir: t.TempDir()}
	if m.sim, err = wechatsim.New(o); err != nil {
		t.Fatal(err)
	}
	api := httptest.NewServer(m.sim.Handler())
	t.Cleanup(func() { m.sim.Close(); api.Close() })
	m.start(t, o.Keys.Client(), api.URL, change)
	return m
}

// start starts the service, with every key of WeChat Pay's unless change says otherwise.
func (m *shop) start(t *testing.T, c wechatsim.ClientConfig, url string, change func(*shop, *settings)) {
	t.Helper()
	m.ids = []string{c.PublicKeyID}
	for id, pem := range c.VerifyKeys {
		if err := os.WriteFile(m.file(id), pem, 0o600); err != nil {
			t.Fatal(err)
		}
		if id != c.PublicKeyID {
			m.ids = append(m.ids, id)
		}
	}
	slices.Sort(m.ids[1:])
	log := slog.New(slog.NewTextHandler(m.log, nil))
	m.app = embeddedWith(t, m.dir, log, func(s *settings) {
		s.JWTSecret, s.AdminToken = strings.Repeat("j", minToken), strings.Repeat("a", minToken)
		s.MchID, s.AppID, s.SerialNo, s.PrivateKey, s.APIv3Key = c.MchID, c.AppID, c.SerialNo, c.PrivateKeyPEM,
			c.APIv3Key
		s.VerifyKeys, s.BaseURL = m.verify(m.ids...), url
		s.NotifyURL = "http://" + s.NotifyAddr + "/wechat/v3/notify/payment"
		s.origins = map[string]string{}
		if change != nil {
			change(m, s)
		}
	})
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
}

// file is where the key of an id is; verify is the setting with those of the ids.
func (m *shop) file(id string) string { return filepath.Join(m.dir, id+".pem") }

func (m *shop) verify(ids ...string) string {
	var pairs []string
	for _, id := range ids {
		pairs = append(pairs, id+"="+m.file(id))
	}
	return strings.Join(pairs, ",")
}

// get is a page of the operators' listener.
func (m *shop) get(t *testing.T, path string) string {
	t.Helper()
	res, err := http.Get("http://" + m.Admin + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d %s", res.StatusCode, b)
}

// alarms is the number of alarms so far.
func (m *shop) alarms(t *testing.T) (n int) {
	t.Helper()
	kinds := 0
	for line := range strings.Lines(m.get(t, "/metrics")) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !strings.HasPrefix(series, "orderd_alarms_total{") {
			continue
		}
		of, err := strconv.Atoi(value)
		if err != nil {
			t.Fatal(line, err)
		}
		n, kinds = n+of, kinds+1
	}
	if kinds == 0 {
		t.Fatal("no orderd_alarms_total")
	}
	return n
}

// placed places an order, prepays it and gives both numbers and the status of the prepay.
func (m *shop) placed(t *testing.T, key string) (orderNo, outTradeNo string, status int) {
	t.Helper()
	var o struct {
		OrderNo    string `json:"order_no"`
		OutTradeNo string `json:"out_trade_no"`
	}
	items := map[string]any{"items": []any{map[string]any{"sku_id": "1001", "quantity": 1}}}
	if st := buy(t, m.app, "/v1/orders", key, items, &o); st != http.StatusCreated {
		t.Fatal(st)
	}
	status = buy(t, m.app, "/v1/orders/"+o.OrderNo+"/prepay", "", map[string]any{"trade_type": "NATIVE"}, &o)
	return o.OrderNo, o.OutTradeNo, status
}

func (m *shop) arm(t *testing.T, faults ...wechatsim.Fault) {
	t.Helper()
	for _, f := range faults {
		if err := m.sim.AddFault(f); err != nil {
			t.Fatal(err)
		}
	}
}

// waitFor polls; it times nothing.
func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

// The commonest state of a first day and of a change of keys: WeChat Pay signs with a key that is not configured.
// Without this every payment is stranded and nothing says so. With it operators are told which key, in the log, at
// /readyz, by an alarm; and once the key is believed the paid order is paid.
func TestTheOtherKeyIsSaid(t *testing.T) {
	m := newShop(t, wechatsim.Options{Speed: 60}, nil)
	no, trade, st := m.placed(t, "k1")
	if st != http.StatusOK {
		t.Fatal(st)
	}
	if before := m.get(t, "/readyz"); !strings.HasPrefix(before, "200") || !strings.Contains(before, `"wechat"`) ||
		strings.Contains(before, "warn") {
		t.Errorf("before: %s", before)
	}
	for _, endpoint := range []string{"prepay", "query", "close", "notify"} {
		m.arm(t, wechatsim.Fault{Endpoint: endpoint, Kind: wechatsim.FaultUnknownSerial})
	}
	if err := m.sim.Pay(trade, wechatsim.PayOptions{Notify: true}); err != nil {
		t.Fatal(err)
	}
	const serial = "7E57AAAABBBBCCCCDDDDEEEEFFFF000011112222" // the simulator's
	waitFor(t, "no callback under the other key was counted", func() bool {
		return strings.Contains(m.get(t, "/metrics"), `orderd_notify_total{outcome="unknown_key"}`)
	})
	if st := buy(t, m.app, "/v1/orders/"+no+"/cancel", "c", map[string]any{}, nil); st != http.StatusAccepted {
		t.Errorf("cancel of a paid order, unprovable: %d", st)
	}
	if n := m.alarms(t); n == 0 || n > 4 {
		t.Errorf("%d alarms: one for answers, one for callbacks, and no storm", n)
	}
	if log := m.log.String(); !strings.Contains(log, serial) {
		t.Errorf("the log does not name the key:\n%s", log)
	}
	waitFor(t, "/readyz does not name the key and the setting", func() bool { // it looks once a second
		got := m.get(t, "/readyz")
		return strings.HasPrefix(got, "200") && strings.Contains(got, serial) &&
			strings.Contains(got, "ORDERD_WECHAT_VERIFY_KEYS")
	})
	m.sim.ClearFaults()
	waitFor(t, "the paid order stays stranded", func() bool {
		o, err := m.orders.Find(t.Context(), no)
		return err == nil && o.State == order.StatePaid
	})
	if _, _, st := m.placed(t, "k2"); st != http.StatusOK {
		t.Errorf("the next prepay: %d", st)
	}
	waitFor(t, "/readyz goes on warning", func() bool { return !strings.Contains(m.get(t, "/readyz"), "warn") })
	if got := m.get(t, "/readyz"); !strings.Contains(got, "last verified answer") {
		t.Errorf("after: %s", got)
	}
}

// 403 NO_AUTH on a prepay is "this shop takes no money until somebody acts". Without this it is one of many
// "unavailable".
func TestNoIncomeRaisesAnAlarm(t *testing.T) {
	for _, endpoint := range []string{"prepay", "close"} {
		t.Run(endpoint, func(t *testing.T) {
			m := newShop(t, wechatsim.Options{Speed: 60}, nil)
			fault := wechatsim.Fault{Endpoint: endpoint, Kind: wechatsim.FaultStatus, Status: 403, Code: "NO_AUTH"}
			if endpoint == "prepay" {
				m.arm(t, fault)
			}
			no, trade, st := m.placed(t, "k1")
			if endpoint == "close" {
				m.arm(t, fault)
				if err := m.sim.Pay(trade, wechatsim.PayOptions{}); err != nil {
					t.Fatal(err)
				}
				// The close is refused, the query is not: the order is paid, and its stock stays sold.
				st = buy(t, m.app, "/v1/orders/"+no+"/cancel", "c", map[string]any{}, nil)
				if st != http.StatusConflict {
					t.Errorf("cancel of a paid order whose close is refused: %d", st)
				}
			} else if st != http.StatusServiceUnavailable {
				t.Errorf("prepay: %d", st)
			}
			if n := m.alarms(t); n != 1 {
				t.Errorf("%d alarms", n)
			}
			if log := m.log.String(); !strings.Contains(log, "NO_AUTH") || !strings.Contains(log, "simulated fault") {
				t.Errorf("the log lacks WeChat Pay's code or message:\n%s", log)
			}
		})
	}
}

// settingsOf are the arguments of a merchant's verb, with changes; a nil change leaves its flag out.
func settingsOf(t *testing.T, change map[string]string) []string {
	t.Helper()
	keys := wechatKeys(t)
	c, dir := keys.Client(), t.TempDir()
	file := filepath.Join(dir, "key.pem")
	if err := os.WriteFile(file, c.VerifyKeys[c.PublicKeyID], 0o600); err != nil {
		t.Fatal(err)
	}
	free := func() string {
		addr, err := freeAddr()
		if err != nil {
			t.Fatal(err)
		}
		return addr
	}
	all := map[string]string{"data-dir": dir, "wechat-mchid": c.MchID, "wechat-appid": c.AppID,
		"wechat-serial-no": c.SerialNo, "wechat-private-key": c.PrivateKeyPEM, "wechat-apiv3-key": c.APIv3Key,
		"wechat-verify-keys":  c.PublicKeyID + "=" + file,
		"wechat-notify-url":   "https://shop.example.com/wechat/v3/notify/payment",
		"customer-jwt-secret": strings.Repeat("j", minToken), "bootstrap-admin-token": strings.Repeat("a", minToken),
		"api-addr": free(), "notify-addr": free(), "admin-addr": free(), "wechat-base-url": "http://127.0.0.1:1",
		"log-level": "error"}
	for name, value := range change {
		all[name] = strings.ReplaceAll(value, "FILE", file)
	}
	var args []string
	for name, value := range all {
		if value != "" {
			args = append(args, "--"+name+"="+value)
		}
	}
	return args
}

// Two sets of keys for all tests: to make one takes most of a second.
var wechatKeysOnce, foreignKeysOnce = sync.OnceValues(makeKeys), sync.OnceValues(makeKeys)

func makeKeys() (*wechatsim.Keys, error) { return wechatsim.GenerateKeys(simMchID, simAppID) }

// wechatKeys are those of the merchant. They are not to be changed.
func wechatKeys(t *testing.T) *wechatsim.Keys {
	t.Helper()
	keys, err := wechatKeysOnce()
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// foreignKeys are those of somebody else. They are not to be changed.
func foreignKeys(t *testing.T) *wechatsim.Keys {
	t.Helper()
	keys, err := foreignKeysOnce()
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// `config check` is what a person runs before a change of keys. Without this it says "can be used" of what serve
// refuses, and serve names what is not a setting.
func TestConfigCheckIsServe(t *testing.T) {
	for name, tc := range map[string]struct {
		change map[string]string
		names  string // the setting in the error; "" = both start
	}{
		"good":            {nil, ""},
		"two public keys": {map[string]string{"wechat-verify-keys": "PUB_KEY_ID_01=FILE,PUB_KEY_ID_02=FILE"}, ""},
		"two and which": {map[string]string{"wechat-verify-keys": "PUB_KEY_ID_01=FILE,PUB_KEY_ID_02=FILE",
			"wechat-response-key": "PUB_KEY_ID_02"}, ""},
		"an unknown one": {map[string]string{"wechat-response-key": "PUB_KEY_ID_09"},
			"ORDERD_WECHAT_RESPONSE_KEY"},
		"short APIv3 key": {map[string]string{"wechat-apiv3-key": "short"},
			"ORDERD_WECHAT_APIV3_KEY"},
		"one twice": {map[string]string{"wechat-verify-keys": "AB01=FILE,ab01=FILE"},
			"ORDERD_WECHAT_VERIFY_KEYS"},
		"the same id twice": {map[string]string{"wechat-verify-keys": "PUB_KEY_ID_01=FILE,PUB_KEY_ID_01=FILE"},
			"ORDERD_WECHAT_VERIFY_KEYS"},
		"no such file": {map[string]string{"wechat-verify-keys": "PUB_KEY_ID_01=/nowhere.pem"},
			"ORDERD_WECHAT_VERIFY_KEYS"},
		"serial number": {map[string]string{"wechat-serial-no": "xyz"},
			"ORDERD_WECHAT_SERIAL_NO"},
		"private key": {map[string]string{"wechat-private-key": "not PEM"},
			"ORDERD_WECHAT_PRIVATE_KEY"},
		"merchant number": {map[string]string{"wechat-mchid": "mch"},
			"ORDERD_WECHAT_MCHID"},
		"base URL": {map[string]string{"wechat-base-url": "http://pay.example.com"},
			"ORDERD_WECHAT_BASE_URL"},
		"no notify URL": {map[string]string{"wechat-notify-url": ""},
			"ORDERD_WECHAT_NOTIFY_URL"},
		"notify URL with a query": {map[string]string{"wechat-notify-url": "https://a.example.com/n?x=1"},
			"ORDERD_WECHAT_NOTIFY_URL"},
		"notify URL not https": {map[string]string{"wechat-notify-url": "ftp://a.example.com/n"},
			"ORDERD_WECHAT_NOTIFY_URL"},
		"refund URL": {map[string]string{"wechat-refund-notify-url": "nonsense"},
			"ORDERD_WECHAT_REFUND_NOTIFY_URL"},
		"no customers' key": {map[string]string{"customer-jwt-secret": ""},
			"ORDERD_CUSTOMER_JWT_SECRET"},
		"customers' key bad": {map[string]string{"customer-jwt-secret": "short"},
			"ORDERD_CUSTOMER_JWT_SECRET"},
		"no admin token": {map[string]string{"bootstrap-admin-token": ""},
			"ORDERD_BOOTSTRAP_ADMIN_TOKEN"},
		"redis": {map[string]string{"redis": "http://x"},
			"ORDERD_REDIS"},
		"replica of no server": {map[string]string{"read-dsn": "mysql:u@tcp(127.0.0.1:1)/shop"},
			"ORDERD_READ_DSN"},
		"no lag at all": {map[string]string{"read-lag": "1ms"}, "ORDERD_READ_LAG"},
		"redis of gates": {map[string]string{"gate-redis": "http://x"},
			"ORDERD_GATE_REDIS"},
	} {
		t.Run(name, func(t *testing.T) {
			args := settingsOf(t, tc.change)
			code, out, errs := words(t, append([]string{"config", "check"}, args...)...)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var o, e lockedBuffer
			served := make(chan int, 1)
			go func() {
				served <- run(ctx, append([]string{"serve"}, args...),
					&terminal{In: strings.NewReader(""), Out: &o, Err: &e})
			}()
			up := func() bool { return strings.Contains(e.String(), "/readyz") || len(served) > 0 }
			until(t, "serve", up)
			cancel()
			began := <-served
			if tc.names == "" {
				if code != exitOK || began != exitOK {
					t.Errorf("check %d, serve %d\n%s%s\n%s", code, began, out, errs, e.String())
				}
				return
			}
			if code == exitOK || began != code || !strings.Contains(errs, tc.names) ||
				!strings.Contains(e.String(), tc.names) {
				t.Errorf("check %d, serve %d, both want %s\n%s\n%s", code, began, tc.names, errs, e.String())
			}
		})
	}
}

// A refund made on the merchant platform is told in the older API's form. Without this it is refused for a day and
// counted among the forgeries; with it it is acknowledged as that API wants, and changes nothing.
func TestRefundOnThePlatformIsAcknowledged(t *testing.T) {
	m := newShop(t, wechatsim.Options{}, nil)
	body := "<xml><return_code>SUCCESS</return_code><mch_id>" + m.s.MchID + "</mch_id><nonce_str>5K8264</nonce_str>" +
		"<req_info>T87GAHG17TGAHG1TGHAHAHA1Y1CIOA9UGJA=</req_info></xml>"
	for _, path := range []string{"/wechat/v3/notify/refund", "/wechat/v3/notify/payment"} {
		res, err := http.Post("http://"+dialable(m.Notify)+path, "text/xml", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(res.Body)
		if err := errors.Join(err, res.Body.Close()); err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != http.StatusOK || !strings.Contains(string(answer), "<return_code><![CDATA[SUCCESS]]>") {
			t.Errorf("%s: %d %s", path, res.StatusCode, answer)
		}
	}
	if got := m.get(t, "/metrics"); !strings.Contains(got, `orderd_notify_total{outcome="v2_refund"} 2`) ||
		!strings.Contains(got, `orderd_notify_total{outcome="unsigned"} 0`) {
		t.Error("not counted as what it is")
	}
}
