package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/orderhttp"
	"orderd/scheduler"
)

// ahead is how wrong the clock of a machine is in this test.
const ahead = 2 * time.Minute

// buildNext builds the service once more, as another version whose machine's clock is wrong by ORDERD_TEST_SKEW: what
// cmd/orderd gives all others as the clock is that one.
func buildNext(t *testing.T) string {
	t.Helper()
	here, dir := abs(t, "."), t.TempDir()
	replace := map[string]string{}
	overlay := func(name, text string) {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[filepath.Join(here, name)] = file
	}
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	const version = `Version: cmp.Or(info.Main.Version, "(devel)")`
	versions := 0
	for _, name := range sources {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		versions += bytes.Count(text, []byte(version))
		if bytes.Contains(text, []byte("time.Now")) {
			overlay(name, strings.ReplaceAll(string(text), "time.Now", "machineNow")+"\nvar _ time.Duration\n")
		}
	}
	if versions != 1 {
		t.Fatalf("the version is made in %d places", versions)
	}
	verbs, err := os.ReadFile("verbs.go")
	if err != nil {
		t.Fatal(err)
	}
	overlay("verbs.go", strings.Replace(string(verbs), version, `Version: "next"`, 1))
	overlay("skew.go", `package main

import (
	"os"
	"time"
)

var skew, _ = time.ParseDuration(os.Getenv("ORDERD_TEST_SKEW"))

func machineNow() time.Time { return time.Now().Add(skew) }
`)
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, list, 0o600); err != nil {
		t.Fatal(err)
	}
	return buildService(t, "-overlay", file)
}

