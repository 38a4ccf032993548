package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order/orderhttp"
	"orderd/payment/wechat"
	"orderd/payment/wechatsim"
)

// fakeMerchant is a simulator that takes the place of WeChat Pay, and the settings of its merchant as flags.
type fakeMerchant struct {
	sim  *wechatsim.Sim
	http *httptest.Server
	dir  string
	set  map[string]string
}

// fakeSecret is the secret of the fake merchant's mini program.
const fakeSecret = "shipping-secret-canary"

func newFakeMerchant(t *testing.T, change ...func(*wechatsim.Options)) *fakeMerchant {
	t.Helper()
	keys := wechatKeys(t)
	m := &fakeMerchant{dir: t.TempDir()}
	o := wechatsim.Options{Keys: keys, Now: time.Now, AppSecret: fakeSecret}
	for _, c := range change {
		c(&o)
	}
	var err error
	if m.sim, err = wechatsim.New(o); err != nil {
		t.Fatal(err)
	}
	m.http = httptest.NewServer(m.sim.Handler())
	t.Cleanup(func() { m.sim.Close(); m.http.Close() })
	c := keys.Client()
	m.set = map[string]string{"wechat-mchid": c.MchID, "wechat-appid": c.AppID, "wechat-serial-no": c.SerialNo,
		"wechat-private-key": c.PrivateKeyPEM, "wechat-apiv3-key": c.APIv3Key, "wechat-base-url": m.http.URL,
		"wechat-notify-url":   "https://192.0.2.1" + orderhttp.PathNotifyPayment,
		"wechat-verify-keys":  m.files(t, c.VerifyKeys),
		"customer-jwt-secret": strings.Repeat("s", 32)}
	if code, _, errs := words(t, "migrate", "up", "--data-dir", m.dir); code != exitOK {
		t.Fatal(errs)
	}
	return m
}

// files writes keys and gives them as the setting has them.
func (m *fakeMerchant) files(t *testing.T, keys map[string][]byte) string {
	t.Helper()
	var all []string
	dir := t.TempDir()
	for id, pem := range keys {
		path := filepath.Join(dir, id)
		if err := os.WriteFile(path, pem, 0o600); err != nil {
			t.Fatal(err)
		}
		all = append(all, id+"="+path)
	}
	return strings.Join(all, ",")
}

// verb runs a verb with the settings, some of them changed.
func (m *fakeMerchant) verb(t *testing.T, change map[string]string, args ...string) (int, string) {
	t.Helper()
	args = append(args, "--data-dir", m.dir)
	for name, value := range m.set {
		if v, ok := change[name]; ok {
			value = v
		}
		args = append(args, "--"+name+"="+value)
	}
	code, out, errs := words(t, args...)
	return code, out + errs
}

