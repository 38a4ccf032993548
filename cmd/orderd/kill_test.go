package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"orderd/migrations/sqldb/sqldbtest/servers"
	"orderd/order"
	"orderd/order/orderhttp"
	"orderd/payment/wechatsim"
)

// victim is a service in a process of its own, against a WeChat Pay that lives on.
type victim struct {
	t       *testing.T
	binary  string
	env     []string
	api     string
	admin   string
	cmd     *exec.Cmd
	stopped chan struct{}
}

// start starts it with more environment than it has anyway, and waits until it serves.
func (v *victim) start(env ...string) {
	v.t.Helper()
	v.cmd = exec.Command(v.binary, "serve", "--auto-migrate", "--log-level", "error")
	said := new(bytes.Buffer) // read when the process has ended
	v.cmd.Env, v.cmd.Stderr = append(append(os.Environ(), v.env...), env...), said
	v.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := v.cmd.Start(); err != nil {
		v.t.Fatal(err)
	}
	v.stopped = make(chan struct{})
	go func(cmd *exec.Cmd, stopped chan struct{}) {
		_ = cmd.Wait() // killed is what it is meant to be
		close(stopped)
	}(v.cmd, v.stopped)
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) { // polling, not timing
		res, err := http.Get("http://" + v.api + "/healthz")
		if err == nil {
			res.Body.Close()
			return
		}
		select {
		case <-v.stopped:
			v.t.Fatalf("the service ends at its start: %s", said)
		default:
		}
		if time.Now().After(deadline) {
			v.t.Fatal("the service does not come up: ", err)
		}
	}
}

// bury ends a service that a failed test left running.
func (v *victim) bury() {
	if v.cmd != nil && v.cmd.Process != nil {
		v.signal(syscall.SIGKILL)
	}
}

func (v *victim) signal(s syscall.Signal) {
	_ = v.cmd.Process.Signal(s)
	<-v.stopped
}

// newVictim is a victim of its own build on SQLite and the Redis in the process.
func newVictim(t *testing.T) (*victim, *wechatsim.Sim, string, string) {
	t.Helper()
	dir := t.TempDir()
	dsn := "sqlite:" + filepath.Join(dir, "orderd.db")
	v, sim := newVictimOn(t, buildService(t), newMerchant(t), dsn)
	v.env = append(v.env, "ORDERD_DATA_DIR="+dir, "ORDERD_PAY_WITHIN=3s", "ORDERD_CLOSE_GRACE=1s",
		"ORDERD_SWEEP_EVERY=500ms",
		"ORDERD_PACE=4") // else a prepay that was killed on its way is found out about after fifty seconds
	return v, sim, victimSecret, dsn
}

// builds are the programs that tests have built, in a folder that goes with the tests: to link one takes
// seconds.
var builds struct {
	sync.Mutex
	dir   string
	files map[string]string // by flags
}

