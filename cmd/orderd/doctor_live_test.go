package main

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"orderd/migrations/sqldb"
	"orderd/order/orderhttp"
	"orderd/payment/echoes"
	"orderd/payment/wechat"
	"orderd/payment/wechatsim"
)

// liveShop is a merchant whose callbacks are taken by a listener of another process than doctor: all that the two
// share is the database.
type liveShop struct {
	*fakeMerchant
	address string // of the payments' notifications
}

// newLiveShop opens the listener with the settings of the merchant, some of them changed: a server may be configured
// otherwise than its doctor. front stands before it, nil for nothing.
func newLiveShop(t *testing.T, change map[string]string, front func(http.Handler) http.Handler) *liveShop {
	t.Helper()
	m := &liveShop{fakeMerchant: newFakeMerchant(t)}
	db, err := sqldb.OpenExisting(t.Context(), "sqlite:"+filepath.Join(m.dir, "orderd.db"))
	if err != nil {
		t.Fatal(err)
	}
	g, err := m.settings(change).merchant()
	if err != nil {
		t.Fatal(err)
	}
	var h http.Handler
	h, err = orderhttp.NewNotify(orderhttp.NotifyOptions{Notifications: g, Settler: nobodyNotifies{},
		Echoes: echoes.New(db, time.Now), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	if front != nil {
		h = front(h)
	}
	server := httptest.NewServer(h)
	m.address = server.URL + orderhttp.PathNotifyPayment
	t.Cleanup(func() { server.Close(); _ = db.Close() })
	return m
}

// settings are those of the merchant, some of them changed.
func (m *fakeMerchant) settings(change map[string]string) *settings {
	set := maps.Clone(m.set)
	maps.Copy(set, change)
	return &settings{DataDir: m.dir, MchID: set["wechat-mchid"], AppID: set["wechat-appid"],
		SerialNo: set["wechat-serial-no"], PrivateKey: set["wechat-private-key"], APIv3Key: set["wechat-apiv3-key"],
		VerifyKeys: set["wechat-verify-keys"], BaseURL: set["wechat-base-url"], NotifyURL: set["wechat-notify-url"]}
}

// live runs the live check alone, as doctor does: the others refuse an address on this machine.
func (m *liveShop) live(t *testing.T, change map[string]string, wait time.Duration) ([]diagnosis, string) {
	t.Helper()
	set := map[string]string{"wechat-notify-url": m.address}
	maps.Copy(set, change)
	s := m.settings(set)
	db, err := sqldb.OpenExisting(t.Context(), "sqlite:"+filepath.Join(m.dir, "orderd.db"))
	if err != nil {
		t.Fatal(err)
	}
	p := &patient{s: s, wait: wait, db: db}
	defer p.close()
	if p.gateway, err = s.merchant(); err != nil {
		t.Fatal(err)
	}
	found := checkLive(t.Context(), p)
	text, err := json.MarshalIndent(found, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return found, string(text)
}

// of gives the finding of an id.
func of(t *testing.T, found []diagnosis, id string) diagnosis {
	t.Helper()
	for _, d := range found {
		if d.ID == id {
			return d
		}
	}
	t.Errorf("nothing is said of %s: %+v", id, found)
	return diagnosis{}
}

// The first live call of a shop was a payment: keys, clock, firewall and proxy are now asked before, and what is wrong
// is named. Said to be right without its callback, the check would be worse than none.
func TestLiveCheckOfAShopThatIsInOrder(t *testing.T) {
	m := newLiveShop(t, nil, nil)
	found, text := m.live(t, nil, time.Minute)
	if len(found) != 5 { // three keys, two addresses
		t.Errorf("%d findings: %s", len(found), text)
	}
	for _, d := range found {
		if d.Level != sqldb.LevelOK {
			t.Errorf("%s: %s %s", d.ID, d.Level, d.Found)
		}
	}
	for _, id := range []string{"wechat.callback", "wechat.refund_callback"} {
		if d := of(t, found, id); !strings.Contains(d.Found, "verified and decrypted") {
			t.Errorf("%s: %s", id, d.Found)
		}
	}
	if n := len(m.sim.Trades()); n != 0 {
		t.Errorf("%d trades were opened", n)
	}
}

// Each thing that goes wrong on the first day has its own words and its own exit code.
func TestLiveCheckNamesWhatIsWrong(t *testing.T) {
	foreign := foreignKeys(t)
	silent := func(http.Handler) http.Handler { return says(http.StatusOK, "OK") } // another program takes it
	changed := func(h http.Handler) http.Handler {                                 // a proxy that loses a header
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del("Wechatpay-Nonce")
			h.ServeHTTP(w, r)
		})
	}
	for _, c := range []struct {
		name, id string
		server   map[string]string // settings of the listener that differ
		front    func(http.Handler) http.Handler
		doctor   map[string]string // settings of doctor that differ
		fault    string
		code     int
		want     string
	}{
		{name: "serial", id: "wechat.echo", code: exitUsage, want: "ORDERD_WECHAT_SERIAL_NO",
			doctor: map[string]string{"wechat-serial-no": "AAAAAAAAAA"}},
		{name: "private key", id: "wechat.echo", code: exitUsage, want: "ORDERD_WECHAT_PRIVATE_KEY",
			doctor: map[string]string{"wechat-private-key": foreign.Client().PrivateKeyPEM}},
		{name: "down", id: "wechat.echo", doctor: map[string]string{"wechat-base-url": "http://127.0.0.1:1"},
			code: exitDown, want: "way out of this network"},
		{name: "clock", id: "wechat.echo", fault: "echo=old_timestamp", code: exitUsage, want: "NTP"},
		{name: "unknown key", id: "wechat.echo", fault: "echo=unknown_serial", code: exitUsage, want: "lacks that key"},
		{name: "not permitted", id: "wechat.echo", fault: "echo=status:403:NO_AUTH", code: exitUsage,
			want: "merchant platform"},
		{name: "failing", id: "wechat.echo", fault: "echo=status:500:SYSTEM_ERROR", code: exitDown, want: "Ask again"},
		{name: "kept out", id: "wechat.callback", fault: "notify=drop", code: exitFailed, want: "firewall"},
		{name: "other program", id: "wechat.callback", front: silent, code: exitFailed,
			want: "ORDERD_WECHAT_NOTIFY_URL must lead there"},
		{name: "refunds' address", id: "wechat.refund_callback", front: silent, code: exitFailed,
			want: "ORDERD_WECHAT_REFUND_NOTIFY_URL must lead there"},
		{name: "proxy changes it", id: "wechat.callback", front: changed, code: exitFailed, want: "headers"},
		{name: "APIv3 key", id: "wechat.callback", code: exitUsage, want: "ORDERD_WECHAT_APIV3_KEY",
			server: map[string]string{"wechat-apiv3-key": foreign.APIv3Key}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newLiveShop(t, c.server, c.front)
			if c.fault != "" {
				f, err := wechatsim.ParseFault(c.fault)
				if err == nil {
					err = m.sim.AddFault(f)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			wait := 500 * time.Millisecond // for what never comes
			if c.server != nil {
				wait = 6 * time.Second // for what comes and cannot be read, which is said at the end
			}
			found, text := m.live(t, c.doctor, wait)
			d := of(t, found, c.id)
			if d.Level != sqldb.LevelFail || exitCode(mend{d.err}) != c.code || !strings.Contains(d.Fix, c.want) {
				t.Errorf("exit %d, want %d and %q\n%s", exitCode(mend{d.err}), c.code, c.want, text)
			}
		})
	}
}

// A key that is configured beside the usual one, and is not what WeChat Pay has under its id, would be found by the
// first callback of a paid order.
func TestLiveCheckAsksUnderEveryKey(t *testing.T) {
	m := newLiveShop(t, nil, nil)
	foreign := foreignKeys(t)
	stranger := foreign.Client()
	keys := m.set["wechat-verify-keys"] + "," + m.files(t, map[string][]byte{
		"PUB_KEY_ID_9": stranger.VerifyKeys[stranger.PublicKeyID]})
	var usual string
	for _, pair := range strings.Split(m.set["wechat-verify-keys"], ",") {
		if id, _, _ := strings.Cut(pair, "="); strings.HasPrefix(id, wechat.PublicKeyPrefix) {
			usual = pair
		}
	}
	keys = usual + "," + strings.ReplaceAll(keys, usual+",", "") // the first public key is the usual one
	found, _ := m.live(t, map[string]string{"wechat-verify-keys": keys}, time.Minute)
	d := of(t, found, "wechat.echo.PUB_KEY_ID_9")
	if d.Level != sqldb.LevelWarn || !strings.Contains(d.Fix, "still in use") {
		t.Errorf("%+v", d)
	}
}

// "Public key configured, switch not started" is the commonest first day: it works as long as both keys are there, and
// doctor says so.
func TestLiveCheckBeforeTheSwitch(t *testing.T) {
	m := newFakeMerchant(t, func(o *wechatsim.Options) { o.BeforeSwitch = true })
	_, out := m.verb(t, nil, "doctor", "--live", "--live-wait", "1s")
	if !strings.Contains(out, "asked under PUB_KEY_ID_") || !strings.Contains(out, "leave both in") {
		t.Errorf("%s", out)
	}
}

// A live check without a merchant has asked nobody, and must not be read as a good one.
func TestLiveCheckNeedsAMerchant(t *testing.T) {
	dir := t.TempDir()
	if code, _, errs := words(t, "migrate", "up", "--data-dir", dir); code != exitOK {
		t.Fatal(errs)
	}
	code, out, _ := words(t, "doctor", "--live", "--data-dir", dir)
	if code != exitUsage || !strings.Contains(out, "nothing was asked") {
		t.Errorf("exit %d\n%s", code, out)
	}
	if code, _, errs := words(t, "doctor", "--live", "--live-wait", "10m", "--data-dir", dir); code != exitUsage ||
		!strings.Contains(errs, "--live-wait") {
		t.Errorf("exit %d\n%s", code, errs)
	}
}

// A script reads the findings of a live check as it reads the others.
func TestLiveCheckInJSON(t *testing.T) {
	m := newFakeMerchant(t)
	_, out := m.verb(t, nil, "doctor", "--live", "--live-wait", "1s", "-o", "json")
	var found []sqldb.Finding
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&found); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	said := map[string]sqldb.Level{}
	for _, f := range found {
		said[f.ID] = f.Level
	}
	if said["wechat.echo"] != sqldb.LevelOK || said["wechat.callback"] != sqldb.LevelFail {
		t.Errorf("%v\n%s", said, out)
	}
}