func abs(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// several is the service of docs/operations.md, its section "Several processes".
type several struct {
	*testing.T
	dir     string
	script  string
	env     []string
	moved   map[string]string // addresses of the document, and where they are here
	running map[string]*unit  // by name
}

// unit is a process of it.
type unit struct {
	cmd   *exec.Cmd
	said  *bytes.Buffer // read when it has ended
	ended chan struct{}
}

// The names of the processes, and where the document has their monitoring and their APIs.
var (
	documented  = []string{"notify", "worker", "admin", "api1", "api2"}
	monitoredAt = map[string]string{"api1": "127.0.0.1:9180", "api2": "127.0.0.1:9280", "notify": "127.0.0.1:9380",
		"worker": "127.0.0.1:9480", "admin": "127.0.0.1:9580"}
	apiAt = map[string]string{"api1": "127.0.0.1:8180", "api2": "127.0.0.1:8280"}
)

// newSeveral takes configuration and script out of the document; only addresses, folders and secrets are others.
func newSeveral(t *testing.T, dsn, redis string) *several {
	t.Helper()
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Several processes\n")
	section, _, _ = strings.Cut(section, "\n## ")
	blocks := regexp.MustCompile("(?s)```(ini|sh)\n(.*?)```").FindAllStringSubmatch(section, -1)
	if len(blocks) != 2 || blocks[0][1] != "ini" || blocks[1][1] != "sh" {
		t.Fatalf("docs/operations.md has not the configuration and the script: %d blocks", len(blocks))
	}
	s := &several{T: t, dir: t.TempDir(), moved: map[string]string{}, running: map[string]*unit{},
		env: append(os.Environ(), "ORDERD_DSN="+dsn, "ORDERD_REDIS="+redis, "ORDERD_DRAIN_DELAY=2s",
			"ORDERD_MAX_OPEN_ORDERS=0", "ORDERD_CLOSE_GRACE=1s", "ORDERD_SWEEP_EVERY=500ms", "ORDERD_LOG_LEVEL=error")}
	here := strings.NewReplacer("/etc/orderd", s.dir, "/var/lib/orderd", s.dir, "CHANGE-ME", victimSecret)
	move := func(block string) string {
		return regexp.MustCompile(`127\.0\.0\.1:\d+`).ReplaceAllStringFunc(here.Replace(block), s.at)
	}
	s.script = filepath.Join(s.dir, "several")
	for file, text := range map[string]string{"orderd.env": blocks[0][2], "several": blocks[1][2]} {
		if err := os.WriteFile(filepath.Join(s.dir, file), []byte(move(text)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for name := range s.running {
			s.end(name, syscall.SIGKILL)
		}
	})
	return s
}

// at gives where an address of the document is here.
func (s *several) at(documented string) string {
	if s.moved[documented] == "" {
		s.moved[documented] = steadyAddr(s.T)
	}
	return s.moved[documented]
}

// command is the script with a program in front of all others that are called orderd.
func (s *several) command(binary string, args ...string) *exec.Cmd {
	cmd := exec.Command("sh", append([]string{s.script}, args...)...)
	cmd.Env = append(slices.Clone(s.env), "PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// verb runs a verb with the settings of the service.
func (s *several) verb(binary string, args ...string) {
	s.Helper()
	if out, err := s.command(binary, args...).CombinedOutput(); err != nil {
		s.Fatalf("several %s: %v: %s", args, err, out)
	}
}

// start starts a process of a name; up waits until it is.
func (s *several) start(binary, name string, env ...string) {
	s.Helper()
	u := &unit{cmd: s.command(binary, name), said: new(bytes.Buffer), ended: make(chan struct{})}
	u.cmd.Env, u.cmd.Stderr = append(u.cmd.Env, env...), u.said
	if err := u.cmd.Start(); err != nil {
		s.Fatal(err)
	}
	go func() {
		_ = u.cmd.Wait() // how it ends is of no interest, also when it is killed
		close(u.ended)
	}()
	s.running[name] = u
}

// up waits until what a process started answers at an address of the document.
func (s *several) up(name, url string) {
	s.Helper()
	until(s.T, name+" is up", func() bool {
		select {
		case <-s.running[name].ended:
			s.Fatalf("%s ends at its start: %s", name, s.running[name].said)
		default:
		}
		status, _ := s.get(url)
		return status == http.StatusOK
	})
}

// get asks for a page of an address of the document; 0: there was no answer.
func (s *several) get(url string) (int, string) {
	addr, path, _ := strings.Cut(url, "/")
	res, err := http.Get("http://" + s.at(addr) + "/" + path)
	if err != nil {
		return 0, ""
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body) // what is cut short is not what is looked for
	return res.StatusCode, string(text)
}

// signal sends a signal to a process.
func (s *several) signal(name string, sig syscall.Signal) {
	_ = s.running[name].cmd.Process.Signal(sig)
}

// end ends a process by a signal, and waits until it has.
func (s *several) end(name string, sig syscall.Signal) {
	s.signal(name, sig)
	<-s.running[name].ended
}

// replace ends processes as an operator does, and starts another program in their place.
func (s *several) replace(binary string, names ...string) {
	s.Helper()
	for _, name := range names {
		s.signal(name, syscall.SIGTERM)
	}
	for _, name := range names {
		<-s.running[name].ended
		s.start(binary, name)
	}
	for _, name := range names {
		s.up(name, monitoredAt[name]+"/readyz")
	}
}

// buyers place, read, pay and cancel through a balancer.
type buyers struct {
	s      *several
	ctx    context.Context // cuts what is under way
	front  string
	sim    string
	enough atomic.Bool // they begin no further order
	// lenient: an answer may fail, as of a process that was killed; the same is sent again.
	lenient atomic.Bool
	asked   atomic.Int64
	mu      sync.Mutex
	orders  map[string]bool // those that somebody was told of: is it paid?
	all     sync.WaitGroup
}

// thinks is the pause of a buyer between two orders.
const thinks = 150 * time.Millisecond

// start starts some, until there is enough.
func (b *buyers) start(n int) {
	for who := range n {
		b.all.Go(func() {
			for i := 0; !b.enough.Load() && b.ctx.Err() == nil; i++ {
				b.buy(fmt.Sprintf("b%d-%d", who, i), i)
				time.Sleep(thinks)
			}
		})
	}
}

// buy is one order of a customer of its own.
func (b *buyers) buy(key string, i int) {
	var o struct {
		OrderNo    string `json:"order_no"`
		OutTradeNo string `json:"out_trade_no"`
	}
	token, err := orderhttp.MintToken([]byte(victimSecret), key, time.Now(), time.Hour)
	if err != nil {
		b.s.Error(err)
		return
	}
	if !b.ask(token, key, "POST", "/v1/orders", `{"items":[{"sku_id":"mug","quantity":1}]}`, &o) {
		return
	}
	b.mu.Lock()
	b.orders[o.OrderNo] = i%3 == 0
	b.mu.Unlock()
	own := "/v1/orders/" + o.OrderNo
	if !b.ask(token, "", "GET", own, "", &o) {
		return
	}
	switch i % 3 {
	case 0:
		if b.ask(token, "", "POST", own+"/prepay", `{"trade_type":"NATIVE"}`, &o) {
			b.pay(o.OutTradeNo)
		}
	case 1:
		b.ask(token, "", "POST", own+"/cancel", `{"reason":"x"}`, &o)
	}
}

// pay pays at WeChat Pay.
func (b *buyers) pay(outTradeNo string) {
	res, err := http.Post(b.sim+"/control/trades/"+outTradeNo+"/pay", "application/json", strings.NewReader("{}"))
	if err != nil {
		b.s.Error(err)
		return
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		b.s.Errorf("%s is not paid: %d", outTradeNo, res.StatusCode)
	}
}

// ask sends a request through the balancer and reports whether it went well; a failure is one of the test, but while
// it may fail, when the same is sent again.
func (b *buyers) ask(token, key, method, path, body string, into any) bool {
	for b.ctx.Err() == nil {
		mayFail := b.lenient.Load()
		status, text := b.send(token, key, method, path, body)
		b.asked.Add(1)
		if status/100 == 2 {
			if err := json.Unmarshal([]byte(text), into); err != nil {
				b.s.Errorf("%s %s: %v", method, path, err)
			}
			return true
		}
		if !mayFail && !b.lenient.Load() && b.ctx.Err() == nil {
			b.s.Errorf("a request failed: %s %s: %d %s", method, path, status, text)
			return false
		}
		time.Sleep(thinks) // and again
	}
	return false
}

// send sends a request; 0 is no answer.
func (b *buyers) send(token, key, method, path, body string) (int, string) {
	req, err := http.NewRequestWithContext(b.ctx, method, b.front+path, strings.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	req.Header = http.Header{"Authorization": {"Bearer " + token}, "Content-Type": {"application/json"}}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err.Error()
	}
	return res.StatusCode, string(text)
}

// more waits for so many more requests.
func (b *buyers) more(n int64) {
	b.s.Helper()
	goal := b.asked.Load() + n
	until(b.s.T, "more requests", func() bool { return b.asked.Load() >= goal })
}

// The service of docs/operations.md in its processes: an update that fails a buyer's request, an order that a process
// takes along when it dies, one that is there twice because its process was thought dead, or a deadline by a wrong
// clock would each be something that whoever runs it as the document says learns from buyers.
func TestSeveralProcesses(t *testing.T) {
	server, redis := sqldbtest.MariaDBServer(t), sqldbtest.RedisServer(t)
	if err := server.Create(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	dsn := server.DSN("shop")
	today, next := buildService(t), buildNext(t)
	s := newSeveral(t, dsn, redis.URL())
	s.start(today, "sim")
	s.up("sim", "127.0.0.1:7070/control/trades")
	until(t, "the simulator has written its settings", func() bool {
		_, err := os.Stat(filepath.Join(s.dir, "sim", "wechat-sim", "orderd.env"))
		return err == nil
	})
	s.hurry()
	s.verb(today, "migrate", "up")
	if code, _, errs := words(t, "stock", "import", sampleFile(t), "--yes", "--dsn", dsn, "--data-dir",
		t.TempDir()); code != exitOK {
		t.Fatal(errs)
	}
	for _, name := range documented {
		s.start(today, name)
	}
	for _, name := range documented {
		s.up(name, monitoredAt[name]+"/readyz")
		if status, text := s.get(monitoredAt[name] + "/metrics"); status != 200 ||
			!strings.Contains(text, "orderd_build_info{") {
			t.Errorf("%s: /metrics: %d", name, status)
		}
	}
	ctx, cut := context.WithCancel(t.Context())
	lb, front := newBalancer(ctx, t, [2]string{s.at(apiAt["api1"]), s.at(monitoredAt["api1"])},
		[2]string{s.at(apiAt["api2"]), s.at(monitoredAt["api2"])})
	b := &buyers{s: s, ctx: ctx, front: front, sim: "http://" + s.at("127.0.0.1:7070"), orders: map[string]bool{}}
	defer b.all.Wait()
	defer cut()
	b.start(4)

	b.more(30)
	s.replace(next, "notify", "worker", "admin")
	s.replace(next, "api1")
	b.more(20)
	s.replace(next, "api2")
	b.more(20)
	s.allAre("next", dsn)
	s.freeze(lb, b)
	s.kill(next, b)
	b.enough.Store(true)
	b.all.Wait()
	s.deadlines(next)
	t.Logf("%d requests, %d orders", b.asked.Load(), len(b.orders))
	s.balanced(next, dsn, b)
}

// hurry has WeChat Pay repeat a callback that nobody took after a quarter of a second.
func (s *several) hurry() {
	s.Helper()
	res, err := http.Post("http://"+s.at("127.0.0.1:7070")+"/control/clock", "application/json",
		strings.NewReader(`{"speed":60}`))
	if err != nil {
		s.Fatal(err)
	}
	if _ = res.Body.Close(); res.StatusCode/100 != 2 {
		s.Fatal(res.Status)
	}
}

// freeze stops a process, as a machine without memory or a paused container does, and lets it go on: what was under
// way is answered late, or after some seconds with 503 and sent again, and nothing is lost.
func (s *several) freeze(lb *balancer, b *buyers) {
	s.Helper()
	b.lenient.Store(true)
	s.signal("api1", syscall.SIGSTOP)
	until(s.T, "the balancer sees that it is frozen", func() bool { return !lb.ready(0) })
	for i := range 5 { // buyers of before may all wait for it
		b.buy(fmt.Sprint("beside-", i), i)
	}
	s.signal("api1", syscall.SIGCONT)
	until(s.T, "it goes on", func() bool { return lb.ready(0) })
	b.more(20)
	b.lenient.Store(false)
}

// kill kills two processes; the worker comes back with a clock that is wrong.
func (s *several) kill(binary string, b *buyers) {
	s.Helper()
	b.lenient.Store(true)
	s.end("worker", syscall.SIGKILL)
	s.end("api2", syscall.SIGKILL)
	b.more(20)
	s.start(binary, "worker", "ORDERD_TEST_SKEW="+ahead.String())
	s.up("worker", monitoredAt["worker"]+"/readyz")
	b.more(20)
	b.lenient.Store(false)
}

// soonest is the time to pay of the orders that are waited for.
const soonest = 3 * time.Second

// deadlines starts the process that was killed with little time to pay, and places an order at it: the only worker,
// whose clock is ahead, closes it in its time.
func (s *several) deadlines(binary string) {
	s.Helper()
	s.start(binary, "api2", "ORDERD_PAY_WITHIN="+soonest.String())
	s.up("api2", monitoredAt["api2"]+"/readyz")
	one := &buyers{s: s, ctx: s.Context(), front: "http://" + s.at(apiAt["api2"]), orders: map[string]bool{}}
	token, err := orderhttp.MintToken([]byte(victimSecret), "late", time.Now(), time.Hour)
	if err != nil {
		s.Fatal(err)
	}
	var o struct {
		OrderNo string      `json:"order_no"`
		State   order.State `json:"state"`
	}
	begin := time.Now()
	if !one.ask(token, "late", "POST", "/v1/orders", `{"items":[{"sku_id":"mug","quantity":1}]}`, &o) {
		return
	}
	until(s.T, "it is closed", func() bool {
		time.Sleep(thinks) // a customer who asks without end is answered 429
		return one.ask(token, "", "GET", "/v1/orders/"+o.OrderNo, "", &o) && o.State == order.StateClosed
	})
	if took := time.Since(begin); took < soonest-200*time.Millisecond { // by which two looks at a clock may differ
		s.Errorf("it was closed after %s, of %s to pay", took, soonest)
	}
}

// allAre asserts that all processes are of a version.
func (s *several) allAre(version, dsn string) {
	s.Helper()
	s.core(dsn, func(c *core) error {
		all, err := scheduler.NewProcesses(c.db, c.clock.Now).List(s.Context())
		if len(all) != len(documented) {
			s.Errorf("%d processes: %+v", len(all), all)
		}
		for _, p := range all {
			if p.Version != version {
				s.Errorf("role %s is version %s", p.Roles, p.Version)
			}
		}
		return err
	})
}

// core looks at the service's database from behind.
func (s *several) core(dsn string, do func(c *core) error) {
	s.Helper()
	if err := withCore(s.Context(), &settings{DSN: dsn, SimAddr: "127.0.0.1:1", NotifyAddr: "127.0.0.1:1",
		PayWithin: time.Minute, DataDir: s.TempDir()}, do); err != nil {
		s.Fatal(err)
	}
}

// balanced waits for what was paid, and holds all orders against the invariants and against WeChat Pay.
func (s *several) balanced(binary, dsn string, b *buyers) {
	s.Helper()
	s.core(dsn, func(c *core) error {
		for no, paid := range b.orders {
			until(s.T, no+" is as its buyer left it", func() bool {
				o, err := c.orders.Find(s.Context(), no)
				return err == nil && (!paid || o.State == order.StatePaid)
			})
		}
		return nil
	})
	for _, name := range documented {
		s.signal(name, syscall.SIGTERM)
	}
	for _, name := range documented {
		<-s.running[name].ended
	}
	s.verb(binary, "verify", "--wechat")
	s.end("sim", syscall.SIGTERM)
}