// buildService builds the service, once for all tests that want it with the same flags.
func buildService(t *testing.T, flags ...string) string {
	t.Helper()
	builds.Lock()
	defer builds.Unlock()
	if builds.files == nil {
		dir, err := os.MkdirTemp("", "orderd-built-")
		if err != nil {
			t.Fatal(err)
		}
		builds.dir, builds.files = dir, map[string]string{}
	}
	key := strings.Join(flags, " ")
	if file := builds.files[key]; file != "" {
		return file
	}
	dir := filepath.Join(builds.dir, strconv.Itoa(len(builds.files)))
	binary := filepath.Join(dir, "orderd")
	if out, err := exec.Command("go", append(append([]string{"build", "-o", binary}, flags...),
		".")...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	builds.files[key] = binary
	return binary
}

// merchant is the keys of both sides.
type merchant struct {
	keys *wechatsim.Keys
	env  []string
}

func newMerchant(t *testing.T) *merchant {
	t.Helper()
	keys := wechatKeys(t)
	c, dir := keys.Client(), t.TempDir()
	var verify []string
	for id, pem := range c.VerifyKeys {
		file := filepath.Join(dir, id+".pem")
		if err := os.WriteFile(file, pem, 0o600); err != nil {
			t.Fatal(err)
		}
		verify = append(verify, id+"="+file)
	}
	return &merchant{keys, []string{"ORDERD_WECHAT_MCHID=" + c.MchID, "ORDERD_WECHAT_APPID=" + c.AppID,
		"ORDERD_WECHAT_SERIAL_NO=" + c.SerialNo,
		"ORDERD_WECHAT_PRIVATE_KEY=" + c.PrivateKeyPEM, "ORDERD_WECHAT_APIV3_KEY=" + c.APIv3Key,
		"ORDERD_WECHAT_VERIFY_KEYS=" + strings.Join(verify, ",")}}
}

// victimSecret signs customers' tokens and is the operators' token.
var victimSecret = strings.Repeat("s", 32)

// steadyAddr gives an address to which a killed service can come back.
func steadyAddr(t *testing.T) string {
	t.Helper()
	addr, err := servers.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

func newVictimOn(t *testing.T, binary string, m *merchant, dsn string) (*victim, *wechatsim.Sim) {
	t.Helper()
	sim, err := wechatsim.New(wechatsim.Options{Keys: m.keys, Now: time.Now, Speed: 60})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(sim.Handler())
	t.Cleanup(func() { sim.Close(); srv.Close() })
	addrs := make([]string, 3)
	for i := range addrs {
		addrs[i] = steadyAddr(t)
	}
	env := append(slices.Clone(m.env), "ORDERD_DSN="+dsn, "ORDERD_MAX_OPEN_ORDERS=0", "ORDERD_API_ADDR="+addrs[0],
		"ORDERD_NOTIFY_ADDR="+addrs[1], "ORDERD_ADMIN_ADDR="+addrs[2],
		"ORDERD_DRAIN_DELAY=0s",
		"ORDERD_CUSTOMER_JWT_SECRET="+victimSecret, "ORDERD_BOOTSTRAP_ADMIN_TOKEN="+victimSecret,
		"ORDERD_WECHAT_BASE_URL="+srv.URL,
		"ORDERD_WECHAT_NOTIFY_URL=http://"+addrs[1]+"/wechat/v3/notify/payment")
	v := &victim{t: t, binary: binary, env: env, api: addrs[0], admin: addrs[2]}
	t.Cleanup(v.bury)
	return v, sim
}

// poster gives a customer's calls: the status and what was answered, 0 when there was no answer.
func poster(t *testing.T, secret string, patience time.Duration) func(v *victim, path, key, body string, into any) int {
	t.Helper()
	token, err := orderhttp.MintToken([]byte(secret), "c1", time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Timeout: patience}
	return func(v *victim, path, key, body string, into any) int {
		req, err := http.NewRequest(http.MethodPost, "http://"+v.api+path, strings.NewReader(body))
		if err != nil {
			return 0
		}
		req.Header = http.Header{"Authorization": {"Bearer " + token}, "Content-Type": {"application/json"},
			"Idempotency-Key": {key}}
		res, err := client.Do(req)
		if err != nil {
			return 0
		}
		defer res.Body.Close()
		if json.NewDecoder(res.Body).Decode(into) != nil {
			return 0
		}
		return res.StatusCode
	}
}

// kill −9 at any moment, again and again: what was acknowledged is there, every order finds its end, WeChat Pay's
// ledger and ours agree, and the books balance.
func TestKillNine(t *testing.T) {
	v, sim, secret, dsn := newVictim(t)
	v.start()
	if code, _, errs := words(t, "stock", "import", sampleFile(t), "--yes", "--dsn", dsn, "--data-dir",
		t.TempDir()); code != exitOK {
		t.Fatal(errs)
	}
	ask := poster(t, secret, 5*time.Second)
	post := func(path, key, body string, into any) int { return ask(v, path, key, body, into) }
	var mu sync.Mutex
	acked := map[string]bool{}
	var over atomic.Bool
	var wg sync.WaitGroup
	for w := range 6 {
		wg.Go(func() {
			for i := 0; !over.Load(); i++ {
				var o struct {
					OrderNo    string `json:"order_no"`
					OutTradeNo string `json:"out_trade_no"`
				}
				key := fmt.Sprintf("w%d-%d", w, i)
				for post("/v1/orders", key, `{"items":[{"sku_id":"mug","quantity":1}]}`, &o) != http.StatusCreated &&
					!over.Load() {
					time.Sleep(30 * time.Millisecond) // the service is being killed: the same key again
				}
				if o.OrderNo == "" {
					continue
				}
				mu.Lock()
				acked[o.OrderNo] = true
				mu.Unlock()
				if post("/v1/orders/"+o.OrderNo+"/prepay", "", `{"trade_type":"NATIVE"}`, &o) != http.StatusOK {
					continue
				}
				switch i % 3 {
				case 0:
					_ = sim.Pay(o.OutTradeNo, wechatsim.PayOptions{Notify: true})
				case 1:
					post("/v1/orders/"+o.OrderNo+"/cancel", "", `{"reason":"x"}`, &o)
				}
			}
		})
	}
	for kills := range 5 {
		time.Sleep(time.Duration(700+kills*173) * time.Millisecond) // a kill at no particular moment
		v.signal(syscall.SIGKILL)
		v.start()
	}
	waitFor(t, "orders to be placed", func() bool { // by a machine on which the kills left no time for any, too
		mu.Lock()
		defer mu.Unlock()
		return len(acked) >= 2*provesSome
	})
	over.Store(true)
	wg.Wait()
	settled(t, dsn, len(acked))
	v.signal(syscall.SIGTERM)
	holdAgainstWeChat(t, sim, dsn, acked)
}

func sampleFile(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "skus.csv")
	if err := os.WriteFile(file, []byte("sku_id,title,price_fen,quantity\nmug,Blue mug,14900,100000\n"),
		0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// provesSome is how many orders a run must have placed.
const provesSome = 20

// settled waits until no order is open.
func settled(t *testing.T, dsn string, orders int) {
	t.Helper()
	if orders < provesSome {
		t.Fatalf("only %d orders: the run proves nothing", orders)
	}
	err := withCore(t.Context(), &settings{DSN: dsn, SimAddr: "127.0.0.1:1", NotifyAddr: "127.0.0.1:1",
		PayWithin: time.Minute, DataDir: t.TempDir()}, func(c *core) error {
		for deadline := time.Now().Add(4 * time.Minute); ; time.Sleep(100 * time.Millisecond) { // polling, not timing
			b, err := c.orders.Backlog(t.Context())
			if err != nil {
				return err
			}
			open := b.Open[order.StatePending] + b.Open[order.StateClosing]
			if open == 0 {
				return nil
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("%d orders have not found their end", open)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// holdAgainstWeChat holds every acknowledged order against WeChat Pay's ledger, and all against the invariants.
func holdAgainstWeChat(t *testing.T, sim *wechatsim.Sim, dsn string, acked map[string]bool) {
	t.Helper()
	err := withCore(t.Context(), &settings{DSN: dsn, SimAddr: "127.0.0.1:1", NotifyAddr: "127.0.0.1:1",
		PayWithin: time.Minute, DataDir: t.TempDir()}, func(c *core) error {
		states := map[order.State]int{}
		for no := range acked {
			o, err := c.orders.Find(t.Context(), no)
			if err != nil {
				t.Errorf("acknowledged and lost: %s %v", no, err)
				continue
			}
			states[o.State]++
			for _, line := range compare(o, &simulator{Sim: sim}) {
				t.Error(line)
			}
		}
		t.Log(len(acked), "orders:", states)
		r, err := c.audit.Verify(t.Context(), nil)
		if err == nil && !r.OK() {
			t.Errorf("%+v", r.Checks)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