// The first day of a shop goes wrong in its keys, and doctor is who is asked. One that says ok of a wrong serial
// number, of the key of somebody else or of a WeChat Pay that is away sends its reader to look elsewhere.
func TestDoctorSaysWhatWeChatPaySays(t *testing.T) {
	m := newFakeMerchant(t)
	foreign := foreignKeys(t)
	// Their keys under the ids of ours.
	theirs := map[string][]byte{}
	for _, pair := range strings.Split(m.set["wechat-verify-keys"], ",") {
		id, _, _ := strings.Cut(pair, "=")
		if strings.HasPrefix(id, "PUB_KEY_ID_") {
			theirs[id] = foreign.Client().VerifyKeys[foreign.Client().PublicKeyID]
		}
	}
	away, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := "http://" + away.Addr().String()
	_ = away.Close()
	path := orderhttp.PathNotifyPayment
	for _, c := range []struct {
		name, setting, value, fault string
		code                        int
		want                        string
	}{
		{name: "all right", code: exitOK, want: "ok    wechat.answer"},
		{name: "serial", setting: "wechat-serial-no", value: "AAAAAAAAAA", code: exitUsage,
			want: "ORDERD_WECHAT_SERIAL_NO"},
		{name: "private key", setting: "wechat-private-key", value: foreign.Client().PrivateKeyPEM, code: exitUsage,
			want: "ORDERD_WECHAT_PRIVATE_KEY"},
		{name: "down", setting: "wechat-base-url", value: gone, code: exitDown, want: "way out of this network"},
		{name: "key file", setting: "wechat-verify-keys", value: m.files(t, theirs), code: exitUsage,
			want: "not the key of its id"},
		{name: "unknown key", fault: "query=unknown_serial", code: exitUsage, want: "lacks that key"},
		{name: "clock", fault: "query=old_timestamp", code: exitUsage, want: "NTP"},
		{name: "no income", fault: "query=status:403:NO_AUTH", code: exitUsage, want: "merchant platform"},
		{name: "failing", fault: "query=status:500:SYSTEM_ERROR", code: exitDown, want: "Ask again"},
		{name: "at home", setting: "wechat-notify-url", value: "https://192.168.1.7" + path, code: exitUsage,
			want: "private address"},
		{name: "here", setting: "wechat-notify-url", value: "https://localhost" + path, code: exitUsage,
			want: "private address"},
		{name: "plain", setting: "wechat-notify-url", value: "http://192.0.2.1/x", code: exitUsage,
			want: "wants HTTPS"},
		// A simulator on this machine may call this machine.
		{name: "both here", setting: "wechat-notify-url", value: gone + path, code: exitOK,
			want: "it could not be asked from here"},
		{name: "another here", setting: "wechat-notify-url", value: m.http.URL + path, code: exitUsage,
			want: "is no orderd"},
	} {
		if c.fault != "" {
			f, err := wechatsim.ParseFault(c.fault)
			if err == nil {
				err = m.sim.AddFault(f)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		code, said := m.verb(t, map[string]string{c.setting: c.value}, "doctor")
		if code != c.code || !strings.Contains(said, c.want) {
			t.Errorf("%s: exit %d, want %d and %q\n%s", c.name, code, c.code, c.want, said)
		}
		m.sim.ClearFaults()
	}
}

// A secret or a service of access tokens that is wrong is found by who asks, and not 36 hours after the first payment.
func TestDoctorTriesTheShippingToken(t *testing.T) {
	m := newFakeMerchant(t)
	tokens := httptest.NewServer(says(200, `{"access_token":"of-another-app-canary","expires_in":7200}`))
	defer tokens.Close()
	m.set["shipping-base-url"] = m.http.URL
	const secret, service = "shipping-app-secret", "shipping-token-url"
	for name, c := range map[string]struct {
		setting, value string
		status         int // of the server for mini programs, 0: its own
		wechat         string
		code           int
		want           string
	}{
		"off":         {code: exitOK},
		"all right":   {setting: secret, value: fakeSecret, code: exitOK, want: "ok    shipping.token"},
		"wrong":       {setting: secret, value: "canary", code: exitUsage, want: "ORDERD_SHIPPING_APP_SECRET"},
		"another app": {setting: service, value: tokens.URL, code: exitUsage, want: "ORDERD_SHIPPING_TOKEN_URL"},
		"no right": {setting: secret, value: fakeSecret, status: 500, wechat: "48001", code: exitUsage,
			want: "management of shipments"},
		"busy": {setting: secret, value: fakeSecret, status: 500, wechat: "45011", code: exitDown,
			want: "Ask again"},
		"failing": {setting: secret, value: fakeSecret, status: 500, code: exitDown, want: "way out"},
		"down":    {setting: service, value: "http://127.0.0.1:1/canary", code: exitDown, want: "way out"},
	} {
		if c.status != 0 {
			if err := m.sim.AddFault(wechatsim.Fault{Endpoint: "shipping", Kind: wechatsim.FaultStatus,
				Status: c.status, Code: c.wechat}); err != nil {
				t.Fatal(err)
			}
		}
		args := []string{"doctor"}
		if c.setting != "" {
			args = append(args, "--"+c.setting+"="+c.value)
		}
		code, said := m.verb(t, nil, args...)
		if code != c.code || !strings.Contains(said, c.want) || strings.Contains(said, "canary") ||
			c.setting == "" && strings.Contains(said, "shipping") {
			t.Errorf("%s: exit %d, want %d and %q\n%s", name, code, c.code, c.want, said)
		}
		m.sim.ClearFaults()
	}
}

// A job asks about an order while WeChat Pay is away: it shall come again, and not call a person.
func TestVerbsThatAskWeChatPayWhenItIsDown(t *testing.T) {
	m := newFakeMerchant(t)
	for _, args := range [][]string{{"reconcile", "run", "--date", "yesterday"}} {
		code, said := m.verb(t, map[string]string{"wechat-base-url": "http://127.0.0.1:1"}, args...)
		if code != exitDown || !strings.Contains(said, "doctor") {
			t.Errorf("%v: exit %d\n%s", args, code, said)
		}
	}
}

// A notify_url that leads to another program loses every notification, and each is answered as if it were taken.
func TestWhoAnswersAtTheNotifyURL(t *testing.T) {
	ours, err := orderhttp.NewNotify(orderhttp.NotifyOptions{Notifications: nobodyNotifies{}, Settler: nobodyNotifies{},
		Echoes: nobodyNotifies{}, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		handler http.Handler
		want    string
	}{
		"orderd":    {ours, ""},
		"web page":  {says(200, "<html>"), "200 OK"},
		"redirect":  {http.RedirectHandler("https://example.com/", http.StatusFound), "302"},
		"other api": {says(404, `{"type":"about:blank"}`), "404"},
	} {
		s := httptest.NewServer(c.handler)
		who, err := whoAnswers(t.Context(), s.URL+orderhttp.PathNotifyPayment)
		s.Close()
		if err != nil || (who == "") != (c.want == "") || !strings.Contains(who, c.want) {
			t.Errorf("%s: %q %v", name, who, err)
		}
	}
}

// says answers everything alike.
func says(status int, body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	})
}

// nobodyNotifies is never asked.
type nobodyNotifies struct {
	orderhttp.Notifications
	orderhttp.Settler
	orderhttp.Echoes
}

// A certificate that is not in force yet is no "valid" one: with it alone nothing is believed.
func TestDoctorSaysWhenAKeyIsValid(t *testing.T) {
	now := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		from, to time.Time
		level    sqldb.Level
		found    string
	}{
		"public key":  {level: sqldb.LevelOK, found: "valid"},
		"in force":    {now.Add(-time.Hour), now.AddDate(1, 0, 0), sqldb.LevelOK, "valid"},
		"the next":    {now.AddDate(0, 0, 3), now.AddDate(5, 0, 0), sqldb.LevelOK, "not valid before 2026-11-23"},
		"ends soon":   {now.AddDate(-1, 0, 0), now.AddDate(0, 0, 3), sqldb.LevelWarn, "ends 2026-11-23"},
		"ended":       {now.AddDate(-1, 0, 0), now.AddDate(0, 0, -3), sqldb.LevelWarn, "ends 2026-11-17"},
		"soon, brief": {now.AddDate(0, 0, 3), now.AddDate(0, 0, 4), sqldb.LevelOK, "not valid before 2026-11-23"},
	} {
		got := keyFinding(wechat.KeyState{ID: "X", NotBefore: c.from, NotAfter: c.to}, now)
		if got.Level != c.level || got.Found != c.found {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// Before the tables are made, doctor says what TiDB must be told first: afterwards it mends nothing.
func TestDoctorSaysWhatTiDBNeedsBeforeMigrate(t *testing.T) {
	dsn, answer := sqldbtest.AsTiDB(t)
	answer(false)
	code, out, _ := words(t, "doctor", "--dsn", dsn, "--data-dir", t.TempDir())
	first, second := strings.Index(out, "SET GLOBAL tidb_enable_check_constraint = ON before 'orderd migrate up'"),
		strings.Index(out, "database.schema")
	if code == exitOK || first < 0 || second < first {
		t.Errorf("exit %d:\n%s", code, out)
	}
	if code, _, errs := words(t, "migrate", "up", "--dsn", dsn); code != exitUsage ||
		!strings.Contains(errs, "SET GLOBAL tidb_enable_check_constraint = ON") {
		t.Errorf("migrate up: exit %d: %s", code, errs)
	}
	answer(true)
	if _, out, _ := words(t, "doctor", "--dsn", dsn, "--data-dir", t.TempDir()); strings.Contains(out, "tidb.checks") {
		t.Errorf("checks are kept:\n%s", out)
	}
}
